/* All kernels in double precision for any processor that the compiler targets by default. */
#define ISA_BASELINE 1
#define SINGLE 0
#include "isa/families.inc.h"
