/* Both precisions for one instruction set; VECTOR_BYTES, MR, NV, the FMADDs and VARIANT are defined by the including file. */
#include "gemm_core.h"
#include "memory.h"

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define real float
#define ELEMENT_BYTES 4
#define NAME(x) x##_f32
#define EPILOGUE minidl_sgemm_epilogue
#define FMADD FMADD_F32
#include "gemm_core.inc.h"
#undef real
#undef ELEMENT_BYTES
#undef NAME
#undef EPILOGUE
#undef FMADD

#define real double
#define ELEMENT_BYTES 8
#define NAME(x) x##_f64
#define EPILOGUE minidl_dgemm_epilogue
#define FMADD FMADD_F64
#include "gemm_core.inc.h"

const minidl_gemm_variant VARIANT = {.sgemm = gemm_f32, .dgemm = gemm_f64};
