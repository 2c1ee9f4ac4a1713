/* minidl_dgemm, minidl_dgemm_batched and minidl_dgemm_limit. */
#define real double
#define REAL(name) name##_f64
#define IN_USE minidl_gemm_f64_in_use()
#define GEMM minidl_dgemm
#define GEMM_BATCHED minidl_dgemm_batched
#define LIMIT minidl_dgemm_limit
#include "product/gemm_threads.inc.h"
