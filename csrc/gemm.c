/* Matrix products: the interface of gemm.h. Which variant runs, and how the work is split over threads. */
#include "gemm.h"

#include <stdlib.h>
#include <string.h>

#include "gemm_core.h"

#ifdef _OPENMP
#include <omp.h>
#endif

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
    int minidl_##prefix##gemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row,           \
                              ptrdiff_t a_col, const real *b, ptrdiff_t b_row, ptrdiff_t b_col, real beta, real *c,        \
                              ptrdiff_t c_row, const minidl_##prefix##gemm_epilogue *epilogue, int threads) {              \
        const candidate *const found = chosen();                                                                           \
        if (found == NULL) return MINIDL_GEMM_BAD_ISA;                                                                     \
        if (epilogue != NULL && epilogue->column_sums != NULL)                                                             \
            memset(epilogue->column_sums, 0, (size_t)n * sizeof(real));                                                    \
        const int by_columns = n >= m || (epilogue != NULL && epilogue->column_sums != NULL);                              \
        const ptrdiff_t unit = by_columns ? 48 : 8;                                                                        \
        int parts = parts_for(m, n, k, threads), status = MINIDL_GEMM_OK;                                                  \
        const ptrdiff_t units = ((by_columns ? n : m) + unit - 1) / unit;                                                  \
        if (parts > units) parts = (int)units;                                                                             \
        if (parts <= 1)                                                                                                    \
            return found->variant->prefix##gemm(m, n, k, alpha, a, a_row, a_col, b, b_row, b_col, beta, c, c_row, epilogue); \
        EACH_ON_ITS_THREAD(parts) for (int part = 0; part < parts; part++) {                                               \
            const ptrdiff_t from = begin(by_columns ? n : m, part, parts, unit);                                           \
            const ptrdiff_t to = begin(by_columns ? n : m, part + 1, parts, unit);                                         \
            minidl_##prefix##gemm_epilogue own;                                                                            \
            if (epilogue != NULL) {                                                                                        \
                own = *epilogue;                                                                                           \
                const ptrdiff_t row = by_columns ? 0 : from, column = by_columns ? from : 0;                               \
                if (own.bias != NULL) own.bias += column;                                                                  \
                if (own.pre_activation != NULL) own.pre_activation += row * own.pre_activation_row + column;               \
                if (own.saved != NULL) own.saved += row * own.saved_row + column;                                          \
                if (own.column_sums != NULL) own.column_sums += column;                                                    \
            }                                                                                                              \
            const minidl_##prefix##gemm_epilogue *const after = epilogue == NULL ? NULL : &own;                            \
            const int one = by_columns                                                                                     \
                ? found->variant->prefix##gemm(m, to - from, k, alpha, a, a_row, a_col, b + from * b_col, b_row, b_col,    \
                                               beta, c + from, c_row, after)                                               \
                : found->variant->prefix##gemm(to - from, n, k, alpha, a + from * a_row, a_row, a_col, b, b_row, b_col,    \
                                               beta, c + from * c_row, c_row, after);                                      \
            if (one != MINIDL_GEMM_OK) NOTE(status, one)                                                                   \
        }                                                                                                                  \
        return status;                                                                                                     \
    }                                                                                                                      \
                                                                                                                           \
    int minidl_##prefix##gemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a,   \
                                      ptrdiff_t a_row, ptrdiff_t a_col, const real *b, ptrdiff_t b_row, ptrdiff_t b_col,   \
                                      real beta, real *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,           \
                                      ptrdiff_t c_batch, int threads) {                                                    \
        const int parts = parts_for(m, n, k * count, threads);                                                             \
        int status = MINIDL_GEMM_OK;                                                                                       \
        if (parts <= 1 || count < parts) { /* few products: thread each of them */                                         \
            for (ptrdiff_t i = 0; i < count && status == MINIDL_GEMM_OK; i++)                                              \
                status = minidl_##prefix##gemm(m, n, k, alpha, a + i * a_batch, a_row, a_col, b + i * b_batch, b_row,      \
                                               b_col, beta, c + i * c_batch, c_row, NULL, threads);                        \
            return status;                                                                                                 \
        }                                                                                                                  \
        EACH_ON_ITS_THREAD(parts) for (int part = 0; part < parts; part++)                                                 \
            for (ptrdiff_t i = begin(count, part, parts, 1); i < begin(count, part + 1, parts, 1); i++) {                  \
                const int one = minidl_##prefix##gemm(m, n, k, alpha, a + i * a_batch, a_row, a_col, b + i * b_batch,      \
                                                      b_row, b_col, beta, c + i * c_batch, c_row, NULL, 1);                \
                if (one != MINIDL_GEMM_OK) NOTE(status, one)                                                               \
            }                                                                                                              \
        return status;                                                                                                     \
    }

#ifdef _OPENMP
#define EACH_ON_ITS_THREAD(parts) _Pragma("omp parallel for num_threads(parts) schedule(static, 1)")
#define NOTE(status, one)                                                                                                  \
    {                                                                                                                      \
        _Pragma("omp atomic write") status = one;                                                                          \
    }
#else
#define EACH_ON_ITS_THREAD(parts)
#define NOTE(status, one)                                                                                                  \
    { status = one; }
#endif

DEFINE(float, s)
DEFINE(double, d)
