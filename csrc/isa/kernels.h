/* The kernels other than matrix products: activations, softmax, losses, optimiser updates, for each precision, with the
 * instruction set chosen at run time. All arrays are contiguous; outputs may be the inputs. */
#ifndef MINIDL_KERNELS_H
#define MINIDL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* The activations, in the order of the tables; after them functions that have no backward here, and a backward alone. */
enum {
    MINIDL_RELU, MINIDL_LEAKY_RELU, MINIDL_SIGMOID, MINIDL_TANH, MINIDL_SOFTPLUS, MINIDL_ELU, MINIDL_GELU, MINIDL_GELU_TANH,
    MINIDL_SILU, MINIDL_RELU6, MINIDL_ACTIVATIONS,
    MINIDL_EXP = MINIDL_ACTIVATIONS, MINIDL_LOG, MINIDL_ERF, MINIDL_FUNCTIONS,
    MINIDL_DROPOUT = MINIDL_ACTIVATIONS, MINIDL_BACKWARDS
};

/* An optimiser's settings; each update reads those that it has. */
typedef struct {
    double lr, momentum, dampening, weight_decay, alpha, eps, beta1, beta2, lr_decay, grad_scale;
    int64_t step;
    int nesterov, first_step, decoupled;
} minidl_settings;

/* Losses of one element at a time. */
enum { MINIDL_SQUARED_ERROR, MINIDL_ABSOLUTE_ERROR, MINIDL_HUBER, MINIDL_BINARY_CROSS_ENTROPY, MINIDL_LOSSES };

/* What cross-entropy needs besides the logits; `weight` has the precision of the logits, or is NULL. */
typedef struct {
    const int64_t *labels;
    int64_t ignore_index;
    const void *weight;
    double smoothing;
} minidl_targets;

/* Poolings: along an axis, pixels and windows. Adaptive ones read only the numbers of both. */
typedef struct {
    ptrdiff_t size, outputs, kernel, stride, padding, dilation;
} minidl_pool_axis;
typedef struct {
    minidl_pool_axis rows, columns;
    int padding_counts; /* in the area that a mean divides by */
} minidl_pool;
enum {
    MINIDL_MAX_POOL, MINIDL_AVG_POOL, MINIDL_ADAPTIVE_POOL, MINIDL_MAX_POOL_BACKWARD, MINIDL_AVG_POOL_BACKWARD,
    MINIDL_ADAPTIVE_POOL_BACKWARD, MINIDL_POOLS
};

/* An axis that is padded: so many numbers before and after, each a copy of number from[i] of x, or a constant where that is NULL. */
typedef struct {
    ptrdiff_t size, before, after;
    const int32_t *from;
} minidl_padded;
typedef struct {
    minidl_padded rows, columns;
    double value;
} minidl_padding;

/* An axis that is resampled: pixel i of y is pixel left[i] of x, or lies part[i] of the way from there to right[i]. `part`, in the
 * precision of the kernel, is NULL where pixels are repeated. */
typedef struct {
    ptrdiff_t before, after;
    const int32_t *left, *right;
    const void *part;
} minidl_resampled;
typedef struct {
    minidl_resampled rows, columns;
    int linear; /* along the columns */
} minidl_resampling;

/* How many numbers were seen, their mean, and the sum of the squared differences from it. */
typedef struct {
    double count, mean, squares;
} minidl_moments;

/* A normalisation of x, of shape (images, channels, positions), or of rows of `positions` numbers. `y` is dx in the backward. What
 * is not there is NULL. */
enum { MINIDL_FEW_POSITIONS = 64 }; /* below, batch normalisation goes along the channels */
typedef struct {
    const void *x, *dy, *weight, *bias;
    void *y, *mean, *variance, *dweight, *dbias;
    void *inverse; /* 1 / sqrt(variance + eps) of each row or group */
    double *sums;  /* of dy and of dy x_hat, for each channel of each image */
    ptrdiff_t images, channels, positions, groups;
    double eps;
    int own_statistics; /* whether mean and variance are those of x; of rows, whether there is a mean */
} minidl_norm;

