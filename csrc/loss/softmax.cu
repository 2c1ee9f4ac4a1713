/* Softmax and its logarithm on a GPU: each row by a team of threads, which reads it once for the largest element and the sum.
 *
 *     y[k]  = exp(x[k] - m) / sum_j exp(x[j] - m)           m the largest of the row
 *     dx[k] = y[k] (dy[k] - sum_j dy[j] y[j])
 *
 *     y[k]  = (x[k] - m) - log(1 + r)                       1 + r that sum: one exponential is 1, r the sum of the others
 *     dx[k] = dy[k] (1 - p[k]) - p[k] sum of the other dy,  p = exp(y)
 *
 * x and y have shape (rows, columns). A largest element that is infinite, or nan anywhere, makes the row nan. */
#include "loss/peak.cuh"

extern "C" __global__ void softmax_forward(const stored *x, stored *y, size rows, int columns) {
    __shared__ Peak scratch[MOST_WARPS];
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const Peak peak = peak_of_row(x + row * columns, columns, scratch);
        const real inverse = 1 / (1 + peak.rest);
        map(of_team(), x + row * columns, y + row * columns, columns,
            [=](size, real value) { return REAL(decay)(value - peak.largest) * inverse; });
    }
}

extern "C" __global__ void softmax_backward(const stored *dy, const stored *y, stored *dx, size rows, int columns) {
    __shared__ real scratch[MOST_WARPS];
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const stored *g = dy + row * columns, *p = y + row * columns;
        real mean = 0; /* of dy under the probabilities y */
        visit(of_team(), g, p, columns, [&](size, real upstream, real probability) { mean += upstream * probability; });
        mean = combine_team(mean, scratch, Add());
        map(of_team(), g, p, dx + row * columns, columns,
            [=](size, real upstream, real probability) { return probability * (upstream - mean); });
    }
}

extern "C" __global__ void log_softmax_forward(const stored *x, stored *y, size rows, int columns) {
    __shared__ Peak scratch[MOST_WARPS];
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const Peak peak = peak_of_row(x + row * columns, columns, scratch);
        const real log_sum = log1p(peak.rest);
        map(of_team(), x + row * columns, y + row * columns, columns,
            [=](size, real value) { return (value - peak.largest) - log_sum; });
    }
}

extern "C" __global__ void log_softmax_backward(const stored *dy, const stored *y, stored *dx, size rows, int columns) {
    __shared__ real scratch[MOST_WARPS];
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const stored *g = dy + row * columns, *log_p = y + row * columns;
        real sum = 0;
        visit(of_team(), g, columns, [&](size, real upstream) { sum += upstream; });
        sum = combine_team(sum, scratch, Add());
        map(of_team(), g, log_p, dx + row * columns, columns, [=](size, real upstream, real value) {
            real less_one; /* p - 1, with all of its digits */
            const real p = REAL(decay_and_less_one)(value, &less_one);
            return -upstream * less_one - p * (sum - upstream);
        });
    }
}
