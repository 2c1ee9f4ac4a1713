/* All kernels in single precision for any processor that the compiler targets by default. */
#define ISA_BASELINE 1
#define SINGLE 1
#include "isa/families.inc.h"
