/* What the kernels for bfloat16 numbers on x86-64 have in common: words that hold a pair of neighbours along k, by AVX512_BF16.
 * Included once the target is set and immintrin.h read. From there on
 *
 *     word, LANES     a pair, the first of it in the lower half; and how many fill a vector
 *     INLINE, UNROLL  what compilers call these
 */
typedef minidl_product_f32 product;
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

/* 16 neighbours of two lines along k, as words. */
INLINE __m512i pair_up(__m512 first, __m512 second) {
    const __m512i turns = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
                                           4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(turns, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

/* 32 neighbours along k, of which `left` exist, as words. */
INLINE __m512i words_along(const float *from, ptrdiff_t left) {
    const __mmask16 low = first_lanes(left), high = first_lanes(left - LANES);
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, from + LANES), _mm512_maskz_loadu_ps(low, from));
}

/* The words of 16 lines, those of `there`, from two elements of each, or from one if `both` is 0. */
INLINE __m512i words_across(const float *from, ptrdiff_t along, __mmask16 there, int both) {
    return pair_up(_mm512_maskz_loadu_ps(there, from), _mm512_maskz_loadu_ps(both ? there : 0, both ? from + along : from));
}
