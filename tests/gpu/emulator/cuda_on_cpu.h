/* CUDA C for a C++ compiler: what a kernel may say, in terms of emulator.cpp, which runs it.
 *
 * A block runs by itself, each of its threads on a stack of its own. A thread goes on until it meets a barrier or an exchange
 * within its warp; then another gets its turn. */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __CUDACC_RTC__
#define MINIDL_ON_CPU
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __restrict__ __restrict
/* In a section of its own, so that it can be spoiled before each block. */
#define __shared__ static __attribute__((section("cuda_shared")))

namespace emulated {
struct index3 {
    unsigned x, y, z;
};
struct thread {
    index3 at;
    unsigned number;
};
extern thread *current;
extern index3 block_at, block_size, grid_size;
extern void *dynamic_shared;

void barrier(int line);
/* All lanes of the mask meet; each leaves 8 bytes. Returns what they left, and in `votes` the lanes whose predicate holds. */
const uint64_t *meet(unsigned mask, uint64_t left, bool predicate, unsigned *votes, bool orders_memory, int line);
void complain(const char *what, int line);
void begin_atomic(void *p, size_t bytes);
void end_atomic();

template <class T>
inline T shuffled(unsigned mask, T value, int from, int line) {
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    uint64_t left = 0;
    memcpy(&left, &value, sizeof(T));
    const uint64_t *all = meet(mask, left, false, nullptr, false, line);
    if (!(mask >> from & 1)) {
        complain("a shuffle reads from a lane outside its mask", line);
        return value;
    }
    memcpy(&value, all + from, sizeof(T));
    return value;
}
inline int lane() { return int(current->number & 31); }
template <class T>
inline T shuffle_down(int line, unsigned mask, T value, unsigned by, int width = 32) {
    const int from = lane() + int(by);
    return shuffled(mask, value, from / width == lane() / width ? from : lane(), line);
}
template <class T>
inline T shuffle_up(int line, unsigned mask, T value, unsigned by, int width = 32) {
    const int from = lane() - int(by);
    return shuffled(mask, value, from >= 0 && from / width == lane() / width ? from : lane(), line);
}
template <class T>
inline T shuffle_xor(int line, unsigned mask, T value, int bits, int width = 32) {
    const int from = lane() ^ bits;
    return shuffled(mask, value, from / width <= lane() / width ? from : lane(), line);
}
template <class T>
inline T shuffle_from(int line, unsigned mask, T value, int from, int width = 32) {
    return shuffled(mask, value, lane() / width * width + (from & (width - 1)), line);
}
inline unsigned ballot(int line, unsigned mask, bool predicate) {
    unsigned votes;
    meet(mask, 0, predicate, &votes, false, line);
    return votes;
}
template <class T, class Change>
inline T atomically(T *p, Change change) {
    begin_atomic(p, sizeof(T));
    const T before = *p;
    *p = change(before);
    end_atomic();
    return before;
}
}  // namespace emulated

#define threadIdx (emulated::current->at)
#define blockIdx (emulated::block_at)
#define blockDim (emulated::block_size)
#define gridDim (emulated::grid_size)
#define warpSize 32
#define __syncthreads() emulated::barrier(__LINE__)
#define __syncwarp(...) emulated::meet(emulated::mask_or_all(__VA_ARGS__), 0, false, nullptr, true, __LINE__)
#define __shfl_down_sync(...) emulated::shuffle_down(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) emulated::shuffle_up(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) emulated::shuffle_xor(__LINE__, __VA_ARGS__)
#define __shfl_sync(...) emulated::shuffle_from(__LINE__, __VA_ARGS__)
#define __ballot_sync(mask, predicate) emulated::ballot(__LINE__, mask, predicate)
#define __any_sync(mask, predicate) (emulated::ballot(__LINE__, mask, predicate) != 0)
#define __all_sync(mask, predicate) (emulated::ballot(__LINE__, mask, predicate) == (mask))
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)
namespace emulated {
inline unsigned mask_or_all(unsigned mask = 0xffffffffu) { return mask; }
}  // namespace emulated

