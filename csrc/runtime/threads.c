#if !defined(_WIN32)
#define _GNU_SOURCE
#endif
#include "runtime/threads.h"

#if defined(_WIN32) || defined(__STDC_NO_ATOMICS__)

void minidl_set_threads(int count) { (void)count; }
int minidl_has_threads(void) { return 0; }
int minidl_get_threads(void) { return 1; }
double minidl_hand_over_cost(void) { return 0; }
void minidl_set_hand_over_cost(double cost) { (void)cost; }

void minidl_in_parts(int parts, minidl_task task, void *context) {
    for (int part = 0; part < parts; part++) task(context, part);
}

void minidl_in_parts_worth(int parts, double work, minidl_task task, void *context) {
    (void)work;
    minidl_in_parts(parts, task, context);
}

#else

#include "runtime/memory.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

static _Atomic int wanted = 1;

void minidl_set_threads(int count) { wanted = count < 1 ? 1 : count; }
int minidl_has_threads(void) { return 1; }
int minidl_get_threads(void) { return wanted; }

enum { MOST_WORKERS = 255, SPIN_NANOSECONDS = 50000 };

/* In nanoseconds; negative until it is measured. */
static _Atomic double hand_over = -1;
static _Atomic int measured = 1; /* 0 if it was set instead */
static _Atomic unsigned calls;

double minidl_hand_over_cost(void) { return hand_over; }
void minidl_set_hand_over_cost(double cost) {
    measured = cost < 0;
    calls = 0;
    hand_over = cost;
}

/* What is shared now. The ticket has the round's number in its high half, then how many parts there are, then which part is to be
 * taken next. A worker takes a part only by exchanging the ticket that it read. So one that comes late takes nothing, and the task
 * that it read belongs to the same round: the next round is written only when all parts of this one are done. What waiting threads
 * poll lies in cache lines of its own, so that polling does not slow down the thread that writes the rest. */
static struct {
    _Alignas(MINIDL_LINE) _Atomic uint64_t ticket;
    _Alignas(MINIDL_LINE) _Atomic(minidl_task) task;
    _Atomic(void *) context;
    _Alignas(MINIDL_LINE) _Atomic int parts_done;
} round_now;

static uint64_t ticket_of(uint32_t number, int parts) { return (uint64_t)number << 32 | (uint64_t)parts << 16; }
static uint32_t round_of(uint64_t ticket) { return (uint32_t)(ticket >> 32); }
static int parts_of(uint64_t ticket) { return (int)(ticket >> 16 & 0xffff); }
static int next_of(uint64_t ticket) { return (int)(ticket & 0xffff); }

static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER; /* held by the caller whose round it is */
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static _Atomic int sleepers;
static int workers;
static pthread_t threads[MOST_WORKERS];
static uint32_t born[MOST_WORKERS]; /* the round under way when it was made */
static int asleep[MOST_WORKERS], forbidden[MOST_WORKERS]; /* with sleep_lock held */

static uint32_t current_round(void) { return round_of(atomic_load(&round_now.ticket)); }

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Take and do parts of this round until none is left. */
static void work_on(uint32_t number) {
    for (;;) {
        uint64_t seen = atomic_load(&round_now.ticket);
        const minidl_task task = atomic_load_explicit(&round_now.task, memory_order_relaxed);
        void *const context = atomic_load_explicit(&round_now.context, memory_order_relaxed);
        if (round_of(seen) != number || next_of(seen) >= parts_of(seen)) return;
        const int part = next_of(seen);
        if (!atomic_compare_exchange_weak(&round_now.ticket, &seen, seen + 1)) continue;
        task(context, part);
        atomic_fetch_add(&round_now.parts_done, 1);
    }
}

/* A sleeping worker is kept off the caller's core until it is awake. In a virtual machine Linux would wake it there: idle virtual
 * cores look as if the host had taken them away. The worker would then wait until the caller's time slice ends, although another
 * core is idle. */
#if defined(__linux__)
static cpu_set_t its_own[MOST_WORKERS]; /* cores that a worker may use, while one of them is forbidden */
static void forbid_this_core(void) {
    const int here = sched_getcpu();
    for (int w = 0; w < workers && here >= 0; w++) {
        if (!asleep[w] || forbidden[w]) continue;
        if (pthread_getaffinity_np(threads[w], sizeof its_own[w], &its_own[w]) != 0) continue;
        cpu_set_t others = its_own[w];
        CPU_CLR(here, &others);
        forbidden[w] = CPU_COUNT(&others) > 0 && pthread_setaffinity_np(threads[w], sizeof others, &others) == 0;
    }
}
static void allow_it_again(int w) {
    if (forbidden[w]) pthread_setaffinity_np(threads[w], sizeof its_own[w], &its_own[w]);
    forbidden[w] = 0;
}
#else
static void forbid_this_core(void) {}
static void allow_it_again(int w) { forbidden[w] = 0; }
#endif

