/* simd.h for SSE2, which every x86-64 processor has: 4 floats, 2 doubles. No fused multiplication, no blending. */
#include <emmintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m128 vec_f32;
typedef __m128 mask_f32;
typedef __m128d vec_f64;
typedef __m128d mask_f64;
enum { LANES_f32 = 4, LANES_f64 = 2, WIDE_f32 = 2, WIDE_f64 = 1 };

MINIDL_INLINE vec_f32 splat_f32(float c) { return _mm_set1_ps(c); }
MINIDL_INLINE vec_f64 splat_f64(double c) { return _mm_set1_pd(c); }
MINIDL_INLINE vec_f32 load_f32(const float *p) { return _mm_loadu_ps(p); }
MINIDL_INLINE vec_f64 load_f64(const double *p) { return _mm_loadu_pd(p); }
MINIDL_INLINE void store_f32(float *p, vec_f32 v) { _mm_storeu_ps(p, v); }
MINIDL_INLINE void store_f64(double *p, vec_f64 v) { _mm_storeu_pd(p, v); }
MINIDL_INLINE vec_f32 load_part_f32(const float *p, ptrdiff_t n, float fill) {
    return _mm_setr_ps(n > 0 ? p[0] : fill, n > 1 ? p[1] : fill, n > 2 ? p[2] : fill, fill);
}
MINIDL_INLINE vec_f64 load_part_f64(const double *p, ptrdiff_t n, double fill) {
    return _mm_setr_pd(n > 0 ? p[0] : fill, fill);
}
MINIDL_INLINE void store_part_f32(float *p, vec_f32 v, ptrdiff_t n) {
    float lanes[4];
    _mm_storeu_ps(lanes, v);
    for (ptrdiff_t i = 0; i < n; i++) p[i] = lanes[i];
}
MINIDL_INLINE void store_part_f64(double *p, vec_f64 v, ptrdiff_t n) {
    if (n > 0) _mm_store_sd(p, v);
}

/* Bits of LANES floats, and 16-bit numbers read into their lower halves. */
#define MINIDL_WORDS_F32 1
typedef int32_t words_f32 __attribute__((vector_size(16)));
MINIDL_INLINE words_f32 load_words_f32(const uint16_t *p) {
    return (words_f32)_mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)p), _mm_setzero_si128());
}

MINIDL_INLINE vec_f32 madd_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return a * b + c; }
MINIDL_INLINE vec_f64 madd_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return a * b + c; }
/* a b - product without error, for product = a b as rounded. T. Dekker, "A floating-point technique for extending the available
 * precision" (1971): each factor is cut into two halves whose products are exact. */
