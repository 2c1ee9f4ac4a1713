"""Normalisation."""

import numpy
from family import EMULATED, Family, backward, random, unaligned

from minidl.engines.cuda.channels import bias_gradient


def few_norms(engine, dtype):
    for rows, columns in ((1, 1), (13, 33), (5, 1000), (5, 1501), (2, 9001)):
        x, w, b = random((rows, columns), dtype), random(columns, dtype, 1), random(columns, dtype, 2)
        yield from backward("layer_norm", engine, dtype, x, columns, w, b)
        yield from backward("layer_norm", engine, dtype, unaligned(x), columns)
        yield from backward("rms_norm", engine, dtype, x, columns, w)
    for shape, groups in (((3, 4), 2), ((2, 6, 5), 3), ((3, 4, 40, 41), 2), ((70, 35), 5)):
        x, w, b = random(shape, dtype), random(shape[1], dtype, 1), random(shape[1], dtype, 2)
        yield from backward("group_norm", engine, dtype, x, groups, w, b)
        yield from backward("batch_norm", engine, dtype, x, w, b)
        running = random(shape[1], dtype, 3), numpy.abs(random(shape[1], dtype, 4))
        yield from backward("batch_norm", engine, dtype, x, w, b, *running, training=False)
    yield from backward("batch_norm", engine, dtype, random((200, 3), dtype), random(3, dtype))
    big = (random((3, 40), dtype) * numpy.sqrt(numpy.finfo(dtype).max)).astype(dtype)
    yield from backward("layer_norm", engine, dtype, big, 40)


def more_norms(engine, dtype):
    """Gradients added to storage that is handed in, and those that nobody wants."""
    x, w, b = random((9, 5, 2), dtype), random(5, dtype, 1), random(5, dtype, 2)
    for name, arguments in (
        ("batch_norm", (x, w, b)),
        ("group_norm", (x, 5, w, b)),
        ("layer_norm", (x[:, :, 0], 5, w, b)),
    ):
        y, cache = getattr(engine, name)(*arguments)
        into = random(5, dtype, 3), random(5, dtype, 4)
        getattr(engine, f"{name}_backward")(
            random(y.shape, dtype, 5), cache, into=into, add=True, wanted=(False, True, True)
        )
        yield from ((f"a gradient of {name}, added", array) for array in into)


def few_sums(engine, dtype):
    """The gradient of a bias: more rows than one block takes, more columns than a warp has lanes."""
    for rows, columns in ((1, 1), (9, 33), (70, 35), (1030, 3)):
        arguments = random((rows, 2), dtype), random((columns, 2), dtype, 1), random(columns, dtype, 2)
        y, cache = engine.linear(*arguments)
        dy, into = random(y.shape, dtype, 3), (None, random(columns, dtype, 4))
        yield f"dbias of {rows, columns}", engine.linear_backward(dy, cache)[2]
        engine.linear_backward(dy, cache, into=into, add=True, wanted=(False, False, True))
        yield f"dbias of {rows, columns}, added", into[1]


def more_sums(engine, dtype):
    """Channels with positions, as a convolution has them."""
    for shape in ((3, 4, 1), (9, 5, 50), (70, 3, 2)):
        dy = random(shape, dtype)
        found = bias_gradient(dy, *shape[1:]) if engine is EMULATED else dy.sum(axis=(0, 2), dtype="float64")
        yield f"sum of {shape}", found.astype(dtype)


SUMS = Family(
    "reduce/sums.cu",
    ops=("linear",),
    few=few_sums,
    more=more_sums,
    planted={
        "no barrier before the rows of a block are added": [
            (
                "scratch[threadIdx.y * 32 + threadIdx.x] = sum;\n    __syncthreads();",
                "scratch[threadIdx.y * 32 + threadIdx.x] = sum;",
            )
        ],
        "the columns beyond the last": [("if (channel < channels) {\n        for", "{\n        for")],
        "a block of rows too few": [("block < blocks; block++", "block < blocks - 1; block++")],
        "one thread beyond the channels": [("if (channel >= channels) return;", "if (channel > channels) return;")],
        "overwritten, not added": [("to[channel] = add ?", "to[channel] = false ?")],
        "a row of each block twice": [
            (
                "for (size row = from + threadIdx.y; row < to;",
                "for (size row = from + threadIdx.y; row <= to && row < rows;",
            )
        ],
    },
)

NORM = Family(
    "norm/norm.cu",
    ops=("layer_norm", "rms_norm", "group_norm", "batch_norm"),
    few=few_norms,
    more=more_norms,
    planted={
        "no barrier before the rows of a block are added": [
            (
                "scratch[threadIdx.y * 32 + threadIdx.x] = sum;\n    __syncthreads();",
                "scratch[threadIdx.y * 32 + threadIdx.x] = sum;",
            )
        ],
        "the columns beyond the last": [("if (channel < channels) {\n        for", "{\n        for")],
        "a row of a block too few": [
            ("for (int other = 1; other < DEPTH; other++)", "for (int other = 1; other < DEPTH - 1; other++)")
        ],
        "a block of rows too many": [("block < blocks; block++", "block <= blocks; block++")],
        "the rows of a block end late": [
            ("from + rows_of_block < rows ? from + rows_of_block : rows", "from + rows_of_block")
        ],
        "the positions of other lanes are left out": [("    if (together) sum = combine_warp(sum, Add());\n", "")],
        "channels of the thread, not of the row": [
            (
                "return positions == 1 ? (int)k : (int)(row % channels)",
                "return positions == 1 ? (int)k : (int)(row / channels)",
            )
        ],
        "the sum of products is left out": [("- (value - mean) * inverse * mean_product)", ")")],
        "no eps": [("real inverse = 1 / sqrt(square + eps);", "real inverse = 1 / sqrt(square);")],
        "one thread beyond the channels": [("if (channel >= channels) return;", "if (channel > channels) return;")],
        "squares that overflow": [("if (square == (real)MINIDL_INFINITY) {", "if (false) {")],
        "the next use overwrites what is read": [
            ("    __syncthreads(); /* all have read before the next use writes */", "")
        ],
    },
)
