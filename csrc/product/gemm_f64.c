/* minidl_dgemm, minidl_dgemm_batched and minidl_dgemm_limit. */
#define real double
#define PRODUCT minidl_product_f64
#define EPILOGUE minidl_dgemm_epilogue
#define VARIANT_TYPE minidl_gemm_f64
#define IN_USE minidl_gemm_f64_in_use
#define GEMM minidl_dgemm
#define GEMM_BATCHED minidl_dgemm_batched
#define LIMIT minidl_dgemm_limit
#include "product/gemm_threads.inc.h"
