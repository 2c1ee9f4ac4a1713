/* The terms in which the kernels are written: the names of simd.h for one precision, and a loop over vectors. The including file
 * has defined `real` and REAL(name), which appends _f32 or _f64. loops_end.inc.h takes all of these macros away again. */
#define VEC REAL(vec)
#define LANES REAL(LANES)
#define SPLAT(c) REAL(splat)((real)(c))
#define LOAD REAL(load)
#define STORE REAL(store)

/* Run the statements for each vector of n elements. In them, GET(p) is the vector of p and PUT(p, v) stores one; the last,
 * shorter vector is read and written only as far as it goes. The output may be the input: every element is read before it is
 * written. The statements may use `i`, where the vector begins, `left`, how many elements it has, and the constant `whole`. */
#define EACH_VECTOR(n, ...)                                                                                                \
    do {                                                                                                                   \
        ptrdiff_t i = 0;                                                                                                   \
        for (; i + LANES <= (n); i += LANES) {                                                                             \
            enum { whole = 1 };                                                                                            \
            const ptrdiff_t left = LANES;                                                                                  \
            (void)left;                                                                                                    \
            __VA_ARGS__                                                                                                    \
        }                                                                                                                  \
        if (i < (n)) {                                                                                                     \
            enum { whole = 0 };                                                                                            \
            const ptrdiff_t left = (n) - i;                                                                                \
            __VA_ARGS__                                                                                                    \
        }                                                                                                                  \
    } while (0)
#define GET_OR(p, fill) (whole ? LOAD((p) + i) : REAL(load_part)((p) + i, left, fill))
#define GET(p) GET_OR(p, 0)
#define PUT(p, v)                                                                                                          \
    do {                                                                                                                   \
        if (whole) STORE((p) + i, v);                                                                                      \
        else REAL(store_part)((p) + i, v, left);                                                                           \
    } while (0)
