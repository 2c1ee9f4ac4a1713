/* Normalisation by statistics of a channel (batch), of a row (layer, root mean square) or of a group of channels (group).
 *
 *     mean = sum of x / count;   variance = sum of (x - mean)^2 / count;     over all x that belong together
 *     inverse = 1 / sqrt(variance + eps)
 *     x_hat = (x - mean) * inverse
 *     y = x_hat * weight[c] + bias[c]              c: the channel, or the place in the row
 *
 * backward, with g = dy * weight[c] and sums and means over the x that belong together:
 *
 *     dx = inverse * (g - mean(g) - x_hat * mean(g * x_hat))
 *     dweight[c] = sum of dy * x_hat;   dbias[c] = sum of dy
 *
 * Root-mean-square normalisation is the same with mean = 0 and without mean(g). Batch normalisation with statistics that are given
 * has only the factor: dx = inverse * g. Pointers may be NULL where something is not there or not wanted: weight, bias, dweight,
 * dbias. All arrays have the precision of x. */
#ifndef MINIDL_NORM_H
#define MINIDL_NORM_H

#include <stddef.h>

#include "runtime/isa.h"

/* Batch normalisation: x of shape (images, channels, positions), statistics of each channel. */
typedef struct {
    const void *x, *dy, *weight, *bias;
    void *y, *dx, *dweight, *dbias;
    int add_weight, add_bias; /* whether dweight and dbias are added to instead of overwritten */
    void *mean, *variance; /* (channels,) */
    ptrdiff_t images, channels, positions;
    double eps;
    int own_statistics; /* whether mean and variance are those of x, or given */
} minidl_batch_normalization;

enum { MINIDL_FEW_POSITIONS = 64 }; /* below, batch normalisation takes several channels at a time */

/* Layer and root-mean-square normalisation: x of shape (rows, length), statistics of each row; weight and bias (length,). */
typedef struct {
    const void *x, *dy, *weight, *bias;
    void *y, *dx, *dweight, *dbias;
    int add_weight, add_bias; /* whether dweight and dbias are added to instead of overwritten */
    void *mean, *inverse; /* (rows,); mean is NULL where none is taken out */
    ptrdiff_t rows, length;
    double eps;
} minidl_row_normalization;

/* Group normalisation: x of shape (images, channels, positions), statistics of each of `groups` groups of each image. */
typedef struct {
    const void *x, *dy, *weight, *bias;
    void *y, *dx, *dweight, *dbias;
    int add_weight, add_bias; /* whether dweight and dbias are added to instead of overwritten */
    void *mean, *inverse; /* (images, groups) */
    double *channel_sums; /* (images, channels, 2), which the backward leaves: of dy and of dy x_hat */
    ptrdiff_t images, channels, positions, groups;
    double eps;
} minidl_group_normalization;

enum { MINIDL_ROWS_OF_SUMS = 6 }; /* of elements, that row_norm_backward takes in `sums` */

/* Of channels, rows, or groups of all images, [from, to). */
#define MINIDL_NORM_TABLE(real)                                                                                            \
    struct {                                                                                                               \
        void (*batch_norm)(const minidl_batch_normalization *s, ptrdiff_t from, ptrdiff_t to);                             \
        void (*batch_norm_backward)(const minidl_batch_normalization *s, ptrdiff_t from, ptrdiff_t to);                    \
        void (*row_norm)(const minidl_row_normalization *s, ptrdiff_t from, ptrdiff_t to);                                 \
        void (*row_norm_backward)(const minidl_row_normalization *s, ptrdiff_t from, ptrdiff_t to, real *sums);            \
        void (*group_norm)(const minidl_group_normalization *s, ptrdiff_t from, ptrdiff_t to);                             \
        void (*group_norm_backward)(const minidl_group_normalization *s, ptrdiff_t from, ptrdiff_t to);                    \
    }
MINIDL_TABLES(minidl_norms, MINIDL_NORM_TABLE)

/* What returns int returns -1 where memory is short. */
void minidl_batch_norm(int is_double, const minidl_batch_normalization *s);
void minidl_batch_norm_backward(int is_double, const minidl_batch_normalization *s);
void minidl_row_norm(int is_double, const minidl_row_normalization *s);
int minidl_row_norm_backward(int is_double, const minidl_row_normalization *s);
void minidl_group_norm(int is_double, const minidl_group_normalization *s);
int minidl_group_norm_backward(int is_double, const minidl_group_normalization *s);

#endif
