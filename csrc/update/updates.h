/* The optimisers' updates: one pass, every array read and written once, with the operations of minidl/ops/update.py in their
 * order. For each element, with g = grad * grad_scale + weight_decay * value:
 *
 *     sgd       b = momentum * b + (1 - dampening) * g;                      b = g in the first step
 *               value -= lr * b;                                             or lr * (g + momentum * b) with nesterov
 *     adagrad   sum += g * g;  value -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(sum) + eps);
 *     rmsprop   s = alpha * s + (1 - alpha) * g * g;  value -= lr * g / (sqrt(s) + eps);
 *               with a mean of g, if asked for, taken out of s, and with a momentum
 *     adam      m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g * g;
 *               value -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps);
 *
 * Adam, where it is decoupled, leaves the decay out of g and takes lr * weight_decay * value off the value instead. */
#ifndef MINIDL_UPDATES_H
#define MINIDL_UPDATES_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/isa.h"

/* An optimiser's settings; each update reads those that it has. */
typedef struct {
    double lr, momentum, dampening, weight_decay, alpha, eps, beta1, beta2, lr_decay, grad_scale;
    int64_t step;
    int nesterov, first_step, decoupled;
} minidl_settings;

/* The arrays in the order of the formula's arguments, NULL where there is none. */
enum { MINIDL_SGD, MINIDL_ADAGRAD, MINIDL_RMSPROP, MINIDL_ADAM };
enum { MINIDL_UPDATE_ARRAYS = 5 };

#define MINIDL_UPDATE_TABLE(real)                                                                                          \
    struct {                                                                                                               \
        void (*sgd)(real *value, const real *grad, real *buffer, ptrdiff_t n, const minidl_settings *s);                   \
        void (*adagrad)(real *value, const real *grad, real *square_sum, ptrdiff_t n, const minidl_settings *s);           \
        void (*rmsprop)(real *value, const real *grad, real *square_average, real *grad_average, real *buffer,             \
                        ptrdiff_t n, const minidl_settings *s);                                                            \
        void (*adam)(real *value, const real *grad, real *m, real *v, real *v_max, ptrdiff_t n,                            \
                     const minidl_settings *s);                                                                            \
    }
MINIDL_TABLES(minidl_updates, MINIDL_UPDATE_TABLE)

void minidl_update(int is_double, int optimizer, void *const arrays[MINIDL_UPDATE_ARRAYS], ptrdiff_t n,
                   const minidl_settings *settings);

#endif