/* Wait for another round: first by polling, because the next one mostly follows within microseconds, then asleep. */
static uint32_t next_round(uint32_t last, int self) {
    const int64_t until = nanoseconds() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 64; i++) {
            const uint32_t number = current_round();
            if (number != last) return number;
            pause_briefly();
        }
    } while (nanoseconds() < until);
    pthread_mutex_lock(&sleep_lock);
    atomic_fetch_add(&sleepers, 1);
    uint32_t number;
    asleep[self] = 1;
    while ((number = current_round()) == last) pthread_cond_wait(&wake, &sleep_lock);
    asleep[self] = 0;
    atomic_fetch_sub(&sleepers, 1);
    allow_it_again(self);
    pthread_mutex_unlock(&sleep_lock);
    return number;
}

static void *worker(void *number_of_its_own) {
    const int self = (int)(intptr_t)number_of_its_own;
    for (uint32_t number = born[self];;) {
        number = next_round(number, self);
        work_on(number);
    }
    return NULL;
}

/* A child has none of its parent's threads: it begins with no workers, and makes its own when it needs them. */
static void after_fork(void) {
    workers = 0;
    memset(asleep, 0, sizeof asleep);
    memset(forbidden, 0, sizeof forbidden);
    atomic_store(&sleepers, 0);
    pthread_mutex_init(&in_use, NULL);
    pthread_mutex_init(&sleep_lock, NULL);
    pthread_cond_init(&wake, NULL);
}

static void have_workers(int count) {
    static int registered;
    if (!registered) registered = pthread_atfork(NULL, NULL, after_fork) == 0;
    if (workers >= count) return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for Python's threads */
    while (workers < count) {
        born[workers] = current_round();
        if (pthread_create(&threads[workers], NULL, worker, (void *)(intptr_t)workers) != 0) break; /* the caller does it all */
        pthread_detach(threads[workers]);
        workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Begin a round; the caller holds `in_use`. Returns its number. */
static uint32_t begin_round(int parts, minidl_task task, void *context) {
    atomic_store_explicit(&round_now.task, task, memory_order_relaxed);
    atomic_store_explicit(&round_now.context, context, memory_order_relaxed);
    atomic_store_explicit(&round_now.parts_done, 0, memory_order_relaxed);
    const uint32_t number = current_round() + 1;
    atomic_store(&round_now.ticket, ticket_of(number, parts)); /* which makes what was written before it visible too */
    if (atomic_load(&sleepers) > 0) {
        pthread_mutex_lock(&sleep_lock);
        forbid_this_core();
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&sleep_lock);
    }
    return number;
}

/* Do what no worker has begun, and wait for what they have. */
static void end_round(uint32_t number, int parts) {
    work_on(number);
    for (int spins = 0; atomic_load(&round_now.parts_done) < parts; spins++) {
        if (spins < 4096) pause_briefly();
        else sched_yield(); /* whoever has the last part may be waiting for this core */
    }
}

static void do_nothing(void *context, int part) { (void)context, (void)part; }

/* Measure how long it takes until another thread has done nothing and the caller knows: the least of some rounds, because what other
 * processes do in between is no cost of ours. The caller takes no part until the time is up. Rounds in which the worker did not run
 * at all say nothing: then handing over costs nothing, because the caller does the part itself. It is measured again now and then,
 * which takes a thousandth of the time of the work between. */
enum { CALLS_PER_MEASUREMENT = 1024 };

static void measure_hand_over(void) {
    enum { ROUNDS = 20, USUAL_NANOSECONDS = 1000, ALL_NANOSECONDS = 150000 };
    int64_t least = INT64_MAX;
    const int64_t end = nanoseconds() + ALL_NANOSECONDS;
    for (int round = 0; round < ROUNDS && nanoseconds() < end; round++) {
        const int64_t start = nanoseconds();
        const uint32_t number = begin_round(1, do_nothing, NULL);
        while (atomic_load(&round_now.parts_done) < 1 && nanoseconds() < end) pause_briefly();
        const int64_t now = nanoseconds();
        end_round(number, 1);
        if (now < end && now - start < least) least = now - start;
    }
    if (least < INT64_MAX) hand_over = (double)least;
    else if (hand_over < 0) hand_over = USUAL_NANOSECONDS;
}

/* Run a task on the team if it is free and if sharing so many nanoseconds of work saves more than it costs. */
static void run(int parts, double work, minidl_task task, void *context) {
    const int count = wanted;
    const int remeasure = measured && atomic_fetch_add(&calls, 1) % CALLS_PER_MEASUREMENT == 0;
    int alone = parts == 1 || parts > 0xffff || count == 1 || (!remeasure && work * (parts - 1) / parts <= hand_over);
    alone = alone || pthread_mutex_trylock(&in_use) != 0;
    if (alone) {
        for (int part = 0; part < parts; part++) task(context, part);
        return;
    }
    const int helpers = (parts < count ? parts : count) - 1;
    have_workers(helpers < MOST_WORKERS ? helpers : MOST_WORKERS);
    if (remeasure && workers > 0) measure_hand_over();
    end_round(begin_round(parts, task, context), parts);
    pthread_mutex_unlock(&in_use);
}

void minidl_in_parts(int parts, minidl_task task, void *context) { run(parts, HUGE_VAL, task, context); }

void minidl_in_parts_worth(int parts, double work, minidl_task task, void *context) { run(parts, work, task, context); }

#endif
