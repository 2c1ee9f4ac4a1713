/* Runs the kernels of cuda_on_cpu.h: blocks one after another, the threads of a block in turns.
 *
 * Schedule 0 gives every thread its turn from the first to the last, 1 from the last to the first, and each number from 2 on is
 * the seed of an unfair one: blocks in any order, and one warp running ahead of the others for as long as it can.
 *
 * Reported, as an error of the launch: a barrier or an exchange that some thread of the block or lane of the mask does not
 * reach, or reaches at another line. Linked with kernels that were compiled with -fsanitize=thread, whose compiler announces
 * every access to memory, also: reading or writing outside the arguments, two accesses without order of which one writes
 * (races, within a block and between blocks), reading shared memory that nobody wrote, and pointers without their alignment.
 * Unfair schedules then take turns also in between. The compiler's own runtime is not linked; the functions it would have are here. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "cuda_on_cpu.h"
#undef threadIdx

namespace emulated {
enum { MOST_THREADS = 1024, STACK = 1 << 16, LANES = 32, MOST_WARPS = MOST_THREADS / LANES, RING = 8, MOST_ARGUMENTS = 64 };
enum state { READY, AT_BARRIER, IN_WARP, DONE };

struct fiber {
    thread self;
    state is;
    int line;         /* where it waits */
    unsigned barriers; /* passed so far, */
    unsigned joined;   /* and calls of __syncwarp */
    void *stack_pointer;
};
struct meeting {
    unsigned mask, arrived, votes;
    int line, slot;
    bool orders_memory;
};
struct warp {
    meeting open[LANES];
    int meetings, next_slot;
    uint64_t left[RING][LANES];
    unsigned votes[RING];
};

thread *current;
index3 block_at, block_size, grid_size;
void *dynamic_shared;
static fiber fibers[MOST_THREADS];
static warp warps[MOST_WARPS];
static fiber *running;
static void *scheduler_stack;
static char *stacks;
static unsigned threads, block_number;
static size_t dynamic_bytes;
static emulated_entry entry_point;
static uint64_t argument_values[MOST_ARGUMENTS][2];
static void *argument_pointers[MOST_ARGUMENTS];
static std::mt19937 chance;
static int schedule_in_use;
static struct {
    bool set;
    char text[400];
    uintptr_t places[2];
} error;