MINIDL_INLINE vec_f32 product_rest_f32(vec_f32 a, vec_f32 b, vec_f32 product) {
    const vec_f32 a_shifted = a * 4097.0f, b_shifted = b * 4097.0f; /* 2^12 + 1 */
    const vec_f32 a_high = a_shifted - (a_shifted - a), a_low = a - a_high;
    const vec_f32 b_high = b_shifted - (b_shifted - b), b_low = b - b_high;
    return (((a_high * b_high - product) + a_high * b_low) + a_low * b_high) + a_low * b_low;
}
MINIDL_INLINE vec_f64 product_rest_f64(vec_f64 a, vec_f64 b, vec_f64 product) {
    const vec_f64 a_shifted = a * 134217729.0, b_shifted = b * 134217729.0; /* 2^27 + 1 */
    const vec_f64 a_high = a_shifted - (a_shifted - a), a_low = a - a_high;
    const vec_f64 b_high = b_shifted - (b_shifted - b), b_low = b - b_high;
    return (((a_high * b_high - product) + a_high * b_low) + a_low * b_high) + a_low * b_low;
}
MINIDL_INLINE vec_f32 fused_f32(vec_f32 a, vec_f32 b, vec_f32 c) {
    const vec_f32 product = a * b;
    return (product + c) + product_rest_f32(a, b, product);
}
MINIDL_INLINE vec_f64 fused_f64(vec_f64 a, vec_f64 b, vec_f64 c) {
    const vec_f64 product = a * b;
    return (product + c) + product_rest_f64(a, b, product);
}
MINIDL_INLINE vec_f32 quotient_f32(vec_f32 a, vec_f32 b, vec_f32 rest) {
    const vec_f32 q = a / b, product = q * b;
    return q + (((a - product) - product_rest_f32(q, b, product)) - q * rest) / b;
}
MINIDL_INLINE vec_f64 quotient_f64(vec_f64 a, vec_f64 b, vec_f64 rest) {
    const vec_f64 q = a / b, product = q * b;
    return q + (((a - product) - product_rest_f64(q, b, product)) - q * rest) / b;
}
/* min and max return their second operand if either is nan. */
MINIDL_INLINE vec_f32 least_f32(vec_f32 x, vec_f32 c) { return _mm_min_ps(c, x); }
MINIDL_INLINE vec_f64 least_f64(vec_f64 x, vec_f64 c) { return _mm_min_pd(c, x); }
MINIDL_INLINE vec_f32 most_f32(vec_f32 x, vec_f32 c) { return _mm_max_ps(c, x); }
MINIDL_INLINE vec_f64 most_f64(vec_f64 x, vec_f64 c) { return _mm_max_pd(c, x); }
MINIDL_INLINE vec_f32 absolute_f32(vec_f32 x) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), x); }
MINIDL_INLINE vec_f64 absolute_f64(vec_f64 x) { return _mm_andnot_pd(_mm_set1_pd(-0.0), x); }
MINIDL_INLINE vec_f32 with_sign_of_f32(vec_f32 x, vec_f32 s) { return _mm_or_ps(x, _mm_and_ps(s, _mm_set1_ps(-0.0f))); }
MINIDL_INLINE vec_f64 with_sign_of_f64(vec_f64 x, vec_f64 s) { return _mm_or_pd(x, _mm_and_pd(s, _mm_set1_pd(-0.0))); }
MINIDL_INLINE mask_f32 less_f32(vec_f32 a, vec_f32 b) { return _mm_cmplt_ps(a, b); }
MINIDL_INLINE mask_f64 less_f64(vec_f64 a, vec_f64 b) { return _mm_cmplt_pd(a, b); }
MINIDL_INLINE vec_f32 select_f32(mask_f32 m, vec_f32 a, vec_f32 b) {
    return _mm_or_ps(_mm_and_ps(m, a), _mm_andnot_ps(m, b));
}
MINIDL_INLINE vec_f64 select_f64(mask_f64 m, vec_f64 a, vec_f64 b) {
    return _mm_or_pd(_mm_and_pd(m, a), _mm_andnot_pd(m, b));
}
MINIDL_INLINE vec_f32 square_root_f32(vec_f32 x) { return _mm_sqrt_ps(x); }
MINIDL_INLINE vec_f64 square_root_f64(vec_f64 x) { return _mm_sqrt_pd(x); }

/* Adding 1.5 2^23 (1.5 2^52) leaves the nearest integer in the low bits. */
MINIDL_INLINE vec_f32 nearest_f32(vec_f32 x) { return (x + 12582912.0f) - 12582912.0f; }
MINIDL_INLINE vec_f64 nearest_f64(vec_f64 x) { return (x + 6755399441055744.0) - 6755399441055744.0; }
/* With the bias added too, shifted to the exponent's place. */
MINIDL_INLINE vec_f32 power_of_two_f32(vec_f32 n) {
    return _mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(n + (12582912.0f + 127.0f)), 23));
}
MINIDL_INLINE vec_f64 power_of_two_f64(vec_f64 n) {
    return _mm_castsi128_pd(_mm_slli_epi64(_mm_castpd_si128(n + (6755399441055744.0 + 1023.0)), 52));
}
MINIDL_INLINE vec_f32 exponent_field_f32(vec_f32 x) { return _mm_cvtepi32_ps(_mm_srli_epi32(_mm_castps_si128(x), 23)); }
MINIDL_INLINE vec_f64 exponent_field_f64(vec_f64 x) {
    const vec_f64 magic = _mm_set1_pd(4503599627370496.0); /* 2^52: what is put into its low bits it counts */
    return _mm_or_pd(_mm_castsi128_pd(_mm_srli_epi64(_mm_castpd_si128(x), 52)), magic) - magic;
}
MINIDL_INLINE vec_f32 mantissa_f32(vec_f32 x) {
    return _mm_or_ps(_mm_and_ps(x, _mm_castsi128_ps(_mm_set1_epi32(0x007fffff))), _mm_set1_ps(1.0f));
}
MINIDL_INLINE vec_f64 mantissa_f64(vec_f64 x) {
    return _mm_or_pd(_mm_and_pd(x, _mm_castsi128_pd(_mm_set1_epi64x(0x000fffffffffffff))), _mm_set1_pd(1.0));
}

