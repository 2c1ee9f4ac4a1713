/* The loops of losses.h, in the terms of vector/loops.inc.h, and their table. Cross-entropy uses largest_of, exponentials and
 * exponentials_but_one of loss/softmax.inc.h. */
#include "loss/losses.h"

/* v with zeros after its first n lanes. */
MINIDL_INLINE VEC REAL(first_lanes)(VEC v, ptrdiff_t n) {
    real lanes[LANES];
    STORE(lanes, v);
    return REAL(load_part)(lanes, n, 0);
}

#define LOSS(name, statements)                                                                                              \
    static double REAL(name)(const real *prediction, const real *target, real *slope, real *each, ptrdiff_t n,             \
                             double delta) {                                                                               \
        const VEC limit = SPLAT(delta);                                                                                    \
        vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};                                                                          \
        (void)limit;                                                                                                       \
        EACH_VECTOR(n, {                                                                                                   \
            const VEC p = GET(prediction);                                                                                 \
            const VEC t = GET(target);                                                                                     \
            VEC loss;                                                                                                      \
            VEC d;                                                                                                         \
            statements;                                                                                                    \
            PUT(slope, d);                                                                                                 \
            if (each != NULL) PUT(each, loss);                                                                             \
            if (!whole) loss = REAL(first_lanes)(loss, left);                                                              \
            REAL(add_wide)(sum, loss);                                                                                     \
        });                                                                                                                \
        return REAL(total)(sum);                                                                                           \
    }

LOSS(squared_error, { const VEC e = p - t; d = e + e; loss = e * e; })
LOSS(absolute_error, {
    const VEC e = p - t;
    loss = REAL(absolute)(e);
    d = REAL(select)(REAL(less)(SPLAT(0), loss), REAL(with_sign_of)(SPLAT(1), e), e); /* the sign; 0 and nan as they are */
})
LOSS(huber, {
    const VEC e = p - t;
    d = REAL(most)(REAL(least)(e, limit), -limit);
    loss = d * (e - d * SPLAT(0.5));
})
/* l = t softplus(-x) + (1 - t) softplus(x), l' = (1 - t) sigmoid(x) - t sigmoid(-x), from one e = exp(-|x|): no two terms
 * cancel, so that small losses and slopes keep their digits. */
LOSS(binary_cross_entropy, {
    const VEC zero = SPLAT(0);
    const VEC rest = SPLAT(1) - t;
    const VEC e = REAL(decay)(-REAL(absolute)(p));
    const VEC log_sum = REAL(log_of_one_plus)(e);
    const REAL(mask) negative = REAL(less)(p, zero);
    VEC small;
    VEC large;
    REAL(sigmoids)(e, &small, &large);
    loss = t * (REAL(most)(-p, zero) + log_sum) + rest * (REAL(most)(p, zero) + log_sum);
    d = rest * REAL(select)(negative, small, large) - t * REAL(select)(negative, large, small);
})
/* log(1 - p) = log(q) + c / q with q = 1 - p as rounded and c what it lost, so that small p keep their digits. */
LOSS(probabilities, {
    const VEC zero = SPLAT(0);
    const VEC floor = SPLAT(-100);
    const VEC rest = SPLAT(1) - t;
    const VEC q = SPLAT(1) - p;
    const VEC lost = (SPLAT(1) - q) - p;
    const VEC log_q = REAL(logarithm)(q) + REAL(select)(REAL(less)(zero, q), lost / q, zero);
    loss = -(t * REAL(most)(REAL(logarithm)(p), floor) + rest * REAL(most)(log_q, floor));
    d = (p - t) / REAL(most)(p * q, SPLAT(1e-12));
})
LOSS(kullback_leibler, { /* 0 times an infinity is 0, and nan stays nan */
    const REAL(mask) there = REAL(less)(SPLAT(0), REAL(absolute)(t));
    const VEC nothing = t * REAL(least)(REAL(absolute)(p), SPLAT(1));
    loss = REAL(select)(there, t * (REAL(logarithm)(t) - p), nothing);
    d = -t;
})
#undef LOSS

