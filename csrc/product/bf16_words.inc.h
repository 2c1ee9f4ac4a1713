/* What the kernels for bfloat16 numbers on x86-64 have in common: words that hold a pair of neighbours along k, by AVX512_BF16.
 * Included once the target is set and immintrin.h read. */
#include "product/words.inc.h"

typedef minidl_product_f32 product;

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
