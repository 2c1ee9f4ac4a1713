/* The half of CUDA in terms of the compiler's own. */
#pragma once
struct __half_raw {
    unsigned short x;
};
struct half {
    _Float16 value;
    half() = default;
    half(float x) : value((_Float16)x) {}
    half(const __half_raw &raw) { __builtin_memcpy(&value, &raw.x, 2); }
    template <class T>
    explicit half(T x) : value((_Float16)(float)x) {}
    operator float() const { return (float)value; }
    operator __half_raw() const {
        __half_raw raw;
        __builtin_memcpy(&raw.x, &value, 2);
        return raw;
    }
};
typedef half __half;
static inline unsigned short __half_as_ushort(half x) { return ((__half_raw)x).x; }
static inline half __ushort_as_half(unsigned short bits) { return half(__half_raw{bits}); }
static inline float __half2float(half x) { return (float)x; }
static inline half __float2half(float x) { return half(x); }
