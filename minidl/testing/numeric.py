r"""Derivatives from function values alone, with an estimate of how far to trust each one.

Differences of order four. With :math:`f_k = f(x + k h)`,

.. math::
    f'(x) = \frac{8 (f_1 - f_{-1}) - (f_2 - f_{-2})}{12 h} + \frac{h^4}{30} f^{(5)}(x) + \dots

The truncation error grows as :math:`h^4`, the rounding error, about :math:`\epsilon |f| / h`, as :math:`1/h`. Where x
and f vary on a common scale X their sum is smallest near :math:`h = \epsilon^{1/5} X`, where about
:math:`\epsilon^{4/5}` of the derivative is lost: 3e-13 in float64 (a plain central difference loses
:math:`\epsilon^{2/3}`, 4e-11). Half of the digits, :math:`\tau = \sqrt\epsilon`, is therefore a tolerance that a
right gradient meets with a factor of 10,000 to spare and that a wrong one does not.

The same five values give the fourth difference

.. math::
    \delta = f_2 - 4 f_1 + 6 f_0 - 4 f_{-1} + f_{-2},

which is :math:`h^4 f^{(4)}` for a smooth function, :math:`16 \epsilon |f|` where rounding dominates, and of the size
of h times the jump of the slope where a kink lies inside the stencil. So :math:`|\delta| / h` tells a kink or a step
that is too long or too short from an accurate derivative, and it errs on the safe side of all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy

__all__ = ["Derivative", "default_tolerance", "differentiate", "relative_step", "scale_of"]

LADDER = (1.0, 2.0**-5, 2.0**-10, 2.0**5)
"""Steps tried, as multiples of the first, until one gives a derivative that can be trusted."""


@dataclass(frozen=True)
class Derivative:
    """Numeric derivatives of a vector function of one variable.

    Attributes
    ----------
    value : array, shape (r,)
    doubt : array, shape (r,)
        The fourth difference over the step: an upper estimate of the error.
    noise : array, shape (r,)
        What rounding alone may contribute to the error at the step taken.
    """

    value: numpy.ndarray
    doubt: numpy.ndarray
    noise: numpy.ndarray


def default_tolerance(dtype: Any) -> float:
    """Return the square root of the machine epsilon: half of the digits.

    >>> default_tolerance("float64") == 2.0**-26
    True
    """
    return math.sqrt(float(numpy.finfo(dtype).eps))


def relative_step(dtype: Any) -> float:
    """Return the step for x of order one, the power of two next to the fifth root of the machine epsilon.

    >>> relative_step("float64") == 2.0**-10
    True
    """
    return 2.0 ** round(math.log2(float(numpy.finfo(dtype).eps)) / 5)


def scale_of(x: numpy.ndarray) -> numpy.ndarray:
    """Return for each element the scale on which it varies: its size, at least the root mean square of all, else 1.

    >>> scale_of(numpy.array([3.0, 0.0, -4.0, 0.0])).tolist()
    [3.0, 2.5, 4.0, 2.5]
    """
    finite = numpy.where(numpy.isfinite(x), x, 0.0)
    typical = math.sqrt(float(numpy.mean(finite * finite))) if x.size else 0.0
    return numpy.maximum(numpy.abs(finite), typical) if typical > 0.0 else numpy.ones_like(finite)


def differentiate(
    f: Callable[[float], numpy.ndarray],
    at_zero: numpy.ndarray,
    scale: float,
    *,
    magnitude: float | None = None,
    dtype: Any = "float64",
    step: float | None = None,
    tolerance: float | None = None,
) -> Derivative:
    """Differentiate f at 0.

    Parameters
    ----------
    f : callable
        From a number to an array of shape (r,).
    at_zero : array, shape (r,)
        f(0).
    scale : float
        How far the argument may move before f changes in character; the first step is this times the relative step.
    magnitude : float, optional
        Of the numbers whose rounding f suffers, if that is more than the size of f itself.
    dtype : dtype
        In which f computes.
    step : float, optional
        The one step to take, instead of a ladder of them.
    tolerance : float, optional
        Relative error that is small enough to stop trying other steps.

    Examples
    --------
    >>> slope = differentiate(lambda t: numpy.array([math.exp(t), abs(t)]), numpy.array([1.0, 0.0]), 1.0)
    >>> bool(abs(slope.value[0] - 1.0) < 1e-12), bool(slope.doubt[1] > 0.1)  # the kink of abs is seen
    (True, True)
    """
    tolerance = default_tolerance(dtype) if tolerance is None else tolerance
    first = relative_step(dtype) * scale
    size = float(numpy.max(numpy.abs(at_zero), initial=0.0)) if magnitude is None else magnitude
    rounding = 4 * float(numpy.finfo(dtype).eps) * size
    steps = [first * factor for factor in LADDER] if step is None else [step]
    best: Derivative | None = None
    for h in steps:
        found = _stencil(f, at_zero, h, rounding)
        best = found if best is None else _better(best, found)
        if numpy.all(best.doubt <= tolerance / 4 * numpy.max(numpy.abs(best.value), initial=0.0)):
            break
    assert best is not None
    return best


def _stencil(f: Callable[[float], numpy.ndarray], at_zero: numpy.ndarray, h: float, rounding: float) -> Derivative:
    with numpy.errstate(all="ignore"):  # a step may leave the function's domain; the doubt is then infinite
        before2, before, after, after2 = f(-2 * h), f(-h), f(h), f(2 * h)
        value = (8 * (after - before) - (after2 - before2)) / (12 * h)
        doubt = numpy.abs((before2 + after2) - 4 * (before + after) + 6 * at_zero) / h
        known = numpy.isfinite(value) & numpy.isfinite(doubt)
    return Derivative(
        numpy.where(known, value, 0.0), numpy.where(known, doubt, numpy.inf), numpy.full(at_zero.shape, rounding / h)
    )


def _better(one: Derivative, other: Derivative) -> Derivative:
    """Take each element from whichever of the two is in less doubt."""
    take = other.doubt < one.doubt
    return Derivative(
        numpy.where(take, other.value, one.value),
        numpy.where(take, other.doubt, one.doubt),
        numpy.where(take, other.noise, one.noise),
    )
