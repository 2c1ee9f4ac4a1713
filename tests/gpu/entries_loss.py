"""Softmax and cross-entropy."""

import numpy
from family import Family, backward, random, unaligned

SHAPES = ((1, 1), (3, 5), (13, 33), (5, 1000), (5, 1501), (2, 9001))
"""Rows of one warp, of 256 threads and of 512; in more rounds than a grid has blocks."""


def few_softmaxes(engine, dtype):
    for shape in SHAPES:
        x = 5 * random(shape, dtype)
        for name in ("softmax", "log_softmax"):
            yield from backward(name, engine, dtype, x)
            yield from backward(name, engine, dtype, unaligned(x))
    falling = numpy.linspace(60, -60, 2000).astype(dtype).reshape(2, 1000)
    for x in (falling, falling[:, ::-1]):
        yield from backward("softmax", engine, dtype, x)


def few_cross_entropies(engine, dtype):
    for number, (rows, columns) in enumerate(SHAPES):
        x = 5 * random((rows, columns), dtype)
        target = numpy.random.default_rng(number).integers(0, columns, rows)
        target[:: max(rows, 2)] = -100 if rows > 1 else 0
        weight = numpy.abs(random(columns, dtype, 1)) + 0.5
        for options in (
            {},
            {"reduction": "sum"},
            {"reduction": "none"},
            {"label_smoothing": 0.1},
            {"weight": weight.astype(dtype)},
            {"weight": weight.astype(dtype), "label_smoothing": 0.3, "reduction": "none"},
        ):
            loss, cache = engine.cross_entropy(x, target, **options)
            yield f"cross_entropy {rows, columns} {sorted(options)}", numpy.asarray(loss)
            dloss = random(rows, dtype, 2) if options.get("reduction") == "none" else 0.7
            yield f"its gradient {rows, columns} {sorted(options)}", engine.cross_entropy_backward(dloss, cache)
    ignored = engine.cross_entropy(random((3, 4), dtype), numpy.full(3, 7), ignore_index=7)
    yield "a mean over nothing", numpy.asarray(ignored[0])
    yield "its gradient", engine.cross_entropy_backward(1.0, ignored[1])


LOSSES = ("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy", "kl_div")


def few_losses(engine, dtype):
    for name in LOSSES:
        for n in (1, 15, 1027, 9001):
            for place in (numpy.array, unaligned):
                x, target = random(n, dtype), numpy.random.default_rng(1).random(n).astype(dtype)
                prediction = place(1 / (1 + numpy.exp(-x)) if name == "binary_cross_entropy" else x)
                for reduction in ("mean", "sum", "none"):
                    y, cache = getattr(engine, name)(prediction, target, reduction=reduction)
                    yield f"{name} of {n}, {reduction}", numpy.asarray(y)
                    yield f"the slope of {name} of {n}, {reduction}", cache[0]


POINTWISE = Family(
    "loss/losses.cu",
    ops=LOSSES,
    few=few_losses,
    planted={
        "no barrier before the other warps' results are read": [
            (
                "    if (threadIdx.x % 32 == 0) scratch[warp] = value;\n    __syncthreads();",
                "    if (threadIdx.x % 32 == 0) scratch[warp] = value;",
            )
        ],
        "a part too few": [("part < parts; part += blockDim.x", "part < parts - 1; part += blockDim.x")],
        "a part too many": [("part < parts; part += blockDim.x", "part <= parts; part += blockDim.x")],
        "all threads write": [("if (threadIdx.x == 0) partials[blockIdx.x] = sum;", "partials[threadIdx.x] = sum;")],
        "the sign of a slope": [("d = e + e;", "d = -e - e;")],
        "the sum is not divided": [("(real)(total / divisor)", "(real)total")],
        "packs without looking at the alignment": [
            ("aligned(a) && aligned(b) && aligned(y) ? n / PACK : 0", "n / PACK")
        ],
    },
)

SOFTMAX = Family(
    "loss/softmax.cu",
    ops=("softmax", "log_softmax"),
    few=few_softmaxes,
    planted={
        "no barrier before the other warps' results are read": [
            (
                "    if (threadIdx.x % 32 == 0) scratch[warp] = value;\n    __syncthreads();",
                "    if (threadIdx.x % 32 == 0) scratch[warp] = value;",
            )
        ],
        "no barrier before they are overwritten": [
            ("    __syncthreads(); /* all have read before the next use writes */", "")
        ],
        "a barrier inside a branch": [
            (
                "if (threadIdx.x % 32 == 0) scratch[warp] = value;\n    __syncthreads();",
                "if (threadIdx.x % 32 == 0) { scratch[warp] = value;\n    __syncthreads(); }",
            )
        ],
        "half of a warp is left out": [("bit < 32; bit *= 2", "bit < 16; bit *= 2")],
        "the mask of half a warp": [("#define ALL_LANES 0xffffffffu", "#define ALL_LANES 0xffffu")],
        "the last warp is left out": [("other < warps; other++", "other < warps - 1; other++")],
        "a warp too many": [("warps = blockDim.x / 32;", "warps = blockDim.x / 32 + 1;")],
        "the sum is not rescaled to the new maximum": [
            ("(a.rest + 1) * share_of(a.largest, b.largest)", "(a.rest + 1)")
        ],
        "a row too many": [
            (
                "__shared__ Peak scratch[MOST_WARPS];\n    for (size row = first_row(); row < rows; row += rows_at_once()) {\n        const Peak peak = peak_of_row(x + row * columns, columns, scratch);\n        const real inverse",
                "__shared__ Peak scratch[MOST_WARPS];\n    for (size row = first_row(); row <= rows; row += rows_at_once()) {\n        const Peak peak = peak_of_row(x + row * columns, columns, scratch);\n        const real inverse",
            )
        ],
        "the mean is not taken off": [("probability * (upstream - mean)", "probability * upstream")],
    },
)

CROSS_ENTROPY = Family(
    "loss/cross_entropy.cu",
    ops=("cross_entropy",),
    few=few_cross_entropies,
    planted={
        "the ignored index counts": [
            ("target.class_ != ignore_index && target.class_ >= 0", "target.class_ >= 0 || true")
        ],
        "the class is not checked": [
            ("target.class_ != ignore_index && target.class_ >= 0 && target.class_ < columns", "true")
        ],
        "no barrier before the next sum": [("    __syncthreads(); /* all have read before the next use writes */", "")],
        "one thread too few writes": [
            (
                "if (threadIdx.x == 0) {\n            largest[row]",
                "if (threadIdx.x == 0 && row) {\n            largest[row]",
            )
        ],
        "all threads write": [("if (threadIdx.x == 0) {\n            largest[row]", "{\n            largest[row]")],
        "smoothing for ignored rows": [("if (target.counts) loss -= smoothing", "loss -= smoothing")],
        "the mean over all rows": [("(real)(total / mass)", "(real)(total / rows)")],
        "the factor of the reduction is forgotten": [("if (s) g *= *s;", "")],
        "the largest logit counted twice": [
            ("peak = Join()(peak, Peak{value, 0});", "peak = Join()(peak, Peak{value, 1});")
        ],
        "the weights of the next class": [
            (
                "weight = weights ? weights[k] : (real)1;\n            const real q",
                "weight = weights ? weights[k + 1] : (real)1;\n            const real q",
            )
        ],
    },
)
