/* Recurrent networks over time: what is left of a layer when the products of all steps at once are taken out.
 *
 * T steps, N sequences, H units, G gates (1 for the simple network, 4 for lstm, 3 for gru). Arrays of all steps have the step first,
 * in the order of reading; h and c begin with the initial state, so that h[t] is the state before step t.
 *
 *     forward, for each step t and sequence n:
 *         a[t][n] += W_hh h[t][n]                        (gates H); a holds W_ih x + the biases
 *         simple:  h[t+1][n] = f(a)
 *         lstm:    i, f, g, o = sigma, sigma, tanh, sigma of a;   c[t+1][n] = f c[t][n] + i g;   h[t+1][n] = o tanh(c[t+1][n])
 *         gru:     r, z = sigma of a;   q[t][n] = the last H of W_hh h + bias_n, not added to a;   g = tanh(a_n + r q);
 *                  h[t+1][n] = (1 - z) g + z h[t][n]
 *         a[t][n] = the gates;   y[n][place of t] = h[t+1][n]
 *
 *     backward, for each step t from the last:
 *         dh = dh[n] + dy[n][place of t], which is dh_n[n] + ... at the last step
 *         da[t][n], dc[n] = as minidl/ops/recurrent.py derives them
 *         dh[n] = da[t][n] W_hh  (+ dh z, for gru)
 *
 * da has H or 4 H elements: of gru r, z, n as the input's product gets them, and n as the state's product gets it.
 *
 * A sequence runs for lengths[n] steps. After that its state stays, and y is 0. Read in reverse, step t of a sequence is at place
 * lengths[n] - 1 - t. Each thread takes a range of sequences through all steps, so threads wait for each other only at the end.
 * The rows or columns of W_hh lie in panels, in the order in which the tiles of the matrix product read them. */
#ifndef MINIDL_RECURRENT_H
#define MINIDL_RECURRENT_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/isa.h"

typedef enum { MINIDL_RNN_TANH, MINIDL_RNN_RELU, MINIDL_LSTM, MINIDL_GRU } minidl_cell;

typedef struct {
    minidl_cell cell;
    ptrdiff_t steps, batch, hidden;
    const int64_t *lengths; /* (N,), each from 1 to T; or NULL */
    int reverse;
    const void *weight; /* W_hh (G H, H), without gaps; NULL if there is one step, whose product has been added already */
    void *panels; /* room for minidl_recurrent_panels elements */
    void *rounded; /* room for (N, H), backward for (N, da_row): the other operand, rounded to bfloat16; or NULL. W_hh comes rounded */
    void *a; /* (T, N, G H): what goes into the gates, then the gates */
    void *h, *c; /* (T + 1, N, H), the first of each given; c for lstm */
    void *q; /* (T, N, H), for gru */
    const void *bias_n; /* (H,), for gru, or NULL */
    void *y; /* (N, T, H) */
    const void *dy; /* (N, T, H), or NULL */
    const void *dh_n; /* (N, H), or NULL */
    void *dh; /* (N, H): becomes the gradient of the initial state */
    void *dc; /* (N, H), for lstm: the gradient of the final cell becomes that of the initial one */
    void *da; /* (T, N, H or 4 H), rows da_row apart: at powers of two they would compete for the same sets of the cache */
    ptrdiff_t da_row;
} minidl_recurrence;

/* Of sequences [from, to). */
#define MINIDL_RECURRENT_TABLE(real)                                                                                       \
    struct {                                                                                                               \
        ptrdiff_t (*panels)(ptrdiff_t hidden, ptrdiff_t rows);                                                             \
        void (*pack)(const minidl_recurrence *r, int backward);                                                            \
        void (*forward)(const minidl_recurrence *r, ptrdiff_t from, ptrdiff_t to);                                         \
        void (*backward)(const minidl_recurrence *r, ptrdiff_t from, ptrdiff_t to);                                        \
    }
MINIDL_TABLES(minidl_recurrent, MINIDL_RECURRENT_TABLE)

/* How many elements the panels of a matrix W_hh of so many rows take, for forward or backward. */
ptrdiff_t minidl_recurrent_panels(int is_double, ptrdiff_t hidden, ptrdiff_t rows);
void minidl_recurrent_forward(int is_double, const minidl_recurrence *r);
void minidl_recurrent_backward(int is_double, const minidl_recurrence *r);

/* Copy x (N, T, features) to steps (T, N, features) in the order of reading, with zeros for padding; or back. `size` is that of an
 * element, in bytes. Of r only steps, batch, lengths and reverse are read. */
void minidl_arrange_steps(const minidl_recurrence *r, ptrdiff_t features, size_t size, const void *x, void *steps);
void minidl_restore_batch(const minidl_recurrence *r, ptrdiff_t features, size_t size, const void *steps, void *x);

/* Where step t of sequence n is in x and y, and whether the sequence still runs then. */
static inline int minidl_runs(const minidl_recurrence *r, ptrdiff_t n, ptrdiff_t t) {
    return r->lengths == NULL || t < r->lengths[n];
}
static inline ptrdiff_t minidl_place(const minidl_recurrence *r, ptrdiff_t n, ptrdiff_t t) {
    const ptrdiff_t length = r->lengths == NULL ? r->steps : (ptrdiff_t)r->lengths[n];
    return r->reverse && t < length ? length - 1 - t : t;
}

#endif
