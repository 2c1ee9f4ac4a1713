/* The gradient of a bias on a GPU: the sum of dy over everything but the channels, in two steps (channels.cuh).
 *
 *     db[c] = sum_n sum_p dy[n][c][p]              a linear layer has one position */
#include "reduce/channels.cuh"

extern "C" __global__ void channel_sums(const stored *dy, real *partials, size rows, int channels, int positions,
                                        size rows_of_block) {
    __shared__ real scratch[DEPTH * 32];
    sum_channels(rows, channels, positions, rows_of_block, partials, scratch, [=](size i, size, int) { return widen(dy[i]); });
}

/* One thread for each channel. With `add`, to what is there. */
extern "C" __global__ void channel_sums_total(const real *partials, int blocks, int channels, stored *to, bool add) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    real sum = 0;
    for (int block = 0; block < blocks; block++) sum += partials[(size)block * channels + channel];
    to[channel] = add ? narrow(widen(to[channel]) + widen(narrow(sum))) : narrow(sum);
}
