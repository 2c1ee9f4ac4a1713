/* The loops of losses.h, in the terms of vector/loops.inc.h, and their table. Cross-entropy uses largest_of and exponentials of
 * loss/softmax.inc.h. */
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

/* One row of cross-entropy with class index `label`, class weights w (all 1 if NULL) and label smoothing e:
 *
 *     q_k = w_k ((1 - e) [k = label] + e / K),   loss = -sum q_k log p_k,   slope_k = p_k sum(q) - q_k
 *
 * where log p_k = x_k - largest - log(sum of exp(x - largest)). `mass` is the sum of w. The sum is 1 + rest, and the slope of the
 * label is p_label (sum of the other q) - q_label (sum of the other p), so that a confident and right answer keeps its digits. */
static double REAL(cross_entropy_row)(const real *x, ptrdiff_t label, const real *weight, double mass, double smoothing,
                                      real *slope, ptrdiff_t classes) {
    const real largest = REAL(largest_of)(x, classes);
    const double own = (1.0 - smoothing) * (weight == NULL ? 1.0 : (double)weight[label]), share = smoothing / (double)classes;
    const double rest = REAL(exponentials_but_one)(x, largest, slope, classes), sum = 1.0 + rest, logarithm = log1p(rest);
    const double met = (double)slope[label], others = met < 1.0 ? rest + (1.0 - met) : rest;
    const double given = share * (weight == NULL ? 1.0 : (double)weight[label]);
    double loss = own == 0.0 ? 0.0 : own * (logarithm - ((double)x[label] - (double)largest));
    const VEC scale = SPLAT((own + share * mass) / sum);
    if (share == 0.0) {
        EACH_VECTOR(classes, PUT(slope, GET(slope) * scale););
    } else {
        const VEC shift = SPLAT(largest), part = SPLAT(share), zero = SPLAT(0);
        vec_f64 weighted[REAL(WIDE)] = {splat_f64(0)};
        EACH_VECTOR(classes, {
            VEC w = SPLAT(1);
            if (weight != NULL) w = GET(weight);
            const VEC term = w * (GET_OR(x, largest) - shift);
            REAL(add_wide)(weighted, REAL(select)(REAL(less)(zero, REAL(absolute)(w)), term, zero)); /* 0 times -inf is 0 */
            PUT(slope, GET(slope) * scale - part * w);
        });
        loss += share * (mass * logarithm - REAL(total)(weighted));
    }
    slope[label] = (real)((met * (share * mass - given) - (own + given) * others) / sum);
    return loss;
}

/* The slope of a row that counts for nothing: 0 p, so 0, or nan where the softmax is nan. */
static void REAL(ignored_row)(const real *x, real *slope, ptrdiff_t classes) {
    const VEC shift = SPLAT(REAL(largest_of)(x, classes));
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
    EACH_VECTOR(classes, REAL(add_wide)(sum, REAL(most)(GET(x) - shift, SPLAT(-1)));); /* as exp(x - shift), nan only where that is */
    const VEC all = SPLAT(isnan(REAL(total)(sum)) ? MINIDL_NAN : 0.0);
    EACH_VECTOR(classes, PUT(slope, all););
}

/* All rows; those of ignore_index count for nothing. Returns the sum of the losses, and in *divisor the sum of the weights of
 * the classes met. `each`, if not NULL, takes the loss of every row. */
static double REAL(cross_entropy)(const real *x, const minidl_targets *t, ptrdiff_t first, real *slope, real *each,
                                  ptrdiff_t rows, ptrdiff_t classes, double *divisor, int *wrong) {
    const real *const weight = t->weight;
    double total = 0, mass = (double)classes, met = 0;
    if (weight != NULL) {
        mass = 0;
        for (ptrdiff_t i = 0; i < classes; i++) mass += (double)weight[i];
    }
    for (ptrdiff_t row = 0; row < rows; row++, x += classes, slope += classes) {
        const int64_t label = *(const volatile int64_t *)(t->labels + first + row); /* once */
        double loss = 0;
        if (label == t->ignore_index) {
            REAL(ignored_row)(x, slope, classes);
        } else if (label < 0 || label >= classes) {
            *wrong = 1;
            break;
        } else {
            loss = REAL(cross_entropy_row)(x, (ptrdiff_t)label, weight, mass, t->smoothing, slope, classes);
            met += weight == NULL ? 1.0 : (double)weight[label];
        }
        if (each != NULL) each[row] = (real)loss;
        total += loss;
    }
    *divisor = met;
    return total;
}

const REAL(minidl_losses) TABLE(minidl_losses) = {
    .pointwise = {[MINIDL_SQUARED_ERROR] = REAL(squared_error),
                  [MINIDL_ABSOLUTE_ERROR] = REAL(absolute_error),
                  [MINIDL_HUBER] = REAL(huber),
                  [MINIDL_BINARY_CROSS_ENTROPY] = REAL(binary_cross_entropy),
                  [MINIDL_PROBABILITIES] = REAL(probabilities),
                  [MINIDL_KULLBACK_LEIBLER] = REAL(kullback_leibler)},
    .cross_entropy = REAL(cross_entropy),
    .likelihood = REAL(likelihood),
};
