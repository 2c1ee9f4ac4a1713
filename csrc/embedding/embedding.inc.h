/* The loops of embedding.h, in the terms of vector/loops.inc.h, and their table. */
#include "embedding/embedding.h"

static void REAL(add_places)(const real *dy, const ptrdiff_t *places, ptrdiff_t count, ptrdiff_t width, ptrdiff_t from,
                             ptrdiff_t to, real *row) {
    enum { BLOCK = 64 }; /* columns whose sums stay in the nearest cache */
    if (count == 1) {
        const real *const only = dy + places[0] * width + from;
        real *const out = row + from;
        EACH_VECTOR(to - from, PUT(out, GET(out) + GET(only)););
        return;
    }
    for (ptrdiff_t start = from; start < to; start += BLOCK) {
        const ptrdiff_t columns = to - start < BLOCK ? to - start : BLOCK;
        double sums[BLOCK] = {0};
        for (ptrdiff_t n = 0; n < count; n++) {
            const real *const line = dy + places[n] * width + start;
            for (ptrdiff_t c = 0; c < columns; c++) sums[c] += (double)line[c];
        }
        for (ptrdiff_t c = 0; c < columns; c++) row[start + c] = (real)((double)row[start + c] + sums[c]);
    }
}

const REAL(minidl_embeddings) TABLE(minidl_embeddings) = {.add_places = REAL(add_places)};