/* Rows of log-probabilities, as cross_entropy below. */
static double REAL(likelihood)(const real *x, const minidl_targets *t, ptrdiff_t first, real *slope, real *each, ptrdiff_t rows,
                               ptrdiff_t classes, double *divisor, int *wrong) {
    const real *const weight = t->weight;
    double total = 0, met = 0;
    for (ptrdiff_t row = 0; row < rows; row++, x += classes, slope += classes) {
        const int64_t label = *(const volatile int64_t *)(t->labels + first + row); /* once */
        double loss = 0;
        for (ptrdiff_t k = 0; k < classes; k++) slope[k] = 0;
        if (label != t->ignore_index) {
            if (label < 0 || label >= classes) {
                *wrong = 1;
                break;
            }
            const double w = weight == NULL ? 1.0 : (double)weight[label];
            slope[label] = w == 0.0 ? 0 : (real)-w;
            loss = w == 0.0 ? 0.0 : -w * (double)x[label];
            met += w;
        }
        if (each != NULL) each[row] = (real)loss;
        total += loss;
    }
    *divisor = met;
    return total;
}

/* The largest logit of a row, and the sum of the exponentials of the others relative to it. With a nan or an infinity among them the
 * sum is nan, as with nothing but -infinity. A block stays in the nearest cache for both of its loops. */
static void REAL(online_sum)(const real *x, ptrdiff_t classes, real *largest, real *rest) {
    enum { AT_ONCE = 2048 };
    real most = -MINIDL_INFINITY;
    double others = MINIDL_NAN, spoilt = 0;
    for (ptrdiff_t k = 0; k < classes; k += AT_ONCE) {
        const ptrdiff_t n = classes - k < AT_ONCE ? classes - k : AT_ONCE;
        const real found = REAL(largest_of)(x + k, n);
        if (most == -MINIDL_INFINITY && found == -MINIDL_INFINITY) { /* all exponentials so far are 0, but for those of nan */
            for (ptrdiff_t i = k; i < k + n; i++)
                if (x[i] != x[i]) spoilt = MINIDL_NAN;
        } else if (most == -MINIDL_INFINITY) {
            others = spoilt + REAL(exponentials_but_one)(x + k, found, NULL, n);
            most = found;
        } else if (found > most) {
            others = (1.0 + others) * exp((double)most - (double)found) + REAL(exponentials_but_one)(x + k, found, NULL, n);
            most = found;
        } else {
            others += REAL(exponentials)(x + k, most, NULL, n);
        }
    }
    *largest = most;
    *rest = (real)others;
}

/* The exponential of one logit, as in the loops. */
static double REAL(exponential_of)(real x, real largest) {
    real lanes[LANES];
    STORE(lanes, REAL(decay)(SPLAT(x) - SPLAT(largest)));
    return (double)lanes[0];
}

/* What of q is the label's own, and what every class has per weight. */
typedef struct {
    double own, share;
} REAL(coefficients);

static REAL(coefficients) REAL(coefficients_of)(const minidl_targets *t, ptrdiff_t label, ptrdiff_t classes) {
    const real *const weight = t->weight;
    const double w = weight == NULL ? 1.0 : (double)weight[label];
    return (REAL(coefficients)){(1.0 - t->smoothing) * w, t->smoothing / (double)classes};
}

static double REAL(mass_of)(const minidl_targets *t, ptrdiff_t classes) { /* the sum of w */
    const real *const weight = t->weight;
    double mass = 0;
    if (weight == NULL) return (double)classes;
    for (ptrdiff_t k = 0; k < classes; k++) mass += (double)weight[k];
    return mass;
}

/* With q[k] = w[k] (own [k == label] + share) and log p[k] = x[k] - largest - log1p(rest):
 *
 *     loss = own (log1p(rest) - (x[label] - largest)) + share (mass log1p(rest) - sum of w[k] (x[k] - largest)) */
static double REAL(cross_entropy_row)(const real *x, ptrdiff_t label, const minidl_targets *t, double mass, real largest, real rest,
                                      ptrdiff_t classes) {
    const REAL(coefficients) q = REAL(coefficients_of)(t, label, classes);
    const real *const weight = t->weight;
    const double logarithm = log1p((double)rest);
    double loss = q.own == 0.0 ? 0.0 : q.own * (logarithm - ((double)x[label] - (double)largest));
    if (q.share != 0.0) {
        const VEC shift = SPLAT(largest), zero = SPLAT(0);
        vec_f64 weighted[REAL(WIDE)] = {splat_f64(0)};
        EACH_VECTOR(classes, {
            VEC w = SPLAT(1);
            if (weight != NULL) w = GET(weight);
            const VEC term = w * (GET_OR(x, largest) - shift);
            REAL(add_wide)(weighted, REAL(select)(REAL(less)(zero, REAL(absolute)(w)), term, zero)); /* 0 times -inf is 0 */
        });
        loss += q.share * (mass * logarithm - REAL(total)(weighted));
    }
    return loss;
}

