/* Which variant multiplies bfloat16 numbers, and the one that every processor has. */
#include "product/bf16.h"

#include "product/narrow.h"
#include "runtime/integers.h"

/* Rounded copies, then the product of single precision ----------------------------------------------------------------- */

typedef minidl_product_f32 product;

/* A copy of a matrix without gaps: as many lines as it has across the contiguous direction, each of `length` elements. */
static float *rounded(const float *at, ptrdiff_t lines, ptrdiff_t apart, ptrdiff_t length, float *to) {
    const minidl_narrow_f32 *const narrow = minidl_narrow_f32_in_use();
    if (apart == length) narrow->round(at, to, lines * length);
    for (ptrdiff_t i = 0; apart != length && i < lines; i++) narrow->round(at + i * apart, to + i * length, length);
    return to + minidl_whole_lines((size_t)(lines * length) * sizeof(float)) / sizeof(float);
}

/* The product with operands as the copies have them; `space`, if there is any, becomes the copies. */
static product of_copies(const product *x, float **space) {
    product y = *x;
    float *const a = *space;
    if (x->a.col == 1) y.a.row = x->k;
    else y.a.col = x->m;
    if (x->b.col == 1) y.b.row = x->n;
    else y.b.col = x->k;
    if (a == NULL) return y;
    float *const b = x->a.col == 1 ? rounded(x->a.at, x->m, x->a.row, x->k, a) : rounded(x->a.at, x->k, x->a.col, x->m, a);
    *space = x->b.col == 1 ? rounded(x->b.at, x->k, x->b.row, x->n, b) : rounded(x->b.at, x->n, x->b.col, x->k, b);
    y.a.at = a;
    y.b.at = b;
    return y;
}

static double estimate(const product *x) {
    float *none = NULL;
    const product copies = of_copies(x, &none);
    return minidl_gemm_f32_in_use()->estimate(&copies);
}

static minidl_gemm_plan choose(const product *x) {
    float *none = NULL;
    const product copies = of_copies(x, &none);
    minidl_gemm_plan plan = minidl_gemm_f32_in_use()->choose(&copies);
    plan.workspace = minidl_whole_lines(plan.workspace) + minidl_whole_lines((size_t)(x->m * x->k) * sizeof(float)) +
                     minidl_whole_lines((size_t)(x->k * x->n) * sizeof(float));
    return plan;
}

static void multiply(const product *x, const minidl_gemm_plan *plan, const minidl_epilogue_f32 *epilogue, void *workspace) {
    float *space = workspace;
    const product copies = of_copies(x, &space);
    minidl_gemm_f32_in_use()->multiply(&copies, plan, epilogue, space);
}

static double registers_only(ptrdiff_t steps) { return minidl_gemm_f32_in_use()->registers_only(steps); }

const minidl_gemm_f32 minidl_bf16_rounded = {
    .rows = 8, .columns = 16, .estimate = estimate, .choose = choose, .multiply = multiply, .registers_only = registers_only};

/* The variant in use ---------------------------------------------------------------------------------------------------- */

const minidl_gemm_f32 *minidl_bf16_in_use(void) {
    if (minidl_isa() < 0) return NULL;
#ifdef MINIDL_HAS_BF16_DOTS
    if (minidl_isa_has_bf16()) return &minidl_bf16_avx512;
#endif
    return &minidl_bf16_rounded;
}

const char *minidl_bf16_name(void) {
    const minidl_gemm_f32 *const variant = minidl_bf16_in_use();
    return variant == NULL ? NULL : variant == &minidl_bf16_rounded ? "rounded, then float32" : "avx512_bf16";
}
