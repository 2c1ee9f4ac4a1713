/* minidl_bgemm, minidl_bgemm_batched and minidl_bgemm_limit. */
#include "product/bf16.h"

#define real float
#define REAL(name) name##_f32
#define IN_USE minidl_bf16_in_use()
#define GEMM minidl_bgemm
#define GEMM_BATCHED minidl_bgemm_batched
#define LIMIT minidl_bgemm_limit
#include "product/gemm_threads.inc.h"
