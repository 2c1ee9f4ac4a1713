"""Derivatives from function values alone, with an estimate of their error.

These are differences of order four. With f_k = f(x + k h)::

    f'(x) = (8 (f_1 - f_-1) - (f_2 - f_-2)) / (12 h) + h^4 f'''''(x) / 30 + ...

The truncation error grows like h^4, the rounding error, about eps abs(f) / h, like 1 / h. If x and f vary on a common scale
X, their sum is smallest near h = eps^(1/5) X, where about eps^(4/5) of the derivative is lost: 3e-13 in float64. (A plain
central difference loses eps^(2/3), 4e-11.) So a tolerance of half of the digits, sqrt(eps), separates the two: a right
gradient meets it with a factor of 10,000 to spare, and a wrong one does not meet it.

The same five values give the fourth difference::

    delta = f_2 - 4 f_1 + 6 f_0 - 4 f_-1 + f_-2

It is h^4 f''''(x) for a smooth function, 16 eps abs(f) where rounding dominates, and about h times the jump of the slope if
there is a kink inside the stencil. So abs(delta) / h is an upper estimate of the error in all three cases: it exposes a
kink, and a step that is too long or too short.
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
        The part of the error that rounding alone may cause at this step.
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
    """Return the scale on which each element varies: its size, or the root mean square of all if larger, or 1 if all are 0.

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
        Maps a number to an array of shape (r,).
    at_zero : array, shape (r,)
        The value f(0).
    scale : float
        How far the argument may move before f changes in character; the first step is this times the relative step.
    magnitude : float, optional
        The size of the numbers whose rounding affects f, if larger than f itself.
    dtype : dtype, default "float64"
        The dtype in which f computes.
    step : float, optional
        The only step to take; a ladder of steps by default.
    tolerance : float, optional
        The relative error at which to stop trying other steps.

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
    with numpy.errstate(all="ignore"):  # a step may leave the domain of the function; its doubt is then infinite
        before2, before, after, after2 = f(-2 * h), f(-h), f(h), f(2 * h)
        value = (8 * (after - before) - (after2 - before2)) / (12 * h)
        doubt = numpy.abs((before2 + after2) - 4 * (before + after) + 6 * at_zero) / h
        known = numpy.isfinite(value) & numpy.isfinite(doubt)
    return Derivative(
        numpy.where(known, value, 0.0), numpy.where(known, doubt, numpy.inf), numpy.full(at_zero.shape, rounding / h)
    )


def _better(one: Derivative, other: Derivative) -> Derivative:
    """Take each element from the derivative with the smaller doubt."""
    take = other.doubt < one.doubt
    return Derivative(
        numpy.where(take, other.value, one.value),
        numpy.where(take, other.doubt, one.doubt),
        numpy.where(take, other.noise, one.noise),
    )
