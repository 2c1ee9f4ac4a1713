/* Scaled dot-product attention on a GPU, in tiles of SIDE queries and SIDE keys; no array of their product's size is ever stored.
 *
 *     z = factor q k^T + mask,   p = exp(z - l),   y = (m p) v,   l = log sum exp z
 *
 *     dz = p (m dp - delta),   dp = dy v^T,   delta = the sum of dy y over a row
 *     dq = factor dz k,   dk = factor dz^T q,   dv = (m p)^T dy
 *
 * T. Dao, "FlashAttention-2" (2023). Forward goes over the keys with the largest score so far; when it grows, what has been summed
 * shrinks. Backward computes z again, from the l that forward kept: dq in one kernel, whose blocks have queries of their own, dk
 * and dv in another, whose blocks have keys of their own. So no two blocks add to the same element, and results have the same
 * bits each time. Tiles that no query of theirs may see are left out.
 *
 * All arrays are (N, heads, rows, features) without gaps; l and delta are (N, H, T). m is what dropout multiplies by. */
#include "attention/tiles.cuh"
#include "runtime/pcg64.cuh"

enum { PARTS = THREADS / SIDE };

/* What all kernels take. Key s is ahead of query t by s - t - offset, and is seen if that is from `least` to `most`. Of the masks
 * `allowed` and `added` one at most is given, with how far apart its elements are along (N, H, T, S). A weight is kept by `keep`,
 * or by a number of the generator that is at least p, and then multiplied with `grown`; without dropout, `draws` is false. */
#define ARGUMENTS                                                                                                          \
    const stored *query, const stored *key, const stored *value, int heads, int group, int queries, int keys, int width,   \
        int value_width, real factor, int offset, int least, int most, const bool *allowed, const stored *added,           \
        size mask_batch, size mask_head, size mask_query, size mask_key, const bool *keep, bool draws,                     \
        half_word state_high, half_word state_low, half_word increment_high, half_word increment_low, bool waiting,        \
        unsigned waiting_half, float p, real grown
#define PROBLEM                                                                                                            \
    Problem {                                                                                                              \
        query, key, value, heads, group, queries, keys, width, value_width, factor, offset, least, most, allowed, added,   \
            mask_batch, mask_head, mask_query, mask_key, keep, draws, {state_high, state_low},                             \
            {increment_high, increment_low}, waiting, waiting_half, p, grown                                               \
    }
struct Problem {
    const stored *query, *key, *value;
    int heads, group; /* `group` heads of the query share one of key and value */
    int queries, keys, width, value_width;
    real factor;
    int offset, least, most;
    const bool *allowed;
    const stored *added;
    size mask_batch, mask_head, mask_query, mask_key;
    const bool *keep;
    bool draws;
    Wide state, increment;
    bool waiting;
    unsigned waiting_half;
    float p;
    real grown;
};

/* Shared memory. */
struct Room {
    __align__(16) cell panels[PANELS];
    __align__(16) cell weights[SIDE * PITCH]; /* of one tile, as the next product reads them */
    real log_sum[SIDE], delta[SIDE];          /* of the queries of a tile */
    Leap leaps[16][16];                       /* by d 16^i words of the generator */
};
struct Scores {
#if defined(MINIDL_FLOAT16)
    real z[SIDE * PITCH];
    __device__ __forceinline__ real *at(Room &) { return z; }
#else
    __device__ __forceinline__ real *at(Room &room) { return room.weights; } /* a thread reads its scores before it writes their weights */
#endif
    real parts[PARTS][SIDE], row[SIDE];
};

/* One head of one example, and which of its tiles is the block's. */
struct Task {
    size batch, head, index; /* of (N, H) */
    int tile;
};
MINIDL_INLINE Task task_of(int tiles, int heads) {
    Task task;
    task.index = blockIdx.x / tiles;
    task.tile = tiles - 1 - (int)(blockIdx.x % tiles); /* with a causal mask, those with most work first */
    task.batch = task.index / heads;
    task.head = task.index % heads;
    return task;
}

MINIDL_INLINE int tiles_of(int rows) { return (rows + SIDE - 1) / SIDE; }
MINIDL_INLINE int at_least(int a, int b) { return a > b ? a : b; }
MINIDL_INLINE int at_most(int a, int b) { return a < b ? a : b; }

