/* The loops of resample.h, image after image, in the terms of vector/loops.inc.h, and their table. */
#include "image/resample.h"

/* What a padded row borrows from a row of x at its two ends, or the constant. */
static void REAL(pad_row)(const real *restrict row, const minidl_padded *columns, real value, real *restrict to) {
    const ptrdiff_t n = columns->size, before = columns->before;
    const int32_t *const from = columns->from;
    for (ptrdiff_t j = 0; j < before; j++) to[j] = from == NULL ? value : row[from[j]];
    memcpy(to + before, row, (size_t)n * sizeof(real));
    for (ptrdiff_t j = before; j < before + columns->after; j++) to[n + j] = from == NULL ? value : row[from[j]];
}

static void REAL(pad)(const real *x, real *y, ptrdiff_t images, const minidl_padding *s) {
    const minidl_padded *const rows = &s->rows, *const columns = &s->columns;
    const ptrdiff_t width = columns->before + columns->size + columns->after;
    const real value = (real)s->value;
    for (ptrdiff_t n = 0; n < images; n++, y += (rows->before + rows->size + rows->after) * width) {
        real *const inner = y + rows->before * width;
        for (ptrdiff_t h = 0; h < rows->size; h++, x += columns->size) REAL(pad_row)(x, columns, value, inner + h * width);
        for (ptrdiff_t i = 0; i < rows->before + rows->after; i++) {
            real *const to = y + (i < rows->before ? i : rows->size + i) * width;
            if (rows->from != NULL) memcpy(to, inner + rows->from[i] * width, (size_t)width * sizeof(real));
            else
                for (ptrdiff_t j = 0; j < width; j++) to[j] = value;
        }
    }
}

/* Add to a row of dx what a padded row of dy holds of it. */
static void REAL(unpad_row)(const real *restrict from, const minidl_padded *columns, real *restrict row) {
    const ptrdiff_t n = columns->size, before = columns->before;
    EACH_VECTOR(n, PUT(row, GET(row) + GET(from + before)););
    if (columns->from == NULL) return;
    for (ptrdiff_t j = 0; j < before; j++) row[columns->from[j]] += from[j];
    for (ptrdiff_t j = before; j < before + columns->after; j++) row[columns->from[j]] += from[n + j];
}

static void REAL(pad_backward)(const real *dy, real *dx, ptrdiff_t images, const minidl_padding *s) {
    const minidl_padded *const rows = &s->rows, *const columns = &s->columns;
    const ptrdiff_t width = columns->before + columns->size + columns->after, in = rows->size * columns->size;
    for (ptrdiff_t n = 0; n < images; n++, dx += in, dy += (rows->before + rows->size + rows->after) * width) {
        const real *const inner = dy + rows->before * width;
        memset(dx, 0, (size_t)in * sizeof(real));
        for (ptrdiff_t h = 0; h < rows->size; h++) REAL(unpad_row)(inner + h * width, columns, dx + h * columns->size);
        if (rows->from == NULL) continue;
        for (ptrdiff_t i = 0; i < rows->before + rows->after; i++)
            REAL(unpad_row)(dy + (i < rows->before ? i : rows->size + i) * width, columns, dx + rows->from[i] * columns->size);
    }
}

/* Upsampling goes along the columns first, each row of x once; then along the rows, whole vectors at a time. */

/* A row at the places where y has columns. */
static void REAL(stretch)(const real *restrict row, const minidl_resampled *columns, int linear, real *restrict to) {
    const int32_t *const left = columns->left, *const right = columns->right;
    const real *const part = columns->part;
    if (!linear)
        for (ptrdiff_t j = 0; j < columns->after; j++) to[j] = row[left[j]];
    else
        for (ptrdiff_t j = 0; j < columns->after; j++)
            to[j] = row[left[j]] * ((real)1 - part[j]) + row[right[j]] * part[j];
}

