/* Words of 32 bits in vectors of 16, for kernels on x86-64 that multiply pairs of bfloat16 numbers or groups of four bytes.
 * Included once the target is set and immintrin.h read. From there on
 *
 *     word, LANES     some neighbours along k, the first of them lowest; and how many words fill a vector
 *     INLINE, UNROLL  what compilers call these
 */
typedef uint32_t word;

enum { LANES = 16 };

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline __mmask16 first_lanes(ptrdiff_t count) {
    return count >= LANES ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* Rows become columns, of 16 x 16 words. */
INLINE void transpose(__m512i r[LANES]) {
    __m512i t[LANES];
    UNROLL for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) UNROLL for (int s = 0; s < 2; s++) {
        r[i + 2 * s] = _mm512_unpacklo_epi64(t[i + s], t[i + s + 2]);
        r[i + 2 * s + 1] = _mm512_unpackhi_epi64(t[i + s], t[i + s + 2]);
    }
    UNROLL for (int i = 0; i < LANES; i += 8) UNROLL for (int s = 0; s < 4; s++) {
        t[i + s] = _mm512_shuffle_i32x4(r[i + s], r[i + s + 4], 0x88);
        t[i + s + 4] = _mm512_shuffle_i32x4(r[i + s], r[i + s + 4], 0xdd);
    }
    UNROLL for (int s = 0; s < 8; s++) {
        r[s] = _mm512_shuffle_i32x4(t[s], t[s + 8], 0x88);
        r[s + 8] = _mm512_shuffle_i32x4(t[s], t[s + 8], 0xdd);
    }
}
