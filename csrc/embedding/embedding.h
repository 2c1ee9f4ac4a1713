/* Rows of a table, chosen by ids, and the sums of gradients that come back to them.
 *
 *     forward     for (n = 0; n < places; n++)
 *                     for (c = 0; c < width; c++) y[n][c] = weight[ids[n]][c];
 *
 *     backward    for (n = 0; n < places; n++)
 *                     if (ids[n] != skipped)
 *                         for (c = 0; c < width; c++) dweight[ids[n]][c] += dy[n][c];
 *
 * where dweight begins at 0, or at what is there if it accumulates; then rows that no id chose are neither read nor written. The
 * places are first sorted by id, so that a row's sum is one run of additions, in double precision and in the order of the places,
 * and is added to dweight once. Threads share the columns: the bits do not depend on how many there are.
 *
 * The caller has checked the ids, and nobody else may write to them. */
#ifndef MINIDL_EMBEDDING_H
#define MINIDL_EMBEDDING_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/isa.h"

/* Columns [from, to) of one row of dweight: dy of the `count` places is added. */
#define MINIDL_EMBEDDING_TABLE(real)                                                                                       \
    struct {                                                                                                               \
        void (*add_places)(const real *dy, const ptrdiff_t *places, ptrdiff_t count, ptrdiff_t width, ptrdiff_t from,      \
                           ptrdiff_t to, real *row);                                                                       \
    }
MINIDL_TABLES(minidl_embeddings, MINIDL_EMBEDDING_TABLE)

typedef struct {
    const void *dy;
    const int64_t *ids;
    void *dweight;
    ptrdiff_t places, vocabulary, width;
    int64_t skipped; /* an id that adds nothing, or -1 */
    int accumulate;
} minidl_embedding_sums;

/* Whether all ids are from 0 to vocabulary - 1. */
int minidl_ids_are_rows(const int64_t *ids, ptrdiff_t places, ptrdiff_t vocabulary);
void minidl_embedding(const void *weight, const int64_t *ids, void *y, ptrdiff_t places, size_t row_bytes);
int minidl_embedding_backward(int is_double, const minidl_embedding_sums *s); /* -1 where memory is short */

#endif
