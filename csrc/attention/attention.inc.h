/* The tiles of attention.h on one thread: products of product/gemm.inc.h, and between them the rows of attention_rows.inc.h. */
#include "attention/attention.h"
#include "product/bf16.h"

#include <stdlib.h>

typedef minidl_attention_arrays attention;

enum { QUERIES = MINIDL_QUERIES_AT_ONCE, KEYS = 192, ALIGNED = 64 }; /* of a tile; KEYS is a multiple of every NR */

/* A thread's memory: blocks of keys and values with their axes exchanged, two tiles, and what the products pack. */
typedef struct {
    real *k_turned, *v_turned, *p, *dp, *delta;
    void *block, *packed;
    size_t packed_bytes;
    int short_of_memory;
} room;

static int make_room(const attention *s, int backward, room *r) {
    const size_t turned = (size_t)minidl_max(s->size, 1) * KEYS, of_v = backward ? (size_t)minidl_max(s->value_size, 1) * KEYS : 0;
    const size_t tile = (size_t)QUERIES * KEYS, deltas = backward ? (size_t)s->queries : 0;
    memset(r, 0, sizeof *r);
    r->block = malloc((turned + of_v + tile * (backward ? 2 : 1) + deltas) * sizeof(real) + ALIGNED);
    if (r->block == NULL) return -1;
    r->k_turned = (real *)(((uintptr_t)r->block + ALIGNED - 1) / ALIGNED * ALIGNED);
    r->v_turned = r->k_turned + turned;
    r->p = r->v_turned + of_v;
    r->dp = r->p + tile;
    r->delta = r->dp + (backward ? tile : 0);
    return 0;
}

static void leave_room(room *r) {
    free(r->block);
    free(r->packed);
}

/* C = alpha A B + beta C on this thread, with operands rounded to bfloat16 if that is asked for. */
static void small_product(const attention *s, room *r, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row, ptrdiff_t a_col,
                          const real *b, ptrdiff_t b_row, ptrdiff_t b_col, real beta, real *c, ptrdiff_t c_row) {
    REAL(minidl_product) x = {.m = m, .n = n, .k = k, .alpha = alpha, .beta = beta};
    x.a.at = a, x.a.row = a_row, x.a.col = a_col;
    x.b.at = b, x.b.row = b_row, x.b.col = b_col;
    x.c.at = c, x.c.row = c_row, x.c.col = 1;
#if SINGLE
    const minidl_gemm_f32 *const rounding = s->rounds ? minidl_bf16_in_use() : NULL;
    const minidl_gemm_plan how = rounding != NULL ? rounding->choose(&x) : choose(&x);
#else
    const minidl_gemm_plan how = choose(&x);
    (void)s;
#endif
    if (how.workspace > r->packed_bytes) {
        free(r->packed);
        r->packed = malloc(how.workspace);
        r->packed_bytes = r->packed == NULL ? 0 : how.workspace;
        if (r->packed == NULL) r->short_of_memory = 1;
    }
    if (how.workspace > r->packed_bytes) return;
#if SINGLE
    if (rounding != NULL) {
        rounding->multiply(&x, &how, NULL, r->packed);
        return;
    }
#endif
    multiply(&x, &how, NULL, r->packed);
}

static inline real *head_at(const minidl_heads *x, ptrdiff_t n, ptrdiff_t h, ptrdiff_t row) {
    return (real *)x->at + n * x->batch + h * x->head + row * x->row;
}

static inline ptrdiff_t first_key(const attention *s, ptrdiff_t t) {
    return s->window > 0 ? minidl_min(minidl_max(t + s->offset - s->window + 1, 0), s->keys) : 0;
}

static inline ptrdiff_t last_key(const attention *s, ptrdiff_t t) {
    if (s->causal) return minidl_min(t + s->offset + 1, s->keys);
    return s->window > 0 ? minidl_min(t + s->offset + s->window, s->keys) : s->keys;
}

/* to[d][j] = from[j][d], for a block of n keys; rows of `to` are KEYS apart. */
static void turn(const real *from, ptrdiff_t row, ptrdiff_t n, ptrdiff_t size, real *to) {
    enum { AT_ONCE = 16 };
    for (ptrdiff_t d0 = 0; d0 < size; d0 += AT_ONCE)
        for (ptrdiff_t j = 0; j < n; j++) {
            const ptrdiff_t end = minidl_min(d0 + AT_ONCE, size);
            for (ptrdiff_t d = d0; d < end; d++) to[d * KEYS + j] = from[j * row + d];
        }
}