/* Save the registers that a function must keep, and go on where another stack left off. */
extern "C" void emulated_switch(void **from, void *to) __attribute__((visibility("hidden")));
#if defined(__x86_64__)
asm(".text\n.hidden emulated_switch\n.globl emulated_switch\n.type emulated_switch,@function\nemulated_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
enum { SAVED = 6, RETURN_AT = 6, FRAME = 8 }; /* words; one more keeps the stack aligned */
#elif defined(__aarch64__)
asm(".text\n.hidden emulated_switch\n.globl emulated_switch\n.type emulated_switch,%function\nemulated_switch:\n"
    "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\n"
    "stp d14,d15,[sp,#144]\nmov x2,sp\nstr x2,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\nldp x27,x28,[sp,#64]\n"
    "ldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\n"
    "add sp,sp,#160\nret\n");
enum { SAVED = 20, RETURN_AT = 11, FRAME = 20 };
#else
#error "the emulator switches stacks on x86-64 and on 64-bit ARM only"
#endif

static void to_scheduler() { emulated_switch(&running->stack_pointer, scheduler_stack); }

static void fail(const void *place, const void *other, const char *format, ...) {
    if (!error.set) {
        va_list values;
        va_start(values, format);
        vsnprintf(error.text, sizeof error.text, format, values);
        va_end(values);
        error.places[0] = (uintptr_t)place;
        error.places[1] = (uintptr_t)other;
        error.set = true;
    }
    if (current) {
        current = nullptr;
        to_scheduler(); /* which does not come back */
    }
}

void complain(const char *what, int line) {
    fail(nullptr, nullptr, "line %d, thread %u of block %u: %s", line, current->number, block_number, what);
}

static void wait_as(state is, int line) {
    running->is = is;
    running->line = line;
    to_scheduler();
}

void barrier(int line) { wait_as(AT_BARRIER, line); }

const uint64_t *meet(unsigned mask, uint64_t left, bool predicate, unsigned *votes, bool orders_memory, int line) {
    warp &mine = warps[current->number / LANES];
    const unsigned bit = 1u << lane();
    if (!(mask & bit)) complain("a lane is not in its own mask", line);
    meeting *found = nullptr;
    for (int i = 0; i < mine.meetings; i++) {
        if (mine.open[i].mask == mask && mine.open[i].line == line) found = mine.open + i;
        else if (mine.open[i].mask & mask) complain("lanes of a warp wait for each other in different places", line);
    }
    if (!found) {
        found = mine.open + mine.meetings++;
        *found = {mask, 0, 0, line, mine.next_slot, orders_memory};
        mine.next_slot = (mine.next_slot + 1) % RING;
    }
    const int slot = found->slot;
    mine.left[slot][lane()] = left;
    found->arrived |= bit;
    if (predicate) found->votes |= bit;
    running->joined += orders_memory;
    if (found->arrived == mask) {
        mine.votes[slot] = found->votes;
        *found = mine.open[--mine.meetings];
        for (unsigned i = current->number / LANES * LANES; i < threads && i < (current->number / LANES + 1) * LANES; i++) {
            if (mask >> (i % LANES) & 1 && fibers[i].is == IN_WARP && fibers[i].line == line) fibers[i].is = READY;
        }
    } else {
        wait_as(IN_WARP, line);
    }
    if (votes) *votes = mine.votes[slot];
    return mine.left[slot];
}

/* Memory that kernels share -------------------------------------------------------------------------------------------------- */

struct access {
    unsigned block, thread, barriers, joined;
    const void *place;
    bool happened, atomic;
};
struct cell {
    access write, read, read_by_another;
    unsigned first_reading_block;
    bool many_blocks, set;
};
struct region {
    char *from, *to;
    int grain, argument;
    bool shared;
    std::vector<cell> cells;
};
static std::vector<region> regions;
static region *last_region;
static bool checking, in_atomic;
extern "C" char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" char _end[] __attribute__((visibility("hidden")));

static bool unordered(const access &a, const access &b) {
    if (!a.happened || (a.block == b.block && a.thread == b.thread) || (a.atomic && b.atomic)) return false;
    if (a.block != b.block) return true;
    return a.barriers == b.barriers && !(a.thread / LANES == b.thread / LANES && a.joined < b.joined);
}

static const char *name_of(const region &r, char *text) {
    if (r.shared) return "shared memory";
    snprintf(text, 40, "argument %d", r.argument);
    return text;
}

static void outside(const char *p, int bytes, bool writes, const void *place) {
    const region *nearest = nullptr;
    long best = 0;
    for (const region &r : regions) {
        const long away = p >= r.to ? p - r.to : r.from - p;
        if (!nearest || away < best) nearest = &r, best = away;
    }
    char text[40];
    fail(place, nullptr, "thread %u of block %u %s %d bytes outside every array; the nearest is %s, %ld bytes %s", current->number,
         block_number, writes ? "writes" : "reads", bytes, nearest ? name_of(*nearest, text) : "none", best,
         nearest && p >= nearest->to ? "after its end" : "before its start");
}

static void touch(region &r, const char *p, int bytes, const access &now, bool writes) {
    char text[40];
    for (size_t i = size_t(p - r.from) / r.grain, end = size_t(p + bytes - 1 - r.from) / r.grain; i <= end; i++) {
        cell &c = r.cells[i];
        const access *other = nullptr;
        if (!writes && r.shared && !c.set) {
            fail(now.place, nullptr, "thread %u of block %u reads shared memory that no thread has written", now.thread, now.block);
        }
        if (unordered(c.write, now)) other = &c.write;
        if (writes && unordered(c.read, now)) other = &c.read;
        if (writes && unordered(c.read_by_another, now)) other = &c.read_by_another;
        if (!other && writes && c.read.happened && !r.shared && (c.many_blocks || c.first_reading_block != now.block) &&
            !(now.atomic && c.read.atomic)) {
            other = &c.read;
        }
        if (other) {
            fail(now.place, other->place, "a race on element %zu of %s: thread %u of block %u %s, thread %u of block %u %s it", i,
                 name_of(r, text), other->thread, other->block, other == &c.write ? "wrote" : "read", now.thread, now.block,
                 writes ? "writes" : "reads");
        }
        if (writes) {
            c.write = now;
            c.set = true;
        } else {
            if (!c.read.happened) c.first_reading_block = now.block;
            else if (c.first_reading_block != now.block) c.many_blocks = true;
            if (c.read.happened && (c.read.thread != now.thread || c.read.block != now.block)) c.read_by_another = c.read;
            c.read = now;
        }
    }
}

static void accessed(void *address, int bytes, bool writes, const void *place) {
    if (!checking || !current) return;
    char *p = (char *)address;
    if (p >= stacks && p < stacks + (size_t)MOST_THREADS * STACK) return;
    if (p >= __ehdr_start && p < _end && !(p >= __start_cuda_shared && p < __stop_cuda_shared)) return;
    if (!(last_region && p >= last_region->from && p < last_region->to)) {
        last_region = nullptr;
        for (region &r : regions) {
            if (p >= r.from && p < r.to) last_region = &r;
        }
    }
    if (!last_region || p + bytes > last_region->to) return outside(p, bytes, writes, place);
    touch(*last_region, p, bytes, {block_number, current->number, running->barriers, running->joined, place, true, in_atomic}, writes);
    if (schedule_in_use > 1 && !in_atomic && chance() % 8 == 0) wait_as(READY, 0);
}

void begin_atomic(void *p, size_t bytes) {
    in_atomic = true;
    accessed(p, (int)bytes, true, __builtin_return_address(0));
}
void end_atomic() { in_atomic = false; }

/* The scheduler -------------------------------------------------------------------------------------------------------------- */

static void start_fiber() {
    entry_point(argument_pointers);
    running->is = DONE;
    to_scheduler();
    abort(); /* nobody resumes it */
}

static void prepare(unsigned number) {
    fiber &f = fibers[number];
    f.self = {{number % block_size.x, number / block_size.x % block_size.y, number / block_size.x / block_size.y}, number};
    f.is = READY;
    f.barriers = f.joined = 0;
    uintptr_t *top = (uintptr_t *)(stacks + (size_t)(number + 1) * STACK);
    top -= FRAME;
    memset(top, 0, FRAME * sizeof *top);
    top[RETURN_AT] = (uintptr_t)start_fiber;
    f.stack_pointer = top;
}

static void run(fiber &f) {
    running = &f;
    current = &f.self;
    emulated_switch(&scheduler_stack, f.stack_pointer);
    current = nullptr;
}

static const char *describe(state is) {
    return is == DONE ? "has ended" : is == AT_BARRIER ? "waits at a barrier" : "waits for lanes of its warp";
}

/* Nobody can go on. Lets everyone pass if all wait at one barrier; says what is wrong otherwise. */
static bool pass_barrier() {
    for (unsigned i = 0; i < threads; i++) {
        if (fibers[i].is == fibers[0].is && (fibers[i].is != AT_BARRIER || fibers[i].line == fibers[0].line)) continue;
        fail(nullptr, nullptr, "thread %u of block %u %s (line %d) and thread %u %s (line %d)", 0u, block_number,
             describe(fibers[0].is), fibers[0].line, i, describe(fibers[i].is), fibers[i].line);
        return false;
    }
    if (fibers[0].is == IN_WARP) {
        fail(nullptr, nullptr, "every thread of block %u %s (line %d)", block_number, describe(IN_WARP), fibers[0].line);
        return false;
    }
    if (fibers[0].is == DONE) return false;
    for (unsigned i = 0; i < threads; i++) {
        fibers[i].is = READY;
        fibers[i].barriers++;
    }
    return true;
}

static bool run_ready(const std::vector<unsigned> &order, unsigned first, unsigned last) {
    bool ran = false;
    for (unsigned i : order) {
        if (i < first || i >= last || fibers[i].is != READY) continue;
        run(fibers[i]);
        if (error.set) return false;
        ran = true;
    }
    return ran;
}

static void run_block(std::vector<unsigned> &order) {
    const unsigned all = (threads + LANES - 1) / LANES;
    for (;;) {
        bool ran;
        if (schedule_in_use > 1) {
            std::shuffle(order.begin(), order.end(), chance);
            const unsigned ahead = chance() % all;
            while (chance() % 4 && run_ready(order, ahead * LANES, (ahead + 1) * LANES)) continue;
        }
        ran = !error.set && run_ready(order, 0, threads);
        if (error.set || (!ran && !pass_barrier())) return;
    }
}

/* Also between the arrays, where AddressSanitizer allows nothing. */
__attribute__((no_sanitize("address"))) static void spoil(char *from, char *to) {
    for (volatile char *p = from; p < to; p++) *p = (char)0xff; /* nan */
}

static void forget_shared() {
    for (region &r : regions) {
        if (r.shared) r.cells.assign(r.cells.size(), cell());
    }
}

static void add_region(char *from, size_t bytes, int grain, int argument, bool shared) {
    if (!bytes) return;
    for (region &r : regions) {
        if (from < r.to && from + bytes > r.from) { /* two arguments in one array */
            r.from = std::min(r.from, from);
            r.to = std::max(r.to, from + bytes);
            r.grain = std::min(r.grain, grain);
            return;
        }
    }
    regions.push_back({from, from + bytes, grain, argument, shared, {}});
}
}  // namespace emulated

