/* Winograd's convolution on one thread, for one instruction set; winograd.h says what it is. Vectors go along channels, so that
 * every transformation is a few additions of whole vectors, and the sums over channels are 36 matrix products, tiles x channels
 * times channels x channels, on the tiles of gemm_tile.inc.h. */

enum { POINTS = 36 };

static ptrdiff_t padded(ptrdiff_t channels) { return (channels + LANES - 1) / LANES * LANES; }

static ptrdiff_t strips_of_tiles(const minidl_winograd *w) { return (w->tiles[0] + w->strip - 1) / w->strip; }

/* What item number `item` covers: images [n, n + images) and rows of tiles [row, row + rows). */
typedef struct {
    ptrdiff_t n, images, row, rows, tiles;
} batch_of_tiles;

static batch_of_tiles batch_at(const minidl_winograd *w, ptrdiff_t item) {
    batch_of_tiles b;
    b.n = item / strips_of_tiles(w) * w->together;
    b.images = minidl_min(w->together, w->images - b.n);
    b.row = item % strips_of_tiles(w) * w->strip;
    b.rows = minidl_min(w->strip, w->tiles[0] - b.row);
    b.tiles = b.images * b.rows * w->tiles[1];
    return b;
}

/* From one point to the next in transformed tiles: not a power of two, so that points do not compete for places in the cache. */
static ptrdiff_t apart_of(ptrdiff_t tiles, ptrdiff_t channels) { return tiles * channels + LANES; }

/* The one-dimensional transformations, by which rows and columns are transformed in turn ------------------------------ */

#define HALF_ROOT ((real)0.70710678118654752440) /* sqrt(1/2) */
#define ROOT ((real)1.41421356237309504880)      /* sqrt(2) */

INLINE void transform_source(const vector d[6], vector v[6]) { /* B^T d */
    const vector two = SPLAT(2), half = SPLAT((real)0.5), five_halves = SPLAT((real)2.5);
    const vector even = d[4] - two * d[2], odd = SPLAT(HALF_ROOT) * (d[3] - two * d[1]);
    const vector even_2 = d[4] - half * d[2], odd_2 = SPLAT(ROOT) * (d[3] - half * d[1]);
    v[0] = d[0] - five_halves * d[2] + d[4];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = even_2 + odd_2;
    v[4] = even_2 - odd_2;
    v[5] = d[1] - five_halves * d[3] + d[5];
}

INLINE void transform_sums(const vector m[6], vector y[4]) { /* A^T m */
    const vector plus = m[1] + m[2], minus = m[1] - m[2], plus_2 = m[3] + m[4], minus_2 = m[3] - m[4];
    y[0] = m[0] + plus + plus_2;
    y[1] = SPLAT(HALF_ROOT) * minus + SPLAT(ROOT) * minus_2;
    y[2] = SPLAT((real)0.5) * plus + SPLAT(2) * plus_2;
    y[3] = SPLAT(HALF_ROOT / 2) * minus + SPLAT(2 * ROOT) * minus_2 + m[5];
}

INLINE void transform_upstream(const vector y[4], vector m[6]) { /* A y */
    const vector even = y[0] + SPLAT((real)0.5) * y[2], odd = SPLAT(HALF_ROOT) * y[1] + SPLAT(HALF_ROOT / 2) * y[3];
    const vector even_2 = y[0] + SPLAT(2) * y[2], odd_2 = SPLAT(ROOT) * y[1] + SPLAT(2 * ROOT) * y[3];
    m[0] = y[0];
    m[1] = even + odd;
    m[2] = even - odd;
    m[3] = even_2 + odd_2;
    m[4] = even_2 - odd_2;
    m[5] = y[3];
}

