# What native.pyx calls: the C functions of this folder, and NumPy's where Cython's own declarations stop.

cdef extern from "product/gemm.h" nogil:
    ctypedef struct minidl_sgemm_epilogue:
        const float *bias
        float *pre_activation
        ptrdiff_t pre_activation_row
        void (*activation)(const float *, float *, ptrdiff_t, const void *)
        const void *arguments
    ctypedef struct minidl_dgemm_epilogue:
        const double *bias
        double *pre_activation
        ptrdiff_t pre_activation_row
        void (*activation)(const double *, double *, ptrdiff_t, const void *)
        const void *arguments
    int minidl_sgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                     const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row,
                     const minidl_sgemm_epilogue *epilogue, int threads)
    int minidl_dgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a, ptrdiff_t a_row,
                     ptrdiff_t a_col, const double *b, ptrdiff_t b_row, ptrdiff_t b_col, double beta, double *c,
                     ptrdiff_t c_row, const minidl_dgemm_epilogue *epilogue, int threads)
    int minidl_sgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a,
                             ptrdiff_t a_row, ptrdiff_t a_col, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                             float beta, float *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,
                             ptrdiff_t c_batch, int threads)
    int minidl_dgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a,
                             ptrdiff_t a_row, ptrdiff_t a_col, const double *b, ptrdiff_t b_row, ptrdiff_t b_col,
                             double beta, double *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,
                             ptrdiff_t c_batch, int threads)
    const char *minidl_gemm_isa()

cdef extern from "isa/kernels.h" nogil:
    enum:
        MINIDL_RELU, MINIDL_LEAKY_RELU, MINIDL_SIGMOID, MINIDL_TANH, MINIDL_SOFTPLUS, MINIDL_ELU, MINIDL_GELU
        MINIDL_GELU_TANH, MINIDL_SILU, MINIDL_RELU6, MINIDL_EXP, MINIDL_LOG, MINIDL_ERF, MINIDL_DROPOUT, MINIDL_ACTIVATIONS
        MINIDL_SQUARED_ERROR, MINIDL_ABSOLUTE_ERROR, MINIDL_HUBER, MINIDL_BINARY_CROSS_ENTROPY
    ctypedef struct minidl_settings:
        double lr, momentum, dampening, weight_decay, alpha, eps, beta1, beta2, lr_decay, grad_scale
        int64_t step
        int nesterov, first_step, decoupled
    ctypedef struct minidl_targets:
        const int64_t *labels
        int64_t ignore_index
        const void *weight
        double smoothing
    ctypedef struct minidl_table_f32:
        void (*forward[MINIDL_ACTIVATIONS])(const float *, float *, ptrdiff_t, const void *)
    ctypedef struct minidl_table_f64:
        void (*forward[MINIDL_ACTIVATIONS])(const double *, double *, ptrdiff_t, const void *)
    ctypedef struct minidl_kernels:
        minidl_table_f32 f32
        minidl_table_f64 f64
    const char *minidl_kernels_isa()

cdef extern from "runtime/pcg64.h" nogil:
    ctypedef struct minidl_pcg64:
        uint64_t state[2]
        uint64_t increment[2]
        uint32_t half
        int waiting
    bint minidl_pcg64_known()
    void minidl_pcg64_skip(minidl_pcg64 *random, uint64_t n)

cdef extern from "runtime/parallel.h" nogil:
    enum:
        MINIDL_SGD, MINIDL_ADAGRAD, MINIDL_RMSPROP, MINIDL_ADAM
    int minidl_start()
    void minidl_set_threads(int threads)
    int minidl_get_threads()
    int minidl_has_threads()
    const minidl_kernels *minidl_kernels_in_use()
    void minidl_activation(int is_double, int op, const void *x, void *y, ptrdiff_t n, const double *settings)
    void minidl_activation_backward(int is_double, int op, const void *dy, const void *saved, void *dx, ptrdiff_t n,
                                    const double *settings)
    void minidl_softmax(int is_double, int logarithm, const void *x, void *y, ptrdiff_t rows, ptrdiff_t length)
    void minidl_softmax_backward(int is_double, int logarithm, const void *dy, const void *y, void *dx, ptrdiff_t rows,
                                 ptrdiff_t length)
    double minidl_cross_entropy(int is_double, const void *x, const minidl_targets *targets, void *slope, void *each,
                                ptrdiff_t rows, ptrdiff_t classes, double *divisor)
    double minidl_loss(int is_double, int op, const void *prediction, const void *target, void *slope, void *each,
                       ptrdiff_t n, double delta)
    void minidl_dropout(int is_double, const void *x, const minidl_pcg64 *random, const float *uniform, const void *mask,
                        double p, void *scale, void *y, ptrdiff_t n)
    void minidl_scale(int is_double, const void *x, double factor, void *y, ptrdiff_t n)
    void minidl_column_sums(int is_double, const void *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride,
                            int accumulate, void *out)
    void minidl_channel_sums(int is_double, const void *x, ptrdiff_t images, ptrdiff_t channels, ptrdiff_t positions,
                             int accumulate, void *out)
    bint minidl_finite(int is_double, const void *x, ptrdiff_t n)
    double minidl_sum_of_squares(int is_double, const void *x, ptrdiff_t n)
    void minidl_update(int is_double, int optimizer, void *const *arrays, ptrdiff_t n, const minidl_settings *settings)

cdef extern from "runtime/memory.h" nogil:
    enum:
        MINIDL_POOL_SMALLEST
    void *minidl_pool_malloc(void *context, size_t size)
    void *minidl_pool_calloc(void *context, size_t count, size_t size)
    void *minidl_pool_realloc(void *context, void *block, size_t size)
    void minidl_pool_free(void *context, void *block, size_t size)
    size_t minidl_pool_waiting()
    size_t minidl_pool_from_system()
    void minidl_pool_set_limit(size_t limit)

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *, size_t)
        void *(*calloc)(void *, size_t, size_t)
        void *(*realloc)(void *, void *, size_t)
        void (*free)(void *, void *, size_t)
    ctypedef struct PyDataMem_Handler:
        char name[127]
        cnp.uint8_t version
        PyDataMemAllocator allocator
    object PyDataMem_SetHandler(object handler)
    int PyArray_ISBEHAVED_RO(cnp.ndarray)
    int PyArray_ISBEHAVED(cnp.ndarray)
    cnp.ndarray PyArray_GETCONTIGUOUS(cnp.ndarray)
    object PyArray_EMPTY(int nd, cnp.npy_intp *dims, int typenum, int fortran)

cdef extern from *:
    """
    #include <numpy/arrayscalars.h>

    /* numpy.float32(value) and numpy.float64(value), without a call through Python. */
    static PyObject *minidl_scalar_f32(float value) {
        PyObject *const scalar = PyArrayScalar_New(Float);
        if (scalar != NULL) PyArrayScalar_ASSIGN(scalar, Float, value);
        return scalar;
    }
    static PyObject *minidl_scalar_f64(double value) {
        PyObject *const scalar = PyArrayScalar_New(Double);
        if (scalar != NULL) PyArrayScalar_ASSIGN(scalar, Double, value);
        return scalar;
    }
    """
    object minidl_scalar_f32(float value)
    object minidl_scalar_f64(double value)
