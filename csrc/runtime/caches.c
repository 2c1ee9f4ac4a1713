#include "runtime/caches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

static const minidl_cache_sizes DEFAULTS = {{{32 << 10, 64, 8}, {512 << 10, 64, 8}, {0, 64, 8}}, "defaults"};

/* What a source says of one level, if it makes sense. */
static int set_level(minidl_cache_sizes *found, long level, double size, long line, long ways) {
    if (level < 1 || level > MINIDL_CACHE_LEVELS || size < 4096 || size > (double)(1 << 30) * 16) return 0;
    if (line < 16 || line > 1024) line = 64;
    const ptrdiff_t most = (ptrdiff_t)size / line; /* a fully associative cache */
    if (ways < 1 || ways > most) ways = (long)(most < 1 << 20 ? most : 1 << 20);
    found->level[level - 1] = (minidl_cache){(ptrdiff_t)size, line, (int)ways};
    return 1;
}

#if defined(__x86_64__) && defined(__GNUC__)

enum { INTEL_LEAF = 4 };
#define AMD_LEAF 0x8000001Du /* both leaves describe one cache for each index, in the same registers */

static int from_leaf(unsigned leaf, minidl_cache_sizes *found) {
    int levels = 0;
    for (unsigned index = 0; index < 16; index++) {
        unsigned a, b, c, d;
        __cpuid_count(leaf, index, a, b, c, d);
        const unsigned kind = a & 31, level = a >> 5 & 7; /* 0 no more, 1 data, 2 instructions, 3 both */
        if (kind == 0) break;
        if (kind == 2) continue;
        const unsigned line = (b & 0xfff) + 1, partitions = (b >> 12 & 0x3ff) + 1, ways = (b >> 22) + 1;
        const double size = (double)line * partitions * ways * ((double)c + 1);
        levels += set_level(found, (long)level, size, (long)line, a >> 9 & 1 ? 0 : (long)ways);
    }
    return levels;
}

static int from_processor(minidl_cache_sizes *found) {
    unsigned a, b, c, d;
    found->source = "cpuid";
    if (__get_cpuid_max(0, NULL) >= INTEL_LEAF && from_leaf(INTEL_LEAF, found) > 0) return 1;
    if (__get_cpuid_max(0x80000000u, NULL) < AMD_LEAF) return 0;
    __cpuid(0x80000001u, a, b, c, d);
    return (c >> 22 & 1) && from_leaf(AMD_LEAF, found) > 0; /* the leaf exists: topology extensions */
}

#else
static int from_processor(minidl_cache_sizes *found) {
    (void)found;
    return 0;
}
#endif

#if defined(__APPLE__)

static double sysctl_number(const char *name) {
    long long number = 0;
    size_t size = sizeof number;
    return sysctlbyname(name, &number, &size, NULL, 0) == 0 ? (double)number : 0;
}

/* The cores that work is meant for (performance level 0), where the system tells them apart; it does not tell ways. */
static int from_system(minidl_cache_sizes *found) {
    const long line = (long)sysctl_number("hw.cachelinesize");
    const char *const names[2][2] = {{"hw.perflevel0.l1dcachesize", "hw.l1dcachesize"},
                                     {"hw.perflevel0.l2cachesize", "hw.l2cachesize"}};
    int levels = 0;
    for (int level = 0; level < 2; level++) {
        double size = sysctl_number(names[level][0]);
        if (size == 0) size = sysctl_number(names[level][1]);
        levels += set_level(found, level + 1, size, line, 8);
    }
    found->source = "sysctl";
    return levels > 0;
}

#elif defined(__linux__)

/* The first word of a file of /sys, or nothing. */
static void read_word(int index, const char *name, char word[32]) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *const file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%31s", word) != 1) word[0] = 0;
    if (file != NULL) fclose(file);
}

static int from_system(minidl_cache_sizes *found) {
    int levels = 0;
    for (int index = 0; index < 8; index++) {
        char kind[32], level[32], size[32], line[32], ways[32];
        read_word(index, "type", kind), read_word(index, "level", level), read_word(index, "size", size);
        read_word(index, "coherency_line_size", line), read_word(index, "ways_of_associativity", ways);
        if (strcmp(kind, "Data") != 0 && strcmp(kind, "Unified") != 0) continue;
        levels += set_level(found, atol(level), atof(size) * 1024, atol(line), atol(ways)); /* "32K" */
    }
    found->source = "sysfs";
    return levels > 0;
}

#else
static int from_system(minidl_cache_sizes *found) {
    (void)found;
    return 0;
}
#endif

/* "48K/12,2M/16": sizes in bytes, K or M, and ways. */
static int from_text(const char *text, minidl_cache_sizes *found) {
    for (int level = 1; level <= MINIDL_CACHE_LEVELS; level++) {
        char *end;
        double size = strtod(text, &end);
        long ways = 8;
        if (end == text) return 0;
        if (*end == 'K') size *= 1024, end++;
        else if (*end == 'M') size *= 1 << 20, end++;
        if (*end == '/') ways = strtol(text = end + 1, &end, 10);
        if (end == text || ways < 1 || !set_level(found, level, size, 64, ways)) return 0;
        if (*end == 0) return level >= 2;
        if (*end != ',') return 0;
        text = end + 1;
    }
    return 0;
}

const minidl_cache_sizes *minidl_caches(void) {
    static minidl_cache_sizes caches;
    static int state; /* 1 known, -1 wrong */
    if (state == 0) {
        const char *const asked = getenv("MINIDL_CACHES");
        state = 1;
        if (asked != NULL && *asked != 0) {
            caches = DEFAULTS;
            caches.source = "MINIDL_CACHES";
            if (!from_text(asked, &caches)) state = -1;
        } else {
            caches = DEFAULTS;
            if (!from_processor(&caches)) {
                caches = DEFAULTS;
                if (!from_system(&caches)) caches = DEFAULTS;
            }
        }
    }
    return state < 0 ? NULL : &caches;
}