INLINE void transform_kernel(const vector g[3], vector u[6]) { /* G g */
    const vector even = SPLAT((real)(-2.0 / 3)) * (g[0] + SPLAT((real)0.5) * g[2]);
    const vector odd = SPLAT((real)(-2.0 / 3) * HALF_ROOT) * g[1];
    const vector even_2 = SPLAT((real)(1.0 / 6)) * (g[0] + SPLAT(2) * g[2]), odd_2 = SPLAT((real)(1.0 / 6) * ROOT) * g[1];
    u[0] = g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = even_2 + odd_2;
    u[4] = even_2 - odd_2;
    u[5] = g[2];
}

INLINE void transform_kernel_gradient(const vector u[6], vector g[3]) { /* G^T u */
    const vector plus = SPLAT((real)(-2.0 / 3)) * (u[1] + u[2]), plus_2 = SPLAT((real)(1.0 / 6)) * (u[3] + u[4]);
    const vector minus = SPLAT((real)(-2.0 / 3)) * (u[1] - u[2]), minus_2 = SPLAT((real)(1.0 / 6)) * (u[3] - u[4]);
    g[0] = u[0] + plus + plus_2;
    g[1] = SPLAT(HALF_ROOT) * minus + SPLAT(ROOT) * minus_2;
    g[2] = SPLAT((real)0.5) * plus + SPLAT(2) * plus_2 + u[5];
}

/* `one` applied to the columns of `from`, N x N, and then to the rows: to[i][j], M x M, is handed to `store`. */
#define IN_TWO_DIMENSIONS(one, N, M, fetch, store)                                                                         \
    do {                                                                                                                   \
        vector half_done[N][M];                                                                                            \
        UNROLL for (int j = 0; j < N; j++) {                                                                               \
            vector column[N];                                                                                              \
            UNROLL for (int i = 0; i < N; i++) column[i] = fetch;                                                          \
            one(column, half_done[j]);                                                                                     \
        }                                                                                                                  \
        UNROLL for (int i = 0; i < M; i++) {                                                                               \
            vector along[N], done[M];                                                                                      \
            UNROLL for (int j = 0; j < N; j++) along[j] = half_done[j][i];                                                 \
            one(along, done);                                                                                              \
            UNROLL for (int j = 0; j < M; j++) store;                                                                      \
        }                                                                                                                  \
    } while (0)

/* Kernels ------------------------------------------------------------------------------------------------------------ */

static size_t winograd_kernels(const minidl_winograd *w) { return (size_t)(POINTS * w->in * padded(w->out)); }

/* For each point, panels of result channels; in each, one source channel after another. */
static void winograd_transform(const minidl_winograd *w, ptrdiff_t from, ptrdiff_t to, real *kernels) {
    const ptrdiff_t out = padded(w->out);
    for (ptrdiff_t o = 0, width; o < out; o += width) {
        width = panel(w->out - o, LANES, NR);
        for (ptrdiff_t c = from; c < to; c++)
            for (ptrdiff_t lane = 0; lane < width; lane += LANES) {
                real g[9][LANES];
                for (ptrdiff_t l = 0; l < LANES; l++) {
                    const ptrdiff_t channel = o + lane + l;
                    const real *const its = w->weight + channel * w->weight_out + c * w->weight_in;
                    for (int t = 0; t < 9; t++) g[t][l] = channel < w->out ? its[w->flipped ? 8 - t : t] : 0;
                }
                real *const u = kernels + o * w->in + c * width + lane;
                IN_TWO_DIMENSIONS(transform_kernel, 3, 6, LOAD(g[3 * i + j]), STORE(u + (6 * i + j) * w->in * out, done[j]));
            }
    }
}

/* Planes to vectors along channels, and back ------------------------------------------------------------------------------- */

/* `columns` elements of `channels` planes become columns of vectors: to[x * width + c] = from[c * plane + x]. */
static void gather(const real *from, ptrdiff_t plane, ptrdiff_t channels, ptrdiff_t columns, ptrdiff_t width, real *to) {
    enum { LINE = 64 / sizeof(real) };
    ptrdiff_t c = 0;
    for (; c + LINE <= channels; c += LINE) turn_over(LINE, columns, from + c * plane, plane, width, to + c);
    for (; c + SHORT <= channels; c += SHORT) turn_over(SHORT, columns, from + c * plane, plane, width, to + c);
    for (; c < channels; c++)
        for (ptrdiff_t x = 0; x < columns; x++) to[x * width + c] = from[c * plane + x];
}

