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

enum { BYTES = 64, CHAINS = 2, AHEAD = 4096 }; /* of a vector; sums at a time; bytes that are asked for early */

static inline __mmask64 first_bytes(ptrdiff_t count) { return count >= BYTES ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1; }

/* One row of weights after the other, each from end to end: memory gives a single stream most. */
void minidl_int8_dots_vnni(const int8_t *x, const int8_t *w, ptrdiff_t outputs, ptrdiff_t k, int32_t *sums) {
    const __m512i half = _mm512_set1_epi8(-128), ones = _mm512_set1_epi8(1);
    for (ptrdiff_t o = 0; o < outputs; o++, w += k) {
        __m512i sum[CHAINS], of_weights[CHAINS];
        UNROLL for (int t = 0; t < CHAINS; t++) sum[t] = of_weights[t] = _mm512_setzero_si512();
        ptrdiff_t p = 0;
        for (; p + CHAINS * BYTES <= k; p += CHAINS * BYTES)
            UNROLL for (int t = 0; t < CHAINS; t++) {
                const int8_t *const at = w + p + t * BYTES;
                __builtin_prefetch(at + AHEAD, 0, 2); /* into the L2 cache */
                const __m512i left = _mm512_xor_si512(_mm512_loadu_si512(x + p + t * BYTES), half); /* which adds 128 */
                const __m512i right = _mm512_loadu_si512(at);
                sum[t] = _mm512_dpbusd_epi32(sum[t], left, right);
                of_weights[t] = _mm512_dpbusd_epi32(of_weights[t], ones, right);
            }
        for (; p < k; p += BYTES) {
            const __mmask64 there = first_bytes(k - p);
            const __m512i left = _mm512_xor_si512(_mm512_maskz_loadu_epi8(there, x + p), half);
            const __m512i right = _mm512_maskz_loadu_epi8(there, w + p);
            sum[0] = _mm512_dpbusd_epi32(sum[0], left, right);
            of_weights[0] = _mm512_dpbusd_epi32(of_weights[0], ones, right);
        }
        UNROLL for (int t = 1; t < CHAINS; t++) {
            sum[0] = _mm512_add_epi32(sum[0], sum[t]);
            of_weights[0] = _mm512_add_epi32(of_weights[0], of_weights[t]);
        }
        sums[o] = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum[0], _mm512_slli_epi32(of_weights[0], 7)));
    }
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_nothing_for_this_machine; /* a file must declare something */
#endif
