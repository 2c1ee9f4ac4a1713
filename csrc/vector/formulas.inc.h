/* The formulas for one precision; formulas.h includes this twice, with `real`, REAL, COEFFICIENTS and the constants of the
 * precision defined. The end of this file takes all of them away again. */

#define VEC REAL(vec)
#define MASK REAL(mask)
#define SPLAT(c) REAL(splat)((real)(c))
#define MADD REAL(madd)
#define SELECT REAL(select)
#define LESS REAL(less)

MINIDL_INLINE VEC REAL(polynomial)(VEC x, const real *coefficients, int degree) {
    VEC sum = SPLAT(coefficients[degree]);
    MINIDL_UNROLL
    for (int i = degree - 1; i >= 0; i--) sum = MADD(sum, x, SPLAT(coefficients[i]));
    return sum;
}

/* With a leading coefficient of 1, which is in the list too. */
MINIDL_INLINE VEC REAL(monic_polynomial)(VEC x, const real *coefficients, int degree) {
    VEC sum = x + SPLAT(coefficients[degree - 1]);
    MINIDL_UNROLL
    for (int i = degree - 2; i >= 0; i--) sum = MADD(sum, x, SPLAT(coefficients[i]));
    return sum;
}

#define POLYNOMIAL(name, x) REAL(name##_polynomial)(x)
#define DEFINE_POLYNOMIAL(name, kind)                                                                                       \
    MINIDL_INLINE VEC REAL(name##_polynomial)(VEC x) {                                                                     \
        const real coefficients[] = COEFFICIENTS(name);                                                                    \
        return REAL(kind)(x, coefficients, (int)(sizeof coefficients / sizeof *coefficients) - 1);                         \
    }
DEFINE_POLYNOMIAL(EXP, polynomial)
DEFINE_POLYNOMIAL(LOG, polynomial)
DEFINE_POLYNOMIAL(ATANH, polynomial)
DEFINE_POLYNOMIAL(ERF, polynomial)
DEFINE_POLYNOMIAL(EXP2, polynomial)
DEFINE_POLYNOMIAL(TAIL_ABOVE, polynomial)
DEFINE_POLYNOMIAL(TAIL_BELOW, monic_polynomial)

/* Exponentials: x = n ln 2 + r with n the integer nearest to x / ln 2, so |r| <= ln(2) / 2 and exp(x) = 2^n exp(r). ln 2 is
 * taken in two parts, so that r keeps its digits. */

MINIDL_INLINE VEC REAL(reduced)(VEC x, VEC n) { return MADD(n, SPLAT(-LN2_LOW), MADD(n, SPLAT(-LN2_HIGH), x)); }

/* exp(r) - 1 */
MINIDL_INLINE VEC REAL(small_exponential)(VEC r) { return MADD(POLYNOMIAL(EXP, r), r * r, r); }

/* exp(x) where x is neither too large nor too small, or nan. */
MINIDL_INLINE VEC REAL(bounded_exponential)(VEC x) {
    const VEC n = REAL(nearest)(x * SPLAT(LOG2E));
    return REAL(scale)(REAL(small_exponential)(REAL(reduced)(x, n)) + SPLAT(1), n);
}

MINIDL_INLINE VEC REAL(exponential)(VEC x) {
    return REAL(bounded_exponential)(REAL(least)(REAL(most)(x, SPLAT(LOWEST)), SPLAT(HIGHEST)));
}

/* exp(x) for x <= 0 */
MINIDL_INLINE VEC REAL(decay)(VEC x) { return REAL(bounded_exponential)(REAL(most)(x, SPLAT(LOWEST))); }

/* exp(x), and exp(x) - 1 with all of its digits, for x <= 0. Up to ln(2) / 2 from 0, n is 0 and the latter exp(r) - 1. */
MINIDL_INLINE VEC REAL(decay_and_less_one)(VEC x, VEC *less_one) {
    const VEC cut = REAL(most)(x, SPLAT(LOWEST));
    const VEC n = REAL(nearest)(cut * SPLAT(LOG2E));
    const VEC small = REAL(small_exponential)(REAL(reduced)(cut, n));
    const VEC e = REAL(scale)(small + SPLAT(1), n);
    *less_one = SELECT(LESS(cut, SPLAT(-0.34)), e - SPLAT(1), small);
    return e;
}

/* exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), for x <= 0 of moderate size; with n = 0 near 0, so no digits cancel. */
MINIDL_INLINE VEC REAL(bounded_less_one)(VEC x) {
    const VEC n = REAL(nearest)(x * SPLAT(LOG2E));
    const VEC power = REAL(power_of_two)(n);
    return MADD(power, REAL(small_exponential)(REAL(reduced)(x, n)), power - SPLAT(1));
}

/* log(x) = e ln 2 + log(m), x = 2^e m, m from sqrt(1/2) to sqrt 2. */
MINIDL_INLINE VEC REAL(logarithm)(VEC x) {
    const MASK subnormal = LESS(x, SPLAT(SMALLEST_NORMAL));
    const VEC normal = SELECT(subnormal, x * SPLAT(SUBNORMAL_SCALE), x);
    const VEC m = REAL(mantissa)(normal);
    const MASK upper = LESS(SPLAT(1.41421356237309504880), m);
    const VEC f = SELECT(upper, m * SPLAT(0.5), m) - SPLAT(1);
    const VEC shift = SELECT(subnormal, SPLAT(-BIAS - SUBNORMAL_STEPS), SPLAT(-BIAS));
    const VEC e = REAL(exponent_field)(normal) + (shift + SELECT(upper, SPLAT(1), SPLAT(0)));
    const VEC square = f * f;
    const VEC rest = MADD(POLYNOMIAL(LOG, f) * f, square, MADD(square, SPLAT(-0.5), e * SPLAT(LN2_LOW)));
    VEC y = MADD(e, SPLAT(LN2_HIGH), f + rest);
    y = SELECT(LESS(x, SPLAT(MINIDL_INFINITY)), y, x); /* inf and nan */
    y = SELECT(LESS(x, SPLAT(0)), SPLAT(MINIDL_NAN), y);
    return SELECT(LESS(SPLAT(0), REAL(absolute)(x)), y, SELECT(LESS(x, SPLAT(1)), SPLAT(-MINIDL_INFINITY), x));
}

/* log(1 + e) = 2 atanh(e / (2 + e)) for 0 <= e <= 1 */
MINIDL_INLINE VEC REAL(log_of_one_plus)(VEC e) {
    const VEC sum = SPLAT(2) + e;
    const VEC s = REAL(quotient)(e, sum, e - (sum - SPLAT(2)));
    const VEC square = s * s;
    const VEC twice = s + s;
    return MADD(POLYNOMIAL(ATANH, square), square * twice, twice);
}

/* With e = exp(-|x|), which cannot overflow, and q = e / (1 + e): sigmoid(-|x|) = q, written e - e q because the error of the
 * quotient then counts only by a fraction, and sigmoid(|x|) = 1 - q. */
MINIDL_INLINE void REAL(sigmoids)(VEC e, VEC *small, VEC *large) {
    const VEC q = e / (SPLAT(1) + e);
    *small = MADD(-e, q, e);
    *large = SPLAT(1) - q;
}

MINIDL_INLINE VEC REAL(sigmoid)(VEC x) {
    VEC small, large;
    REAL(sigmoids)(REAL(decay)(-REAL(absolute)(x)), &small, &large);
    return SELECT(LESS(x, SPLAT(0)), small, large);
}

