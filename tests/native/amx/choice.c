/* Prints what would multiply bfloat16 numbers on the processor of processor.h, and how often the system was asked for tiles. */
#include <stdio.h>
#include <stdlib.h>

#include "product/bf16.h"
#include "product/narrow.h"

int fake_requests;

/* Both ways to multiply leave zeros, unless FAKE_FAULT has tiles leave something else. */
static minidl_gemm_plan choose(const minidl_product_f32 *x) {
    (void)x;
    return (minidl_gemm_plan){.workspace = 0};
}
static void leave(const minidl_product_f32 *x, float number) {
    for (ptrdiff_t i = 0; i < x->m * x->n; i++) x->c.at[i] = number;
}
static void by_dots(const minidl_product_f32 *x, const minidl_gemm_plan *p, const minidl_epilogue_f32 *e, void *work) {
    (void)p, (void)e, (void)work;
    leave(x, 0);
}
static void by_tiles(const minidl_product_f32 *x, const minidl_gemm_plan *p, const minidl_epilogue_f32 *e, void *work) {
    (void)p, (void)e, (void)work;
    leave(x, getenv("FAKE_FAULT") == NULL ? 0 : 1);
}
const minidl_gemm_f32 minidl_bf16_amx = {.choose = choose, .multiply = by_tiles};
const minidl_gemm_f32 minidl_bf16_avx512 = {.choose = choose, .multiply = by_dots};
const minidl_gemm_f32 minidl_gemm_f32_baseline, minidl_gemm_f32_avx2, minidl_gemm_f32_avx512;
const minidl_narrow_f32 minidl_narrow_f32_baseline, minidl_narrow_f32_avx2, minidl_narrow_f32_avx512;

int main(void) {
    const char *const name = minidl_isa() < 0 ? "none" : minidl_bf16_name();
    for (int i = 0; i < 100; i++) (void)minidl_bf16_in_use();
    const char *const variant = minidl_isa() < 0                              ? "none"
                                : minidl_bf16_in_use() == &minidl_bf16_amx    ? "amx"
                                : minidl_bf16_in_use() == &minidl_bf16_avx512 ? "avx512_bf16"
                                                                              : "rounded";
    printf("%s, %s, %d", name, variant, fake_requests);
    return 0;
}
