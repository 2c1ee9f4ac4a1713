/* All kernels in single precision for x86-64 with AVX-512 (F, DQ, BW, VL). */
#define ISA_AVX512 1
#define SINGLE 1
#include "isa/families.inc.h"
