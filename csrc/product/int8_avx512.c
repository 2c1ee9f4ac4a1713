/* Sums of products of 8-bit integers by AVX512_VNNI.
 *
 * vpdpbusd adds four products of an unsigned and a signed number to each of 16 sums, without saturation. So 128 is added to x,
 * and 128 times the sum of the weights is subtracted in the end; that sum is another vpdpbusd, while the weights are at hand. */
#include "product/narrow.h"

#ifdef MINIDL_HAS_BF16_DOTS

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))), apply_to = function)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,prefer-vector-width=512")
#define UNROLL _Pragma("GCC unroll 8")
#endif

enum { BYTES = 64, OUTPUTS = 4 };

static inline __mmask64 first_bytes(ptrdiff_t count) { return count >= BYTES ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1; }

static inline void some_dots(int outputs, const int8_t *x, const int8_t *w, ptrdiff_t k, int32_t *sums) {
    const __m512i half = _mm512_set1_epi8(-128), ones = _mm512_set1_epi8(1);
    __m512i sum[OUTPUTS], of_weights[OUTPUTS];
    UNROLL for (int j = 0; j < OUTPUTS; j++) sum[j] = of_weights[j] = _mm512_setzero_si512();
    for (ptrdiff_t p = 0; p < k; p += BYTES) {
        const __mmask64 there = first_bytes(k - p);
        const __m512i left = _mm512_xor_si512(_mm512_maskz_loadu_epi8(there, x + p), half); /* which adds 128 */
        UNROLL for (int j = 0; j < OUTPUTS; j++) {
            const __m512i right = _mm512_maskz_loadu_epi8(j < outputs ? there : 0, w + (j < outputs ? j * k : 0) + p);
            sum[j] = _mm512_dpbusd_epi32(sum[j], left, right);
            of_weights[j] = _mm512_dpbusd_epi32(of_weights[j], ones, right);
        }
    }
    for (int j = 0; j < outputs; j++)
        sums[j] = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum[j], _mm512_slli_epi32(of_weights[j], 7)));
}

void minidl_int8_dots_vnni(const int8_t *x, const int8_t *w, ptrdiff_t outputs, ptrdiff_t k, int32_t *sums) {
    ptrdiff_t o = 0;
    for (; o + OUTPUTS <= outputs; o += OUTPUTS) some_dots(OUTPUTS, x, w + o * k, k, sums + o);
    if (o < outputs) some_dots((int)(outputs - o), x, w + o * k, k, sums + o);
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_nothing_for_this_machine; /* a file must declare something */
#endif
