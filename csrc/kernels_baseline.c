/* The kernels for any processor that the compiler targets by default (SSE2 on x86-64, NEON on aarch64). */
#define TABLE_NAME minidl_kernels_baseline
#include "kernels_isa.inc.h"
