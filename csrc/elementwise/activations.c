/* The functions of activations.h, over threads. */
#include "elementwise/activations.h"

#include "runtime/parallel.h"

enum { KEEPS_INPUT, KEEPS_OUTPUT };
#define ENTRY(name_, keeps, forward, backward, first_)                                                                     \
    [MINIDL_##name_] = {.name = #name_,                                                                                    \
                        .keeps_output = KEEPS_##keeps,                                                                     \
                        .first = MINIDL_FIRST_##first_,                                                                    \
                        .forward_grain = MINIDL_##forward,                                                                 \
                        .backward_grain = MINIDL_##backward},
const minidl_activation_entry minidl_activation_entries[MINIDL_FUNCTIONS] = {
    MINIDL_ACTIVATION_LIST(ENTRY) MINIDL_FUNCTION_LIST(ENTRY)};

typedef struct {
    int op;
    const void *dy, *from; /* x, or what the forward kept */
    void *to;
    const double *settings;
} activation;

MINIDL_TASK(forward, activation, minidl_activations, {
    const real settings[2] = {(real)work->settings[0], (real)work->settings[1]};
    kernels->forward[work->op]((const real *)work->from + from, (real *)work->to + from, to - from, settings);
})

void minidl_activation(int is_double, int op, const void *x, void *y, ptrdiff_t n, const double settings[2]) {
    activation work = {.op = op, .from = x, .to = y, .settings = settings};
    minidl_in_free_ranges(n, minidl_activation_entries[op].forward_grain, MINIDL_CHUNK, MINIDL_TASK_OF(forward, is_double), &work);
}

MINIDL_TASK(backward, activation, minidl_activations, {
    const real settings[2] = {(real)work->settings[0], (real)work->settings[1]};
    kernels->backward[work->op]((const real *)work->dy + from, (const real *)work->from + from, (real *)work->to + from,
                                to - from, settings);
})

void minidl_activation_backward(int is_double, int op, const void *dy, const void *kept, void *dx, ptrdiff_t n,
                                const double settings[2]) {
    activation work = {.op = op, .dy = dy, .from = kept, .to = dx, .settings = settings};
    minidl_in_free_ranges(n, minidl_activation_entries[op].backward_grain, MINIDL_CHUNK, MINIDL_TASK_OF(backward, is_double), &work);
}
