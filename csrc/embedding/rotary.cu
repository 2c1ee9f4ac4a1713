/* Rotary positions on a GPU: pairs of features, turned by an angle.
 *
 *     y_a = c x_a - s x_b,   y_b = s x_a + c x_b          backward: the same with -s
 *
 * x has shape (batch, heads, T, width), with the pairs in its first 2 `pairs` features: i and i + pairs, or 2 i and 2 i + 1 if they
 * are interleaved. A thread has a pair, or one of the features beyond, which stay as they are; so y may be x. */
#include "runtime/device.cuh"

/* The table's rows are so many elements apart along each of (batch, heads, T). */
extern "C" __global__ void rotary_turn(const stored *x, const stored *cosine, const stored *sine, stored *y, size rows, int heads,
                                       int steps, int width, int pairs, size table_batch, size table_head, size table_step,
                                       bool interleaved, real direction) {
    const int of_row = width - pairs;
    for (size i = thread_of_grid(); i < rows * of_row; i += threads_of_grid()) {
        const size row = i / of_row;
        const int unit = (int)(i % of_row);
        const stored *const from = x + row * width;
        stored *const to = y + row * width;
        if (unit >= pairs) {
            to[unit + pairs] = from[unit + pairs];
            continue;
        }
        const size step = row % steps, head = row / steps % heads, batch = row / steps / heads;
        const size at = batch * table_batch + head * table_head + step * table_step + unit;
        const int a = interleaved ? 2 * unit : unit, b = interleaved ? a + 1 : a + pairs;
        const real c = widen(cosine[at]), s = direction * widen(sine[at]), first = widen(from[a]), second = widen(from[b]);
        to[a] = narrow(c * first - s * second);
        to[b] = narrow(s * first + c * second);
    }
}
