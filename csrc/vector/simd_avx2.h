/* simd.h for AVX2 with FMA: 8 floats, 4 doubles. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m256 vec_f32;
typedef __m256 mask_f32;
typedef __m256d vec_f64;
typedef __m256d mask_f64;
enum { LANES_f32 = 8, LANES_f64 = 4, WIDE_f32 = 2, WIDE_f64 = 1 };

/* All bits set in the first n lanes: a window into this row. */
static const int32_t first_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
MINIDL_INLINE __m256i part_f32(ptrdiff_t n) { return _mm256_loadu_si256((const __m256i *)(first_lanes + 8 - n)); }
MINIDL_INLINE __m256i part_f64(ptrdiff_t n) { return _mm256_loadu_si256((const __m256i *)(first_lanes + 8 - 2 * n)); }

MINIDL_INLINE vec_f32 splat_f32(float c) { return _mm256_set1_ps(c); }
MINIDL_INLINE vec_f64 splat_f64(double c) { return _mm256_set1_pd(c); }
MINIDL_INLINE vec_f32 load_f32(const float *p) { return _mm256_loadu_ps(p); }
MINIDL_INLINE vec_f64 load_f64(const double *p) { return _mm256_loadu_pd(p); }
MINIDL_INLINE void store_f32(float *p, vec_f32 v) { _mm256_storeu_ps(p, v); }
MINIDL_INLINE void store_f64(double *p, vec_f64 v) { _mm256_storeu_pd(p, v); }
MINIDL_INLINE vec_f32 load_part_f32(const float *p, ptrdiff_t n, float fill) {
    const __m256i lanes = part_f32(n);
    return _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, lanes), _mm256_castsi256_ps(lanes));
}
MINIDL_INLINE vec_f64 load_part_f64(const double *p, ptrdiff_t n, double fill) {
    const __m256i lanes = part_f64(n);
    return _mm256_blendv_pd(_mm256_set1_pd(fill), _mm256_maskload_pd(p, lanes), _mm256_castsi256_pd(lanes));
}
MINIDL_INLINE void store_part_f32(float *p, vec_f32 v, ptrdiff_t n) { _mm256_maskstore_ps(p, part_f32(n), v); }
MINIDL_INLINE void store_part_f64(double *p, vec_f64 v, ptrdiff_t n) { _mm256_maskstore_pd(p, part_f64(n), v); }

/* Bits of LANES floats, and 16-bit numbers read into their lower halves. */
#define MINIDL_WORDS_F32 1
typedef int32_t words_f32 __attribute__((vector_size(32)));
MINIDL_INLINE words_f32 load_words_f32(const uint16_t *p) {
    return (words_f32)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}

MINIDL_INLINE vec_f32 madd_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm256_fmadd_ps(a, b, c); }
MINIDL_INLINE vec_f64 madd_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return _mm256_fmadd_pd(a, b, c); }
MINIDL_INLINE vec_f32 fused_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return madd_f32(a, b, c); }
MINIDL_INLINE vec_f64 fused_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return madd_f64(a, b, c); }
MINIDL_INLINE vec_f32 quotient_f32(vec_f32 a, vec_f32 b, vec_f32 rest) {
    const vec_f32 inverse = 1.0f / b, q = a * inverse;
    const vec_f32 left = _mm256_fnmadd_ps(q, rest, _mm256_fnmadd_ps(q, b, a));
    return _mm256_fmadd_ps(left, inverse, q);
}
MINIDL_INLINE vec_f64 quotient_f64(vec_f64 a, vec_f64 b, vec_f64 rest) {
    const vec_f64 inverse = 1.0 / b, q = a * inverse;
    const vec_f64 left = _mm256_fnmadd_pd(q, rest, _mm256_fnmadd_pd(q, b, a));
    return _mm256_fmadd_pd(left, inverse, q);
}
/* min and max return their second operand if either is nan. */
MINIDL_INLINE vec_f32 least_f32(vec_f32 x, vec_f32 c) { return _mm256_min_ps(c, x); }
MINIDL_INLINE vec_f64 least_f64(vec_f64 x, vec_f64 c) { return _mm256_min_pd(c, x); }
MINIDL_INLINE vec_f32 most_f32(vec_f32 x, vec_f32 c) { return _mm256_max_ps(c, x); }
MINIDL_INLINE vec_f64 most_f64(vec_f64 x, vec_f64 c) { return _mm256_max_pd(c, x); }
MINIDL_INLINE vec_f32 absolute_f32(vec_f32 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
MINIDL_INLINE vec_f64 absolute_f64(vec_f64 x) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), x); }
MINIDL_INLINE vec_f32 with_sign_of_f32(vec_f32 x, vec_f32 s) {
    return _mm256_or_ps(x, _mm256_and_ps(s, _mm256_set1_ps(-0.0f)));
}
MINIDL_INLINE vec_f64 with_sign_of_f64(vec_f64 x, vec_f64 s) {
    return _mm256_or_pd(x, _mm256_and_pd(s, _mm256_set1_pd(-0.0)));
}
MINIDL_INLINE mask_f32 less_f32(vec_f32 a, vec_f32 b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
MINIDL_INLINE mask_f64 less_f64(vec_f64 a, vec_f64 b) { return _mm256_cmp_pd(a, b, _CMP_LT_OQ); }
MINIDL_INLINE vec_f32 select_f32(mask_f32 m, vec_f32 a, vec_f32 b) { return _mm256_blendv_ps(b, a, m); }
MINIDL_INLINE vec_f64 select_f64(mask_f64 m, vec_f64 a, vec_f64 b) { return _mm256_blendv_pd(b, a, m); }
MINIDL_INLINE vec_f32 square_root_f32(vec_f32 x) { return _mm256_sqrt_ps(x); }
MINIDL_INLINE vec_f64 square_root_f64(vec_f64 x) { return _mm256_sqrt_pd(x); }

MINIDL_INLINE vec_f32 nearest_f32(vec_f32 x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
MINIDL_INLINE vec_f64 nearest_f64(vec_f64 x) {
    return _mm256_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* Adding 1.5 2^23 (1.5 2^52) leaves an integer in the low bits; with the bias added too, shifted to the exponent's place. */
MINIDL_INLINE vec_f32 power_of_two_f32(vec_f32 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(n + (12582912.0f + 127.0f)), 23));
}
MINIDL_INLINE vec_f64 power_of_two_f64(vec_f64 n) {
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(n + (6755399441055744.0 + 1023.0)), 52));
}
MINIDL_INLINE vec_f32 exponent_field_f32(vec_f32 x) { return _mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_castps_si256(x), 23)); }
MINIDL_INLINE vec_f64 exponent_field_f64(vec_f64 x) {
    const vec_f64 magic = _mm256_set1_pd(4503599627370496.0); /* 2^52: what is put into its low bits it counts */
    return _mm256_or_pd(_mm256_castsi256_pd(_mm256_srli_epi64(_mm256_castpd_si256(x), 52)), magic) - magic;
}
MINIDL_INLINE vec_f32 mantissa_f32(vec_f32 x) {
    const vec_f32 low = _mm256_castsi256_ps(_mm256_set1_epi32(0x007fffff));
    return _mm256_or_ps(_mm256_and_ps(x, low), _mm256_set1_ps(1.0f));
}
MINIDL_INLINE vec_f64 mantissa_f64(vec_f64 x) {
    const vec_f64 low = _mm256_castsi256_pd(_mm256_set1_epi64x(0x000fffffffffffff));
    return _mm256_or_pd(_mm256_and_pd(x, low), _mm256_set1_pd(1.0));
}

