/* Cross-entropy of softmax on a GPU, for rows of logits with class indices; each logit is read once, or twice with smoothing.
 *
 *     log p[k] = (x[k] - m) - log(1 + r)              m the largest logit, r as in peak.cuh
 *     q[k]     = w[k] ((1 - e) [k = c] + e / K)       c the class, e the smoothing; all 0 if c is the ignored index
 *     loss     = -sum_k q[k] log p[k]
 *     dx[k]    = g (p[k] sum of the other q - q[k] sum of the other p)
 *
 * Nothing of the size of the logits is stored. x has shape (rows, columns), `columns` the K classes; everything else has one
 * number for each row, or one in all. `spoiled` is 0, or nan if some class weight is not finite; null without weights. It is what
 * the formula has as 0 w[k], for the classes that a row does not have. */
#include "loss/peak.cuh"

struct Target {
    bool counts;      /* not ignored, and a class */
    long long class_;
    real weight; /* of the class */
};

MINIDL_INLINE Target target_of(const long long *labels, size row, const real *weights, long long ignore_index, int columns) {
    Target target;
    target.class_ = labels[row];
    target.counts = target.class_ != ignore_index && target.class_ >= 0 && target.class_ < columns;
    target.weight = !target.counts ? (real)0 : weights ? weights[target.class_] : (real)1;
    return target;
}

extern "C" __global__ void cross_entropy_rows(const stored *x, const long long *labels, const real *weights, const real *spoiled,
                                              long long ignore_index, real smoothing, real *largest, real *rest, real *losses,
                                              real *masses, size rows, int columns) {
    __shared__ Peak peaks[MOST_WARPS];
    __shared__ real sums[MOST_WARPS];
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const stored *logits = x + row * columns;
        const Peak peak = peak_of_row(logits, columns, peaks);
        const Target target = target_of(labels, row, weights, ignore_index, columns);
        const real log_sum = log1p(peak.rest);
        real loss = 0;
        const real own = target.weight * (1 - smoothing);
        if (own != 0) loss = -own * ((widen(logits[target.class_]) - peak.largest) - log_sum);
        if (smoothing > 0) {
            real sum = 0; /* of w log p over all classes */
            visit(of_team(), logits, columns, [&](size k, real value) {
                const real weight = weights ? weights[k] : (real)1;
                if (weight != 0) sum += weight * ((value - peak.largest) - log_sum);
            });
            sum = combine_team(sum, sums, Add());
            if (target.counts) loss -= smoothing / columns * sum;
        }
        if (threadIdx.x == 0) {
            largest[row] = peak.largest;
            rest[row] = peak.rest;
            losses[row] = spoiled && !(smoothing > 0 && target.counts) ? loss + *spoiled : loss;
            masses[row] = spoiled ? target.weight + *spoiled : target.weight;
        }
    }
}

/* In one block: the loss, the constant s of the reduction, and the first row whose label is no class, or `rows`. Sums are in
 * double. A mean over nothing is nan, and its s 0. */
extern "C" __global__ void cross_entropy_total(const real *losses, const real *masses, const long long *labels,
                                               long long ignore_index, bool mean, stored *loss, real *s, long long *wrong,
                                               size rows, int columns) {
    __shared__ double scratch[MOST_WARPS];
    double total = 0, mass = 0, first_wrong = rows; /* below 2^53 exact */
    for (size row = threadIdx.x; row < rows; row += blockDim.x) {
        total += losses[row];
        mass += masses[row];
        const long long label = labels[row];
        if (label != ignore_index && (label < 0 || label >= columns) && row < first_wrong) first_wrong = row;
    }
    total = combine_team(total, scratch, Add());
    mass = combine_team(mass, scratch, Add());
    first_wrong = combine_team(first_wrong, scratch, [](double a, double b) { return a < b ? a : b; });
    if (threadIdx.x == 0) {
        const bool nothing = mean && mass == 0;
        *loss = narrow(nothing ? (real)MINIDL_NAN : mean ? (real)(total / mass) : (real)total);
        *s = nothing ? (real)0 : mean ? (real)(1 / mass) : (real)1;
        *wrong = (long long)first_wrong;
    }
}

/* g = factor *s dloss[row]; s and dloss may be null. */
extern "C" __global__ void cross_entropy_backward(const stored *x, const long long *labels, const real *weights,
                                                  const real *spoiled, long long ignore_index, real smoothing,
                                                  const real *largest, const real *rest, const stored *dloss, const real *s,
                                                  real factor, stored *dx, size rows, int columns) {
    __shared__ real scratch[MOST_WARPS];
    real all = columns; /* the sum of the class weights */
    if (smoothing > 0 && weights) {
        all = 0;
        for (int k = threadIdx.x; k < columns; k += blockDim.x) all += weights[k];
        all = combine_team(all, scratch, Add());
    }
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        const Target target = target_of(labels, row, weights, ignore_index, columns);
        const real own = target.weight * (1 - smoothing);
        const real share = target.counts ? smoothing / columns : (real)0; /* of each class, times its weight */
        const real m = largest[row], r = rest[row], noise = spoiled && share == 0 ? *spoiled : (real)0;
        real g = dloss ? widen(dloss[row]) * factor : factor;
        if (s) g *= *s;
        const real inverse = 1 / (1 + r);
        map(of_team(), x + row * columns, dx + row * columns, columns, [=](size k, real value) {
            const real e = REAL(exponential)(value - m), weight = weights ? weights[k] : (real)1;
            const real q = (k == target.class_ ? own : (real)0) + share * weight;
            const real others = (k == target.class_ ? (real)0 : own) + share * (all - weight) + noise;
            return g * ((e * others - q * (r + (1 - e))) * inverse);
        });
    }
}
