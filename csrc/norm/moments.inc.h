/* The statistics that the normalisations share, in the terms of vector/loops.inc.h. From reduce/sums.inc.h comes sum_of_all.
 *
 * The mean and the squared differences from it are taken in one pass over memory: T. Chan, G. Golub, R. LeVeque, "Updating
 * formulae and a pairwise algorithm for computing sample variances" (1979), block by block. Each block's elements are counted
 * from the mean of all before; those of the first block from its own mean. The sum of squares of a block then exceeds what it
 * adds to the total at most by a factor of two, so that nothing is lost however far the mean is from 0. */

/* How many elements were seen, their mean, and the sum of the squared differences from it. */
typedef struct {
    double count, mean, squares;
} moments;

/* The squared differences from the mean, of those from another number and of the sum of these differences; inf if those are. */
MINIDL_INLINE double squares_about_mean(double squares, double sum, double count) {
    return isinf(squares) ? squares : squares - sum * (sum / count);
}

static double REAL(sum_of_lanes)(VEC v) {
    vec_f64 wide[REAL(WIDE)] = {splat_f64(0)};
    REAL(add_wide)(wide, v);
    return REAL(total)(wide);
}

static void REAL(shifted_sums)(const real *x, ptrdiff_t n, real shift, double *sum, double *squares) {
    const VEC c = SPLAT(shift);
    VEC a[4] = {SPLAT(0), SPLAT(0), SPLAT(0), SPLAT(0)}, b[4] = {SPLAT(0), SPLAT(0), SPLAT(0), SPLAT(0)};
    ptrdiff_t start = 0;
    for (; start + 4 * LANES <= n; start += 4 * LANES) {
        MINIDL_UNROLL
        for (int k = 0; k < 4; k++) {
            const VEC d = LOAD(x + start + k * LANES) - c;
            a[k] = a[k] + d;
            b[k] = REAL(madd)(d, d, b[k]);
        }
    }
    EACH_VECTOR(n - start, {
        const VEC d = GET_OR(x + start, shift) - c;
        a[0] = a[0] + d;
        b[0] = REAL(madd)(d, d, b[0]);
    });
    *sum = REAL(sum_of_lanes)((a[0] + a[1]) + (a[2] + a[3]));
    *squares = REAL(sum_of_lanes)((b[0] + b[1]) + (b[2] + b[3]));
}

static void REAL(add_moments)(moments *m, const real *x, ptrdiff_t n) {
    enum { BLOCK = 512 };
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        const ptrdiff_t length = n - start < BLOCK ? n - start : BLOCK;
        const double weight = (double)length, before = m->count;
        const real shift = (real)(before > 0 ? m->mean : REAL(sum_of_all)(x + start, length) / weight);
        if (!isfinite(shift)) { /* the mean as the formula's, inf or nan, and no variance */
            m->mean += REAL(sum_of_all)(x + start, length), m->squares = MINIDL_NAN;
            continue;
        }
        double sum, squares;
        REAL(shifted_sums)(x + start, length, shift, &sum, &squares);
        const double delta = ((double)shift - m->mean) + sum / weight;
        m->count = before + weight;
        m->mean += delta * (weight / m->count);
        m->squares += squares_about_mean(squares, sum, weight);
        if (before > 0) m->squares += delta * delta * (before * weight / m->count);
    }
}

static double REAL(variance)(const moments *m) { return m->squares < 0 ? 0 : m->squares / m->count; }

static void REAL(normalise)(const real *x, double mean, double scale, double shift, real *y, ptrdiff_t n) {
    const VEC m = SPLAT(mean), s = SPLAT(scale), b = SPLAT(shift);
    EACH_VECTOR(n, PUT(y, REAL(madd)(GET(x) - m, s, b)););
}

/* The sums of dy and of dy (x - mean), added to. */
static void REAL(add_gradient_sums)(const real *dy, const real *x, double mean, ptrdiff_t n, double *sum, double *product) {
    enum { BLOCK = 1024 };
    const VEC m = SPLAT(mean);
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        const ptrdiff_t length = n - start < BLOCK ? n - start : BLOCK;
        const real *const upstream = dy + start, *const from = x + start;
        VEC a = SPLAT(0), b = SPLAT(0);
        EACH_VECTOR(length, {
            const VEC g = GET(upstream);
            a = a + g;
            b = REAL(madd)(g, GET_OR(from, (real)mean) - m, b);
        });
        *sum += REAL(sum_of_lanes)(a);
        *product += REAL(sum_of_lanes)(b);
    }
}

