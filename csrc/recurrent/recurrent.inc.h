/* The loops over time of recurrent.h, on one thread. Built on the files of the product (product/gemm.inc.h: its tiles, `step`,
 * `panel`, `pack`) and on gates.inc.h. */
#include "recurrent/recurrent.h"

#define RECURRENCE minidl_recurrence

/* Panels ------------------------------------------------------------------------------------------------------------- */

static ptrdiff_t in_panels(ptrdiff_t columns, ptrdiff_t k) { return k * ((columns + LANES - 1) / LANES * LANES); }

/* gru keeps the panels of r and z apart from those of n, whose products go elsewhere. */
static ptrdiff_t recurrent_panels(ptrdiff_t hidden, ptrdiff_t rows) {
    return minidl_max(in_panels(rows, hidden) + in_panels(hidden, hidden), in_panels(hidden, rows));
}

static ptrdiff_t gates_of(const RECURRENCE *r) { return r->cell == MINIDL_LSTM ? 4 : r->cell == MINIDL_GRU ? 3 : 1; }

/* How many rows of W_hh are in the first panels, and where those of the others begin. */
static ptrdiff_t first_rows(const RECURRENCE *r) { return (r->cell == MINIDL_GRU ? 2 : gates_of(r)) * r->hidden; }
static real *others(const RECURRENCE *r, int backward) {
    const ptrdiff_t rows = first_rows(r);
    return (real *)r->panels + (backward ? in_panels(r->hidden, rows) : in_panels(rows, r->hidden));
}

/* Forward the columns are the rows of W_hh; backward they are its columns. */
static void pack_recurrent(const RECURRENCE *r, int backward) {
    const ptrdiff_t h = r->hidden, rows = first_rows(r);
    const real *const w = r->weight;
    if (backward) pack(LANES, NR, h, rows, w, 1, h, r->panels);
    else pack(LANES, NR, rows, h, w, h, 1, r->panels);
    if (r->cell != MINIDL_GRU) return;
    if (backward) pack(LANES, NR, h, h, w + rows * h, 1, h, others(r, backward));
    else pack(LANES, NR, h, h, w + rows * h, h, 1, others(r, backward));
}

/* c (m, n) = a (m, k) times the panels + beta c. A panel stays in cache for all rows. */
static void times_panels(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *a, ptrdiff_t a_row, const real *panels, real beta,
                         real *c, ptrdiff_t c_row) {
    for (ptrdiff_t j = 0, width; j < n; j += width, panels += k * width) {
        width = panel(n - j, LANES, NR);
        const ptrdiff_t columns = minidl_min(width, n - j);
        for (ptrdiff_t i = 0, rows; i < m; i += rows) {
            rows = step(m - i, MR);
            tile_function *const compute = tiles[rows - 1][width / LANES - 1][0];
            if (columns == width) compute(k, 1, a + i * a_row, a_row, panels, width, beta, c + i * c_row + j, c_row);
            else
                awkward_tile(compute, rows, columns, width, k, 1, a + i * a_row, a_row, panels, width, beta,
                             c + i * c_row + j, c_row, 1);
        }
    }
}

/* The rows that a product reads: as they are, or rounded to bfloat16 (product/narrow.inc.h). */
static const real *operand(const RECURRENCE *r, ptrdiff_t from, ptrdiff_t count, ptrdiff_t width, const real *rows) {
#if SINGLE
    if (r->rounded == NULL) return rows;
    real *const to = (real *)r->rounded + from * width;
    round_to_bf16(rows, to, count * width);
    return to;
#else
    (void)r, (void)from, (void)count, (void)width;
    return rows;
#endif
}

/* Forward ------------------------------------------------------------------------------------------------------------ */

static void add_state(const RECURRENCE *r, ptrdiff_t from, ptrdiff_t count, const real *before, real *a, real *q) {
    const ptrdiff_t h = r->hidden, rows = first_rows(r);
    if (r->weight == NULL) return;
    const real *const state = operand(r, from, count, h, before + from * h);
    times_panels(count, rows, h, state, h, r->panels, 1, a, gates_of(r) * h);
    if (r->cell == MINIDL_GRU) times_panels(count, h, h, state, h, others(r, 0), 0, q + from * h, h);
}

