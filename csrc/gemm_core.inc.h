/* The matrix product on one thread, for one precision and one instruction set. docs/gemm.md leads up to it.
 *
 *     for jc in steps of nc             columns of C and B
 *       for pc in steps of kc             a slice of the inner dimension; the block B[pc, jc], kc x nc, fits the L2 cache
 *         for ic in steps of mc             rows of C and A
 *           for ir in steps of MR             a panel of A, MR x kc, which fits the L1 cache
 *             for jr in steps of NR             the kernel: MR x NR of C in registers, while it runs through kc
 *
 * (K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34, 2008.) Where theirs packs both
 * operands, this one reads them in place if it can: A always lies well enough for a kernel that takes one number at a time,
 * unless its columns are a page apart; B must have contiguous rows, and is packed if it has not. C^T = B^T A^T is the same
 * product, so either operand can play B's part: `choose` takes what costs least.
 *
 * The including file has defined what gemm_vector.inc.h asks for, and
 *     PRODUCT, EPILOGUE, VARIANT_TYPE, VARIANT   the types and the variant's name, from gemm_variant.h
 */
#include <string.h>

static inline ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* The next step through `left` things, `limit` at a time: what is too much for one step is done in two equal ones. */
static inline ptrdiff_t step(ptrdiff_t left, ptrdiff_t limit) {
    return left <= limit ? left : left < 2 * limit ? (left + 1) / 2 : limit;
}

#include "gemm_vector.inc.h"

#include "gemm_tile.inc.h"

#include "gemm_pack.inc.h"

#include "gemm_thin.inc.h"

/* Sizes of blocks, found by measurement on a processor with 1 MiB of L2 cache; a little less is lost to smaller ones. */
enum {
    KC_MOST = 1024,
    KC_LEAST = 256,
    NC_MOST = 4608 / sizeof(real), /* a multiple of every NR but that of SCALAR */
    MC_MOST = 64,
    B_BYTES = 1 << 20, /* what a block of B may take if that leaves it KC_LEAST rows */
    A_BYTES = 1 << 20  /* from where on the far-apart columns of A are packed */
};


/* Plans --------------------------------------------------------------------------------------------------------------------- */

typedef enum { TILES, DOTS, ROW } method;

typedef struct {
    PRODUCT product; /* as asked for, or transposed */
    method method;
    int transposed, pack_a, pack_b;
    ptrdiff_t mc, nc, kc;
} plan;

static PRODUCT transposed(const PRODUCT *x) {
    PRODUCT y = {.m = x->n, .n = x->m, .k = x->k, .alpha = x->alpha, .beta = x->beta};
    y.a.at = x->b.at, y.a.row = x->b.col, y.a.col = x->b.row;
    y.b.at = x->a.at, y.b.row = x->a.col, y.b.col = x->a.row;
    y.c.at = x->c.at, y.c.row = x->c.col, y.c.col = x->c.row;
    return y;
}

/* What each method costs, in multiply-adds of one vector; measured, and rough. HUGE_COST if it does not apply. */
#define HUGE_COST 1e300

static double cost(method by, const PRODUCT *x) {
    const double m = (double)x->m, n = (double)x->n, k = (double)x->k, vectors = (double)((x->n + LANES - 1) / LANES);
    if (by == ROW) return x->m == 1 && x->b.col == 1 && x->n >= LANES ? 1.1 * vectors * k : HUGE_COST;
    if (by == DOTS) {
        if (x->a.col != 1 || x->k < LANES) return HUGE_COST;
        return 1.2 * m * n * k / LANES + 6 * m * n + (x->b.row == 1 ? 0 : 0.5 * n * k);
    }
    const double at_once = (double)(least(x->m, MR) * least((x->n + LANES - 1) / LANES, NV));
    const double waiting = at_once < 4 ? 4 / at_once : 1; /* a sum takes four cycles, in which others can be under way */
    return waiting * m * vectors * k + (x->b.col == 1 ? 0 : 0.5 * n * k) + (x->c.col == 1 ? 0 : 0.25 * m * n);
}

/* `length` in equal parts of at most `limit`, but for rounding up. */
static ptrdiff_t part(ptrdiff_t length, ptrdiff_t limit) {
    const ptrdiff_t parts = (length + limit - 1) / limit;
    return parts <= 1 ? length : (length + 8 * parts - 1) / (8 * parts) * 8;
}