template <class T, class V>
inline T atomicAdd(T *p, V value) {
    return emulated::atomically(p, [=](T before) { return T(before + value); });
}
template <class T, class V>
inline T atomicMax(T *p, V value) {
    return emulated::atomically(p, [=](T before) { return before < T(value) ? T(value) : before; });
}
template <class T, class V>
inline T atomicMin(T *p, V value) {
    return emulated::atomically(p, [=](T before) { return T(value) < before ? T(value) : before; });
}
template <class T, class V>
inline T atomicOr(T *p, V value) {
    return emulated::atomically(p, [=](T before) { return T(before | value); });
}
template <class T, class V>
inline T atomicExch(T *p, V value) {
    return emulated::atomically(p, [=](T) { return T(value); });
}
template <class T>
inline T atomicCAS(T *p, T expected, T value) {
    return emulated::atomically(p, [=](T before) { return before == expected ? value : before; });
}

#define __fmaf_rn fmaf
#define __fma_rn fma
static inline double __longlong_as_double(long long bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline float __int_as_float(int bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline int __float_as_int(float x) {
    int bits;
    memcpy(&bits, &x, sizeof x);
    return bits;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
template <class T>
static inline T __ldg(const T *p) {
    return *p;
}
template <class T>
static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
static inline T max(T a, T b) {
    return a < b ? b : a;
}

/* float16: one bit of sign, 5 of exponent, 10 of fraction. */
static inline float half_to_float(unsigned short bits) {
    const float magnitude = __int_as_float((bits & 0x7fff) << 13) * 0x1p112f;
    const bool special = (bits & 0x7c00) == 0x7c00; /* inf or nan */
    const int word = special ? (bits & 0x7fff) << 13 | 0x70000000 | 0x0f800000 : __float_as_int(magnitude);
    return __int_as_float(word | (bits & 0x8000) << 16);
}
static inline unsigned short float_to_half(float x) {
    const unsigned word = unsigned(__float_as_int(x)), sign = word >> 16 & 0x8000, magnitude = word & 0x7fffffff;
    if (magnitude > 0x7f800000) return (unsigned short)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return (unsigned short)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* subnormal: in steps of 2^-24, which adding 1/2 rounds to */
        const float stepped = __int_as_float(int(magnitude)) + 0.5f;
        return (unsigned short)(sign | (unsigned(__float_as_int(stepped)) - 0x3f000000u));
    }
    const unsigned rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (unsigned short)(sign | (rounded - 0x38000000u) >> 13);
}

/* What Python calls: launch_NAME(grid, block, bytes of dynamic shared memory, pointers to the arguments). */
namespace emulated {
template <size_t... I>
struct indices {};
template <size_t N, size_t... I>
struct count : count<N - 1, N - 1, I...> {};
template <size_t... I>
struct count<0, I...> {
    typedef indices<I...> type;
};
template <class T>
struct plain {
    typedef T type;
};
template <class T>
struct plain<const T> {
    typedef T type;
};
template <class... A, size_t... I>
inline void call_with(void (*kernel)(A...), void **arguments, indices<I...>) {
    kernel(*(typename plain<A>::type *)arguments[I]...);
}
template <class... A>
inline void call_kernel(void (*kernel)(A...), void **arguments) {
    call_with(kernel, arguments, typename count<sizeof...(A)>::type());
}
template <class... A>
constexpr int arguments_of(void (*)(A...)) {
    return int(sizeof...(A));
}
template <class... A>
constexpr int bytes_of(void (*)(A...), int which) {
    const int bytes[] = {int(sizeof(A))..., 0};
    return bytes[which];
}
}  // namespace emulated
typedef void (*emulated_entry)(void **arguments);
/* In how small parts shared memory is watched: the smallest number that the kernels of this source keep there. */
#if defined(MINIDL_FLOAT16) || defined(MINIDL_BFLOAT16)
#define EMULATED_GRAIN 2
#else
#define EMULATED_GRAIN 4
#endif
extern "C" int emulated_launch(emulated_entry entry, const unsigned *grid, const unsigned *block, size_t dynamic, void **arguments,
                               int schedule, int grain);
#define EMULATED_KERNEL(name)                                                                                              \
    extern "C" int launch_##name(const unsigned *grid, const unsigned *block, size_t dynamic, void **arguments,            \
                                 int schedule) {                                                                           \
        return emulated_launch([](void **given) { emulated::call_kernel(name, given); }, grid, block, dynamic, arguments,  \
                               schedule, EMULATED_GRAIN);                                                                  \
    }                                                                                                                      \
    extern "C" int arguments_of_##name(void) { return emulated::arguments_of(name); }                                      \
    extern "C" int bytes_of_##name(int which) { return emulated::bytes_of(name, which); }