/* Its adjoint, added to a row. */
static void REAL(unstretch)(const real *restrict from, const minidl_resampled *columns, int linear, real *restrict row) {
    const int32_t *const left = columns->left, *const right = columns->right;
    const real *const part = columns->part;
    if (!linear)
        for (ptrdiff_t j = 0; j < columns->after; j++) row[left[j]] += from[j];
    else
        for (ptrdiff_t j = 0; j < columns->after; j++) {
            row[left[j]] += from[j] * ((real)1 - part[j]);
            row[right[j]] += from[j] * part[j];
        }
}

/* `work` has room for two rows of y: stretched rows of x, an even and an odd one. */
static void REAL(upsample)(const real *x, real *y, ptrdiff_t images, const minidl_resampling *s, real *work) {
    const minidl_resampled *const rows = &s->rows, *const columns = &s->columns;
    const ptrdiff_t width = columns->after;
    const real *const part = rows->part;
    for (ptrdiff_t n = 0; n < images; n++, x += rows->before * columns->before) {
        ptrdiff_t has[2] = {-1, -1};
        for (ptrdiff_t h = 0; h < rows->after; h++, y += width) {
            const ptrdiff_t left = rows->left[h];
            if (part == NULL) { /* rows are repeated */
                if (h > 0 && rows->left[h - 1] == left) memcpy(y, y - width, (size_t)width * sizeof(real));
                else REAL(stretch)(x + left * columns->before, columns, s->linear, y);
                continue;
            }
            const ptrdiff_t both[2] = {left, rows->right[h]};
            for (int i = 0; i < 2; i++) {
                const ptrdiff_t row = both[i];
                if (has[row & 1] == row) continue;
                REAL(stretch)(x + row * columns->before, columns, 1, work + (row & 1) * width);
                has[row & 1] = row;
            }
            const real *const upper = work + (both[0] & 1) * width, *const lower = work + (both[1] & 1) * width;
            const VEC of_upper = SPLAT((real)1 - part[h]), of_lower = SPLAT(part[h]);
            EACH_VECTOR(width, PUT(y, GET(upper) * of_upper + GET(lower) * of_lower););
        }
    }
}

/* `work` sums the gradients of an even and an odd stretched row, until no row of y comes that was made of it. */
static void REAL(upsample_backward)(const real *dy, real *dx, ptrdiff_t images, const minidl_resampling *s, real *work) {
    const minidl_resampled *const rows = &s->rows, *const columns = &s->columns;
    const ptrdiff_t width = columns->after, in = rows->before * columns->before;
    const real *const part = rows->part;
    for (ptrdiff_t n = 0; n < images; n++, dx += in) {
        ptrdiff_t has[2] = {-1, -1};
        memset(dx, 0, (size_t)in * sizeof(real));
        for (ptrdiff_t h = 0; h < rows->after; h++, dy += width) {
            const ptrdiff_t both[2] = {rows->left[h], part == NULL ? rows->left[h] : rows->right[h]};
            for (int i = 0; i < 1 + (part != NULL); i++) {
                const ptrdiff_t row = both[i];
                real *const sums = work + (row & 1) * width;
                const VEC share = SPLAT(part == NULL ? (real)1 : i == 0 ? (real)1 - part[h] : part[h]);
                if (has[row & 1] == row) {
                    EACH_VECTOR(width, PUT(sums, GET(sums) + GET(dy) * share););
                    continue;
                }
                if (has[row & 1] >= 0) REAL(unstretch)(sums, columns, s->linear, dx + has[row & 1] * columns->before);
                EACH_VECTOR(width, PUT(sums, GET(dy) * share););
                has[row & 1] = row;
            }
        }
        for (int i = 0; i < 2; i++)
            if (has[i] >= 0) REAL(unstretch)(work + i * width, columns, s->linear, dx + has[i] * columns->before);
    }
}

const REAL(minidl_resamplers) TABLE(minidl_resamplers) = {
    .pad = REAL(pad),
    .pad_backward = REAL(pad_backward),
    .upsample = REAL(upsample),
    .upsample_backward = REAL(upsample_backward),
};
