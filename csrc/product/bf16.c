/* Which variant multiplies bfloat16 numbers, and the one that every processor has. */
#include "product/bf16.h"

#ifdef MINIDL_HAS_AMX
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#endif

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

#ifdef MINIDL_HAS_AMX
/* A product of small integers, so that every sum is exact, in any order. */
static int small_product(const minidl_gemm_f32 *variant, float *c) {
    enum { M = 40, N = 40, K = 70 };
    float a[M * K], b[K * N];
    for (int i = 0; i < M * K; i++) a[i] = (float)(i * 37 % 17 - 8);
    for (int i = 0; i < K * N; i++) b[i] = (float)(i * 23 % 19 - 9);
    const product x = {.m = M, .n = N, .k = K, .a = {a, K, 1}, .b = {b, N, 1}, .c = {c, N, 1}, .alpha = 1};
    const minidl_gemm_plan plan = variant->choose(&x);
    void *const workspace = malloc(plan.workspace + 1);
    if (workspace == NULL) return 0;
    variant->multiply(&x, &plan, NULL, workspace);
    free(workspace);
    return M * N;
}

/* Whether tiles compute what dot products do, found out once: no processor has run the kernel while it was written. */
static int tiles_are_right(void) {
    static _Atomic int answer = -1;
    if (answer < 0) {
        float by_tiles[1600], by_dots[1600];
        const int size = small_product(&minidl_bf16_amx, by_tiles);
        answer = size > 0 && size == small_product(&minidl_bf16_avx512, by_dots) &&
                 memcmp(by_tiles, by_dots, (size_t)size * sizeof(float)) == 0;
    }
    return answer;
}
#endif

const minidl_gemm_f32 *minidl_bf16_in_use(void) {
    if (minidl_isa() < 0) return NULL;
#ifdef MINIDL_HAS_AMX
    if (minidl_isa_has_amx() && tiles_are_right()) return &minidl_bf16_amx;
#endif
#ifdef MINIDL_HAS_BF16_DOTS
    if (minidl_isa_has_bf16()) return &minidl_bf16_avx512;
#endif
    return &minidl_bf16_rounded;
}

const char *minidl_bf16_name(void) {
    const minidl_gemm_f32 *const variant = minidl_bf16_in_use();
    if (variant == NULL) return NULL;
    if (variant == &minidl_bf16_rounded) return "rounded, then float32";
#ifdef MINIDL_HAS_AMX
    if (variant == &minidl_bf16_amx) return "amx";
    if (minidl_isa_has_amx()) return "avx512_bf16 (amx computes something else)";
#endif
    return minidl_isa_is_refused_amx() ? "avx512_bf16 (the system refuses amx)" : "avx512_bf16";
}
