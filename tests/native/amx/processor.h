/* A processor and a system as environment variables describe them, for compilers to read before csrc/runtime/isa.c and amx.c:
 *
 *     FAKE_TILES    the bits of AMX in edx of cpuid's leaf 7        FAKE_XSAVE    whether xgetbv may be used
 *     FAKE_XCR0     what the system saves                           FAKE_REFUSAL  the error number of arch_prctl, or 0 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <immintrin.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

extern int fake_requests;

static inline unsigned long long fake(const char *name) {
    const char *const value = getenv(name);
    return value == NULL ? 0 : strtoull(value, NULL, 0);
}
static inline int fake_cpuid(unsigned leaf, unsigned subleaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    *a = *b = *c = *d = 0;
    if (leaf == 1) *c = (unsigned)fake("FAKE_XSAVE") << 27;
    if (leaf == 7 && subleaf == 0) *c = 1u << 11, *d = (unsigned)fake("FAKE_TILES"); /* AVX512_VNNI */
    if (leaf == 7 && subleaf == 1) *a = 1u << 5;                                     /* AVX512_BF16 */
    return 1;
}
static inline long fake_syscall(long number, long code, long component) {
    fake_requests++;
    errno = number == SYS_arch_prctl && code == 0x1023 && component == 18 ? (int)fake("FAKE_REFUSAL") : EINVAL;
    return errno == 0 ? 0 : -1;
}
#define __get_cpuid_count fake_cpuid
#define __builtin_cpu_supports(name) 1
#define _xgetbv(which) fake("FAKE_XCR0")
#define syscall fake_syscall
