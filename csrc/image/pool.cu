/* Pooling on a GPU: a thread has an output forward, and a pixel backward, which collects what meets there. So nothing is added by
 * two threads.
 *
 *     y[h][w] = the largest pixel of the window        dx[u][v] = the sum of dy[h][w] over the windows that (u, v) won
 *     y[h][w] = the sum of the pixels / area           dx[u][v] = the sum of dy[h][w] / area over the windows that see (u, v)
 *
 * A window is won by the first of its largest pixels, or by the last nan. `won` is that position of the kernel, in bytes or, for
 * kernels of more than 255 positions, in 32 bits; one of the two pointers is null. */
#include "image/windows.cuh"

struct Won {
    unsigned char *small;
    int *large;

    __device__ __forceinline__ int get(size i) const { return small ? small[i] : large[i]; }
    __device__ __forceinline__ void set(size i, int number) const {
        if (small) small[i] = (unsigned char)number;
        else large[i] = number;
    }
};

extern "C" __global__ void max_pool_forward(const stored *x, stored *y, unsigned char *small, int *large, size planes,
                                            WINDOW_ARGUMENTS) {
    const Windows w = WINDOWS;
    const Won won = {small, large};
    const int nobody = kernel_h * kernel_w;
    for (size n = thread_of_grid(); n < planes * output_h * output_w; n += threads_of_grid()) {
        const Spot at = spot_at(n, output_h, output_w);
        const stored *const image = x + at.plane * image_h * image_w;
        real best = (real)-MINIDL_INFINITY;
        int leader = nobody;
        visit_pixels(w, at.row, at.column, [&](int position, size pixel) {
            const real seen = widen(image[pixel]);
            if (seen > best || seen != seen || leader == nobody) {
                best = seen;
                leader = position;
            }
        });
        y[n] = narrow(best);
        won.set(n, leader);
    }
}

extern "C" __global__ void max_pool_backward(const stored *dy, unsigned char *small, int *large, stored *dx, size planes,
                                             WINDOW_ARGUMENTS) {
    const Windows w = WINDOWS;
    const Won won = {small, large};
    for (size n = thread_of_grid(); n < planes * image_h * image_w; n += threads_of_grid()) {
        const Spot at = spot_at(n, image_h, image_w);
        const size first = at.plane * output_h * output_w;
        real sum = 0;
        visit_outputs(w, at.row, at.column, [&](int position, int h, int column) {
            const size output = first + (size)h * output_w + column;
            if (won.get(output) == position) sum += widen(dy[output]);
        });
        dx[n] = narrow(sum);
    }
}

/* Of an output along one axis: how much of its window lies in the image, or also in the padding, of which `after` is behind it. */
MINIDL_INLINE int extent(Axis axis, int output, int after, bool with_padding) {
    int start = output * axis.stride - axis.before, stop = start + axis.kernel;
    const int first = with_padding ? -axis.before : 0, last = with_padding ? axis.image + after : axis.image;
    if (start < first) start = first;
    return (stop < last ? stop : last) - start;
}

extern "C" __global__ void avg_pool_forward(const stored *x, stored *y, size planes, WINDOW_ARGUMENTS, int after_h, int after_w,
                                            bool with_padding) {
    const Windows w = WINDOWS;
    for (size n = thread_of_grid(); n < planes * output_h * output_w; n += threads_of_grid()) {
        const Spot at = spot_at(n, output_h, output_w);
        const stored *const image = x + at.plane * image_h * image_w;
        real sum = 0;
        visit_pixels(w, at.row, at.column, [&](int, size pixel) { sum += widen(image[pixel]); });
        const real height = extent(w.rows, at.row, after_h, with_padding), width = extent(w.columns, at.column, after_w, with_padding);
        y[n] = narrow(sum / (height * width));
    }
}

extern "C" __global__ void avg_pool_backward(const stored *dy, stored *dx, size planes, WINDOW_ARGUMENTS, int after_h, int after_w,
                                             bool with_padding) {
    const Windows w = WINDOWS;
    for (size n = thread_of_grid(); n < planes * image_h * image_w; n += threads_of_grid()) {
        const Spot at = spot_at(n, image_h, image_w);
        const stored *const upstream = dy + at.plane * output_h * output_w;
        real sum = 0;
        visit_outputs(w, at.row, at.column, [&](int, int h, int column) {
            const real height = extent(w.rows, h, after_h, with_padding), width = extent(w.columns, column, after_w, with_padding);
            sum += widen(upstream[(size)h * output_w + column]) / (height * width);
        });
        dx[n] = narrow(sum);
    }
}