#if PIECES
/* A polynomial of t = x - middle, where the middle and the coefficients are those of a place in a table. */
MINIDL_INLINE VEC REAL(at_place)(const real table[][16], int rows, REAL(place) at, VEC x) {
    const VEC t = x - REAL(lookup)(table[0], at);
    VEC sum = REAL(lookup)(table[rows - 1], at);
    MINIDL_UNROLL
    for (int i = rows - 2; i > 0; i--) sum = MADD(sum, t, REAL(lookup)(table[i], at));
    return sum;
}
#define BY_PIECES(name, at, x) REAL(name##_by_pieces)(at, x)
#define DEFINE_PIECES(name)                                                                                                \
    MINIDL_INLINE VEC REAL(name##_by_pieces)(REAL(place) at, VEC x) {                                                      \
        static const real table[][16] = COEFFICIENTS(name##_PIECES);                                                       \
        return REAL(at_place)(table, (int)(sizeof table / sizeof *table), at, x);                                          \
    }
DEFINE_PIECES(TANH)
DEFINE_PIECES(TAIL)
DEFINE_PIECES(SLOPE)

MINIDL_INLINE VEC REAL(hyperbolic_tangent)(VEC x) {
    const VEC size = REAL(least)(REAL(absolute)(x), SPLAT(FLAT));
    return REAL(with_sign_of)(BY_PIECES(TANH, REAL(place_of)(size + SPLAT(1)), size), x);
}
#else
/* With m = exp(-2 |x|) - 1: tanh |x| = -m / (2 + m). */
MINIDL_INLINE VEC REAL(hyperbolic_tangent)(VEC x) {
    const VEC size = REAL(least)(REAL(absolute)(x), SPLAT(FLAT));
    const VEC m = REAL(bounded_less_one)(size * SPLAT(-2));
    const VEC sum = SPLAT(-2) - m;
    return REAL(with_sign_of)(REAL(quotient)(m, sum, (SPLAT(-2) - sum) - m), x);
}
#endif

/* 2^(r + n), |r| <= 1/2 */
MINIDL_INLINE VEC REAL(binary_exponential)(VEC r, VEC n) {
    return REAL(scale)(MADD(POLYNOMIAL(EXP2, r), r, SPLAT(1)), n);
}

/* The normal distribution's upper tail Q(a) = 2^(-k a^2) h(a), for 0 <= a <= FAR: both factors, with k = log2(e) / 2 as
 * rounded. The rounding error of a^2 is made up for, because the exponential would magnify it by the size of a^2. */
MINIDL_INLINE VEC REAL(normal_tail)(VEC a, VEC *ratio) {
    const VEC square = a * a;
    const VEC n = REAL(nearest)(square * SPLAT(-HALF_LOG2E));
    const VEC rest = REAL(fused)(a, a, -square);
    const VEC r = MADD(rest, SPLAT(-HALF_LOG2E), REAL(fused)(square, SPLAT(-HALF_LOG2E), -n));
    *ratio = POLYNOMIAL(TAIL_ABOVE, a) / POLYNOMIAL(TAIL_BELOW, a);
    return REAL(binary_exponential)(r, n);
}

MINIDL_INLINE VEC REAL(error_function)(VEC x) {
    const VEC size = REAL(absolute)(x);
    VEC ratio;
    const VEC gauss = REAL(normal_tail)(REAL(least)(size * SPLAT(1.41421356237309504880), SPLAT(FAR)), &ratio);
    const VEC far = MADD(gauss * SPLAT(-2), ratio, SPLAT(1));
    const VEC near = MADD(POLYNOMIAL(ERF, size * size), size, size);
    return REAL(with_sign_of)(SELECT(LESS(size, SPLAT(1)), near, far), x);
}

/* x Phi(x) = max(x, 0) - |x| Q(|x|). At -inf the product is 0 inf = nan, at inf it must be 0: what multiplies Q there is cut. */
MINIDL_INLINE VEC REAL(gelu_anywhere)(VEC x) {
    const VEC a = REAL(least)(REAL(absolute)(x), SPLAT(FAR));
    VEC ratio;
    const VEC gauss = REAL(normal_tail)(a, &ratio);
    return MADD(-REAL(most)(-x, a), gauss * ratio, REAL(most)(x, SPLAT(0)));
}

/* f'(x) = Phi(x) + x phi(x), and f'(-x) = 1 - f'(x) */
MINIDL_INLINE VEC REAL(gelu_slope_anywhere)(VEC x) {
    const VEC size = REAL(absolute)(x);
    VEC ratio;
    const VEC gauss = REAL(normal_tail)(REAL(least)(size, SPLAT(FAR)), &ratio);
    const VEC below = gauss * MADD(size, SPLAT(-0.39894228040143267794), ratio);
    return SELECT(LESS(x, SPLAT(0)), below, SPLAT(1) - below);
}

/* Both again. Near 0, where nearly all x are, Q(a) and Q(a) - a phi(a) come in pieces and cost no exponential. */
#if PIECES
MINIDL_INLINE VEC REAL(gelu)(VEC x) {
    const VEC a = REAL(absolute)(x);
    const MASK near = LESS(a, SPLAT(NEAR));
    const VEC y = MADD(-a, BY_PIECES(TAIL, REAL(quarter_of)(a + SPLAT(4)), a), REAL(most)(x, SPLAT(0)));
    return REAL(all)(near) ? y : SELECT(near, y, REAL(gelu_anywhere)(x));
}

MINIDL_INLINE VEC REAL(gelu_slope)(VEC x) {
    const VEC a = REAL(absolute)(x);
    const MASK near = LESS(a, SPLAT(NEAR));
    const VEC below = BY_PIECES(SLOPE, REAL(quarter_of)(a + SPLAT(4)), a);
    const VEC slope = SELECT(LESS(x, SPLAT(0)), below, SPLAT(1) - below);
    return REAL(all)(near) ? slope : SELECT(near, slope, REAL(gelu_slope_anywhere)(x));
}
#else
MINIDL_INLINE VEC REAL(gelu)(VEC x) { return REAL(gelu_anywhere)(x); }
MINIDL_INLINE VEC REAL(gelu_slope)(VEC x) { return REAL(gelu_slope_anywhere)(x); }
#endif

/* The tanh approximation takes the gate s = sigmoid(2 u) = 1 / (1 + 2^t) for Phi, t = -2 log2(e) u a cubic in x. Beyond the cut,
 * 2^t is 0 or inf and the gate 0 or 1. */
#define GELU_RATE (2 * 0.79788456080286535588 * 1.44269504088896340736) /* 2 sqrt(2 / pi) log2(e) */
MINIDL_INLINE VEC REAL(gelu_gate)(VEC cut, VEC square) {
    const VEC t = cut * MADD(square, SPLAT(-GELU_RATE * 0.044715), SPLAT(-GELU_RATE));
    const VEC n = REAL(nearest)(t);
    return SPLAT(1) + REAL(binary_exponential)(t - n, n);
}

MINIDL_INLINE VEC REAL(gelu_tanh)(VEC x) {
    const VEC cut = REAL(most)(REAL(least)(x, SPLAT(GELU_CUT)), SPLAT(-GELU_CUT));
    return x / REAL(gelu_gate)(cut, cut * cut);
}

/* f' = s + x s (1 - s) 2 u', where s (1 - s) comes first: it is 0 for the largest x, whose product with u' would overflow. */
MINIDL_INLINE VEC REAL(gelu_tanh_slope)(VEC x) {
    const VEC cut = REAL(most)(REAL(least)(x, SPLAT(GELU_CUT)), SPLAT(-GELU_CUT));
    const VEC square = cut * cut;
    const VEC s = SPLAT(1) / REAL(gelu_gate)(cut, square);
    const VEC slope = MADD(square, SPLAT(2 * 0.79788456080286535588 * 3 * 0.044715), SPLAT(2 * 0.79788456080286535588));
    return MADD(x * (s * (SPLAT(1) - s)), slope, s);
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) */
MINIDL_INLINE VEC REAL(log_one_plus_exponential)(VEC x) {
    const VEC e = REAL(decay)(-REAL(absolute)(x));
    return REAL(most)(x, SPLAT(0)) + REAL(log_of_one_plus)(e);
}

/* The activations of elementwise/activation_list.h, and the functions.
 *
 *     FORWARD(name)           y = f(x)
 *     BACKWARD_FROM_X(name)   dx = g f'(x), from the upstream gradient g and x, where the list says that INPUT is kept
 *     BACKWARD_FROM_Y(name)   the same from y, where OUTPUT is kept
 *
 * `first` and `second` are the settings, as vectors. */
#define FORWARD(name) MINIDL_INLINE VEC REAL(name##_forward)(VEC x, MINIDL_UNUSED VEC first, MINIDL_UNUSED VEC second)
#define BACKWARD_FROM(kept, name)                                                                                          \
    MINIDL_INLINE VEC REAL(name##_backward)(VEC g, VEC kept, MINIDL_UNUSED VEC first, MINIDL_UNUSED VEC second)
#define BACKWARD_FROM_X(name) BACKWARD_FROM(x, name)
#define BACKWARD_FROM_Y(name) BACKWARD_FROM(y, name)

FORWARD(relu) { return REAL(most)(x, SPLAT(0)); }
BACKWARD_FROM_Y(relu) { return SELECT(LESS(SPLAT(0), y), g, SPLAT(0)); }

FORWARD(relu6) { return REAL(least)(REAL(most)(x, SPLAT(0)), SPLAT(6)); }
BACKWARD_FROM_Y(relu6) { return SELECT(LESS(SPLAT(0), y), SELECT(LESS(y, SPLAT(6)), g, SPLAT(0)), SPLAT(0)); }

FORWARD(leaky_relu) { return SELECT(LESS(SPLAT(0), x), x, x * first); } /* first: the slope below 0 */
BACKWARD_FROM_X(leaky_relu) { return SELECT(LESS(SPLAT(0), x), g, g * first); }

FORWARD(sigmoid) { return REAL(sigmoid)(x); }
BACKWARD_FROM_Y(sigmoid) { return g * (y * (SPLAT(1) - y)); }

FORWARD(tanh) { return REAL(hyperbolic_tangent)(x); }
BACKWARD_FROM_Y(tanh) { return g * (SPLAT(1) - y * y); }

FORWARD(softplus) { /* first: beta, second: the threshold */
    const VEC scaled = x * first;
    return SELECT(LESS(second, scaled), x, REAL(log_one_plus_exponential)(scaled) / first);
}
BACKWARD_FROM_X(softplus) {
    const VEC scaled = x * first;
    return g * SELECT(LESS(second, scaled), SPLAT(1), REAL(sigmoid)(scaled));
}

FORWARD(elu) { /* first: alpha */
    const VEC below = REAL(least)(REAL(most)(x, SPLAT(TINY)), SPLAT(0));
    return SELECT(LESS(SPLAT(0), x), x, REAL(bounded_less_one)(below) * first);
}
BACKWARD_FROM_X(elu) {
    return g * SELECT(LESS(SPLAT(0), x), SPLAT(1), REAL(decay)(REAL(least)(x, SPLAT(0))) * first);
}

FORWARD(gelu) { return REAL(gelu)(x); }
BACKWARD_FROM_X(gelu) { return g * REAL(gelu_slope)(x); }

FORWARD(gelu_tanh) { return REAL(gelu_tanh)(x); }
BACKWARD_FROM_X(gelu_tanh) { return g * REAL(gelu_tanh_slope)(x); }

FORWARD(silu) { return x * REAL(sigmoid)(x); }
BACKWARD_FROM_X(silu) { /* f' = s (1 + x (1 - s)), s = sigmoid(x) */
    const VEC s = REAL(sigmoid)(x);
    return g * (s * MADD(x, SPLAT(1) - s, SPLAT(1)));
}

/* Beyond 1000 the gate is 0 or 1 whatever u is. */
MINIDL_INLINE VEC REAL(quick_inner)(VEC x) {
    return SPLAT(1.702) * REAL(least)(REAL(most)(x, SPLAT(-1000)), SPLAT(1000));
}
FORWARD(quick_gelu) { return x * REAL(sigmoid)(REAL(quick_inner)(x)); }
BACKWARD_FROM_X(quick_gelu) { /* f' = s (1 + u (1 - s)), u = 1.702 x, s = sigmoid(u) */
    const VEC u = REAL(quick_inner)(x), s = REAL(sigmoid)(u);
    return g * (s * MADD(u, SPLAT(1) - s, SPLAT(1)));
}

MINIDL_INLINE VEC REAL(hard_gate)(VEC x) {
    return REAL(least)(REAL(most)(x + SPLAT(3), SPLAT(0)), SPLAT(6)) * SPLAT(1.0 / 6);
}
FORWARD(hardswish) { return x * REAL(hard_gate)(x); }
BACKWARD_FROM_X(hardswish) {
    return g * (REAL(hard_gate)(x) + SELECT(LESS(REAL(absolute)(x), SPLAT(3)), x * SPLAT(1.0 / 6), SPLAT(0)));
}

FORWARD(hardsigmoid) { return REAL(hard_gate)(x); }
BACKWARD_FROM_X(hardsigmoid) { return SELECT(LESS(REAL(absolute)(x), SPLAT(3)), g * SPLAT(1.0 / 6), SPLAT(0)); }

/* first and second: the bounds */
FORWARD(hardtanh) { return REAL(least)(REAL(most)(x, first), second); }
BACKWARD_FROM_X(hardtanh) { return SELECT(LESS(first, x), SELECT(LESS(x, second), g, SPLAT(0)), SPLAT(0)); }

FORWARD(softsign) { return x / (SPLAT(1) + REAL(absolute)(x)); }
BACKWARD_FROM_X(softsign) { /* divided twice: the square could overflow */
    const VEC below = SPLAT(1) + REAL(absolute)(x);
    return g / below / below;
}

/* The gate tanh(log(1 + exp(x))) is a fraction of polynomials in exp(x). With e = exp(-|x|), which cannot overflow, multiplied or not
 * by e^2, its denominator is (1 + e)^2 + 1 for negative x and (1 + e)^2 + e^2 for others, and no terms cancel. */
MINIDL_INLINE VEC REAL(mish_gate)(VEC x, VEC *slope) {
    const VEC e = REAL(decay)(-REAL(absolute)(x)), square = e * e, sum = SPLAT(1) + e;
    const MASK left = LESS(x, SPLAT(0));
    const VEC inverse = SPLAT(1) / MADD(sum, sum, SELECT(left, SPLAT(1), square));
    *slope = SPLAT(4) * sum * SELECT(left, e, square) * (inverse * inverse);
    return SELECT(left, e * (SPLAT(2) + e), SPLAT(1) + (e + e)) * inverse;
}
FORWARD(mish) {
    VEC slope;
    return x * REAL(mish_gate)(x, &slope);
}
BACKWARD_FROM_X(mish) {
    VEC slope;
    const VEC gate = REAL(mish_gate)(x, &slope);
    return g * MADD(x, slope, gate);
}

#define SELU_SCALE 1.0507009873554804934
#define SELU_ALPHA 1.6732632423543772848
FORWARD(selu) {
    const VEC below = REAL(least)(REAL(most)(x, SPLAT(TINY)), SPLAT(0));
    return SELECT(LESS(SPLAT(0), x), x, REAL(bounded_less_one)(below) * SPLAT(SELU_ALPHA)) * SPLAT(SELU_SCALE);
}
BACKWARD_FROM_X(selu) {
    const VEC below = REAL(decay)(REAL(least)(x, SPLAT(0))) * SPLAT(SELU_ALPHA);
    return g * (SELECT(LESS(SPLAT(0), x), SPLAT(1), below) * SPLAT(SELU_SCALE));
}
#undef SELU_SCALE
#undef SELU_ALPHA

FORWARD(celu) { /* first: alpha */
    const VEC below = REAL(least)(REAL(most)(x / first, SPLAT(TINY)), SPLAT(0));
    return SELECT(LESS(SPLAT(0), x), x, REAL(bounded_less_one)(below) * first);
}
BACKWARD_FROM_X(celu) { return g * SELECT(LESS(SPLAT(0), x), SPLAT(1), REAL(decay)(REAL(least)(x / first, SPLAT(0)))); }

FORWARD(exp) { return REAL(exponential)(x); }
FORWARD(log) { return REAL(logarithm)(x); }
FORWARD(erf) { return REAL(error_function)(x); }

#undef FORWARD
#undef BACKWARD_FROM
#undef BACKWARD_FROM_X
#undef BACKWARD_FROM_Y
#undef PIECES
#undef NEAR
#undef BY_PIECES
#undef DEFINE_PIECES
#undef VEC
#undef MASK
#undef SPLAT
#undef MADD
#undef SELECT
#undef LESS
#undef POLYNOMIAL
#undef DEFINE_POLYNOMIAL
#undef real
#undef REAL
#undef COEFFICIENTS
#undef LOG2E
#undef LN2_HIGH
#undef LN2_LOW
#undef LOWEST
#undef HIGHEST
#undef FLAT
#undef TINY
#undef FAR
#undef HALF_LOG2E
#undef GELU_CUT
#undef GELU_RATE
#undef SMALLEST_NORMAL
#undef SUBNORMAL_STEPS
#undef SUBNORMAL_SCALE
#undef BIAS
