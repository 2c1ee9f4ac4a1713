/* simd.h for AVX-512 (F, DQ): 16 floats, 8 doubles. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512 vec_f32;
typedef __mmask16 mask_f32;
typedef __m512d vec_f64;
typedef __mmask8 mask_f64;
enum { LANES_f32 = 16, LANES_f64 = 8, WIDE_f32 = 2, WIDE_f64 = 1 };

MINIDL_INLINE vec_f32 splat_f32(float c) { return _mm512_set1_ps(c); }
MINIDL_INLINE vec_f64 splat_f64(double c) { return _mm512_set1_pd(c); }
MINIDL_INLINE vec_f32 load_f32(const float *p) { return _mm512_loadu_ps(p); }
MINIDL_INLINE vec_f64 load_f64(const double *p) { return _mm512_loadu_pd(p); }
MINIDL_INLINE void store_f32(float *p, vec_f32 v) { _mm512_storeu_ps(p, v); }
MINIDL_INLINE void store_f64(double *p, vec_f64 v) { _mm512_storeu_pd(p, v); }
MINIDL_INLINE vec_f32 load_part_f32(const float *p, ptrdiff_t n, float fill) {
    return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << n) - 1), p);
}
MINIDL_INLINE vec_f64 load_part_f64(const double *p, ptrdiff_t n, double fill) {
    return _mm512_mask_loadu_pd(_mm512_set1_pd(fill), (__mmask8)((1u << n) - 1), p);
}
MINIDL_INLINE void store_part_f32(float *p, vec_f32 v, ptrdiff_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}
MINIDL_INLINE void store_part_f64(double *p, vec_f64 v, ptrdiff_t n) {
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), v);
}

/* Bits of LANES floats, and 16-bit numbers read into their lower halves. */
#define MINIDL_WORDS_F32 1
typedef int32_t words_f32 __attribute__((vector_size(64)));
MINIDL_INLINE words_f32 load_words_f32(const uint16_t *p) {
    return (words_f32)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}