/* The rows; those of ignore_index count for nothing. `each`, if not NULL, takes the loss of every row. */
static double REAL(cross_entropy)(const real *x, const minidl_targets *t, ptrdiff_t first, real *largest, real *rest, real *each,
                                  ptrdiff_t rows, ptrdiff_t classes, double *divisor, int *wrong) {
    const real *const weight = t->weight;
    const double mass = REAL(mass_of)(t, classes);
    double total = 0, met = 0;
    for (ptrdiff_t row = 0; row < rows; row++, x += classes) {
        const int64_t label = *(const volatile int64_t *)(t->labels + first + row); /* once */
        double loss = 0;
        REAL(online_sum)(x, classes, &largest[row], &rest[row]);
        if (label != t->ignore_index) {
            if (label < 0 || label >= classes) {
                *wrong = 1;
                break;
            }
            loss = REAL(cross_entropy_row)(x, (ptrdiff_t)label, t, mass, largest[row], rest[row], classes);
            met += weight == NULL ? 1.0 : (double)weight[label];
        }
        if (each != NULL) each[row] = (real)loss;
        total += loss;
    }
    *divisor = met;
    return total;
}

/* dx[k] = f (p[k] sum(q) - q[k]), where p[k] sum(q) = exp(x[k] - largest) scale. That of the label is p[label] (sum of the other q)
 * - q[label] (sum of the other p), so that a confident and right answer keeps its digits. */
static void REAL(cross_entropy_row_backward)(const real *x, ptrdiff_t label, const minidl_targets *t, double mass, real largest,
                                             real rest, double f, real *dx, ptrdiff_t classes) {
    const REAL(coefficients) q = REAL(coefficients_of)(t, label, classes);
    const real *const weight = t->weight;
    const double sum = 1.0 + (double)rest, met = REAL(exponential_of)(x[label], largest);
    const double others = met < 1.0 ? (double)rest + (1.0 - met) : (double)rest;
    const double given = q.share * (weight == NULL ? 1.0 : (double)weight[label]);
    const VEC shift = SPLAT(largest), scale = SPLAT(f * ((q.own + q.share * mass) / sum)), part = SPLAT(f * q.share);
    if (q.share == 0.0) {
        EACH_VECTOR(classes, PUT(dx, REAL(decay)(GET(x) - shift) * scale););
    } else {
        EACH_VECTOR(classes, {
            VEC w = SPLAT(1);
            if (weight != NULL) w = GET(weight);
            PUT(dx, REAL(decay)(GET(x) - shift) * scale - part * w);
        });
    }
    dx[label] = (real)(f * ((met * (q.share * mass - given) - (q.own + given) * others) / sum));
}

static void REAL(cross_entropy_backward)(const real *x, const minidl_targets *t, ptrdiff_t first, const real *largest,
                                         const real *rest, const real *dloss, double factor, real *dx, ptrdiff_t rows,
                                         ptrdiff_t classes, int *wrong) {
    const double mass = REAL(mass_of)(t, classes);
    for (ptrdiff_t row = 0; row < rows; row++, x += classes, dx += classes) {
        const int64_t label = *(const volatile int64_t *)(t->labels + first + row); /* once */
        const double f = dloss == NULL ? factor : (double)dloss[row] * factor;
        if (label == t->ignore_index) { /* 0 p is 0, or nan where the softmax is nan */
            const VEC all = SPLAT(isnan(rest[row]) ? MINIDL_NAN : 0.0);
            EACH_VECTOR(classes, PUT(dx, all););
        } else if (label < 0 || label >= classes) {
            *wrong = 1;
            break;
        } else {
            REAL(cross_entropy_row_backward)(x, (ptrdiff_t)label, t, mass, largest[row], rest[row], f, dx, classes);
        }
    }
}

const REAL(minidl_losses) TABLE(minidl_losses) = {
    .pointwise = {[MINIDL_SQUARED_ERROR] = REAL(squared_error),
                  [MINIDL_ABSOLUTE_ERROR] = REAL(absolute_error),
                  [MINIDL_HUBER] = REAL(huber),
                  [MINIDL_BINARY_CROSS_ENTROPY] = REAL(binary_cross_entropy),
                  [MINIDL_PROBABILITIES] = REAL(probabilities),
                  [MINIDL_KULLBACK_LEIBLER] = REAL(kullback_leibler)},
    .cross_entropy = REAL(cross_entropy),
    .cross_entropy_backward = REAL(cross_entropy_backward),
    .likelihood = REAL(likelihood),
};
