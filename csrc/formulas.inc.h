/* The formulas for one precision; formulas.h includes this twice, with `real` and its constants defined. */

MINIDL_FORMULA bits_t REAL(to_bits)(real x) {
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
    union { real value; bits_t bits; } u;
    u.value = x;
    return u.bits;
#else
    bits_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
#endif
}

MINIDL_FORMULA real REAL(from_bits)(bits_t bits) {
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
    union { bits_t bits; real value; } u;
    u.bits = bits;
    return u.value;
#else
    real x;
    memcpy(&x, &bits, sizeof x);
    return x;
#endif
}

MINIDL_FORMULA real REAL(absolute)(real x) { return REAL(from_bits)(REAL(to_bits)(x) & ((bits_t)-1 >> 1)); }

MINIDL_FORMULA real REAL(with_sign_of)(real x, real sign) {
    return REAL(from_bits)(REAL(to_bits)(x) | (REAL(to_bits)(sign) & ~((bits_t)-1 >> 1)));
}

/* exp(x) = 2^n exp(r), n the nearest integer to x / ln 2, r = x - n ln 2 in two parts, |r| <= ln(2) / 2. The factor 2^n is
 * applied in two halves, so that results below the normal range come out right, and overflow gives inf. */
MINIDL_FORMULA real REAL(exponential)(real x) {
    x = x < (real)EXP_LOWEST ? (real)EXP_LOWEST : x; /* nan passes: a comparison with it is false */
    x = x > (real)EXP_HIGHEST ? (real)EXP_HIGHEST : x;
    const real shifted = MADD(x, (real)LOG2E, (real)ROUNDING);
    const real n = shifted - (real)ROUNDING;
    const real r = MADD(n, (real)-LN2_LOW, MADD(n, (real)-LN2_HIGH, x));
    const real p = MADD(POLYNOMIAL(exp)(r), r * r, r) + (real)1;
    const bits_t power = REAL(to_bits)(shifted) - REAL(to_bits)((real)ROUNDING) + 4 * BIAS; /* n, made positive */
    const bits_t half = power >> 1;
    const real first = REAL(from_bits)((half - BIAS) << MANTISSA);
    const real second = REAL(from_bits)((power - half - BIAS) << MANTISSA);
    return p * first * second;
}

/* exp(x) - 1 for x <= 0, with all digits near 0. */
MINIDL_FORMULA real REAL(exponential_less_one)(real x) {
    const real near = MADD(POLYNOMIAL(expm1)(x), x * x, x);
    const real far = REAL(exponential)(x) - (real)1;
    return x > (real)-0.5 ? near : far;
}

/* log(1 + e) = 2 atanh(e / (2 + e)) for 0 <= e <= 1. */
MINIDL_FORMULA real REAL(log_of_one_plus)(real e) {
    const real s = e / ((real)2 + e);
    const real square = s * s;
    const real twice = s + s;
    return MADD(POLYNOMIAL(atanh)(square), square * twice, twice);
}

/* With e = exp(-|x|) and q = e / (1 + e): sigmoid(-|x|) = q, written e - e q because the error of the quotient then counts
 * only by a fraction, and sigmoid(|x|) = 1 - q. */
MINIDL_FORMULA real REAL(sigmoid)(real x) {
    const real e = REAL(exponential)(-REAL(absolute)(x));
    const real q = e / ((real)1 + e);
    const real low = MADD(-e, q, e), high = (real)1 - q;
    return x < (real)0 ? low : high;
}

/* x + x^3 p(x^2) near 0, 1 - 2 / (exp(2 |x|) + 1) elsewhere, with the sign of x. */
MINIDL_FORMULA real REAL(hyperbolic_tangent)(real x) {
    const real size = REAL(absolute)(x);
    const real square = x * x;
    const real near = MADD(POLYNOMIAL(tanh)(square), square * size, size);
    const real far = (real)1 - (real)2 / (REAL(exponential)(size + size) + (real)1);
    return REAL(with_sign_of)(size < (real)0.625 ? near : far, x);
}

