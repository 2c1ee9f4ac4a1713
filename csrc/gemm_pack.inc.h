/* Packing: a block of a matrix rewritten as panels, in the order in which the tiles read them. */

/* How wide the next panel is if `left` numbers remain: in whole units, at most `limit`. */
INLINE ptrdiff_t panel(ptrdiff_t left, int unit, int limit) { return step((left + unit - 1) / unit, limit / unit) * unit; }

/* to[i] = from[i] for i < count, 0 from there up to width. */
INLINE void copy_or_zero(const real *from, ptrdiff_t count, ptrdiff_t width, real *to) {
    ptrdiff_t i = 0;
    for (; i + SHORT <= count; i += SHORT) *(short_vector *)(to + i) = *(const short_vector *)(from + i);
    for (; i < count; i++) to[i] = from[i];
    for (; i < width; i++) to[i] = 0;
}

/* Numbers from[i * across + p * along] for i < count and p < k become panels of some width, to[i * k + p * width + its own i];
 * the last is filled up with zeros. Rows of numbers that lie together are copied one after the other, because that is how
 * memory delivers them; else small squares are turned over. */
INLINE void pack(int unit, int limit, ptrdiff_t count, ptrdiff_t k, const real *from, ptrdiff_t across, ptrdiff_t along,
                 real *to) {
    enum { LINE = 64 / sizeof(real), AHEAD = 8 };
    if (across == 1) {
        for (ptrdiff_t p = 0; p < k; p++) {
            for (ptrdiff_t i = 0; p + AHEAD < k && i < count; i += LINE) PREFETCH(from + (p + AHEAD) * along + i);
            for (ptrdiff_t i = 0, width; i < count; i += width) {
                width = panel(count - i, unit, limit);
                copy_or_zero(from + p * along + i, least(width, count - i), width, to + i * k + p * width);
            }
        }
        return;
    }
    for (ptrdiff_t i = 0, width; i < count; i += width, to += k * width) {
        width = panel(count - i, unit, limit);
        ptrdiff_t j = 0;
        for (; along == 1 && j + SHORT <= least(width, count - i); j += SHORT) {
            const real *const rows = from + (i + j) * across;
            ptrdiff_t p = 0;
            for (; p + SHORT <= k; p += SHORT) {
                short_vector square[SHORT];
                UNROLL for (int s = 0; s < SHORT; s++) square[s] = *(const short_vector *)(rows + s * across + p);
                transpose(square);
                UNROLL for (int s = 0; s < SHORT; s++) *(short_vector *)(to + (p + s) * width + j) = square[s];
            }
            for (; p < k; p++)
                for (int s = 0; s < SHORT; s++) to[p * width + j + s] = rows[s * across + p];
        }
        for (; j < width; j++)
            for (ptrdiff_t p = 0; p < k; p++) to[p * width + j] = i + j < count ? from[(i + j) * across + p * along] : 0;
    }
}
