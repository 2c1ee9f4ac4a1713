/* Dropout on a GPU: the mask is never stored, but made again in the backward.
 *
 *     y[i] = x[i] s[i],   s[i] = u[i] >= p ? 1 / (1 - p) : 0
 *
 * u are the numbers that NumPy's PCG64 gives as float32, so a mask is the same on every engine. A linear congruential generator
 * s <- a s + c modulo 2^128 can leap: after n steps s is A s + C, with A and C by repeated squaring (F. Brown, "Random number
 * generation with arbitrary strides", 1994). So each thread begins where its first number is, and goes on in equal leaps.
 * M. O'Neill, "PCG: a family of simple fast space-efficient statistically good algorithms for random number generation" (2014). */
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

/* x times what the mask makes of it; x and y may be gradients. A word of the generator gives two numbers, its lower half first.
 * If `waiting`, the upper half of the word before these is there still, and element 0 gets it. */
extern "C" __global__ void dropout_scale(const stored *x, stored *y, size n, half_word state_high, half_word state_low,
                                         half_word increment_high, half_word increment_low, bool waiting, unsigned waiting_half,
                                         float p, real factor) {
    const auto scaled = [=](stored value, unsigned bits) { /* times 0 where it is dropped: nan and inf stay visible */
        return narrow(widen(value) * ((float)(bits >> 8) * 0x1p-24f >= p ? factor : (real)0));
    };
    const size lead = waiting ? 1 : 0, words = (n - lead + 1) / 2;
    if (waiting && n > 0 && thread_of_grid() == 0) y[0] = scaled(x[0], waiting_half);
    const Wide increment = {increment_high, increment_low};
    const Leap round = leap(threads_of_grid(), increment);
    Wide state = after(leap(thread_of_grid() + 1, increment), Wide{state_high, state_low});
    for (size w = thread_of_grid(); w < words; w += threads_of_grid()) {
        const half_word bits = word(state);
        const size i = 2 * w + lead;
        y[i] = scaled(x[i], (unsigned)bits);
        if (i + 1 < n) y[i + 1] = scaled(x[i + 1], (unsigned)(bits >> 32));
        state = after(round, state);
    }
}
