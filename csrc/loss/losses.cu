/* Losses of one element at a time on a GPU: the loss and its slope in one pass over prediction and target.
 *
 *     loss = s sum_i l(p[i], t[i]),   slope[i] = the derivative of l by p[i]
 *
 * Each block leaves the sum of its l; one more block adds these in order, so the bits repeat. Which elements a block has follows from
 * n alone. The formulas are those of losses.inc.h. */
#include "runtime/device.cuh"

/* `each` gets the l[i], and is null where only the sum is wanted. Statements set loss and d, the slope, from p, t and limit. */
#define LOSS(name, statements)                                                                                             \
    extern "C" __global__ void name(const stored *prediction, const stored *target, stored *slope, stored *each,           \
                                    real *partials, size n, real limit) {                                                  \
        __shared__ real scratch[MOST_WARPS];                                                                               \
        real sum = 0;                                                                                                      \
        map(of_grid(), prediction, target, slope, n, [&](size i, real p, real t) {                                         \
            real loss, d;                                                                                                  \
            statements;                                                                                                    \
            if (each) each[i] = narrow(loss);                                                                              \
            sum += loss;                                                                                                   \
            return d;                                                                                                      \
        });                                                                                                                \
        sum = combine_team(sum, scratch, Add());                                                                           \
        if (threadIdx.x == 0) partials[blockIdx.x] = sum;                                                                  \
        (void)limit;                                                                                                       \
    }

LOSS(squared_error, {
    const real e = p - t;
    d = e + e;
    loss = e * e;
})
LOSS(absolute_error, {
    const real e = p - t;
    loss = REAL(absolute)(e);
    d = loss > 0 ? REAL(with_sign_of)(1, e) : e; /* the sign; 0 and nan as they are */
})
LOSS(huber, {
    const real e = p - t;
    d = REAL(most)(REAL(least)(e, limit), -limit);
    loss = d * (e - d * (real)0.5);
})
/* l = t softplus(-x) + (1 - t) softplus(x), l' = (1 - t) sigmoid(x) - t sigmoid(-x), from one e = exp(-|x|) */
LOSS(logit_cross_entropy, {
    const real rest = 1 - t;
    const real e = REAL(decay)(-REAL(absolute)(p));
    const real log_sum = REAL(log_of_one_plus)(e);
    real small;
    real large;
    REAL(sigmoids)(e, &small, &large);
    loss = t * (REAL(most)(-p, 0) + log_sum) + rest * (REAL(most)(p, 0) + log_sum);
    d = rest * (p < 0 ? small : large) - t * (p < 0 ? large : small);
})
/* log(1 - p) = log(q) + c / q with q = 1 - p as rounded and c what it lost, so that small p keep their digits. */
LOSS(probability_cross_entropy, {
    const real rest = 1 - t;
    const real q = 1 - p;
    const real lost = (1 - q) - p;
    const real log_q = REAL(logarithm)(q) + (q > 0 ? lost / q : (real)0);
    loss = -(t * REAL(most)(REAL(logarithm)(p), -100) + rest * REAL(most)(log_q, -100));
    d = (p - t) / REAL(most)(p * q, (real)1e-12);
})
LOSS(kullback_leibler, { /* 0 times an infinity is 0, and nan stays nan */
    const bool there = REAL(absolute)(t) > 0;
    const real nothing = t * REAL(least)(REAL(absolute)(p), 1);
    loss = there ? t * (REAL(logarithm)(t) - p) : nothing;
    d = -t;
})

/* In one block, in double. */
extern "C" __global__ void loss_total(const real *partials, int parts, real divisor, stored *loss) {
    __shared__ double scratch[MOST_WARPS];
    double total = 0;
    for (int part = threadIdx.x; part < parts; part += blockDim.x) total += partials[part];
    total = combine_team(total, scratch, Add());
    if (threadIdx.x == 0) *loss = narrow((real)(total / divisor));
}
