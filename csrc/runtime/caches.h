/* The processor's data caches, read once: what plans of blocks are computed from (docs/gemm.md).
 *
 * From the processor itself (cpuid) on x86-64, else from what the system says of it: /sys on Linux, sysctl on macOS. A level
 * that neither tells of is taken to be what most processors have at least (32 KiB, 512 KiB; no third level).
 *
 * The environment variable MINIDL_CACHES describes another processor, so that its plans can be run here: sizes with ways, from
 * the nearest on, "48K/12,2M/16,30M/15". Ways may be left out (8). */
#ifndef MINIDL_CACHES_H
#define MINIDL_CACHES_H

#include <stddef.h>

enum { MINIDL_CACHE_LEVELS = 3 };

typedef struct {
    ptrdiff_t size, line; /* bytes; size is 0 where there is no such level */
    int ways;             /* how many lines whose addresses differ by a multiple of size / ways are kept at once */
} minidl_cache;

typedef struct {
    minidl_cache level[MINIDL_CACHE_LEVELS]; /* the nearest first */
    const char *source;                      /* where most of this comes from: cpuid, sysfs, sysctl, defaults, MINIDL_CACHES */
} minidl_cache_sizes;

/* NULL if MINIDL_CACHES cannot be read. The first call is made while minidl is imported, by one thread. */
const minidl_cache_sizes *minidl_caches(void);

/* After how many bytes addresses meet the same lines of a cache again. */
static inline ptrdiff_t minidl_cache_period(const minidl_cache *cache) { return cache->size / cache->ways; }

/* How many lines of a cache's fullest set a block takes, relative to its ways: `rows` of `bytes` bytes, `stride` bytes apart. Over 1,
 * some are driven out by others of the same block. */
static inline double minidl_crowding(const minidl_cache *cache, ptrdiff_t rows, ptrdiff_t bytes, ptrdiff_t stride) {
    const ptrdiff_t period = minidl_cache_period(cache), lines = (bytes + cache->line - 1) / cache->line;
    ptrdiff_t a = period, b = stride % period;
    while (b != 0) { /* their greatest common divisor: rows start at its multiples */
        const ptrdiff_t rest = a % b;
        a = b, b = rest;
    }
    const ptrdiff_t starts = period / a < rows ? period / a : rows;
    const double all = (double)(period / cache->line), begun = (double)starts * (double)lines;
    return (double)rows * (double)lines / (begun < all ? begun : all) / cache->ways;
}

#endif
