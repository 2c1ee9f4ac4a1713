/* Everything for one instruction set: the loops in both precisions and the table of them, named TABLE_NAME. */

#include <math.h>

#include "formulas.h"
#include "kernels.h"

#if defined(__clang__)
#define VECTOR_LOOP _Pragma("clang loop vectorize(enable) interleave(enable)")
#elif defined(__GNUC__)
#define VECTOR_LOOP _Pragma("GCC ivdep") /* outputs may be the inputs, element by element: no other overlap */
#else
#define VECTOR_LOOP
#endif

#define real float
#define REAL(name) name##_f32
#define SQRT(x) sqrtf(x)
#include "kernels.inc.h"
#undef real
#undef REAL
#undef SQRT

#define real double
#define REAL(name) name##_f64
#define SQRT(x) sqrt(x)
#include "kernels.inc.h"
#undef real
#undef REAL
#undef SQRT

#define ENTRIES(suffix)                                                                                                     \
    {                                                                                                                      \
        .forward = {relu_forward##suffix, leaky_relu_forward##suffix, sigmoid_forward##suffix, tanh_forward##suffix,       \
                    softplus_forward##suffix, elu_forward##suffix, gelu_forward##suffix, gelu_tanh_forward##suffix,        \
                    silu_forward##suffix},                                                                                 \
        .backward = {relu_backward##suffix, leaky_relu_backward##suffix, sigmoid_backward##suffix, tanh_backward##suffix,  \
                     softplus_backward##suffix, elu_backward##suffix, gelu_backward##suffix, gelu_tanh_backward##suffix,   \
                     silu_backward##suffix},                                                                               \
        .softmax = softmax##suffix, .log_softmax = log_softmax##suffix, .softmax_backward = softmax_backward##suffix,      \
        .log_softmax_backward = log_softmax_backward##suffix, .cross_entropy = cross_entropy##suffix,                      \
        .squared_error = squared_error##suffix, .scale = scale##suffix, .column_sums = column_sums##suffix,                \
        .add_row = add_row##suffix, .sum_of_squares = sum_of_squares##suffix, .sgd = sgd##suffix,                          \
        .adagrad = adagrad##suffix, .rmsprop = rmsprop##suffix, .adam = adam##suffix,                                      \
    }

const minidl_kernels TABLE_NAME = {.f32 = ENTRIES(_f32), .f64 = ENTRIES(_f64)};
