r"""The error function, which NumPy lacks, in terms of operations that every array namespace has.

:math:`\operatorname{erf}(x) = \frac{2}{\sqrt\pi} \int_0^x e^{-t^2} dt`.
Near zero by its Maclaurin-type series in confluent form, elsewhere by Chebyshev interpolation of the scaled tail.
"""

from __future__ import annotations

import functools
import math

import numpy

from minidl.ops._namespace import Array, namespace

__all__ = ["erf", "erfc_positive", "normal_cdf", "normal_pdf"]

_SERIES_TERMS = 30
_TAIL_DEGREE = 26


@functools.cache
def _tail_coefficients() -> tuple[float, ...]:
    r"""Interpolate :math:`g(t) = e^{x^2} \operatorname{erfc}(x) (1 + x)`, :math:`t = (x - 2)/(x + 2)`, at Chebyshev nodes.

    g is smooth on :math:`x \in [0, \infty)`, so its Chebyshev coefficients fall geometrically (M. Shepherd, J. Laframboise,
    "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x", Math. Comp. 36 (1981), used a similar form).
    """
    nodes = 64
    angles = [math.pi * (k + 0.5) / nodes for k in range(nodes)]
    values = [_scaled_tail(2.0 * (1.0 + math.cos(angle)) / (1.0 - math.cos(angle))) for angle in angles]
    coefficients = [
        2.0 / nodes * math.fsum(v * math.cos(j * a) for v, a in zip(values, angles, strict=True))
        for j in range(_TAIL_DEGREE + 1)
    ]
    coefficients[0] /= 2.0
    return tuple(coefficients)


def _scaled_tail(x: float) -> float:
    """Return exp(x^2) erfc(x) (1 + x), by the continued fraction of Laplace where exp(x^2) would grow large."""
    if x < 3.0:
        return math.exp(x * x) * math.erfc(x) * (1.0 + x)
    fraction = 0.0
    for n in range(200, 0, -1):
        fraction = (n / 2.0) / (x + fraction)
    return (1.0 + x) / (math.sqrt(math.pi) * (x + fraction))


def erf(x: Array) -> Array:
    """Return the error function of each element, to about one part in 1e15 in float64.

    Parameters
    ----------
    x : array
        Any shape; floating.

    Examples
    --------
    >>> erf(numpy.array([0.0, 1.0, -numpy.inf])).round(6)
    array([ 0.      ,  0.842701, -1.      ])
    """
    xp = namespace(x)
    small = xp.abs(x) < 0.9
    near = _erf_series(xp.where(small, x, 0))
    far = xp.sign(x) * (1 - erfc_positive(xp.where(small, 1, xp.abs(x)).astype(x.dtype)))
    return xp.where(small, near, far).astype(x.dtype)


def _erf_series(x: Array) -> Array:
    r"""Sum :math:`\frac{2}{\sqrt\pi} e^{-x^2} \sum_n \frac{2^n x^{2n+1}}{(2n+1)!!}` (all terms of one sign)."""
    square = x * x
    total = x * 0
    for n in range(_SERIES_TERMS, 0, -1):  # Horner: 1 + 2x^2/3 (1 + 2x^2/5 (1 + ...))
        total = (1 + total) * (2 * square) / (2 * n + 1)
    return 2 / math.sqrt(math.pi) * x * (1 + total) * namespace(x).exp(-square)


def erfc_positive(x: Array) -> Array:
    """Return 1 - erf(x) for x >= 0 without cancellation."""
    xp = namespace(x)
    bounded = xp.minimum(x, 1e4)  # keeps inf out of the quotient; erfc is 0 long before
    t = (bounded - 2) / (bounded + 2)
    coefficients = _tail_coefficients()
    first, second = bounded * 0, bounded * 0
    for coefficient in coefficients[:0:-1]:  # Clenshaw's recurrence
        first, second = 2 * t * first - second + coefficient, first
    scaled = t * first - second + coefficients[0]
    exponent = xp.minimum(bounded, 40.0)  # exp(-40^2) is 0 in every precision
    return _exp_of_minus_square(exponent) * scaled / (1 + bounded)


def _exp_of_minus_square(x: Array) -> Array:
    """Return exp(-x^2); x is split so that the rounding of x^2 is not magnified by its size."""
    xp = namespace(x)
    high = xp.trunc(x * 16) / 16
    return xp.exp(-high * high) * xp.exp(-(x - high) * (x + high))


def normal_cdf(x: Array) -> Array:
    r"""Return :math:`\Phi(x) = \tfrac12 \operatorname{erfc}(-x/\sqrt2)`, right in both tails."""
    xp = namespace(x)
    z = x * math.sqrt(0.5)
    tail = erfc_positive(xp.abs(z)) / 2
    upper = xp.where(xp.abs(z) < 0.9, (1 + erf(z)) / 2, 1 - tail)
    return xp.where(z < -0.9, tail, upper).astype(x.dtype)


def normal_pdf(x: Array) -> Array:
    r"""Return :math:`\varphi(x) = e^{-x^2/2}/\sqrt{2\pi}`."""
    xp = namespace(x)
    bounded = xp.minimum(xp.abs(x), 60.0)  # no overflow in x^2; the density is 0 there in every precision
    return xp.exp(bounded * bounded * -0.5) * (1 / math.sqrt(2 * math.pi))
