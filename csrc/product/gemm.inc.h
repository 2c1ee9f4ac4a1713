/* The matrix product on one thread, for one precision and one instruction set. docs/gemm.md leads up to it.
 *
 *     for jc in steps of nc             columns of C and B
 *       for pc in steps of kc             a slice of the inner dimension; the block B[pc, jc], kc x nc, fits the L2 cache
 *         for ic in steps of mc             rows of C and A
 *           for ir in steps of MR             a panel of A, MR x kc, which fits half of the L1 cache
 *             for jr in steps of NR             the kernel: MR x NR of C in registers, while it runs through kc
 *
 * (K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34, 2008.) Where theirs packs both
 * operands, this one reads them in place if it can: A lies well enough for a kernel that takes one element at a time, unless its
 * columns lie on many pages; B must have contiguous rows that leave each other room in the cache, and is packed if it has not.
 * C^T = B^T A^T is the same product, so either operand can play B's part: `choose` takes what costs least.
 *
 * The files that make it up share these types and `step`; they are included in an order in which each builds on those before, and
 * the convolutions (conv/conv.inc.h) build on all of them.
 */
#include "product/gemm_variant.h"
#include "runtime/caches.h"
#include "runtime/integers.h"

#define PRODUCT REAL(minidl_product)
#define EPILOGUE REAL(minidl_epilogue)

/* The next step through `left` things, `limit` at a time: what is too much for one step is done in two equal ones. */
static inline ptrdiff_t step(ptrdiff_t left, ptrdiff_t limit) {
    return left <= limit ? left : left < 2 * limit ? (left + 1) / 2 : limit;
}

#include "product/gemm_vector.inc.h"
#include "product/gemm_tile.inc.h"
#include "product/gemm_pack.inc.h"
#include "product/gemm_thin.inc.h"
#include "product/gemm_plan.inc.h"

/* Add the bias to each row; by vectors of columns, each of which is read once for all rows. */
static void add_to_columns(const real *restrict bias, ptrdiff_t rows, ptrdiff_t n, real *restrict c, ptrdiff_t c_row) {
    ptrdiff_t t = 0;
    for (; t + LANES <= n; t += LANES) {
        const vector b = LOAD(bias + t);
        for (ptrdiff_t r = 0; r < rows; r++) STORE(c + r * c_row + t, LOAD(c + r * c_row + t) + b);
    }
    for (; t < n; t++)
        for (ptrdiff_t r = 0; r < rows; r++) c[r * c_row + t] += bias[t];
}

/* Columns [j, j + n) of `rows` rows from row i on, when their sums are complete. Rows that follow each other without a gap
 * go through the functions as one: short rows would each wait for the whole length of a formula. */
static void finish(const EPILOGUE *e, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t j, ptrdiff_t n, real *c, ptrdiff_t c_row) {
    if (e->bias != NULL) add_to_columns(e->bias + j, rows, n, c, c_row);
    const int dense = c_row == n && (e->pre_activation == NULL || e->pre_activation_row == n) &&
                      (e->derivative == NULL || e->saved_row == n);
    const ptrdiff_t runs = dense ? 1 : rows, length = dense ? rows * n : n;
    for (ptrdiff_t r = 0; r < runs; r++) {
        real *const at = c + r * c_row;
        if (e->pre_activation != NULL)
            memcpy(e->pre_activation + (i + r) * e->pre_activation_row + j, at, (size_t)length * sizeof(real));
        if (e->activation != NULL) e->activation(at, at, length, e->arguments);
        if (e->derivative != NULL) e->derivative(at, e->saved + (i + r) * e->saved_row + j, at, length, e->arguments);
    }
    if (e->column_sums != NULL)
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t t = 0; t < n; t++) e->column_sums[j + t] += c[r * c_row + t];
}

enum { FINISH_AT_ONCE = 1024 }; /* elements: few enough for the L1 cache */

static inline ptrdiff_t panel_width(ptrdiff_t columns) { return panel(columns, LANES, NR); }

/* Pack B[pc : pc+kc, jc : jc+nc], which begins at b: all of it, or only the last panel if it ends in part of a vector. */
static void pack_b(const PRODUCT *x, const plan *p, const real *b, ptrdiff_t nc, ptrdiff_t kc, real *packed) {
    ptrdiff_t from = 0;
    if (!p->pack_b)
        while (from + panel_width(nc - from) < nc) from += panel_width(nc - from);
    if (p->pack_b || nc % LANES != 0)
        pack(LANES, NR, nc - from, kc, b + from * x->b.col, x->b.col, x->b.row, packed);
}

static void pack_a(const PRODUCT *x, const real *a, ptrdiff_t mc, ptrdiff_t kc, real *packed) {
    pack(1, MR, mc, kc, a, x->a.row, x->a.col, packed);
}

/* `rows` of C, from c on, times all panels of a block of B; a is in place or packed, and so is b. */
static void row_of_tiles(const PRODUCT *x, const plan *p, ptrdiff_t rows, ptrdiff_t nc, ptrdiff_t kc, const real *a,
                         ptrdiff_t a_step, const real *b, const real *packed_b, real beta, real *c) {
    const int upright = p->pack_a || x->a.row == 1;
    for (ptrdiff_t jr = 0, width; jr < nc; jr += width) {
        width = panel_width(nc - jr);
        const ptrdiff_t columns = minidl_min(width, nc - jr);
        const int packed = p->pack_b || columns < width;
        const real *const panel = p->pack_b ? packed_b + jr * kc : packed ? packed_b : b + jr;
        const ptrdiff_t b_row = packed ? width : x->b.row;
        tile_function *const compute = tile_for(rows, columns, width, upright);
        if (columns == width && x->c.col == 1)
            compute(kc, x->alpha, a, a_step, panel, b_row, beta, c + jr, x->c.row);
        else
            awkward_tile(compute, rows, columns, width, kc, x->alpha, a, a_step, panel, b_row, beta, c + jr * x->c.col,
                         x->c.row, x->c.col);
    }
}