MINIDL_INLINE mask_f32 beats_f32(vec_f32 v, vec_f32 best) {
    return _mm256_or_ps(_mm256_cmp_ps(v, best, _CMP_GT_OQ), _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
}
MINIDL_INLINE mask_f64 beats_f64(vec_f64 v, vec_f64 best) {
    return _mm256_or_pd(_mm256_cmp_pd(v, best, _CMP_GT_OQ), _mm256_cmp_pd(v, v, _CMP_UNORD_Q));
}
/* A shuffle works on each half of a vector by itself; the permutation after it (or before) puts the quarters in order. */
MINIDL_INLINE vec_f64 middle_swapped(vec_f64 v) { return _mm256_permute4x64_pd(v, 0xd8); }
MINIDL_INLINE vec_f32 even_f32(vec_f32 a, vec_f32 b) {
    return _mm256_castpd_ps(middle_swapped(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88))));
}
MINIDL_INLINE vec_f32 odd_f32(vec_f32 a, vec_f32 b) {
    return _mm256_castpd_ps(middle_swapped(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd))));
}
MINIDL_INLINE vec_f64 even_f64(vec_f64 a, vec_f64 b) { return middle_swapped(_mm256_unpacklo_pd(a, b)); }
MINIDL_INLINE vec_f64 odd_f64(vec_f64 a, vec_f64 b) { return middle_swapped(_mm256_unpackhi_pd(a, b)); }
MINIDL_INLINE vec_f32 zip_low_f32(vec_f32 a, vec_f32 b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}
MINIDL_INLINE vec_f32 zip_high_f32(vec_f32 a, vec_f32 b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}
MINIDL_INLINE vec_f64 zip_low_f64(vec_f64 a, vec_f64 b) {
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x20);
}
MINIDL_INLINE vec_f64 zip_high_f64(vec_f64 a, vec_f64 b) {
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x31);
}

MINIDL_INLINE float largest_f32(vec_f32 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}
MINIDL_INLINE double largest_f64(vec_f64 v) {
    const __m128d m = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(m, _mm_unpackhi_pd(m, m)));
}
MINIDL_INLINE void add_wide_f32(vec_f64 *sum, vec_f32 v) {
    sum[0] += _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    sum[1] += _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}
MINIDL_INLINE void add_wide_f64(vec_f64 *sum, vec_f64 v) { sum[0] += v; }
MINIDL_INLINE void add_wide_squares_f32(vec_f64 *sum, vec_f32 v) {
    const vec_f64 low = _mm256_cvtps_pd(_mm256_castps256_ps128(v)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    sum[0] = _mm256_fmadd_pd(low, low, sum[0]);
    sum[1] = _mm256_fmadd_pd(high, high, sum[1]);
}
MINIDL_INLINE void add_wide_squares_f64(vec_f64 *sum, vec_f64 v) { sum[0] = _mm256_fmadd_pd(v, v, sum[0]); }
MINIDL_INLINE double total_f64(const vec_f64 *sum) {
    const __m128d m = _mm256_castpd256_pd128(sum[0]) + _mm256_extractf128_pd(sum[0], 1);
    return _mm_cvtsd_f64(m) + _mm_cvtsd_f64(_mm_unpackhi_pd(m, m));
}
MINIDL_INLINE double total_f32(const vec_f64 *sum) {
    const vec_f64 both = sum[0] + sum[1];
    return total_f64(&both);
}