/* The other way: to[c * plane + x] = from[x * width + c]. It is the same turn, with channels and columns in each other's place. */
static void scatter(const real *from, ptrdiff_t width, ptrdiff_t channels, ptrdiff_t columns, ptrdiff_t plane, real *to) {
    gather(from, width, columns, channels, plane, to);
}

/* Rows of a batch's feature maps as columns of vectors, framed with zeros: `height` rows of `columns` for each image, the first
 * of them being row `first` of the map, and the first column being column -pad. */
static void frame_maps(const real *maps, ptrdiff_t channels, const ptrdiff_t size[2], batch_of_tiles b, ptrdiff_t first,
                           ptrdiff_t pad, ptrdiff_t height, ptrdiff_t columns, real *to) {
    const ptrdiff_t width = padded(channels), plane = size[0] * size[1];
    const ptrdiff_t valid = minidl_min(size[1], columns - pad);
    memset(to, 0, (size_t)(b.images * height * columns * width) * sizeof(real));
    for (ptrdiff_t n = 0; n < b.images; n++)
        for (ptrdiff_t r = 0; r < height; r++) {
            const ptrdiff_t u = first + r;
            if (u < 0 || u >= size[0]) continue;
            gather(maps + (b.n + n) * channels * plane + u * size[1], plane, channels, valid, width,
                   to + ((n * height + r) * columns + pad) * width);
        }
}

/* Sources ---------------------------------------------------------------------------------------------------------------- */

/* Define a function that transforms all tiles of a batch: SIZE x SIZE of the framed maps, which have `height` rows of `columns`
 * for each image, become 6 x 6. */
#define TRANSFORM_TILES(name, one, SIZE)                                                                                   \
    static void name(const minidl_winograd *w, batch_of_tiles b, const real *frame, ptrdiff_t width, ptrdiff_t height,     \
                     ptrdiff_t columns, real *to) {                                                                        \
        const ptrdiff_t apart = apart_of(b.tiles, width), row = columns * width;                                           \
        for (ptrdiff_t n = 0; n < b.images; n++)                                                                           \
            for (ptrdiff_t y = 0; y < b.rows; y++)                                                                         \
                for (ptrdiff_t x = 0; x < w->tiles[1]; x++, to += width) {                                                 \
                    const real *const corner = frame + ((n * height + 4 * y) * columns + 4 * x) * width;                   \
                    for (ptrdiff_t c = 0; c < width; c += LANES)                                                           \
                        IN_TWO_DIMENSIONS(one, SIZE, 6, LOAD(corner + i * row + j * width + c),                            \
                                          STORE(to + (6 * i + j) * apart + c, done[j]));                                   \
                }                                                                                                          \
    }
TRANSFORM_TILES(transform_source_tiles, transform_source, 6)
TRANSFORM_TILES(transform_upstream_tiles, transform_upstream, 4)
#undef TRANSFORM_TILES

/* `frame` is room for the batch's maps. */
static void transform_sources(const minidl_winograd *w, batch_of_tiles b, real *frame, real *v) {
    const ptrdiff_t height = 4 * b.rows + 2, columns = 4 * w->tiles[1] + 2;
    frame_maps(w->source, w->in, w->source_size, b, 4 * b.row - w->pad[0], w->pad[1], height, columns, frame);
    transform_source_tiles(w, b, frame, padded(w->in), height, columns, v);
}

/* Results ------------------------------------------------------------------------------------------------------------ */

