/* The loops of updates.h, in the terms of vector/loops.inc.h, and their table. */
#include "update/updates.h"

/* The gradient, scaled, with the weight decay in it. Without decay, values do not enter: 0 times inf would be nan. */
MINIDL_INLINE VEC REAL(decayed)(VEC g, real scale, VEC value, real decay) {
    g = g * scale; /* by 1 where nothing is clipped, which is exact, and memory is the limit */
    if (decay != 0) g = g + decay * value;
    return g;
}

static void REAL(sgd)(real *value, const real *grad, real *buffer, ptrdiff_t n, const minidl_settings *s) {
    const VEC lr = SPLAT(s->lr), momentum = SPLAT(s->momentum), fresh = SPLAT(1.0 - s->dampening);
    const real scale = (real)s->grad_scale, decay = (real)s->weight_decay;
    if (buffer == NULL || s->momentum == 0) {
        EACH_VECTOR(n, {
            const VEC v = GET(value);
            PUT(value, v - lr * REAL(decayed)(GET(grad), scale, v, decay));
        });
        return;
    }
    EACH_VECTOR(n, {
        const VEC v = GET(value);
        const VEC g = REAL(decayed)(GET(grad), scale, v, decay);
        VEC b = g;
        if (!s->first_step) b = momentum * GET(buffer) + fresh * g;
        PUT(buffer, b);
        if (s->nesterov) b = g + momentum * b;
        PUT(value, v - lr * b);
    });
}

static void REAL(adagrad)(real *value, const real *grad, real *square_sum, ptrdiff_t n, const minidl_settings *s) {
    const VEC lr = SPLAT(s->lr / (1.0 + (double)(s->step - 1) * s->lr_decay));
    const VEC eps = SPLAT(s->eps);
    const real scale = (real)s->grad_scale, decay = (real)s->weight_decay;
    EACH_VECTOR(n, {
        const VEC v = GET(value);
        const VEC g = REAL(decayed)(GET(grad), scale, v, decay);
        const VEC sum = GET(square_sum) + g * g;
        PUT(square_sum, sum);
        PUT(value, v - lr * g / (REAL(square_root)(sum) + eps));
    });
}

static void REAL(rmsprop)(real *value, const real *grad, real *square_average, real *grad_average, real *buffer,
                          ptrdiff_t n, const minidl_settings *s) {
    const VEC lr = SPLAT(s->lr), alpha = SPLAT(s->alpha), rest = SPLAT(1.0 - s->alpha), eps = SPLAT(s->eps);
    const VEC momentum = SPLAT(s->momentum);
    const real scale = (real)s->grad_scale, decay = (real)s->weight_decay;
    EACH_VECTOR(n, {
        const VEC v = GET(value);
        const VEC g = REAL(decayed)(GET(grad), scale, v, decay);
        const VEC square = alpha * GET(square_average) + rest * (g * g);
        PUT(square_average, square);
        VEC variance = square;
        if (grad_average != NULL) {
            const VEC average = alpha * GET(grad_average) + rest * g;
            PUT(grad_average, average);
            variance = REAL(most)(square - average * average, SPLAT(0)); /* rounding may leave it below zero */
        }
        VEC step = g / (REAL(square_root)(variance) + eps);
        if (buffer != NULL) {
            step = momentum * GET(buffer) + step;
            PUT(buffer, step);
        }
        PUT(value, v - lr * step);
    });
}

static void REAL(adam)(real *value, const real *grad, real *m, real *v, real *v_max, ptrdiff_t n,
                       const minidl_settings *s) {
    const VEC beta2 = SPLAT(s->beta2), rest1 = SPLAT(1.0 - s->beta1), rest2 = SPLAT(1.0 - s->beta2), eps = SPLAT(s->eps);
    const VEC rate = SPLAT(s->lr / (1.0 - pow(s->beta1, (double)s->step)));
    const VEC inverse_root = SPLAT(1.0 / sqrt(1.0 - pow(s->beta2, (double)s->step)));
    const VEC shrink = SPLAT(s->decoupled ? 1.0 - s->lr * s->weight_decay : 1.0);
    const real scale = (real)s->grad_scale, decay = s->decoupled ? (real)0 : (real)s->weight_decay;
    EACH_VECTOR(n, {
        const VEC old = GET(value) * shrink;
        const VEC g = REAL(decayed)(GET(grad), scale, old, decay);
        const VEC mean = GET(m);
        const VEC first = mean + rest1 * (g - mean);
        VEC second = beta2 * GET(v) + rest2 * (g * g);
        PUT(m, first);
        PUT(v, second);
        if (v_max != NULL) {
            const VEC top = GET(v_max);
            second = REAL(select)(REAL(beats)(top, second), top, second); /* a nan in either stays */
            PUT(v_max, second);
        }
        PUT(value, old - rate * first / (REAL(square_root)(second) * inverse_root + eps));
    });
}

const REAL(minidl_updates) TABLE(minidl_updates) = {
    .sgd = REAL(sgd),
    .adagrad = REAL(adagrad),
    .rmsprop = REAL(rmsprop),
    .adam = REAL(adam),
};
