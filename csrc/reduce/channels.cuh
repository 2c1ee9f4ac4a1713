/* Sums over all axes but the channels, without atomics: blocks of rows each leave a partial sum, and a second kernel adds these in
 * order. So the bits repeat, on every device. */
#ifndef MINIDL_CHANNELS_CUH
#define MINIDL_CHANNELS_CUH

#include "runtime/device.cuh"

enum { DEPTH = 8 }; /* blockDim is (32, DEPTH) */

/* x has shape (rows, channels, positions). Leave the sum of f(index, row, channel) over a block's rows, and all positions, of a channel in partials[block of rows][channel].
 * With one position a warp reads 32 channels of a row, and a thread sums its own; otherwise it reads 32 positions of a channel. */
template <class Value, class Function>
MINIDL_INLINE void sum_channels(size rows, int channels, int positions, size rows_of_block, Value *partials, Value *scratch,
                                Function f) {
    const bool together = positions > 1;
    const int channel = together ? blockIdx.x : blockIdx.x * 32 + threadIdx.x;
    const size from = blockIdx.y * rows_of_block, to = from + rows_of_block < rows ? from + rows_of_block : rows;
    Value sum = {};
    if (channel < channels) {
        for (size row = from + threadIdx.y; row < to; row += DEPTH) {
            const size start = (row * channels + channel) * positions;
            for (int p = together ? threadIdx.x : 0; p < positions; p += together ? 32 : 1) sum = sum + f(start + p, row, channel);
        }
    }
    if (together) sum = combine_warp(sum, Add());
    scratch[threadIdx.y * 32 + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && channel < channels && (!together || threadIdx.x == 0)) {
        for (int other = 1; other < DEPTH; other++) sum = sum + scratch[other * 32 + threadIdx.x];
        partials[(size)blockIdx.y * channels + channel] = sum;
    }
}

#endif
