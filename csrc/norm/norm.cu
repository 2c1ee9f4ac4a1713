/* Normalisation on a GPU: of rows (layer, group and root-mean-square), and of channels (batch).
 *
 *     x_hat = (x - mean) r,   r = 1 / sqrt(var + eps),   y = w x_hat + b
 *     dx    = r (g - mean(g) - x_hat mean(g x_hat)),     g = w dy
 *     dw    = sum(dy x_hat),   db = sum(dy)
 *
 * The root mean square leaves out the mean and b. A row's statistics are a team's; those of a channel are summed in two steps:
 * blocks of rows each leave a partial sum, and one thread for each channel adds these in order. So the bits repeat.
 *
 * A row has `columns` elements; element k of it belongs to channel (row mod groups) columns / positions + k / positions: with one
 * group and one position, channel k. For channels, x has shape (rows, channels, positions). */
#include "reduce/channels.cuh"

struct Pair {
    real a, b;
};
__device__ __forceinline__ Pair operator+(Pair p, Pair q) { return Pair{p.a + q.a, p.b + q.b}; }
MINIDL_INLINE Pair exchange(Pair p, int bit) { return Pair{exchange(p.a, bit), exchange(p.b, bit)}; }

MINIDL_INLINE real or_else(const stored *values, int i, real otherwise) { return values ? widen(values[i]) : otherwise; }

/* rows ---------------------------------------------------------------------------------------------------------------------- */

/* means is null for the root mean square. `small` brings squares that left the range of the dtype back: it cancels. */
extern "C" __global__ void rows_forward(const stored *x, const stored *weight, const stored *bias, stored *y, real *means,
                                        real *inverses, size rows, int columns, int groups, int positions, real eps,
                                        real small) {
    __shared__ real scratch[MOST_WARPS];
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const stored *from = x + row * columns;
        real mean = 0;
        if (means) {
            visit(of_team(), from, columns, [&](size, real value) { mean += value; });
            mean = combine_team(mean, scratch, Add()) / columns;
        }
        real square = 0;
        visit(of_team(), from, columns, [&](size, real value) { square += (value - mean) * (value - mean); });
        square = combine_team(square, scratch, Add()) / columns;
        real inverse = 1 / sqrt(square + eps);
        if (square == (real)MINIDL_INFINITY) {
            square = 0;
            visit(of_team(), from, columns, [&](size, real value) {
                const real scaled = (value - mean) * small;
                square += scaled * scaled;
            });
            inverse = small / sqrt(combine_team(square, scratch, Add()) / columns);
        }
        const int first = (int)(row % groups) * (columns / positions);
        map(of_team(), from, y + row * columns, columns, [=](size k, real value) {
            const int channel = first + (positions == 1 ? (int)k : (int)k / positions);
            return (value - mean) * inverse * or_else(weight, channel, 1) + or_else(bias, channel, 0);
        });
        if (threadIdx.x == 0) {
            if (means) means[row] = mean;
            inverses[row] = inverse;
        }
    }
}

extern "C" __global__ void rows_backward(const stored *dy, const stored *x, const stored *weight, const real *means,
                                         const real *inverses, stored *dx, size rows, int columns, int groups, int positions) {
    __shared__ Pair scratch[MOST_WARPS];
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const real mean = means ? means[row] : (real)0, inverse = inverses[row];
        const int first = (int)(row % groups) * (columns / positions);
        const auto slope = [=](size k, real upstream) { /* g */
            return upstream * or_else(weight, first + (positions == 1 ? (int)k : (int)k / positions), 1);
        };
        Pair sums = {0, 0}; /* of g and of g x_hat */
        visit(of_team(), dy + row * columns, x + row * columns, columns, [&](size k, real upstream, real value) {
            const real g = slope(k, upstream);
            sums = sums + Pair{g, g * ((value - mean) * inverse)};
        });
        sums = combine_team(sums, scratch, Add());
        const real mean_g = means ? sums.a / columns : (real)0, mean_product = sums.b / columns;
        map(of_team(), dy + row * columns, x + row * columns, dx + row * columns, columns, [=](size k, real upstream, real value) {
            return inverse * (slope(k, upstream) - mean_g - (value - mean) * inverse * mean_product);
        });
    }
}

/* channels ------------------------------------------------------------------------------------------------------------------ */

extern "C" __global__ void channel_means(const stored *x, Pair *partials, size rows, int channels, int positions,
                                         size rows_of_block) {
    __shared__ Pair scratch[DEPTH * 32];
    sum_channels(rows, channels, positions, rows_of_block, partials, scratch,
                 [=](size i, size, int) { return Pair{widen(x[i]), 0}; });
}

