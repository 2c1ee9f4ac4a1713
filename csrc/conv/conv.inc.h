/* Convolutions on one thread, for one precision and one instruction set, as implicit matrix products: for the results, the
 * weights (channels x taps) times the source (taps x positions), of which the tile reads each row where it lies; for the kernel's
 * gradient, the source (taps x positions) times the upstream gradient (positions x channels). The matrix of all taps by all
 * positions, which is as many times larger than the image as the kernel has elements, is never written down.
 *
 * What is written down is the source of one strip of results, sorted by its classes and framed with zeros (conv_variant.h): a
 * copy about as large as the part of the image that it shows, which stays in the L2 cache while every result channel reads it.
 *
 * Built on the product's files (product/gemm.inc.h): its vectors, its tiles, `step`, `panel`, `pack`, `turn_over`. */
#include "conv/conv_variant.h"

#define MAPS REAL(minidl_maps)

#include "conv/conv_frame.inc.h"
#include "conv/conv_tile.inc.h"

/* A piece of a tile that lies together in the result: elements from `at` on go to `to` in the plane. */
typedef struct {
    ptrdiff_t at, to, count;
} piece;
enum { MOST_PIECES = NR + NV };

static ptrdiff_t taps_of(const MAPS *p, ptrdiff_t a, ptrdiff_t b) {
    return p->in * p->rows.counts[a] * p->columns.counts[b];
}

/* Weights ------------------------------------------------------------------------------------------------------------ */

static size_t panels(const MAPS *p) {
    size_t count = 0;
    for (ptrdiff_t a = 0; a < p->rows.kinds; a++)
        for (ptrdiff_t b = 0; b < p->columns.kinds; b++) count += (size_t)(taps_of(p, a, b) * p->out * p->groups);
    return count;
}

/* For each class of results and group, panels of a few channels; in each, those channels' weights for one tap after another. */
static void pack_weights(const MAPS *p, real *to) {
    for (ptrdiff_t a = 0; a < p->rows.kinds; a++)
        for (ptrdiff_t b = 0; b < p->columns.kinds; b++)
            for (ptrdiff_t g = 0; g < p->groups; g++)
                for (ptrdiff_t o = 0, high; o < p->out; o += high) {
                    high = step(p->out - o, MR);
                    const real *const from = p->weight + g * p->weight_group + o * p->weight_out;
                    for (ptrdiff_t i = 0; i < p->rows.counts[a]; i++)
                        for (ptrdiff_t c = 0; c < p->in; c++)
                            for (ptrdiff_t j = 0; j < p->columns.counts[b]; j++) {
                                const ptrdiff_t at = minidl_taps_of(&p->rows, a)[i].at * p->columns.kernel +
                                                     minidl_taps_of(&p->columns, b)[j].at;
                                for (ptrdiff_t t = 0; t < high; t++)
                                    *to++ = from[c * p->weight_in + t * p->weight_out + at];
                            }
                }
}

/* Results ------------------------------------------------------------------------------------------------------------ */

/* The positions of a strip in the order in which vectors take them. Either each row by itself, with the last vector of a row moved
 * back so that it ends where the row does; or all rows as they lie in the frame, where some lanes fall between the rows and are
 * thrown away. Whichever wastes fewer lanes. */
typedef struct {
    int by_rows;
    ptrdiff_t vectors, each; /* in all, and in each row */
    ptrdiff_t rows, columns, width;
} walk;

static walk walk_of(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t width) {
    walk w = {.rows = rows, .columns = columns, .width = width};
    const ptrdiff_t together = ((rows - 1) * width + columns + LANES - 1) / LANES;
    w.each = (columns + LANES - 1) / LANES;
    w.by_rows = rows * w.each <= together;
    w.vectors = w.by_rows ? rows * w.each : together;
    return w;
}

/* Where `count` vectors, from number v on, begin in the frame, and the pieces of the result that they make up. Row q and column x
 * of the class are at element (q * row_step + x * column_step) of the plane. */
