/* The vectors that the kernels are written in. The including file has defined
 *
 *     real, SINGLE            float and 1, or double and 0
 *     VECTOR_BYTES            how long a vector is; or SCALAR, for compilers without vectors: one number
 *     MR, NV                  the largest tile: rows (4 or 8), and vectors in a row (2 or 3)
 *     SPLAT(x), FMADD(a, b, c)  x in every lane; a b + c
 */

#if defined(_MSC_VER) && !defined(__clang__)
#define INLINE static __forceinline
#define UNROLL
#define PREFETCH(address) ((void)0)
#else
#define INLINE static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
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