/* dx = scale ((dy w - a) - (x - mean) k) */
static void REAL(through_statistics)(const real *dy, const real *x, double mean, double weight, double a, double k,
                                     double scale, real *dx, ptrdiff_t n) {
    const VEC m = SPLAT(mean), w = SPLAT(weight), own = SPLAT(a), slope = SPLAT(k), s = SPLAT(scale);
    EACH_VECTOR(n, PUT(dx, s * ((GET(dy) * w - own) - (GET(x) - m) * slope)););
}

static double REAL(gain)(const void *weight, ptrdiff_t c) { return weight == NULL ? 1.0 : (double)((const real *)weight)[c]; }
static double REAL(offset)(const void *bias, ptrdiff_t c) { return bias == NULL ? 0.0 : (double)((const real *)bias)[c]; }

/* In the precision of x, for what is short or need not be exact. */
#define QUICK_SUM(name, add)                                                                                               \
    static double REAL(name)(const real *x, ptrdiff_t n) {                                                                 \
        VEC sum[4] = {SPLAT(0), SPLAT(0), SPLAT(0), SPLAT(0)};                                                             \
        ptrdiff_t start = 0;                                                                                               \
        for (; start + 4 * LANES <= n; start += 4 * LANES) {                                                               \
            MINIDL_UNROLL                                                                                                  \
            for (int k = 0; k < 4; k++) {                                                                                  \
                const VEC v = LOAD(x + start + k * LANES);                                                                 \
                sum[k] = add(v, sum[k]);                                                                                   \
            }                                                                                                              \
        }                                                                                                                  \
        EACH_VECTOR(n - start, {                                                                                           \
            const VEC v = GET(x + start);                                                                                  \
            sum[0] = add(v, sum[0]);                                                                                       \
        });                                                                                                                \
        return REAL(sum_of_lanes)((sum[0] + sum[1]) + (sum[2] + sum[3]));                                                  \
    }
#define PLAIN(v, sum) ((sum) + (v))
#define SQUARE(v, sum) REAL(madd)(v, v, sum)
QUICK_SUM(quick_sum, PLAIN)
QUICK_SUM(quick_squares, SQUARE)
#undef QUICK_SUM
#undef PLAIN
#undef SQUARE

/* The mean and the variance of x in two passes, the second about `near`, a mean that the first one found with little care; what
 * that lacks the second makes good. */
static void REAL(moments_about)(const real *x, ptrdiff_t n, real near, double *mean, double *variance) {
    enum { BLOCK = 2048 };
    const double count = (double)n;
    double sum = 0, squares = 0;
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        double a, b;
        REAL(shifted_sums)(x + start, n - start < BLOCK ? n - start : BLOCK, near, &a, &b);
        sum += a, squares += b;
    }
    const moments m = {count, 0, squares_about_mean(squares, sum, count)};
    *mean = isfinite(near) ? (double)near + sum / count : (double)near;
    *variance = REAL(variance)(&m);
}

/* The moments of rows that follow one another. A row that does not stay in the cache is read once. */
MINIDL_INLINE void REAL(row_moments)(const real *x, ptrdiff_t n, int rows, double *mean, double *variance) {
    enum { RESIDENT = 65536 };
    if (n > RESIDENT) {
        for (int k = 0; k < rows; k++) {
            moments m = {0, 0, 0};
            REAL(add_moments)(&m, x + k * n, n);
            mean[k] = m.mean, variance[k] = REAL(variance)(&m);
        }
        return;
    }
    for (int k = 0; k < rows; k++) mean[k] = REAL(quick_sum)(x + k * n, n) / (double)n;
    for (int k = 0; k < rows; k++) REAL(moments_about)(x + k * n, n, (real)mean[k], mean + k, variance + k);
}

static double REAL(mean_square)(const real *x, ptrdiff_t n) {
    enum { BLOCK = 2048 };
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += BLOCK)
        total += REAL(quick_squares)(x + start, n - start < BLOCK ? n - start : BLOCK);
    return total / (double)n;
}
