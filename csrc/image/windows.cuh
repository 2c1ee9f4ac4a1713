/* The windows of a kernel that slides over an image. Output (h, w) meets at position (i, j) of the kernel pixel
 * (h s + i d - b, w s + j d - b), with stride s, dilation d and b the padding before, if that is inside the image. */
#ifndef MINIDL_WINDOWS_CUH
#define MINIDL_WINDOWS_CUH

#include "runtime/device.cuh"

struct Axis {
    int kernel, stride, before, dilation, image, output;

    /* The pixel of an output, or -1 outside of the image. */
    __device__ __forceinline__ int pixel(int at, int position) const {
        const int found = at * stride + position * dilation - before;
        return found >= 0 && found < image ? found : -1;
    }
    /* The output that meets a pixel at a position, or -1. */
    __device__ __forceinline__ int meeting(int pixel, int position) const {
        const int shifted = pixel + before - position * dilation;
        if (shifted < 0 || shifted % stride != 0) return -1;
        return shifted / stride < output ? shifted / stride : -1;
    }
};
struct Windows {
    Axis rows, columns;
};

#define WINDOW_ARGUMENTS                                                                                                   \
    int kernel_h, int kernel_w, int stride_h, int stride_w, int before_h, int before_w, int dilation_h, int dilation_w,    \
        int image_h, int image_w, int output_h, int output_w
#define WINDOWS                                                                                                            \
    Windows {                                                                                                              \
        {kernel_h, stride_h, before_h, dilation_h, image_h, output_h},                                                     \
            {kernel_w, stride_w, before_w, dilation_w, image_w, output_w},                                                 \
    }

/* f(number of the position, index of the pixel in its image) for each position of the kernel that sees a pixel, in order. */
template <class Function>
MINIDL_INLINE void visit_pixels(const Windows &w, int h, int column, Function f) {
    for (int i = 0; i < w.rows.kernel; i++) {
        const int y = w.rows.pixel(h, i);
        if (y < 0) continue;
        for (int j = 0; j < w.columns.kernel; j++) {
            const int x = w.columns.pixel(column, j);
            if (x >= 0) f(i * w.columns.kernel + j, (size)y * w.columns.image + x);
        }
    }
}

/* f(number of the position, row and column of the output) for each position at which an output meets the pixel, in order. */
template <class Function>
MINIDL_INLINE void visit_outputs(const Windows &w, int y, int x, Function f) {
    for (int i = 0; i < w.rows.kernel; i++) {
        const int h = w.rows.meeting(y, i);
        if (h < 0) continue;
        for (int j = 0; j < w.columns.kernel; j++) {
            const int column = w.columns.meeting(x, j);
            if (column >= 0) f(i * w.columns.kernel + j, h, column);
        }
    }
}

/* What is at place i of arrays of images (planes, rows, columns). */
struct Spot {
    size plane;
    int row, column;
};
MINIDL_INLINE Spot spot_at(size i, int rows, int columns) {
    const size row = i / columns;
    return Spot{row / rows, (int)(row % rows), (int)(i % columns)};
}

#endif
