"""How far the vector functions are from the exact result, in units in the last place.

    python benchmarks/vector_math.py                 # float32 over a dense sample, float64 at random points
    python benchmarks/vector_math.py --every-float   # float32 over all 2^32 arguments; takes half an hour

The functions of FUNCTIONS and all activations are measured. The reference for float32 is float64 (SciPy's, for the error
function, and the formula's for an activation that is not listed); for float64 it is 50-digit arithmetic (mpmath), where
there is one. The unit is the spacing of the floats at the exact result. Arguments whose result overflows, is nan or is
zero must agree exactly, and are counted where they do not. MINIDL_ISA chooses the instruction set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import mpmath
import numpy
import scipy.special

import minidl as dl
from minidl.engines import native

SELU = 1.0507009873554804934, 1.6732632423543772848
FUNCTIONS: dict[str, tuple[Callable[..., numpy.ndarray], Callable[..., mpmath.mpf], tuple[float, float]]] = {
    "exp": (numpy.exp, mpmath.exp, (-700.0, 700.0)),
    "log": (numpy.log, mpmath.log, (1e-300, 1e3)),
    "tanh": (numpy.tanh, mpmath.tanh, (-20.0, 20.0)),
    "sigmoid": (scipy.special.expit, lambda x: 1 / (1 + mpmath.exp(-x)), (-700.0, 700.0)),
    "erf": (scipy.special.erf, mpmath.erf, (-6.0, 6.0)),
    "gelu": (lambda x: x * scipy.special.ndtr(x), lambda x: x * mpmath.ncdf(x), (-30.0, 30.0)),
    "silu": (lambda x: x * scipy.special.expit(x), lambda x: x / (1 + mpmath.exp(-x)), (-600.0, 600.0)),
    "softplus": (lambda x: numpy.where(x > 20, x, numpy.log1p(numpy.exp(numpy.minimum(x, 20)))),
                 lambda x: x if x > 20 else mpmath.log1p(mpmath.exp(x)), (-600.0, 40.0)),
    "elu": (lambda x: numpy.where(x > 0, x, numpy.expm1(numpy.minimum(x, 0))),
            lambda x: x if x > 0 else mpmath.expm1(x), (-40.0, 10.0)),
    "mish": (lambda x: x * numpy.tanh(numpy.log1p(numpy.exp(x))), lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
             (-600.0, 600.0)),
    "selu": (lambda x: SELU[0] * numpy.where(x > 0, x, SELU[1] * numpy.expm1(numpy.minimum(x, 0))),
             lambda x: SELU[0] * (x if x > 0 else SELU[1] * mpmath.expm1(x)), (-40.0, 10.0)),
}  # fmt: skip


def names() -> list[str]:
    """Return the functions that are measured."""
    return list(dict.fromkeys([*FUNCTIONS, *dl.ops.ACTIVATIONS]))


def in_float64(name: str, x: numpy.ndarray) -> numpy.ndarray:
    """Return the reference for float32."""
    return FUNCTIONS[name][0](x) if name in FUNCTIONS else dl.ops.FORMULAS[name](x)[0]


def computed(name: str, x: numpy.ndarray) -> numpy.ndarray:
    """Return the native engine's result for x."""
    if name in ("exp", "log", "tanh", "sigmoid", "erf"):
        return native.vector_function(name, x)
    return getattr(dl.engines.get("native"), name)(x)[0]


def floats(every: bool) -> Iterator[numpy.ndarray]:
    """Yield float32 arguments of all signs and sizes."""
    if every:
        for start in range(0, 2**32, 2**24):
            yield numpy.arange(start, start + 2**24, dtype=numpy.uint64).astype(numpy.uint32).view(numpy.float32)
    else:
        yield numpy.arange(0, 2**32, 499, dtype=numpy.uint64).astype(numpy.uint32).view(numpy.float32)
        yield numpy.linspace(-110, 110, 4_000_001, dtype=numpy.float32)


def float32_error(name: str, every: bool) -> tuple[float, float, int]:
    """Return the largest error in ULP where the result is normal, its argument, and the number of wrong specials."""
    worst, where, wrong = 0.0, 0.0, 0
    tiny = 128 * numpy.finfo(numpy.float32).tiny  # products of a subnormal factor keep only that factor's digits
    for x in floats(every):
        y = computed(name, x)
        with numpy.errstate(all="ignore"):
            exact = in_float64(name, x.astype(numpy.float64))
            rounded = exact.astype(numpy.float32)
            error = numpy.abs(y - exact) / numpy.spacing(numpy.abs(rounded)).astype(numpy.float64)
        special = ~numpy.isfinite(rounded)
        wrong += int(numpy.sum(special & (y != rounded) & ~(numpy.isnan(y) & numpy.isnan(rounded))))
        error[special | (numpy.abs(exact) < tiny)] = 0
        at = int(numpy.argmax(error))
        if error[at] > worst:
            worst, where = float(error[at]), float(x[at])
    return worst, where, wrong


def float64_error(name: str, points: int) -> tuple[float, float]:
    """Return the largest error in ULP over random arguments, and its argument."""
    random, (low, high) = numpy.random.default_rng(0), FUNCTIONS[name][2]
    spread = numpy.exp(random.uniform(-30, numpy.log(high), points // 4)) * (1 if low > 0 else random.choice([-1, 1]))
    near = random.uniform(max(low, -3.0 if low < 0 else 0.0), 3.0, points // 2)
    x = numpy.concatenate([random.uniform(low, high, points // 4), near, spread[spread > low]])
    y = computed(name, x)
    worst, where = 0.0, 0.0
    with mpmath.workdps(50):
        for argument, value in zip(x.tolist(), y.tolist(), strict=True):
            exact = FUNCTIONS[name][1](mpmath.mpf(argument))
            if exact == 0 or abs(exact) < 1e-305:
                continue
            error = float(abs(mpmath.mpf(value) - exact) / numpy.spacing(abs(float(exact))))
            if error > worst:
                worst, where = error, argument
    return worst, where


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every-float", action="store_true", help="exp, tanh, sigmoid and gelu over all floats")
    parser.add_argument("--points", type=int, default=20_000, help="arguments in float64")
    args = parser.parse_args()
    print(f"instruction set: {native.info()['kernels']}\n")
    print("| function | float32: ULP | at | wrong specials | float64: ULP | at |\n|---|---:|---:|---:|---:|---:|")
    for name in names():
        every = args.every_float and name in ("exp", "tanh", "sigmoid", "gelu")
        single, at, wrong = float32_error(name, every)
        double = "- | -"
        if name in FUNCTIONS:
            error, where = float64_error(name, args.points)
            double = f"{error:.2f} | {where:.5g}"
        print(f"| {name}{' (every float)' * every} | {single:.2f} | {at:.7g} | {wrong} | {double} |", flush=True)


if __name__ == "__main__":
    main()
