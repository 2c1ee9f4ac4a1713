/* Products of tiles in shared memory, by the THREADS of a block together.
 *
 *     c[i][j] += sum_k a[k][i] b[k][j]        i, j < SIDE
 *
 * a and b are panels: one row of SIDE cells for each k. c is in registers; at(i) says which element a thread's i-th is. For float16
 * the warps multiply by tensor cores, with cells of 16 bits and sums in float32. Otherwise a thread holds a square of SQUARE x SQUARE
 * elements. The order of each sum is always the same. */
#ifndef MINIDL_TILES_CUH
#define MINIDL_TILES_CUH

#include "runtime/device.cuh"

enum { THREADS = 256, SIDE = sizeof(real) == 4 ? 64 : 32, DEPTH = SIDE / 2, SQUARE = SIDE / 16, EACH = SQUARE * SQUARE };

#if defined(MINIDL_FLOAT16)
typedef stored cell;
MINIDL_INLINE cell to_cell(real x) { return narrow(x); }
MINIDL_INLINE cell cell_of(stored x) { return x; }
MINIDL_INLINE cell no_cell() { return stored{0}; }
#else
typedef real cell;
MINIDL_INLINE cell to_cell(real x) { return x; }
MINIDL_INLINE cell cell_of(stored x) { return widen(x); }
MINIDL_INLINE cell no_cell() { return 0; }
#endif
/* Cells between the rows of a panel, and between those of DEPTH features of a matrix: multiples of 16 bytes that spread over the
 * banks. PANELS is the room for what multiply_rows and multiply_panel read. */
enum { PITCH = SIDE + 16 / sizeof(cell), ROW_PITCH = DEPTH + 16 / sizeof(cell) };
#if defined(MINIDL_FLOAT16)
enum { PANELS = 2 * SIDE * ROW_PITCH };
#else
enum { PANELS = 2 * DEPTH * PITCH };
#endif

struct Tile {
    real of[EACH];
};
struct __align__(16) Cells {
    cell of[PACK];
};
struct Place {
    int row, column;
};

MINIDL_INLINE void clear(Tile &c) {
    MINIDL_UNROLL
    for (int i = 0; i < EACH; i++) c.of[i] = 0;
}

#if defined(MINIDL_FLOAT16)
/* Fragments of tensor cores, for D = A B + D with A of 16 x 16, B of 16 x 8 and D of 16 x 8 elements. Lane 4 g + q has of A the
 * pairs at (g, 2 q), (g + 8, 2 q), (g, 2 q + 8), (g + 8, 2 q + 8), of B those at (2 q, g), (2 q + 8, g), downwards, and of D the
 * pairs at (g, 2 q) and (g + 8, 2 q). */
struct Four {
    unsigned of[4];
};