#define MINIDL_TABLE(real)                                                                                                  \
    struct {                                                                                                               \
        /* y = f(x); settings are the activation's, two numbers */                                                         \
        void (*forward[MINIDL_FUNCTIONS])(const real *x, real *y, ptrdiff_t n, const void *settings);                      \
        /* dx = dy f'(saved), saved being what the formula's cache holds: y or x */                                        \
        void (*backward[MINIDL_BACKWARDS])(const real *dy, const real *saved, real *dx, ptrdiff_t n,                       \
                                             const void *settings);                                                        \
        /* rows of `length`, each to probabilities, or to their logarithms */                                              \
        void (*softmax)(const real *x, real *y, ptrdiff_t rows, ptrdiff_t length);                                         \
        void (*log_softmax)(const real *x, real *y, ptrdiff_t rows, ptrdiff_t length);                                     \
        void (*softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length);               \
        void (*log_softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length);           \
        double (*cross_entropy)(const real *x, const minidl_targets *targets, ptrdiff_t first, real *slope, real *each,    \
                                ptrdiff_t rows, ptrdiff_t classes, double *divisor);                                       \
        double (*losses[MINIDL_LOSSES])(const real *prediction, const real *target, real *slope, real *each, ptrdiff_t n,  \
                                        double delta);                                                                     \
        void (*dropout)(const real *x, const float *uniform, const unsigned char *mask, float p, double factor,            \
                        real *scale, real *y, ptrdiff_t n);                                                                \
        void (*scale)(const real *x, double factor, real *y, ptrdiff_t n);                                                 \
        /* out[j] = (accumulate ? out[j] : 0) + sum over rows of x[i, j] */                                                \
        void (*column_sums)(const real *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride, int accumulate,        \
                            real *out);                                                                                    \
        double (*sum_of_squares)(const real *x, ptrdiff_t n);                                                              \
        double (*sum_of_all)(const real *x, ptrdiff_t n);                                                                  \
        /* of channels [from, to) */                                                                                       \
        void (*batch_norm)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to);                                            \
        void (*batch_norm_backward)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to);                                   \
        /* of rows, or of groups of channels, [from, to) */                                                                \
        void (*norm_rows)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to);                                             \
        void (*norm_rows_backward)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to, void *scratch);                     \
        void (*group_norm)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to);                                            \
        void (*group_norm_backward)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to);                                   \
        /* image after image; `won` holds, or takes, the number of the kernel position with the maximum */                   \
        void (*pool[MINIDL_POOLS])(const real *from, unsigned char *won, real *to, ptrdiff_t images,                       \
                                   const minidl_pool *windows);                                                            \
        void (*pad[2])(const real *from, real *to, ptrdiff_t images, const minidl_padding *s);                             \
        void (*upsample[2])(const real *from, real *to, ptrdiff_t images, const minidl_resampling *s, real *work);         \
        void (*sgd)(real *value, const real *grad, real *buffer, ptrdiff_t n, const minidl_settings *s);                   \
        void (*adagrad)(real *value, const real *grad, real *square_sum, ptrdiff_t n, const minidl_settings *s);           \
        void (*rmsprop)(real *value, const real *grad, real *square_average, real *grad_average, real *buffer,             \
                        ptrdiff_t n, const minidl_settings *s);                                                            \
        void (*adam)(real *value, const real *grad, real *m, real *v, real *v_max, ptrdiff_t n,                            \
                     const minidl_settings *s);                                                                            \
    }

typedef MINIDL_TABLE(float) minidl_table_f32;
typedef MINIDL_TABLE(double) minidl_table_f64;

typedef struct {
    minidl_table_f32 f32;
    minidl_table_f64 f64;
} minidl_kernels;

extern const minidl_kernels minidl_kernels_baseline;
#if defined(__x86_64__) && defined(__GNUC__) /* clang says so too */
#define MINIDL_X86_KERNELS 1
extern const minidl_kernels minidl_kernels_avx2;
extern const minidl_kernels minidl_kernels_avx512;
#endif
#if defined(__aarch64__) && defined(__GNUC__) /* clang says so too */
#define MINIDL_NEON_KERNELS 1
extern const minidl_kernels minidl_kernels_neon;
#endif

/* The table for this machine, or for MINIDL_ISA (baseline, avx2, avx512, neon). NULL if that names one that cannot run here. */
const minidl_kernels *minidl_kernels_chosen(void);
const char *minidl_kernels_isa(void);

#endif
