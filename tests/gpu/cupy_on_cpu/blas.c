/* The products of cuBLAS in plain loops, column by column as in Fortran, added in double. Its own checks of arguments are kept. */
#include <stdint.h>
#include <string.h>

typedef long long wide;
typedef _Float16 half;
typedef void *handle;

enum { REAL32 = 0, REAL64 = 1, REAL16 = 2 };          /* cudaDataType */
enum { COMPUTE16 = 64, COMPUTE64 = 70, PEDANTIC64 = 71 }; /* cublasComputeType */
enum { OK = 0, INVALID = 7 };

static double read_at(const void *p, wide i, int type) {
    if (type == REAL32) return ((const float *)p)[i];
    if (type == REAL64) return ((const double *)p)[i];
    if (type == REAL16) return (float)((const half *)p)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16; /* bfloat16 */
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static void write_at(void *p, wide i, int type, double value) {
    if (type == REAL32) {
        ((float *)p)[i] = (float)value;
    } else if (type == REAL64) {
        ((double *)p)[i] = value;
    } else if (type == REAL16) {
        ((half *)p)[i] = (half)(float)value;
    } else {
        float x = (float)value;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        ((uint16_t *)p)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}
static int bytes_of(int type) { return type == REAL64 ? 8 : type == REAL32 ? 4 : 2; }
static double scalar(const void *p, int compute) {
    if (compute == COMPUTE64 || compute == PEDANTIC64) return *(const double *)p;
    return compute == COMPUTE16 || compute == COMPUTE16 + 1 ? (double)(float)*(const half *)p : *(const float *)p;
}

/* C = alpha op(A) op(B) + beta C, with op(A) of shape (m, k); what beta = 0 multiplies is not read. */
static int product(int ta, int tb, int m, int n, int k, double alpha, const void *a, int at, int lda, const void *b, int bt, int ldb,
                   double beta, void *c, int ct, int ldc) {
    if (m < 0 || n < 0 || k < 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return INVALID;
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            double sum = 0;
            for (int l = 0; l < k; l++)
                sum += read_at(a, ta ? (wide)i * lda + l : (wide)l * lda + i, at) *
                       read_at(b, tb ? (wide)l * ldb + j : (wide)j * ldb + l, bt);
            const wide place = (wide)j * ldc + i;
            write_at(c, place, ct, alpha * sum + (beta != 0 ? beta * read_at(c, place, ct) : 0));
        }
    return OK;
}

static int pointer_mode, math_mode;
int cublasCreate_v2(void **p) { return *p = (void *)0x1234, OK; }
int cublasDestroy_v2(handle h) { return OK; }
int cublasSetStream_v2(handle h, void *stream) { return OK; }
int cublasGetStream_v2(handle h, void **stream) { return *stream = 0, OK; }
int cublasSetPointerMode_v2(handle h, int mode) { return pointer_mode = mode, OK; }
int cublasGetPointerMode_v2(handle h, int *mode) { return *mode = pointer_mode, OK; }
int cublasSetMathMode(handle h, int mode) { return math_mode = mode, OK; }
int cublasGetMathMode(handle h, int *mode) { return *mode = math_mode, OK; }
int cublasGetVersion_v2(handle h, int *version) { return *version = 130500, OK; }

#define FOR(LETTER, T, TYPE)                                                                                                \
    int cublas##LETTER##gemm_v2(handle h, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda,         \
                                const T *b, int ldb, const T *beta, T *c, int ldc) {                                        \
        return product(ta, tb, m, n, k, *alpha, a, TYPE, lda, b, TYPE, ldb, *beta, c, TYPE, ldc);                           \
    }                                                                                                                       \
    int cublas##LETTER##gemmStridedBatched(handle h, int ta, int tb, int m, int n, int k, const T *alpha, const T *a,       \
                                           int lda, wide sa, const T *b, int ldb, wide sb, const T *beta, T *c, int ldc,    \
                                           wide sc, int count) {                                                            \
        for (int i = 0, failed; i < count; i++)                                                                             \
            if ((failed = product(ta, tb, m, n, k, *alpha, a + i * sa, TYPE, lda, b + i * sb, TYPE, ldb, *beta, c + i * sc, \
                                  TYPE, ldc)))                                                                              \
                return failed;                                                                                              \
        return OK;                                                                                                          \
    }                                                                                                                       \
    int cublas##LETTER##gemmBatched(handle h, int ta, int tb, int m, int n, int k, const T *alpha, const T **a, int lda,    \
                                    const T **b, int ldb, const T *beta, T **c, int ldc, int count) {                       \
        for (int i = 0, failed; i < count; i++)                                                                             \
            if ((failed = product(ta, tb, m, n, k, *alpha, a[i], TYPE, lda, b[i], TYPE, ldb, *beta, c[i], TYPE, ldc)))      \
                return failed;                                                                                              \
        return OK;                                                                                                          \
    }                                                                                                                       \
    int cublas##LETTER##gemv_v2(handle h, int ta, int m, int n, const T *alpha, const T *a, int lda, const T *x, int dx,    \
                                const T *beta, T *y, int dy) {                                                              \
        for (int i = 0; i < (ta ? n : m); i++) {                                                                            \
            double sum = 0;                                                                                                 \
            for (int l = 0; l < (ta ? m : n); l++)                                                                          \
                sum += (double)a[ta ? (wide)i * lda + l : (wide)l * lda + i] * x[(wide)l * dx];                             \
            y[(wide)i * dy] = (T)(*alpha * sum + (*beta != 0 ? *beta * y[(wide)i * dy] : 0));                               \
        }                                                                                                                   \
        return OK;                                                                                                          \
    }                                                                                                                       \
    int cublas##LETTER##dot_v2(handle h, int n, const T *x, int dx, const T *y, int dy, T *result) {                        \
        double sum = 0;                                                                                                     \
        for (int i = 0; i < n; i++) sum += (double)x[(wide)i * dx] * y[(wide)i * dy];                                       \
        return *result = (T)sum, OK;                                                                                        \
    }
FOR(S, float, REAL32)
FOR(D, double, REAL64)

int cublasGemmEx(handle h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, const void *b,
                 int bt, int ldb, const void *beta, void *c, int ct, int ldc, int compute, int algorithm) {
    return product(ta, tb, m, n, k, scalar(alpha, compute), a, at, lda, b, bt, ldb, scalar(beta, compute), c, ct, ldc);
}
int cublasSgemmEx(handle h, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int at, int lda,
                  const void *b, int bt, int ldb, const float *beta, void *c, int ct, int ldc) {
    return product(ta, tb, m, n, k, *alpha, a, at, lda, b, bt, ldb, *beta, c, ct, ldc);
}
int cublasGemmStridedBatchedEx(handle h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda,
                               wide sa, const void *b, int bt, int ldb, wide sb, const void *beta, void *c, int ct, int ldc,
                               wide sc, int count, int compute, int algorithm) {
    for (wide i = 0; i < count; i++) {
        const int failed = product(ta, tb, m, n, k, scalar(alpha, compute), (const char *)a + i * sa * bytes_of(at), at, lda,
                                   (const char *)b + i * sb * bytes_of(bt), bt, ldb, scalar(beta, compute),
                                   (char *)c + i * sc * bytes_of(ct), ct, ldc);
        if (failed) return failed;
    }
    return OK;
}