#if defined(MINIDL_ON_CPU)
/* Four matrices of 8 x 8: lane 8 m + r says where row r of matrix m is, and lane 4 g + q gets, of each, the pair at (g, 2 q). */
MINIDL_INLINE Four load(const stored *row) {
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    Four found;
    for (int m = 0; m < 4; m++) {
        const pack mine = *(const pack *)__shfl_sync(ALL_LANES, row, 8 * m + g); /* which has to be aligned */
        found.of[m] = (unsigned)mine.at[2 * q].bits | (unsigned)mine.at[2 * q + 1].bits << 16;
    }
    return found;
}
/* Each transposed: the pair in column g of rows 2 q and 2 q + 1. */
MINIDL_INLINE Four load_turned(const stored *row) {
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    Four found;
    for (int m = 0; m < 4; m++) {
        const pack above = *(const pack *)__shfl_sync(ALL_LANES, row, 8 * m + 2 * q);
        const pack below = *(const pack *)__shfl_sync(ALL_LANES, row, 8 * m + 2 * q + 1);
        found.of[m] = (unsigned)above.at[g].bits | (unsigned)below.at[g].bits << 16;
    }
    return found;
}
MINIDL_INLINE void multiply_add(real *d, Four a, unsigned b0, unsigned b1) {
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    const auto low = [](unsigned pair) { return widen(stored{(unsigned short)pair}); };
    const auto high = [](unsigned pair) { return widen(stored{(unsigned short)(pair >> 16)}); };
    for (int half = 0; half < 2; half++) /* of k */
        for (int j = 0; j < 4; j++) {
            const unsigned mine = __shfl_sync(ALL_LANES, a.of[2 * half], 4 * g + j);
            const unsigned other = __shfl_sync(ALL_LANES, a.of[2 * half + 1], 4 * g + j);
            for (int column = 0; column < 2; column++) {
                const unsigned b = __shfl_sync(ALL_LANES, half ? b1 : b0, 4 * (2 * q + column) + j);
                d[column] += low(mine) * low(b) + high(mine) * high(b);
                d[2 + column] += low(other) * low(b) + high(other) * high(b);
            }
        }
}
#else
#define LOAD(name, how)                                                                                                    \
    MINIDL_INLINE Four name(const stored *row) {                                                                           \
        Four found;                                                                                                        \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" how ".shared.b16 {%0, %1, %2, %3}, [%4];"                             \
                     : "=r"(found.of[0]), "=r"(found.of[1]), "=r"(found.of[2]), "=r"(found.of[3])                          \
                     : "r"((unsigned)__cvta_generic_to_shared(row))                                                        \
                     : "memory");                                                                                          \
        return found;                                                                                                      \
    }
LOAD(load, "")
LOAD(load_turned, ".trans")
#undef LOAD
MINIDL_INLINE void multiply_add(real *d, Four a, unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.of[0]), "r"(a.of[1]), "r"(a.of[2]), "r"(a.of[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.of[0]), "r"(a.of[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.of[2]), "r"(a.of[3]), "r"(b1));
#endif
}
#endif

/* A warp has 16 rows and half of the columns: four products of 16 x 8. */
MINIDL_INLINE Place at(int i) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    return Place{16 * (warp % 4) + lane / 4 + i % 4 / 2 * 8, 32 * (warp / 4) + i / 4 * 8 + 2 * (lane % 4) + i % 2};
}
/* depth is a multiple of 16. */
MINIDL_INLINE void multiply(Tile &c, const cell *a, const cell *b, int depth) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, r = lane % 8, m = lane / 8;
    a += (r + m / 2 * 8) * PITCH + 16 * (warp % 4) + m % 2 * 8;
    b += (r + m % 2 * 8) * PITCH + 32 * (warp / 4) + m / 2 * 8;
    for (int k = 0; k < depth; k += 16) {
        const Four left = load_turned(a + k * PITCH);
        MINIDL_UNROLL
        for (int j = 0; j < 2; j++) {
            const Four right = load_turned(b + k * PITCH + 16 * j);
            multiply_add(c.of + 8 * j, left, right.of[0], right.of[1]);
            multiply_add(c.of + 8 * j + 4, left, right.of[2], right.of[3]);
        }
    }
}
/* The same with a and b as rows of DEPTH features: c[i][j] += sum_k a[i][k] b[j][k]. */
MINIDL_INLINE void multiply_features(Tile &c, const cell *a, const cell *b) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, r = lane % 8, m = lane / 8;
    a += (16 * (warp % 4) + m % 2 * 8 + r) * ROW_PITCH + m / 2 * 8;
    b += (32 * (warp / 4) + m / 2 * 8 + r) * ROW_PITCH + m % 2 * 8;
    MINIDL_UNROLL
    for (int k = 0; k < DEPTH; k += 16) {
        const Four left = load(a + k);
        MINIDL_UNROLL
        for (int j = 0; j < 2; j++) {
            const Four right = load(b + 16 * j * ROW_PITCH + k);
            multiply_add(c.of + 8 * j, left, right.of[0], right.of[1]);
            multiply_add(c.of + 8 * j + 4, left, right.of[2], right.of[3]);
        }
    }
}
#else
struct __align__(SQUARE * sizeof(real)) Edge {
    real of[SQUARE];
};

MINIDL_INLINE Place at(int i) {
    return Place{(int)threadIdx.x / 16 * SQUARE + i / SQUARE, (int)threadIdx.x % 16 * SQUARE + i % SQUARE};
}
MINIDL_INLINE void multiply(Tile &c, const cell *a, const cell *b, int depth) {
    a += threadIdx.x / 16 * SQUARE;
    b += threadIdx.x % 16 * SQUARE;
    for (int k = 0; k < depth; k++) {
        const Edge left = *(const Edge *)(a + k * PITCH), above = *(const Edge *)(b + k * PITCH);
        MINIDL_UNROLL
        for (int i = 0; i < EACH; i++) c.of[i] += left.of[i / SQUARE] * above.of[i % SQUARE];
    }
}
#endif