/* Add the mask of query t to its scores of keys [key, key + n). */
static void add_mask(const attention *s, ptrdiff_t n, ptrdiff_t h, ptrdiff_t t, ptrdiff_t key, real *z, ptrdiff_t count) {
    const ptrdiff_t at = n * s->mask_batch + h * s->mask_head + t * s->mask_query + key * s->mask_key;
    if (s->mask_is_bytes) {
        const unsigned char *const seen = (const unsigned char *)s->mask + at;
        for (ptrdiff_t j = 0; j < count; j++)
            if (!seen[j * s->mask_key]) z[j] = -MINIDL_INFINITY;
    } else {
        const real *const more = (const real *)s->mask + at;
        for (ptrdiff_t j = 0; j < count; j++) z[j] += more[j * s->mask_key];
    }
}

/* What dropout multiplies the weights of query t for keys [key, key + n) by. */
static void draw_factors(const attention *s, ptrdiff_t n, ptrdiff_t h, ptrdiff_t t, ptrdiff_t key, ptrdiff_t count, real *m) {
    const size_t at = (((size_t)n * (size_t)s->heads + (size_t)h) * (size_t)s->queries + (size_t)t) * (size_t)s->keys + (size_t)key;
    const real kept = (real)(s->p < 1 ? 1 / (1 - s->p) : 0);
    if (s->keep != NULL) {
        for (ptrdiff_t j = 0; j < count; j++) m[j] = s->keep[at + (size_t)j] ? kept : 0;
    } else {
        minidl_pcg64 random = *s->random;
        float uniform[KEYS];
        const float p = (float)s->p;
        minidl_pcg64_skip(&random, (uint64_t)at);
        minidl_pcg64_uniform(&random, count, uniform);
        for (ptrdiff_t j = 0; j < count; j++) m[j] = uniform[j] >= p ? kept : 0;
    }
}

static int drops(const attention *s) { return s->random != NULL || s->keep != NULL; }

/* Forward ---------------------------------------------------------------------------------------------------------------- */

/* The scores of some queries become weights relative to the largest so far, whose sum is in `sums`. y is scaled to match. */
static void weigh(const attention *s, ptrdiff_t n, ptrdiff_t h, ptrdiff_t t0, ptrdiff_t rows, ptrdiff_t key, ptrdiff_t count, real *z,
                  real *largest, double *sums, real *y) {
    for (ptrdiff_t i = 0; i < rows; i++, z += KEYS) {
        const ptrdiff_t from = minidl_min(minidl_max(first_key(s, t0 + i) - key, 0), count);
        const ptrdiff_t to = minidl_max(minidl_min(last_key(s, t0 + i) - key, count), from);
        if (s->mask != NULL) add_mask(s, n, h, t0 + i, key + from, z + from, to - from);
        for (ptrdiff_t j = 0; j < from; j++) z[j] = 0;
        for (ptrdiff_t j = to; j < count; j++) z[j] = 0;
        const real most = REAL(row_largest)(z + from, largest[i], to - from);
        if (most == -MINIDL_INFINITY) { /* nothing seen so far */
            for (ptrdiff_t j = from; j < to; j++) z[j] = 0;
            continue;
        }
        if (most > largest[i] && sums[i] != 0) {
            const double shrunk = exp((double)largest[i] - (double)most);
            sums[i] *= shrunk;
            REAL(row_scale)(y + i * s->y.row, (real)shrunk, s->value_size);
        }
        largest[i] = most;
        sums[i] += REAL(row_exponentials)(z + from, most, to - from);
        if (drops(s)) {
            real m[KEYS];
            draw_factors(s, n, h, t0 + i, key + from, to - from, m);
            for (ptrdiff_t j = from; j < to; j++) z[j] *= m[j - from];
        }
    }
}

