/* The functions of gemm.h for one precision, over threads. The including file has defined real, REAL(name), IN_USE (the variant
 * in use) and GEMM, GEMM_BATCHED and LIMIT (the functions' names). */
#include <string.h>

#include "product/gemm_variant.h"
#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/parallel.h"

#define PRODUCT REAL(minidl_product)
#define EPILOGUE REAL(minidl_epilogue)
#define VARIANT REAL(minidl_gemm)

/* C is cut into rows x columns parts, one for each thread. They share nothing but what they read. */
typedef struct {
    int rows, columns;
} grid;

/* C is cut at multiples of these: whole tiles, and whole cache lines if C begins with one and its rows are whole ones, or if only
 * rows are cut, so that no two threads write to the same line. */
static ptrdiff_t cut_of(int tile) { return minidl_max(tile, MINIDL_LINE / (ptrdiff_t)sizeof(real)); }

/* One part of the product; `epilogue` is made that of the part. */
static PRODUCT part_of(const PRODUCT *x, const VARIANT *variant, grid g, int part, EPILOGUE *epilogue) {
    const int row = part / g.columns, column = part % g.columns;
    const ptrdiff_t i = minidl_range_begin(x->m, row, g.rows, cut_of(variant->rows));
    const ptrdiff_t j = minidl_range_begin(x->n, column, g.columns, cut_of(variant->columns));
    PRODUCT own = *x;
    own.m = minidl_range_begin(x->m, row + 1, g.rows, cut_of(variant->rows)) - i;
    own.n = minidl_range_begin(x->n, column + 1, g.columns, cut_of(variant->columns)) - j;
    own.a.at += i * x->a.row;
    own.b.at += j * x->b.col;
    own.c.at += i * x->c.row + j;
    if (epilogue->bias != NULL) epilogue->bias += j;
    if (epilogue->pre_activation != NULL) epilogue->pre_activation += i * epilogue->pre_activation_row + j;
    if (epilogue->saved != NULL) epilogue->saved += i * epilogue->saved_row + j;
    if (epilogue->column_sums != NULL) epilogue->column_sums += j;
    return own;
}

/* The grid of at most so many parts whose last part, the largest, costs least. */
static grid grid_of(const VARIANT *variant, const PRODUCT *x, int parts) {
    grid best = {1, 1};
    double lowest = 0;
    for (int rows = 1; rows <= parts && rows <= minidl_units(x->m, cut_of(variant->rows)); rows++) {
        const ptrdiff_t most = minidl_units(x->n, cut_of(variant->columns));
        const grid g = {rows, parts / rows < most ? parts / rows : (int)most};
        EPILOGUE unused = {0};
        const PRODUCT last = part_of(x, variant, g, g.rows * g.columns - 1, &unused);
        const double its = variant->estimate(&last);
        if (rows == 1 || its < lowest) lowest = its, best = g;
    }
    return best;
}

/* A product in parts, each with `each` bytes of workspace. Rows of parts have sums over columns of their own. */
typedef struct {
    const VARIANT *variant;
    const PRODUCT *product;
    const EPILOGUE *epilogue;
    grid grid;
    size_t each, row_of_sums;
    char *work, *sums;
} split_product;

static void multiply_part(void *context, int part) {
    const split_product *const j = context;
    EPILOGUE after = {0};
    if (j->epilogue != NULL) after = *j->epilogue;
    if (j->sums != NULL) after.column_sums = (real *)(j->sums + (size_t)(part / j->grid.columns) * j->row_of_sums);
    const PRODUCT own = part_of(j->product, j->variant, j->grid, part, &after);
    const minidl_gemm_plan plan = j->variant->choose(&own);
    j->variant->multiply(&own, &plan, j->epilogue == NULL ? NULL : &after, j->work + (size_t)part * j->each);
}

/* How long so many products take on one thread, in nanoseconds, roughly: the variants estimate in vectors' multiply-adds. */
static double nanoseconds_of(const VARIANT *variant, const PRODUCT *x, ptrdiff_t count) {
    return 0.3 * variant->estimate(x) * (double)count;
}

static int multiply_in_parts(const VARIANT *variant, const PRODUCT *x, const EPILOGUE *epilogue, grid g) {
    split_product j = {.variant = variant, .product = x, .epilogue = epilogue, .grid = g};
    const int parts = g.rows * g.columns;
    for (int part = 0; part < parts; part++) {
        EPILOGUE unused = {0};
        const PRODUCT own = part_of(x, variant, g, part, &unused);
        const size_t bytes = minidl_whole_lines(variant->choose(&own).workspace);
        if (bytes > j.each) j.each = bytes;
    }
    const int sums = epilogue != NULL && epilogue->column_sums != NULL && g.rows > 1;
    if (sums) j.row_of_sums = minidl_whole_lines((size_t)x->n * sizeof(real));
    const size_t bytes = (size_t)parts * j.each + (size_t)g.rows * j.row_of_sums + MINIDL_LINE;
    j.work = minidl_malloc(NULL, bytes);
    if (j.work == NULL) return MINIDL_GEMM_NO_MEMORY;
    if (sums) {
        j.sums = j.work + (size_t)parts * j.each;
        memset(j.sums, 0, (size_t)g.rows * j.row_of_sums);
    }
    minidl_in_parts_worth(parts, nanoseconds_of(variant, x, 1), multiply_part, &j);
    for (int row = 0; sums && row < g.rows; row++) { /* in order, so that the bits do not depend on who was first */
        const real *const own = (const real *)(j.sums + (size_t)row * j.row_of_sums);
        for (ptrdiff_t t = 0; t < x->n; t++) epilogue->column_sums[t] += own[t];
    }
    minidl_free(NULL, j.work, bytes);
    return MINIDL_GEMM_OK;
}

