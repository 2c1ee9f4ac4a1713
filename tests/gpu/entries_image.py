"""Convolutions and pooling."""

import numpy
from family import Family, backward, random


def few_convolutions(engine, dtype):
    for shape, weight, options in (
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
        ((2, 3, 9, 20), (4, 3, 3, 2), {"padding": (1, 0)}),
        ((2, 4, 8, 7), (2, 2, 3, 3), {"stride": (2, 3), "padding": ((1, 2), (0, 1)), "groups": 2}),
        ((1, 2, 9, 13), (3, 2, 2, 3), {"dilation": (3, 2), "padding": 2}),
    ):
        yield from backward("conv2d", engine, dtype, random(shape, dtype), random(weight, dtype, 1), **options)
    yield from backward("conv1d", engine, dtype, random((2, 3, 11), dtype), random((4, 3, 3), dtype, 1), stride=2)


def more_convolutions(engine, dtype):
    """Kernels of one pixel, which need no columns; gradients added to storage, and those that nobody wants."""
    x, weight, bias = random((2, 3, 4, 5), dtype), random((4, 3, 1, 1), dtype, 1), random(4, dtype, 2)
    yield from backward("conv2d", engine, dtype, x, weight, bias)
    yield from backward("conv2d", engine, dtype, x, weight, bias, stride=2)
    for op in ("conv2d", "conv_transpose2d"):
        weight = random((3, 3, 2, 2), dtype, 1)
        y, cache = getattr(engine, op)(x, weight, random(3, dtype, 2))
        into = random(weight.shape, dtype, 3), random(3, dtype, 4)
        dx, *_ = getattr(engine, f"{op}_backward")(
            random(y.shape, dtype, 5), cache, into=into, add=True, wanted=(False, True, True)
        )
        assert dx is None
        yield from ((f"a gradient of {op}, added", array) for array in into)


def few_poolings(engine, dtype):
    x = random((2, 3, 9, 20), dtype)
    for op in ("max_pool2d", "avg_pool2d"):
        for options in (
            {"kernel_size": 1},
            {"kernel_size": (2, 3)},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": (3, 2), "stride": (1, 2), "padding": ((0, 2), (1, 0)), "ceil_mode": True},
        ):
            yield from backward(op, engine, dtype, x, **options)
    yield from backward("max_pool2d", engine, dtype, numpy.round(x), 3, 1, 1, 2)  # ties
    yield from backward("max_pool2d", engine, dtype, random((1, 2, 17, 18), dtype), (17, 16), 1)  # 272 positions
    yield from backward("avg_pool2d", engine, dtype, x, 3, 2, ((1, 0), (0, 2)), True, False)
    yield from backward("max_pool1d", engine, dtype, x[0], 3, 2)
    yield from backward("avg_pool1d", engine, dtype, x[0], 3, 2)


def more_poolings(engine, dtype):
    x = numpy.round(random((2, 3, 9, 10), dtype))
    (y, indices), _ = engine.max_pool2d(x, 3, 2, 1, return_indices=True)
    yield from (("y with indices", y), ("indices", indices))


CONVOLUTIONS = Family(
    "conv/columns.cu",
    ops=("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"),
    few=few_convolutions,
    more=more_convolutions,
    planted={
        "one output too many": [("n < planes * outputs;", "n <= planes * outputs;")],
        "one pixel too many": [("n < planes * pixels;", "n <= planes * pixels;")],
        "pixels beyond the image": [("found < image ? found", "found <= image ? found")],
        "the padding before is left out": [("position * dilation - before;", "position * dilation;")],
        "the padding is left as it was": [
            ("to[(i * kernel_w + j) * outputs] =", "if (u >= 0 && v >= 0) to[(i * kernel_w + j) * outputs] =")
        ],
        "outputs between the strides": [("shifted < 0 || shifted % stride != 0", "shifted < 0")],
        "outputs beyond the last": [("shifted / stride < output ? shifted / stride : -1", "shifted / stride")],
        "dilation is left out": [("pixel + before - position * dilation", "pixel + before - position")],
        "rows for columns": [
            ("kernel_h * kernel_w * outputs + n % outputs", "kernel_h * kernel_h * outputs + n % outputs")
        ],
        "only one round of the grid": [
            ("n < planes * pixels; n += threads_of_grid()", "n < planes * pixels; n += planes * pixels")
        ],
    },
)

POOLING = Family(
    "image/pool.cu",
    ops=("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"),
    few=few_poolings,
    more=more_poolings,
    planted={
        "the last of equal pixels wins": [("seen > best ||", "seen >= best ||")],
        "every pixel of a window gets its gradient": [("if (won.get(output) == position) sum", "sum")],
        "positions of 32 bits kept in bytes": [("else large[i] = number;", "else large[i] = (unsigned char)number;")],
        "the first plane for all": [
            (
                "const stored *const image = x + at.plane * image_h * image_w;\n        real best",
                "const stored *const image = x;\n        real best",
            )
        ],
        "outputs beyond the last": [("shifted / stride < output ? shifted / stride : -1", "shifted / stride")],
        "pixels beyond the image": [("found < image ? found", "found <= image ? found")],
        "the area of a whole window": [("return (stop < last ? stop : last) - start;", "return axis.kernel;")],
        "padding counts, whatever is asked for": [
            ("const int first = with_padding ? -axis.before : 0,", "const int first = -axis.before,")
        ],
        "the padding behind is left out": [("axis.image + after : axis.image", "axis.image : axis.image")],
        "dy is not divided": [("output_w + column]) / (height * width);", "output_w + column]);")],
        "one pixel too many": [
            (
                "n < planes * image_h * image_w; n += threads_of_grid()) {\n        const Spot at = spot_at(n, image_h, image_w);\n        const size",
                "n <= planes * image_h * image_w; n += threads_of_grid()) {\n        const Spot at = spot_at(n, image_h, image_w);\n        const size",
            )
        ],
    },
)
