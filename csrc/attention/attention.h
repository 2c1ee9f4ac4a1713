/* Scaled dot-product attention in tiles: no array of the size queries x keys exists, only a tile of it for each thread.
 *
 *     for each batch n, query head h with its key head g = h / (heads / key_heads), and query t:
 *         for each key s that t may see: z[s] = scale * sum over d of q[d] * k[s][d] + mask
 *         log_sum = log(sum over s of exp(z[s]))
 *         y[e] = sum over s of exp(z[s] - log_sum) * v[s][e]
 *
 * Query t may see the keys from first(t) to before last(t), where with p = t + offset
 *
 *     first(t) = max(p - window + 1, 0), and 0 without a window
 *     last(t)  = min(p + 1, keys) if causal; min(p + window, keys) with a window; else keys
 *
 * and which the mask does not rule out. Tiles that no query sees are left out: half of them if causal. One that sees no key gets
 * y = 0 and log_sum = -infinity. The sum over blocks of keys keeps the largest score so far; where it grows, what was summed is
 * scaled down (M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018).
 *
 * backward computes the scores again, with p[s] = exp(z[s] - log_sum), and
 *
 *     delta = sum over e of dy[e] * y[e]
 *     dz[s] = p[s] * (sum over e of dy[e] * v[s][e] - delta)
 *     dv[s][e] += p[s] * dy[e],  dk[s][d] += scale * dz[s] * q[d],  dq[d] += scale * dz[s] * k[s][d]
 *
 * With dropout, m[s] is 1 / (1 - p) or 0 for each weight, exp(z[s] - log_sum) becomes m[s] exp(z[s] - log_sum) in y and dv, and the sum
 * over e in dz is multiplied by m[s]. The weights of all (batch, heads, queries, keys) have one number each of the generator's sequence,
 * in this order: a tile advances a copy of the generator to where its rows begin. So backward draws the same numbers again.
 *
 * (T. Dao et al., "FlashAttention", 2022.) A thread does whole tiles of queries forward, and whole key heads backward, so the bits do
 * not depend on how many threads there are.
 *
 * Results are wrong where q, k, v or dy hold inf or nan that a query may not see, because 0 times them is nan: then `unusual` is set,
 * and the caller leaves it to the formula. */
#ifndef MINIDL_ATTENTION_H
#define MINIDL_ATTENTION_H

#include <stddef.h>

#include "runtime/isa.h"
#include "runtime/pcg64.h"

/* An array (batch, heads, rows, size) by its steps, in elements; the last axis has no gaps. */
typedef struct {
    void *at;
    ptrdiff_t batch, head, row;
} minidl_heads;

typedef struct {
    minidl_heads q, k, v, y, dy, dq, dk, dv;
    void *log_sum;    /* (batch, heads, queries), without gaps */
    const void *mask; /* bytes, 0 for what is left out; or numbers, which are added; or NULL */
    int mask_is_bytes;
    ptrdiff_t mask_batch, mask_head, mask_query, mask_key; /* steps in elements, which may be 0 */
    ptrdiff_t batch, heads, key_heads, queries, keys, size, value_size;
    ptrdiff_t window, offset; /* a window of 0 is none */
    int causal;
    int rounds; /* whether products round their operands to bfloat16 (product/bf16.h); of single precision only */
    double scale;
    const minidl_pcg64 *random; /* draws what dropout keeps: the numbers of at least `p`; or NULL */
    const unsigned char *keep; /* says it, (batch, heads, queries, keys), without gaps; or NULL */
    double p;
} minidl_attention_arrays;

/* Items [from, to): forward, tiles of queries of one head after another; backward, key heads. They return 0, 1 where something was
 * not finite, or -1 where memory is short. */
#define MINIDL_ATTENTION_TABLE(real)                                                                                       \
    struct {                                                                                                               \
        int (*forward)(const minidl_attention_arrays *s, ptrdiff_t from, ptrdiff_t to);                                    \
        int (*backward)(const minidl_attention_arrays *s, ptrdiff_t from, ptrdiff_t to);                                   \
    }
MINIDL_TABLES(minidl_attentions, MINIDL_ATTENTION_TABLE)

enum { MINIDL_QUERIES_AT_ONCE = 64 }; /* rows of a tile */

int minidl_attention(int is_double, const minidl_attention_arrays *s);
int minidl_attention_backward(int is_double, const minidl_attention_arrays *s);

#endif