/* The cheapest method, and whether for the transposed product; returns its cost. */
static double cheapest(const PRODUCT *x, const PRODUCT *turned, method *by, int *turn) {
    double lowest = HUGE_COST;
    for (int candidate = TILES; candidate <= ROW; candidate++)
        for (int t = 0; t < 2; t++) {
            const double its = cost((method)candidate, t ? turned : x);
            if (its < lowest) lowest = its, *by = (method)candidate, *turn = t;
        }
    return lowest;
}

static plan choose(const PRODUCT *asked) {
    const PRODUCT turned = transposed(asked);
    plan p = {.product = *asked};
    cheapest(asked, &turned, &p.method, &p.transposed);
    if (p.transposed) p.product = turned;
    const PRODUCT *const x = &p.product;
    if (p.method != TILES) {
        p.pack_b = p.method == DOTS && x->b.row != 1;
        p.kc = x->k;
        p.nc = x->n;
        return p;
    }
    const ptrdiff_t size = sizeof(real);
    p.pack_b = x->b.col != 1 || (x->n * x->k * size > 2 * B_BYTES && (double)x->m * x->n * x->k > 2e8);
    p.pack_a = (x->a.row != 1 && x->a.col != 1) || (x->a.row == 1 && x->m * x->k * size >= A_BYTES && x->n >= 256);
    p.nc = least(x->n, NC_MOST);
    p.kc = part(x->k, most(KC_LEAST, least(KC_MOST, B_BYTES / size / p.nc)));
    p.mc = p.pack_a ? least(MC_MOST, x->m) : x->m;
    return p;
}

/* The numbers that packed B takes: a block, or a panel if only the one that ends in part of a vector is packed. */
static ptrdiff_t b_numbers(const plan *p) {
    if (p->method != TILES) return p->pack_b ? p->kc * p->nc : 0;
    if (p->pack_b) return p->kc * ((p->nc + LANES - 1) / LANES * LANES);
    return p->product.n % LANES == 0 && p->nc % LANES == 0 ? 0 : p->kc * NR;
}

static size_t workspace(const PRODUCT *x) {
    const plan p = choose(x);
    return (size_t)(b_numbers(&p) + (p.pack_a ? p.kc * p.mc : 0)) * sizeof(real);
}

/* What the product costs, with what it takes to read its operands: for comparing ways to share it out. */
static double estimate(const PRODUCT *x) {
    const PRODUCT turned = transposed(x);
    method by;
    int turn;
    return cheapest(x, &turned, &by, &turn) + 0.05 * (double)(x->m + x->n) * (double)x->k;
}

/* The loops ----------------------------------------------------------------------------------------------------------------- */

/* Columns [j, j + n) of row i, when their sums are complete. */
static void finish(const EPILOGUE *e, ptrdiff_t i, ptrdiff_t j, ptrdiff_t n, real *c) {
    if (e->bias != NULL)
        for (ptrdiff_t t = 0; t < n; t++) c[t] += e->bias[j + t];
    if (e->pre_activation != NULL) memcpy(e->pre_activation + i * e->pre_activation_row + j, c, (size_t)n * sizeof(real));
    if (e->activation != NULL) e->activation(c, c, n, e->arguments);
    if (e->derivative != NULL) e->derivative(c, e->saved + i * e->saved_row + j, c, n, e->arguments);
    if (e->column_sums != NULL)
        for (ptrdiff_t t = 0; t < n; t++) e->column_sums[j + t] += c[t];
}

static inline ptrdiff_t panel_width(ptrdiff_t columns) { return panel(columns, LANES, NR); }

/* Pack B[pc : pc+kc, jc : jc+nc], which begins at b: all of it, or only the last panel if it ends in part of a vector. */
static void pack_b(const plan *p, const real *b, ptrdiff_t nc, ptrdiff_t kc, real *packed) {
    ptrdiff_t from = 0;
    if (!p->pack_b)
        while (from + panel_width(nc - from) < nc) from += panel_width(nc - from);
    if (p->pack_b || nc % LANES != 0)
        pack(LANES, NR, nc - from, kc, b + from * p->product.b.col, p->product.b.col, p->product.b.row, packed);
}

static void pack_a(const plan *p, const real *a, ptrdiff_t mc, ptrdiff_t kc, real *packed) {
    pack(1, MR, mc, kc, a, p->product.a.row, p->product.a.col, packed);
}

