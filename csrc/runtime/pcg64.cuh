/* NumPy's generator PCG64 on a GPU, from any place of its sequence.
 *
 * A linear congruential generator s <- a s + c modulo 2^128 can leap: after n steps s is A s + C, with A and C by repeated squaring
 * (F. Brown, "Random number generation with arbitrary strides", 1994). M. O'Neill, "PCG: a family of simple fast space-efficient
 * statistically good algorithms for random number generation" (2014). */
#ifndef MINIDL_PCG64_CUH
#define MINIDL_PCG64_CUH

#include "runtime/device.cuh"

typedef unsigned long long half_word;

/* 128 bits. */
struct Wide {
    half_word high, low;
};
MINIDL_INLINE Wide times(Wide a, Wide b) {
    return Wide{__umul64hi(a.low, b.low) + a.high * b.low + a.low * b.high, a.low * b.low};
}
MINIDL_INLINE Wide plus(Wide a, Wide b) {
    const half_word low = a.low + b.low;
    return Wide{a.high + b.high + (low < a.low ? 1 : 0), low};
}

/* s after some steps is factor s + term. */
struct Leap {
    Wide factor, term;
};
MINIDL_INLINE Leap leap(half_word steps, Wide increment) {
    Leap all = {{0, 1}, {0, 0}}, power = {{2549297995355413924ull, 4865540595714422341ull}, increment};
    for (; steps > 0; steps >>= 1) {
        if (steps & 1) all = Leap{times(all.factor, power.factor), plus(times(all.term, power.factor), power.term)};
        power = Leap{times(power.factor, power.factor), plus(times(power.term, power.factor), power.term)};
    }
    return all;
}
MINIDL_INLINE Wide after(Leap leap, Wide state) { return plus(times(leap.factor, state), leap.term); }

/* "XSL-RR": both halves exclusively or-ed, then turned by the six highest bits. */
MINIDL_INLINE half_word word(Wide state) {
    const half_word mixed = state.high ^ state.low;
    const unsigned turn = (unsigned)(state.high >> 58);
    return mixed >> turn | mixed << ((64 - turn) & 63);
}

#endif