/* The sums over source channels: for each point, (tiles x in) times (in x out). */
static void multiply_points(const minidl_winograd *w, batch_of_tiles b, const real *v, real *m) {
    const ptrdiff_t in = padded(w->in), out = padded(w->out);
    for (int point = 0; point < POINTS; point++) {
        const real *const left = v + point * apart_of(b.tiles, in), *const right = w->kernels + point * w->in * out;
        real *const to = m + point * apart_of(b.tiles, out);
        for (ptrdiff_t o = 0, width; o < out; o += width) {
            width = panel(w->out - o, LANES, NR);
            for (ptrdiff_t t = 0, rows; t < b.tiles; t += rows) {
                rows = step(b.tiles - t, MR);
                tiles[rows - 1][width / LANES - 1][0](w->in, 1, left + t * in, in, right + o * w->in, width, 0, to + t * out + o,
                                                      out);
            }
        }
    }
}

/* Transform all tiles of a batch back, and write the results; returns whether all are finite. */
static int write_results(const minidl_winograd *w, batch_of_tiles b, const real *scale, const real *bias, const real *m,
                         real *frame) {
    const ptrdiff_t out = padded(w->out), columns = 4 * w->tiles[1], row = columns * out, apart = apart_of(b.tiles, out);
    const ptrdiff_t plane = w->result_size[0] * w->result_size[1];
    vector check = SPLAT(0);
    for (ptrdiff_t n = 0, tile = 0; n < b.images; n++)
        for (ptrdiff_t y = 0; y < b.rows; y++)
            for (ptrdiff_t x = 0; x < w->tiles[1]; x++, tile++) {
                real *const corner = frame + ((n * b.rows + y) * 4 * columns + 4 * x) * out;
                const real *const from = m + tile * out;
                for (ptrdiff_t o = 0; o < out; o += LANES) {
                    const vector times = LOAD(scale + o), plus = LOAD(bias + o);
                    vector all = SPLAT(0);
                    IN_TWO_DIMENSIONS(transform_sums, 6, 4, LOAD(from + (6 * i + j) * apart + o), {
                        all = all + done[j];
                        STORE(corner + i * row + j * out + o, FMADD(times, done[j], plus));
                    });
                    check = check + all * SPLAT(0);
                }
            }
    for (ptrdiff_t n = 0; n < b.images; n++)
        for (ptrdiff_t r = 0; r < minidl_min(4 * b.rows, w->result_size[0] - 4 * b.row); r++)
            scatter(frame + (n * 4 * b.rows + r) * row, out, w->out, w->result_size[1], plane,
                    w->result + (b.n + n) * w->out * plane + (4 * b.row + r) * w->result_size[1]);
    int finite = 1;
    real lanes[LANES];
    STORE(lanes, check);
    for (int l = 0; l < LANES; l++) finite &= lanes[l] == 0;
    return finite;
}

static void finish_batch(const minidl_winograd *w, batch_of_tiles b) {
    const ptrdiff_t plane = w->result_size[0] * w->result_size[1], from = 4 * b.row * w->result_size[1];
    const ptrdiff_t length = minidl_min(4 * b.rows * w->result_size[1], plane - from);
    for (ptrdiff_t channel = b.n * w->out; channel < (b.n + b.images) * w->out; channel++)
        finish_results(w->residual, w->activation, w->settings, w->result, channel * plane + from, length);
}

static ptrdiff_t frame_elements(const minidl_winograd *w) {
    const ptrdiff_t channels = padded(minidl_max(w->in, w->out));
    return w->together * (4 * w->strip + 2) * (4 * w->tiles[1] + 2) * channels;
}

static ptrdiff_t most_tiles(const minidl_winograd *w) { return w->together * w->strip * w->tiles[1]; }

static size_t winograd_space(const minidl_winograd *w) {
    const ptrdiff_t points = apart_of(most_tiles(w), padded(w->in)) + apart_of(most_tiles(w), padded(w->out));
    return (size_t)(frame_elements(w) + POINTS * points + 2 * padded(w->out)) * sizeof(real);
}