static int take(const walk *w, ptrdiff_t v, int count, ptrdiff_t row_step, ptrdiff_t column_step, ptrdiff_t *at, piece *pieces) {
    int found = 0;
    if (w->by_rows) {
        for (int j = 0; j < count; j++, v++) {
            const ptrdiff_t q = v / w->each, x = minidl_max(0, minidl_min(v % w->each * LANES, w->columns - LANES));
            at[j] = q * w->width + x;
            pieces[found++] = (piece){j * LANES, q * row_step + x * column_step, minidl_min(LANES, w->columns)};
        }
        return found;
    }
    for (int j = 0; j < count; j++) at[j] = (v + j) * LANES;
    const ptrdiff_t end = minidl_min((v + count) * LANES, (w->rows - 1) * w->width + w->columns);
    for (ptrdiff_t from = v * LANES; from < end;) {
        const ptrdiff_t q = from / w->width, x = from % w->width;
        if (w->width == w->columns && column_step == 1 && row_step == w->columns) { /* no gaps on either side */
            pieces[found++] = (piece){from - v * LANES, from, end - from};
            break;
        }
        if (x < w->columns) {
            const ptrdiff_t length = minidl_min(w->columns - x, end - from);
            pieces[found++] = (piece){from - v * LANES, q * row_step + x * column_step, length};
        }
        from = (q + 1) * w->width;
    }
    return found;
}

/* Write the pieces of one channel, scaled and with its bias. */
static void put(const real *tile, const piece *pieces, int count, ptrdiff_t column_step, real scale, real bias, real *plane) {
    const vector times = SPLAT(scale), plus = SPLAT(bias);
    for (int s = 0; s < count; s++) {
        const real *const from = tile + pieces[s].at;
        real *const to = plane + pieces[s].to;
        const ptrdiff_t length = pieces[s].count;
        ptrdiff_t t = 0;
        if (column_step != 1) {
            for (; t < length; t++) to[t * column_step] = scale * from[t] + bias;
            continue;
        }
        for (; t + LANES <= length; t += LANES) STORE(to + t, FMADD(times, LOAD(from + t), plus));
        if (t < length && length >= SHORT) { /* the last few end where the piece does, and overlap those before */
            for (; t < length; t += SHORT) {
                const ptrdiff_t x = minidl_min(t, length - SHORT);
                real four[SHORT];
                UNROLL for (int l = 0; l < SHORT; l++) four[l] = scale * from[x + l] + bias;
                *(short_vector *)(to + x) = *(const short_vector *)four;
            }
        }
        for (; t < length; t++) to[t] = scale * from[t] + bias;
    }
}

/* What comes after the sums, for `length` results from `at` on, scale and bias excepted. */
static void finish_results(const real *residual, void (*activation)(const real *, real *, ptrdiff_t, const void *),
                           const void *settings, real *result, ptrdiff_t at, ptrdiff_t length) {
    real *const y = result + at;
    if (residual != NULL) {
        ptrdiff_t t = 0;
        for (; t + LANES <= length; t += LANES) STORE(y + t, LOAD(y + t) + LOAD(residual + at + t));
        for (; t < length; t++) y[t] += residual[at + t];
    }
    if (activation != NULL) activation(y, y, length, settings);
}

#include "conv/depthwise.inc.h"

static real scale_of(const MAPS *p, ptrdiff_t channel) { return p->scale == NULL ? 1 : p->scale[channel]; }
static real bias_of(const MAPS *p, ptrdiff_t channel) { return p->bias == NULL ? 0 : p->bias[channel]; }

static int depthwise(const MAPS *p) { return p->in == 1 && p->out == 1; }
static int narrow(const MAPS *p) { return p->out < LANES; }

/* Which rows of the kernel, from `first` to before `end`, meet the source and not only the zeros around it, for results that are
 * made of `count` vectors from number v on. Asked of the adjoint only: the convolution multiplies those zeros too, and infinite
 * weights make nan of them. */
static void rows_met(const MAPS *p, const walk *w, ptrdiff_t a, ptrdiff_t q, ptrdiff_t v, ptrdiff_t count, ptrdiff_t *first,
                     ptrdiff_t *end) {
    *first = 0, *end = p->rows.counts[a];
    if (!p->skips) return;
    const minidl_tap *const taps = minidl_taps_of(&p->rows, a);
    const ptrdiff_t each = w->by_rows ? w->each : w->width, unit = w->by_rows ? 1 : LANES;
    const ptrdiff_t top = q + v * unit / each - p->rows.pad;
    const ptrdiff_t bottom = q + minidl_min(((v + count) * unit - 1) / each, w->rows - 1) - p->rows.pad;
    while (*first < *end && (bottom + taps[*first].shift < 0 || top + taps[*first].shift >= p->rows.source)) ++*first;
    while (*first < *end && (bottom + taps[*end - 1].shift < 0 || top + taps[*end - 1].shift >= p->rows.source)) --*end;
}