MINIDL_INLINE vec_f32 madd_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm512_fmadd_ps(a, b, c); }
MINIDL_INLINE vec_f64 madd_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return _mm512_fmadd_pd(a, b, c); }
MINIDL_INLINE vec_f32 fused_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return madd_f32(a, b, c); }
MINIDL_INLINE vec_f64 fused_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return madd_f64(a, b, c); }
/* From a reciprocal good to 14 digits (or a rounded one) to the quotient, by what is left over. */
MINIDL_INLINE vec_f32 quotient_f32(vec_f32 a, vec_f32 b, vec_f32 rest) {
    const vec_f32 inverse = _mm512_rcp14_ps(b), q = a * inverse;
    const vec_f32 left = _mm512_fnmadd_ps(q, rest, _mm512_fnmadd_ps(q, b, a));
    return _mm512_fmadd_ps(left, inverse, q);
}
MINIDL_INLINE vec_f64 quotient_f64(vec_f64 a, vec_f64 b, vec_f64 rest) {
    const vec_f64 inverse = 1.0 / b, q = a * inverse;
    const vec_f64 left = _mm512_fnmadd_pd(q, rest, _mm512_fnmadd_pd(q, b, a));
    return _mm512_fmadd_pd(left, inverse, q);
}
/* min and max return their second operand if either is nan. */
MINIDL_INLINE vec_f32 least_f32(vec_f32 x, vec_f32 c) { return _mm512_min_ps(c, x); }
MINIDL_INLINE vec_f64 least_f64(vec_f64 x, vec_f64 c) { return _mm512_min_pd(c, x); }
MINIDL_INLINE vec_f32 most_f32(vec_f32 x, vec_f32 c) { return _mm512_max_ps(c, x); }
MINIDL_INLINE vec_f64 most_f64(vec_f64 x, vec_f64 c) { return _mm512_max_pd(c, x); }
MINIDL_INLINE vec_f32 absolute_f32(vec_f32 x) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x); }
MINIDL_INLINE vec_f64 absolute_f64(vec_f64 x) { return _mm512_andnot_pd(_mm512_set1_pd(-0.0), x); }
MINIDL_INLINE vec_f32 with_sign_of_f32(vec_f32 x, vec_f32 s) {
    return _mm512_or_ps(x, _mm512_and_ps(s, _mm512_set1_ps(-0.0f)));
}
MINIDL_INLINE vec_f64 with_sign_of_f64(vec_f64 x, vec_f64 s) {
    return _mm512_or_pd(x, _mm512_and_pd(s, _mm512_set1_pd(-0.0)));
}
MINIDL_INLINE mask_f32 less_f32(vec_f32 a, vec_f32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
MINIDL_INLINE mask_f64 less_f64(vec_f64 a, vec_f64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
MINIDL_INLINE vec_f32 select_f32(mask_f32 m, vec_f32 a, vec_f32 b) { return _mm512_mask_blend_ps(m, b, a); }
MINIDL_INLINE vec_f64 select_f64(mask_f64 m, vec_f64 a, vec_f64 b) { return _mm512_mask_blend_pd(m, b, a); }
MINIDL_INLINE vec_f32 square_root_f32(vec_f32 x) { return _mm512_sqrt_ps(x); }
MINIDL_INLINE vec_f64 square_root_f64(vec_f64 x) { return _mm512_sqrt_pd(x); }

MINIDL_INLINE vec_f32 nearest_f32(vec_f32 x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
MINIDL_INLINE vec_f64 nearest_f64(vec_f64 x) {
    return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#define MINIDL_HAS_SCALE 1
MINIDL_INLINE vec_f32 scale_f32(vec_f32 x, vec_f32 n) { return _mm512_scalef_ps(x, n); }
MINIDL_INLINE vec_f64 scale_f64(vec_f64 x, vec_f64 n) { return _mm512_scalef_pd(x, n); }
MINIDL_INLINE vec_f32 power_of_two_f32(vec_f32 n) { return _mm512_scalef_ps(_mm512_set1_ps(1.0f), n); }
MINIDL_INLINE vec_f64 power_of_two_f64(vec_f64 n) { return _mm512_scalef_pd(_mm512_set1_pd(1.0), n); }
MINIDL_INLINE vec_f32 exponent_field_f32(vec_f32 x) { return _mm512_getexp_ps(x) + 127.0f; }
MINIDL_INLINE vec_f64 exponent_field_f64(vec_f64 x) { return _mm512_getexp_pd(x) + 1023.0; }
MINIDL_INLINE vec_f32 mantissa_f32(vec_f32 x) { return _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src); }
MINIDL_INLINE vec_f64 mantissa_f64(vec_f64 x) { return _mm512_getmant_pd(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src); }

#define MINIDL_LOOKUP_F32 1
typedef __m512i place_f32;
MINIDL_INLINE place_f32 place_of_f32(vec_f32 x) { return _mm512_srli_epi32(_mm512_castps_si512(x), 21); }
MINIDL_INLINE place_f32 quarter_of_f32(vec_f32 x) { return _mm512_srli_epi32(_mm512_castps_si512(x), 19); }
MINIDL_INLINE int all_f32(mask_f32 m) { return m == 0xffff; }
MINIDL_INLINE vec_f32 lookup_f32(const float *table, place_f32 at) {
    return _mm512_permutexvar_ps(at, _mm512_loadu_ps(table)); /* which goes by the last four bits */
}

MINIDL_INLINE mask_f32 beats_f32(vec_f32 v, vec_f32 best) {
    return _mm512_cmp_ps_mask(v, best, _CMP_GT_OQ) | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
}
MINIDL_INLINE mask_f64 beats_f64(vec_f64 v, vec_f64 best) {
    return _mm512_cmp_pd_mask(v, best, _CMP_GT_OQ) | _mm512_cmp_pd_mask(v, v, _CMP_UNORD_Q);
}
/* Lanes of two vectors by number: those of the second count from 16 (8) on. */
MINIDL_INLINE vec_f32 even_f32(vec_f32 a, vec_f32 b) {
    const __m512i lanes = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return _mm512_permutex2var_ps(a, lanes, b);
}
MINIDL_INLINE vec_f32 odd_f32(vec_f32 a, vec_f32 b) {
    const __m512i lanes = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_ps(a, lanes, b);
}
MINIDL_INLINE vec_f64 even_f64(vec_f64 a, vec_f64 b) {
    return _mm512_permutex2var_pd(a, _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0), b);
}
MINIDL_INLINE vec_f64 odd_f64(vec_f64 a, vec_f64 b) {
    return _mm512_permutex2var_pd(a, _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1), b);
}
MINIDL_INLINE vec_f32 zip_low_f32(vec_f32 a, vec_f32 b) {
    const __m512i lanes = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutex2var_ps(a, lanes, b);
}
MINIDL_INLINE vec_f32 zip_high_f32(vec_f32 a, vec_f32 b) {
    const __m512i lanes = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    return _mm512_permutex2var_ps(a, lanes, b);
}
MINIDL_INLINE vec_f64 zip_low_f64(vec_f64 a, vec_f64 b) {
    return _mm512_permutex2var_pd(a, _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), b);
}
MINIDL_INLINE vec_f64 zip_high_f64(vec_f64 a, vec_f64 b) {
    return _mm512_permutex2var_pd(a, _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4), b);
}

MINIDL_INLINE float largest_f32(vec_f32 v) { return _mm512_reduce_max_ps(v); }
MINIDL_INLINE double largest_f64(vec_f64 v) { return _mm512_reduce_max_pd(v); }
MINIDL_INLINE void add_wide_f32(vec_f64 *sum, vec_f32 v) {
    sum[0] += _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    sum[1] += _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
}
MINIDL_INLINE void add_wide_f64(vec_f64 *sum, vec_f64 v) { sum[0] += v; }
MINIDL_INLINE void add_wide_squares_f32(vec_f64 *sum, vec_f32 v) {
    const vec_f64 low = _mm512_cvtps_pd(_mm512_castps512_ps256(v)), high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    sum[0] = _mm512_fmadd_pd(low, low, sum[0]);
    sum[1] = _mm512_fmadd_pd(high, high, sum[1]);
}
MINIDL_INLINE void add_wide_squares_f64(vec_f64 *sum, vec_f64 v) { sum[0] = _mm512_fmadd_pd(v, v, sum[0]); }
MINIDL_INLINE double total_f64(const vec_f64 *sum) { return _mm512_reduce_add_pd(sum[0]); }
MINIDL_INLINE double total_f32(const vec_f64 *sum) { return _mm512_reduce_add_pd(sum[0] + sum[1]); }
