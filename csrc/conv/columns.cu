/* Images and the columns that a convolution multiplies, on a GPU.
 *
 *     columns[n][c][i][j][h][w] = x[n][c][u][v]           x[n][c][u][v] = the sum of the columns that came from there
 *
 * with (u, v) the pixel that output (h, w) sees at position (i, j) of the kernel, and 0 outside of the image. In the second a thread has a
 * pixel and collects what meets there, in the order of (i, j), so nothing is added by two threads. `planes` are all channels of all
 * images. Columns are `real`. */
#include "image/windows.cuh"

extern "C" __global__ void image_to_columns(const stored *x, real *columns, size planes, WINDOW_ARGUMENTS) {
    const Windows w = WINDOWS;
    const size outputs = (size)output_h * output_w, pixels = (size)image_h * image_w;
    for (size n = thread_of_grid(); n < planes * outputs; n += threads_of_grid()) {
        const Spot at = spot_at(n, output_h, output_w);
        const stored *const from = x + at.plane * pixels;
        real *const to = columns + at.plane * kernel_h * kernel_w * outputs + n % outputs;
        for (int i = 0; i < kernel_h; i++) {
            const int u = w.rows.pixel(at.row, i);
            for (int j = 0; j < kernel_w; j++) {
                const int v = w.columns.pixel(at.column, j);
                to[(i * kernel_w + j) * outputs] = u >= 0 && v >= 0 ? widen(from[(size)u * image_w + v]) : (real)0;
            }
        }
    }
}

extern "C" __global__ void columns_to_image(const real *columns, stored *x, size planes, WINDOW_ARGUMENTS) {
    const Windows w = WINDOWS;
    const size outputs = (size)output_h * output_w, pixels = (size)image_h * image_w;
    for (size n = thread_of_grid(); n < planes * pixels; n += threads_of_grid()) {
        const Spot at = spot_at(n, image_h, image_w);
        const real *const from = columns + at.plane * kernel_h * kernel_w * outputs;
        real sum = 0;
        visit_outputs(w, at.row, at.column,
                      [&](int position, int h, int column) { sum += from[position * outputs + (size)h * output_w + column]; });
        x[n] = narrow(sum);
    }
}
