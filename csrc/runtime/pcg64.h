/* The random numbers of NumPy's generator PCG64, the same and in the same order, but from any place of the sequence: each thread
 * of a dropout makes its own share of the mask. M. O'Neill, "PCG: a family of simple fast space-efficient statistically good
 * algorithms for random number generation" (2014). */
#ifndef MINIDL_PCG64_H
#define MINIDL_PCG64_H

#include <stddef.h>
#include <stdint.h>

/* The state as NumPy shows it, its numbers of 128 bits as high and low halves. A word of 64 bits gives two numbers of 32 bits, the
 * low half first; `waiting` says that the high half of the last word, `half`, comes next. */
typedef struct {
    uint64_t state[2], increment[2];
    uint32_t half;
    int waiting;
} minidl_pcg64;

/* Whether the compiler has integers of 128 bits; without them the functions below do nothing. */
int minidl_pcg64_known(void);
/* Skip n numbers of 32 bits. */
void minidl_pcg64_skip(minidl_pcg64 *random, uint64_t n);
/* The next n numbers, uniform in [0, 1) in steps of 2^-24. */
void minidl_pcg64_uniform(minidl_pcg64 *random, ptrdiff_t n, float *to);

#endif
