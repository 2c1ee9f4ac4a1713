/* A team of threads that share a task which is cut into numbered parts.
 *
 * The caller works too, and takes every part that no other thread has taken yet. So it never waits for a thread that the
 * system does not schedule, as happens where another library's threads spin on every core. OpenMP, which hands each thread its
 * part beforehand, then takes milliseconds for microseconds of work. Which thread does a part does not change what the part
 * computes: the same number of parts gives the same bits. */
#ifndef MINIDL_THREADS_H
#define MINIDL_THREADS_H

typedef void (*minidl_task)(void *context, int part);

/* Call task(context, part) for every part from 0 to parts - 1, on up to minidl_get_threads() threads, and return when all are
 * done. If another Python thread is using the team, the caller does all parts itself. */
void minidl_in_parts(int parts, minidl_task task, void *context);

/* The same for so many nanoseconds of work, roughly: the caller does it all where handing parts over costs more time than it
 * saves. The parts are the same ones, so the result has the same bits. */
void minidl_in_parts_worth(int parts, double work, minidl_task task, void *context);

/* How many nanoseconds it costs to hand a part to another thread and to learn that it is done. It is measured when the team first
 * has another thread, which takes a few microseconds; negative before. Processors differ by a factor of twenty. Nothing that
 * decides which numbers are added together may depend on it, because it differs from run to run. */
double minidl_hand_over_cost(void);
void minidl_set_hand_over_cost(double nanoseconds);

void minidl_set_threads(int threads);
int minidl_get_threads(void);
int minidl_has_threads(void); /* 0 where the team was not compiled: everything runs on the caller's thread */

/* Into how many parts work is cut for so many threads. */
enum { MINIDL_MOST_PARTS = 256 };
static inline int minidl_most_parts(int threads) { return threads < MINIDL_MOST_PARTS ? threads : MINIDL_MOST_PARTS; }

/* How many parts so many multiply-adds are worth: each enough to hide the few microseconds it takes to wake a thread. */
static inline int minidl_parts_worth(double multiply_adds, int threads) {
    const double worth = multiply_adds / 131072;
    const int most = minidl_most_parts(threads);
    return worth < 2 || most < 2 ? 1 : worth < most ? (int)worth : most;
}

#endif
