/* Activations, forward and backward; part of kernels.inc.h. `first` and `second` are the settings, as vectors. */

#define FORWARD(name, expression)                                                                                           \
    static void REAL(name##_forward)(const real *from, real *to, ptrdiff_t n, const void *settings) {                      \
        const VEC first = SPLAT(((const real *)settings)[0]), second = SPLAT(((const real *)settings)[1]);                 \
        (void)first;                                                                                                       \
        (void)second;                                                                                                      \
        EACH_VECTOR(n, { const VEC x = GET(from); PUT(to, expression); });                                                 \
    }
/* `g` is the upstream gradient, `x` what the forward kept. */
#define BACKWARD(name, expression)                                                                                          \
    static void REAL(name##_backward)(const real *dy, const real *saved, real *dx, ptrdiff_t n, const void *settings) {    \
        const VEC first = SPLAT(((const real *)settings)[0]), second = SPLAT(((const real *)settings)[1]);                 \
        (void)first;                                                                                                       \
        (void)second;                                                                                                      \
        EACH_VECTOR(n, { const VEC g = GET(dy); const VEC x = GET(saved); PUT(dx, expression); });                         \
    }

FORWARD(relu, REAL(relu)(x))
BACKWARD(relu, REAL(select)(REAL(less)(SPLAT(0), x), g, SPLAT(0)))
FORWARD(relu6, REAL(least)(REAL(relu)(x), SPLAT(6)))
BACKWARD(relu6, REAL(select)(REAL(less)(SPLAT(0), x), REAL(select)(REAL(less)(x, SPLAT(6)), g, SPLAT(0)), SPLAT(0)))
FORWARD(leaky_relu, REAL(leaky_relu)(x, first))
BACKWARD(leaky_relu, REAL(select)(REAL(less)(SPLAT(0), x), g, g * first))
FORWARD(sigmoid, REAL(sigmoid)(x))
BACKWARD(sigmoid, g * (x * (SPLAT(1) - x)))
FORWARD(tanh, REAL(hyperbolic_tangent)(x))
BACKWARD(tanh, g * (SPLAT(1) - x * x))
FORWARD(softplus, REAL(softplus)(x, first, second))
BACKWARD(softplus, g * REAL(softplus_slope)(x, first, second))
FORWARD(elu, REAL(elu)(x, first))
BACKWARD(elu, g * REAL(elu_slope)(x, first))
FORWARD(gelu, REAL(gelu)(x))
BACKWARD(gelu, g * REAL(gelu_slope)(x))
FORWARD(gelu_tanh, REAL(gelu_tanh)(x))
BACKWARD(gelu_tanh, g * REAL(gelu_tanh_slope)(x))
FORWARD(silu, REAL(silu)(x))
BACKWARD(silu, g * REAL(silu_slope)(x))
BACKWARD(dropout, g * x) /* x is the scaled mask */
FORWARD(exp, REAL(exponential)(x))
FORWARD(log, REAL(logarithm)(x))
FORWARD(erf, REAL(error_function)(x))

/* y = x scale, scale = factor where an element is kept and 0 elsewhere: where the uniform number is p or more, or the mask says
 * so; one of the two is NULL. */
static void REAL(dropout)(const real *x, const float *uniform, const unsigned char *mask, float p, double factor, real *scale,
                          real *y, ptrdiff_t n) {
    const real kept = (real)factor;
    if (uniform != NULL)
        for (ptrdiff_t i = 0; i < n; i++) scale[i] = uniform[i] >= p ? kept : (real)0;
    else
        for (ptrdiff_t i = 0; i < n; i++) scale[i] = mask[i] ? kept : (real)0;
    EACH_VECTOR(n, PUT(y, GET(x) * GET(scale)););
}
