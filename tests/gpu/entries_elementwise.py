"""Activations and dropout."""

import numpy
from family import Family, backward, random, unaligned

from minidl.engines.cuda import OVERRIDES
from minidl.engines.cuda.elementwise import KERNELS
from minidl.testing import SPECS


def linear_and(engine, dtype, activation, settings=()):
    arguments = random((5, 7), dtype), random((67, 7), dtype, 1), random(67, dtype, 2)
    y, cache = engine.linear_activation(*arguments, activation, settings)
    yield f"linear and {activation}", y
    for gradient in engine.linear_activation_backward(random(y.shape, dtype, 3), cache, activation):
        yield f"gradient of linear and {activation}", gradient


def few_activations(engine, dtype):
    for activation in ("relu", "gelu"):
        for n in (0, 1, 15, 1027, 8195):
            yield from backward(activation, engine, dtype, random(n, dtype))
            yield from backward(activation, engine, dtype, unaligned(random(n, dtype)))
        yield from linear_and(engine, dtype, activation)


def more_activations(engine, dtype):
    for kernel in KERNELS:
        yield from linear_and(engine, dtype, *(("gelu", ("tanh",)) if kernel == "gelu_tanh" else (kernel,)))


def few_dropouts(engine, dtype):
    """One generator after another call, so that half a word is left over or not."""
    generator = numpy.random.default_rng(0)
    for n, p in ((0, 0.5), (1, 0.5), (1, 0.5), (2, 0.5), (7, 0.3), (9001, 0.5), (512, 1.0), (1030, 0.0), (40000, 0.25)):
        x = random(n, dtype)
        y, cache = engine.dropout(x, p, generator)
        yield f"dropout of {n}", y
        yield f"dropout_backward of {n}", engine.dropout_backward(random(n, dtype, 1), cache)
        yield "the generator's next number", numpy.array([generator.random()])
        if n > 100:
            yield "the generator's next number of 32 bits", generator.random(1, dtype="float32")


ACTIVATIONS = Family(
    "elementwise/activations.cu",
    ops=tuple(name for name in SPECS if name in OVERRIDES and SPECS[name].elementwise and name != "dropout"),
    few=few_activations,
    more=more_activations,
    kernels=[("MINIDL_ACTIVATION_LIST(KERNELS)", "KERNELS(relu) KERNELS(gelu)")],
    planted={
        "one element too many": [
            (
                "i < n; i += share.step) y[i] = narrow(f(i, widen(x[i])));",
                "i <= n; i += share.step) y[i] = narrow(f(i, widen(x[i])));",
            )
        ],
        "the last pack half full": [
            ("aligned(x) && aligned(y) ? n / PACK", "aligned(x) && aligned(y) ? (n + PACK - 1) / PACK")
        ],
        "packs without looking at the alignment": [("aligned(x) && aligned(y) ? n / PACK : 0", "n / PACK")],
        "the rest from the first element on": [
            (
                "size i = packs * PACK + share.first; i < n; i += share.step) y[i] = narrow(f(i, widen(x[i])))",
                "size i = share.first; i < n; i += share.step) y[i] = narrow(f(i, widen(x[i])))",
            )
        ],
        "only one round of the grid": [
            ("threads_of_grid() { return (size)", "threads_of_grid() { return (size)1000 *")
        ],
        "the bias of the row": [("widen(bias[k])", "widen(bias[row])")],
        "x in place of x + bias": [("if (hidden) hidden[i] = sum;", "if (hidden) hidden[i] = x[i];")],
    },
)

DROPOUT = Family(
    "elementwise/dropout.cu",
    ops=("dropout",),
    few=few_dropouts,
    planted={
        "the upper half of a word first": [("scaled(x[i], (unsigned)bits)", "scaled(x[i], (unsigned)(bits >> 32))")],
        "one element too many": [("if (i + 1 < n) y[i + 1]", "if (i + 1 <= n) y[i + 1]")],
        "the half that waits is forgotten": [("const size lead = waiting ? 1 : 0", "const size lead = 0")],
        "each thread begins at its number, not after it": [
            ("leap(thread_of_grid() + 1, increment)", "leap(thread_of_grid(), increment)")
        ],
        "a carry is lost": [("(low < a.low ? 1 : 0)", "0")],
        "p itself is dropped": [("0x1p-24f >= p", "0x1p-24f > p + 0.01f")],
        "the others are not scaled": [("? factor : (real)0", "? (real)1 : (real)0")],
        "only one round of the grid": [("w < words; w += threads_of_grid()", "w < words; w += words")],
    },
)
