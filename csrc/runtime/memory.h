/* Memory for large arrays, kept for the next array of about the same size instead of returned to the system.
 *
 * A fresh page costs a fault and a clearing, about 0.25 microseconds for each 4 KiB: for an activation of a million floats
 * more than its arithmetic. Blocks come in size classes, four to each power of two; a freed block waits in its class. What
 * waits is bounded; beyond the bound, blocks go back to the system. All functions are safe to call from any thread. */
#ifndef MINIDL_MEMORY_H
#define MINIDL_MEMORY_H

#include <stddef.h>

#include "runtime/integers.h"

enum { MINIDL_SMALLEST_KEPT = 32768 }; /* bytes; smaller requests go to malloc */

void *minidl_malloc(void *context, size_t size);
void *minidl_calloc(void *context, size_t count, size_t size);
void *minidl_realloc(void *context, void *block, size_t size);
void minidl_free(void *context, void *block, size_t size);

size_t minidl_memory_waiting(void);   /* bytes that wait to be used again */
size_t minidl_memory_from_system(void); /* how often a large block had to be asked of the system */
void minidl_set_memory_limit(size_t bytes); /* of what may wait; 0 gives everything back now */

#endif
