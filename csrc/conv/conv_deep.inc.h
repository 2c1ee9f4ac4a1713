/* Convolutions of many channels, for one precision, over threads: products of the matrix kernel with blocks of the matrix of all
 * taps by all positions. A block is written down for a few images and a few channels, small enough to stay in the cache while all
 * result channels read it, so that it is made in a fraction of the time of its products; the whole matrix never is. Unlike the
 * tiles of conv.inc.h this wastes no lanes on results in short rows, and reads the weights once for all images of a block.
 *
 * conv.c includes it twice; it has defined real, REAL(name), IN_USE(family), and PRODUCT_OF (the matrix product). */

struct REAL(deep);
struct REAL(block);
/* What is done with a block and a group, for the channels [from, to) of those that are shared out. */
typedef void REAL(block_task)(struct REAL(deep) *d, const struct REAL(block) *b, ptrdiff_t group, ptrdiff_t from, ptrdiff_t to,
                              int part);

/* A block is the results of `together` images, or of `rows` rows of one; the taps of `chunk` channels of the source at a time. */
typedef struct REAL(deep) {
    const minidl_windows *w;
    REAL(block_task) *task;
    ptrdiff_t shared; /* channels of a group, of which each item has a share */
    const real *x, *weight, *g, *bias;
    const minidl_conv_after *after;
    real *result;
    ptrdiff_t together, rows, strips, chunk, blocks, splits;
    ptrdiff_t area, plane, source; /* elements of a kernel, a result and a source of one channel */
    ptrdiff_t longest;              /* positions of the largest block */
    int parts, accumulate;
    size_t space;
    char *work;
    int failed[MINIDL_MOST_PARTS];
} REAL(deep);

/* One block: of images [image, image + images), results of rows [row, row + rows). */
typedef struct REAL(block) {
    ptrdiff_t image, images, row, rows, length;
} REAL(block);

static REAL(block) REAL(block_of)(const REAL(deep) *d, ptrdiff_t number) {
    REAL(block) b = {.image = number / d->strips * d->together, .row = number % d->strips * d->rows};
    b.images = minidl_min(d->together, d->w->images - b.image);
    b.rows = minidl_min(d->rows, d->w->output[0] - b.row);
    b.length = b.images * b.rows * d->w->output[1];
    return b;
}

/* Short rows are most of the work here, so what is done for each of them is little. */
static inline void REAL(copy_row)(const real *restrict from, ptrdiff_t step, ptrdiff_t count, real *restrict to) {
    enum { SOME = 16 / sizeof(real) };
    if (step == 1 && count >= SOME) {
        for (ptrdiff_t t = 0; t < count; t += SOME) {
            const ptrdiff_t at = t < count - SOME ? t : count - SOME; /* the last few overlap those before */
            memcpy(to + at, from + at, 16);
        }
    } else if (step == 2) {
        for (ptrdiff_t t = 0; t < count; t++) to[t] = from[2 * t];
    } else {
        for (ptrdiff_t t = 0; t < count; t++) to[t] = from[t * step];
    }
}

static inline void REAL(add_row)(const real *restrict from, ptrdiff_t step, ptrdiff_t count, real *restrict to) {
    if (step == 1) for (ptrdiff_t t = 0; t < count; t++) to[t] += from[t];
    else if (step == 2) for (ptrdiff_t t = 0; t < count; t++) to[2 * t] += from[t];
    else for (ptrdiff_t t = 0; t < count; t++) to[t * step] += from[t];
}

/* Where tap (i, j) of a block does not meet padding: rows and columns of results, and where in the source the first is. */
typedef struct {
    ptrdiff_t row, rows, column, columns, at; /* rows, counted from the block's first, that follow one another are one long row */
} REAL(overlap);

static REAL(overlap) REAL(overlap_of)(const minidl_windows *w, const REAL(block) *b, ptrdiff_t i, ptrdiff_t j) {
    const ptrdiff_t down = b->row * w->stride[0] + i * w->dilation[0] - w->padding[0], right = j * w->dilation[1] - w->padding[1];
    REAL(overlap) o;
    ptrdiff_t end;
    minidl_within(b->rows, w->stride[0], down, w->image[0], &o.row, &end);
    o.rows = end - o.row;
    minidl_within(w->output[1], w->stride[1], right, w->image[1], &o.column, &end);
    o.columns = end - o.column;
    o.at = (o.row * w->stride[0] + down) * w->image[1] + o.column * w->stride[1] + right;
    if (w->stride[0] == 1 && w->stride[1] == 1 && o.columns == w->output[1] && o.columns == w->image[1])
        o.columns *= o.rows, o.rows = o.rows > 0;
    return o;
}

