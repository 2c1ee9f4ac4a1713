/* A block of a Transformer in one call, for inference: two norms, attention between two affine maps, and two maps with an
 * activation. No loop is written here that the other families have; they are only called one after another, so the bits are
 * those of the single ops.
 *
 *     norms first:    h = x + out(attend(qkv(norm_0(x))));    y = h + second(activation(first(norm_1(h))))
 *     norms after:    h = norm_0(x + out(attend(qkv(x))));    y = norm_1(h + second(activation(first(h))))
 *
 * where qkv gives queries, keys and values of all heads side by side. With a cache, the new keys and values are written behind
 * the `length` positions that it holds, and the queries look at all of them up to their own; without, they look at one another,
 * as mask and `causal` allow. A sum and the norm after it are computed together, some rows at a time, while these are in cache. */
#ifndef MINIDL_BLOCK_H
#define MINIDL_BLOCK_H

#include <stddef.h>

#include "attention/attention.h"
#include "product/gemm.h"

/* y = x W^T + b, with W as linear layers have it or as it is stored (product/narrow.h). */
enum { MINIDL_SINGLE, MINIDL_BFLOAT16, MINIDL_FLOAT16, MINIDL_INT8 };
typedef struct {
    int kind;
    ptrdiff_t outputs, inputs;
    const void *weight;
    const float *scale, *bias; /* of int8; may be NULL */
} minidl_block_map;

typedef struct {
    const float *weight, *bias; /* may be NULL */
    double eps;
} minidl_block_norm;

typedef struct {
    minidl_block_norm norms[2];
    minidl_block_map qkv, out, first, second;
    int norm_first, causal, rounds; /* rounds: products round their operands to bfloat16 */
    void (*activation)(const float *x, float *y, ptrdiff_t n, const void *arguments);
    float settings[2];
    ptrdiff_t batch, queries, width, heads;
    const float *x;
    float *y; /* (batch, queries, width) both, without gaps */
    float *keys, *values; /* the cache, (batch, heads, room, width / heads) without gaps; or NULL */
    ptrdiff_t room, length;
    minidl_attention_arrays mask; /* of which only the mask is read */
} minidl_block;

/* 0; 1 where a number is not finite or a sum of squares beyond the range, so that the ops have to do it; -1 where memory is short. */
int minidl_block_forward(const minidl_block *b);

#endif
