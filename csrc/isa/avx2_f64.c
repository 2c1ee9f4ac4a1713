/* All kernels in double precision for x86-64 with AVX2 and FMA. */
#define ISA_AVX2 1
#define SINGLE 0
#include "isa/families.inc.h"