MINIDL_INLINE Rows queries_of(const Problem &s, size index) {
    return Rows{s.query + index * s.queries * s.width, s.queries, s.width};
}
MINIDL_INLINE Rows keys_of(const Problem &s, size index) {
    return Rows{s.key + index / s.group * s.keys * s.width, s.keys, s.width};
}
MINIDL_INLINE Rows values_of(const Problem &s, size index) {
    return Rows{s.value + index / s.group * s.keys * s.value_width, s.keys, s.value_width};
}

/* z, from the product of query and key; minus infinity where the query may not look. */
MINIDL_INLINE real score(const Problem &s, Task task, int t, int key, real product) {
    const int ahead = key - t - s.offset;
    if (t >= s.queries || key >= s.keys || ahead < s.least || ahead > s.most) return (real)-MINIDL_INFINITY;
    const size place = task.batch * s.mask_batch + task.head * s.mask_head + t * s.mask_query + key * s.mask_key;
    if (s.allowed && !s.allowed[place]) return (real)-MINIDL_INFINITY;
    return s.added ? s.factor * product + widen(s.added[place]) : s.factor * product;
}

/* The numbers of the generator, for a thread that asks for one after the other. */
struct Numbers {
    size at; /* the word whose state this is; at first far from all */
    Wide state;
};

MINIDL_INLINE void prepare(const Problem &s, Room &room) {
    if (!s.draws || s.keep) return;
    const int digit = threadIdx.x % 16, place = threadIdx.x / 16;
    room.leaps[place][digit] = leap((half_word)digit << 4 * place, s.increment);
    __syncthreads();
}

/* What dropout multiplies the weight of query t and key s by. */
MINIDL_INLINE real kept(const Problem &s, const Room &room, Task task, int t, int key, Numbers &numbers) {
    if (t >= s.queries || key >= s.keys) return 0;
    const size i = (task.index * s.queries + t) * s.keys + key;
    if (s.keep) return s.keep[i] ? s.grown : (real)0;
    unsigned bits = s.waiting_half;
    if (!s.waiting || i > 0) {
        const size half = i - (s.waiting ? 1 : 0), word_at = half / 2;
        if (word_at == numbers.at + 1) {
            numbers.state = after(room.leaps[0][1], numbers.state);
        } else if (word_at != numbers.at) {
            numbers.state = after(room.leaps[0][1], s.state); /* of word 0 */
            size rest = word_at;
            for (int place = 0; rest > 0; place++, rest >>= 4)
                if (rest & 15) numbers.state = after(room.leaps[place][rest & 15], numbers.state);
        }
        numbers.at = word_at;
        const half_word both = word(numbers.state);
        bits = (unsigned)(half & 1 ? both >> 32 : both);
    }
    return (float)(bits >> 8) * 0x1p-24f >= s.p ? s.grown : (real)0;
}

/* Of a largest score, which is minus infinity where nothing is seen. */
MINIDL_INLINE real or_zero(real largest) { return largest == (real)-MINIDL_INFINITY ? (real)0 : largest; }
MINIDL_INLINE real larger(real a, real b) { return b > a || b != b ? b : a; } /* nan stays */

