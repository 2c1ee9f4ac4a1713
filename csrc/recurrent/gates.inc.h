/* The gates of one sequence at one step, forward and backward, in one pass over their vectors; in the terms of vector/loops.inc.h.
 * `n` is the number of units; a and da hold one gate after another. */

/* What arrives at a state: from the step after, or for the last step from outside, and from the output; NULL is zero. */
#define ARRIVING(dh, dy) ((dh != NULL ? GET(dh) : SPLAT(0)) + (dy != NULL ? GET(dy) : SPLAT(0)))

static void REAL(simple_gates)(int relu, ptrdiff_t n, const real *a, real *h, real *y) {
    EACH_VECTOR(n, {
        const VEC state = relu ? REAL(most)(GET(a), SPLAT(0)) : REAL(hyperbolic_tangent)(GET(a));
        PUT(h, state);
        PUT(y, state);
    });
}

static void REAL(simple_gates_backward)(int relu, ptrdiff_t n, const real *h, const real *dh, const real *dy, real *da) {
    EACH_VECTOR(n, {
        const VEC state = GET(h);
        const VEC dstate = ARRIVING(dh, dy);
        PUT(da, relu ? REAL(relu_backward)(dstate, state, state, state) : REAL(tanh_backward)(dstate, state, state, state));
    });
}

static void REAL(lstm_gates)(ptrdiff_t n, real *a, const real *c_before, real *c, real *h, real *y) {
    EACH_VECTOR(n, {
        const VEC input = REAL(sigmoid)(GET(a));
        const VEC forget = REAL(sigmoid)(GET(a + n));
        const VEC candidate = REAL(hyperbolic_tangent)(GET(a + 2 * n));
        const VEC output = REAL(sigmoid)(GET(a + 3 * n));
        const VEC cell = REAL(madd)(forget, GET(c_before), input * candidate);
        const VEC state = output * REAL(hyperbolic_tangent)(cell);
        PUT(a, input);
        PUT(a + n, forget);
        PUT(a + 2 * n, candidate);
        PUT(a + 3 * n, output);
        PUT(c, cell);
        PUT(h, state);
        PUT(y, state);
    });
}

/* dc is the gradient of c_t without the share of h_t, and becomes that of c_{t-1}. */
static void REAL(lstm_gates_backward)(ptrdiff_t n, const real *gates, const real *c_before, const real *c, const real *dh,
                                      const real *dy, real *dc, real *da) {
    const VEC one = SPLAT(1);
    EACH_VECTOR(n, {
        const VEC input = GET(gates);
        const VEC forget = GET(gates + n);
        const VEC candidate = GET(gates + 2 * n);
        const VEC output = GET(gates + 3 * n);
        const VEC shown = REAL(hyperbolic_tangent)(GET(c));
        const VEC dstate = ARRIVING(dh, dy);
        const VEC dcell = GET(dc) + dstate * (output * (one - shown * shown));
        PUT(da, dcell * candidate * (input * (one - input)));
        PUT(da + n, dcell * GET(c_before) * (forget * (one - forget)));
        PUT(da + 2 * n, dcell * input * (one - candidate * candidate));
        PUT(da + 3 * n, dstate * shown * (output * (one - output)));
        PUT(dc, dcell * forget);
    });
}

static void REAL(gru_gates)(ptrdiff_t n, real *a, real *q, const real *bias, const real *h_before, real *h, real *y) {
    const VEC one = SPLAT(1);
    EACH_VECTOR(n, {
        const VEC reset = REAL(sigmoid)(GET(a));
        const VEC update = REAL(sigmoid)(GET(a + n));
        const VEC of_state = GET(q) + (bias != NULL ? GET(bias) : SPLAT(0));
        const VEC candidate = REAL(hyperbolic_tangent)(REAL(madd)(reset, of_state, GET(a + 2 * n)));
        const VEC state = REAL(madd)(update, GET(h_before), (one - update) * candidate);
        PUT(a, reset);
        PUT(a + n, update);
        PUT(a + 2 * n, candidate);
        PUT(q, of_state);
        PUT(h, state);
        PUT(y, state);
    });
}

/* `kept` becomes the share of the state's gradient that goes straight to the state before: it may be where dh lies. */
static void REAL(gru_gates_backward)(ptrdiff_t n, const real *gates, const real *q, const real *h_before, const real *dh,
                                     const real *dy, real *kept, real *da) {
    const VEC one = SPLAT(1);
    EACH_VECTOR(n, {
        const VEC reset = GET(gates);
        const VEC update = GET(gates + n);
        const VEC candidate = GET(gates + 2 * n);
        const VEC dstate = ARRIVING(dh, dy);
        const VEC dcandidate = dstate * (one - update) * (one - candidate * candidate);
        PUT(da, dcandidate * GET(q) * (reset * (one - reset)));
        PUT(da + n, dstate * (GET(h_before) - candidate) * (update * (one - update)));
        PUT(da + 2 * n, dcandidate);
        PUT(da + 3 * n, dcandidate * reset);
        PUT(kept, dstate * update);
    });
}

#undef ARRIVING
