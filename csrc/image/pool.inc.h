/* The loops of pool.h, an image at a time, in the terms of vector/loops.inc.h, and their table. Outputs whose window lies inside
 * the image to the left and right are computed a vector at a time where windows are one or two pixels apart; the others one by
 * one. */
#include "image/pool.h"

/* Which kernel positions of a window meet pixels along an axis: from *first to before *last. */
static void REAL(inside)(const minidl_window_axis *a, ptrdiff_t position, ptrdiff_t *first, ptrdiff_t *last) {
    const ptrdiff_t start = position * a->stride - a->padding, room = a->size - start;
    *first = start < 0 ? (-start + a->dilation - 1) / a->dilation : 0;
    *last = room <= 0 ? 0 : (room + a->dilation - 1) / a->dilation;
    if (*last > a->kernel) *last = a->kernel;
}

/* The outputs of a row that are computed as vectors: from *first to before *last. A vector of every second pixel is cut out of two
 * that also hold the pixels between, so a window of a single column could look beyond the image. */
static void REAL(inner)(const minidl_window_axis *a, ptrdiff_t *first, ptrdiff_t *last) {
    const ptrdiff_t span = (a->kernel - 1) * a->dilation, room = a->size - 1 - span + a->padding;
    *first = *last = 0;
    if (room < 0 || a->stride > 2 || (a->stride == 2 && span == 0)) return;
    *first = (a->padding + a->stride - 1) / a->stride;
    *last = room / a->stride + 1 < a->outputs ? room / a->stride + 1 : a->outputs;
    if (*first > *last) *first = *last;
}

MINIDL_INLINE VEC REAL(load_upto)(const real *p, ptrdiff_t n) {
    return n >= LANES ? LOAD(p) : REAL(load_part)(p, n > 0 ? n : 0, 0);
}
MINIDL_INLINE void REAL(store_upto)(real *p, VEC v, ptrdiff_t n) {
    if (n >= LANES) STORE(p, v);
    else if (n > 0) REAL(store_part)(p, v, n);
}

/* The pixels that `left` neighbouring windows, at most LANES, see at column j of the first of them; p is its first pixel. */
MINIDL_INLINE VEC REAL(seen)(const real *p, ptrdiff_t j, ptrdiff_t stride, ptrdiff_t left) {
    if (stride == 1) return REAL(load_upto)(p + j, left);
    p += j > 0 ? j - 1 : 0;
    const VEC low = REAL(load_upto)(p, 2 * left), high = REAL(load_upto)(p + LANES, 2 * left - LANES);
    return j > 0 ? REAL(odd)(low, high) : REAL(even)(low, high);
}

/* Largest -------------------------------------------------------------------------------------------------------------- */

static void REAL(max_one)(const real *x, const minidl_pool_windows *w, ptrdiff_t row, ptrdiff_t column, real *y,
                          unsigned char *won) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    ptrdiff_t top, bottom, left, right, winner = v->kernel * h->kernel;
    real best = -(real)MINIDL_INFINITY;
    REAL(inside)(v, row, &top, &bottom);
    REAL(inside)(h, column, &left, &right);
    for (ptrdiff_t i = top; i < bottom; i++) {
        const ptrdiff_t line = (row * v->stride - v->padding + i * v->dilation) * h->size;
        for (ptrdiff_t j = left; j < right; j++) {
            const real pixel = x[line + column * h->stride - h->padding + j * h->dilation];
            if (pixel > best || pixel != pixel || winner == v->kernel * h->kernel) {
                best = pixel;
                winner = i * h->kernel + j;
            }
        }
    }
    y[column] = best;
    won[column] = (unsigned char)winner;
}

/* `left` neighbouring outputs, at most LANES, whose kernel rows `top` to `bottom` lie inside; x is the pixel under the first of
 * them at kernel position (0, 0), which may be outside. */
