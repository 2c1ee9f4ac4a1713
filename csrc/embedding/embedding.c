/* The functions of embedding.h: sorted by id on one thread, then over threads. */
#include "embedding/embedding.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/parallel.h"

int minidl_ids_are_rows(const int64_t *ids, ptrdiff_t places, ptrdiff_t vocabulary) {
    int wrong = 0;
    for (ptrdiff_t n = 0; n < places; n++) wrong |= ids[n] < 0 || ids[n] >= vocabulary;
    return !wrong;
}

/* Forward ---------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *weight;
    const int64_t *ids;
    char *y;
    size_t row_bytes;
} lookup;

static void look_up(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const lookup *const work = context;
    (void)part;
    for (ptrdiff_t n = from; n < to; n++)
        memcpy(work->y + (size_t)n * work->row_bytes, work->weight + (size_t)work->ids[n] * work->row_bytes, work->row_bytes);
}

void minidl_embedding(const void *weight, const int64_t *ids, void *y, ptrdiff_t places, size_t row_bytes) {
    lookup work = {.weight = weight, .ids = ids, .y = y, .row_bytes = row_bytes};
    minidl_in_ranges(places, (ptrdiff_t)(MINIDL_CHEAP * sizeof(float) / (row_bytes > 0 ? row_bytes : 1)) + 1, 1, look_up, &work);
}

/* Backward --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const minidl_embedding_sums *s;
    const ptrdiff_t *order; /* the places, sorted by id and then by place */
} sums_work;

/* Sort the places by eight bits of their ids after another, from the lowest, each time keeping the order of equals. Returns
 * whichever of the two arrays holds them at the end. */
static ptrdiff_t *sort_places(const int64_t *ids, ptrdiff_t places, ptrdiff_t vocabulary, ptrdiff_t *order, ptrdiff_t *other) {
    enum { DIGIT = 8, DIGITS = 1 << DIGIT };
    for (ptrdiff_t n = 0; n < places; n++) order[n] = n;
    for (int shift = 0; shift < 63 && (int64_t)(vocabulary - 1) >> shift > 0; shift += DIGIT) {
        ptrdiff_t begin[DIGITS + 1] = {0};
        for (ptrdiff_t n = 0; n < places; n++) begin[((ids[n] >> shift) & (DIGITS - 1)) + 1]++;
        for (int digit = 0; digit < DIGITS; digit++) begin[digit + 1] += begin[digit];
        for (ptrdiff_t n = 0; n < places; n++) other[begin[(ids[order[n]] >> shift) & (DIGITS - 1)]++] = order[n];
        ptrdiff_t *const sorted = other;
        other = order;
        order = sorted;
    }
    return order;
}

MINIDL_TASK(clear, const minidl_embedding_sums, minidl_embeddings, {
    (void)kernels;
    memset((real *)work->dweight + from, 0, (size_t)(to - from) * sizeof(real));
})

MINIDL_TASK(add_columns, sums_work, minidl_embeddings, {
    const minidl_embedding_sums *const s = work->s;
    for (ptrdiff_t n = 0; n < s->places;) {
        const int64_t id = s->ids[work->order[n]];
        ptrdiff_t end = n + 1;
        while (end < s->places && s->ids[work->order[end]] == id) end++;
        if (id != s->skipped)
            kernels->add_places(s->dy, work->order + n, end - n, s->width, from, to, (real *)s->dweight + id * s->width);
        n = end;
    }
})

int minidl_embedding_backward(int is_double, const minidl_embedding_sums *s) {
    ptrdiff_t *const room = malloc(2 * (size_t)s->places * sizeof(ptrdiff_t));
    if (room == NULL) return -1;
    if (!s->accumulate)
        minidl_in_ranges(s->vocabulary * s->width, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(clear, is_double), (void *)s);
    sums_work work = {.s = s, .order = sort_places(s->ids, s->places, s->vocabulary, room, room + s->places)};
    minidl_in_ranges(s->width, MINIDL_CHEAP / s->places + 1, 16, MINIDL_TASK_OF(add_columns, is_double), &work);
    free(room);
    return 0;
}