/* The results of class (a, b) in a strip that begins at row q, for one group; returns where the next class's panels are. */
static const real *slide_class(const MAPS *p, ptrdiff_t a, ptrdiff_t b, ptrdiff_t q, ptrdiff_t rows, frame f,
                               const real *prepared, const real *panel, ptrdiff_t g, const ptrdiff_t *offset, real *result) {
    const ptrdiff_t taps = taps_of(p, a, b), each = p->in * p->columns.counts[b], plane = p->rows.result * p->columns.result;
    const ptrdiff_t height = minidl_min(rows, (p->rows.result - a + p->rows.every - 1) / p->rows.every - q);
    const ptrdiff_t width = (p->columns.result - b + p->columns.every - 1) / p->columns.every;
    const real *const next = panel + taps * p->out;
    if (height <= 0 || width <= 0) return next;
    const walk w = walk_of(height, width, f.width);
    const ptrdiff_t row_step = p->rows.every * p->columns.result, column_step = p->columns.every;
    real *const corner = result + q * row_step + a * p->columns.result + b;
    if (depthwise(p)) {
        slide_plane(&w, taps, panel, offset, prepared, scale_of(p, g), bias_of(p, g), row_step, column_step, corner);
        return next;
    }
    real tile[MR * NR];
    for (ptrdiff_t v = 0, count; v < w.vectors; v += count) {
        ptrdiff_t at[NV];
        const real *from[NV];
        piece pieces[MOST_PIECES];
        count = step(w.vectors - v, NV);
        const int found = take(&w, v, (int)count, row_step, column_step, at, pieces);
        for (int j = 0; j < count; j++) from[j] = prepared + at[j];
        ptrdiff_t first, end;
        rows_met(p, &w, a, q, v, count, &first, &end);
        const real *weights = panel;
        for (ptrdiff_t o = 0, high; o < p->out; o += high, weights += taps * high) {
            high = step(p->out - o, MR);
            slides[high - 1][count - 1]((end - first) * each, weights + first * each * high, offset + first * each, from, tile);
            for (ptrdiff_t i = 0; i < high; i++)
                put(tile + i * count * LANES, pieces, found, column_step, scale_of(p, g * p->out + o + i),
                    bias_of(p, g * p->out + o + i), corner + (o + i) * plane);
        }
    }
    return next;
}

static size_t element_bytes(ptrdiff_t count) { return minidl_whole_lines((size_t)count * sizeof(real)); }

static ptrdiff_t most_taps(const MAPS *p) { return p->in * p->rows.kernel * p->columns.kernel; }

static size_t slide_space(const MAPS *p) {
    return element_bytes(p->in * frame_of(p, p->strip).channel + FRAME) + (size_t)most_taps(p) * sizeof(ptrdiff_t);
}

static void slide(const MAPS *p, ptrdiff_t from, ptrdiff_t to, void *workspace) {
    const ptrdiff_t source = p->rows.source * p->columns.source, plane = p->rows.result * p->columns.result;
    real *const prepared = workspace;
    ptrdiff_t *const offsets = (ptrdiff_t *)((char *)workspace + element_bytes(p->in * frame_of(p, p->strip).channel + FRAME));
    for (ptrdiff_t item = from; item < to; item++) {
        const ptrdiff_t n = item / strips(p), q = item % strips(p) * p->strip, rows = strip_rows(p, q);
        const frame f = frame_of(p, rows);
        const int framed = item > from && strips(p) == 1;
        if (!framed) offsets_by_rows(p, f, offsets);
        for (ptrdiff_t g = 0; g < p->groups; g++) {
            prepare(p, p->source + (n * p->groups + g) * p->in * source, q, f, framed || g > 0, prepared);
            real *const result = p->result + (n * p->groups + g) * p->out * plane;
            const real *panel = p->panels;
            const ptrdiff_t *offset = offsets;
            for (ptrdiff_t a = 0; a < p->rows.kinds; a++)
                for (ptrdiff_t b = 0; b < p->columns.kinds; b++) {
                    const ptrdiff_t all = taps_of(p, a, b) * p->out;
                    slide_class(p, a, b, q, rows, f, prepared, panel + g * all, g, offset, result);
                    panel += p->groups * all;
                    offset += taps_of(p, a, b);
                }
            for (ptrdiff_t o = 0; o < p->out; o++) /* of a convolution, whose results lie together */
                finish_results(p->residual, p->activation, p->settings, p->result,
                               ((n * p->groups + g) * p->out + o) * plane + q * p->columns.result, rows * p->columns.result);
        }
    }
}

/* The kernel's gradient ---------------------------------------------------------------------------------------------- */

static ptrdiff_t padded_out(const MAPS *p) { return (p->out + LANES - 1) / LANES * LANES; }

static size_t gradient_space(const MAPS *p) {
    const ptrdiff_t upstream = narrow(p) ? p->out * narrow_apart(p->strip, frame_of(p, p->strip).width)
                                         : p->strip * p->columns.result * padded_out(p);
    return slide_space(p) + element_bytes(upstream);
}

