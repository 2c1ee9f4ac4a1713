/* The kernels spread over threads. `is_double` says which precision the pointers have. */
#ifndef MINIDL_PARALLEL_H
#define MINIDL_PARALLEL_H

#include <stddef.h>
#include <stdint.h>

#include "isa/kernels.h"
#include "runtime/pcg64.h"
#include "runtime/threads.h"

/* Choose the kernels. Returns 0, or -1 if MINIDL_ISA names what cannot run here. */
int minidl_start(void);

/* What the epilogues of the matrix products call. */
const minidl_kernels *minidl_kernels_in_use(void);

void minidl_activation(int is_double, int op, const void *x, void *y, ptrdiff_t n, const double settings[2]);
void minidl_activation_backward(int is_double, int op, const void *dy, const void *saved, void *dx, ptrdiff_t n,
                                const double settings[2]);
void minidl_softmax(int is_double, int logarithm, const void *x, void *y, ptrdiff_t rows, ptrdiff_t length);
void minidl_softmax_backward(int is_double, int logarithm, const void *dy, const void *y, void *dx, ptrdiff_t rows,
                             ptrdiff_t length);
/* Sums of losses; `each`, if not NULL, takes every row's or element's. */
double minidl_cross_entropy(int is_double, const void *x, const minidl_targets *targets, void *slope, void *each,
                            ptrdiff_t rows, ptrdiff_t classes, double *divisor);
double minidl_loss(int is_double, int op, const void *prediction, const void *target, void *slope, void *each, ptrdiff_t n,
                   double delta);
/* One of `random`, from which the numbers are made, `uniform`, numbers made already, and `mask` is not NULL. */
void minidl_dropout(int is_double, const void *x, const minidl_pcg64 *random, const float *uniform, const void *mask, double p,
                    void *scale, void *y, ptrdiff_t n);
void minidl_scale(int is_double, const void *x, double factor, void *y, ptrdiff_t n);
void minidl_column_sums(int is_double, const void *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride,
                        int accumulate, void *out);
/* out[c] = (accumulate ? out[c] : 0) + sum over images and positions of x[image, c, position] */
void minidl_channel_sums(int is_double, const void *x, ptrdiff_t images, ptrdiff_t channels, ptrdiff_t positions, int accumulate,
                         void *out);
void minidl_batch_norm(int is_double, int backward, const minidl_norm *s);
/* Layer and root-mean-square normalisation, with rows in place of images. What returns int returns -1 where memory is short. */
void minidl_norm_rows(int is_double, const minidl_norm *s);
int minidl_norm_rows_backward(int is_double, const minidl_norm *s);
int minidl_group_norm(int is_double, int backward, minidl_norm *s);
/* Whether there is no inf or nan in x, and no sum of its numbers leaves the range. */
int minidl_finite(int is_double, const void *x, ptrdiff_t n);
double minidl_sum_of_squares(int is_double, const void *x, ptrdiff_t n);

/* A pooling (MINIDL_MAX_POOL ...) of images of `in` numbers to images of `out`; `won` is NULL but for the maximum. */
void minidl_pooling(int is_double, int op, const void *from, void *won, void *to, ptrdiff_t images, ptrdiff_t in, ptrdiff_t out,
                    const minidl_pool *windows);

/* Padding of images, or back. */
void minidl_pad(int is_double, int backward, const void *from, void *to, ptrdiff_t images, const minidl_padding *s);
/* Upsampling of images, or back. -1 where memory is missing. */
int minidl_upsample(int is_double, int backward, const void *from, void *to, ptrdiff_t images, const minidl_resampling *s);

/* The optimisers: arrays in the order of the formula's arguments, NULL where there is none. */
enum { MINIDL_SGD, MINIDL_ADAGRAD, MINIDL_RMSPROP, MINIDL_ADAM };
void minidl_update(int is_double, int optimizer, void *const arrays[5], ptrdiff_t n, const minidl_settings *settings);

#endif
