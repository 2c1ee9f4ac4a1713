/* Runs csrc/product/bf16_amx.c on tiles in C: reads products from standard input, writes their results to standard output.
 *
 *     products THREADS TEAMS     so many threads share a product, and so many callers work through the products at once
 *
 * A product is `sizes` below, alpha and beta, then the numbers of A, B, the bias (n, or none) and C; a result is C. Every array
 * ends where a page begins that may not be touched. */
#define _GNU_SOURCE
#include "product/bf16.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/threads.h"

#define real float
#define REAL(name) name##_f32
#define IN_USE &minidl_bf16_amx
#define GEMM product_by_amx
#define GEMM_BATCHED products_by_amx
#define LIMIT limit_of_amx
int GEMM(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row, ptrdiff_t a_col, const float *b,
         ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row, const minidl_epilogue_f32 *epilogue, int threads);
int GEMM_BATCHED(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row,
                 ptrdiff_t a_col, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row,
                 ptrdiff_t a_batch, ptrdiff_t b_batch, ptrdiff_t c_batch, int threads);
double LIMIT(ptrdiff_t steps);
#include "product/gemm_threads.inc.h"

int tiles_are_in_use(void);

/* What the kernel calls of the product of single precision: what follows a product, and empty sums. */
static void add_bias(const minidl_epilogue_f32 *e, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t j, ptrdiff_t n, float *c, ptrdiff_t c_row) {
    (void)i;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t t = 0; t < n; t++) c[r * c_row + t] += e->bias[j + t];
}
static void scale_by_beta(const minidl_product_f32 *x, const minidl_gemm_plan *p, const minidl_epilogue_f32 *e, void *work) {
    (void)p, (void)work;
    for (ptrdiff_t i = 0; i < x->m; i++)
        for (ptrdiff_t j = 0; j < x->n; j++) {
            float *const at = x->c.at + i * x->c.row + j;
            *at = x->beta == 0 ? 0 : x->beta * *at;
        }
    if (e != NULL) add_bias(e, 0, x->m, 0, x->n, x->c.at, x->c.row);
}
const minidl_gemm_f32 minidl_gemm_f32_baseline = {.multiply = scale_by_beta, .finish = add_bias};
const minidl_gemm_f32 minidl_gemm_f32_avx2, minidl_gemm_f32_avx512;
int minidl_isa(void) { return MINIDL_BASELINE; }

typedef struct {
    struct {
        int64_t m, n, k, a_row, a_col, b_row, b_col, c_row, a_size, b_size, bias_size, c_size;
        double alpha, beta;
    } is;
    float *a, *b, *bias, *c;
} case_read;

static void stop(const char *what) {
    fprintf(stderr, "products: %s\n", what);
    exit(2);
}

static float *read_numbers(int64_t count) {
    const size_t page = 4096, bytes = (size_t)count * sizeof(float), pages = (bytes + page - 1) / page * page;
    char *const memory = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + pages, page, PROT_NONE) != 0) stop("no memory");
    float *const numbers = (float *)(memory + pages - bytes);
    if (fread(numbers, sizeof(float), (size_t)count, stdin) != (size_t)count) stop("the products end too early");
    return numbers;
}

static case_read *cases;
static size_t cases_read;
static int threads, teams;

static void *work_through(void *which) {
    for (size_t i = (size_t)(intptr_t)which; i < cases_read; i += (size_t)teams) {
        const case_read *const x = &cases[i];
        const minidl_epilogue_f32 after = {.bias = x->bias};
        if (product_by_amx(x->is.m, x->is.n, x->is.k, (float)x->is.alpha, x->a, x->is.a_row, x->is.a_col, x->b, x->is.b_row,
                           x->is.b_col, (float)x->is.beta, x->c, x->is.c_row, x->is.bias_size ? &after : NULL, threads) != 0)
            stop("a product failed");
        if (tiles_are_in_use()) stop("tiles are left in use");
    }
    return NULL;
}

int main(int count, char **words) {
    if (count != 3) return 2;
    threads = atoi(words[1]), teams = atoi(words[2]);
    minidl_set_threads(threads);
    for (case_read x; fread(&x.is, sizeof x.is, 1, stdin) == 1; cases_read++) {
        x.a = read_numbers(x.is.a_size), x.b = read_numbers(x.is.b_size);
        x.bias = read_numbers(x.is.bias_size), x.c = read_numbers(x.is.c_size);
        cases = realloc(cases, (cases_read + 1) * sizeof *cases);
        if (cases == NULL) stop("no memory");
        cases[cases_read] = x;
    }
    if (limit_of_amx(1) != 4.0 * 2 * 16 * 16 * 32 || tiles_are_in_use()) stop("the limit is not what it should be");
    pthread_t callers[16];
    if (teams < 1 || teams > 16) return 2;
    for (int i = 1; i < teams; i++)
        if (pthread_create(&callers[i], NULL, work_through, (void *)(intptr_t)i) != 0) stop("no threads");
    work_through(NULL);
    for (int i = 1; i < teams; i++) pthread_join(callers[i], NULL);
    for (size_t i = 0; i < cases_read; i++) fwrite(cases[i].c, sizeof(float), (size_t)cases[i].is.c_size, stdout);
    return 0;
}
