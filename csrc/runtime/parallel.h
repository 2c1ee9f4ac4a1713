/* Work over many items, split into ranges for the threads. It is split statically, by counts, so that the same number of threads
 * gives the same bits. Whether the ranges are shared is another question: where handing one over costs more than it saves, as
 * measured on this machine, the caller does them all.
 *
 * A family's driver describes its work in a struct of its own and writes what one range does, in both precisions:
 *
 *     typedef struct { const void *x; void *y; } negation;
 *     MINIDL_TASK(negate, negation, minidl_negations, {
 *         kernels->negate((const real *)work->x + from, (real *)work->y + from, to - from);
 *     })
 *     void minidl_negate(int is_double, const void *x, void *y, ptrdiff_t n) {
 *         negation work = {.x = x, .y = y};
 *         minidl_in_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(negate, is_double), &work);
 *     }
 */
#ifndef MINIDL_PARALLEL_H
#define MINIDL_PARALLEL_H

#include <stddef.h>

#include "runtime/threads.h"

enum { MINIDL_CHEAP = 65536, MINIDL_DEAR = 16384 }; /* elements that are worth a thread: of plain arithmetic, of exponentials */
enum { MINIDL_CHUNK = 64 }; /* elements: ranges of contiguous arrays begin at multiples, so that threads share no cache line */

enum { MINIDL_GRAIN_NANOSECONDS = 5000 }; /* roughly what either takes on one thread */

/* Items [from, to) of the work, which is range number `part`. */
typedef void minidl_range_task(void *work, int part, ptrdiff_t from, ptrdiff_t to);

/* Run the task over all items, in as many ranges as they are worth if `grain` items are worth a thread. Ranges begin at multiples
 * of `unit`. Returns how many there were, at most MINIDL_MOST_PARTS. */
int minidl_in_ranges(ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit, minidl_range_task *task, void *work);

/* The same in two steps, where there is memory to be had for each range in between: how many ranges there are, which is asked
 * once, because the number of threads may change at any time; and the work in so many. */
int minidl_ranges_worth(ptrdiff_t items, ptrdiff_t grain);
void minidl_in_so_many_ranges(int parts, ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit, minidl_range_task *task, void *work);

/* The same for work on each item by itself, from which nothing is added up across items, so that it has the same bits however it
 * is split. Here the measured cost also decides into how many ranges: each takes at least four times as long. */
void minidl_in_free_ranges(ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit, minidl_range_task *task, void *work);

/* How many rows of so many elements are worth a thread, exponentials among what is done with them. */
static inline ptrdiff_t minidl_rows_worth(ptrdiff_t length) {
    return length > MINIDL_DEAR ? 1 : MINIDL_DEAR / (length > 0 ? length : 1) + 1;
}

/* Where range number `part` of `parts` begins. */
static inline ptrdiff_t minidl_range_begin(ptrdiff_t items, int part, int parts, ptrdiff_t unit) {
    if (part >= parts) return items;
    const ptrdiff_t at = (items + unit - 1) / unit * part / parts * unit;
    return at < items ? at : items;
}

/* What the ranges left, added in their order. */
static inline double minidl_sum_of_parts(const double *sums, int parts) {
    double total = 0;
    for (int part = 0; part < parts; part++) total += sums[part];
    return total;
}

/* Define a task in both precisions, name_f32 and name_f64: in it `real` is the type, `kernels` the family's table in use, and
 * `work` points to the struct. */
#define MINIDL_TASK(name, work_type, family, ...)                                                                          \
    static void name##_f32(void *context, int part, ptrdiff_t from, ptrdiff_t to) {                                        \
        typedef float real;                                                                                                \
        const family##_f32 *const kernels = family##_f32_in_use();                                                         \
        work_type *const work = context;                                                                                   \
        (void)part, (void)sizeof(real);                                                                                    \
        __VA_ARGS__                                                                                                        \
    }                                                                                                                      \
    static void name##_f64(void *context, int part, ptrdiff_t from, ptrdiff_t to) {                                        \
        typedef double real;                                                                                               \
        const family##_f64 *const kernels = family##_f64_in_use();                                                         \
        work_type *const work = context;                                                                                   \
        (void)part, (void)sizeof(real);                                                                                    \
        __VA_ARGS__                                                                                                        \
    }
#define MINIDL_TASK_OF(name, is_double) ((is_double) ? name##_f64 : name##_f32)

#endif
