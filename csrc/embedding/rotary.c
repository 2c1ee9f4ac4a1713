/* The function of rotary.h, over threads. */
#include "embedding/rotary.h"

#include <string.h>

#include "runtime/parallel.h"

static ptrdiff_t place(const minidl_turned_rows *x, const ptrdiff_t *at) {
    ptrdiff_t found = 0;
    for (int axis = 0; axis < MINIDL_ROTARY_AXES; axis++) found += at[axis] * x->step[axis];
    return found;
}

MINIDL_TASK(turn, const minidl_rotation, minidl_rotations, {
    ptrdiff_t at[MINIDL_ROTARY_AXES];
    ptrdiff_t left = from;
    for (int axis = MINIDL_ROTARY_AXES - 1; axis >= 0; left /= work->shape[axis--]) at[axis] = left % work->shape[axis];
    for (ptrdiff_t row = from; row < to; row++) {
        const real *const x = (const real *)work->x.at + place(&work->x, at);
        real *const y = (real *)work->y.at + place(&work->y, at);
        kernels->turn[work->interleaved](x, (const real *)work->cosines.at + place(&work->cosines, at),
                                         (const real *)work->sines.at + place(&work->sines, at), work->back ? -1 : 1, y,
                                         work->pairs);
        if (y != x) memcpy(y + 2 * work->pairs, x + 2 * work->pairs, (size_t)(work->size - 2 * work->pairs) * sizeof(real));
        for (int axis = MINIDL_ROTARY_AXES - 1; axis >= 0 && ++at[axis] == work->shape[axis]; axis--) at[axis] = 0;
    }
})

void minidl_turn(int is_double, const minidl_rotation *r) {
    ptrdiff_t rows = 1;
    for (int axis = 0; axis < MINIDL_ROTARY_AXES; axis++) rows *= r->shape[axis];
    minidl_in_free_ranges(rows, MINIDL_CHEAP / r->size + 1, 1, MINIDL_TASK_OF(turn, is_double), (void *)r);
}