static int winograd_slide(const minidl_winograd *w, ptrdiff_t from, ptrdiff_t to, void *workspace) {
    real *const frame = workspace, *const v = frame + frame_elements(w);
    real *const m = v + POINTS * apart_of(most_tiles(w), padded(w->in));
    real *const bias = m + POINTS * apart_of(most_tiles(w), padded(w->out));
    real *const scale = bias + padded(w->out);
    for (ptrdiff_t o = 0; o < padded(w->out); o++) {
        bias[o] = w->bias == NULL || o >= w->out ? 0 : w->bias[o];
        scale[o] = w->scale == NULL || o >= w->out ? 1 : w->scale[o];
    }
    for (ptrdiff_t item = from; item < to; item++) {
        const batch_of_tiles b = batch_at(w, item);
        transform_sources(w, b, frame, v);
        multiply_points(w, b, v, m);
        if (!write_results(w, b, scale, bias, m, frame)) return 1;
        finish_batch(w, b);
    }
    return 0;
}

/* The kernel's gradient: dW = G^T [ sum over tiles of (A dY A^T) * (B^T d B) ] G ------------------------------------------ */

static void transform_upstreams(const minidl_winograd *w, batch_of_tiles b, real *frame, real *m) {
    const ptrdiff_t height = 4 * b.rows, columns = 4 * w->tiles[1];
    frame_maps(w->upstream, w->out, w->result_size, b, 4 * b.row, 0, height, columns, frame);
    transform_upstream_tiles(w, b, frame, padded(w->out), height, columns, m);
}

static int winograd_gradient(const minidl_winograd *w, ptrdiff_t from, ptrdiff_t to, real *sums, void *workspace) {
    const ptrdiff_t in = padded(w->in), out = padded(w->out);
    real *const frame = workspace, *const v = frame + frame_elements(w), *const m = v + POINTS * apart_of(most_tiles(w), in);
    for (ptrdiff_t item = from; item < to; item++) {
        const batch_of_tiles b = batch_at(w, item);
        transform_sources(w, b, frame, v);
        transform_upstreams(w, b, frame, m);
        for (int point = 0; point < POINTS; point++) {
            const real *const left = v + point * apart_of(b.tiles, in), *const right = m + point * apart_of(b.tiles, out);
            for (ptrdiff_t o = 0, width; o < out; o += width) {
                width = panel(w->out - o, LANES, NR);
                for (ptrdiff_t c = 0, rows; c < w->in; c += rows) {
                    rows = step(w->in - c, MR);
                    tiles[rows - 1][width / LANES - 1][1](b.tiles, 1, left + c, in, right + o, out, 1,
                                                          sums + (point * w->in + c) * out + o, out);
                }
            }
        }
    }
    real check = 0;
    for (ptrdiff_t t = 0; t < POINTS * w->in * out; t++) check += sums[t] * 0;
    return check != 0; /* nan */
}

static void winograd_collect(const minidl_winograd *w, const real *sums, int parts, size_t apart, ptrdiff_t from, ptrdiff_t to,
                             int accumulate, real *dweight) {
    const ptrdiff_t out = padded(w->out);
    for (ptrdiff_t c = from; c < to; c++)
        for (ptrdiff_t o = 0; o < w->out; o += LANES) {
            vector u[POINTS];
            for (int point = 0; point < POINTS; point++) {
                const real *const its = sums + (point * w->in + c) * out + o;
                u[point] = LOAD(its);
                for (int part = 1; part < parts; part++) u[point] = u[point] + LOAD(its + (size_t)part * apart);
            }
            real g[9][LANES];
            IN_TWO_DIMENSIONS(transform_kernel_gradient, 6, 3, u[6 * i + j], STORE(g[3 * i + j], done[j]));
            for (ptrdiff_t l = 0; l < minidl_min(LANES, w->out - o); l++) {
                real *const to_kernel = dweight + ((o + l) * w->in + c) * 9;
                for (int t = 0; t < 9; t++) to_kernel[t] = accumulate ? to_kernel[t] + g[t][l] : g[t][l];
            }
        }
}

static const minidl_winograd_variant winograd = {
    .kernels = winograd_kernels,
    .transform = winograd_transform,
    .space = winograd_space,
    .slide = winograd_slide,
    .gradient = winograd_gradient,
    .collect = winograd_collect,
};
