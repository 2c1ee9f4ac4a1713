#include "runtime/isa.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/amx.h"

#ifdef MINIDL_HAS_BF16_DOTS
#include <cpuid.h>
#endif

static const char *const names[MINIDL_INSTRUCTION_SETS] = {
    [MINIDL_BASELINE] = "baseline", [MINIDL_AVX2] = "avx2", [MINIDL_AVX512] = "avx512", [MINIDL_NEON] = "neon"};

static int runs_here(int isa) {
    switch (isa) {
    case MINIDL_BASELINE: return 1;
#ifdef MINIDL_HAS_AVX
    case MINIDL_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case MINIDL_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl");
#endif
#ifdef MINIDL_HAS_NEON
    case MINIDL_NEON: return 1;
#endif
    default: return 0;
    }
}

#define WITH_BF16 "avx512_bf16"
#define WITH_AMX "amx"
static int with_bf16, with_vnni, may_use_amx; /* known once the set is chosen */

/* Compilers' own functions do not all know these bits of leaf 7. What the system must save is that of AVX-512. */
static int has_bit(unsigned subleaf, int in_a, int bit) {
#ifdef MINIDL_HAS_BF16_DOTS
    unsigned a = 0, b = 0, c = 0, d = 0;
    return runs_here(MINIDL_AVX512) && __get_cpuid_count(7, subleaf, &a, &b, &c, &d) && ((in_a ? a : c) >> bit & 1);
#else
    (void)subleaf, (void)in_a, (void)bit;
    return 0;
#endif
}

static int choose(void) {
    const char *wanted = getenv("MINIDL_ISA");
    if (wanted != NULL && *wanted == 0) wanted = NULL;
#ifdef MINIDL_HAS_AVX
    __builtin_cpu_init();
#endif
    const int bf16 = wanted != NULL && strcmp(wanted, WITH_BF16) == 0, amx = wanted != NULL && strcmp(wanted, WITH_AMX) == 0;
    const int all = wanted == NULL || bf16 || amx;
    with_bf16 = all && has_bit(1, 1, 5);
    with_vnni = all && has_bit(0, 0, 11);
    may_use_amx = with_bf16 && !bf16; /* all processors with tiles have AVX512_BF16, by which they are packed */
    if (bf16) return with_bf16 ? MINIDL_AVX512 : -1;
    if (amx) return may_use_amx && minidl_amx() == MINIDL_AMX_GRANTED ? MINIDL_AVX512 : -1;
    for (int isa = MINIDL_INSTRUCTION_SETS - 1; isa >= 0; isa--) /* the widest come last */
        if (runs_here(isa) && (wanted == NULL || strcmp(wanted, names[isa]) == 0)) return isa;
    return -1;
}

/* The first call is made while minidl is imported, by one thread. */
int minidl_isa(void) {
    static int chosen = -2;
    if (chosen == -2) chosen = choose();
    return chosen;
}

const char *minidl_isa_name(void) { return minidl_isa() < 0 ? NULL : names[minidl_isa()]; }

int minidl_isa_has_bf16(void) { return minidl_isa() == MINIDL_AVX512 && with_bf16; }

int minidl_isa_has_vnni(void) { return minidl_isa() == MINIDL_AVX512 && with_vnni; }

int minidl_isa_has_amx(void) { return minidl_isa() == MINIDL_AVX512 && may_use_amx && minidl_amx() == MINIDL_AMX_GRANTED; }

int minidl_isa_is_refused_amx(void) { return minidl_isa() == MINIDL_AVX512 && may_use_amx && minidl_amx() == MINIDL_AMX_REFUSED; }
