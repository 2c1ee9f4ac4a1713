/* The formulas of every activation, in float and in double, for C and for CUDA.
 *
 * Each is straight-line code in the terms of simd.h: no branches (only choices between two values), no calls into a library,
 * no tables in memory. So the same text is compiled for vectors of every width, and, with vectors of one number, for a GPU; tanh
 * alone has a second text, for processors that look numbers up in a register. The
 * polynomials are minimax, printed by fit_polynomials.py; the errors of the results are in docs/vector_math.md.
 */
#ifndef MINIDL_FORMULAS_H
#define MINIDL_FORMULAS_H

#include "simd.h"

/* Loops over coefficients are unrolled whole, so that the coefficients become constants. */
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define MINIDL_UNROLL _Pragma("unroll")
#elif defined(__clang__)
#define MINIDL_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define MINIDL_UNROLL _Pragma("GCC unroll 32")
#else
#define MINIDL_UNROLL
#endif

/* exp(r) - 1 = r + r^2 p(r), |error| <= 1.3e-08 of it on [-0.3466, 0.3466] */
#define MINIDL_EXP_F32 {4.999999816e-1f, 1.666654367e-1f, 4.166719963e-2f, 8.36651394e-3f, 1.38825236e-3f}
/* 2^r = 1 + r p(r), |error| <= 2.0e-09 of it on [-0.5, 0.5] */
#define MINIDL_EXP2_F32                                                                                                    \
    {6.931472029e-1f, 2.402264791e-1f, 5.550332471e-2f, 9.618437358e-3f, 1.33988744e-3f, 1.535336156e-4f}
/* log(1 + f) = f - f^2/2 + f^3 p(f), |error| <= 5.8e-09 of it on [-0.2929, 0.4142] */
#define MINIDL_LOG_F32                                                                                                     \
    {3.333333171e-1f, -2.500082099e-1f, 2.000122702e-1f, -1.662335825e-1f, 1.420175392e-1f, -1.316017254e-1f,              \
     1.276160671e-1f, -7.634556426e-2f}
/* atanh(s) = s + s^3 p(s^2), |error| <= 4.5e-09 of it on [1e-12, 0.1111] */
#define MINIDL_ATANH_F32 {3.333320814e-1f, 2.001076363e-1f, 1.400090247e-1f, 1.400599415e-1f}
/* erf(x) = x + x p(x^2), |error| <= 4.0e-08 of it on [1e-12, 1] */
#define MINIDL_ERF_F32                                                                                                     \
    {1.283791225e-1f, -3.761232619e-1f, 1.128018012e-1f, -2.671131144e-2f, 4.917551549e-3f, -5.631422607e-4f}
/* Q(a) = 2^(-k a^2) p(a) / q(a), |error| <= 7.9e-09 of it on [0, 14.5] */
#define MINIDL_TAIL_ABOVE_F32 {4.553532698e+1f, 4.061400875e+1f, 1.719114953e+1f, 3.867274587f, 3.989407929e-1f}
#define MINIDL_TAIL_BELOW_F32 {9.107065324e+1f, 1.538919363e+2f, 1.116344049e+2f, 4.408373723e+1f, 9.694005866f, 1.0f}