MINIDL_INLINE void REAL(max_vector)(const real *x, ptrdiff_t width, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t columns,
                                    ptrdiff_t below, ptrdiff_t beside, ptrdiff_t stride, ptrdiff_t left, real *y,
                                    unsigned char *won) {
    VEC best = REAL(seen)(x + top * below * width, 0, stride, left), winner = SPLAT(top * columns);
    for (ptrdiff_t i = top; i < bottom; i++)
        for (ptrdiff_t j = i == top; j < columns; j++) {
            const VEC pixel = REAL(seen)(x + i * below * width, j * beside, stride, left);
            const REAL(mask) better = REAL(beats)(pixel, best);
            best = REAL(select)(better, pixel, best);
            winner = REAL(select)(better, SPLAT(i * columns + j), winner);
        }
    REAL(store_upto)(y, best, left);
    real winners[LANES];
    STORE(winners, winner);
    for (ptrdiff_t k = 0; k < left; k++) won[k] = (unsigned char)winners[k];
}

/* All outputs from `first` to before `last`; x belongs to output 0. Inlined with constants for the usual kernels. */
MINIDL_INLINE void REAL(max_inner)(const real *x, ptrdiff_t width, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t columns,
                                   ptrdiff_t below, ptrdiff_t beside, ptrdiff_t stride, ptrdiff_t first, ptrdiff_t last, real *y,
                                   unsigned char *won) {
    ptrdiff_t q = first;
    for (; q + LANES <= last; q += LANES)
        REAL(max_vector)(x + q * stride, width, top, bottom, columns, below, beside, stride, LANES, y + q, won + q);
    if (q < last)
        REAL(max_vector)(x + q * stride, width, top, bottom, columns, below, beside, stride, last - q, y + q, won + q);
}

static void REAL(max_row)(const real *x, const minidl_pool_windows *w, ptrdiff_t row, real *y, unsigned char *won) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    ptrdiff_t top, bottom, first, last;
    REAL(inside)(v, row, &top, &bottom);
    REAL(inner)(h, &first, &last);
    if (top >= bottom) last = first = 0;
    for (ptrdiff_t q = 0; q < first; q++) REAL(max_one)(x, w, row, q, y, won);
    for (ptrdiff_t q = last; q < h->outputs; q++) REAL(max_one)(x, w, row, q, y, won);
    const ptrdiff_t n = h->size, near = v->dilation == 1 && h->dilation == 1 && top == 0 && bottom == v->kernel;
    const real *const corner = x + (row * v->stride - v->padding) * n - h->padding;
    if (first >= last) return;
    if (near && bottom == 2 && h->kernel == 2 && h->stride == 2)
        REAL(max_inner)(corner, n, 0, 2, 2, 1, 1, 2, first, last, y, won);
    else if (near && bottom == 3 && h->kernel == 3 && h->stride == 2)
        REAL(max_inner)(corner, n, 0, 3, 3, 1, 1, 2, first, last, y, won);
    else if (near && bottom == 3 && h->kernel == 3 && h->stride == 1)
        REAL(max_inner)(corner, n, 0, 3, 3, 1, 1, 1, first, last, y, won);
    else if (h->stride == 1)
        REAL(max_inner)(corner, n, top, bottom, h->kernel, v->dilation, h->dilation, 1, first, last, y, won);
    else
        REAL(max_inner)(corner, n, top, bottom, h->kernel, v->dilation, h->dilation, 2, first, last, y, won);
}

static void REAL(max_pool)(const real *x, unsigned char *won, real *y, ptrdiff_t images, const minidl_pool_windows *w) {
    const ptrdiff_t in = w->rows.size * w->columns.size, n = w->columns.outputs;
    for (ptrdiff_t image = 0; image < images; image++, x += in)
        for (ptrdiff_t row = 0; row < w->rows.outputs; row++, y += n, won += n) REAL(max_row)(x, w, row, y, won);
}

/* Whether windows of 2 x 2 lie side by side, inside the image. */
static int REAL(tiled)(const minidl_pool_windows *w) {
    const minidl_window_axis *const axes[2] = {&w->rows, &w->columns};
    for (int i = 0; i < 2; i++)
        if (axes[i]->kernel != 2 || axes[i]->stride != 2 || axes[i]->padding != 0 || axes[i]->dilation != 1 ||
            2 * axes[i]->outputs > axes[i]->size)
            return 0;
    return 1;
}