/* Rows of a matrix in memory, `width` long, those from `end` on as if they were zero. */
struct Rows {
    const stored *from;
    int end, width;
};

/* Give f each place of SIDE (or fewer) rows of `columns` features, row by row, with PACK cells from there on at once: 16 bytes of memory. */
template <class Function>
MINIDL_INLINE void visit_packs(Rows x, int rows, int columns, int first, int feature, Function f) {
    const bool whole = aligned(x.from) && x.width % PACK == 0;
    for (int i = threadIdx.x; i < rows * columns / PACK; i += THREADS) {
        const int row = i / (columns / PACK), column = i % (columns / PACK) * PACK;
        const int left = first + row < x.end ? x.width - feature - column : 0; /* of the row */
        const stored *const at = x.from + (size)(first + row) * x.width + feature + column;
        Cells cells;
        if (whole && left > 0) {
            const pack found = *(const pack *)at;
            MINIDL_UNROLL
            for (int j = 0; j < PACK; j++) cells.of[j] = cell_of(found.at[j]);
        } else {
            MINIDL_UNROLL
            for (int j = 0; j < PACK; j++) cells.of[j] = j < left ? cell_of(at[j]) : no_cell();
        }
        f(row, column, cells);
    }
}

/* panel[k][j] = x[first + k][feature + j], k < SIDE */
MINIDL_INLINE void lay(cell *panel, Rows x, int first, int feature) {
    visit_packs(x, SIDE, SIDE, first, feature,
                [=](int row, int column, const Cells &cells) { *(Cells *)(panel + row * PITCH + column) = cells; });
}

/* c = the products of SIDE rows of x with SIDE rows of y, DEPTH features at a time. `panels` has room for PANELS cells. */
MINIDL_INLINE void multiply_rows(Tile &c, cell *panels, Rows x, int first_of_x, Rows y, int first_of_y) {
#if defined(MINIDL_FLOAT16)
    cell *const second = panels + SIDE * ROW_PITCH;
    const auto stage = [](cell *panel, Rows rows, int first, int feature) { /* panel[i][k] = rows[first + i][feature + k] */
        visit_packs(rows, SIDE, DEPTH, first, feature,
                    [=](int row, int column, const Cells &cells) { *(Cells *)(panel + row * ROW_PITCH + column) = cells; });
    };
#else
    cell *const second = panels + DEPTH * PITCH;
    const auto stage = [](cell *panel, Rows rows, int first, int feature) { /* panel[k][i] = rows[first + i][feature + k] */
        visit_packs(rows, SIDE, DEPTH, first, feature, [=](int row, int column, const Cells &cells) {
            MINIDL_UNROLL
            for (int j = 0; j < PACK; j++) panel[(column + j) * PITCH + row] = cells.of[j];
        });
    };
#endif
    clear(c);
    for (int feature = 0; feature < x.width; feature += DEPTH) {
        __syncthreads(); /* all have read what the panels had */
        stage(panels, x, first_of_x, feature);
        stage(second, y, first_of_y, feature);
        __syncthreads();
#if defined(MINIDL_FLOAT16)
        multiply_features(c, panels, second);
#else
        multiply(c, panels, second, DEPTH);
#endif
    }
}

/* c[j] += the product of a panel of SIDE rows with SIDE rows of x, of whose features c[j] has those from SIDE j on. */
template <int TILES>
MINIDL_INLINE void multiply_panel(Tile (&c)[TILES], const cell *panel, cell *panels, Rows x, int first) {
    MINIDL_UNROLL
    for (int j = 0; j < TILES; j++) {
        if (j * SIDE >= x.width) break; /* for every thread alike */
        __syncthreads();                /* all have written the panel, and read what the other had */
        lay(panels, x, first, j * SIDE);
        __syncthreads();
        multiply(c[j], panel, panels, SIDE);
    }
}

/* y = c times a factor for each row */
template <int TILES, class Factor>
MINIDL_INLINE void store(stored *y, const Tile (&c)[TILES], int first, int end, int width, Factor factor) {
    MINIDL_UNROLL
    for (int j = 0; j < TILES; j++) {
        MINIDL_UNROLL
        for (int i = 0; i < EACH; i++) {
            const Place place = at(i);
            const int row = first + place.row, column = j * SIDE + place.column;
            if (row < end && column < width) y[(size)row * width + column] = narrow(c[j].of[i] * factor(place.row));
        }
    }
}

#endif
