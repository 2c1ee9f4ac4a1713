/* Vectors of float and double, one set of names for every instruction set.
 *
 * formulas.h and the kernels are written once, in these terms; isa/families.inc.h chooses the instruction set by defining one of
 * the MINIDL_SIMD_ macros. With none of them (and always in CUDA) a vector is one element. Arithmetic is written with the
 * ordinary operators, which compilers of the GCC family have for vectors.
 *
 * Each name ends in _f32 or _f64:
 *     vec, mask                   a vector and the result of comparing two; LANES elements in each
 *     splat(c)                    c in every lane
 *     load(p), store(p, v)        from and to memory, aligned as its elements are
 *     load_part(p, n, fill)       n < LANES elements, the other lanes set to fill; touches nothing beyond them
 *     store_part(p, v, n)         the first n lanes
 *     madd(a, b, c)               a b + c, in one rounding where the CPU has it
 *     fused(a, b, c)              a b + c with every digit of the product, also where that takes longer; for results that cancel
 *     quotient(a, b, rest)        a / (b + rest) for 1 <= |b| <= 4 and a rest below b's last digit: better than a / b alone
 *     least(x, c), most(x, c)     the lesser and the greater of x and c; x if x is nan
 *     absolute(x)                 x without its sign
 *     with_sign_of(x, s)          x >= 0 with the sign of s
 *     less(a, b)                  a < b; select(mask, a, b) takes a where it holds, else b
 *     beats(v, best)              v > best, or v is nan
 *     even(a, b), odd(a, b)       every second lane of a, then of b, from the first or the second lane on
 *     zip_low, zip_high(a, b)     lanes of a and b in turns: the first LANES of them, and the others
 *     square_root(x)
 *     nearest(x)                  the nearest integer, for |x| < 2^22
 *     power_of_two(n)             2^n for integers n of normal exponent
 *     scale(x, n)                 x 2^n for 1/2 < x < 2 and any n in reach, also where the result is subnormal or overflows
 *     exponent_field(x)           the bits of a positive normal x above its mantissa, as a number
 *     mantissa(x)                 a positive normal x scaled to [1, 2)
 *     largest(v)                  over the lanes
 *     add_wide(sum, v)            v added to WIDE vectors of double
 *     add_wide_squares(sum, v)    the squares of v, as doubles, added to them
 *     total(sum)                  of WIDE vectors of double, always in the same order
 *
 * and for float only, widened without error:
 *     load_bf16(p), load_f16(p)   LANES numbers of 16 bits: bfloat16, IEEE float16
 *
 * and where vectors are long enough for it (MINIDL_LOOKUP_F32 is defined then):
 *     place_of(x)                 the last two bits of the exponent of a positive x with the first two of its mantissa: 0 to 15
 *     quarter_of(x)               the first four bits of the mantissa: which quarter of [4, 8) x is in
 *     lookup(table, place)        the element at each lane's place in a table of 16
 *     all(mask)                   whether it holds in every lane
 */
#ifndef MINIDL_SIMD_H
#define MINIDL_SIMD_H

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define MINIDL_INLINE static __device__ __forceinline__
#define MINIDL_UNUSED
#elif defined(_MSC_VER)
#define MINIDL_INLINE static __forceinline
#define MINIDL_UNUSED
#else
#define MINIDL_INLINE static inline __attribute__((always_inline, unused))
#define MINIDL_UNUSED __attribute__((unused)) /* a parameter that not every function of a kind reads */
#endif

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define MINIDL_INFINITY __longlong_as_double(0x7ff0000000000000LL)
#define MINIDL_NAN __longlong_as_double(0x7ff8000000000000LL)
#else
#include <math.h>
#define MINIDL_INFINITY INFINITY
#define MINIDL_NAN NAN
#endif

#if defined(MINIDL_SIMD_AVX512)
#include "vector/simd_avx512.h"
#elif defined(MINIDL_SIMD_AVX2)
#include "vector/simd_avx2.h"
#elif defined(MINIDL_SIMD_SSE2)
#include "vector/simd_sse2.h"
#elif defined(MINIDL_SIMD_NEON)
#include "vector/simd_neon.h"
#else
#include "vector/simd_scalar.h"
#endif

#ifdef MINIDL_WORDS_F32
/* bfloat16 is the upper half of a float. */
MINIDL_INLINE vec_f32 load_bf16_f32(const uint16_t *p) { return (vec_f32)(load_words_f32(p) << 16); }
/* The fraction of float16 is moved to where that of float begins, and the exponents differ by 112; those of inf and nan are all
 * ones. Numbers with an exponent of 0 are right too: the multiplication makes them normal. */
MINIDL_INLINE vec_f32 load_f16_f32(const uint16_t *p) {
    const words_f32 bits = load_words_f32(p), magnitude = (bits & 0x7fff) << 13, sign = (bits & 0x8000) << 16;
    const words_f32 value = (words_f32)((vec_f32)magnitude * 0x1p112f), infinite = (words_f32)(magnitude >= 0x0f800000);
    return (vec_f32)(value | (infinite & 0x7f800000) | sign);
}
#endif

#ifndef MINIDL_HAS_SCALE /* in two steps, because 2^n may leave the range where x 2^n does not */
MINIDL_INLINE vec_f32 scale_f32(vec_f32 x, vec_f32 n) {
    const vec_f32 half = nearest_f32(n * 0.5f);
    return x * power_of_two_f32(half) * power_of_two_f32(n - half);
}
MINIDL_INLINE vec_f64 scale_f64(vec_f64 x, vec_f64 n) {
    const vec_f64 half = nearest_f64(n * 0.5);
    return x * power_of_two_f64(half) * power_of_two_f64(n - half);
}
#endif

#endif
