/* minidl_sgemm, minidl_sgemm_batched and minidl_sgemm_limit. */
#define real float
#define REAL(name) name##_f32
#define IN_USE minidl_gemm_f32_in_use()
#define GEMM minidl_sgemm
#define GEMM_BATCHED minidl_sgemm_batched
#define LIMIT minidl_sgemm_limit
#include "product/gemm_threads.inc.h"
