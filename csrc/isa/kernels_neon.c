/* The kernels for 64-bit ARM. */
#include "isa/kernels.h"

#ifdef MINIDL_NEON_KERNELS
#define MINIDL_SIMD_NEON
#define TABLE_NAME minidl_kernels_neon
#include "isa/kernels_isa.inc.h"
#else
typedef int minidl_no_neon_here;
#endif