/* Taps (c, i, j) of `channels` channels of the source by the positions of a block. */
static void REAL(columns)(const REAL(deep) *d, const REAL(block) *b, ptrdiff_t channel, ptrdiff_t channels, real *to) {
    const minidl_windows *const w = d->w;
    const ptrdiff_t width = w->output[1], down = w->stride[0] * w->image[1], whole = b->rows * width;
    for (ptrdiff_t c = channel; c < channel + channels; c++)
        for (ptrdiff_t i = 0; i < w->kernel[0]; i++)
            for (ptrdiff_t j = 0; j < w->kernel[1]; j++) {
                const REAL(overlap) o = REAL(overlap_of)(w, b, i, j);
                const int padded = o.rows * o.columns < whole;
                for (ptrdiff_t n = b->image; n < b->image + b->images; n++, to += whole) {
                    const real *from = d->x + (n * w->groups * w->in + c) * d->source + o.at;
                    real *row = to + o.row * width + o.column;
                    if (padded) memset(to, 0, (size_t)whole * sizeof(real));
                    for (ptrdiff_t q = 0; q < o.rows; q++, from += down, row += width)
                        REAL(copy_row)(from, w->stride[1], o.columns, row);
                }
            }
}

/* The opposite: each tap is added where it read, to images that hold the bias. */
static void REAL(add_columns)(const REAL(deep) *d, const REAL(block) *b, ptrdiff_t channel, ptrdiff_t channels,
                              const real *from) {
    const minidl_windows *const w = d->w;
    const ptrdiff_t width = w->output[1], down = w->stride[0] * w->image[1], whole = b->rows * width;
    for (ptrdiff_t c = channel; c < channel + channels; c++) {
        const real bias = d->bias == NULL ? 0 : d->bias[c];
        for (ptrdiff_t n = b->image; n < b->image + b->images; n++) {
            real *const image = d->result + (n * w->groups * w->in + c) * d->source;
            for (ptrdiff_t t = 0; t < d->source; t++) image[t] = bias;
        }
        for (ptrdiff_t i = 0; i < w->kernel[0]; i++)
            for (ptrdiff_t j = 0; j < w->kernel[1]; j++) {
                const REAL(overlap) o = REAL(overlap_of)(w, b, i, j);
                for (ptrdiff_t n = b->image; n < b->image + b->images; n++, from += whole) {
                    const real *row = from + o.row * width + o.column;
                    real *to = d->result + (n * w->groups * w->in + c) * d->source + o.at;
                    for (ptrdiff_t q = 0; q < o.rows; q++, to += down, row += width)
                        REAL(add_row)(row, w->stride[1], o.columns, to);
                }
            }
    }
}

/* The upstream gradients of a block and group, a row of positions for each channel; those of one image lie so already. */
static const real *REAL(arriving)(const REAL(deep) *d, const REAL(block) *b, ptrdiff_t group, real *room, ptrdiff_t *row) {
    const minidl_windows *const w = d->w;
    const real *const first = d->g + (b->image * w->groups + group) * w->out * d->plane;
    *row = b->images == 1 ? d->plane : b->length;
    if (b->images == 1) return first + b->row * w->output[1];
    for (ptrdiff_t o = 0; o < w->out; o++)
        for (ptrdiff_t n = 0; n < b->images; n++)
            memcpy(room + o * b->length + n * d->plane, first + (n * w->groups * w->out + o) * d->plane,
                   (size_t)d->plane * sizeof(real));
    return room;
}

/* y = activation(scale sum + bias + residual), for the results of a block in channels [from, to) of a group. */
static void REAL(finish)(const REAL(deep) *d, const REAL(block) *b, ptrdiff_t group, ptrdiff_t from, ptrdiff_t to, const real *sums,
                         ptrdiff_t row) {
    const minidl_windows *const w = d->w;
    const minidl_conv_after *const after = d->after;
    const real settings[2] = {(real)after->settings[0], (real)after->settings[1]};
    const ptrdiff_t count = b->rows * w->output[1];
    for (ptrdiff_t o = from; o < to; o++) {
        const ptrdiff_t channel = group * w->out + o;
        const real scale = after->scale == NULL ? 1 : ((const real *)after->scale)[channel];
        const real bias = after->bias == NULL ? 0 : ((const real *)after->bias)[channel];
        for (ptrdiff_t n = 0; n < b->images; n++) {
            const ptrdiff_t at = ((b->image + n) * w->groups * w->out + channel) * d->plane + b->row * w->output[1];
            const real *const sum = sums + (o - from) * row + n * count;
            const real *const residual = after->residual == NULL ? NULL : (const real *)after->residual + at;
            real *const y = d->result + at;
            if (residual == NULL) for (ptrdiff_t t = 0; t < count; t++) y[t] = scale * sum[t] + bias;
            else for (ptrdiff_t t = 0; t < count; t++) y[t] = scale * sum[t] + bias + residual[t];
            if (after->activation >= 0) IN_USE(minidl_activations)->forward[after->activation](y, y, count, settings);
        }
    }
}

