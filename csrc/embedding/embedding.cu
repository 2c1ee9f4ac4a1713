/* Rows of a table on a GPU, and the sum of gradients over equal ids without atomics, whose order would differ each time.
 *
 *     y[n][c] = w[ids[n]][c]                 dw[v][c] += sum of dy[n][c] over the n with ids[n] = v
 *
 * For the sum the ids come sorted, each with its place n, so equal ids are a run. A block has a chunk of CHUNK places, a thread some
 * columns of it. A run inside one chunk goes straight to the table. One that goes over the edge of a chunk leaves a partial
 * sum on each side, and the second kernel adds those of a run, from the first to the last. */
#include "runtime/device.cuh"

enum { CHUNK = 32 };

struct Found {
    long long place;
};
MINIDL_INLINE Found exchange(Found found, int bit) { return Found{__shfl_xor_sync(ALL_LANES, found.place, bit)}; }

/* The first place whose id is no row of the table, or `places`; in one block. */
extern "C" __global__ void embedding_check(const long long *ids, long long *wrong, size places, size vocabulary) {
    __shared__ Found scratch[MOST_WARPS];
    Found first = {places};
    for (size n = threadIdx.x; n < places; n += blockDim.x) {
        if ((ids[n] < 0 || ids[n] >= vocabulary) && n < first.place) first.place = n;
    }
    first = combine_team(first, scratch, [](Found a, Found b) { return a.place < b.place ? a : b; });
    if (threadIdx.x == 0) *wrong = first.place;
}

/* An id that is no row gives nan. */
extern "C" __global__ void embedding_forward(const stored *weight, const long long *ids, stored *y, size places, size vocabulary,
                                             int width) {
    for (size n = first_row(); n < places; n += rows_at_once()) {
        const long long id = ids[n];
        const bool there = id >= 0 && id < vocabulary;
        const stored *const from = weight + (there ? id : 0) * width;
        map(of_team(), from, y + n * width, width, [=](size, real value) { return there ? value : (real)MINIDL_NAN; });
    }
}

MINIDL_INLINE bool counts(long long row, size vocabulary, long long skipped) {
    return row >= 0 && row < vocabulary && row != skipped;
}
MINIDL_INLINE void add_to(stored *to, real sum) { *to = narrow(widen(*to) + widen(narrow(sum))); }

/* rows[i] is the i-th smallest id, and order[i] its place. partials has for each chunk two sums: of the run that began before it,
 * and of the one that begins in it and goes on. */
extern "C" __global__ void embedding_runs(const stored *dy, const long long *rows, const long long *order, stored *dweight,
                                          real *partials, size places, size vocabulary, int width, long long skipped) {
    for (size chunk = blockIdx.x; chunk * CHUNK < places; chunk += gridDim.x) {
        const size from = chunk * CHUNK, to = from + CHUNK < places ? from + CHUNK : places;
        for (int c = threadIdx.x; c < width; c += blockDim.x) {
            bool begun_before = from > 0 && rows[from - 1] == rows[from];
            real sum = 0;
            for (size i = from; i < to; i++) {
                const long long row = rows[i];
                sum += widen(dy[order[i] * width + c]);
                const bool ends = i + 1 == places || rows[i + 1] != row;
                if (!ends && i + 1 < to) continue;
                if (begun_before) partials[2 * chunk * width + c] = sum;
                else if (!ends) partials[(2 * chunk + 1) * width + c] = sum;
                else if (counts(row, vocabulary, skipped)) add_to(dweight + row * width + c, sum);
                begun_before = false;
                sum = 0;
            }
        }
    }
}

extern "C" __global__ void embedding_joins(const long long *rows, const real *partials, stored *dweight, size places,
                                           size vocabulary, int width, long long skipped) {
    for (size chunk = blockIdx.x; (chunk + 1) * CHUNK < places; chunk += gridDim.x) {
        const size from = chunk * CHUNK, next = from + CHUNK;
        const long long row = rows[next - 1];
        const bool begins_here = from == 0 || rows[from - 1] != row;
        if (rows[next] != row || !begins_here || !counts(row, vocabulary, skipped)) continue; /* for the whole block */
        for (int c = threadIdx.x; c < width; c += blockDim.x) {
            real sum = partials[(2 * chunk + 1) * width + c];
            for (size other = chunk + 1; other * CHUNK < places && rows[other * CHUNK] == row; other++)
                sum += partials[2 * other * width + c];
            add_to(dweight + row * width + c, sum);
        }
    }
}
