/* The function of updates.h, over threads. */
#include "update/updates.h"

#include "runtime/parallel.h"

typedef struct {
    int optimizer;
    void *const *arrays;
    const minidl_settings *settings;
} update_work;

#define AT(index) (work->arrays[index] == NULL ? NULL : (real *)work->arrays[index] + from)

MINIDL_TASK(update, update_work, minidl_updates, {
    const minidl_settings *const s = work->settings;
    switch (work->optimizer) {
    case MINIDL_SGD: kernels->sgd(AT(0), AT(1), AT(2), to - from, s); break;
    case MINIDL_ADAGRAD: kernels->adagrad(AT(0), AT(1), AT(2), to - from, s); break;
    case MINIDL_RMSPROP: kernels->rmsprop(AT(0), AT(1), AT(2), AT(3), AT(4), to - from, s); break;
    case MINIDL_ADAM: kernels->adam(AT(0), AT(1), AT(2), AT(3), AT(4), to - from, s); break;
    }
})

void minidl_update(int is_double, int optimizer, void *const arrays[MINIDL_UPDATE_ARRAYS], ptrdiff_t n,
                   const minidl_settings *settings) {
    update_work work = {.optimizer = optimizer, .arrays = arrays, .settings = settings};
    minidl_in_free_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(update, is_double), &work);
}
