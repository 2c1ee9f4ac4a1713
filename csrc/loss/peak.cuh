/* The largest element of a row and the sum of the exponentials, found together in one pass (the "online" softmax).
 *
 * M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax" (2018). Here the sum leaves out one largest element,
 * whose exponential is 1: what is left keeps its digits where it is small. */
#ifndef MINIDL_PEAK_CUH
#define MINIDL_PEAK_CUH

#include "runtime/device.cuh"

/* rest = sum of exp(x - largest) over all elements but one that is the largest. Of no elements at all, rest is -1. */
struct Peak {
    real largest, rest;
};

MINIDL_INLINE Peak no_peak() { return Peak{(real)-MINIDL_INFINITY, (real)-1}; }
MINIDL_INLINE Peak exchange(Peak peak, int bit) { return Peak{exchange(peak.largest, bit), exchange(peak.rest, bit)}; }

/* exp(below - largest); 1 where both are minus infinity */
MINIDL_INLINE real share_of(real below, real largest) { return below == largest ? (real)1 : REAL(decay)(below - largest); }

struct Join {
    __device__ __forceinline__ Peak operator()(Peak a, Peak b) const {
        if (b.largest > a.largest) return Peak{b.largest, b.rest + (a.rest + 1) * share_of(a.largest, b.largest)};
        return Peak{a.largest, a.rest + (b.rest + 1) * share_of(b.largest, a.largest)};
    }
};

/* Of a row, for the whole team. rest is nan if the largest element is infinite, because then nothing is known. */
MINIDL_INLINE Peak peak_of_row(const stored *row, int columns, Peak *scratch) {
    Peak peak = no_peak();
    visit(of_team(), row, columns, [&](size, real value) { peak = Join()(peak, Peak{value, 0}); });
    peak = combine_team(peak, scratch, Join());
    peak.rest += 0 * peak.largest;
    return peak;
}

#endif
