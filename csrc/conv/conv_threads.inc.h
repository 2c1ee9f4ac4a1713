/* Convolutions for one precision, over threads. conv.c includes it twice; it has defined real, REAL(name) and IN_USE(family). */

typedef struct {
    const REAL(minidl_conv) *variant;
    const REAL(minidl_maps) *maps;
    ptrdiff_t items;
    int parts;
    size_t space, apart; /* of each part: bytes of workspace, elements of sums */
    char *work;
    real *sums, *dweight;
    int accumulate;
} REAL(sliding);

static void REAL(slide_part)(void *context, int part) {
    const REAL(sliding) *const j = context;
    j->variant->slide(j->maps, j->items * part / j->parts, j->items * (part + 1) / j->parts,
                      j->work + (size_t)part * j->space);
}

static void REAL(gradient_part)(void *context, int part) {
    const REAL(sliding) *const j = context;
    real *const sums = j->sums + (size_t)part * j->apart;
    memset(sums, 0, j->apart * sizeof(real));
    j->variant->gradient(j->maps, j->items * part / j->parts, j->items * (part + 1) / j->parts, sums,
                         j->work + (size_t)part * j->space);
}

static void REAL(collect_part)(void *context, int part) {
    const REAL(sliding) *const j = context;
    const ptrdiff_t kernels = j->maps->groups * j->maps->out;
    j->variant->collect(j->maps, j->sums, j->parts, j->apart, kernels * part / j->parts, kernels * (part + 1) / j->parts,
                        j->accumulate, j->dweight);
}

/* Rows of results in a strip: few enough that its source, `each` elements for each row and `more` besides, stays in the cache, and
 * that there are strips for all threads. */
static ptrdiff_t REAL(strip)(ptrdiff_t rows, ptrdiff_t images, ptrdiff_t each, ptrdiff_t more, ptrdiff_t bytes, int threads) {
    ptrdiff_t fit = (bytes / (ptrdiff_t)sizeof(real) - more) / (each > 0 ? each : 1);
    if (images < threads && fit > (rows * images + threads - 1) / threads) fit = (rows * images + threads - 1) / threads;
    if (fit < 1) fit = 1;
    if (fit >= rows) return rows;
    const ptrdiff_t strips = (rows + fit - 1) / fit; /* of equal height, but for rounding up */
    return (rows + strips - 1) / strips;
}

static int REAL(run)(REAL(minidl_maps) *p, ptrdiff_t row_elements, const minidl_windows *w) {
    if (too_large(&p->rows, &p->columns, p->in)) return -1;
    const int threads = minidl_parts_worth(multiply_adds(w), w->threads);
    const ptrdiff_t rows = (p->rows.result + p->rows.every - 1) / p->rows.every;
    p->strip = REAL(strip)(rows, p->images, row_elements, row_elements * p->rows.reach, SLIDE_BYTES, threads);
    REAL(sliding) j = {.variant = IN_USE(minidl_conv), .maps = p};
    j.items = p->images * ((rows + p->strip - 1) / p->strip);
    j.parts = j.items < threads ? (int)j.items : threads;
    j.space = minidl_whole_lines(j.variant->slide_space(p));
    const size_t weights = minidl_whole_lines(j.variant->panels(p) * sizeof(real));
    const size_t bytes = weights + (size_t)j.parts * j.space;
    char *const work = minidl_malloc(NULL, bytes);
    if (work == NULL) return -1;
    p->panels = (real *)work;
    j.work = work + weights;
    j.variant->pack(p, p->panels);
    if (j.parts == 1) REAL(slide_part)(&j, 0);
    else minidl_in_parts(j.parts, REAL(slide_part), &j);
    minidl_free(NULL, work, bytes);
    return 0;
}

static int REAL(slide)(const minidl_windows *w, const void *x, const void *weight, const minidl_conv_after *after, void *y) {
    if (deep_slides(w, 0, REAL(lanes)())) return REAL(deep_slide)(w, x, weight, after, y);
    const real settings[2] = {(real)after->settings[0], (real)after->settings[1]};
    REAL(minidl_maps) p = {.images = w->images, .groups = w->groups, .in = w->in, .out = w->out, .source = x, .weight = weight,
                           .scale = after->scale, .bias = after->bias, .residual = after->residual, .result = y,
                           .settings = settings};
    const ptrdiff_t area = w->kernel[0] * w->kernel[1];
    p.weight_in = area;
    p.weight_out = area * w->in;
    p.weight_group = p.weight_out * w->out;
    if (after->activation >= 0) p.activation = IN_USE(minidl_activations)->forward[after->activation];
    int status = sliding_axis(&p.rows, w, 0) | sliding_axis(&p.columns, w, 1);
    if (status == 0) status = REAL(run)(&p, w->in * p.columns.classes * p.rows.classes * w->output[1], w);
    forget(&p.rows), forget(&p.columns);
    return status;
}

static int REAL(spread)(const minidl_windows *w, const void *g, const void *weight, const void *bias, void *dx) {
    if (deep_slides(w, 1, REAL(lanes)())) return REAL(deep_spread)(w, g, weight, bias, dx);
    REAL(minidl_maps) p = {.images = w->images, .groups = w->groups, .in = w->out, .out = w->in, .source = g, .weight = weight,
                  .bias = bias, .result = dx, .skips = 1};
    const ptrdiff_t area = w->kernel[0] * w->kernel[1];
    p.weight_in = area * w->in;
    p.weight_out = area;
    p.weight_group = area * w->in * w->out;
    int status = spreading_axis(&p.rows, w, 0) | spreading_axis(&p.columns, w, 1);
    if (status == 0) status = REAL(run)(&p, w->out * (w->image[1] / w->stride[1] + p.columns.reach), w);
    forget(&p.rows), forget(&p.columns);
    return status;
}

static int REAL(gradient)(const minidl_windows *w, const void *x, const void *g, int accumulate, void *dweight) {
    if (deep_gradients(w, REAL(lanes)())) return REAL(deep_gradient)(w, x, g, accumulate, dweight);
    REAL(minidl_maps) p = {.images = w->images, .groups = w->groups, .in = w->in, .out = w->out, .source = x, .upstream = g};
    if ((sliding_axis(&p.rows, w, 0) | sliding_axis(&p.columns, w, 1)) != 0 || too_large(&p.rows, &p.columns, p.in)) {
        forget(&p.rows), forget(&p.columns);
        return -1;
    }
    const int threads = minidl_parts_worth(multiply_adds(w), w->threads);
    p.strip = REAL(strip)(w->output[0], w->images, w->output[1] * (w->out < 48 ? w->out : 48), 0, GRADIENT_BYTES, threads);
    REAL(sliding) j = {.variant = IN_USE(minidl_conv), .maps = &p, .dweight = dweight, .accumulate = accumulate};
    j.items = w->images * ((w->output[0] + p.strip - 1) / p.strip);
    j.parts = j.items < threads ? (int)j.items : threads;
    j.space = minidl_whole_lines(j.variant->gradient_space(&p));
    j.apart = (j.variant->gradient_sums(&p) + 63) / 64 * 64;
    const size_t bytes = (size_t)j.parts * (j.space + j.apart * sizeof(real));
    char *const block = minidl_malloc(NULL, bytes);
    if (block != NULL) {
        j.work = block;
        j.sums = (real *)(block + (size_t)j.parts * j.space);
        minidl_in_parts(j.parts, REAL(gradient_part), &j);
        minidl_in_parts(j.parts, REAL(collect_part), &j);
        minidl_free(NULL, block, bytes);
    }
    forget(&p.rows), forget(&p.columns);
    return block == NULL ? -1 : 0;
}
