/* Matrix products: the interface of gemm.h. Which variant runs, and how the work is split over threads. */
#include "gemm.h"

#include <stdlib.h>
#include <string.h>

#include "gemm_core.h"
#include "threads.h"

typedef struct {
    const char *name;
    const minidl_gemm_variant *variant;
    int usable;
} candidate;

static const candidate *chosen(void) {
    static candidate candidates[3];
    static const candidate *found;
    if (found != NULL) return found;
    int count = 0;
#ifdef MINIDL_GEMM_X86
    __builtin_cpu_init();
    candidates[count++] = (candidate){"avx512", &minidl_gemm_avx512,
                                      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")};
    candidates[count++] =
        (candidate){"avx2", &minidl_gemm_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")};
#endif
    candidates[count++] = (candidate){"baseline", &minidl_gemm_baseline, 1};
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

enum { MOST_PARTS = 256 };

/* How many threads a product is worth: one for every 2^17 multiply-adds, a few microseconds' work. */
static int parts_for(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int threads) {
    const double worth = (double)m * (double)n * (double)k / 131072.0;
    const int most = threads < MOST_PARTS ? threads : MOST_PARTS;
    return worth < 2 || most < 2 ? 1 : worth < most ? (int)worth : most;
}

/* Where part number `part` begins, in whole units. */
static ptrdiff_t begin(ptrdiff_t items, int part, int parts, ptrdiff_t unit) {
    const ptrdiff_t at = (items + unit - 1) / unit * part / parts * unit;
    return part >= parts || at > items ? items : at;
}

/* C is split along its longer side, into parts that share nothing but what they read. Sums over columns need all rows of a
 * column in one part, so with them C is split into columns. */
#define DEFINE(real, prefix)                                                                                               \
    typedef struct {                                                                                                       \
        ptrdiff_t count, m, n, k, a_row, a_col, b_row, b_col, c_row, a_batch, b_batch, c_batch, unit;                       \
        real alpha, beta;                                                                                                  \
        const real *a, *b;                                                                                                 \
        real *c;                                                                                                           \
        const minidl_##prefix##gemm_epilogue *epilogue;                                                                    \
        const minidl_gemm_variant *variant;                                                                                \
        int by_columns, parts;                                                                                             \
        int status[MOST_PARTS];                                                                                            \
    } prefix##product;                                                                                                     \
                                                                                                                           \
    static void prefix##part(void *context, int part) {                                                                    \
        prefix##product *const p = context;                                                                                \
        const ptrdiff_t items = p->by_columns ? p->n : p->m;                                                               \
        const ptrdiff_t from = begin(items, part, p->parts, p->unit), to = begin(items, part + 1, p->parts, p->unit);       \
        const ptrdiff_t row = p->by_columns ? 0 : from, column = p->by_columns ? from : 0;                                 \
        minidl_##prefix##gemm_epilogue own;                                                                                \
        if (p->epilogue != NULL) {                                                                                         \
            own = *p->epilogue;                                                                                            \
            if (own.bias != NULL) own.bias += column;                                                                      \
            if (own.pre_activation != NULL) own.pre_activation += row * own.pre_activation_row + column;                   \
            if (own.saved != NULL) own.saved += row * own.saved_row + column;                                              \
            if (own.column_sums != NULL) own.column_sums += column;                                                        \
        }                                                                                                                  \
        p->status[part] = p->variant->prefix##gemm(                                                                        \
            p->by_columns ? p->m : to - from, p->by_columns ? to - from : p->n, p->k, p->alpha, p->a + row * p->a_row,     \
            p->a_row, p->a_col, p->b + column * p->b_col, p->b_row, p->b_col, p->beta, p->c + row * p->c_row + column,     \
            p->c_row, p->epilogue == NULL ? NULL : &own);                                                                  \
    }                                                                                                                      \
                                                                                                                           \
    int minidl_##prefix##gemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row,           \
                              ptrdiff_t a_col, const real *b, ptrdiff_t b_row, ptrdiff_t b_col, real beta, real *c,        \
                              ptrdiff_t c_row, const minidl_##prefix##gemm_epilogue *epilogue, int threads) {              \
        const candidate *const found = chosen();                                                                           \
        if (found == NULL) return MINIDL_GEMM_BAD_ISA;                                                                     \
        const int sums = epilogue != NULL && epilogue->column_sums != NULL;                                                \
        if (sums) memset(epilogue->column_sums, 0, (size_t)n * sizeof(real));                                              \
        const int by_columns = n >= m || sums;                                                                             \
        const ptrdiff_t unit = by_columns ? 48 : 8, units = ((by_columns ? n : m) + unit - 1) / unit;                      \
        int parts = parts_for(m, n, k, threads);                                                                           \
        if (parts > units) parts = (int)units;                                                                             \
        if (parts <= 1)                                                                                                    \
            return found->variant->prefix##gemm(m, n, k, alpha, a, a_row, a_col, b, b_row, b_col, beta, c, c_row, epilogue); \
        prefix##product p = {.m = m, .n = n, .k = k, .a_row = a_row, .a_col = a_col, .b_row = b_row, .b_col = b_col,       \
                             .c_row = c_row, .unit = unit, .alpha = alpha, .beta = beta, .a = a, .b = b, .c = c,           \
                             .epilogue = epilogue, .variant = found->variant, .by_columns = by_columns, .parts = parts};   \
        minidl_in_parts(parts, prefix##part, &p);                                                                          \
        return worst(p.status, parts);                                                                                     \
    }                                                                                                                      \
                                                                                                                           \
    static void prefix##some(void *context, int part) {                                                                    \
        prefix##product *const p = context;                                                                                \
        for (ptrdiff_t i = begin(p->count, part, p->parts, 1); i < begin(p->count, part + 1, p->parts, 1); i++) {          \
            const int one = p->variant->prefix##gemm(p->m, p->n, p->k, p->alpha, p->a + i * p->a_batch, p->a_row,          \
                                                     p->a_col, p->b + i * p->b_batch, p->b_row, p->b_col, p->beta,         \
                                                     p->c + i * p->c_batch, p->c_row, NULL);                               \
            if (one != MINIDL_GEMM_OK) p->status[part] = one;                                                              \
        }                                                                                                                  \
    }                                                                                                                      \
                                                                                                                           \
    int minidl_##prefix##gemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a,   \
                                      ptrdiff_t a_row, ptrdiff_t a_col, const real *b, ptrdiff_t b_row, ptrdiff_t b_col,   \
                                      real beta, real *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,           \
                                      ptrdiff_t c_batch, int threads) {                                                    \
        const candidate *const found = chosen();                                                                           \
        if (found == NULL) return MINIDL_GEMM_BAD_ISA;                                                                     \
        const int parts = parts_for(m, n, k * count, threads);                                                             \
        if (parts > 1 && count < parts) { /* few products: share out each of them */                                       \
            int status = MINIDL_GEMM_OK;                                                                                   \
            for (ptrdiff_t i = 0; i < count && status == MINIDL_GEMM_OK; i++)                                              \
                status = minidl_##prefix##gemm(m, n, k, alpha, a + i * a_batch, a_row, a_col, b + i * b_batch, b_row,      \
                                               b_col, beta, c + i * c_batch, c_row, NULL, threads);                        \
            return status;                                                                                                 \
        }                                                                                                                  \
        prefix##product p = {.count = count, .m = m, .n = n, .k = k, .a_row = a_row, .a_col = a_col, .b_row = b_row,       \
                             .b_col = b_col, .c_row = c_row, .a_batch = a_batch, .b_batch = b_batch, .c_batch = c_batch,   \
                             .alpha = alpha, .beta = beta, .a = a, .b = b, .c = c, .variant = found->variant,              \
                             .parts = parts};                                                                              \
        minidl_in_parts(parts, prefix##some, &p);                                                                          \
        return worst(p.status, parts);                                                                                     \
    }

static int worst(const int *status, int parts) {
    for (int part = 0; part < parts; part++)
        if (status[part] != MINIDL_GEMM_OK) return status[part];
    return MINIDL_GEMM_OK;
}

DEFINE(float, s)
DEFINE(double, d)