/* Of one kernel element of all result channels of a group. */
static ptrdiff_t sums_of_tap(const MAPS *p) { return narrow(p) ? p->out * LANES : padded_out(p); }

static size_t gradient_sums(const MAPS *p) { return (size_t)(p->groups * most_taps(p) * sums_of_tap(p)); }

static void gradient(const MAPS *p, ptrdiff_t from, ptrdiff_t to, real *sums, void *workspace) {
    const ptrdiff_t source = p->rows.source * p->columns.source, plane = p->rows.result * p->columns.result;
    real *const prepared = workspace;
    ptrdiff_t *const offset = (ptrdiff_t *)((char *)workspace + element_bytes(p->in * frame_of(p, p->strip).channel + FRAME));
    real *const upstream = (real *)((char *)workspace + slide_space(p));
    for (ptrdiff_t item = from; item < to; item++) {
        const ptrdiff_t n = item / strips(p), q = item % strips(p) * p->strip, rows = strip_rows(p, q);
        const ptrdiff_t positions = rows * p->columns.result;
        const frame f = frame_of(p, rows);
        const ptrdiff_t taps = most_taps(p);
        const int framed = item > from && strips(p) == 1;
        if (!framed) offsets_by_channels(p, f, offset);
        for (ptrdiff_t g = 0; g < p->groups; g++) {
            prepare(p, p->source + (n * p->groups + g) * p->in * source, q, f, framed || g > 0, prepared);
            const real *const arriving = p->upstream + (n * p->groups + g) * p->out * plane + q * p->columns.result;
            real *const its = sums + g * taps * sums_of_tap(p);
            if (narrow(p)) {
                narrow_gradient(p->out, rows, p->columns.result, f.width, taps, prepared, offset, arriving, plane, upstream, its);
                continue;
            }
            pack(LANES, NR, p->out, positions, arriving, plane, 1, upstream);
            for (ptrdiff_t o = 0, width; o < p->out; o += width) {
                width = panel(p->out - o, LANES, NR);
                for (ptrdiff_t t = 0, high; t < taps; t += high) {
                    high = step(taps - t, MR);
                    gradients[high - 1][width / LANES - 1](rows, p->columns.result, prepared, offset + t, f.width,
                                                           upstream + o * positions, its + o * taps + t * width);
                }
            }
        }
    }
}

/* Number (t, o) of the sums of a group, over all parts. */
static real collected(const MAPS *p, const real *its, int parts, size_t apart, ptrdiff_t t, ptrdiff_t o, ptrdiff_t first,
                      ptrdiff_t width) {
    const ptrdiff_t taps = most_taps(p);
    real sum = 0;
    for (int part = 0; part < parts; part++, its += apart) {
        if (!narrow(p)) sum += its[first * taps + t * width + o];
        else
            for (int l = 0; l < LANES; l++) sum += its[(o * taps + t) * LANES + l];
    }
    return sum;
}

static void collect(const MAPS *p, const real *sums, int parts, size_t apart, ptrdiff_t from, ptrdiff_t to, int accumulate,
                    real *dweight) {
    enum { BLOCK = 32 };
    const ptrdiff_t taps = most_taps(p);
    for (ptrdiff_t g = 0; g < p->groups; g++)
        for (ptrdiff_t first = 0, width; first < p->out; first += width) {
            width = panel(p->out - first, LANES, NR);
            const real *const its = sums + g * taps * sums_of_tap(p);
            const ptrdiff_t before = g * p->out + first;
            const ptrdiff_t begin = minidl_max(0, from - before), end = minidl_min(minidl_min(width, p->out - first), to - before);
            for (ptrdiff_t block = 0; block < taps; block += BLOCK)
                for (ptrdiff_t o = begin; o < end; o++)
                    for (ptrdiff_t t = block; t < minidl_min(block + BLOCK, taps); t++) {
                        const real sum = collected(p, its, parts, apart, t, o, first, width);
                        real *const at = dweight + (before + o) * taps + t;
                        *at = accumulate ? *at + sum : sum;
                    }
        }
}

#if SINGLE && !defined(SCALAR)
#include "conv/winograd.inc.h"
#endif

const REAL(minidl_conv) TABLE(minidl_conv) = {
#if SINGLE && !defined(SCALAR)
    .winograd = &winograd,
#endif
    .panels = panels,
    .pack = pack_weights,
    .slide_space = slide_space,
    .slide = slide,
    .gradient_space = gradient_space,
    .gradient_sums = gradient_sums,
    .gradient = gradient,
    .collect = collect,
};
