/* The optimisers' updates on a GPU: one launch over the flat buffers of all parameters.
 *
 *     g = scale grad + decay value
 *
 *     SGD        b = momentum b + fresh g  (at the first step b = g)       value -= lr b, with Nesterov lr (g + momentum b)
 *     Adagrad    s = s + g^2                                               value -= lr g / (sqrt(s) + eps)
 *     RMSprop    v = alpha v + (1 - alpha) g^2,  a = alpha a + (1 - alpha) g,
 *                b = momentum b + g / (sqrt(v - a^2) + eps)                value -= lr b
 *     Adam       m = m + (1 - beta1) (g - m),  v = beta2 v + (1 - beta2) g^2
 *                                                                          value -= rate m / (sqrt(v) inverse_root + eps)
 *
 * Without decay the values do not enter: 0 times inf would be nan. The states have the precision that is computed with. `scale_at`
 * is where the factor of gradient clipping is, on the device, so that nobody waits for it; null for 1. All are limited by memory. */
#include "runtime/device.cuh"

/* As many numbers as a pack has, in the precision of the states. */
struct __align__(16) state_pack {
    real at[PACK];
};

MINIDL_INLINE bool all_aligned(const void *a, const void *b, const void *c, const void *d, const void *e) {
    return aligned(a) && aligned(b) && aligned(c) && aligned(d) && aligned(e); /* null is */
}

/* value = step(value, grad, first, second, third) for each element; a state that is null is passed as 0 and not written. */
template <class Step>
MINIDL_INLINE void update(stored *value, const stored *grad, real *first, real *second, real *third, size n, Step step) {
    const Share share = of_grid();
    const size packs = all_aligned(value, grad, first, second, third) ? n / PACK : 0;
    for (size i = share.first; i < packs; i += share.step) {
        pack values = ((const pack *)value)[i];
        const pack grads = ((const pack *)grad)[i];
        state_pack a = {}, b = {}, c = {};
        if (first) a = ((const state_pack *)first)[i];
        if (second) b = ((const state_pack *)second)[i];
        if (third) c = ((const state_pack *)third)[i];
        MINIDL_UNROLL
        for (int j = 0; j < PACK; j++) {
            values.at[j] = narrow(step(widen(values.at[j]), widen(grads.at[j]), a.at[j], b.at[j], c.at[j]));
        }
        ((pack *)value)[i] = values;
        if (first) ((state_pack *)first)[i] = a;
        if (second) ((state_pack *)second)[i] = b;
        if (third) ((state_pack *)third)[i] = c;
    }
    for (size i = packs * PACK + share.first; i < n; i += share.step) {
        real a = first ? first[i] : 0, b = second ? second[i] : 0, c = third ? third[i] : 0;
        value[i] = narrow(step(widen(value[i]), widen(grad[i]), a, b, c));
        if (first) first[i] = a;
        if (second) second[i] = b;
        if (third) third[i] = c;
    }
}

/* The gradient, scaled, with the weight decay in it. */
MINIDL_INLINE real decayed(real g, real scale, real value, real decay) {
    g *= scale;
    return decay != 0 ? g + decay * value : g;
}

extern "C" __global__ void sgd_update(stored *value, const stored *grad, real *buffer, size n, real lr, real momentum, real fresh,
                                      real decay, real scale, const real *scale_at, bool first_step, bool nesterov) {
    if (scale_at) scale *= *scale_at;
    update(value, grad, buffer, nullptr, nullptr, n, [=](real v, real g, real &b, real &, real &) {
        g = decayed(g, scale, v, decay);
        if (!buffer) return v - lr * g;
        b = first_step ? g : momentum * b + fresh * g;
        return v - lr * (nesterov ? g + momentum * b : b);
    });
}

extern "C" __global__ void adagrad_update(stored *value, const stored *grad, real *square_sum, size n, real lr, real eps,
                                          real decay, real scale, const real *scale_at) {
    if (scale_at) scale *= *scale_at;
    update(value, grad, square_sum, nullptr, nullptr, n, [=](real v, real g, real &sum, real &, real &) {
        g = decayed(g, scale, v, decay);
        sum += g * g;
        return v - lr * g / (sqrt(sum) + eps);
    });
}

extern "C" __global__ void rmsprop_update(stored *value, const stored *grad, real *square_average, real *grad_average,
                                          real *buffer, size n, real lr, real alpha, real rest, real eps, real momentum,
                                          real decay, real scale, const real *scale_at) {
    if (scale_at) scale *= *scale_at;
    update(value, grad, square_average, grad_average, buffer, n, [=](real v, real g, real &square, real &average, real &b) {
        g = decayed(g, scale, v, decay);
        square = alpha * square + rest * (g * g);
        real variance = square;
        if (grad_average) {
            average = alpha * average + rest * g;
            variance = REAL(most)(square - average * average, 0); /* rounding may leave it below zero */
        }
        const real step = g / (sqrt(variance) + eps);
        if (!buffer) return v - lr * step;
        b = momentum * b + step;
        return v - lr * b;
    });
}

/* shrink = 1 - lr weight_decay with decoupled decay, else 1. v_max is null but for AMSGrad. */
extern "C" __global__ void adam_update(stored *value, const stored *grad, real *m, real *v, real *v_max, size n, real rate,
                                       real inverse_root, real rest1, real beta2, real rest2, real eps, real shrink, real decay,
                                       real scale, const real *scale_at) {
    if (scale_at) scale *= *scale_at;
    update(value, grad, m, v, v_max, n, [=](real old, real g, real &mean, real &square, real &top) {
        old *= shrink;
        g = decayed(g, scale, old, decay);
        mean += rest1 * (g - mean);
        square = beta2 * square + rest2 * (g * g);
        if (v_max) top = REAL(select)(REAL(beats)(top, square), top, square); /* a nan in either stays */
        return old - rate * mean / (sqrt(v_max ? top : square) * inverse_root + eps);
    });
}
