/* All kernels in single precision for x86-64 with AVX2 and FMA. */
#define ISA_AVX2 1
#define SINGLE 1
#include "isa/families.inc.h"