/* The tile of queries from t0 on. The block of keys that is turned is kept for the next tile, if that sees no other. */
static void forward_tile(const attention *s, ptrdiff_t n, ptrdiff_t h, ptrdiff_t t0, room *r) {
    const ptrdiff_t g = h / (s->heads / s->key_heads), rows = minidl_min(QUERIES, s->queries - t0);
    const ptrdiff_t begin = first_key(s, t0) / KEYS * KEYS, end = last_key(s, t0 + rows - 1);
    const real *const q = head_at(&s->q, n, h, t0);
    real *const y = head_at(&s->y, n, h, t0), *const log_sum = (real *)s->log_sum + (n * s->heads + h) * s->queries + t0;
    real largest[QUERIES];
    double sums[QUERIES] = {0};
    for (ptrdiff_t i = 0; i < rows; i++) {
        largest[i] = -MINIDL_INFINITY;
        memset(y + i * s->y.row, 0, (size_t)s->value_size * sizeof(real));
    }
    for (ptrdiff_t key = begin; key < end; key += KEYS) {
        const ptrdiff_t count = minidl_min(KEYS, end - key);
        const real *const k = head_at(&s->k, n, g, key);
        const int few = rows < 8; /* not worth exchanging axes for */
        if (!few) turn(k, s->k.row, count, s->size, r->k_turned);
        small_product(s, r, rows, count, s->size, (real)s->scale, q, s->q.row, 1, few ? k : r->k_turned, few ? 1 : KEYS,
                      few ? s->k.row : 1, 0, r->p, KEYS);
        weigh(s, n, h, t0, rows, key, count, r->p, largest, sums, y);
        small_product(s, r, rows, s->value_size, count, 1, r->p, KEYS, 1, head_at(&s->v, n, g, key), s->v.row, 1, 1, y, s->y.row);
    }
    for (ptrdiff_t i = 0; i < rows; i++) {
        log_sum[i] = sums[i] == 0 ? largest[i] : (real)((double)largest[i] + log(sums[i]));
        if (sums[i] != 0) REAL(row_scale)(y + i * s->y.row, (real)(1 / sums[i]), s->value_size);
    }
}

static int attention_forward(const attention *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t tiles_each = minidl_units(s->queries, QUERIES);
    ptrdiff_t checked = -1;
    int unusual = 0;
    room r;
    if (make_room(s, 0, &r) != 0) return -1;
    for (ptrdiff_t item = from; item < to && !unusual && !r.short_of_memory; item++) {
        const ptrdiff_t head = item / tiles_each, n = head / s->heads, h = head % s->heads, place = item % tiles_each;
        const ptrdiff_t g = h / (s->heads / s->key_heads);
        /* Long and short tiles of a causal head in turns, so that equal numbers of tiles are equal work. */
        const ptrdiff_t tile = !s->causal ? place : place % 2 ? tiles_each - 1 - place / 2 : place / 2;
        const ptrdiff_t t0 = tile * QUERIES, rows = minidl_min(QUERIES, s->queries - t0);
        if (n * s->key_heads + g != checked) {
            checked = n * s->key_heads + g;
            unusual |= !REAL(rows_finite)(head_at(&s->k, n, g, 0), s->keys, s->size, s->k.row);
            unusual |= !REAL(rows_finite)(head_at(&s->v, n, g, 0), s->keys, s->value_size, s->v.row);
        }
        unusual |= !REAL(rows_finite)(head_at(&s->q, n, h, t0), rows, s->size, s->q.row);
        if (!unusual) forward_tile(s, n, h, t0, &r);
    }
    leave_room(&r);
    return r.short_of_memory ? -1 : unusual;
}

/* Backward --------------------------------------------------------------------------------------------------------------- */

/* Scores become weights p, times what dropout makes of them, and their gradients dp become scale dz. */
static void weigh_back(const attention *s, ptrdiff_t n, ptrdiff_t h, ptrdiff_t t0, ptrdiff_t rows, ptrdiff_t key, ptrdiff_t count,
                       const real *delta, room *r) {
    const real *const log_sum = (const real *)s->log_sum + (n * s->heads + h) * s->queries + t0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        real *const p = r->p + i * KEYS, *const dp = r->dp + i * KEYS;
        const ptrdiff_t from = minidl_min(minidl_max(first_key(s, t0 + i) - key, 0), count);
        ptrdiff_t to = minidl_max(minidl_min(last_key(s, t0 + i) - key, count), from);
        if (log_sum[i] == -MINIDL_INFINITY) to = from; /* nothing seen */
        if (s->mask != NULL) add_mask(s, n, h, t0 + i, key + from, p + from, to - from);
        for (ptrdiff_t j = 0; j < from; j++) p[j] = dp[j] = 0;
        for (ptrdiff_t j = to; j < count; j++) p[j] = dp[j] = 0;
        REAL(row_exponentials)(p + from, log_sum[i], to - from);
        real m[KEYS];
        if (drops(s)) {
            draw_factors(s, n, h, t0 + i, key + from, to - from, m);
            for (ptrdiff_t j = from; j < to; j++) dp[j] *= m[j - from];
        }
        REAL(row_gradients)(p + from, dp + from, delta[i], (real)s->scale, to - from);
        for (ptrdiff_t j = from; drops(s) && j < to; j++) p[j] *= m[j - from];
    }
}

