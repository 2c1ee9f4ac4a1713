/* What the code that CuPy generates takes for granted of CUDA, beyond ../emulator/cuda_on_cpu.h. */
#pragma once
#include <algorithm>
#include <cassert>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <type_traits>
#include "cuda_on_cpu.h"

#define __CUDACC_VER_MAJOR__ 13
#define __CUDA_ARCH__ 800
typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned char uchar;

using std::abs; using std::cbrt; using std::ceil; using std::copysign; using std::cos; using std::erf; using std::erfc; using std::exp;
using std::exp2; using std::expm1; using std::floor; using std::fma; using std::fmax; using std::fmin; using std::fmod;
using std::hypot; using std::isfinite; using std::isinf; using std::isnan; using std::lgamma; using std::log; using std::log10;
using std::log1p; using std::log2; using std::nextafter; using std::pow; using std::rint; using std::signbit; using std::sin;
using std::sqrt; using std::tanh; using std::tgamma; using std::trunc;

template <class T, class V>
inline T atomicSub(T *p, V value) {
    return emulated::atomically(p, [=](T before) { return T(before - value); });
}
template <class T, class V>
inline T atomicAnd(T *p, V value) {
    return emulated::atomically(p, [=](T before) { return T(before & value); });
}
template <class T, class V>
inline T atomicXor(T *p, V value) {
    return emulated::atomically(p, [=](T before) { return T(before ^ value); });
}
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline long long __double_as_longlong(double x) {
    long long bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __fdividef(float a, float b) { return a / b; }
static inline float rsqrt(float x) { return 1 / sqrtf(x); }
#define __expf(x) expf(x) /* the C library has functions of these names */
#define __logf(x) logf(x)
static inline float norm3df(float a, float b, float c) { return sqrtf(a * a + b * b + c * c); }

/* launch_NAME with arguments of any size, as CuPy's arrays are: the emulator itself copies up to 16 bytes of each. */
static void **cupy_arguments;
#define CUPY_KERNEL(name)                                                                                                  \
    extern "C" int launch_##name(const unsigned *grid, const unsigned *block, size_t dynamic, void **arguments,            \
                                 int schedule) {                                                                           \
        void *none = nullptr;                                                                                              \
        cupy_arguments = arguments;                                                                                        \
        return emulated_launch([](void **) { emulated::call_kernel(name, cupy_arguments); }, grid, block, dynamic, &none,  \
                               schedule, EMULATED_GRAIN);                                                                          \
    }

/* What every kernel includes; here it is compiled once. */
#include <cupy/complex.cuh>
#include <cupy/carray.cuh>
