#if !defined(_WIN32)
#define _DEFAULT_SOURCE /* for madvise; with it comes POSIX */
#endif
#include "runtime/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <malloc.h>
#include <windows.h>
static SRWLOCK lock = SRWLOCK_INIT;
#define LOCK() AcquireSRWLockExclusive(&lock)
#define UNLOCK() ReleaseSRWLockExclusive(&lock)
#else
#include <pthread.h>
#include <sys/mman.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
#define LOCK() pthread_mutex_lock(&lock)
#define UNLOCK() pthread_mutex_unlock(&lock)
#endif

#if !defined(_WIN32)
/* A fork while another thread holds the lock would leave it locked in the child for ever. */
static void hold(void) { LOCK(); }
static void release(void) { UNLOCK(); }
__attribute__((constructor)) static void be_safe_to_fork(void) { pthread_atfork(hold, release, release); }
#endif

/* Every block begins with a header, which holds its class, so that free and realloc need not trust a size. What the user gets
 * begins LEAD bytes on. LEAD is a quarter of a page, to avoid false store-to-load dependences: a CPU compares the lowest 12 bits of
 * addresses first. NumPy's large arrays begin 16 bytes into a page. If a result began 50 to 100 bytes into its page, loads of its
 * input would look like loads of what was just stored, and would wait. */
enum { LEAD = 1024 + MINIDL_LINE, CLASSES = 160, SYSTEM = CLASSES };

typedef struct header {
    struct header *next; /* while it waits */
    size_t bytes;        /* that the user of the block may touch */
    int class;           /* SYSTEM if it is too small to be kept */
} header;

static header *waiting[CLASSES];
static size_t waiting_bytes, limit = (size_t)1 << 30, from_system;

/* The class of a size, and the size of the class: 4 steps to each power of two. */
static int class_of(size_t size, size_t *rounded) {
    int power = 0;
    while (((size_t)MINIDL_SMALLEST_KEPT << (power + 1)) <= size) power++;
    const size_t base = (size_t)MINIDL_SMALLEST_KEPT << power, step = base / 4;
    const size_t steps = (size - base + step - 1) / step; /* 0 to 4 */
    *rounded = base + steps * step;
    return power * 4 + (int)steps;
}

/* Blocks of a few of Linux's large pages ask for them: a page of 2 MiB costs one fault and one entry of the table that translates
 * addresses, where its 512 small pages cost as many of both. */
enum { LARGE_PAGE = 1 << 21 };

static void *aligned(size_t bytes) {
#if defined(_WIN32)
    return _aligned_malloc(bytes, MINIDL_LINE);
#else
    void *block = NULL;
#if defined(MADV_HUGEPAGE)
    if (bytes >= 2 * LARGE_PAGE) {
        if (posix_memalign(&block, LARGE_PAGE, bytes) != 0) return NULL;
        madvise(block, bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE); /* a hint: without it all goes on as before */
        return block;
    }
#endif
    return posix_memalign(&block, MINIDL_LINE, bytes) == 0 ? block : NULL;
#endif
}

static void give_back(void *block) {
#if defined(_WIN32)
    _aligned_free(block);
#else
    free(block);
#endif
}

void *minidl_malloc(void *context, size_t size) {
    (void)context;
    size_t bytes = size;
    int class = SYSTEM;
    header *block = NULL;
    if (size >= MINIDL_SMALLEST_KEPT && size < (size_t)1 << 46) {
        class = class_of(size, &bytes);
        LOCK();
        block = waiting[class];
        if (block != NULL) {
            waiting[class] = block->next;
            waiting_bytes -= block->bytes;
        } else {
            from_system++;
        }
        UNLOCK();
    }
    if (block == NULL) {
        if (bytes > SIZE_MAX - LEAD) return NULL;
        block = aligned(LEAD + bytes);
        if (block == NULL) return NULL;
        block->bytes = bytes;
        block->class = class;
    }
    return (char *)block + LEAD;
}

void *minidl_calloc(void *context, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) return NULL;
    void *const block = minidl_malloc(context, count * size);
    if (block != NULL) memset(block, 0, count * size);
    return block;
}

void minidl_free(void *context, void *pointer, size_t size) {
    (void)context;
    (void)size;
    if (pointer == NULL) return;
    header *const block = (header *)((char *)pointer - LEAD);
    if (block->class != SYSTEM) {
        LOCK();
        const int keep = waiting_bytes + block->bytes <= limit;
        if (keep) {
            block->next = waiting[block->class];
            waiting[block->class] = block;
            waiting_bytes += block->bytes;
        }
        UNLOCK();
        if (keep) return;
    }
    give_back(block);
}

void *minidl_realloc(void *context, void *pointer, size_t size) {
    if (pointer == NULL) return minidl_malloc(context, size);
    const header *const block = (const header *)((const char *)pointer - LEAD);
    if (size <= block->bytes && block->class != SYSTEM) return pointer;
    void *const new = minidl_malloc(context, size);
    if (new == NULL) return NULL;
    memcpy(new, pointer, block->bytes < size ? block->bytes : size);
    minidl_free(context, pointer, block->bytes);
    return new;
}

size_t minidl_memory_waiting(void) {
    LOCK();
    const size_t bytes = waiting_bytes;
    UNLOCK();
    return bytes;
}

size_t minidl_memory_from_system(void) {
    LOCK();
    const size_t count = from_system;
    UNLOCK();
    return count;
}

void minidl_set_memory_limit(size_t bytes) {
    LOCK();
    limit = bytes;
    header *gone = NULL;
    for (int class = CLASSES - 1; class >= 0 && waiting_bytes > limit; class--)
        while (waiting[class] != NULL && waiting_bytes > limit) {
            header *const block = waiting[class];
            waiting[class] = block->next;
            waiting_bytes -= block->bytes;
            block->next = gone;
            gone = block;
        }
    UNLOCK();
    while (gone != NULL) {
        header *const next = gone->next;
        give_back(gone);
        gone = next;
    }
}
