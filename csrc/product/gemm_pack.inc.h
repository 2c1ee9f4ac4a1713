/* Packing: a block of a matrix rewritten as panels, in the order in which the tiles read them. */

enum { LINE = 64 / sizeof(real) }; /* of a cache */

/* How wide the next panel is if `left` elements remain: in whole units, at most `limit`. */
INLINE ptrdiff_t panel(ptrdiff_t left, int unit, int limit) { return step((left + unit - 1) / unit, limit / unit) * unit; }

/* to[i] = from[i] for i < count, 0 from there up to width. */
INLINE void copy_or_zero(const real *from, ptrdiff_t count, ptrdiff_t width, real *to) {
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES) STORE(to + i, LOAD(from + i));
    for (; i + SHORT <= count; i += SHORT) *(short_vector *)(to + i) = *(const short_vector *)(from + i);
    for (; i < count; i++) to[i] = from[i];
    for (; i < width; i++) to[i] = 0;
}

/* to[p * width + j] = from[j * across + p] for j < count, a multiple of SHORT: by small squares, all of a row of `to` at a
 * time. */
INLINE void turn_over(int count, ptrdiff_t k, const real *from, ptrdiff_t across, ptrdiff_t width, real *to) {
    ptrdiff_t p = 0;
    for (; p + SHORT <= k; p += SHORT)
        UNROLL for (int j = 0; j < count; j += SHORT) {
            short_vector square[SHORT];
            UNROLL for (int s = 0; s < SHORT; s++) square[s] = *(const short_vector *)(from + (j + s) * across + p);
            transpose(square);
            UNROLL for (int s = 0; s < SHORT; s++) *(short_vector *)(to + (p + s) * width + j) = square[s];
        }
    for (; p < k; p++)
        for (int j = 0; j < count; j++) to[p * width + j] = from[j * across + p];
}

/* Elements from[i * across + p * along] for i < count and p < k become panels of some width, to[i * k + p * width + its own i];
 * the last is filled up with zeros. Rows whose elements lie together are copied a few at a time, while memory
 * fetches the next few; else small squares are turned over. */
INLINE void pack(int unit, int limit, ptrdiff_t count, ptrdiff_t k, const real *from, ptrdiff_t across, ptrdiff_t along,
                 real *to) {
    enum { TOGETHER = 8 };
    if (across == 1) {
        for (ptrdiff_t p0 = 0, rows; p0 < k; p0 += rows) {
            rows = minidl_min(TOGETHER, k - p0);
            for (ptrdiff_t i = 0, width; i < count; i += width) {
                width = panel(count - i, unit, limit);
                for (ptrdiff_t p = p0; p < p0 + rows; p++) {
                    const real *const ahead = from + (p + TOGETHER) * along + i;
                    for (ptrdiff_t j = 0; p + TOGETHER < k && j < width; j += LINE) PREFETCH(ahead + j);
                    copy_or_zero(from + p * along + i, minidl_min(width, count - i), width, to + i * k + p * width);
                }
            }
        }
        return;
    }
    for (ptrdiff_t i = 0, width; i < count; i += width, to += k * width) {
        width = panel(count - i, unit, limit);
        ptrdiff_t j = 0;
        for (; along == 1 && j + LINE <= minidl_min(width, count - i); j += LINE)
            turn_over(LINE, k, from + (i + j) * across, across, width, to + j);
        for (; along == 1 && j + SHORT <= minidl_min(width, count - i); j += SHORT)
            turn_over(SHORT, k, from + (i + j) * across, across, width, to + j);
        for (; j < width; j++)
            for (ptrdiff_t p = 0; p < k; p++) to[p * width + j] = i + j < count ? from[(i + j) * across + p * along] : 0;
    }
}
