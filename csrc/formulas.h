/* The scalar formulas of every activation, for C and for CUDA, in float and in double.
 *
 * Each is straight-line code: no branches (only choices between two values), no calls into a library, no tables. So a loop
 * over them becomes vector instructions by itself, and the same text compiles for a GPU. Polynomials are minimax, printed by
 * fit_polynomials.py; errors over all arguments are in docs/vector_math.md.
 */
#ifndef MINIDL_FORMULAS_H
#define MINIDL_FORMULAS_H

#include <stdint.h>

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define MINIDL_FORMULA static __device__ __forceinline__
#elif defined(_MSC_VER)
#define MINIDL_FORMULA static __forceinline
#else
#define MINIDL_FORMULA static inline __attribute__((always_inline, unused))
#include <string.h>
#endif

/* a b + c in one rounding where the processor has it. Asked for by name, because the compiler is told not to fuse by itself:
 * which expressions it would fuse changes from version to version, and with it the last bit. */
#if defined(__FMA__) || defined(MINIDL_FORCE_FMA) || defined(__AVX512F__) || defined(__aarch64__) || defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define MINIDL_HAS_FMA 1
#else
#define MINIDL_HAS_FMA 0
#endif

#define real float
#define bits_t uint32_t
#define REAL(name) name##_f32
#define POLYNOMIAL(name) MINIDL_##name##_F32
#if MINIDL_HAS_FMA
#define MADD(a, b, c) __builtin_fmaf(a, b, c)
#else
#define MADD(a, b, c) ((a) * (b) + (c))
#endif
#define MANTISSA 23
#define BIAS 127
#define ROUNDING 12582912.0f /* 1.5 2^23: adding it leaves the nearest integer in the low bits */
#define LOG2E 1.44269504089f
#define LN2_HIGH 0.693145751953125f /* 16 bits, so that n LN2_HIGH is exact */
#define LN2_LOW 1.42860682030941723212e-6f
#define EXP_LOWEST -105.0f /* exp is 0 from here down */
#define EXP_HIGHEST 89.0f  /* and inf from here up */
#define MINIDL_exp_F32(x) \
    MADD(MADD(MADD(MADD(1.381461314e-3f, x, 8.368709822e-3f), x, 4.166838736e-2f), x, 1.666652069e-1f), x, 4.999999345e-1f)
#define MINIDL_tanh_F32(x)                                                                                                  \
    MADD(MADD(MADD(MADD(MADD(2.142961647e-3f, x, -8.177398064e-3f), x, 2.170070317e-2f), x, -5.394676306e-2f), x,          \
              1.333320601e-1f), x, -3.33333308e-1f)
#define MINIDL_expm1_F32(x)                                                                                                 \
    MADD(MADD(MADD(MADD(MADD(1.565581599e-4f, x, 1.358838336e-3f), x, 8.322463855e-3f), x, 4.166465603e-2f), x,            \
              1.666664943e-1f), x, 4.99999995e-1f)
#define MINIDL_atanh_F32(x) \
    MADD(MADD(MADD(MADD(1.214477833e-1f, x, 1.071537062e-1f), x, 1.430829834e-1f), x, 1.999944418e-1f), x, 3.333333775e-1f)
#define MINIDL_erfc_F32(x)                                                                                                  \
    MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(-1.34233927e-5f, x, 2.218723994e-5f), x, 1.219866808e-4f), \
         x, -9.783367324e-5f), x, -7.101473523e-4f), x, 1.216203178e-4f), x, 3.939332091e-3f), x, -5.119698017e-4f), x,    \
         -2.524391502e-2f), x, 4.253560125e-2f), x, 3.781392973e-2f), x, -2.599748116e-1f), x, 7.661870285e-1f)
#include "formulas.inc.h"
#undef real
#undef bits_t
#undef REAL
#undef POLYNOMIAL
#undef MADD
#undef MANTISSA
#undef BIAS
#undef ROUNDING
#undef LOG2E
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_LOWEST
#undef EXP_HIGHEST