/* Write pairs side by side: the pixels under `left` windows of two columns. */
MINIDL_INLINE void REAL(put_pairs)(real *dx, VEC a, VEC b, ptrdiff_t left) {
    REAL(store_upto)(dx, REAL(zip_low)(a, b), 2 * left);
    REAL(store_upto)(dx + LANES, REAL(zip_high)(a, b), 2 * left - LANES);
}

/* The last column and row of an image that no 2 x 2 window reaches. */
static void REAL(zero_rest)(const minidl_pool_windows *w, real *dx) {
    const ptrdiff_t rows = 2 * w->rows.outputs, columns = 2 * w->columns.outputs, width = w->columns.size;
    for (ptrdiff_t row = 0; row < rows; row++)
        for (ptrdiff_t q = columns; q < width; q++) dx[row * width + q] = 0;
    for (ptrdiff_t i = rows * width; i < w->rows.size * width; i++) dx[i] = 0;
}

MINIDL_INLINE VEC REAL(if_winner)(VEC winner, int position, VEC g) {
    return REAL(select)(REAL(less)(REAL(absolute)(winner - SPLAT(position)), SPLAT(0.5)), g, SPLAT(0));
}

MINIDL_INLINE void REAL(spread_winners)(const real *dy, const unsigned char *won, ptrdiff_t left, real *upper, real *lower) {
    real winners[LANES] = {0};
    for (ptrdiff_t k = 0; k < left; k++) winners[k] = won[k];
    const VEC winner = LOAD(winners), g = REAL(load_upto)(dy, left);
    REAL(put_pairs)(upper, REAL(if_winner)(winner, 0, g), REAL(if_winner)(winner, 1, g), left);
    REAL(put_pairs)(lower, REAL(if_winner)(winner, 2, g), REAL(if_winner)(winner, 3, g), left);
}

static void REAL(max_tiled_backward)(const real *dy, const unsigned char *won, real *dx, const minidl_pool_windows *w) {
    const ptrdiff_t n = w->columns.outputs, width = w->columns.size;
    for (ptrdiff_t row = 0; row < w->rows.outputs; row++, dy += n, won += n) {
        real *const upper = dx + 2 * row * width, *const lower = upper + width;
        ptrdiff_t q = 0;
        for (; q + LANES <= n; q += LANES) REAL(spread_winners)(dy + q, won + q, LANES, upper + 2 * q, lower + 2 * q);
        if (q < n) REAL(spread_winners)(dy + q, won + q, n - q, upper + 2 * q, lower + 2 * q);
    }
    REAL(zero_rest)(w, dx);
}

static void REAL(zero)(real *x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] = 0;
}

static void REAL(max_pool_backward)(const real *dy, unsigned char *won, real *dx, ptrdiff_t images, const minidl_pool_windows *w) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    const ptrdiff_t positions = v->kernel * h->kernel, out = v->outputs * h->outputs, pixels = v->size * h->size;
    const int tiled = REAL(tiled)(w);
    ptrdiff_t shift[256];
    for (ptrdiff_t k = 0; k < positions; k++) shift[k] = k / h->kernel * v->dilation * h->size + k % h->kernel * h->dilation;
    for (; images > 0; images--, dy += out, won += out, dx += v->size * h->size) {
        if (tiled) {
            REAL(max_tiled_backward)(dy, won, dx, w);
            continue;
        }
        REAL(zero)(dx, v->size * h->size);
        for (ptrdiff_t row = 0; row < v->outputs; row++) {
            const ptrdiff_t corner = (row * v->stride - v->padding) * h->size - h->padding;
            for (ptrdiff_t q = 0; q < h->outputs; q++) {
                const ptrdiff_t k = row * h->outputs + q, winner = won[k];
                if (winner >= positions) continue;
                const ptrdiff_t at = corner + q * h->stride + shift[winner];
                if (at >= 0 && at < pixels) dx[at] += dy[k]; /* always, unless the cache was written to */
            }
        }
    }
}

/* Mean ----------------------------------------------------------------------------------------------------------------- */

