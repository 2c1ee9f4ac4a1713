/* How a product is best computed, decided before it is. */

typedef enum { TILES, DOTS, ROWS, OUTER } method;

typedef minidl_gemm_plan plan;

static PRODUCT transposed(const PRODUCT *x) {
    PRODUCT y = {.m = x->n, .n = x->m, .k = x->k, .alpha = x->alpha, .beta = x->beta};
    y.a.at = x->b.at, y.a.row = x->b.col, y.a.col = x->b.row;
    y.b.at = x->a.at, y.b.row = x->a.col, y.b.col = x->a.row;
    y.c.at = x->c.at, y.c.row = x->c.col, y.c.col = x->c.row;
    return y;
}

/* The model of docs/gemm.md: what must fit where. ------------------------------------------------------------------ */

/* The largest slice of k: a panel of A, which every panel of B meets anew, in half of the nearest cache. */
static ptrdiff_t most_kc(void) {
    return minidl_max(64, minidl_caches()->level[0].size / 2 / (ptrdiff_t)(MR * sizeof(real)));
}

/* The widest block of B: a slice of it fills the second cache, from which every panel of A reads it again. */
static ptrdiff_t most_nc(void) {
    return (minidl_caches()->level[1].size / (ptrdiff_t)sizeof(real) / most_kc() + NR - 1) / NR * NR;
}

/* Whether rows so far apart lie on more pages than the nearest table of pages holds at once, with room for other operands'. */
static int many_pages(ptrdiff_t rows, ptrdiff_t stride) {
    enum { PAGE = 4096, ENTRIES = 48 }; /* tables of 64 entries and more are usual */
    return rows * minidl_min(stride, PAGE) > ENTRIES * PAGE;
}

/* What it costs to store an element of C^T: a tile's column at a time, MR elements. If columns crowd the nearest cache, its lines
 * are gone before the next tile fills them up. */
static double turning_c(const PRODUCT *x) {
    return minidl_crowding(&minidl_caches()->level[0], NR, MR * sizeof(real), x->c.col * (ptrdiff_t)sizeof(real)) > 1 ? 4 : 0.25;
}

/* Vectors in n columns; half a one where there are such, which alone keeps the units less busy. */
static double vectors_of(ptrdiff_t n) {
    const ptrdiff_t whole = n / LANES, rest = n % LANES;
#ifdef HALF_FMADD
    return (double)whole + (rest == 0 ? 0 : rest > LANES / 2 ? 1 : whole > 0 ? 0.5 : 0.75);
#else
    return (double)(whole + (rest != 0));
#endif
}

/* What each method costs, in multiply-adds of one vector; measured, and rough. HUGE_COST if it does not apply. */
#define HUGE_COST 1e300

static double cost(method by, const PRODUCT *x) {
    const double m = (double)x->m, n = (double)x->n, k = (double)x->k;
    const double vectors = vectors_of(x->n);
    if (by == ROWS) return x->m <= MR && x->b.col == 1 && x->n >= LANES ? (x->m == 1 ? 1.1 : 1.3 * m) * vectors * k : HUGE_COST;
    if (by == OUTER) return x->k == 1 && x->b.col == 1 && x->c.col == 1 && x->n >= LANES ? 0.9 * m * vectors : HUGE_COST;
    if (by == DOTS) {
        if (x->a.col != 1 || x->k < LANES) return HUGE_COST;
        return 1.2 * m * n * k / LANES + 6 * m * n + (x->b.row == 1 ? 0 : 0.5 * n * k);
    }
    const double at_once = (double)(minidl_min(x->m, MR) * minidl_min((x->n + LANES - 1) / LANES, NV));
    const double waiting = at_once < 4 ? 4 / at_once : 1; /* a sum takes four cycles, in which others can be under way */
    const double slices = ceil(k / (double)most_kc());
    /* Tiles of few rows wait for each line of B that comes from beyond the second cache, three from a row. */
    const int far = x->m <= MR && x->b.col == 1 && n * k * sizeof(real) > (double)minidl_caches()->level[1].size;
    return waiting * m * vectors * k + (far ? 3 * vectors * k : 0) + (x->b.col == 1 ? 0 : 0.5 * n * k) +
           (x->c.col == 1 ? 0 : turning_c(x) * m * n * slices);
}

