"""Attention."""

import numpy
from family import Family, random


def attend(engine, dtype, batch, heads, shared, queries, keys, size, value_size, **options):
    """Yield y, the logarithms of the sums, and the gradients."""
    q, k = random((batch, heads, queries, size), dtype), random((batch, shared, keys, size), dtype, 1)
    v = random((batch, shared, keys, value_size), dtype, 2)
    y, cache = engine.scaled_dot_product_attention(q, k, v, enable_gqa=heads != shared, **options)
    what = ", ".join((f"{queries} queries, {keys} keys", *options))
    yield f"y of {what}", y
    yield f"the logarithms of {what}", cache[-1]
    gradients = engine.scaled_dot_product_attention_backward(random(y.shape, dtype, 3), cache)
    yield from ((f"d{name} of {what}", g) for name, g in zip(("query", "key", "value"), gradients, strict=True))


def few_attentions(engine, dtype):
    yield from attend(engine, dtype, 1, 1, 1, 1, 1, 1, 1)
    yield from attend(engine, dtype, 2, 2, 1, 67, 131, 5, 7)
    yield from attend(engine, dtype, 1, 2, 2, 65, 66, 35, 50, is_causal=True)
    yield from attend(engine, dtype, 1, 2, 1, 5, 7, 40, 16)
    yield from attend(engine, dtype, 1, 1, 1, 66, 140, 3, 2, is_causal=True, window=9, offset=74)
    yield from attend(engine, dtype, 1, 1, 1, 140, 66, 3, 2, window=20)
    allowed = numpy.random.default_rng(4).random((2, 1, 66, 70)) < 0.3
    allowed[..., 3, :] = False  # a query that sees nothing
    yield from attend(engine, dtype, 2, 1, 1, 66, 70, 4, 3, attn_mask=allowed)
    added = numpy.where(allowed[:1], random((1, 1, 66, 70), dtype, 5), -numpy.inf).astype(dtype)
    yield from attend(engine, dtype, 1, 2, 1, 66, 70, 4, 3, attn_mask=added, scale=0.3)
    generator = numpy.random.default_rng(0)
    for keys in (67, 9):  # an odd number of weights, so that half a word is left over
        yield from attend(engine, dtype, 1, 3, 1, 3, keys, 4, 3, dropout_p=0.4, random=generator)
    yield "the generator's next number of 32 bits", generator.random(1, dtype="float32")
    keep = generator.random((1, 1, 4, 5)) < 0.6
    yield from attend(engine, dtype, 1, 1, 1, 4, 5, 4, 3, dropout_p=0.4, random=keep)


def more_attentions(engine, dtype):
    """Wider heads, those of a GPT; and those that are too wide for the kernels."""
    yield from attend(engine, dtype, 1, 2, 2, 65, 65, 64, 64, is_causal=True)
    yield from attend(engine, dtype, 1, 1, 1, 5, 66, 128, 100)
    yield from attend(engine, dtype, 1, 1, 1, 2, 3, 130, 2)
    generator = numpy.random.default_rng(1)
    generator.random(12345, dtype="float32")
    yield from attend(engine, dtype, 2, 2, 1, 70, 71, 4, 3, dropout_p=0.1, random=generator, is_causal=True)


ATTENTION = Family(
    "attention/attention.cu",
    ops=("scaled_dot_product_attention",),
    few=few_attentions,
    more=more_attentions,
    kernels=[("KERNELS(64)\nKERNELS(128)", "KERNELS(64)")],
    planted={
        "no barrier before a panel is written": [
            ("        __syncthreads(); /* all have read what the panels had */\n", "")
        ],
        "no barrier after the scores are written": [
            (
                "s0 + place.column, product.of[i]);\n        }\n        __syncthreads();",
                "s0 + place.column, product.of[i]);\n        }",
            )
        ],
        "no barrier before the weights are written again": [
            ("            __syncthreads(); /* all have read the weights */\n", "")
        ],
        "a query sees the key after its own": [("ahead > s.most", "ahead > s.most + 1")],
        "the window is one too long": [("ahead < s.least ||", "ahead < s.least - 1 ||")],
        "keys beyond the last": [("key >= s.keys || ahead", "ahead")],
        "rows beyond the last": [("first + row < x.end ? x.width", "first + row <= x.end ? x.width")],
        "features beyond the last": [("j < left ? cell_of(at[j])", "j <= left ? cell_of(at[j])")],
        "packs without looking at the alignment": [("aligned(x.from) && x.width % PACK == 0", "true")],
        "packs of rows that are no whole ones": [("aligned(x.from) && x.width % PACK == 0", "aligned(x.from)")],
        "a tile of keys too few": [
            (
                "to = at_most(s.keys, last + s.offset + s.most + 1);\n    const int row",
                "to = at_most(s.keys, last + s.offset + s.most);\n    const int row",
            )
        ],
        "tiles of queries start late": [("at_least(0, s0 - s.offset - s.most)", "at_least(0, s0 - s.offset)")],
        "what has been summed does not shrink": [("sums[j].of[i] *= factor;", "sums[j].of[i] *= 1;")],
        "the sum does not shrink": [("        sum *= shrink;\n", "")],
        "the mask of the first example": [("task.batch * s.mask_batch +", "task.head * s.mask_batch +")],
        "the heads of the query are not shared": [("s.key + index / s.group *", "s.key + index *")],
        "only the first head of a group": [("member < s.group", "member < 1")],
        "no delta": [("- room.delta[place.row])", ")")],
        "no factor for the keys": [
            (
                "of_keys, s0, s.keys, s.width, [&](int) { return s.factor; }",
                "of_keys, s0, s.keys, s.width, [&](int) { return 1; }",
            )
        ],
        "the upper half of a word first": [("half & 1 ? both >> 32 : both", "half & 1 ? both : both >> 32")],
        "the next word without a step": [
            (
                "if (word_at == numbers.at + 1) {\n            numbers.state = after(room.leaps[0][1], numbers.state);",
                "if (word_at == numbers.at + 1) {",
            )
        ],
        "the half that waits is forgotten": [("if (!s.waiting || i > 0)", "if (true)")],
        "dropout leaves the gradient alone": [("p * (m * found.dz.of[i]", "p * (found.dz.of[i]")],
        "a query that sees nothing": [("total == 0 ? (real)1 : total", "total")],
    },
)
