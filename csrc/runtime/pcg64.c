/* The linear congruential generator s <- a s + c modulo 2^128 behind PCG64, several steps side by side: one step after another
 * waits for the multiplication before it. */
#include "runtime/pcg64.h"

#ifdef __SIZEOF_INT128__

__extension__ typedef unsigned __int128 wide;

enum { LANES = 3 };

static wide joined(const uint64_t halves[2]) { return (wide)halves[0] << 64 | halves[1]; }

static wide factor(void) { return (wide)UINT64_C(2549297995355413924) << 64 | UINT64_C(4865540595714422341); }

/* s after n steps is times s + plus. The two by repeated squaring: F. Brown, "Random number generation with arbitrary strides",
 * Transactions of the American Nuclear Society 71 (1994). */
typedef struct {
    wide times, plus;
} leap;

static leap steps(uint64_t n, wide increment) {
    leap all = {1, 0}, power = {factor(), increment};
    for (; n > 0; n >>= 1) {
        if (n & 1) all = (leap){all.times * power.times, all.plus * power.times + power.plus};
        power = (leap){power.times * power.times, power.plus * power.times + power.plus};
    }
    return all;
}

/* "XSL-RR": both halves exclusively or-ed, then turned by the six highest bits. */
static uint64_t word(wide s) {
    const uint64_t mixed = (uint64_t)(s >> 64) ^ (uint64_t)s;
    const unsigned turn = (unsigned)(s >> 122);
    return mixed >> turn | mixed << (-turn & 63);
}

static float unit(uint32_t bits) { return (float)(int32_t)(bits >> 8) * 0x1p-24f; }

static void settle(minidl_pcg64 *random, wide state) {
    random->state[0] = (uint64_t)(state >> 64), random->state[1] = (uint64_t)state;
    random->half = (uint32_t)(word(state) >> 32);
}

int minidl_pcg64_known(void) { return 1; }

void minidl_pcg64_skip(minidl_pcg64 *random, uint64_t n) {
    if (n == 0) return;
    if (random->waiting) n--, random->waiting = 0;
    const uint64_t words = n / 2 + n % 2;
    if (words == 0) return;
    const leap leap = steps(words, joined(random->increment));
    settle(random, leap.times * joined(random->state) + leap.plus);
    random->waiting = (int)(n % 2);
}

void minidl_pcg64_uniform(minidl_pcg64 *random, ptrdiff_t n, float *to) {
    if (n > 0 && random->waiting) {
        *to++ = unit(random->half);
        n--, random->waiting = 0;
    }
    if (n <= 0) return;
    const wide increment = joined(random->increment);
    const leap far = steps(LANES, increment);
    wide last = joined(random->state), lanes[LANES];
    ptrdiff_t i = 0;
    if (n >= 2 * LANES) {
        for (int lane = 0; lane < LANES; lane++) lanes[lane] = last = last * factor() + increment;
        for (;; i += 2 * LANES) {
            for (int lane = 0; lane < LANES; lane++) {
                const uint64_t bits = word(lanes[lane]);
                to[i + 2 * lane] = unit((uint32_t)bits);
                to[i + 2 * lane + 1] = unit((uint32_t)(bits >> 32));
            }
            if (i + 4 * LANES > n) break;
            for (int lane = 0; lane < LANES; lane++) lanes[lane] = lanes[lane] * far.times + far.plus;
        }
        last = lanes[LANES - 1];
        i += 2 * LANES;
    }
    for (; i < n; i += 2) {
        last = last * factor() + increment;
        to[i] = unit((uint32_t)word(last));
        if (i + 1 < n) to[i + 1] = unit((uint32_t)(word(last) >> 32));
        else random->waiting = 1;
    }
    settle(random, last);
}

#else

int minidl_pcg64_known(void) { return 0; }
void minidl_pcg64_skip(minidl_pcg64 *random, uint64_t n) { (void)random, (void)n; }
void minidl_pcg64_uniform(minidl_pcg64 *random, ptrdiff_t n, float *to) { (void)random, (void)n, (void)to; }

#endif
