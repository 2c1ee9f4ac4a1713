#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "runtime/amx.h"

#include "runtime/isa.h"

#ifdef MINIDL_HAS_AMX

#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TILE_SETTINGS = 17, TILE_DATA = 18 };    /* components of a thread's state, as XCR0 counts them */
enum { REQUEST_PERMISSION = 0x1023 };           /* ARCH_REQ_XCOMP_PERM, which headers have only since Linux 5.16 */

__attribute__((target("xsave"))) static unsigned long long saved_by_the_system(void) { return _xgetbv(0); }

static int ask(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return MINIDL_AMX_MISSING;
    if (!(d >> 24 & 1) || !(d >> 22 & 1)) return MINIDL_AMX_MISSING; /* AMX-TILE, AMX-BF16 */
    if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || !(c >> 27 & 1)) return MINIDL_AMX_REFUSED; /* xgetbv may be used */
    const unsigned long long needed = 1ull << TILE_SETTINGS | 1ull << TILE_DATA;
    if ((saved_by_the_system() & needed) != needed) return MINIDL_AMX_REFUSED;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? MINIDL_AMX_GRANTED : MINIDL_AMX_REFUSED;
}

int minidl_amx(void) {
    static _Atomic int answer = -1; /* threads that ask at once get the same one */
    if (answer < 0) answer = ask();
    return answer;
}

#else

int minidl_amx(void) { return MINIDL_AMX_MISSING; }

#endif