static void recurrent_forward(const RECURRENCE *r, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t h = r->hidden, gates = gates_of(r) * h, step_size = r->batch * h;
    const size_t bytes = (size_t)h * sizeof(real);
    for (ptrdiff_t t = 0; t < r->steps; t++) {
        real *const a = (real *)r->a + t * r->batch * gates;
        real *const state = (real *)r->h + (t + 1) * step_size, *const before = state - step_size;
        real *const cell = r->cell == MINIDL_LSTM ? (real *)r->c + (t + 1) * step_size : NULL;
        real *const q = r->cell == MINIDL_GRU ? (real *)r->q + t * step_size : NULL;
        add_state(r, from, to - from, before, a + from * gates, q);
        for (ptrdiff_t n = from; n < to; n++) {
            real *const y = (real *)r->y + (n * r->steps + minidl_place(r, n, t)) * h;
            const ptrdiff_t at = n * h;
            if (!minidl_runs(r, n, t)) {
                memset(y, 0, bytes);
                memcpy(state + at, before + at, bytes);
                if (cell != NULL) memcpy(cell + at, cell - step_size + at, bytes);
            } else if (r->cell == MINIDL_LSTM)
                REAL(lstm_gates)(h, a + n * gates, cell - step_size + at, cell + at, state + at, y);
            else if (r->cell == MINIDL_GRU)
                REAL(gru_gates)(h, a + n * gates, q + at, r->bias_n, before + at, state + at, y);
            else REAL(simple_gates)(r->cell == MINIDL_RNN_RELU, h, a + n * gates, state + at, y);
        }
    }
}

/* Backward ----------------------------------------------------------------------------------------------------------- */

/* da of one sequence at one step that it runs, and what its states pass on besides the product with W_hh. */
static void gates_backward(const RECURRENCE *r, ptrdiff_t n, ptrdiff_t t, real *da) {
    const ptrdiff_t h = r->hidden, at = (t * r->batch + n) * h, next = at + r->batch * h;
    const int last = t + 1 == r->steps || !minidl_runs(r, n, t + 1);
    real *const own = (real *)r->dh + n * h;
    const real *const dh = !last ? own : r->dh_n != NULL ? (const real *)r->dh_n + n * h : NULL;
    const real *const dy = r->dy == NULL ? NULL : (const real *)r->dy + (n * r->steps + minidl_place(r, n, t)) * h;
    const real *const states = r->h, *const cells = r->c, *const gates = (const real *)r->a + gates_of(r) * at;
    if (r->cell == MINIDL_LSTM)
        REAL(lstm_gates_backward)(h, gates, cells + at, cells + next, dh, dy, (real *)r->dc + n * h, da);
    else if (r->cell == MINIDL_GRU)
        REAL(gru_gates_backward)(h, gates, (const real *)r->q + at, states + at, dh, dy, own, da);
    else REAL(simple_gates_backward)(r->cell == MINIDL_RNN_RELU, h, states + next, dh, dy, da);
}

static void recurrent_backward(const RECURRENCE *r, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t h = r->hidden, rows = first_rows(r), width = r->da_row;
    real *const dh = (real *)r->dh + from * h;
    for (ptrdiff_t t = r->steps - 1; t >= 0; t--) {
        real *const da = (real *)r->da + t * r->batch * width;
        for (ptrdiff_t n = from; n < to; n++) {
            if (minidl_runs(r, n, t)) gates_backward(r, n, t, da + n * width);
            else memset(da + n * width, 0, (size_t)width * sizeof(real));
        }
        const real beta = r->cell == MINIDL_GRU; /* what gru's update gate keeps is there already */
        const real *const gradients = operand(r, from, to - from, width, da + from * width);
        times_panels(to - from, h, rows, gradients, width, r->panels, beta, dh, h);
        if (r->cell == MINIDL_GRU) times_panels(to - from, h, h, gradients + 3 * h, width, others(r, 1), 1, dh, h);
    }
}

const REAL(minidl_recurrent) TABLE(minidl_recurrent) = {
    .panels = recurrent_panels,
    .pack = pack_recurrent,
    .forward = recurrent_forward,
    .backward = recurrent_backward,
};

#undef RECURRENCE