/* A part's own memory: the taps of a block, and behind them what of several images has to be brought together. */
static real *REAL(columns_of)(const REAL(deep) *d, int part) { return (real *)(d->work + (size_t)part * d->space); }
static real *REAL(room_of)(const REAL(deep) *d, int part) { return REAL(columns_of)(d, part) + d->chunk * d->area * d->longest; }

static void REAL(slide_block)(REAL(deep) *d, const REAL(block) *b, ptrdiff_t g, ptrdiff_t from, ptrdiff_t to, int part) {
    const minidl_windows *const w = d->w;
    const ptrdiff_t of_kernels = w->in * d->area, row = b->images == 1 ? d->plane : b->length;
    const real *const weight = d->weight + (g * w->out + from) * of_kernels;
    real *const its = d->result + ((b->image * w->groups + g) * w->out + from) * d->plane + b->row * w->output[1];
    real *const columns = REAL(columns_of)(d, part), *const sums = b->images == 1 ? its : REAL(room_of)(d, part);
    for (ptrdiff_t c = 0; c < w->in; c += d->chunk) {
        const ptrdiff_t channels = minidl_min(d->chunk, w->in - c);
        REAL(columns)(d, b, g * w->in + c, channels, columns);
        d->failed[part] |= PRODUCT_OF(to - from, b->length, channels * d->area, 1, weight + c * d->area, of_kernels, 1, columns,
                                      b->length, 1, c > 0, sums, row, NULL, 1);
    }
    REAL(finish)(d, b, g, from, to, sums, row);
}

static void REAL(spread_block)(REAL(deep) *d, const REAL(block) *b, ptrdiff_t g, ptrdiff_t from, ptrdiff_t to, int part) {
    const minidl_windows *const w = d->w;
    const ptrdiff_t of_kernels = w->in * d->area;
    ptrdiff_t row;
    const real *const arriving = REAL(arriving)(d, b, g, REAL(room_of)(d, part), &row);
    real *const columns = REAL(columns_of)(d, part);
    for (ptrdiff_t c = from; c < to; c += d->chunk) {
        const ptrdiff_t channels = minidl_min(d->chunk, to - c);
        const real *const weight = d->weight + g * w->out * of_kernels + c * d->area;
        d->failed[part] |= PRODUCT_OF(channels * d->area, b->length, w->out, 1, weight, 1, of_kernels, arriving, row, 1, 0, columns,
                                      b->length, NULL, 1);
        REAL(add_columns)(d, b, g * w->in + c, channels, columns);
    }
}

/* Items are blocks, or shares of them. */
static void REAL(blocks_part)(void *context, int part) {
    REAL(deep) *const d = context;
    const ptrdiff_t items = d->blocks * d->splits;
    for (ptrdiff_t item = items * part / d->parts; item < items * (part + 1) / d->parts; item++) {
        const REAL(block) b = REAL(block_of)(d, item / d->splits);
        const ptrdiff_t split = item % d->splits;
        for (ptrdiff_t g = 0; g < d->w->groups; g++)
            d->task(d, &b, g, d->shared * split / d->splits, d->shared * (split + 1) / d->splits, part);
    }
}

/* Items are chunks of channels, so that no two threads write the same kernels. */
static void REAL(kernels_part)(void *context, int part) {
    REAL(deep) *const d = context;
    const minidl_windows *const w = d->w;
    const ptrdiff_t items = w->groups * d->splits, of_kernels = w->in * d->area;
    real *const columns = REAL(columns_of)(d, part);
    for (ptrdiff_t item = items * part / d->parts; item < items * (part + 1) / d->parts; item++) {
        const ptrdiff_t g = item / d->splits, c = item % d->splits * d->chunk, channels = minidl_min(d->chunk, w->in - c);
        for (ptrdiff_t number = 0; number < d->blocks; number++) {
            const REAL(block) b = REAL(block_of)(d, number);
            ptrdiff_t row;
            const real *const arriving = REAL(arriving)(d, &b, g, REAL(room_of)(d, part), &row);
            REAL(columns)(d, &b, g * w->in + c, channels, columns);
            d->failed[part] |= PRODUCT_OF(w->out, channels * d->area, b.length, 1, arriving, row, 1, columns, 1, b.length,
                                          number > 0 || d->accumulate, d->result + g * w->out * of_kernels + c * d->area, of_kernels,
                                          NULL, 1);
        }
    }
}