/* `rows` of C, from c on, times all panels of a block of B; a is in place or packed, and so is b. */
static void row_of_tiles(const plan *p, ptrdiff_t rows, ptrdiff_t nc, ptrdiff_t kc, const real *a, ptrdiff_t a_step,
                         const real *b, const real *packed_b, real beta, real *c) {
    const PRODUCT *const x = &p->product;
    const int upright = p->pack_a || x->a.row == 1;
    for (ptrdiff_t jr = 0, width; jr < nc; jr += width) {
        width = panel_width(nc - jr);
        const ptrdiff_t columns = least(width, nc - jr);
        const int packed = p->pack_b || columns < width;
        const real *const panel = p->pack_b ? packed_b + jr * kc : packed ? packed_b : b + jr;
        const ptrdiff_t b_row = packed ? width : x->b.row;
        tile_function *const compute = tiles[rows - 1][width / LANES - 1][upright];
        if (columns == width && x->c.col == 1)
            compute(kc, x->alpha, a, a_step, panel, b_row, beta, c + jr, x->c.row);
        else
            awkward_tile(compute, rows, columns, width, kc, x->alpha, a, a_step, panel, b_row, beta, c + jr * x->c.col,
                         x->c.row, x->c.col);
    }
}

static void multiply_in_tiles(const plan *p, const EPILOGUE *epilogue, real *packed_b, real *packed_a) {
    const PRODUCT *const x = &p->product;
    for (ptrdiff_t jc = 0, nc; jc < x->n; jc += nc) {
        nc = least(p->nc, x->n - jc);
        for (ptrdiff_t pc = 0, kc; pc < x->k; pc += kc) {
            kc = least(p->kc, x->k - pc);
            const real *const b = x->b.at + pc * x->b.row + jc * x->b.col;
            pack_b(p, b, nc, kc, packed_b);
            for (ptrdiff_t ic = 0, mc; ic < x->m; ic += mc) {
                mc = least(p->mc, x->m - ic);
                const real *const a = x->a.at + ic * x->a.row + pc * x->a.col;
                if (p->pack_a) pack_a(p, a, mc, kc, packed_a);
                for (ptrdiff_t ir = 0, rows; ir < mc; ir += rows) {
                    rows = step(mc - ir, MR);
                    real *const c = x->c.at + (ic + ir) * x->c.row + jc * x->c.col;
                    if (p->pack_a) row_of_tiles(p, rows, nc, kc, packed_a + ir * kc, rows, b, packed_b, pc == 0 ? x->beta : 1, c);
                    else row_of_tiles(p, rows, nc, kc, a + ir * x->a.row, x->a.row == 1 ? x->a.col : x->a.row, b, packed_b, pc == 0 ? x->beta : 1, c);
                    if (epilogue != NULL && pc + kc == x->k)
                        for (ptrdiff_t i = 0; i < rows; i++) finish(epilogue, ic + ir + i, jc, nc, c + i * x->c.row);
                }
            }
        }
    }
}

static void multiply(const PRODUCT *asked, const EPILOGUE *epilogue, void *work) {
    const plan p = choose(asked);
    const PRODUCT *const x = &p.product;
    int finished = 0;
    if (x->k == 0) {
        for (ptrdiff_t i = 0; i < asked->m; i++)
            for (ptrdiff_t j = 0; j < asked->n; j++) {
                real *const at = asked->c.at + i * asked->c.row + j;
                *at = asked->beta == 0 ? 0 : asked->beta * *at;
            }
    } else if (p.method == ROW) {
        row(x);
    } else if (p.method == DOTS) {
        real *const columns = work;
        if (p.pack_b) columns_of_b(x, columns);
        dots(x, p.pack_b ? columns : x->b.at, p.pack_b ? x->k : x->b.col);
    } else {
        finished = !p.transposed; /* row by row; of a transposed product no row is complete before the last */
        multiply_in_tiles(&p, finished ? epilogue : NULL, work, (real *)work + b_numbers(&p));
    }
    if (epilogue != NULL && !finished)
        for (ptrdiff_t i = 0; i < asked->m; i++) finish(epilogue, i, 0, asked->n, asked->c.at + i * asked->c.row);
}

/* Multiply-adds as in the largest tile, but of numbers in registers: what no product can be faster than. */
static double registers_only(ptrdiff_t steps) {
    vector sum[MR][NV], right[NV];
    const vector left = SPLAT((real)0.5);
    UNROLL for (int j = 0; j < NV; j++) right[j] = SPLAT((real)j);
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) sum[i][j] = SPLAT((real)i);
    for (ptrdiff_t p = 0; p < steps; p++)
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) sum[i][j] = FMADD(left, right[j], sum[i][j]);
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

const VARIANT_TYPE VARIANT = {
    .rows = MR,
    .columns = LANES,
    .estimate = estimate,
    .workspace = workspace,
    .multiply = multiply,
    .tile_rows = MR,
    .tile_columns = NR,
    .tile = LARGEST_TILE(MR, NV),
    .registers_only = registers_only,
};
