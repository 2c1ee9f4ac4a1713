/* simd.h for Advanced SIMD (NEON) on 64-bit ARM, where every processor has it: 4 floats, 2 doubles, fused. */
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

typedef float32x4_t vec_f32;
typedef uint32x4_t mask_f32;
typedef float64x2_t vec_f64;
typedef uint64x2_t mask_f64;
enum { LANES_f32 = 4, LANES_f64 = 2, WIDE_f32 = 2, WIDE_f64 = 1 };

MINIDL_INLINE vec_f32 splat_f32(float c) { return vdupq_n_f32(c); }
MINIDL_INLINE vec_f64 splat_f64(double c) { return vdupq_n_f64(c); }
MINIDL_INLINE vec_f32 load_f32(const float *p) { return vld1q_f32(p); }
MINIDL_INLINE vec_f64 load_f64(const double *p) { return vld1q_f64(p); }
MINIDL_INLINE void store_f32(float *p, vec_f32 v) { vst1q_f32(p, v); }
MINIDL_INLINE void store_f64(double *p, vec_f64 v) { vst1q_f64(p, v); }
MINIDL_INLINE vec_f32 load_part_f32(const float *p, ptrdiff_t n, float fill) {
    const float lanes[4] = {n > 0 ? p[0] : fill, n > 1 ? p[1] : fill, n > 2 ? p[2] : fill, fill};
    return vld1q_f32(lanes);
}
MINIDL_INLINE vec_f64 load_part_f64(const double *p, ptrdiff_t n, double fill) {
    const double lanes[2] = {n > 0 ? p[0] : fill, fill};
    return vld1q_f64(lanes);
}
MINIDL_INLINE void store_part_f32(float *p, vec_f32 v, ptrdiff_t n) {
    float lanes[4];
    vst1q_f32(lanes, v);
    for (ptrdiff_t i = 0; i < n; i++) p[i] = lanes[i];
}
MINIDL_INLINE void store_part_f64(double *p, vec_f64 v, ptrdiff_t n) {
    if (n > 0) vst1q_lane_f64(p, v, 0);
}

/* Bits of LANES floats, and 16-bit numbers read into their lower halves. */
#define MINIDL_WORDS_F32 1
typedef int32_t words_f32 __attribute__((vector_size(16)));
MINIDL_INLINE words_f32 load_words_f32(const uint16_t *p) { return (words_f32)vmovl_u16(vld1_u16(p)); }

MINIDL_INLINE vec_f32 madd_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return vfmaq_f32(c, a, b); }
MINIDL_INLINE vec_f64 madd_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return vfmaq_f64(c, a, b); }
MINIDL_INLINE vec_f32 fused_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return madd_f32(a, b, c); }
MINIDL_INLINE vec_f64 fused_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return madd_f64(a, b, c); }
MINIDL_INLINE vec_f32 quotient_f32(vec_f32 a, vec_f32 b, vec_f32 rest) {
    const vec_f32 inverse = 1.0f / b, q = a * inverse;
    return vfmaq_f32(q, vfmsq_f32(vfmsq_f32(a, q, b), q, rest), inverse);
}
MINIDL_INLINE vec_f64 quotient_f64(vec_f64 a, vec_f64 b, vec_f64 rest) {
    const vec_f64 inverse = 1.0 / b, q = a * inverse;
    return vfmaq_f64(q, vfmsq_f64(vfmsq_f64(a, q, b), q, rest), inverse);
}
MINIDL_INLINE mask_f32 less_f32(vec_f32 a, vec_f32 b) { return vcltq_f32(a, b); }
MINIDL_INLINE mask_f64 less_f64(vec_f64 a, vec_f64 b) { return vcltq_f64(a, b); }
MINIDL_INLINE vec_f32 select_f32(mask_f32 m, vec_f32 a, vec_f32 b) { return vbslq_f32(m, a, b); }
MINIDL_INLINE vec_f64 select_f64(mask_f64 m, vec_f64 a, vec_f64 b) { return vbslq_f64(m, a, b); }
MINIDL_INLINE vec_f32 least_f32(vec_f32 x, vec_f32 c) { return vminq_f32(x, c); } /* nan if either is */
MINIDL_INLINE vec_f64 least_f64(vec_f64 x, vec_f64 c) { return vminq_f64(x, c); }
MINIDL_INLINE vec_f32 most_f32(vec_f32 x, vec_f32 c) { return vmaxq_f32(x, c); }
MINIDL_INLINE vec_f64 most_f64(vec_f64 x, vec_f64 c) { return vmaxq_f64(x, c); }
MINIDL_INLINE vec_f32 absolute_f32(vec_f32 x) { return vabsq_f32(x); }
MINIDL_INLINE vec_f64 absolute_f64(vec_f64 x) { return vabsq_f64(x); }
MINIDL_INLINE vec_f32 with_sign_of_f32(vec_f32 x, vec_f32 s) { return vbslq_f32(vdupq_n_u32(0x80000000u), s, x); }
MINIDL_INLINE vec_f64 with_sign_of_f64(vec_f64 x, vec_f64 s) { return vbslq_f64(vdupq_n_u64(0x8000000000000000u), s, x); }
MINIDL_INLINE vec_f32 square_root_f32(vec_f32 x) { return vsqrtq_f32(x); }
MINIDL_INLINE vec_f64 square_root_f64(vec_f64 x) { return vsqrtq_f64(x); }

