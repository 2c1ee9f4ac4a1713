/* Numbers of 16 and 8 bits: rounding to bfloat16, and linear layers whose weights are stored in less than 32 bits, for inference.
 *
 * Rounding to the nearest bfloat16, ties to the even one: half of the last digit that stays is added, or a little less where that
 * digit is even, and the lower 16 bits go. The sum may carry into the exponent, which is right, up to infinity. A nan, which it
 * could carry out of the nans, keeps its upper bits and becomes quiet.
 *
 * Weights of 16 bits are bfloat16 or IEEE float16, rows without gaps. They are widened as they are read, which is exact:
 *
 *     for (r = 0; r < rows; r++)
 *         for (o = 0; o < outputs; o++) {
 *             sum = 0;
 *             for (p = 0; p < k; p++) sum += x[r][p] * wide(w[o][p]);
 *             y[r][o] = sum + bias[o];
 *         }
 *
 * Weights of 8 bits have a scale for each output, and each row of x gets one: what makes its largest element 127.
 *
 *     for (r = 0; r < rows; r++) {
 *         scale = max |x[r][p]| / 127;  q[p] = nearest(x[r][p] / scale);
 *         for (o = 0; o < outputs; o++) {
 *             sum = 0;                                                   an integer, exact
 *             for (p = 0; p < k; p++) sum += q[p] * w[o][p];
 *             y[r][o] = sum * (scale * weight_scale[o]) + bias[o];
 *         }
 *     }
 *
 * A row of zeros has scale 1. One with a number that is not finite becomes nan. */
#ifndef MINIDL_NARROW_H
#define MINIDL_NARROW_H

#include <stdint.h>

#include "product/gemm.h"
#include "runtime/isa.h"

enum { MINIDL_MOST_ROWS = 8 };             /* beyond, a matrix product of widened weights is faster */
enum { MINIDL_MOST_INT8_TERMS = 1 << 16 }; /* so that sums fit 32 bits: 255 * 127 * 65536 < 2^31 */

/* The upper 16 bits of the rounded number, in place. Subnormal numbers become zero with their sign, as by the instructions for
 * bfloat16 (product/bf16_avx512.c): infinity times them must be nan on every processor, or on none. */
static inline uint32_t minidl_bf16_bits(uint32_t bits) {
    const uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u), quiet = bits | 0x00400000u;
    const uint32_t kept = (bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded;
    return kept & ((bits & 0x7f800000u) != 0 ? 0xffff0000u : 0x80000000u);
}

/* round     y = bf16(x)
 * widen     y = x, exactly
 * dots      rows of x, k apart, times some rows of weights; y's rows are y_row apart
 * int8_dots the sums of one row of integers from -127 to 127, times some rows of weights */
typedef struct {
    void (*round)(const float *x, float *y, ptrdiff_t n);
    void (*widen)(int is_float16, const uint16_t *x, float *y, ptrdiff_t n);
    void (*dots)(int is_float16, const float *x, ptrdiff_t rows, const uint16_t *w, ptrdiff_t outputs, ptrdiff_t k,
                 const float *bias, float *y, ptrdiff_t y_row);
    void (*int8_dots)(const int8_t *x, const int8_t *w, ptrdiff_t outputs, ptrdiff_t k, int32_t *sums);
} minidl_narrow_f32;
MINIDL_VARIANTS(minidl_narrow_f32)

/* Over threads. Of what follows a product, `after` has bias, activation and its arguments; it may be NULL. Statuses are 0, or 1
 * where there is no memory for rounded rows and packed weights. */
void minidl_round_to_bf16(const float *x, float *y, ptrdiff_t n);
void minidl_widen(int is_float16, const uint16_t *x, float *y, ptrdiff_t n);
/* Few rows read the weights as they lie. Many rows multiply some of them at a time, as float; or, where x is rounded to bfloat16
 * (`rounds`, as product/bf16.h has it) and the processor multiplies such numbers, as they are stored. */
int minidl_linear_16(int is_float16, int rounds, const float *x, ptrdiff_t rows, const uint16_t *w, ptrdiff_t outputs, ptrdiff_t k,
                     const minidl_epilogue_f32 *after, float *y);
/* k is at most MINIDL_MOST_INT8_TERMS. */
int minidl_linear_int8(const float *x, ptrdiff_t rows, const int8_t *w, const float *scale, ptrdiff_t outputs, ptrdiff_t k,
                       const minidl_epilogue_f32 *after, float *y);
const char *minidl_int8_name(void); /* of what computes the sums */

#ifdef MINIDL_HAS_BF16_DOTS
void minidl_int8_dots_vnni(const int8_t *x, const int8_t *w, ptrdiff_t outputs, ptrdiff_t k, int32_t *sums);

/* Many rows of integers with 128 added, in whole words of four, times many rows of weights. */
typedef struct {
    ptrdiff_t rows, outputs, k;
    const uint32_t *q;
    const int8_t *w;
    const float *row_scale, *scale;
    float *y;
} minidl_int8_rows;

/* One row as integers, with so much added and zeros before that up to `room` of them; returns its scale. */
float minidl_int8_round_vnni(const float *x, ptrdiff_t k, int add, int8_t *q, ptrdiff_t room);
size_t minidl_int8_room_vnni(ptrdiff_t outputs, ptrdiff_t k); /* bytes that the next function needs for so many outputs */
void minidl_int8_product_vnni(const minidl_int8_rows *j, const minidl_epilogue_f32 *after, ptrdiff_t from, ptrdiff_t to, void *room);
#endif

#endif
