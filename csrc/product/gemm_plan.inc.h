/* How a product is best computed, decided before it is. */

typedef enum { TILES, DOTS, ROW } method;

typedef minidl_gemm_plan plan;

/* Sizes of blocks, found by measurement on a CPU with 1 MiB of L2 cache; smaller caches lose a little. */
enum {
    KC_MOST = 1024,
    KC_LEAST = 256,
    NC_MOST = 4608 / sizeof(real), /* a multiple of every NR but that of SCALAR */
    MC_MOST = 64,
    B_BYTES = 1 << 20, /* what a block of B may take if that leaves it KC_LEAST rows */
    A_BYTES = 1 << 20  /* from where on the far-apart columns of A are packed */
};

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
    const double m = (double)x->m, n = (double)x->n, k = (double)x->k;
    const double vectors = (double)((x->n + LANES - 1) / LANES);
    if (by == ROW) return x->m == 1 && x->b.col == 1 && x->n >= LANES ? 1.1 * vectors * k : HUGE_COST;
    if (by == DOTS) {
        if (x->a.col != 1 || x->k < LANES) return HUGE_COST;
        return 1.2 * m * n * k / LANES + 6 * m * n + (x->b.row == 1 ? 0 : 0.5 * n * k);
    }
    const double at_once = (double)(minidl_min(x->m, MR) * minidl_min((x->n + LANES - 1) / LANES, NV));
    const double waiting = at_once < 4 ? 4 / at_once : 1; /* a sum takes four cycles, in which others can be under way */
    return waiting * m * vectors * k + (x->b.col == 1 ? 0 : 0.5 * n * k) + (x->c.col == 1 ? 0 : 0.25 * m * n);
}

/* `length` in equal parts of at most `limit`, but for rounding up. */
static ptrdiff_t part(ptrdiff_t length, ptrdiff_t limit) {
    const ptrdiff_t parts = (length + limit - 1) / limit;
    return parts <= 1 ? length : (length + 8 * parts - 1) / (8 * parts) * 8;
}

/* The cheapest method, and whether for the transposed product; returns its cost. */
static double cheapest(const PRODUCT *x, const PRODUCT *turned, int *by, int *turn) {
    double lowest = HUGE_COST;
    for (int candidate = TILES; candidate <= ROW; candidate++)
        for (int t = 0; t < 2; t++) {
            const double its = cost((method)candidate, t ? turned : x);
            if (its < lowest) lowest = its, *by = candidate, *turn = t;
        }
    return lowest;
}

/* The elements that packed B takes: a block, or a panel if only the one that ends in part of a vector is packed. */
static ptrdiff_t b_elements(const PRODUCT *x, const plan *p) {
    if (p->method != TILES) return p->pack_b ? p->kc * p->nc : 0;
    if (p->pack_b) return p->kc * ((p->nc + LANES - 1) / LANES * LANES);
    return x->n % LANES == 0 && p->nc % LANES == 0 ? 0 : p->kc * NR;
}

/* The rest of the plan of a product by some method; as asked for, or transposed. */
static void complete(const PRODUCT *x, plan *p) {
    if (p->method != TILES) {
        p->pack_b = p->method == DOTS && x->b.row != 1;
        p->kc = x->k;
        p->nc = x->n;
    } else {
        const ptrdiff_t size = sizeof(real);
        p->pack_b = x->b.col != 1 || (x->n * x->k * size > 2 * B_BYTES && (double)x->m * x->n * x->k > 2e8);
        p->pack_a = (x->a.row != 1 && x->a.col != 1) || (x->a.row == 1 && x->m * x->k * size >= A_BYTES && x->n >= 256);
        p->nc = minidl_min(x->n, NC_MOST);
        p->kc = part(x->k, minidl_max(KC_LEAST, minidl_min(KC_MOST, B_BYTES / size / p->nc)));
        p->mc = p->pack_a ? minidl_min(MC_MOST, x->m) : x->m;
    }
    p->workspace = (size_t)(b_elements(x, p) + (p->pack_a ? p->kc * p->mc : 0)) * sizeof(real);
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
