/* All kernels in single precision for 64-bit ARM, where every processor has Advanced SIMD. */
#define ISA_NEON 1
#define SINGLE 1
#include "isa/families.inc.h"