/* The normal distribution: Phi(x), and phi(x) times sqrt(2 pi), from one exponential.
 * With z = |x| / sqrt 2: Phi(-|x|) = erfc(z) / 2 = exp(-z^2) g(t) / (2 (1 + z)), t = (z - 2) / (z + 2), with one division for
 * both quotients. Where products are fused, the rounding error of x^2 / 2, which the exponential would magnify, is put right
 * to first order. */
MINIDL_FORMULA void REAL(normal)(real x, real *distribution, real *density) {
    const real size = REAL(absolute)(x) > (real)60 ? (real)60 : REAL(absolute)(x);
    const real half = size * (real)0.5;
    const real square = size * half;
    const real rest = MADD(size, half, -square); /* 0 where products are not fused */
    const real e = REAL(exponential)(-square);
    const real gauss = MADD(-e, rest, e);
    const real z = size * (real)0.70710678118654752440;
    const real one = (real)1 + z, two = (real)2 + z;
    const real inverse = (real)1 / (one * two);
    const real t = (z - (real)2) * (one * inverse);
    const real tail = (gauss * (real)0.5) * POLYNOMIAL(erfc)(t) * (two * inverse);
    *distribution = x < (real)0 ? tail : (real)1 - tail;
    *density = gauss;
}

MINIDL_FORMULA real REAL(gelu)(real x) {
    real distribution, density;
    REAL(normal)(x, &distribution, &density);
    return x * distribution;
}

/* f' = Phi(x) + x phi(x) */
MINIDL_FORMULA real REAL(gelu_slope)(real x) {
    real distribution, density;
    REAL(normal)(x, &distribution, &density);
    return MADD(x * density, (real)0.39894228040143267794, distribution);
}

/* u and u' of the tanh approximation; beyond |x| = 50 the gate is 0 or 1 whatever u is. */
MINIDL_FORMULA real REAL(gelu_gate)(real x, real *slope) {
    const real cut = x > (real)50 ? (real)50 : x < (real)-50 ? (real)-50 : x;
    const real square = cut * cut;
    *slope = (real)0.79788456080286535588 * MADD(square, (real)(3 * 0.044715), (real)1);
    return (real)0.79788456080286535588 * cut * MADD(square, (real)0.044715, (real)1);
}

MINIDL_FORMULA real REAL(gelu_tanh)(real x) {
    real slope;
    return x * REAL(sigmoid)((real)2 * REAL(gelu_gate)(x, &slope));
}

/* f' = s + x s (1 - s) 2 u', s = sigmoid(2 u) */
MINIDL_FORMULA real REAL(gelu_tanh_slope)(real x) {
    real slope;
    const real s = REAL(sigmoid)((real)2 * REAL(gelu_gate)(x, &slope));
    return MADD(x * (s * ((real)1 - s)), (real)2 * slope, s);
}

/* f' = s (1 + x (1 - s)), s = sigmoid(x) */
MINIDL_FORMULA real REAL(silu_slope)(real x) {
    const real s = REAL(sigmoid)(x);
    return s * MADD(x, (real)1 - s, (real)1);
}

MINIDL_FORMULA real REAL(softplus)(real x, real beta, real threshold) {
    const real scaled = x * beta;
    const real positive = scaled > (real)0 ? scaled : scaled != scaled ? scaled : (real)0;
    const real smooth = (positive + REAL(log_of_one_plus)(REAL(exponential)(-REAL(absolute)(scaled)))) / beta;
    return scaled > threshold ? x : smooth;
}

MINIDL_FORMULA real REAL(softplus_slope)(real x, real beta, real threshold) {
    const real scaled = x * beta;
    return scaled > threshold ? (real)1 : REAL(sigmoid)(scaled);
}

MINIDL_FORMULA real REAL(elu)(real x, real alpha) {
    return x > (real)0 ? x : REAL(exponential_less_one)(x) * alpha;
}

MINIDL_FORMULA real REAL(elu_slope)(real x, real alpha) {
    const real e = REAL(exponential)(x) * alpha;
    return x > (real)0 ? (real)1 : e;
}
