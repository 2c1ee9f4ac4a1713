/* Floats and 16-bit numbers.
 *
 *     for (i = 0; i < n; i++) y[i] = bf16(x[i]);
 *
 * rounded to the nearest bfloat16, ties to the even one: half of the last digit that stays is added, or a little less where that
 * digit is even, and the lower 16 bits go. The sum may carry into the exponent, which is right, up to infinity. A nan, which it
 * could carry out of the nans, keeps its upper bits and becomes quiet.
 */
#ifndef MINIDL_HALVES_H
#define MINIDL_HALVES_H

#include <stdint.h>

#include "runtime/isa.h"

/* The upper 16 bits of the rounded number, in place. */
static inline uint32_t minidl_bf16_bits(uint32_t bits) {
    const uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u), quiet = bits | 0x00400000u;
    return ((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded) & 0xffff0000u;
}

typedef struct {
    void (*round)(const float *x, float *y, ptrdiff_t n);
} minidl_halves_f32;
MINIDL_VARIANTS(minidl_halves_f32)

#endif
