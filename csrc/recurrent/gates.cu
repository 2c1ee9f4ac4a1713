/* The gates of LSTM and GRU on a GPU: one step of all sequences, a thread for each unit of each sequence. The products of the weights
 * are cuBLAS's; everything here is in `real`, also for float16.
 *
 *     i = sigma(a_i), f = sigma(a_f), g = tanh(a_g), o = sigma(a_o),   c = f c' + i g,   h = o tanh(c)
 *
 *     r = sigma(p_r + q_r), z = sigma(p_z + q_z), n = tanh(p_n + r q_n),   h = (1 - z) n + z h'
 *
 * with c' and h' of the step before; minidl/ops/recurrent.py derives the gradients. Gates lie (N, gates, H), states (N, H). A sequence of
 * `lengths` runs while t is less than its length, and then its state stays; null if all run. */
#include "runtime/device.cuh"

MINIDL_INLINE bool runs(const long long *lengths, size sequence, int t) { return !lengths || t < lengths[sequence]; }
MINIDL_INLINE real or_zero(const real *x, size i) { return x ? x[i] : (real)0; }

/* x is the products of the inputs, q that of the state before; bias is added to q and may be null. */
extern "C" __global__ void lstm_step(const real *x, const real *q, const real *bias, const real *c_before, const real *h_before,
                                     real *gates, real *c, real *h, size n, int hidden, const long long *lengths, int t) {
    for (size i = thread_of_grid(); i < n; i += threads_of_grid()) {
        const size sequence = i / hidden;
        const int unit = (int)(i % hidden);
        const size at = sequence * 4 * hidden + unit;
        const auto sum = [=](int gate) { return x[at + gate * hidden] + (q[at + gate * hidden] + or_zero(bias, gate * hidden + unit)); };
        const real input = REAL(sigmoid)(sum(0)), forget = REAL(sigmoid)(sum(1));
        const real candidate = REAL(hyperbolic_tangent)(sum(2)), output = REAL(sigmoid)(sum(3));
        const real cell = forget * c_before[i] + input * candidate;
        const bool running = runs(lengths, sequence, t);
        gates[at] = input;
        gates[at + hidden] = forget;
        gates[at + 2 * hidden] = candidate;
        gates[at + 3 * hidden] = output;
        c[i] = running ? cell : c_before[i];
        h[i] = running ? output * REAL(hyperbolic_tangent)(cell) : h_before[i];
    }
}

/* `after` is the product of the step after, da W_hh, or null at the last step. dh is what the state gets from there where
 * the sequence does not run there, and leaves the same for the step before; dc is the gradient of c, and leaves that of c'. */
extern "C" __global__ void lstm_step_backward(const real *gates, const real *c_before, const real *c, const real *dy,
                                              const real *after, real *dh, real *dc, real *da, size n, int hidden,
                                              const long long *lengths, int t) {
    for (size i = thread_of_grid(); i < n; i += threads_of_grid()) {
        const size sequence = i / hidden, at = sequence * 4 * hidden + i % hidden;
        const real dstate = (after && runs(lengths, sequence, t + 1) ? after[i] : dh[i]) + or_zero(dy, i);
        dh[i] = dstate;
        if (!runs(lengths, sequence, t)) {
            for (int gate = 0; gate < 4; gate++) da[at + gate * hidden] = 0;
            continue;
        }
        const real input = gates[at], forget = gates[at + hidden], candidate = gates[at + 2 * hidden];
        const real output = gates[at + 3 * hidden], shown = REAL(hyperbolic_tangent)(c[i]);
        const real dcell = dc[i] + dstate * (output * (1 - shown * shown));
        da[at] = dcell * candidate * (input * (1 - input));
        da[at + hidden] = dcell * c_before[i] * (forget * (1 - forget));
        da[at + 2 * hidden] = dcell * input * (1 - candidate * candidate);
        da[at + 3 * hidden] = dstate * shown * (output * (1 - output));
        dc[i] = dcell * forget;
    }
}

/* of_state becomes q_n with its bias. */
extern "C" __global__ void gru_step(const real *x, const real *q, const real *bias, const real *h_before, real *gates,
                                    real *of_state, real *h, size n, int hidden, const long long *lengths, int t) {
    for (size i = thread_of_grid(); i < n; i += threads_of_grid()) {
        const size sequence = i / hidden;
        const int unit = (int)(i % hidden);
        const size at = sequence * 3 * hidden + unit;
        const auto from_state = [=](int gate) { return q[at + gate * hidden] + or_zero(bias, gate * hidden + unit); };
        const real reset = REAL(sigmoid)(x[at] + from_state(0)), update = REAL(sigmoid)(x[at + hidden] + from_state(1));
        const real shown = from_state(2), candidate = REAL(hyperbolic_tangent)(x[at + 2 * hidden] + reset * shown);
        gates[at] = reset;
        gates[at + hidden] = update;
        gates[at + 2 * hidden] = candidate;
        of_state[i] = shown;
        h[i] = runs(lengths, sequence, t) ? (1 - update) * candidate + update * h_before[i] : h_before[i];
    }
}

/* dh is what the state gets from the step after apart from the product `after`, and leaves the same for the step before: the share that
 * the update gate lets through, or all of it where the sequence does not run. */
extern "C" __global__ void gru_step_backward(const real *gates, const real *of_state, const real *h_before, const real *dy,
                                             const real *after, real *dh, real *dp, real *dq, size n, int hidden,
                                             const long long *lengths, int t) {
    for (size i = thread_of_grid(); i < n; i += threads_of_grid()) {
        const size sequence = i / hidden, at = sequence * 3 * hidden + i % hidden;
        real dstate = dh[i] + or_zero(dy, i);
        if (after && runs(lengths, sequence, t + 1)) dstate += after[i];
        if (!runs(lengths, sequence, t)) {
            for (int gate = 0; gate < 3; gate++) dp[at + gate * hidden] = dq[at + gate * hidden] = 0;
            dh[i] = dstate;
            continue;
        }
        const real reset = gates[at], update = gates[at + hidden], candidate = gates[at + 2 * hidden];
        const real of_candidate = dstate * (1 - update) * (1 - candidate * candidate);
        const real of_update = dstate * (h_before[i] - candidate) * (update * (1 - update));
        const real of_reset = of_candidate * of_state[i] * (reset * (1 - reset));
        dp[at] = dq[at] = of_reset;
        dp[at + hidden] = dq[at + hidden] = of_update;
        dp[at + 2 * hidden] = of_candidate;
        dq[at + 2 * hidden] = of_candidate * reset;
        dh[i] = dstate * update;
    }
}