/* The length of a window along an axis: of what of it is in the padded image, or in the image. */
static ptrdiff_t REAL(window_length)(const minidl_window_axis *a, ptrdiff_t position, int padding_counts) {
    ptrdiff_t start = position * a->stride, stop = start + a->kernel, low = a->padding, high = a->padding + a->size;
    if (padding_counts) low = 0, high += a->padding;
    return (stop < high ? stop : high) - (start > low ? start : low);
}

static real REAL(mean_one)(const real *x, const minidl_pool_windows *w, ptrdiff_t row, ptrdiff_t column, ptrdiff_t height) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    ptrdiff_t top, bottom, left, right;
    real sum = 0;
    REAL(inside)(v, row, &top, &bottom);
    REAL(inside)(h, column, &left, &right);
    for (ptrdiff_t i = top; i < bottom; i++)
        for (ptrdiff_t j = left; j < right; j++)
            sum += x[(row * v->stride - v->padding + i) * h->size + column * h->stride - h->padding + j];
    return sum / (real)(height * REAL(window_length)(h, column, w->padding_counts));
}

MINIDL_INLINE void REAL(mean_vector)(const real *x, ptrdiff_t width, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t columns,
                                     ptrdiff_t stride, ptrdiff_t left, VEC area, real *y) {
    VEC sum = SPLAT(0);
    for (ptrdiff_t i = top; i < bottom; i++)
        for (ptrdiff_t j = 0; j < columns; j++) sum = sum + REAL(seen)(x + i * width, j, stride, left);
    REAL(store_upto)(y, sum / area, left);
}

MINIDL_INLINE void REAL(mean_inner)(const real *x, ptrdiff_t width, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t columns,
                                    ptrdiff_t stride, ptrdiff_t first, ptrdiff_t last, VEC area, real *y) {
    ptrdiff_t q = first;
    for (; q + LANES <= last; q += LANES)
        REAL(mean_vector)(x + q * stride, width, top, bottom, columns, stride, LANES, area, y + q);
    if (q < last) REAL(mean_vector)(x + q * stride, width, top, bottom, columns, stride, last - q, area, y + q);
}

static void REAL(mean_row)(const real *x, const minidl_pool_windows *w, ptrdiff_t row, real *y) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    ptrdiff_t top, bottom, first, last;
    REAL(inside)(v, row, &top, &bottom);
    REAL(inner)(h, &first, &last);
    const ptrdiff_t n = h->size, height = REAL(window_length)(v, row, w->padding_counts);
    for (ptrdiff_t q = 0; q < first; q++) y[q] = REAL(mean_one)(x, w, row, q, height);
    for (ptrdiff_t q = last; q < h->outputs; q++) y[q] = REAL(mean_one)(x, w, row, q, height);
    const VEC area = SPLAT(height * h->kernel);
    const real *const corner = x + (row * v->stride - v->padding) * n - h->padding;
    if (first >= last) return;
    if (top == 0 && bottom == 2 && h->kernel == 2 && h->stride == 2)
        REAL(mean_inner)(corner, n, 0, 2, 2, 2, first, last, area, y);
    else if (top == 0 && bottom == 3 && h->kernel == 3 && h->stride == 1)
        REAL(mean_inner)(corner, n, 0, 3, 3, 1, first, last, area, y);
    else if (h->stride == 1) REAL(mean_inner)(corner, n, top, bottom, h->kernel, 1, first, last, area, y);
    else REAL(mean_inner)(corner, n, top, bottom, h->kernel, 2, first, last, area, y);
}

static void REAL(avg_pool)(const real *x, unsigned char *none, real *y, ptrdiff_t images, const minidl_pool_windows *w) {
    (void)none;
    for (ptrdiff_t image = 0; image < images; image++, x += w->rows.size * w->columns.size)
        for (ptrdiff_t row = 0; row < w->rows.outputs; row++, y += w->columns.outputs) REAL(mean_row)(x, w, row, y);
}

