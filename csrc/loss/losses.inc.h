/* Losses of one element at a time; part of kernels.inc.h. Each writes the slope with respect to the prediction, returns the sum
 * of the losses, and puts them into `each` if it is not NULL. `delta` is Huber's. */

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