/* All of one key head with the query heads that it serves. */
static void backward_head(const attention *s, ptrdiff_t n, ptrdiff_t g, room *r) {
    const ptrdiff_t share = s->heads / s->key_heads;
    for (ptrdiff_t j = 0; j < s->keys; j++) {
        memset(head_at(&s->dk, n, g, j), 0, (size_t)s->size * sizeof(real));
        memset(head_at(&s->dv, n, g, j), 0, (size_t)s->value_size * sizeof(real));
    }
    for (ptrdiff_t h = g * share; h < (g + 1) * share; h++) {
        for (ptrdiff_t t = 0; t < s->queries; t++) {
            memset(head_at(&s->dq, n, h, t), 0, (size_t)s->size * sizeof(real));
            r->delta[t] = (real)REAL(row_product)(head_at(&s->dy, n, h, t), head_at(&s->y, n, h, t), s->value_size);
        }
        for (ptrdiff_t key = 0; key < s->keys; key += KEYS) {
            const ptrdiff_t all = minidl_min(KEYS, s->keys - key);
            const real *const k = head_at(&s->k, n, g, key);
            turn(k, s->k.row, all, s->size, r->k_turned);
            turn(head_at(&s->v, n, g, key), s->v.row, all, s->value_size, r->v_turned);
            for (ptrdiff_t t0 = 0; t0 < s->queries; t0 += QUERIES) {
                const ptrdiff_t rows = minidl_min(QUERIES, s->queries - t0);
                const ptrdiff_t count = minidl_min(all, last_key(s, t0 + rows - 1) - key);
                if (count <= 0 || first_key(s, t0) >= key + all) continue;
                const real *const q = head_at(&s->q, n, h, t0), *const dy = head_at(&s->dy, n, h, t0);
                small_product(s, r, rows, count, s->size, (real)s->scale, q, s->q.row, 1, r->k_turned, KEYS, 1, 0, r->p, KEYS);
                small_product(s, r, rows, count, s->value_size, 1, dy, s->dy.row, 1, r->v_turned, KEYS, 1, 0, r->dp, KEYS);
                weigh_back(s, n, h, t0, rows, key, count, r->delta + t0, r);
                small_product(s, r, count, s->value_size, rows, 1, r->p, 1, KEYS, dy, s->dy.row, 1, 1, head_at(&s->dv, n, g, key),
                              s->dv.row);
                small_product(s, r, rows, s->size, count, 1, r->dp, KEYS, 1, k, s->k.row, 1, 1, head_at(&s->dq, n, h, t0), s->dq.row);
                small_product(s, r, count, s->size, rows, 1, r->dp, 1, KEYS, q, s->q.row, 1, 1, head_at(&s->dk, n, g, key), s->dk.row);
            }
        }
    }
}

static int attention_backward(const attention *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t share = s->heads / s->key_heads;
    int unusual = 0;
    room r;
    if (make_room(s, 1, &r) != 0) return -1;
    for (ptrdiff_t item = from; item < to && !unusual && !r.short_of_memory; item++) {
        const ptrdiff_t n = item / s->key_heads, g = item % s->key_heads;
        unusual |= !REAL(rows_finite)(head_at(&s->k, n, g, 0), s->keys, s->size, s->k.row);
        unusual |= !REAL(rows_finite)(head_at(&s->v, n, g, 0), s->keys, s->value_size, s->v.row);
        for (ptrdiff_t h = g * share; h < (g + 1) * share; h++) {
            unusual |= !REAL(rows_finite)(head_at(&s->q, n, h, 0), s->queries, s->size, s->q.row);
            unusual |= !REAL(rows_finite)(head_at(&s->dy, n, h, 0), s->queries, s->value_size, s->dy.row);
            unusual |= !REAL(rows_finite)(head_at(&s->y, n, h, 0), s->queries, s->value_size, s->y.row);
        }
        if (!unusual) backward_head(s, n, g, &r);
    }
    leave_room(&r);
    return r.short_of_memory ? -1 : unusual;
}

const REAL(minidl_attentions) TABLE(minidl_attentions) = {.forward = attention_forward, .backward = attention_backward};
