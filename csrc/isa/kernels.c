/* Which table of kernels runs: the widest that the processor has, or the one that MINIDL_ISA names. */
#include "isa/kernels.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    const minidl_kernels *table;
    int usable;
} candidate;

static const candidate *chosen(void) {
    static candidate candidates[3];
    int count = 0;
#ifdef MINIDL_X86_KERNELS
    __builtin_cpu_init();
    candidates[count++] = (candidate){"avx512", &minidl_kernels_avx512,
                                      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")};
    candidates[count++] =
        (candidate){"avx2", &minidl_kernels_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")};
#endif
#ifdef MINIDL_NEON_KERNELS
    candidates[count++] = (candidate){"neon", &minidl_kernels_neon, 1};
#endif
    candidates[count++] = (candidate){"baseline", &minidl_kernels_baseline, 1};
    const char *const wanted = getenv("MINIDL_ISA");
    for (int i = 0; i < count; i++)
        if (candidates[i].usable && (wanted == NULL || *wanted == 0 || strcmp(wanted, candidates[i].name) == 0))
            return &candidates[i];
    return NULL;
}

const minidl_kernels *minidl_kernels_chosen(void) {
    const candidate *const found = chosen();
    return found == NULL ? NULL : found->table;
}

const char *minidl_kernels_isa(void) {
    const candidate *const found = chosen();
    return found == NULL ? NULL : found->name;
}
