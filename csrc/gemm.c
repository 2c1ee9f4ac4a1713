/* Matrix products: the interface of gemm.h. The loops are in gemm_driver.inc.h, once for each precision. */
#include "gemm.h"

#include <string.h>

const char *minidl_gemm_isa(void)
{
    return "baseline";
}

#define real float
#define sgemm_minidl_ minidl_sgemm
#define sgemm_minidl_batched_ minidl_sgemm_batched
#define sgemm_epilogue minidl_sgemm_epilogue
#define NAME(x) sgemm_##x
#include "gemm_driver.inc.h"
#undef real
#undef NAME

#define real double
#define dgemm_minidl_ minidl_dgemm
#define dgemm_minidl_batched_ minidl_dgemm_batched
#define dgemm_epilogue minidl_dgemm_epilogue
#define NAME(x) dgemm_##x
#include "gemm_driver.inc.h"
