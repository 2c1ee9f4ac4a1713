"""Numbers up to the largest: where a result is within the range of the dtype, no power or product on the way to it leaves the range.

The formulas in longer floating-point numbers say what the result is. A sum of n terms may leave the range if its result is within a
factor of n of the largest number, in whatever order it is added. So ops with sums are walked up to that factor.
"""

import math

import numpy
import pytest

from minidl import ops
from minidl.testing import SPECS, UPDATES
from minidl.testing.agreement import as_dtype, upstream_like

LONG = numpy.longdouble
pytestmark = pytest.mark.skipif(
    numpy.finfo(LONG).maxexp < 4 * numpy.finfo("float64").maxexp, reason="longdouble is no longer than float64 here"
)
DTYPES = ["float16", "float32", "float64"]
TARGETS = {"binary_cross_entropy": 1, "binary_cross_entropy_with_logits": 1, "cross_entropy": 1}
"""Probabilities, which have no magnitude."""
ROUNDED = {"scaled_dot_product_attention"}
"""Where the rounding of a gradient that should be zero is multiplied by the numbers of another argument."""


def longer(value):
    return value.astype(LONG) if isinstance(value, numpy.ndarray) and value.dtype.kind == "f" else value


def largest(array):
    return float(numpy.abs(longer(numpy.asarray(array))).max(initial=0))


def magnitudes(dtype, limit, many):
    """Yield (size of the numbers, whether only one of them is so large), the last at the limit."""
    top = math.log10(float(numpy.finfo(dtype).max)) - 0.01
    for number, share in enumerate([i / 12 for i in range(1, 13)] if many else [0.35, 0.51, 0.7, 1.0]):
        for alone in (False, True) if many else (bool(number % 2),):
            yield min(10 ** (top * share), limit), alone


def with_magnitude(array, m, alone):
    array = array.copy()
    if alone and array.size:
        array.flat[array.size // 2] = numpy.copysign(m, array.flat[array.size // 2])
    elif largest(array) > 0:
        array = (longer(array) / largest(array) * m).astype(array.dtype)
    return array


def assert_close(found, expected, limit, noise, what):
    """Compare where the result is within the limit."""
    for one, other in zip(found, expected, strict=True):
        if other is not None:
            one, other = (numpy.asarray(a).astype(LONG) for a in (one, other))
            inside = numpy.abs(other) < limit
            close = numpy.abs(one - other) <= 0.02 * largest(other[inside]) + noise
            wrong = inside & ~close
            assert not wrong.any(), f"{what}: got {one[wrong][:3]}, not {other[wrong][:3]}"


def results(engine, spec, arguments, options, dy):
    """Return y and the gradients on the host; of the formulas if the engine is None."""
    move = (lambda a: a) if engine is None else (lambda a: engine.asarray(a) if isinstance(a, numpy.ndarray) else a)
    y, cache = spec.forward(engine)(*map(move, arguments), **options)
    found = spec.backward(engine)(move(dy), cache)
    found = [y, *(found if isinstance(found, tuple) else (found,))]
    return found if engine is None else [None if f is None else engine.to_host(f) for f in found]


def check(engine, spec, case, dtype, many):
    plain = as_dtype(spec.arguments(case), dtype)
    places = [i for i, a in enumerate(plain) if isinstance(a, numpy.ndarray) and a.dtype == dtype]
    places = [i for i in places if i != TARGETS.get(spec.name) and not (i == 0 and math.isfinite(spec.domain[1]))]
    terms = 2 if spec.elementwise and len(places) == 1 else 8 * max([1, *(plain[i].size for i in places)])
    limit = float(numpy.finfo(dtype).max) / terms
    y = spec.forward()(*plain, **case.options)[0]
    dy = upstream_like(y, dtype, reduced=plain[0].ndim > 0)
    wide = {name: longer(value) for name, value in case.options.items()}
    for place in (*places, -1):
        for m, alone in magnitudes(dtype, limit, many):
            if spec.name == "batch_norm" and place == 0 and m > limit**0.5:
                continue  # the variance is a result, and beyond the range
            arguments = [with_magnitude(a, m, alone) if i == place else a for i, a in enumerate(plain)]
            upstream = (m if numpy.ndim(dy) == 0 else with_magnitude(dy, m, alone)) if place == -1 else dy
            expected = results(None, spec, map(longer, arguments), wide, longer(upstream))
            found = results(engine, spec, arguments, case.options, upstream)
            noise = 64 * float(numpy.finfo(dtype).eps) * max(1.0, largest(upstream), m if spec.name in ROUNDED else 0.0)
            what = f"{spec.name}, {case.name}, {m:.1e} in {'dy' if place < 0 else f'argument {place}'}"
            assert_close(found, expected, limit, noise, what)


def has_one_result(spec):
    """Whether it is no recurrent op, whose gates bound all that passes from step to step."""
    return not isinstance(ops.FORMULAS[spec.name](*spec.arguments(spec.cases[0]), **spec.cases[0].options)[0], tuple)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", [pytest.param(spec, id=spec.name) for spec in SPECS.values() if has_one_result(spec)])
def test_ops(host_engine, spec, dtype, request):
    many = request.config.getoption("--nightly")
    with numpy.errstate(all="ignore"):
        for case in spec.cases if many or spec.elementwise else spec.cases[:2]:
            if case.shape or not spec.elementwise:
                check(host_engine, spec, case, dtype, many)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", [pytest.param(spec, id=spec.name) for spec in UPDATES.values()])
def test_updates(host_engine, spec, dtype):
    """States beyond the range are results, as the variance of Adam; where all of them are within it, so is the step."""
    limit = float(numpy.finfo(dtype).max) / 4
    rng = numpy.random.default_rng(0)
    plain = [numpy.abs(rng.standard_normal(9)).astype(dtype) for _ in range(2 + len(spec.states))]
    names = ["value", "grad", *spec.states]
    for case in spec.cases:
        for place in ("value", "grad"):
            for m, alone in magnitudes(dtype, limit, many=True):
                given = [
                    None
                    if name not in ("value", "grad", *case.states)
                    else with_magnitude(a, m, alone)
                    if name == place
                    else a
                    for name, a in zip(names, plain, strict=True)
                ]
                given = [
                    a.astype("float32") if a is not None and i > 1 and dtype == "float16" else a
                    for i, a in enumerate(given)
                ]
                expected = [None if a is None else a.astype(LONG) for a in given]
                found = [None if a is None else host_engine.asarray(a.copy()) for a in given]
                with numpy.errstate(all="ignore"):
                    ops.FORMULAS[spec.name](*expected, **case.options, **spec.counter(2))
                    getattr(host_engine, spec.name)(*found, **case.options, **spec.counter(2))
                inside = [
                    e is None or largest(e) < float(numpy.finfo(g.dtype).max) / 4
                    for e, g in zip(expected[1:], given[1:], strict=True)
                ]
                if all(inside):
                    noise = 64 * float(numpy.finfo(dtype).eps)
                    assert_close(found, expected, limit, noise, f"{spec.name}, {case.name}, {m:.1e} in {place}")
