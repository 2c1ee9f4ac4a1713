/* The kernels for any processor that the compiler targets by default: on x86-64 that means SSE2, elsewhere one number at a
 * time, or what the compiler makes of it. */
#if defined(__SSE2__) && defined(__GNUC__)
#define MINIDL_SIMD_SSE2
#endif
#define TABLE_NAME minidl_kernels_baseline
#include "isa/kernels_isa.inc.h"
