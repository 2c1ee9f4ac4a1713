/* Which variant of the matrix product runs on this machine. The products themselves are in gemm_f32.c and gemm_f64.c. */
#include "conv/conv_variant.h"
#include "product/gemm_variant.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    const minidl_gemm_f32 *f32;
    const minidl_gemm_f64 *f64;
    const minidl_conv_f32 *conv_f32;
    const minidl_conv_f64 *conv_f64;
    int usable;
} candidate;

#define PRODUCTS(isa) &minidl_gemm_f32_##isa, &minidl_gemm_f64_##isa, &minidl_conv_f32_##isa, &minidl_conv_f64_##isa

/* The first call is made while minidl is imported, by one thread. */
static const candidate *chosen(void) {
    static candidate candidates[3];
    static const candidate *found;
    if (found != NULL) return found;
    int count = 0;
#if defined(MINIDL_GEMM_X86)
    __builtin_cpu_init();
    candidates[count++] = (candidate){"avx512", PRODUCTS(avx512),
                                      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")};
    candidates[count++] = (candidate){"avx2", PRODUCTS(avx2),
                                      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")};
#elif defined(MINIDL_GEMM_NEON)
    candidates[count++] = (candidate){"neon", PRODUCTS(neon), 1};
#endif
    candidates[count++] = (candidate){"baseline", PRODUCTS(baseline), 1};
    const char *const wanted = getenv("MINIDL_ISA");
    for (int i = 0; i < count && found == NULL; i++)
        if (candidates[i].usable && (wanted == NULL || *wanted == 0 || strcmp(wanted, candidates[i].name) == 0))
            found = &candidates[i];
    return found;
}

const char *minidl_gemm_isa(void) {
    const candidate *const found = chosen();
    return found == NULL ? NULL : found->name;
}

const minidl_gemm_f32 *minidl_gemm_f32_in_use(void) {
    const candidate *const found = chosen();
    return found == NULL ? NULL : found->f32;
}

const minidl_gemm_f64 *minidl_gemm_f64_in_use(void) {
    const candidate *const found = chosen();
    return found == NULL ? NULL : found->f64;
}

const minidl_conv_f32 *minidl_conv_f32_in_use(void) {
    const candidate *const found = chosen();
    return found == NULL ? NULL : found->conv_f32;
}

const minidl_conv_f64 *minidl_conv_f64_in_use(void) {
    const candidate *const found = chosen();
    return found == NULL ? NULL : found->conv_f64;
}
