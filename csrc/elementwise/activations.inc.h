/* The loops of activations.h, in the terms of vector/loops.inc.h, and their table. */
#include "elementwise/activations.h"

#define FORWARD_LOOP(name, ...)                                                                                            \
    static void REAL(name##_forward_loop)(const real *x, real *y, ptrdiff_t n, const void *settings) {                     \
        const VEC first = SPLAT(((const real *)settings)[0]), second = SPLAT(((const real *)settings)[1]);                 \
        EACH_VECTOR(n, PUT(y, REAL(name##_forward)(GET(x), first, second)););                                              \
    }
#define BACKWARD_LOOP(name, ...)                                                                                           \
    static void REAL(name##_backward_loop)(const real *dy, const real *kept, real *dx, ptrdiff_t n, const void *settings) { \
        const VEC first = SPLAT(((const real *)settings)[0]), second = SPLAT(((const real *)settings)[1]);                 \
        EACH_VECTOR(n, PUT(dx, REAL(name##_backward)(GET(dy), GET(kept), first, second)););                                \
    }
MINIDL_ACTIVATION_LIST(FORWARD_LOOP)
MINIDL_ACTIVATION_LIST(BACKWARD_LOOP)
MINIDL_FUNCTION_LIST(FORWARD_LOOP)

#define FORWARD_ENTRY(name, ...) [MINIDL_##name] = REAL(name##_forward_loop),
#define BACKWARD_ENTRY(name, ...) [MINIDL_##name] = REAL(name##_backward_loop),
const REAL(minidl_activations) TABLE(minidl_activations) = {
    .forward = {MINIDL_ACTIVATION_LIST(FORWARD_ENTRY) MINIDL_FUNCTION_LIST(FORWARD_ENTRY)},
    .backward = {MINIDL_ACTIVATION_LIST(BACKWARD_ENTRY)},
};

#undef FORWARD_LOOP
#undef BACKWARD_LOOP
#undef FORWARD_ENTRY
#undef BACKWARD_ENTRY
