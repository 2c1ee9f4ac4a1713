/* Activations: functions of one element at a time, forward and backward.
 *
 *     for (i = 0; i < n; i++) y[i] = f(x[i]);
 *     for (i = 0; i < n; i++) dx[i] = dy[i] * slope(kept[i]);      kept is x or y: activation_list.h
 *
 * where for relu, say,
 *
 *     f(x) = x > 0 ? x : 0        slope(y) = y > 0 ? 1 : 0
 *
 * The formulas are in vector/formulas.inc.h, for C and CUDA; activation_list.h says which there are. Outputs may be the inputs. */
#ifndef MINIDL_ACTIVATIONS_H
#define MINIDL_ACTIVATIONS_H

#include <stddef.h>

#include "elementwise/activation_list.h"
#include "runtime/isa.h"

/* MINIDL_relu and so on. */
#define MINIDL_NUMBER(name, ...) MINIDL_##name,
enum {
    MINIDL_ACTIVATION_LIST(MINIDL_NUMBER) MINIDL_ACTIVATIONS,
    MINIDL_LAST_ACTIVATION = MINIDL_ACTIVATIONS - 1, /* the functions go on with the next number */
    MINIDL_FUNCTION_LIST(MINIDL_NUMBER) MINIDL_FUNCTIONS
};
#undef MINIDL_NUMBER

/* What the list says of each. */
enum { MINIDL_FIRST_ANY, MINIDL_FIRST_POSITIVE, MINIDL_FIRST_BELOW_SECOND };
typedef struct {
    const char *name;
    int keeps_output, first;
    ptrdiff_t forward_grain, backward_grain; /* elements that are worth a thread */
} minidl_activation_entry;
extern const minidl_activation_entry minidl_activation_entries[MINIDL_FUNCTIONS];

/* `settings` are two numbers of the precision of the arrays. */
#define MINIDL_ACTIVATION_TABLE(real)                                                                                      \
    struct {                                                                                                               \
        void (*forward[MINIDL_FUNCTIONS])(const real *x, real *y, ptrdiff_t n, const void *settings);                      \
        void (*backward[MINIDL_ACTIVATIONS])(const real *dy, const real *kept, real *dx, ptrdiff_t n,                      \
                                             const void *settings);                                                        \
    }
MINIDL_TABLES(minidl_activations, MINIDL_ACTIVATION_TABLE)

void minidl_activation(int is_double, int op, const void *x, void *y, ptrdiff_t n, const double settings[2]);
void minidl_activation_backward(int is_double, int op, const void *dy, const void *kept, void *dx, ptrdiff_t n,
                                const double settings[2]);

#endif
