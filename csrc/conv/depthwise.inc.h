/* Where there are too few channels to fill tiles with. In a depthwise convolution every result channel sees one source channel,
 * and memory is the limit: tiles are one channel high and several vectors long. The kernel's gradient, for this or any few result
 * channels, is made of dot products along the strip. */

/* Keep a vector that was loaded in its register: compilers like to load it again for each multiplication, which costs twice as much
 * where it lies across two cache lines. */
#if defined(SCALAR) || !defined(__GNUC__)
#define KEPT(v) ((void)0)
#elif defined(__x86_64__)
#define KEPT(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define KEPT(v) __asm__("" : "+w"(v))
#else
#define KEPT(v) ((void)0)
#endif

enum { LONG = 8, MOST_TAPS = 5, MOST_CHANNELS = 4 };

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

/* sum[o][t] = the sum over `length` positions of g[o apart + position] times x[offset[t] + position], still spread over lanes; a
 * whole number of vectors of g may be read. */
INLINE void dots_tile(int channels, int taps, ptrdiff_t length, const real *restrict x, const ptrdiff_t *restrict offset,
                      const real *restrict g, ptrdiff_t apart, vector *restrict out) {
    vector sum[MOST_CHANNELS][MOST_TAPS];
    const real *at[MOST_TAPS];
    UNROLL for (int t = 0; t < taps; t++) {
        at[t] = x + offset[t];
        UNROLL for (int o = 0; o < channels; o++) sum[o][t] = SPLAT(0);
    }
    for (ptrdiff_t q = 0; q < length; q += LANES) {
        vector seen[MOST_TAPS];
        UNROLL for (int t = 0; t < taps; t++) {
            seen[t] = LOAD(at[t] + q);
            KEPT(seen[t]);
        }
        UNROLL for (int o = 0; o < channels; o++) {
            const vector upstream = LOAD(g + o * apart + q);
            UNROLL for (int t = 0; t < taps; t++) sum[o][t] = FMADD(upstream, seen[t], sum[o][t]);
        }
    }
    UNROLL for (int o = 0; o < channels; o++) UNROLL for (int t = 0; t < taps; t++) out[o * taps + t] = sum[o][t];
}

#define PLANE(N)                                                                                                           \
    static void plane_##N(ptrdiff_t taps, const real *a, const ptrdiff_t *offset, const real *const *b, vector times,      \
                          vector plus, real *const *to) {                                                                  \
        plane_tile(N, taps, a, offset, b, times, plus, to);                                                                       \
    }
#define DOTS_OF(CHANNELS, TAPS)                                                                                           \
    static void dots_##CHANNELS##_##TAPS(ptrdiff_t length, const real *x, const ptrdiff_t *offset, const real *g,          \
                                         ptrdiff_t apart, vector *out) {                                                   \
        dots_tile(CHANNELS, TAPS, length, x, offset, g, apart, out);                                                       \
    }
#define EACH_TAPS(DO, CHANNELS) DO(CHANNELS, 1) DO(CHANNELS, 2) DO(CHANNELS, 3) DO(CHANNELS, 4) DO(CHANNELS, 5)
#define EACH_DOTS(DO) EACH_TAPS(DO, 1) EACH_TAPS(DO, 2) EACH_TAPS(DO, 3) EACH_TAPS(DO, 4)
PLANE(1) PLANE(2) PLANE(3) PLANE(4) PLANE(5) PLANE(6) PLANE(7) PLANE(8)
EACH_DOTS(DOTS_OF)

typedef void plane_function(ptrdiff_t taps, const real *a, const ptrdiff_t *offset, const real *const *b, vector times,
                            vector plus, real *const *to);
typedef void dots_function(ptrdiff_t length, const real *x, const ptrdiff_t *offset, const real *g, ptrdiff_t apart, vector *out);
static plane_function *const planes[LONG] = {plane_1, plane_2, plane_3, plane_4, plane_5, plane_6, plane_7, plane_8};
#define DOTS_ENTRY(CHANNELS, TAPS) [CHANNELS - 1][TAPS - 1] = dots_##CHANNELS##_##TAPS,
static dots_function *const dot_products[MOST_CHANNELS][MOST_TAPS] = {EACH_DOTS(DOTS_ENTRY)};

/* From one channel of the framed upstream gradient to the next. */
static ptrdiff_t narrow_apart(ptrdiff_t rows, ptrdiff_t width) { return rows * width + LANES; }

/* The results of one class in a strip of one channel; `corner` is the first of them. */
static void slide_plane(const walk *w, ptrdiff_t taps, const real *weights, const ptrdiff_t *offset, const real *prepared, real scale,
                        real bias, ptrdiff_t row_step, ptrdiff_t column_step, real *corner) {
    const int direct = w->by_rows && w->columns >= LANES && column_step == 1;
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

/* What one strip adds to the kernel's gradient of a group with fewer result channels than a vector has lanes: dots along the frame,
 * in which the upstream gradient is 0 between the rows. That is no help where x is not finite there; then the sums are made one by
 * one. sums[o][t] is spread over lanes. */
static void narrow_gradient(ptrdiff_t channels, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t width, ptrdiff_t taps,
                            const real *prepared, const ptrdiff_t *offset, const real *arriving, ptrdiff_t plane, real *upstream,
                            real *sums) {
    const ptrdiff_t length = (rows - 1) * width + columns, apart = narrow_apart(rows, width);
    for (ptrdiff_t o = 0; o < channels; o++) {
        real *const its = upstream + o * apart;
        for (ptrdiff_t r = 0; r < rows; r++) copy_or_zero(arriving + o * plane + r * columns, columns, width, its + r * width);
        for (ptrdiff_t q = length; q < length + LANES; q++) its[q] = 0;
    }
    for (ptrdiff_t o = 0, high; o < channels; o += high) {
        high = step(channels - o, MOST_CHANNELS);
        for (ptrdiff_t t = 0, count; t < taps; t += count) {
            vector found[MOST_CHANNELS * MOST_TAPS], check = SPLAT(0);
            real lanes[LANES], all = 0;
            count = step(taps - t, MOST_TAPS);
            dot_products[high - 1][count - 1](length, prepared, offset + t, upstream + o * apart, apart, found);
            for (int i = 0; i < high * count; i++) check = check + found[i] * SPLAT(0);
            STORE(lanes, check);
            for (int l = 0; l < LANES; l++) all += lanes[l];
            for (int i = 0; i < high * count; i++) {
                real *const to = sums + ((o + i / count) * taps + t + i % count) * LANES;
                const real *const dy = arriving + (o + i / count) * plane, *const x = prepared + offset[t + i % count];
                if (all == 0) {
                    STORE(to, LOAD(to) + found[i]);
                    continue;
                }
                for (ptrdiff_t r = 0; r < rows; r++)
                    for (ptrdiff_t q = 0; q < columns; q++) *to += x[r * width + q] * dy[r * columns + q];
            }
        }
    }
}