/* How the work is cut: blocks of about `positions` results, and chunks whose taps stay in the cache. */
static REAL(deep) REAL(deep_plan)(const minidl_windows *w, ptrdiff_t positions, int strips) {
    REAL(deep) d = {.w = w, .area = w->kernel[0] * w->kernel[1], .plane = w->output[0] * w->output[1],
                    .source = w->image[0] * w->image[1], .parts = minidl_parts_worth(multiply_adds(w), w->threads)};
    d.together = minidl_min(w->images, d.plane >= positions ? 1 : positions / d.plane);
    if (w->images >= d.parts) d.together = minidl_min(d.together, w->images / d.parts);
    d.rows = w->output[0];
    if (strips && d.plane > 2 * positions) d.rows = positions / w->output[1] > 1 ? positions / w->output[1] : 1;
    d.strips = (w->output[0] + d.rows - 1) / d.rows;
    d.rows = (w->output[0] + d.strips - 1) / d.strips;
    d.blocks = (w->images + d.together - 1) / d.together * d.strips;
    d.longest = d.together * d.rows * w->output[1];
    const ptrdiff_t fit = DEEP_BYTES / (ptrdiff_t)sizeof(real) / (d.area * d.longest);
    d.chunk = fit > 1 ? minidl_min(fit, w->in) : 1;
    return d;
}

static int REAL(deep_run)(REAL(deep) *d, minidl_task part, ptrdiff_t items) {
    const ptrdiff_t room = d->together > 1 ? d->w->out : 0; /* rows of sums, or of upstream gradients */
    if (d->parts > items) d->parts = (int)items;
    d->space = minidl_whole_lines((size_t)(d->chunk * d->area + room) * (size_t)d->longest * sizeof(real));
    const size_t bytes = (size_t)d->parts * d->space;
    d->work = minidl_malloc(NULL, bytes);
    if (d->work == NULL) return -1;
    minidl_in_parts(d->parts, part, d);
    minidl_free(NULL, d->work, bytes);
    int failed = 0;
    for (int i = 0; i < d->parts; i++) failed |= d->failed[i];
    return failed ? -1 : 0;
}

/* Where there are fewer blocks than threads, each block's channels are shared out. */
static int REAL(run_blocks)(REAL(deep) *d, REAL(block_task) *task, ptrdiff_t shared) {
    d->task = task, d->shared = shared;
    d->splits = d->blocks >= d->parts ? 1 : minidl_min(shared, (d->parts + d->blocks - 1) / d->blocks);
    return REAL(deep_run)(d, REAL(blocks_part), d->blocks * d->splits);
}

static int REAL(deep_slide)(const minidl_windows *w, const void *x, const void *weight, const minidl_conv_after *after, void *y) {
    REAL(deep) d = REAL(deep_plan)(w, DEEP_POSITIONS, 1);
    d.x = x, d.weight = weight, d.after = after, d.result = y;
    return REAL(run_blocks)(&d, REAL(slide_block), w->out);
}

static int REAL(deep_spread)(const minidl_windows *w, const void *g, const void *weight, const void *bias, void *dx) {
    REAL(deep) d = REAL(deep_plan)(w, DEEP_POSITIONS, 0);
    d.g = g, d.weight = weight, d.bias = bias, d.result = dx;
    return REAL(run_blocks)(&d, REAL(spread_block), w->in);
}

static int REAL(deep_gradient)(const minidl_windows *w, const void *x, const void *g, int accumulate, void *dweight) {
    REAL(deep) d = REAL(deep_plan)(w, 2 * DEEP_POSITIONS, 1);
    d.x = x, d.g = g, d.accumulate = accumulate, d.result = dweight;
    const ptrdiff_t chunks = (w->in + d.chunk - 1) / d.chunk, even = (chunks * w->groups + d.parts - 1) / d.parts * d.parts;
    const ptrdiff_t wanted = (even + w->groups - 1) / w->groups; /* chunks of a group, so that all threads have as many */
    d.chunk = (w->in + wanted - 1) / wanted;
    d.splits = (w->in + d.chunk - 1) / d.chunk;
    return REAL(deep_run)(&d, REAL(kernels_part), w->groups * d.splits);
}