using namespace emulated;

extern "C" int emulated_launch(emulated_entry entry, const unsigned *grid, const unsigned *block, size_t dynamic, void **arguments,
                               int schedule, int grain) {
    error.set = false;
    in_atomic = false;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    threads = block[0] * block[1] * block[2];
    if (!threads || threads > MOST_THREADS) {
        fail(nullptr, nullptr, "a block has 1 to %d threads, not %u", MOST_THREADS, threads);
        return 1;
    }
    if (!stacks) {
        stacks = (char *)mmap(nullptr, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    entry_point = entry;
    schedule_in_use = schedule;
    chance.seed((unsigned)schedule);
    for (int i = 0; i < MOST_ARGUMENTS && arguments[i]; i++) { /* each in 16 bytes, the last pointer null */
        memcpy(argument_values[i], arguments[i], sizeof argument_values[i]);
        argument_pointers[i] = argument_values[i];
    }
    std::vector<char> room(dynamic + 16);
    dynamic_bytes = dynamic;
    dynamic_shared = (void *)(((uintptr_t)room.data() + 15) & ~(uintptr_t)15);
    add_region((char *)dynamic_shared, dynamic, grain, -1, true);
    add_region(__start_cuda_shared, size_t(__stop_cuda_shared - __start_cuda_shared), grain, -1, true);
    for (region &r : regions) r.cells.assign(size_t(r.to - r.from + r.grain - 1) / r.grain, cell());
    last_region = nullptr;
    const unsigned blocks = grid[0] * grid[1] * grid[2];
    std::vector<unsigned> turn(blocks), order(threads);
    for (unsigned i = 0; i < blocks; i++) turn[i] = i;
    for (unsigned i = 0; i < threads; i++) order[i] = i;
    if (schedule == 1) {
        std::reverse(turn.begin(), turn.end());
        std::reverse(order.begin(), order.end());
    } else if (schedule > 1) {
        std::shuffle(turn.begin(), turn.end(), chance);
    }
    for (unsigned at : turn) {
        block_number = at;
        block_at = {at % grid[0], at / grid[0] % grid[1], at / grid[0] / grid[1]};
        memset((void *)warps, 0, sizeof warps);
        spoil((char *)dynamic_shared, (char *)dynamic_shared + dynamic);
        spoil(__start_cuda_shared, __stop_cuda_shared);
        forget_shared();
        for (unsigned i = 0; i < threads; i++) prepare(i);
        run_block(order);
        if (error.set) break;
    }
    regions.clear();
    checking = false;
    return error.set;
}

/* Before a checked launch: the arrays that its kernel may touch. */
extern "C" void emulated_allow(int argument, void *p, size_t bytes, int grain) {
    checking = true;
    add_region((char *)p, bytes, grain, argument, false);
}
extern "C" const char *emulated_error(void) { return error.text; }
extern "C" uintptr_t emulated_place(int which) {
    return error.places[which] ? error.places[which] - 1 - (uintptr_t)__ehdr_start : 0;
}

#ifdef EMULATED_CHECKS
#define PLACE __builtin_return_address(0)
#define ANNOUNCED(bytes)                                                                                                   \
    extern "C" void __tsan_read##bytes(void *p) { accessed(p, bytes, false, PLACE); }                                      \
    extern "C" void __tsan_write##bytes(void *p) { accessed(p, bytes, true, PLACE); }                                      \
    extern "C" void __tsan_unaligned_read##bytes(void *p) { accessed(p, bytes, false, PLACE); }                            \
    extern "C" void __tsan_unaligned_write##bytes(void *p) { accessed(p, bytes, true, PLACE); }                            \
    extern "C" void __tsan_volatile_read##bytes(void *p) { accessed(p, bytes, false, PLACE); }                             \
    extern "C" void __tsan_volatile_write##bytes(void *p) { accessed(p, bytes, true, PLACE); }
ANNOUNCED(1)
ANNOUNCED(2)
ANNOUNCED(4)
ANNOUNCED(8)
ANNOUNCED(16)
extern "C" void __tsan_read_range(void *p, size_t bytes) { accessed(p, (int)bytes, false, PLACE); }
extern "C" void __tsan_write_range(void *p, size_t bytes) { accessed(p, (int)bytes, true, PLACE); }
/* From -fsanitize=alignment, for a pointer that is no multiple of what its type asks for. */
struct mismatch {
    const char *file;
    unsigned line, column;
    const void *type;
    unsigned char log_alignment, kind;
};
extern "C" void __ubsan_handle_type_mismatch_v1(const mismatch *found, uintptr_t p) {
    if (!current) return;
    fail(nullptr, nullptr, "%s:%u: thread %u of block %u uses an address that is no multiple of %d", found->file, found->line,
         current->number, block_number, 1 << found->log_alignment);
    (void)p;
}
extern "C" void __tsan_init(void) {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
#endif
