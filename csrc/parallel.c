/* Splitting work over threads: statically, so that the same number of threads gives the same bits, and only where the work
 * is worth the few microseconds that waking threads costs. */
#include "parallel.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

static const minidl_kernels *kernels;
static int threads = 1;
static int forked;

#if !defined(_WIN32)
/* The runtime's threads do not exist in the child, and waiting for them would hang it. */
static void after_fork(void) { forked = 1; }
#endif

int minidl_start(void) {
    kernels = minidl_kernels_chosen();
#if !defined(_WIN32)
    static int registered;
    if (!registered) registered = pthread_atfork(NULL, NULL, after_fork) == 0;
#endif
    return kernels == NULL ? -1 : 0;
}

const minidl_kernels *minidl_kernels_in_use(void) { return kernels; }

void minidl_set_threads(int count) { threads = count < 1 ? 1 : count; }

int minidl_has_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

int minidl_get_threads(void) { return forked || !minidl_has_openmp() ? 1 : threads; }

enum { MOST_THREADS = 256, LINE = 64 };

/* How many threads `items` are worth if one is worth waking for `grain` of them. */
static int team(ptrdiff_t items, ptrdiff_t grain) {
    const ptrdiff_t worth = items / grain;
    const int available = minidl_get_threads();
    const int most = available < MOST_THREADS ? available : MOST_THREADS;
    return worth <= 1 ? 1 : worth < most ? (int)worth : most;
}

/* Where part number `part` of `parts` starts; parts begin at multiples of `unit`. */
static ptrdiff_t begin(ptrdiff_t items, int part, int parts, ptrdiff_t unit) {
    if (part >= parts) return items;
    const ptrdiff_t units = (items + unit - 1) / unit;
    const ptrdiff_t at = units * part / parts * unit;
    return at < items ? at : items;
}

#ifdef _OPENMP
#define EACH_ON_ITS_THREAD(parts) _Pragma("omp parallel for num_threads(parts) schedule(static, 1)")
#else
#define EACH_ON_ITS_THREAD(parts)
#endif

/* Run the statements for each part [from, to) of `items`, one part a thread. */
#define IN_PARTS(items, grain, unit, ...)                                                                                  \
    do {                                                                                                                   \
        const int parts = team(items, grain);                                                                              \
        if (parts == 1) {                                                                                                  \
            const int part = 0;                                                                                            \
            const ptrdiff_t from = 0, to = (items);                                                                        \
            (void)part;                                                                                                    \
            __VA_ARGS__                                                                                                    \
        } else {                                                                                                           \
            EACH_ON_ITS_THREAD(parts) for (int part = 0; part < parts; part++) {                                           \
                const ptrdiff_t from = begin(items, part, parts, unit), to = begin(items, part + 1, parts, unit);          \
                __VA_ARGS__                                                                                                \
            }                                                                                                              \
        }                                                                                                                  \
    } while (0)

/* Do one thing in either precision: `real` is the type and `table` the kernels. */
#define EITHER(is_double, ...)                                                                                             \
    if (is_double) {                                                                                                       \
        typedef double real;                                                                                               \
        const minidl_table_f64 *const table = &kernels->f64;                                                               \
        __VA_ARGS__                                                                                                        \
    } else {                                                                                                               \
        typedef float real;                                                                                                \
        const minidl_table_f32 *const table = &kernels->f32;                                                               \
        __VA_ARGS__                                                                                                        \
    }

enum { CHEAP = 65536, DEAR = 16384 }; /* elements that are worth a thread: of plain arithmetic, of exponentials */

static ptrdiff_t grain_of(int op) { return op == MINIDL_RELU || op == MINIDL_LEAKY_RELU ? CHEAP : DEAR; }

void minidl_activation(int is_double, int op, const void *x, void *y, ptrdiff_t n, const double settings[2]) {
    EITHER(is_double, {
        const real s[2] = {(real)settings[0], (real)settings[1]};
        IN_PARTS(n, grain_of(op), LINE, table->forward[op]((const real *)x + from, (real *)y + from, to - from, s););
    })
}

void minidl_activation_backward(int is_double, int op, const void *dy, const void *saved, void *dx, ptrdiff_t n,
                                const double settings[2]) {
    const ptrdiff_t grain = op == MINIDL_SIGMOID || op == MINIDL_TANH ? CHEAP : grain_of(op);
    EITHER(is_double, {
        const real s[2] = {(real)settings[0], (real)settings[1]};
        IN_PARTS(n, grain, LINE, table->backward[op]((const real *)dy + from, (const real *)saved + from,
                                                     (real *)dx + from, to - from, s););
    })
}