/* tanh x in pieces: around which number each is a polynomial, and its coefficients; |error| <= 5.9e-09 of it on [0, 10] */
#define MINIDL_TANH_PIECES_F32                                                                                             \
    {{1.250020862f, 1.75005722f, 2.250109196f, 2.750066757f, 3.499931335f, 4.499931812f, 5.500286102f, 6.499713898f,       \
      7.999427795f, 9.500572205f, 0.0f, 0.0f, 0.0f, 3.750148416e-1f, 6.250293255e-1f, 8.750349283e-1f},                    \
     {8.482894897e-1f, 9.413820505e-1f, 9.780308604e-1f, 9.918608069e-1f, 9.981776476e-1f, 9.997531772e-1f,                \
      9.999666214e-1f, 9.9999547e-1f, 9.999997616e-1f, 1.0f, 0.0f, 0.0f, 0.0f, 3.583703339e-1f, 5.546200275e-1f,           \
      7.039232254e-1f},                                                                                                    \
     {2.804048359e-1f, 1.137997881e-1f, 4.345563427e-2f, 1.6212143e-2f, 3.641451942e-3f, 4.935949692e-4f,                  \
      6.676776684e-5f, 9.046643754e-6f, 4.512906742e-7f, 2.238602548e-8f, 0.0f, 0.0f, 1.0f, 8.715707064e-1f,               \
      6.923966408e-1f, 5.044921041e-1f},                                                                                   \
     {-2.378645688e-1f, -1.071290448e-1f, -4.250093922e-2f, -1.608018577e-2f, -3.634791821e-3f, -4.934703466e-4f,          \
      -6.676521298e-5f, -9.046549167e-6f, -4.511340421e-7f, -2.238592778e-8f, 0.0f, 0.0f, -1.097267841e-6f,                \
      -3.123450875e-1f, -3.840170801e-1f, -3.551237285e-1f},                                                               \
     {1.083249971e-1f, 6.292270869e-2f, 2.708237432e-2f, 1.054489985e-2f, 2.412092872e-3f, 3.284741251e-4f,                \
      4.44599973e-5f, 6.02457385e-6f, 2.951259432e-7f, 1.490810142e-8f, 0.0f, 0.0f, -3.332701921e-1f, -1.78591013e-1f,     \
      -1.782147214e-2f, 8.181349933e-2f},                                                                                  \
     {-1.258783787e-2f, -2.352418751e-2f, -1.232102979e-2f, -5.099345464e-3f, -1.197502017e-3f, -1.640990668e-4f,          \
      -2.222945659e-5f, -3.012694833e-6f, -1.479069454e-7f, -7.454680429e-9f, 0.0f, 0.0f, -1.183705754e-3f,                \
      1.681122482e-1f, 1.37894094e-1f, 6.078752503e-2f},                                                                   \
     {-1.968797669e-2f, 3.484626533e-3f, 3.976597451e-3f, 1.914588618e-3f, 4.903320223e-4f, 6.829541235e-5f,               \
      9.271884664e-6f, 1.256923497e-6f, 7.070833163e-8f, 3.110443014e-9f, 0.0f, 0.0f, 1.430841982e-1f,                     \
      1.899583824e-2f, -5.434792861e-2f, -5.854816362e-2f},                                                                \
     {1.510360185e-2f, 2.105284715e-3f, -7.158536464e-4f, -5.455547944e-4f, -1.576846844e-4f, -2.261237569e-5f,            \
      -3.083716365e-6f, -4.177940127e-7f, -2.335556104e-8f, -1.035679764e-9f, 0.0f, 0.0f, -3.697691485e-2f,                \
      -6.909799576e-2f, -2.433742397e-2f, 1.286766212e-2f}}

/* exp(r) - 1 = r + r^2 p(r), |error| <= 2.6e-19 of it on [-0.3466, 0.3466] */
#define MINIDL_EXP_F64                                                                                                     \
    {5.0000000000000000085e-1, 1.6666666666666676498e-1, 4.1666666666666508916e-2, 8.3333333333217009128e-3,               \
     1.3888888888962324168e-3, 1.9841269885938958916e-4, 2.4801587172593697883e-5, 2.7557244404271617253e-6,               \
     2.7557402626944820577e-7, 2.5108967458927867862e-8, 2.0875325239709802778e-9}
/* 2^r = 1 + r p(r), |error| <= 3.4e-18 of it on [-0.5, 0.5] */
#define MINIDL_EXP2_F64                                                                                                    \
    {6.931471805599453258e-1, 2.402265069591013126e-1, 5.5504108664820083202e-2, 9.6181291075941200684e-3,                 \
     1.3333558146774630027e-3, 1.5403530457112067243e-4, 1.5252733493116650643e-5, 1.3215435282336804221e-6,                \
     1.0178199576815802511e-7, 7.0737832417910621631e-9, 4.4347705024668046171e-10}
/* log(1 + f) = f - f^2/2 + f^3 p(f), |error| <= 1.4e-18 of it on [-0.2929, 0.4142] */
#define MINIDL_LOG_F64                                                                                                     \
    {3.3333333333333452315e-1, -2.4999999999998920757e-1, 1.9999999999946136046e-1, -1.6666666666914328506e-1,             \
     1.4285714293841059824e-1, -1.2499999982025100892e-1, 1.1111110516068626271e-1, -1.0000000382973397792e-1,             \
     9.0909335048175048396e-2, -8.3333457685809942717e-2, 7.691714496912277685e-2, -7.1419999306363995134e-2,              \
     6.675147855418601499e-2, -6.2698024611016423538e-2, 5.8177842704614362133e-2, -5.3267726897918946254e-2,              \
     5.4159480760867188864e-2, -6.275045856984609476e-2, 5.6969134661806905055e-2, -2.4276519418844127922e-2}
