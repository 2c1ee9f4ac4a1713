/* The source of a strip of results as the tiles read it (conv_variant.h): sorted by its classes and framed with zeros. */

enum { FRAME = LANES }; /* elements behind the prepared source that the last vector may reach */

/* A strip of an image as the tiles read it: class by class of rows and columns, `height` rows of `width`. */
typedef struct {
    ptrdiff_t height, width, channel; /* elements of one channel: all its classes */
} frame;

static ptrdiff_t strip_rows(const MAPS *p, ptrdiff_t from) {
    const ptrdiff_t all = (p->rows.result + p->rows.every - 1) / p->rows.every;
    return minidl_min(p->strip, all - from);
}

static ptrdiff_t strips(const MAPS *p) {
    const ptrdiff_t all = (p->rows.result + p->rows.every - 1) / p->rows.every;
    return (all + p->strip - 1) / p->strip;
}

static frame frame_of(const MAPS *p, ptrdiff_t rows) {
    frame f;
    f.height = rows + p->rows.reach;
    f.width = (p->columns.result + p->columns.every - 1) / p->columns.every + p->columns.reach;
    f.channel = p->rows.classes * p->columns.classes * f.height * f.width;
    return f;
}

/* The part of each row of a frame that shows the source, elements [first, end): element t shows t * stride + from. */
typedef struct {
    ptrdiff_t first, end, from, stride;
} window;

static window window_of(const minidl_axis *a, ptrdiff_t remainder, ptrdiff_t width) {
    window w = {.from = remainder - a->pad, .stride = a->stride};
    minidl_within(width, w.stride, w.from, a->source, &w.first, &w.end);
    return w;
}

/* One row of one class of columns; the zeros around it only where they are not there yet. */
static void prepare_row(window w, const real *source, ptrdiff_t width, int framed, real *to) {
    ptrdiff_t t = w.first;
    if (w.stride == 1) {
        for (; t + LANES <= w.end; t += LANES) STORE(to + t, LOAD(source + w.from + t));
        if (w.end - w.first >= SHORT) /* the last few end where the row does, and overlap those before */
            for (; t < w.end; t += SHORT) {
                const ptrdiff_t x = minidl_min(t, w.end - SHORT);
                *(short_vector *)(to + x) = *(const short_vector *)(source + w.from + x);
            }
    }
    for (; t < w.end; t++) to[t] = source[w.from + t * w.stride];
    if (framed) return;
    for (t = 0; t < w.first; t++) to[t] = 0;
    for (t = w.end; t < width; t++) to[t] = 0;
}

/* The source of the results of rows [q, q + rows), for the channels of one group of one image; `framed` where there was another
 * image of the same frame, which has left its zeros. */
static void prepare(const MAPS *p, const real *source, ptrdiff_t q, frame f, int framed, real *to) {
    const minidl_axis *const rows = &p->rows, *const columns = &p->columns;
    real *const start = to;
    for (ptrdiff_t c = 0; c < p->in; c++, source += rows->source * columns->source)
        for (ptrdiff_t i = 0; i < rows->classes; i++)
            for (ptrdiff_t j = 0; j < columns->classes; j++) {
                const window w = window_of(columns, columns->remainder[j], f.width);
                for (ptrdiff_t r = 0; r < f.height; r++, to += f.width) {
                    const ptrdiff_t u = (q + r) * rows->stride + rows->remainder[i] - rows->pad;
                    if (u >= 0 && u < rows->source) prepare_row(w, source + u * columns->source, f.width, framed, to);
                    else if (!framed) memset(to, 0, (size_t)f.width * sizeof(real));
                }
            }
    if (!framed) memset(start + p->in * f.channel, 0, FRAME * sizeof(real));
}

/* Where tap (channel, i, j) of results of class (a, b) finds its elements, counted from the channel's. */
static ptrdiff_t offset_of(const MAPS *p, frame f, ptrdiff_t a, ptrdiff_t b, ptrdiff_t i, ptrdiff_t j) {
    const minidl_tap row = minidl_taps_of(&p->rows, a)[i], column = minidl_taps_of(&p->columns, b)[j];
    return ((row.sort * p->columns.classes + column.sort) * f.height + row.shift) * f.width + column.shift;
}

/* For all taps of all classes, in the order of the weights' panels: row by row of the kernel, so that rows can be left out. */
static void offsets_by_rows(const MAPS *p, frame f, ptrdiff_t *offset) {
    for (ptrdiff_t a = 0; a < p->rows.kinds; a++)
        for (ptrdiff_t b = 0; b < p->columns.kinds; b++)
            for (ptrdiff_t i = 0; i < p->rows.counts[a]; i++)
                for (ptrdiff_t c = 0; c < p->in; c++)
                    for (ptrdiff_t j = 0; j < p->columns.counts[b]; j++)
                        *offset++ = c * f.channel + offset_of(p, f, a, b, i, j);
}

/* For all taps of a convolution, in the order of the kernels themselves. */
static void offsets_by_channels(const MAPS *p, frame f, ptrdiff_t *offset) {
    for (ptrdiff_t c = 0; c < p->in; c++)
        for (ptrdiff_t i = 0; i < p->rows.kernel; i++)
            for (ptrdiff_t j = 0; j < p->columns.kernel; j++) *offset++ = c * f.channel + offset_of(p, f, 0, 0, i, j);
}