MINIDL_INLINE vec_f32 nearest_f32(vec_f32 x) { return vrndnq_f32(x); }
MINIDL_INLINE vec_f64 nearest_f64(vec_f64 x) { return vrndnq_f64(x); }
MINIDL_INLINE vec_f32 power_of_two_f32(vec_f32 n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
MINIDL_INLINE vec_f64 power_of_two_f64(vec_f64 n) {
    return vreinterpretq_f64_s64(vshlq_n_s64(vaddq_s64(vcvtq_s64_f64(n), vdupq_n_s64(1023)), 52));
}
MINIDL_INLINE vec_f32 exponent_field_f32(vec_f32 x) { return vcvtq_f32_u32(vshrq_n_u32(vreinterpretq_u32_f32(x), 23)); }
MINIDL_INLINE vec_f64 exponent_field_f64(vec_f64 x) { return vcvtq_f64_u64(vshrq_n_u64(vreinterpretq_u64_f64(x), 52)); }
MINIDL_INLINE vec_f32 mantissa_f32(vec_f32 x) { return vbslq_f32(vdupq_n_u32(0x007fffffu), x, vdupq_n_f32(1.0f)); }
MINIDL_INLINE vec_f64 mantissa_f64(vec_f64 x) { return vbslq_f64(vdupq_n_u64(0x000fffffffffffffu), x, vdupq_n_f64(1.0)); }

MINIDL_INLINE mask_f32 beats_f32(vec_f32 v, vec_f32 best) { return vornq_u32(vcgtq_f32(v, best), vceqq_f32(v, v)); }
MINIDL_INLINE mask_f64 beats_f64(vec_f64 v, vec_f64 best) { return vornq_u64(vcgtq_f64(v, best), vceqq_f64(v, v)); }
MINIDL_INLINE vec_f32 even_f32(vec_f32 a, vec_f32 b) { return vuzp1q_f32(a, b); }
MINIDL_INLINE vec_f32 odd_f32(vec_f32 a, vec_f32 b) { return vuzp2q_f32(a, b); }
MINIDL_INLINE vec_f64 even_f64(vec_f64 a, vec_f64 b) { return vuzp1q_f64(a, b); }
MINIDL_INLINE vec_f64 odd_f64(vec_f64 a, vec_f64 b) { return vuzp2q_f64(a, b); }
MINIDL_INLINE vec_f32 zip_low_f32(vec_f32 a, vec_f32 b) { return vzip1q_f32(a, b); }
MINIDL_INLINE vec_f32 zip_high_f32(vec_f32 a, vec_f32 b) { return vzip2q_f32(a, b); }
MINIDL_INLINE vec_f64 zip_low_f64(vec_f64 a, vec_f64 b) { return vzip1q_f64(a, b); }
MINIDL_INLINE vec_f64 zip_high_f64(vec_f64 a, vec_f64 b) { return vzip2q_f64(a, b); }

MINIDL_INLINE float largest_f32(vec_f32 v) { return vmaxnmvq_f32(v); }
MINIDL_INLINE double largest_f64(vec_f64 v) { return vmaxnmvq_f64(v); }
MINIDL_INLINE void add_wide_f32(vec_f64 *sum, vec_f32 v) {
    sum[0] += vcvt_f64_f32(vget_low_f32(v));
    sum[1] += vcvt_high_f64_f32(v);
}
MINIDL_INLINE void add_wide_f64(vec_f64 *sum, vec_f64 v) { sum[0] += v; }
MINIDL_INLINE void add_wide_squares_f32(vec_f64 *sum, vec_f32 v) {
    const vec_f64 low = vcvt_f64_f32(vget_low_f32(v)), high = vcvt_high_f64_f32(v);
    sum[0] = vfmaq_f64(sum[0], low, low);
    sum[1] = vfmaq_f64(sum[1], high, high);
}
MINIDL_INLINE void add_wide_squares_f64(vec_f64 *sum, vec_f64 v) { sum[0] = vfmaq_f64(sum[0], v, v); }
MINIDL_INLINE double total_f64(const vec_f64 *sum) { return vaddvq_f64(sum[0]); }
MINIDL_INLINE double total_f32(const vec_f64 *sum) { return vaddvq_f64(sum[0] + sum[1]); }
