/* simd.h where a vector is one element: for compilers without vector types, and for CUDA. */
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define MINIDL_FUSED_f32(a, b, c) __fmaf_rn(a, b, c)
#define MINIDL_FUSED_f64(a, b, c) __fma_rn(a, b, c)
#else
#include <math.h>
#include <stddef.h>
#endif

enum { LANES_f32 = 1, LANES_f64 = 1, WIDE_f32 = 1, WIDE_f64 = 1 };

typedef float vec_f32;
typedef int mask_f32;
typedef double vec_f64;
typedef int mask_f64;

#define MINIDL_SCALAR(real, suffix, bits_t, mantissa_bits, bias, magic)                                                    \
    MINIDL_INLINE real splat##suffix(real c) { return c; }                                                                 \
    MINIDL_INLINE real load##suffix(const real *p) { return *p; }                                                          \
    MINIDL_INLINE void store##suffix(real *p, real v) { *p = v; }                                                          \
    MINIDL_INLINE real load_part##suffix(const real *p, ptrdiff_t n, real fill) { return n > 0 ? *p : fill; }              \
    MINIDL_INLINE void store_part##suffix(real *p, real v, ptrdiff_t n) {                                                  \
        if (n > 0) *p = v;                                                                                                 \
    }                                                                                                                      \
    MINIDL_INLINE bits_t to_bits##suffix(real x) {                                                                         \
        union {                                                                                                            \
            real value;                                                                                                    \
            bits_t bits;                                                                                                   \
        } u;                                                                                                               \
        u.value = x;                                                                                                       \
        return u.bits;                                                                                                     \
    }                                                                                                                      \
    MINIDL_INLINE real from_bits##suffix(bits_t bits) {                                                                    \
        union {                                                                                                            \
            real value;                                                                                                    \
            bits_t bits;                                                                                                   \
        } u;                                                                                                               \
        u.bits = bits;                                                                                                     \
        return u.value;                                                                                                    \
    }                                                                                                                      \
    MINIDL_INLINE real least##suffix(real x, real c) { return c < x ? c : x; }                                             \
    MINIDL_INLINE real most##suffix(real x, real c) { return c > x ? c : x; }                                              \
    MINIDL_INLINE real absolute##suffix(real x) { return from_bits##suffix(to_bits##suffix(x) & ((bits_t)-1 >> 1)); }      \
    MINIDL_INLINE real with_sign_of##suffix(real x, real s) {                                                              \
        return from_bits##suffix(to_bits##suffix(x) | (to_bits##suffix(s) & ~((bits_t)-1 >> 1)));                          \
    }                                                                                                                      \
    MINIDL_INLINE int less##suffix(real a, real b) { return a < b; }                                                       \
    MINIDL_INLINE real select##suffix(int m, real a, real b) { return m ? a : b; }                                         \
    MINIDL_INLINE int beats##suffix(real v, real best) { return v > best || v != v; }                                      \
    MINIDL_INLINE real even##suffix(real a, real b) { return ((void)b, a); }                                               \
    MINIDL_INLINE real odd##suffix(real a, real b) { return ((void)a, b); }                                                \
    MINIDL_INLINE real zip_low##suffix(real a, real b) { return ((void)b, a); }                                            \
    MINIDL_INLINE real zip_high##suffix(real a, real b) { return ((void)a, b); }                                           \
    MINIDL_INLINE real nearest##suffix(real x) { return (x + magic) - magic; }                                             \
    MINIDL_INLINE real power_of_two##suffix(real n) {                                                                      \
        return from_bits##suffix(to_bits##suffix(n + (magic + (real)bias)) << mantissa_bits);                              \
    }                                                                                                                      \
    MINIDL_INLINE real exponent_field##suffix(real x) { return (real)(int)(to_bits##suffix(x) >> mantissa_bits); }         \
    MINIDL_INLINE real mantissa##suffix(real x) {                                                                          \
        const bits_t low = ((bits_t)1 << mantissa_bits) - 1;                                                               \
        return from_bits##suffix((to_bits##suffix(x) & low) | to_bits##suffix((real)1));                                   \
    }                                                                                                                      \
    MINIDL_INLINE real largest##suffix(real v) { return v; }                                                               \
    MINIDL_INLINE void add_wide##suffix(double *sum, real v) { sum[0] += (double)v; }                                      \
    MINIDL_INLINE void add_wide_squares##suffix(double *sum, real v) { sum[0] += (double)v * (double)v; }                  \
    MINIDL_INLINE double total##suffix(const double *sum) { return sum[0]; }

/* product_rest is a b - product without error, for product = a b as rounded. */
#ifdef MINIDL_FUSED_f32
#define MINIDL_PRODUCTS(real, suffix, split)                                                                               \
    MINIDL_INLINE real madd##suffix(real a, real b, real c) { return MINIDL_FUSED##suffix(a, b, c); }                      \
    MINIDL_INLINE real fused##suffix(real a, real b, real c) { return MINIDL_FUSED##suffix(a, b, c); }                     \
    MINIDL_INLINE real product_rest##suffix(real a, real b, real product) { return MINIDL_FUSED##suffix(a, b, -product); }
#else
/* T. Dekker, "A floating-point technique for extending the available precision" (1971): each factor is cut into two halves
 * whose products are exact. 2^12 + 1 and 2^27 + 1 cut in the middle. */
#define MINIDL_PRODUCTS(real, suffix, split)                                                                               \
    MINIDL_INLINE real madd##suffix(real a, real b, real c) { return a * b + c; }                                          \
    MINIDL_INLINE real product_rest##suffix(real a, real b, real product) {                                                \
        const real a_shifted = a * (real)split, b_shifted = b * (real)split;                                               \
        const real a_high = a_shifted - (a_shifted - a), a_low = a - a_high;                                               \
        const real b_high = b_shifted - (b_shifted - b), b_low = b - b_high;                                               \
        return (((a_high * b_high - product) + a_high * b_low) + a_low * b_high) + a_low * b_low;                          \
    }                                                                                                                      \
    MINIDL_INLINE real fused##suffix(real a, real b, real c) {                                                             \
        const real product = a * b;                                                                                        \
        return (product + c) + product_rest##suffix(a, b, product);                                                        \
    }
#endif
#define MINIDL_QUOTIENT(real, suffix)                                                                                      \
    MINIDL_INLINE real quotient##suffix(real a, real b, real rest) {                                                       \
        const real q = a / b, product = q * b;                                                                             \
        return q + (((a - product) - product_rest##suffix(q, b, product)) - q * rest) / b;                                 \
    }

MINIDL_SCALAR(float, _f32, unsigned int, 23, 127, 12582912.0f)
MINIDL_SCALAR(double, _f64, unsigned long long, 52, 1023, 6755399441055744.0)
MINIDL_PRODUCTS(float, _f32, 4097)
MINIDL_PRODUCTS(double, _f64, 134217729)
MINIDL_QUOTIENT(float, _f32)
MINIDL_QUOTIENT(double, _f64)
MINIDL_INLINE float square_root_f32(float x) { return sqrtf(x); }
MINIDL_INLINE double square_root_f64(double x) { return sqrt(x); }