static void REAL(avg_tiled_backward)(const real *dy, real *dx, const minidl_pool_windows *w) {
    const ptrdiff_t n = w->columns.outputs, width = w->columns.size;
    for (ptrdiff_t row = 0; row < w->rows.outputs; row++, dy += n)
        for (ptrdiff_t q = 0; q < n; q += LANES) {
            const ptrdiff_t left = n - q < LANES ? n - q : LANES;
            const VEC g = REAL(load_upto)(dy + q, left) * SPLAT(0.25);
            REAL(put_pairs)(dx + 2 * row * width + 2 * q, g, g, left);
            REAL(put_pairs)(dx + (2 * row + 1) * width + 2 * q, g, g, left);
        }
    REAL(zero_rest)(w, dx);
}

/* Add the shares of a row of windows to one row of pixels. */
static void REAL(share_row)(const real *dy, const minidl_pool_windows *w, ptrdiff_t height, real *dx) {
    const minidl_window_axis *const h = &w->columns;
    ptrdiff_t first, last, left, right;
    REAL(inner)(h, &first, &last);
    if (h->stride != 1) first = last = 0;
    for (ptrdiff_t q = 0; q < h->outputs; q++) {
        if (q == first) q = last;
        if (q == h->outputs) break;
        const real g = dy[q] / (real)(height * REAL(window_length)(h, q, w->padding_counts));
        REAL(inside)(h, q, &left, &right);
        for (ptrdiff_t j = left; j < right; j++) dx[q * h->stride - h->padding + j] += g;
    }
    const VEC share = SPLAT((real)1 / (real)(height * h->kernel));
    for (ptrdiff_t j = 0; j < h->kernel && first < last; j++) {
        const real *const from = dy + first;
        real *const to = dx + first - h->padding + j;
        EACH_VECTOR(last - first, PUT(to, GET(to) + GET(from) * share););
    }
}

static void REAL(avg_pool_backward)(const real *dy, unsigned char *none, real *dx, ptrdiff_t images, const minidl_pool_windows *w) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    const int tiled = REAL(tiled)(w);
    ptrdiff_t top, bottom;
    (void)none;
    for (; images > 0; images--, dx += v->size * h->size) {
        if (tiled) REAL(avg_tiled_backward)(dy, dx, w);
        else REAL(zero)(dx, v->size * h->size);
        for (ptrdiff_t row = 0; row < v->outputs; row++, dy += h->outputs) {
            REAL(inside)(v, row, &top, &bottom);
            for (ptrdiff_t i = tiled ? bottom : top; i < bottom; i++)
                REAL(share_row)(dy, w, REAL(window_length)(v, row, w->padding_counts),
                                dx + (row * v->stride - v->padding + i) * h->size);
        }
    }
}

/* Mean over a given number of windows: window i of m on n pixels goes from floor(i n / m) to before ceil((i + 1) n / m). */

static ptrdiff_t REAL(start_of)(const minidl_window_axis *a, ptrdiff_t i) { return i * a->size / a->outputs; }
static ptrdiff_t REAL(stop_of)(const minidl_window_axis *a, ptrdiff_t i) {
    return ((i + 1) * a->size + a->outputs - 1) / a->outputs;
}

/* Sums of 16 elements are kept in the precision of the elements, the sum of those in double. */
static double REAL(plane_sum)(const real *x, ptrdiff_t n) {
    enum { SHORT = 16, STEP = 2 * LANES };
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
    while (n >= STEP) {
        const ptrdiff_t steps = n / STEP < SHORT ? n / STEP : SHORT;
        VEC even = LOAD(x), odd = LOAD(x + LANES);
        for (ptrdiff_t k = 1; k < steps; k++) even = even + LOAD(x + k * STEP), odd = odd + LOAD(x + k * STEP + LANES);
        REAL(add_wide)(sum, even + odd);
        x += steps * STEP, n -= steps * STEP;
    }
    EACH_VECTOR(n, REAL(add_wide)(sum, GET(x)););
    return REAL(total)(sum);
}

