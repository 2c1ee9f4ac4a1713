/* Arithmetic of sizes and positions. */
#ifndef MINIDL_INTEGERS_H
#define MINIDL_INTEGERS_H

#include <stddef.h>

static inline ptrdiff_t minidl_min(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t minidl_max(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* How many units hold so many items; and so many bytes in whole cache lines. */
static inline ptrdiff_t minidl_units(ptrdiff_t items, ptrdiff_t unit) { return (items + unit - 1) / unit; }
enum { MINIDL_LINE = 64 }; /* bytes of a cache line */
static inline size_t minidl_whole_lines(size_t bytes) { return (bytes + MINIDL_LINE - 1) / MINIDL_LINE * MINIDL_LINE; }

#endif
