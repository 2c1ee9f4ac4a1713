/* Loops over 16-bit numbers, for one instruction set: plain integer arithmetic, which compilers turn into its vectors. */
#if SINGLE
#include "product/halves.h"

static void round_to_bf16(const float *x, float *y, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits = minidl_bf16_bits(bits);
        memcpy(y + i, &bits, sizeof bits);
    }
}

const minidl_halves_f32 VARIANT(minidl_halves_f32) = {.round = round_to_bf16};
#endif
