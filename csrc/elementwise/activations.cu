/* Activations on a GPU, forward and backward, alone and with the bias of the layer before them.
 *
 *     y[i] = f(x[i])                      dx[i] = dy[i] slope(kept[i])
 *     y[r][c] = f(x[r][c] + bias[c])
 *
 * One kernel for each activation of activation_list.h; the formulas are those of the CPU (vector/formulas.inc.h). All are limited
 * by memory. */
#include "elementwise/activation_list.h"
#include "runtime/device.cuh"

#define KERNELS(name, ...)                                                                                                 \
    extern "C" __global__ void name##_forward(const stored *x, stored *y, size n, real first, real second) {               \
        map(of_grid(), x, y, n, [=](size, real value) { return REAL(name##_forward)(value, first, second); });                              \
    }                                                                                                                      \
    extern "C" __global__ void name##_backward(const stored *dy, const stored *kept, stored *dx, size n, real first,       \
                                               real second) {                                                              \
        map(of_grid(), dy, kept, dx, n, [=](size, real g, real value) { return REAL(name##_backward)(g, value, first, second); });          \
    }                                                                                                                      \
    /* x is the product of the layer, (rows, columns). x + bias is written to `hidden`, which may be x, unless it is null. */ \
    extern "C" __global__ void name##_biased(const stored *x, const stored *bias, stored *hidden, stored *y, size rows,    \
                                             int columns, real first, real second) {                                       \
        for (size row = first_row(); row < rows; row += rows_at_once()) {                                                  \
            for (int k = threadIdx.x; k < columns; k += blockDim.x) {                                                      \
                const size i = row * columns + k;                                                                          \
                const stored sum = narrow(widen(x[i]) + widen(bias[k]));                                                   \
                if (hidden) hidden[i] = sum;                                                                               \
                y[i] = narrow(REAL(name##_forward)(widen(sum), first, second));                                            \
            }                                                                                                              \
        }                                                                                                                  \
    }
MINIDL_ACTIVATION_LIST(KERNELS)
