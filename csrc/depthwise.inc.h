/* Convolutions in which every result channel sees one source channel: there is no sum over channels to fill tiles with, and memory is
 * the limit. Tiles are one channel high and several vectors long, and a kernel's gradient is a row of dot products. */

enum { LONG = 8, MOST_TAPS = 9 };

/* The vector at b[j] is summed over the taps, for each j, as in slide_tile. */
INLINE void plane_tile(int vectors, ptrdiff_t taps, const real *restrict a, const ptrdiff_t *restrict offset, const real *const *b,
                       vector times, vector plus, real *const *to) {
    vector sum[LONG];
    const real *at[LONG];
    UNROLL for (int j = 0; j < vectors; j++) at[j] = b[j], sum[j] = SPLAT(0);
    for (ptrdiff_t t = 0; t < taps; t++) {
        const vector weight = SPLAT(a[t]);
        const ptrdiff_t away = offset[t];
        UNROLL for (int j = 0; j < vectors; j++) sum[j] = FMADD(weight, LOAD(at[j] + away), sum[j]);
    }
    UNROLL for (int j = 0; j < vectors; j++) STORE(to[j], FMADD(times, sum[j], plus));
}

/* sum[t] += x[offset[t] + position] times g[position], over `length` positions; a whole number of vectors of g may be read. */
INLINE void dots_tile(int taps, ptrdiff_t length, const real *restrict x, const ptrdiff_t *restrict offset,
                      const real *restrict g, vector *restrict out) {
    vector sum[MOST_TAPS];
    const real *at[MOST_TAPS];
    UNROLL for (int t = 0; t < taps; t++) at[t] = x + offset[t], sum[t] = SPLAT(0);
    for (ptrdiff_t q = 0; q < length; q += LANES) {
        const vector upstream = LOAD(g + q);
        UNROLL for (int t = 0; t < taps; t++) sum[t] = FMADD(upstream, LOAD(at[t] + q), sum[t]);
    }
    UNROLL for (int t = 0; t < taps; t++) out[t] = sum[t];
}

#define PLANE(N)                                                                                                           \
    static void plane_##N(ptrdiff_t taps, const real *a, const ptrdiff_t *offset, const real *const *b, vector times,      \
                          vector plus, real *const *to) {                                                                  \
        plane_tile(N, taps, a, offset, b, times, plus, to);                                                                       \
    }
#define DOTS_OF(N)                                                                                                         \
    static void dots_##N(ptrdiff_t length, const real *x, const ptrdiff_t *offset, const real *g, vector *out) {           \
        dots_tile(N, length, x, offset, g, out);                                                                           \
    }
PLANE(1) PLANE(2) PLANE(3) PLANE(4) PLANE(5) PLANE(6) PLANE(7) PLANE(8)
DOTS_OF(1) DOTS_OF(2) DOTS_OF(3) DOTS_OF(4) DOTS_OF(5) DOTS_OF(6) DOTS_OF(7) DOTS_OF(8) DOTS_OF(9)

typedef void plane_function(ptrdiff_t taps, const real *a, const ptrdiff_t *offset, const real *const *b, vector times,
                            vector plus, real *const *to);
typedef void dots_function(ptrdiff_t length, const real *x, const ptrdiff_t *offset, const real *g, vector *out);
static plane_function *const planes[LONG] = {plane_1, plane_2, plane_3, plane_4, plane_5, plane_6, plane_7, plane_8};
static dots_function *const dot_products[MOST_TAPS] = {dots_1, dots_2, dots_3, dots_4, dots_5, dots_6, dots_7, dots_8, dots_9};

/* The results of one class in a strip of one channel; `corner` is the first of them. */
static void slide_plane(const walk *w, ptrdiff_t taps, const real *weights, const ptrdiff_t *offset, const real *prepared, real scale,
                        real bias, ptrdiff_t row_step, ptrdiff_t column_step, real *corner) {
    const int direct = w->by_rows && column_step == 1;
    real tile[LONG * LANES];
    for (ptrdiff_t v = 0, count; v < w->vectors; v += count) {
        ptrdiff_t at[LONG];
        const real *from[LONG];
        real *to[LONG];
        piece pieces[LONG * LANES + LONG];
        count = step(w->vectors - v, LONG);
        const int found = take(w, v, (int)count, row_step, column_step, at, pieces);
        for (int j = 0; j < count; j++) {
            from[j] = prepared + at[j];
            to[j] = direct ? corner + pieces[j].to : tile + j * LANES;
        }
        planes[count - 1](taps, weights, offset, from, SPLAT(scale), SPLAT(bias), to);
        if (!direct) put(tile, pieces, found, column_step, 1, 0, corner);
    }
}

/* What one strip of one channel adds to its kernel's gradient: dots along the frame, in which the upstream gradient is 0 between the
 * rows. That is no help where x is not finite there; then the sums are made one by one. */
static void plane_gradient(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t width, ptrdiff_t taps, const real *prepared,
                           const ptrdiff_t *offset, const real *arriving, real *upstream, real *sums) {
    const ptrdiff_t length = (rows - 1) * width + columns;
    for (ptrdiff_t r = 0; r < rows; r++) {
        memcpy(upstream + r * width, arriving + r * columns, (size_t)columns * sizeof(real));
        for (ptrdiff_t q = columns; q < width; q++) upstream[r * width + q] = 0;
    }
    for (ptrdiff_t q = length; q < length + LANES; q++) upstream[q] = 0;
    for (ptrdiff_t t = 0, count; t < taps; t += count) {
        vector found[MOST_TAPS], check = SPLAT(0);
        real lanes[LANES];
        count = step(taps - t, MOST_TAPS);
        dot_products[count - 1](length, prepared, offset + t, upstream, found);
        for (int i = 0; i < count; i++) check = check + found[i] * SPLAT(0);
        STORE(lanes, check);
        real all = 0;
        for (int l = 0; l < LANES; l++) all += lanes[l];
        for (int i = 0; i < count; i++) {
            real *const to = sums + (t + i) * LANES;
            if (all == 0) {
                STORE(to, LOAD(to) + found[i]);
                continue;
            }
            for (ptrdiff_t r = 0; r < rows; r++)
                for (ptrdiff_t q = 0; q < columns; q++)
                    *to += prepared[offset[t + i] + r * width + q] * arriving[r * columns + q];
        }
    }
}