template <int WIDEST>
MINIDL_INLINE void forward(const Problem &s, Room &room, Scores &scores, stored *y, real *log_sums) {
    const int tiles = tiles_of(s.queries);
    const Task task = task_of(tiles, s.heads);
    const int t0 = task.tile * SIDE, last = at_most(t0 + SIDE, s.queries) - 1;
    const int from = at_least(0, t0 + s.offset + s.least), to = at_most(s.keys, last + s.offset + s.most + 1);
    const int row = threadIdx.x % SIDE, part = threadIdx.x / SIDE; /* a thread has these columns of that row of scores */
    enum { COLUMNS = SIDE / PARTS };
    real *const z = scores.at(room), largest = (real)-MINIDL_INFINITY, sum = 0;
    Numbers numbers = {-2, {0, 0}};
    Tile sums[WIDEST / SIDE];
    MINIDL_UNROLL
    for (int j = 0; j < WIDEST / SIDE; j++) clear(sums[j]);
    prepare(s, room);
    for (int s0 = from; s0 < to; s0 += SIDE) {
        Tile product;
        multiply_rows(product, room.panels, queries_of(s, task.index), t0, keys_of(s, task.index), s0);
        MINIDL_UNROLL
        for (int i = 0; i < EACH; i++) {
            const Place place = at(i);
            z[place.column * PITCH + place.row] = score(s, task, t0 + place.row, s0 + place.column, product.of[i]);
        }
        __syncthreads();
        real own[COLUMNS], before = largest;
        MINIDL_UNROLL
        for (int c = 0; c < COLUMNS; c++) {
            own[c] = z[(part * COLUMNS + c) * PITCH + row];
            largest = larger(largest, own[c]);
        }
        scores.parts[part][row] = largest;
        __syncthreads();
        for (int other = 0; other < PARTS; other++) largest = larger(largest, scores.parts[other][row]);
        const real shrink = REAL(decay)(before - or_zero(largest));
        sum *= shrink;
        MINIDL_UNROLL
        for (int c = 0; c < COLUMNS; c++) {
            const real e = REAL(decay)(own[c] - or_zero(largest));
            const int column = part * COLUMNS + c;
            sum += e;
            const real m = s.draws ? kept(s, room, task, t0 + row, s0 + column, numbers) : (real)1;
            room.weights[column * PITCH + row] = to_cell(m * e);
        }
        if (part == 0) scores.row[row] = shrink;
        __syncthreads();
        MINIDL_UNROLL
        for (int i = 0; i < EACH; i++) {
            const real factor = scores.row[at(i).row];
            MINIDL_UNROLL
            for (int j = 0; j < WIDEST / SIDE; j++) sums[j].of[i] *= factor;
        }
        multiply_panel(sums, room.weights, room.panels, values_of(s, task.index), s0);
    }
    scores.parts[part][row] = sum;
    __syncthreads();
    real total = 0;
    for (int other = 0; other < PARTS; other++) total += scores.parts[other][row];
    if (part == 0) {
        scores.row[row] = 1 / (total == 0 ? (real)1 : total);
        if (t0 + row < s.queries) log_sums[task.index * s.queries + t0 + row] = or_zero(largest) + log(total);
    }
    __syncthreads();
    store(y + task.index * s.queries * s.value_width, sums, t0, s.queries, s.value_width, [&](int r) { return scores.row[r]; });
}

/* p and dz of one tile, in the places of their threads; m p is p if nothing is dropped. */
struct Slopes {
    Tile p, dz;
};
MINIDL_INLINE void find_slopes(const Problem &s, Room &room, Task task, Rows dy, int t0, int s0, Slopes &found) {
    multiply_rows(found.p, room.panels, queries_of(s, task.index), t0, keys_of(s, task.index), s0);
    multiply_rows(found.dz, room.panels, dy, t0, values_of(s, task.index), s0);
    Numbers numbers = {-2, {0, 0}};
    MINIDL_UNROLL
    for (int i = 0; i < EACH; i++) {
        const Place place = at(i);
        const real z = score(s, task, t0 + place.row, s0 + place.column, found.p.of[i]);
        const real p = REAL(exponential)(z - room.log_sum[place.row]);
        const real m = s.draws ? kept(s, room, task, t0 + place.row, s0 + place.column, numbers) : (real)1;
        found.dz.of[i] = p * (m * found.dz.of[i] - room.delta[place.row]);
        found.p.of[i] = m * p;
    }
}

/* l and delta of a tile's queries; those beyond the last have none. */
MINIDL_INLINE void load_statistics(const Problem &s, Room &room, Task task, int t0, const real *log_sums, const real *deltas) {
    for (int i = threadIdx.x; i < SIDE; i += THREADS) {
        const bool there = t0 + i < s.queries;
        room.log_sum[i] = there ? or_zero(log_sums[task.index * s.queries + t0 + i]) : (real)0;
        room.delta[i] = there ? deltas[task.index * s.queries + t0 + i] : (real)0;
    }
}

template <int WIDEST>
MINIDL_INLINE void query_gradients(const Problem &s, Room &room, const stored *dy, const real *log_sums, const real *deltas,
                                   stored *dquery) {
    const int tiles = tiles_of(s.queries);
    const Task task = task_of(tiles, s.heads);
    const int t0 = task.tile * SIDE, last = at_most(t0 + SIDE, s.queries) - 1;
    const int from = at_least(0, t0 + s.offset + s.least), to = at_most(s.keys, last + s.offset + s.most + 1);
    const Rows upstream = {dy + task.index * s.queries * s.value_width, s.queries, s.value_width};
    Tile sums[WIDEST / SIDE];
    MINIDL_UNROLL
    for (int j = 0; j < WIDEST / SIDE; j++) clear(sums[j]);
    prepare(s, room);
    load_statistics(s, room, task, t0, log_sums, deltas);
    for (int s0 = from; s0 < to; s0 += SIDE) {
        Slopes tile;
        find_slopes(s, room, task, upstream, t0, s0, tile);
        MINIDL_UNROLL
        for (int i = 0; i < EACH; i++) room.weights[at(i).column * PITCH + at(i).row] = to_cell(tile.dz.of[i]);
        multiply_panel(sums, room.weights, room.panels, keys_of(s, task.index), s0);
    }
    store(dquery + task.index * s.queries * s.width, sums, t0, s.queries, s.width, [&](int) { return s.factor; });
}