/* `length` in equal parts of at most `limit`, but for rounding up to multiples of `unit`. */
static ptrdiff_t part(ptrdiff_t length, ptrdiff_t limit, ptrdiff_t unit) {
    const ptrdiff_t parts = (length + limit - 1) / limit;
    return parts <= 1 ? length : (length + unit * parts - 1) / (unit * parts) * unit;
}

/* The cheapest method, and whether for the transposed product; returns its cost. */
static double cheapest(const PRODUCT *x, const PRODUCT *turned, int *by, int *turn) {
    double lowest = HUGE_COST;
    for (int candidate = TILES; candidate <= OUTER; candidate++)
        for (int t = 0; t < 2; t++) {
            const double its = cost((method)candidate, t ? turned : x);
            if (its < lowest) lowest = its, *by = candidate, *turn = t;
        }
    return lowest;
}

/* The elements that packed B takes: a block, or a panel if only the one that ends in part of a vector is packed. */
static ptrdiff_t b_elements(const PRODUCT *x, const plan *p) {
    if (p->pack_b) return p->kc * ((p->nc + LANES - 1) / LANES * LANES);
    return x->n % LANES == 0 && p->nc % LANES == 0 ? 0 : p->kc * NR;
}

/* Whether a block of B, which every panel of A reads again, would stay in its cache packed but crowds a part of it in place. */
static int b_collides(const PRODUCT *x, const plan *p) {
    const minidl_cache *const next = &minidl_caches()->level[1];
    const ptrdiff_t size = sizeof(real);
    const double in_place = minidl_crowding(next, p->kc, p->nc * size, x->b.row * size);
    return in_place > 0.5 && in_place > 1.5 * (double)(p->kc * p->nc * size) / (double)next->size;
}

/* The rest of the plan of a product by tiles. */
static void plan_tiles(const PRODUCT *x, plan *p) {
    enum { FEW_LINES = 4 * LINE }; /* of a column: whole lines are packed, and memory is asked for several that follow each other */
    const minidl_cache *const next = &minidl_caches()->level[1];
    const ptrdiff_t size = sizeof(real);
    p->kc = part(x->k, most_kc(), 8);
    p->nc = part(x->n, most_nc(), NR);
    p->pack_b = x->b.col != 1 || (x->m >= 16 * MR && (x->n * x->k * size > next->size || b_collides(x, p)));
    /* Rows of A follow each other in memory, but columns are read MR elements at a time, for each panel of B again. */
    p->pack_a = x->a.col != 1 && (x->a.row != 1 || (x->n >= 8 * NR && many_pages(p->kc, x->a.col * size)));
    p->mc = p->pack_a ? minidl_min(FEW_LINES, x->m) : x->m;
    p->workspace = (size_t)(b_elements(x, p) + (p->pack_a ? p->kc * p->mc : 0)) * sizeof(real);
}

/* The rest of the plan of a product by some method; as asked for, or transposed. */
static void complete(const PRODUCT *x, plan *p) {
    if (p->method == TILES) {
        plan_tiles(x, p);
        return;
    }
    p->pack_b = p->method == DOTS && x->b.row != 1;
    p->kc = x->k;
    p->nc = x->n;
    p->workspace = p->pack_b ? (size_t)(p->kc * p->nc) * sizeof(real) : 0;
}

static plan choose(const PRODUCT *asked) {
    const PRODUCT turned = transposed(asked);
    plan p = {0};
    cheapest(asked, &turned, &p.method, &p.transposed);
    complete(p.transposed ? &turned : asked, &p);
    return p;
}

/* What the product costs, with what it takes to read its operands: for comparing ways to share it out. */
static double estimate(const PRODUCT *x) {
    const PRODUCT turned = transposed(x);
    int by, turn;
    return cheapest(x, &turned, &by, &turn) + 0.05 * (double)(x->m + x->n) * (double)x->k;
}
