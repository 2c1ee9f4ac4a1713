/* The tile instructions of AMX in C, as Intel's manual describes them (Software Developer's Manual, volume 2: LDTILECFG, TILELOADD,
 * TDPBF16PS), for compilers to read before csrc/product/bf16_amx.c: `cc -include tiles_in_c.h`. Where a processor would raise an
 * exception, and where tiles are left to others, the program ends with a message. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILES = 8, MOST_ROWS_OF_A_TILE = 16, MOST_BYTES_OF_A_ROW = 64 };

static _Thread_local struct {
    int in_use;
    int rows[TILES], bytes[TILES];
    uint8_t data[TILES][MOST_ROWS_OF_A_TILE][MOST_BYTES_OF_A_ROW];
} tile_state;

static void require(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "tiles: %s\n", what);
    exit(3);
}

int tiles_are_in_use(void);
int tiles_are_in_use(void) { return tile_state.in_use; }

static void load_shapes(const void *from) {
    uint8_t bytes[64];
    memcpy(bytes, from, sizeof bytes);
    require(!tile_state.in_use, "shapes are set while they are set");
    require(bytes[0] == 1, "there is only palette 1");
    for (int i = 1; i < 16; i++) require(bytes[i] == 0, "reserved bytes are not zero");
    memset(&tile_state, 0, sizeof tile_state);
    for (int t = 0; t < 16; t++) {
        const int row_bytes = bytes[16 + 2 * t] | bytes[17 + 2 * t] << 8, rows = bytes[48 + t];
        require(t < TILES ? row_bytes <= MOST_BYTES_OF_A_ROW && rows <= MOST_ROWS_OF_A_TILE : row_bytes == 0 && rows == 0,
                "a tile is too large");
        require((row_bytes == 0) == (rows == 0), "a tile has rows without bytes, or bytes without rows");
        if (t < TILES) tile_state.rows[t] = rows, tile_state.bytes[t] = row_bytes;
    }
    tile_state.in_use = 1;
}

static void release_tiles(void) { memset(&tile_state, 0, sizeof tile_state); }

static void require_tile(int t) { require(tile_state.in_use && tile_state.rows[t] > 0, "a tile without a shape is used"); }

static void load_tile(int t, const void *from, ptrdiff_t stride) {
    require_tile(t);
    memset(tile_state.data[t], 0, sizeof tile_state.data[t]);
    for (int i = 0; i < tile_state.rows[t]; i++)
        memcpy(tile_state.data[t][i], (const char *)from + i * stride, (size_t)tile_state.bytes[t]);
}

static void store_tile(int t, void *to, ptrdiff_t stride) {
    require_tile(t);
    for (int i = 0; i < tile_state.rows[t]; i++)
        memcpy((char *)to + i * stride, tile_state.data[t][i], (size_t)tile_state.bytes[t]);
}

static void clear_tile(int t) {
    require_tile(t);
    memset(tile_state.data[t], 0, sizeof tile_state.data[t]);
}

/* Subnormal numbers count as zero, with their sign. */
static float flushed(float x) { return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x; }

static float from_bf16(const uint8_t *at) {
    const uint32_t bits = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 24;
    float x;
    memcpy(&x, &bits, sizeof x);
    return flushed(x);
}

__attribute__((target("fma"))) static float multiply_add(const uint8_t *a, const uint8_t *b, float sum) {
    return flushed(fmaf(from_bf16(a), from_bf16(b), sum));
}

static void add_product_of_tiles(int c, int a, int b) {
    require_tile(a), require_tile(b), require_tile(c);
    require(a != b && b != c && a != c, "a tile is used twice");
    const int pairs = tile_state.bytes[a] / 4;
    require(tile_state.rows[a] == tile_state.rows[c] && tile_state.rows[b] == pairs && tile_state.bytes[b] == tile_state.bytes[c] &&
                tile_state.bytes[a] % 4 == 0 && tile_state.bytes[c] % 4 == 0,
            "shapes of tiles do not fit");
    for (int i = 0; i < tile_state.rows[c]; i++)
        for (int j = 0; j < tile_state.bytes[c] / 4; j++) {
            float low = 0, high = 0, old;
            for (int p = 0; p < pairs; p++) {
                const uint8_t *const left = tile_state.data[a][i] + 4 * p, *const right = tile_state.data[b][p] + 4 * j;
                low = multiply_add(left, right, low);
                high = multiply_add(left + 2, right + 2, high);
            }
            memcpy(&old, tile_state.data[c][i] + 4 * j, sizeof old);
            const float sum = flushed(flushed(old) + flushed(low + high));
            memcpy(tile_state.data[c][i] + 4 * j, &sum, sizeof sum);
        }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig load_shapes
#define _tile_release release_tiles
#define _tile_loadd load_tile
#define _tile_stored store_tile
#define _tile_zero clear_tile
#define _tile_dpbf16ps add_product_of_tiles