/* atanh(s) = s + s^3 p(s^2), |error| <= 1.3e-18 of it on [1e-12, 0.1111] */
#define MINIDL_ATANH_F64                                                                                                   \
    {3.333333333333315485e-1, 2.000000000007755786e-1, 1.4285714274059050846e-1, 1.1111111976819684668e-1,                 \
     9.0908722396631242406e-2, 7.6932741938430025959e-2, 6.6505607181438948462e-2, 6.0524722669351476273e-2,               \
     4.1724863631277232336e-2, 8.5048775465361280513e-2}
/* erf(x) = x + x p(x^2), |error| <= 7.3e-18 of it on [1e-12, 1] */
#define MINIDL_ERF_F64                                                                                                     \
    {1.2837916709551256565e-1, -3.761263890318351954e-1, 1.1283791670944184708e-1, -2.6866170643111462722e-2,              \
     5.2239776061184260796e-3, -8.5483259293118934738e-4, 1.205529357681617374e-4, -1.4924712300290143817e-5,              \
     1.6447131549125937795e-6, -1.6206313583186675806e-7, 1.3710979620443555698e-8, -7.779467009280572833e-10}
/* Q(a) = 2^(-k a^2) p(a) / q(a), |error| <= 5.1e-17 of it on [0, 39] */
#define MINIDL_TAIL_ABOVE_F64                                                                                              \
    {1.4416914700499552824e+5, 2.233888227016750147e+5, 1.7123311820115429211e+5, 8.3387978252880679841e+4,                \
     2.8153665781032747714e+4, 6.8061563665211038091e+3, 1.1780325279552415018e+3, 1.4125227535234319597e+2,                \
     1.072796849945217551e+1, 3.9894228040016076945e-1}
#define MINIDL_TAIL_BELOW_F64                                                                                              \
    {2.8833829400999107115e+5, 6.7683831848215632371e+5, 7.3833593387409067783e+5, 4.9415053061390273748e+5,               \
     2.2538510512960174235e+5, 7.3469878849798541878e+4, 1.7412571061606936786e+4, 2.9797806688881101499e+3,                \
     3.5506694731319949659e+2, 2.6891029169436496727e+1, 1.0}

#define real float
#define REAL(name) name##_f32
#define COEFFICIENTS(name) MINIDL_##name##_F32
#if defined(MINIDL_LOOKUP_F32)
#define PIECES 1
#endif
#define LOG2E 1.44269504089f
#define HALF_LOG2E 0.72134752044f
#define LN2_HIGH 0.693145751953125f /* 16 bits, so that n LN2_HIGH is exact */
#define LN2_LOW 1.428606820309417232e-6f
#define LOWEST -104.0f /* exp is 0 from here down */
#define HIGHEST 89.0f  /* and inf from here up */
#define FLAT 10.0f     /* where tanh is 1 */
#define TINY -20.0f    /* where exp(x) - 1 is -1 */
#define FAR 14.5f      /* where the normal distribution's tail is 0 */
#define GELU_CUT 10.7f /* where the gate of its tanh form is 0 or 1 */
#define SMALLEST_NORMAL 1.17549435e-38f
#define SUBNORMAL_STEPS 24
#define SUBNORMAL_SCALE 16777216.0f /* 2^24 */
#define BIAS 127.0f
#include "formulas.inc.h"

#define real double
#define REAL(name) name##_f64
#define COEFFICIENTS(name) MINIDL_##name##_F64
#define LOG2E 1.44269504088896340736
#define HALF_LOG2E 0.72134752044448170368
#define LN2_HIGH 0.6931471803691238 /* 32 bits */
#define LN2_LOW 1.908214929270587816144e-10
#define LOWEST -746.0
#define HIGHEST 710.0
#define FLAT 22.0
#define TINY -40.0
#define FAR 39.0
#define GELU_CUT 22.0
#define SMALLEST_NORMAL 2.2250738585072014e-308
#define SUBNORMAL_STEPS 54
#define SUBNORMAL_SCALE 18014398509481984.0 /* 2^54 */
#define BIAS 1023.0
#include "formulas.inc.h"

#endif