template <int WIDEST>
MINIDL_INLINE void key_gradients(const Problem &s, Room &room, const stored *dy, const real *log_sums, const real *deltas,
                                 stored *dkey, stored *dvalue) {
    const int tiles = tiles_of(s.keys), key_heads = s.heads / s.group;
    const size index = blockIdx.x / tiles; /* of (N, heads of the keys) */
    const int s0 = (int)(blockIdx.x % tiles) * SIDE, last = at_most(s0 + SIDE, s.keys) - 1;
    const int from = at_least(0, s0 - s.offset - s.most), to = at_most(s.queries, last - s.offset - s.least + 1);
    Tile of_keys[WIDEST / SIDE], of_values[WIDEST / SIDE];
    MINIDL_UNROLL
    for (int j = 0; j < WIDEST / SIDE; j++) {
        clear(of_keys[j]);
        clear(of_values[j]);
    }
    prepare(s, room);
    for (int member = 0; member < s.group; member++) {
        Task task = {index / key_heads, index % key_heads * s.group + member, 0, 0};
        task.index = task.batch * s.heads + task.head;
        const Rows upstream = {dy + task.index * s.queries * s.value_width, s.queries, s.value_width};
        for (int t0 = from; t0 < to; t0 += SIDE) {
            Slopes tile;
            load_statistics(s, room, task, t0, log_sums, deltas);
            find_slopes(s, room, task, upstream, t0, s0, tile);
            MINIDL_UNROLL
            for (int i = 0; i < EACH; i++) room.weights[at(i).row * PITCH + at(i).column] = to_cell(tile.p.of[i]);
            multiply_panel(of_values, room.weights, room.panels, upstream, t0);
            __syncthreads(); /* all have read the weights */
            MINIDL_UNROLL
            for (int i = 0; i < EACH; i++) room.weights[at(i).row * PITCH + at(i).column] = to_cell(tile.dz.of[i]);
            multiply_panel(of_keys, room.weights, room.panels, queries_of(s, task.index), t0);
        }
    }
    store(dkey + index * s.keys * s.width, of_keys, s0, s.keys, s.width, [&](int) { return s.factor; });
    store(dvalue + index * s.keys * s.value_width, of_values, s0, s.keys, s.value_width, [&](int) { return (real)1; });
}

extern "C" __global__ void attention_delta(const stored *dy, const stored *y, real *deltas, size rows, int columns) {
    __shared__ real scratch[MOST_WARPS];
    for (size row = first_row(); row < rows; row += rows_at_once()) {
        real sum = 0;
        visit(of_team(), dy + row * columns, y + row * columns, columns, [&](size, real g, real value) { sum += g * value; });
        sum = combine_team(sum, scratch, Add());
        if (threadIdx.x == 0) deltas[row] = sum;
    }
}

/* For heads of up to WIDEST features. */
#define KERNELS(WIDEST)                                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_forward_##WIDEST(ARGUMENTS, stored *y, real *log_sums) { \
        __shared__ Room room;                                                                                              \
        __shared__ Scores scores;                                                                                          \
        forward<WIDEST>(PROBLEM, room, scores, y, log_sums);                                                               \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_queries_##WIDEST(                                      \
        ARGUMENTS, const stored *dy, const real *log_sums, const real *deltas, stored *dquery) {                           \
        __shared__ Room room;                                                                                              \
        query_gradients<WIDEST>(PROBLEM, room, dy, log_sums, deltas, dquery);                                              \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_keys_##WIDEST(                                         \
        ARGUMENTS, const stored *dy, const real *log_sums, const real *deltas, stored *dkey, stored *dvalue) {             \
        __shared__ Room room;                                                                                              \
        key_gradients<WIDEST>(PROBLEM, room, dy, log_sums, deltas, dkey, dvalue);                                          \
    }
KERNELS(64)
KERNELS(128)