#define real double
#define bits_t uint64_t
#define REAL(name) name##_f64
#define POLYNOMIAL(name) MINIDL_##name##_F64
#if MINIDL_HAS_FMA
#define MADD(a, b, c) __builtin_fma(a, b, c)
#else
#define MADD(a, b, c) ((a) * (b) + (c))
#endif
#define MANTISSA 52
#define BIAS 1023
#define ROUNDING 6755399441055744.0 /* 1.5 2^52 */
#define LOG2E 1.44269504088896340736
#define LN2_HIGH 6.93147180369123816490e-01 /* 33 bits */
#define LN2_LOW 1.90821492927058770002e-10
#define EXP_LOWEST -746.0
#define EXP_HIGHEST 710.0
#define MINIDL_exp_F64(x)                                                                                                   \
    MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(2.0826637413384107042e-9, x, 2.5112024895663996685e-8), x,           \
         2.7557581741878611823e-7), x, 2.7557234895549269218e-6), x, 2.4801586926860161852e-5), x,                         \
         1.9841269896350838249e-4), x, 1.3888888889115445257e-3), x, 8.3333333333170472772e-3), x,                         \
         4.1666666666666094857e-2), x, 1.6666666666666683403e-1), x, 5.0000000000000000438e-1)
#define MINIDL_tanh_F64(x)                                                                                                  \
    MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(-2.2717615221506614737e-6, x, 1.1794573850833842813e-5),  \
         x, -3.6625519621956037811e-5), x, 9.5751082709572320581e-5), x, -2.3877082831331523879e-4), x,                    \
         5.8994922688062711752e-4), x, -1.4558222922692418982e-3), x, 3.5921267306328425417e-3), x,                        \
         -8.8632354343109924404e-3), x, 2.1869488531646970868e-2), x, -5.3968253968128290897e-2), x,                       \
         1.3333333333333156552e-1), x, -3.3333333333333332463e-1)
#define MINIDL_expm1_F64(x)                                                                                                 \
    MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(5.9146100888803396715e-13, x,                         \
         1.1163037317162980419e-11), x, 1.602582294848872819e-10), x, 2.0874363565428462986e-9), x,                        \
         2.5051987805867054862e-8), x, 2.7557314877940834679e-7), x, 2.7557319111084523879e-6), x,                         \
         2.4801587299483743298e-5), x, 1.9841269841242207246e-4), x, 1.3888888888888640912e-3), x,                         \
         8.3333333333333318911e-3), x, 4.1666666666666666617e-2), x, 1.6666666666666666667e-1), x, 5.0e-1)
#define MINIDL_atanh_F64(x)                                                                                                 \
    MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(7.873407282400396144e-2, x, 2.3564410254204091897e-2), x,  \
         4.7048300845011980216e-2), x, 4.7125174560414058127e-2), x, 5.2677846203503145594e-2), x,                         \
         5.882051512987512798e-2), x, 6.6666804055288932771e-2), x, 7.6923072586753810267e-2), x,                          \
         9.0909091001331863248e-2), x, 1.1111111110985231789e-1), x, 1.4285714285715297815e-1), x,                         \
         1.9999999999999995905e-1), x, 3.3333333333333333339e-1)
#define MINIDL_erfc_F64(x)                                                                                                  \
    MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(MADD(    \
         MADD(MADD(MADD(2.4968287868097323625e-9, x, 7.4951775043696658277e-10), x, -2.2266010777795993138e-8), x,         \
         -1.7293029727302636244e-8), x, 8.1395202932258612115e-8), x, 1.2449300635343483672e-7), x,                        \
         -9.693003030028126243e-8), x, -4.3432260714076849722e-7), x, -4.1597423955590447302e-7), x,                       \
         5.3916638565100206663e-7), x, 2.4048917968728972541e-6), x, 2.4315211824512102088e-6), x,                         \
         -4.8711513326066729583e-6), x, -1.7507287735534656705e-5), x, -7.7358871355667749319e-6), x,                      \
         6.1727450344965199523e-5), x, 1.1694610129449449103e-4), x, -1.3998947669701139877e-4), x,                        \
         -7.0662916665903551508e-4), x, 1.4468093414734967361e-4), x, 3.9377553129553934517e-3), x,                        \
         -5.1827666958585555745e-4), x, -2.5243554293899198124e-2), x, 4.2536349508800643286e-2), x,                       \
         3.7813898313589480714e-2), x, -2.5997483699985176766e-1), x, 7.6618702893151722854e-1)
#include "formulas.inc.h"
#undef real
#undef bits_t
#undef REAL
#undef POLYNOMIAL
#undef MADD
#undef MANTISSA
#undef BIAS
#undef ROUNDING
#undef LOG2E
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_LOWEST
#undef EXP_HIGHEST

#endif
