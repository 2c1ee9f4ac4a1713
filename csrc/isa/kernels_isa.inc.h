/* Everything for one instruction set: the loops in both precisions and the table of them, named TABLE_NAME. */

#include "vector/formulas.h"
#include "isa/kernels.h"

#define real float
#define REAL(name) name##_f32
#include "isa/kernels.inc.h"
#undef real
#undef REAL

#define real double
#define REAL(name) name##_f64
#include "isa/kernels.inc.h"
#undef real
#undef REAL

#define ENTRIES(s)                                                                                                         \
    {                                                                                                                      \
        .forward = {relu_forward##s, leaky_relu_forward##s, sigmoid_forward##s, tanh_forward##s, softplus_forward##s,      \
                    elu_forward##s, gelu_forward##s, gelu_tanh_forward##s, silu_forward##s, relu6_forward##s,              \
                    exp_forward##s, log_forward##s, erf_forward##s},                                                       \
        .backward = {relu_backward##s, leaky_relu_backward##s, sigmoid_backward##s, tanh_backward##s,                      \
                     softplus_backward##s, elu_backward##s, gelu_backward##s, gelu_tanh_backward##s, silu_backward##s,     \
                     relu6_backward##s, dropout_backward##s},                                                              \
        .dropout = dropout##s,                                                                                             \
        .softmax = softmax##s, .log_softmax = log_softmax##s, .softmax_backward = softmax_backward##s,                     \
        .log_softmax_backward = log_softmax_backward##s, .cross_entropy = cross_entropy##s,                                \
        .losses = {squared_error##s, absolute_error##s, huber##s, binary_cross_entropy##s},                                \
        .scale = scale_all##s, .column_sums = column_sums##s, .sum_of_squares = sum_of_squares##s,                         \
        .sum_of_all = sum_of_all##s,                                                                                       \
        .batch_norm = batch_norm##s, .batch_norm_backward = batch_norm_backward##s, .norm_rows = norm_rows##s,             \
        .norm_rows_backward = norm_rows_backward##s, .group_norm = group_norm##s,                                          \
        .group_norm_backward = group_norm_backward##s,                                                                     \
        .pool = {max_pool##s, avg_pool##s, adaptive##s, max_pool_backward##s, avg_pool_backward##s, adaptive_backward##s}, \
        .pad = {pad##s, pad_backward##s},                                                                                  \
        .upsample = {upsample##s, upsample_backward##s},                                                                   \
        .sgd = sgd##s, .adagrad = adagrad##s, .rmsprop = rmsprop##s, .adam = adam##s,                                      \
    }

const minidl_kernels TABLE_NAME = {.f32 = ENTRIES(_f32), .f64 = ENTRIES(_f64)};