static ptrdiff_t rows_worth(ptrdiff_t length) { return length > DEAR ? 1 : DEAR / (length > 0 ? length : 1) + 1; }

void minidl_softmax(int is_double, int logarithm, const void *x, void *y, ptrdiff_t rows, ptrdiff_t length) {
    EITHER(is_double, {
        IN_PARTS(rows, rows_worth(length), 1, {
            const real *const in = (const real *)x + from * length;
            real *const out = (real *)y + from * length;
            if (logarithm) table->log_softmax(in, out, to - from, length);
            else table->softmax(in, out, to - from, length);
        });
    })
}

void minidl_softmax_backward(int is_double, int logarithm, const void *dy, const void *y, void *dx, ptrdiff_t rows,
                             ptrdiff_t length) {
    EITHER(is_double, {
        IN_PARTS(rows, rows_worth(length), 1, {
            const real *const upstream = (const real *)dy + from * length;
            const real *const saved = (const real *)y + from * length;
            real *const out = (real *)dx + from * length;
            if (logarithm) table->log_softmax_backward(upstream, saved, out, to - from, length);
            else table->softmax_backward(upstream, saved, out, to - from, length);
        });
    })
}

double minidl_cross_entropy(int is_double, const void *x, const int64_t *target, int64_t ignore_index, void *slope,
                            ptrdiff_t rows, ptrdiff_t classes, ptrdiff_t *counted) {
    double sums[MOST_THREADS] = {0};
    ptrdiff_t counts[MOST_THREADS] = {0};
    EITHER(is_double, {
        IN_PARTS(rows, rows_worth(classes), 1, {
            sums[part] = table->cross_entropy((const real *)x + from * classes, target + from, ignore_index,
                                              (real *)slope + from * classes, to - from, classes, &counts[part]);
        });
    })
    double sum = 0;
    *counted = 0;
    for (int part = 0; part < MOST_THREADS; part++) {
        sum += sums[part];
        *counted += counts[part];
    }
    return sum;
}

double minidl_squared_error(int is_double, const void *prediction, const void *target, void *slope, ptrdiff_t n) {
    double sums[MOST_THREADS] = {0};
    EITHER(is_double, {
        IN_PARTS(n, CHEAP, LINE, {
            sums[part] = table->squared_error((const real *)prediction + from, (const real *)target + from,
                                              (real *)slope + from, to - from);
        });
    })
    double sum = 0;
    for (int part = 0; part < MOST_THREADS; part++) sum += sums[part];
    return sum;
}

void minidl_scale(int is_double, const void *x, double factor, void *y, ptrdiff_t n) {
    EITHER(is_double, {
        IN_PARTS(n, CHEAP, LINE, table->scale((const real *)x + from, factor, (real *)y + from, to - from););
    })
}

void minidl_column_sums(int is_double, const void *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride,
                        int accumulate, void *out) {
    const ptrdiff_t worth = CHEAP / (rows > 0 ? rows : 1) + 1;
    EITHER(is_double, {
        IN_PARTS(columns, worth, LINE, {
            table->column_sums((const real *)x + from, rows, to - from, row_stride, accumulate, (real *)out + from);
        });
    })
}

double minidl_sum_of_squares(int is_double, const void *x, ptrdiff_t n) {
    double sums[MOST_THREADS] = {0};
    EITHER(is_double, { IN_PARTS(n, CHEAP, LINE, sums[part] = table->sum_of_squares((const real *)x + from, to - from);); })
    double sum = 0;
    for (int part = 0; part < MOST_THREADS; part++) sum += sums[part];
    return sum;
}

#define AT(index) (arrays[index] == NULL ? NULL : (real *)arrays[index] + from)

void minidl_update(int is_double, int optimizer, void *const arrays[5], ptrdiff_t n, const minidl_settings *s) {
    EITHER(is_double, {
        IN_PARTS(n, CHEAP, LINE, {
            switch (optimizer) {
            case MINIDL_SGD: table->sgd(AT(0), AT(1), AT(2), to - from, s); break;
            case MINIDL_ADAGRAD: table->adagrad(AT(0), AT(1), AT(2), to - from, s); break;
            case MINIDL_RMSPROP: table->rmsprop(AT(0), AT(1), AT(2), AT(3), AT(4), to - from, s); break;
            case MINIDL_ADAM: table->adam(AT(0), AT(1), AT(2), AT(3), AT(4), to - from, s); break;
            }
        });
    })
}