/* C[:, jc : jc+nc] = alpha A[:, pc : pc+kc] B[pc : pc+kc, jc : jc+nc], added to what is there unless pc is 0. */
static void multiply_block(const PRODUCT *x, const plan *p, const EPILOGUE *epilogue, ptrdiff_t jc, ptrdiff_t nc,
                           ptrdiff_t pc, ptrdiff_t kc, real *packed_b, real *packed_a) {
    const real beta = pc == 0 ? x->beta : 1;
    const real *const b = x->b.at + pc * x->b.row + jc * x->b.col;
    pack_b(x, p, b, nc, kc, packed_b);
    for (ptrdiff_t ic = 0, mc; ic < x->m; ic += mc) {
        mc = minidl_min(p->mc, x->m - ic);
        const real *const a = x->a.at + ic * x->a.row + pc * x->a.col;
        if (p->pack_a) pack_a(x, a, mc, kc, packed_a);
        ptrdiff_t complete = 0; /* rows that wait to be finished, together if they are short */
        for (ptrdiff_t ir = 0, rows; ir < mc; ir += rows) {
            rows = step(mc - ir, MR);
            real *const c = x->c.at + (ic + ir) * x->c.row + jc * x->c.col;
            const real *const panel = p->pack_a ? packed_a + ir * kc : a + ir * x->a.row;
            const ptrdiff_t a_step = p->pack_a ? rows : x->a.row == 1 ? x->a.col : x->a.row;
            row_of_tiles(x, p, rows, nc, kc, panel, a_step, b, packed_b, beta, c);
            complete += rows;
            if (epilogue != NULL && pc + kc == x->k && (complete * nc >= FINISH_AT_ONCE || ir + rows == mc)) {
                const ptrdiff_t first = ir + rows - complete;
                finish(epilogue, ic + first, complete, jc, nc, c + (first - ir) * x->c.row, x->c.row);
                complete = 0;
            }
        }
    }
}

static void multiply_in_tiles(const PRODUCT *x, const plan *p, const EPILOGUE *epilogue, real *work) {
    real *const packed_a = work + b_elements(x, p);
    for (ptrdiff_t jc = 0; jc < x->n; jc += p->nc)
        for (ptrdiff_t pc = 0; pc < x->k; pc += p->kc)
            multiply_block(x, p, epilogue, jc, minidl_min(p->nc, x->n - jc), pc, minidl_min(p->kc, x->k - pc), work, packed_a);
}

static void multiply(const PRODUCT *asked, const plan *p, const EPILOGUE *epilogue, void *work) {
    const PRODUCT chosen = p->transposed ? transposed(asked) : *asked;
    const PRODUCT *const x = &chosen;
    int finished = 0;
    if (x->k == 0) {
        for (ptrdiff_t i = 0; i < asked->m; i++)
            for (ptrdiff_t j = 0; j < asked->n; j++) {
                real *const at = asked->c.at + i * asked->c.row + j;
                *at = asked->beta == 0 ? 0 : asked->beta * *at;
            }
    } else if (p->method == ROWS) {
        few_rows(x);
    } else if (p->method == OUTER) {
        outer(x);
    } else if (p->method == DOTS) {
        real *const columns = work;
        if (p->pack_b) columns_of_b(x, columns);
        dots(x, p->pack_b ? columns : x->b.at, p->pack_b ? x->k : x->b.col);
    } else {
        finished = !p->transposed; /* row by row; of a transposed product no row is complete before the last */
        multiply_in_tiles(x, p, finished ? epilogue : NULL, work);
    }
    const ptrdiff_t together = asked->n < FINISH_AT_ONCE ? FINISH_AT_ONCE / minidl_max(asked->n, 1) : 1;
    for (ptrdiff_t i = 0; epilogue != NULL && !finished && i < asked->m; i += together)
        finish(epilogue, i, minidl_min(together, asked->m - i), 0, asked->n, asked->c.at + i * asked->c.row, asked->c.row);
}

/* Multiply-adds as in the largest tile, but of values in registers: no product can be faster. */
static double registers_only(ptrdiff_t steps) {
    vector sum[MR][NV], right[NV];
    const vector left = SPLAT((real)0.5);
    UNROLL for (int j = 0; j < NV; j++) right[j] = SPLAT((real)j);
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) sum[i][j] = SPLAT((real)i);
    for (ptrdiff_t p = 0; p < steps; p++)
        UNROLL for (int i = 0; i < MR; i++)
            UNROLL for (int j = 0; j < NV; j++) sum[i][j] = FMADD(left, right[j], sum[i][j]);
    volatile real kept[NR]; /* so that the loop has a purpose */
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) {
        real lanes[LANES];
        STORE(lanes, sum[i][j]);
        for (int t = 0; t < LANES; t++) kept[j * LANES + t] = lanes[t];
    }
    return 2.0 * MR * NR * (double)steps + 0 * (double)kept[0];
}

#define LARGEST_TILE_(rows, vectors) tile_##rows##_##vectors##_1
#define LARGEST_TILE(rows, vectors) LARGEST_TILE_(rows, vectors)

const REAL(minidl_gemm) TABLE(minidl_gemm) = {
    .rows = MR,
    .columns = LANES,
    .estimate = estimate,
    .choose = choose,
    .multiply = multiply,
    .finish = finish,
    .tile_rows = MR,
    .tile_columns = NR,
    .tile = LARGEST_TILE(MR, NV),
    .registers_only = registers_only,
};