/* Several products of the same shape, the operands of one so far from those of the next. */
typedef struct {
    const VARIANT *variant;
    PRODUCT first;
    ptrdiff_t count, a_batch, b_batch, c_batch;
    int parts;
    int *status; /* of each part */
} batch;

/* Products [from, to) of the batch on this thread, and what follows them. */
static int multiply_each(const batch *b, ptrdiff_t from, ptrdiff_t to, const EPILOGUE *epilogue) {
    real few[8192 / sizeof(real)];
    const minidl_gemm_plan plan = b->variant->choose(&b->first);
    const size_t bytes = plan.workspace;
    void *const work = bytes <= sizeof(few) ? (void *)few : minidl_malloc(NULL, bytes);
    if (work == NULL) return MINIDL_GEMM_NO_MEMORY;
    for (ptrdiff_t i = from; i < to; i++) {
        PRODUCT x = b->first;
        x.a.at += i * b->a_batch;
        x.b.at += i * b->b_batch;
        x.c.at += i * b->c_batch;
        b->variant->multiply(&x, &plan, epilogue, work);
    }
    if (work != few) minidl_free(NULL, work, bytes);
    return MINIDL_GEMM_OK;
}

static void multiply_some(void *context, int part) {
    batch *const b = context;
    const ptrdiff_t from = minidl_range_begin(b->count, part, b->parts, 1);
    b->status[part] = multiply_each(b, from, minidl_range_begin(b->count, part + 1, b->parts, 1), NULL);
}

/* The functions of gemm.h ---------------------------------------------------------------------------------------- */

int GEMM(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row, ptrdiff_t a_col, const real *b,
         ptrdiff_t b_row, ptrdiff_t b_col, real beta, real *c, ptrdiff_t c_row, const EPILOGUE *epilogue, int threads) {
    const PRODUCT x = {m, n, k, {a, a_row, a_col}, {b, b_row, b_col}, {c, c_row, 1}, alpha, beta};
    const VARIANT *const variant = IN_USE;
    if (variant == NULL) return MINIDL_GEMM_BAD_ISA;
    if (epilogue != NULL && epilogue->column_sums != NULL) memset(epilogue->column_sums, 0, (size_t)n * sizeof(real));
    if (m == 0 || n == 0) return MINIDL_GEMM_OK;
    const int parts = minidl_parts_worth((double)m * (double)n * (double)k, threads);
    if (parts > 1) return multiply_in_parts(variant, &x, epilogue, grid_of(variant, &x, parts));
    const batch one = {.variant = variant, .first = x};
    return multiply_each(&one, 0, 1, epilogue);
}

double LIMIT(ptrdiff_t steps) {
    const VARIANT *const variant = IN_USE;
    return variant == NULL ? 0 : variant->registers_only(steps);
}

int GEMM_BATCHED(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row,
                 ptrdiff_t a_col, const real *b, ptrdiff_t b_row, ptrdiff_t b_col, real beta, real *c, ptrdiff_t c_row,
                 ptrdiff_t a_batch, ptrdiff_t b_batch, ptrdiff_t c_batch, int threads) {
    const PRODUCT x = {m, n, k, {a, a_row, a_col}, {b, b_row, b_col}, {c, c_row, 1}, alpha, beta};
    const VARIANT *const variant = IN_USE;
    if (variant == NULL) return MINIDL_GEMM_BAD_ISA;
    if (m == 0 || n == 0) return MINIDL_GEMM_OK;
    const int parts = minidl_parts_worth((double)count * (double)m * (double)n * (double)k, threads);
    int status = MINIDL_GEMM_OK;
    if (parts > 1 && count < parts) { /* too few products for the threads: all threads on each in turn */
        for (ptrdiff_t i = 0; i < count && status == MINIDL_GEMM_OK; i++)
            status = GEMM(m, n, k, alpha, a + i * a_batch, a_row, a_col, b + i * b_batch, b_row, b_col, beta,
                          c + i * c_batch, c_row, NULL, threads);
        return status;
    }
    int its[MINIDL_MOST_PARTS];
    batch all = {variant, x, count, a_batch, b_batch, c_batch, parts, its};
    if (parts == 1) return multiply_each(&all, 0, count, NULL);
    minidl_in_parts_worth(parts, nanoseconds_of(variant, &x, count), multiply_some, &all);
    for (int part = 0; part < parts; part++)
        if (its[part] != MINIDL_GEMM_OK) status = its[part];
    return status;
}