MINIDL_INLINE mask_f32 beats_f32(vec_f32 v, vec_f32 best) { return _mm_or_ps(_mm_cmpgt_ps(v, best), _mm_cmpunord_ps(v, v)); }
MINIDL_INLINE mask_f64 beats_f64(vec_f64 v, vec_f64 best) { return _mm_or_pd(_mm_cmpgt_pd(v, best), _mm_cmpunord_pd(v, v)); }
MINIDL_INLINE vec_f32 even_f32(vec_f32 a, vec_f32 b) { return _mm_shuffle_ps(a, b, 0x88); }
MINIDL_INLINE vec_f32 odd_f32(vec_f32 a, vec_f32 b) { return _mm_shuffle_ps(a, b, 0xdd); }
MINIDL_INLINE vec_f64 even_f64(vec_f64 a, vec_f64 b) { return _mm_unpacklo_pd(a, b); }
MINIDL_INLINE vec_f64 odd_f64(vec_f64 a, vec_f64 b) { return _mm_unpackhi_pd(a, b); }
MINIDL_INLINE vec_f32 zip_low_f32(vec_f32 a, vec_f32 b) { return _mm_unpacklo_ps(a, b); }
MINIDL_INLINE vec_f32 zip_high_f32(vec_f32 a, vec_f32 b) { return _mm_unpackhi_ps(a, b); }
MINIDL_INLINE vec_f64 zip_low_f64(vec_f64 a, vec_f64 b) { return _mm_unpacklo_pd(a, b); }
MINIDL_INLINE vec_f64 zip_high_f64(vec_f64 a, vec_f64 b) { return _mm_unpackhi_pd(a, b); }

MINIDL_INLINE float largest_f32(vec_f32 v) {
    const __m128 m = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}
MINIDL_INLINE double largest_f64(vec_f64 v) { return _mm_cvtsd_f64(_mm_max_sd(v, _mm_unpackhi_pd(v, v))); }
MINIDL_INLINE void add_wide_f32(vec_f64 *sum, vec_f32 v) {
    sum[0] += _mm_cvtps_pd(v);
    sum[1] += _mm_cvtps_pd(_mm_movehl_ps(v, v));
}
MINIDL_INLINE void add_wide_f64(vec_f64 *sum, vec_f64 v) { sum[0] += v; }
MINIDL_INLINE void add_wide_squares_f32(vec_f64 *sum, vec_f32 v) {
    const vec_f64 low = _mm_cvtps_pd(v), high = _mm_cvtps_pd(_mm_movehl_ps(v, v));
    sum[0] += low * low;
    sum[1] += high * high;
}
MINIDL_INLINE void add_wide_squares_f64(vec_f64 *sum, vec_f64 v) { sum[0] += v * v; }
MINIDL_INLINE double total_f64(const vec_f64 *sum) {
    return _mm_cvtsd_f64(sum[0]) + _mm_cvtsd_f64(_mm_unpackhi_pd(sum[0], sum[0]));
}
MINIDL_INLINE double total_f32(const vec_f64 *sum) {
    const vec_f64 both = sum[0] + sum[1];
    return total_f64(&both);
}
