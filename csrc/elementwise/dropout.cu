/* Dropout on a GPU: the mask is never stored, but made again in the backward.
 *
 *     y[i] = x[i] s[i],   s[i] = u[i] >= p ? 1 / (1 - p) : 0
 *
 * u are the numbers that NumPy's PCG64 gives as float32, so a mask is the same on every engine. Each thread begins where its first
 * number is, and goes on in equal leaps. */
#include "runtime/pcg64.cuh"

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
