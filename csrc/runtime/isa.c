#include "runtime/isa.h"

#include <stdlib.h>
#include <string.h>

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

static int choose(void) {
    const char *const wanted = getenv("MINIDL_ISA");
#ifdef MINIDL_HAS_AVX
    __builtin_cpu_init();
#endif
    for (int isa = MINIDL_INSTRUCTION_SETS - 1; isa >= 0; isa--) /* the widest come last */
        if (runs_here(isa) && (wanted == NULL || *wanted == 0 || strcmp(wanted, names[isa]) == 0)) return isa;
    return -1;
}

/* The first call is made while minidl is imported, by one thread. */
int minidl_isa(void) {
    static int chosen = -2;
    if (chosen == -2) chosen = choose();
    return chosen;
}

const char *minidl_isa_name(void) { return minidl_isa() < 0 ? NULL : names[minidl_isa()]; }
