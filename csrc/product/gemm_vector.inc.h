/* The vectors that the products and convolutions are written in, and the terms that their files share. isa/families.inc.h has
 * defined real and SINGLE (1 for float), and which instruction set it is. From there on
 *
 *     vector, LANES             a vector and how many elements it has; one element for compilers without vectors
 *     MR, NV, NR                the largest tile: rows (4 or 8), and vectors and elements in a row; its sums fill the registers
 *     SPLAT(x), FMADD(a, b, c)  x in every lane; a b + c
 *     half_vector, HALF_SPLAT, HALF_FMADD   the same for half as many elements, where the last columns are few: only with AVX-512
 *     LOAD(from), STORE(to, v)  memory aligned as its elements are
 *     INLINE, UNROLL, PREFETCH, PREFETCH_FAR  what compilers call these
 */

#if defined(ISA_AVX512) /* 32 registers of 64 bytes, 24 of them sums */
#define VECTOR_BYTES 64
#define MR 8
#define NV 3
#if SINGLE
#define SPLAT(x) ((vector)_mm512_set1_ps(x))
#define FMADD(a, b, c) ((vector)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define HALF_SPLAT(x) ((half_vector)_mm256_set1_ps(x))
#define HALF_FMADD(a, b, c) ((half_vector)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#else
#define SPLAT(x) ((vector)_mm512_set1_pd(x))
#define FMADD(a, b, c) ((vector)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define HALF_SPLAT(x) ((half_vector)_mm256_set1_pd(x))
#define HALF_FMADD(a, b, c) ((half_vector)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#endif
#elif defined(ISA_AVX2) /* 16 registers of 32 bytes, 12 of them sums */
#define VECTOR_BYTES 32
#define MR 4
#define NV 3
#if SINGLE
#define SPLAT(x) ((vector)_mm256_set1_ps(x))
#define FMADD(a, b, c) ((vector)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#else
#define SPLAT(x) ((vector)_mm256_set1_pd(x))
#define FMADD(a, b, c) ((vector)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#endif
#elif defined(ISA_NEON) /* 32 registers of 16 bytes, 16 of them sums, 8 for A */
#define VECTOR_BYTES 16
#define MR 8
#define NV 2
#if SINGLE
#define SPLAT(x) ((vector)vdupq_n_f32(x))
#define FMADD(a, b, c) ((vector)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#else
#define SPLAT(x) ((vector)vdupq_n_f64(x))
#define FMADD(a, b, c) ((vector)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#endif
#else /* any processor: vectors of 16 bytes, if the compiler has vectors */
#define MR 4
#define NV 3
#if defined(__GNUC__)
#define VECTOR_BYTES 16
#define SPLAT(x) ((x) - (vector){0}) /* compilers know that this is x in every lane, and no subtraction */
#else
#define SCALAR 1
#define SPLAT(x) (x)
#endif
#define FMADD(a, b, c) ((a) * (b) + (c))
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define INLINE static __forceinline
#define UNROLL
#define PREFETCH(address) ((void)0)
#define PREFETCH_FAR(address) ((void)0)
#else
#define INLINE static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#define PREFETCH_FAR(address) __builtin_prefetch(address, 0, 2) /* into the L2 cache */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#endif

#define LOAD(from) (*(const vector *)(from))
#define STORE(to, v) (*(vector *)(to) = (v))

#ifdef SCALAR

enum { LANES = 1, SHORT = 1, NR = NV };
typedef real vector;
typedef real short_vector;

INLINE void transpose(short_vector *row) { (void)row; }
INLINE vector last_lanes(const real *from, ptrdiff_t count) { return count > 0 ? *from : 0; }

#else

enum { LANES = VECTOR_BYTES / sizeof(real), SHORT = 16 / sizeof(real), NR = NV * LANES };
typedef real vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef real short_vector __attribute__((vector_size(16), aligned(sizeof(real)), may_alias)); /* for squares to transpose */
#ifdef HALF_FMADD
typedef real half_vector __attribute__((vector_size(VECTOR_BYTES / 2), aligned(sizeof(real)), may_alias));
#endif

#if SINGLE
typedef int word;
#else
typedef long long word;
#endif
typedef word words __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef word short_words __attribute__((vector_size(16)));

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (short_words){__VA_ARGS__})
#endif

/* Numbers row[i][p] become row[p][i]. */
INLINE void transpose(short_vector row[SHORT]) {
#if SINGLE
    const short_vector low01 = SHUFFLE(row[0], row[1], 0, 4, 1, 5), high01 = SHUFFLE(row[0], row[1], 2, 6, 3, 7);
    const short_vector low23 = SHUFFLE(row[2], row[3], 0, 4, 1, 5), high23 = SHUFFLE(row[2], row[3], 2, 6, 3, 7);
    row[0] = SHUFFLE(low01, low23, 0, 1, 4, 5);
    row[1] = SHUFFLE(low01, low23, 2, 3, 6, 7);
    row[2] = SHUFFLE(high01, high23, 0, 1, 4, 5);
    row[3] = SHUFFLE(high01, high23, 2, 3, 6, 7);
#else
    const short_vector first = SHUFFLE(row[0], row[1], 0, 2);
    row[1] = SHUFFLE(row[0], row[1], 1, 3);
    row[0] = first;
#endif
}

/* The vector at `from` with zeros in all but its last `count` lanes. */
INLINE vector last_lanes(const real *from, ptrdiff_t count) {
    words kept;
    UNROLL for (int t = 0; t < LANES; t++) kept[t] = t >= LANES - count ? -1 : 0;
    return (vector)(*(const words *)from & kept);
}

#endif
