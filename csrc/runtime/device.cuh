/* What every CUDA kernel here is made of: the numbers, the loop over elements, the sums of a team of threads.
 *
 * A .cu file is compiled once for each dtype, which the command line names by MINIDL_FLOAT16, MINIDL_BFLOAT16, MINIDL_FLOAT32 or
 * MINIDL_FLOAT64. In it
 *
 *     stored            a number as memory holds it: 16, 32 or 64 bits
 *     real              a number as it is computed with: float, or double for MINIDL_FLOAT64
 *     widen, narrow     from one to the other; narrow rounds to nearest, ties to even
 *     REAL(name)        name_f32 or name_f64: a formula of vector/formulas.h for `real`
 *     size              an index or a number of elements, 64 bits
 *
 * A block has a multiple of 32 threads, so that every warp is whole. */
#ifndef MINIDL_DEVICE_CUH
#define MINIDL_DEVICE_CUH

#include "vector/formulas.h"

typedef long long size;

#if defined(MINIDL_FLOAT64)
typedef double stored;
typedef double real;
#define REAL(name) name##_f64
MINIDL_INLINE real widen(stored x) { return x; }
MINIDL_INLINE stored narrow(real x) { return x; }
#else
typedef float real;
#define REAL(name) name##_f32
#if defined(MINIDL_FLOAT32)
typedef float stored;
MINIDL_INLINE real widen(stored x) { return x; }
MINIDL_INLINE stored narrow(real x) { return x; }
#elif defined(MINIDL_FLOAT16) || defined(MINIDL_BFLOAT16)
struct stored {
    unsigned short bits;
};
#if defined(MINIDL_BFLOAT16)
/* bfloat16 is the upper half of a float. */
MINIDL_INLINE real widen(stored x) { return from_bits_f32((unsigned int)x.bits << 16); }
MINIDL_INLINE stored narrow(real x) {
    const unsigned int bits = to_bits_f32(x);
    const unsigned int rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    return stored{(unsigned short)(x == x ? rounded >> 16 : (bits >> 16) | 0x40u)};
}
#elif defined(MINIDL_ON_CPU)
MINIDL_INLINE real widen(stored x) { return half_to_float(x.bits); }
MINIDL_INLINE stored narrow(real x) { return stored{float_to_half(x)}; }
#else
MINIDL_INLINE real widen(stored x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
MINIDL_INLINE stored narrow(real x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return stored{bits};
}
#endif
#else
#error "the dtype is not named: MINIDL_FLOAT16, MINIDL_BFLOAT16, MINIDL_FLOAT32 or MINIDL_FLOAT64"
#endif
#endif

/* Elements one by one ------------------------------------------------------------------------------------------------------ */

/* 16 bytes, the most that a thread reads or writes at once. */
enum { PACK = 16 / sizeof(stored) };
struct __align__(16) pack {
    stored at[PACK];
};

MINIDL_INLINE bool aligned(const void *p) { return ((size_t)p & 15) == 0; }

MINIDL_INLINE size thread_of_grid() { return (size)blockIdx.x * blockDim.x + threadIdx.x; }
MINIDL_INLINE size threads_of_grid() { return (size)gridDim.x * blockDim.x; }

/* Which elements are a thread's: every one from `first` on, in steps. */
struct Share {
    size first, step;
};
MINIDL_INLINE Share of_grid() { return Share{thread_of_grid(), threads_of_grid()}; }
MINIDL_INLINE Share of_team() { return Share{(size)threadIdx.x, (size)blockDim.x}; }

/* f(i, x[i]) */
template <class Function>
MINIDL_INLINE void visit(Share share, const stored *x, size n, Function f) {
    const size packs = aligned(x) ? n / PACK : 0;
    for (size i = share.first; i < packs; i += share.step) {
        const pack from = ((const pack *)x)[i];
        MINIDL_UNROLL
        for (int j = 0; j < PACK; j++) f(i * PACK + j, widen(from.at[j]));
    }
    for (size i = packs * PACK + share.first; i < n; i += share.step) f(i, widen(x[i]));
}

/* f(i, a[i], b[i]) */
template <class Function>
MINIDL_INLINE void visit(Share share, const stored *a, const stored *b, size n, Function f) {
    const size packs = aligned(a) && aligned(b) ? n / PACK : 0;
    for (size i = share.first; i < packs; i += share.step) {
        const pack first = ((const pack *)a)[i], second = ((const pack *)b)[i];
        MINIDL_UNROLL
        for (int j = 0; j < PACK; j++) f(i * PACK + j, widen(first.at[j]), widen(second.at[j]));
    }
    for (size i = packs * PACK + share.first; i < n; i += share.step) f(i, widen(a[i]), widen(b[i]));
}

/* y[i] = f(i, x[i]); y may be x */
template <class Function>
MINIDL_INLINE void map(Share share, const stored *x, stored *y, size n, Function f) {
    const size packs = aligned(x) && aligned(y) ? n / PACK : 0;
    for (size i = share.first; i < packs; i += share.step) {
        const pack from = ((const pack *)x)[i];
        pack to;
        MINIDL_UNROLL
        for (int j = 0; j < PACK; j++) to.at[j] = narrow(f(i * PACK + j, widen(from.at[j])));
        ((pack *)y)[i] = to;
    }
    for (size i = packs * PACK + share.first; i < n; i += share.step) y[i] = narrow(f(i, widen(x[i])));
}

/* y[i] = f(i, a[i], b[i]); y may be a or b */
template <class Function>
MINIDL_INLINE void map(Share share, const stored *a, const stored *b, stored *y, size n, Function f) {
    const size packs = aligned(a) && aligned(b) && aligned(y) ? n / PACK : 0;
    for (size i = share.first; i < packs; i += share.step) {
        const pack first = ((const pack *)a)[i], second = ((const pack *)b)[i];
        pack to;
        MINIDL_UNROLL
        for (int j = 0; j < PACK; j++) to.at[j] = narrow(f(i * PACK + j, widen(first.at[j]), widen(second.at[j])));
        ((pack *)y)[i] = to;
    }
    for (size i = packs * PACK + share.first; i < n; i += share.step) y[i] = narrow(f(i, widen(a[i]), widen(b[i])));
}

/* A team of threads ---------------------------------------------------------------------------------------------------------
 *
 * The blockDim.x threads with one threadIdx.y work on one row. Either a team is one warp, with as many teams in a block as
 * blockDim.y says, or it is the whole block, and blockDim.y is 1. combine(a, b) is associative but for rounding; the
 * order is always the same, so the result has the same bits each time. Every thread of the team gets it. */

#define ALL_LANES 0xffffffffu
enum { MOST_WARPS = 32 };

/* The value of the lane whose number differs in one bit; a struct has a function like these beside it. */
MINIDL_INLINE float exchange(float value, int bit) { return __shfl_xor_sync(ALL_LANES, value, bit); }
MINIDL_INLINE double exchange(double value, int bit) { return __shfl_xor_sync(ALL_LANES, value, bit); }

/* Both lanes of a pair combine the same two values in the same order. */
template <class Value, class Combine>
MINIDL_INLINE Value combine_warp(Value value, Combine combine) {
    MINIDL_UNROLL
    for (int bit = 1; bit < 32; bit *= 2) {
        const Value other = exchange(value, bit);
        value = threadIdx.x & bit ? combine(other, value) : combine(value, other);
    }
    return value;
}

/* `scratch` is shared memory for MOST_WARPS values; it may be used again as soon as this returns. */
template <class Value, class Combine>
MINIDL_INLINE Value combine_team(Value value, Value *scratch, Combine combine) {
    value = combine_warp(value, combine);
    if (blockDim.x == 32) return value; /* the team is this warp */
    const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
    if (threadIdx.x % 32 == 0) scratch[warp] = value;
    __syncthreads();
    value = scratch[0];
    for (int other = 1; other < warps; other++) value = combine(value, scratch[other]);
    __syncthreads(); /* all have read before the next use writes */
    return value;
}

struct Add {
    template <class Value>
    __device__ __forceinline__ Value operator()(Value a, Value b) const {
        return a + b;
    }
};

/* The rows of a grid of teams: for (size row = first_row(); row < rows; row += rows_at_once()) */
MINIDL_INLINE size first_row() { return (size)blockIdx.x * blockDim.y + threadIdx.y; }
MINIDL_INLINE size rows_at_once() { return (size)gridDim.x * blockDim.y; }

#endif