extern "C" __global__ void channel_variances(const stored *x, const real *means, Pair *partials, size rows, int channels,
                                             int positions, size rows_of_block) {
    __shared__ Pair scratch[DEPTH * 32];
    sum_channels(rows, channels, positions, rows_of_block, partials, scratch, [=](size i, size, int channel) {
        const real centred = widen(x[i]) - means[channel];
        return Pair{centred * centred, 0};
    });
}

/* The statistics of an element are those at row statistics + channel / width: of its row, its group in a row, or its channel.
 * Either `inverses` is given, or variances and eps. */
extern "C" __global__ void channel_gradients(const stored *dy, const stored *x, const real *means, const real *inverses,
                                             const real *variances, real eps, Pair *partials, size rows, int channels,
                                             int positions, size rows_of_block, int statistics, int width) {
    __shared__ Pair scratch[DEPTH * 32];
    sum_channels(rows, channels, positions, rows_of_block, partials, scratch, [=](size i, size row, int channel) {
        const size at = row * statistics + channel / width;
        const real inverse = inverses ? inverses[at] : 1 / sqrt(variances[at] + eps);
        const real g = widen(dy[i]), mean = means ? means[at] : (real)0;
        return Pair{g, g * ((widen(x[i]) - mean) * inverse)};
    });
}

MINIDL_INLINE void deliver(stored *to, bool add, real value) {
    if (to) *to = add ? narrow(widen(*to) + widen(narrow(value))) : narrow(value);
}

/* One thread adds the partial sums of a channel, divided or not, for the next kernel (sums), or as gradients. Any may be null. */
extern "C" __global__ void channel_totals(const Pair *partials, int blocks, int channels, real divisor, real *first, real *second,
                                          stored *dbias, bool add_bias, stored *dweight, bool add_weight) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    Pair sum = {0, 0};
    for (int block = 0; block < blocks; block++) sum = sum + partials[(size)block * channels + channel];
    if (first) first[channel] = sum.a / divisor;
    if (second) second[channel] = sum.b / divisor;
    deliver(dbias ? dbias + channel : dbias, add_bias, sum.a);
    deliver(dweight ? dweight + channel : dweight, add_weight, sum.b);
}

/* For these two, x is seen as a matrix: with one position (rows, channels), where channel k is column k; otherwise each row is the
 * positions of one channel. */
MINIDL_INLINE int channel_of(size row, size k, int channels, int positions) {
    return positions == 1 ? (int)k : (int)(row % channels);
}
MINIDL_INLINE real inverse_of(size row, size k, const real *variances, real eps, int channels, int positions) {
    return 1 / sqrt(variances[channel_of(row, k, channels, positions)] + eps);
}

extern "C" __global__ void channel_forward(const stored *x, const real *means, const real *variances, const stored *weight,
                                           const stored *bias, stored *y, size rows, int columns, int channels, int positions,
                                           real eps) {
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const real of_row = inverse_of(row, 0, variances, eps, channels, positions);
        map(of_team(), x + row * columns, y + row * columns, columns, [=](size k, real value) {
            const int c = channel_of(row, k, channels, positions);
            const real inverse = positions == 1 ? inverse_of(row, k, variances, eps, channels, positions) : of_row;
            return (value - means[c]) * inverse * or_else(weight, c, 1) + or_else(bias, c, 0);
        });
    }
}

/* mean_dy and mean_product are those of dy and dy x_hat; null with running statistics, which do not depend on x. */
extern "C" __global__ void channel_backward(const stored *dy, const stored *x, const real *means, const real *variances,
                                            const stored *weight, const real *mean_dy, const real *mean_product, stored *dx,
                                            size rows, int columns, int channels, int positions, real eps) {
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const real of_row = inverse_of(row, 0, variances, eps, channels, positions);
        map(of_team(), dy + row * columns, x + row * columns, dx + row * columns, columns, [=](size k, real upstream, real value) {
            const int c = channel_of(row, k, channels, positions);
            const real inverse = positions == 1 ? inverse_of(row, k, variances, eps, channels, positions) : of_row;
            const real w = or_else(weight, c, 1), g = w * upstream;
            if (!mean_dy) return inverse * g;
            const real lost = 0 * w; /* nan where w is not finite, as the mean of w dy then is */
            return inverse * (g - w * mean_dy[c] - (value - means[c]) * inverse * (w * mean_product[c]) + lost);
        });
    }
}
