/* Losses, each with its slope: the gradient with respect to the prediction. With e = prediction - target, of each element:
 *
 *     squared error          loss = e * e                                    slope = 2 * e
 *     absolute error         loss = |e|                                      slope = sign(e)
 *     Huber                  d = min(max(e, -delta), delta), loss = d * (e - d / 2)     slope = d
 *     binary cross-entropy   loss = t * log(1 + exp(-x)) + (1 - t) * log(1 + exp(x))    slope = sigmoid(x) - t
 *     cross-entropy of probabilities   loss = -t * max(log(p), -100) - (1 - t) * max(log(1 - p), -100)
 *                                      slope = (p - t) / max(p * (1 - p), 1e-12)
 *     Kullback-Leibler       loss = t * (log(t) - x), or 0 where t is 0      slope = -t
 *
 * and of each row of K log-probabilities with a label and class weights w
 *
 *     likelihood             loss = -w[label] * x[label]                     slope[k] = k == label ? -w[k] : 0
 *
 * and of each row of K logits x with a label, class weights w and label smoothing s, where m is the largest x[k], and r the sum of
 * exp(x[k] - m) over all k but one with x[k] = m, so that p[k] = exp(x[k] - m) / (1 + r):
 *
 *     cross-entropy          q[k] = w[k] * ((1 - s) * (k == label) + s / K)
 *                            loss = -sum over k of q[k] * log(p[k])          slope[k] = p[k] * sum(q) - q[k]
 *
 * computed so that nothing cancels where p[label] is as good as 1. Vocabularies are large, so the forward reads each logit once and
 * leaves only m and r: a block of classes at a time, where what was summed before is scaled down if the block holds a larger logit
 * (M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018). The backward reads the logits again and writes
 * dx[k] = dloss * factor * slope[k] at once.
 *
 * All return the sum of the losses, and put each into `each` if it is not NULL. */
#ifndef MINIDL_LOSSES_H
#define MINIDL_LOSSES_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/isa.h"

enum { MINIDL_SQUARED_ERROR, MINIDL_ABSOLUTE_ERROR, MINIDL_HUBER, MINIDL_BINARY_CROSS_ENTROPY,
       MINIDL_PROBABILITIES, MINIDL_KULLBACK_LEIBLER, MINIDL_LOSSES };

/* What cross-entropy needs besides the logits; `weight` has the precision of the logits, or is NULL. */
typedef struct {
    const int64_t *labels; /* each is read once, and checked then: the caller's array may be changed meanwhile */
    int64_t ignore_index; /* rows with this label count for nothing */
    const void *weight;
    double smoothing;
} minidl_targets;

/* Rows whose labels begin with number `first`; the arrays begin with them. cross_entropy and likelihood leave in *divisor the sum of
 * the weights of the labels met. *wrong becomes 1 at a label that is no class, and the rest is then of no use. dloss is NULL, or has
 * one number for each row. */
#define MINIDL_LOSS_TABLE(real)                                                                                            \
    struct {                                                                                                               \
        double (*pointwise[MINIDL_LOSSES])(const real *prediction, const real *target, real *slope, real *each,            \
                                           ptrdiff_t n, double delta);                                                     \
        double (*cross_entropy)(const real *x, const minidl_targets *targets, ptrdiff_t first, real *largest, real *rest,  \
                                real *each, ptrdiff_t rows, ptrdiff_t classes, double *divisor, int *wrong);               \
        void (*cross_entropy_backward)(const real *x, const minidl_targets *targets, ptrdiff_t first, const real *largest, \
                                       const real *rest, const real *dloss, double factor, real *dx, ptrdiff_t rows,       \
                                       ptrdiff_t classes, int *wrong);                                                     \
        double (*likelihood)(const real *x, const minidl_targets *targets, ptrdiff_t first, real *slope, real *each,       \
                             ptrdiff_t rows, ptrdiff_t classes, double *divisor, int *wrong);                              \
    }
MINIDL_TABLES(minidl_losses, MINIDL_LOSS_TABLE)

double minidl_loss(int is_double, int op, const void *prediction, const void *target, void *slope, void *each, ptrdiff_t n,
                   double delta);
/* These return -1, and nothing of use, where a label is no class; forwards leave the sum of the losses in *total. */
int minidl_likelihood(int is_double, const void *x, const minidl_targets *targets, void *slope, void *each, ptrdiff_t rows,
                      ptrdiff_t classes, double *total, double *divisor);
int minidl_cross_entropy(int is_double, const void *x, const minidl_targets *targets, void *largest, void *rest, void *each,
                         ptrdiff_t rows, ptrdiff_t classes, double *total, double *divisor);
int minidl_cross_entropy_backward(int is_double, const void *x, const minidl_targets *targets, const void *largest,
                                  const void *rest, const void *dloss, double factor, void *dx, ptrdiff_t rows, ptrdiff_t classes);

#endif
