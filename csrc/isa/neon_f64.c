/* All kernels in double precision for 64-bit ARM, where every processor has Advanced SIMD. */
#define ISA_NEON 1
#define SINGLE 0
#include "isa/families.inc.h"
