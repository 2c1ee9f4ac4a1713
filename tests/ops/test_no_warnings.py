"""Whatever numbers come in, the formulas give what IEEE arithmetic gives, without NumPy's warnings.

The kernels do not warn, so formulas that did would make the engines differ: a program that turns warnings into errors, as
these tests do, would train on one and stop on the other. Nothing here is silenced.
"""

import numpy
import pytest

from minidl import ops
from minidl.testing import SPECS, UPDATES
from minidl.testing.agreement import upstream_like

LARGEST, SMALLEST = numpy.finfo("float64").max, numpy.finfo("float64").smallest_subnormal
PATTERNS = [
    [numpy.inf],
    [numpy.inf, -numpy.inf],
    [numpy.nan, numpy.inf, 0.0, -numpy.inf, 1.0],
    [LARGEST, -LARGEST],
    [LARGEST, 1.0],
    [0.0],
    [SMALLEST, -SMALLEST],
]


def filled(array, pattern):
    """Return an array of that shape that repeats the pattern; anything but an array of real numbers as it is."""
    if getattr(getattr(array, "dtype", None), "kind", "") != "f":
        return array
    return numpy.resize(pattern, array.shape).astype(array.dtype)


@pytest.mark.parametrize("spec", [pytest.param(spec, id=spec.name) for spec in SPECS.values()])
def test_no_formula_warns(spec):
    forward, backward = spec.forward(), spec.backward()
    for case in spec.cases:
        plain = spec.arguments(case)
        for pattern in PATTERNS:
            changed = [filled(array, pattern) for array in plain]
            each_in_turn = [(*plain[:i], changed[i], *plain[i + 1 :]) for i in range(len(plain))]
            for arguments in (plain, *each_in_turn, changed):
                y, cache = forward(*arguments, **case.options)
                dy = upstream_like(y, "float64")
                for upstream in (dy, filled(dy, pattern)):
                    backward(upstream, cache)


@pytest.mark.parametrize("spec", [pytest.param(spec, id=spec.name) for spec in UPDATES.values()])
def test_no_update_warns(spec):
    plain = numpy.linspace(-1, 1, 7)
    for case in spec.cases:
        for pattern in PATTERNS:
            special = filled(plain, pattern)
            for value, grad in ((plain, special), (special, plain), (special, special)):
                value, states = value.copy(), [numpy.zeros(7) if name in case.states else None for name in spec.states]
                for step in (1, 2):
                    ops.FORMULAS[spec.name](value, grad, *states, **spec.counter(step), **case.options)