static void REAL(adaptive)(const real *x, unsigned char *none, real *y, ptrdiff_t images, const minidl_pool_windows *w) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    (void)none;
    for (; images > 0; images--, x += v->size * h->size)
        for (ptrdiff_t row = 0; row < v->outputs; row++)
            for (ptrdiff_t column = 0; column < h->outputs; column++) {
                const ptrdiff_t top = REAL(start_of)(v, row), bottom = REAL(stop_of)(v, row);
                const ptrdiff_t left = REAL(start_of)(h, column), width = REAL(stop_of)(h, column) - left;
                double sum = 0;
                if (width == h->size) sum = REAL(plane_sum)(x + top * width, (bottom - top) * width);
                else
                    for (ptrdiff_t i = top; i < bottom; i++)
                        for (ptrdiff_t j = left; j < left + width; j++) sum += (double)x[i * h->size + j];
                *y++ = (real)(sum / (double)((bottom - top) * width));
            }
}

static void REAL(adaptive_backward)(const real *dy, unsigned char *none, real *dx, ptrdiff_t images, const minidl_pool_windows *w) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    const ptrdiff_t n = v->size * h->size;
    (void)none;
    for (; images > 0; images--, dx += n) {
        const VEC share = SPLAT(*dy / (real)n);
        if (v->outputs * h->outputs == 1) {
            EACH_VECTOR(n, PUT(dx, share););
            dy++;
            continue;
        }
        REAL(zero)(dx, n);
        for (ptrdiff_t row = 0; row < v->outputs; row++)
            for (ptrdiff_t column = 0; column < h->outputs; column++) {
                const ptrdiff_t top = REAL(start_of)(v, row), bottom = REAL(stop_of)(v, row);
                const ptrdiff_t left = REAL(start_of)(h, column), right = REAL(stop_of)(h, column);
                const real g = *dy++ / (real)((bottom - top) * (right - left));
                for (ptrdiff_t i = top; i < bottom; i++)
                    for (ptrdiff_t j = left; j < right; j++) dx[i * h->size + j] += g;
            }
    }
}

/* The place of the largest pixel in a window, or of the first nan; the first of equals. */
static ptrdiff_t REAL(largest_at)(const real *x, ptrdiff_t width, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, ptrdiff_t right) {
    ptrdiff_t at = top * width + left;
    for (ptrdiff_t i = top; i < bottom; i++)
        for (ptrdiff_t k = i * width + left; k < i * width + right; k++)
            if (!(x[k] <= x[at]) && x[at] == x[at]) at = k;
    return at;
}

static void REAL(adaptive_max)(const real *x, int64_t *places, real *y, ptrdiff_t images, const minidl_pool_windows *w) {
    const minidl_window_axis *const v = &w->rows, *const h = &w->columns;
    for (; images > 0; images--, x += v->size * h->size)
        for (ptrdiff_t row = 0; row < v->outputs; row++)
            for (ptrdiff_t column = 0; column < h->outputs; column++) {
                const ptrdiff_t at = REAL(largest_at)(x, h->size, REAL(start_of)(v, row), REAL(stop_of)(v, row),
                                                      REAL(start_of)(h, column), REAL(stop_of)(h, column));
                *places++ = at;
                *y++ = x[at];
            }
}

static void REAL(scatter)(const real *dy, const int64_t *places, real *dx, ptrdiff_t images, ptrdiff_t in, ptrdiff_t out) {
    for (; images > 0; images--, dy += in, places += in, dx += out) {
        REAL(zero)(dx, out);
        for (ptrdiff_t k = 0; k < in; k++) {
            const int64_t at = *(const volatile int64_t *)(places + k); /* once: the cache may be written to meanwhile */
            if (at >= 0 && at < out) dx[at] += dy[k];
        }
    }
}

const REAL(minidl_pools) TABLE(minidl_pools) = {
    .pool = {[MINIDL_MAX_POOL] = REAL(max_pool),
             [MINIDL_AVG_POOL] = REAL(avg_pool),
             [MINIDL_ADAPTIVE_POOL] = REAL(adaptive),
             [MINIDL_MAX_POOL_BACKWARD] = REAL(max_pool_backward),
             [MINIDL_AVG_POOL_BACKWARD] = REAL(avg_pool_backward),
             [MINIDL_ADAPTIVE_POOL_BACKWARD] = REAL(adaptive_backward)},
    .adaptive_max = REAL(adaptive_max),
    .scatter = REAL(scatter),
};
