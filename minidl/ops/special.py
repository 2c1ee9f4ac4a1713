"""The error function and the normal distribution, which NumPy lacks, from operations that every namespace has.

Everything comes from one function that is smooth and bounded for all z >= 0, the scaled tail::

    g(z) = (1 + 2 z) exp(z^2) erfc(z)

It rises from 1 to 1.28 and falls to 2 / sqrt(pi). The variable t = (z - 3.75) / (z + 3.75) maps z >= 0 to [-1, 1). In t
the Chebyshev series of g converges so fast that its first 24 terms are accurate to 3e-17.

M. Shepherd, J. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity", Mathematics of
Computation 36 (1981).
"""

from __future__ import annotations

import math

from minidl.ops._checks import ieee, widen_float16
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["erf", "normal"]

_SPLIT = 3.75
_TAIL = (
    1.2375126308378275289,
    -0.14024059858554696245,
    0.0035854154854790256379,
    0.082276738490145207683,
    -0.10880393014244461271,
    0.09230432116037747776,
    -0.058693398576649338403,
    0.028362277418956404286,
    -0.0097465796832652622308,
    0.0017556258528952953569,
    0.00029371437804495802994,
    -0.00029015408054084171105,
    0.000051646529741774161256,
    0.00002238423915508222982,
    -0.000011438048033346893551,
    -9.7355989673677493407e-7,
    1.7419821586224815923e-6,
    -5.7218230603224087501e-8,
    -2.4857126248016742872e-7,
    2.3263508708859123732e-8,
    3.1979266716668042918e-8,
    -3.7442100809620186444e-9,
    -2.6231073471334757612e-9,
    3.1114333809799251993e-10,
)
"""Coefficients of 1, t, ... t^23 in g: the 24 Chebyshev terms, multiplied out.

Their absolute values sum to 1.8, so Horner's rule loses no digits on [-1, 1]. A test compares the polynomial with the
definition, in 90 digits.
"""

_NEAR = tuple(2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(13))
"""Coefficients of 1, x^2, x^4, ... in erf(x)/x: Maclaurin's series; for |x| < 1/2 the next term is below 1e-18."""


@ieee
def erf(x: Array) -> Array:
    """Return the error function of each element.

    The integral of the normal density, in another scale::

        erf(x) = 2 / sqrt(pi) integral from 0 to x of exp(-s^2) ds

    For abs(x) < 1/2 it is Maclaurin's series, so that small results keep all their digits. Beyond, it is
    sign(x) (1 - erfc(abs(x))), where nothing cancels.

    Parameters
    ----------
    x : array
        Floating-point, of any shape. The result has the same dtype, and in float64 a relative error of about 3e-16.

    Raises
    ------
    DtypeError
        If x is not floating-point.

    Examples
    --------
    >>> import numpy
    >>> erf(numpy.array([0.0, 1.0, -numpy.inf])).round(6)
    array([ 0.      ,  0.842701, -1.      ])
    """
    require_float(x, "x", "erf")
    xp = namespace(x)
    wide = widen_float16(x)
    size = xp.minimum(xp.abs(wide), 6.0)  # erfc(6) is 2e-17: erf is 1 from there on
    near = wide * _polynomial(_NEAR, size * size)
    far = xp.sign(wide) * (1 - _gauss(size, 1.0) * _scaled_tail(size))
    return xp.where(size < 0.5, near, far).astype(x.dtype, copy=False)


def normal(x: Array) -> tuple[Array, Array]:
    """Return the distribution function and the density of the standard normal distribution.

    In this order::

        Phi(x) = erfc(-x / sqrt(2)) / 2,   phi(x) = exp(-x^2 / 2) / sqrt(2 pi)

    With z = abs(x) / sqrt(2), the tail Phi(-abs(x)) is exp(-x^2 / 2) / 2 times exp(z^2) erfc(z). For positive x, Phi is 1
    minus the tail. Both keep all their digits, the left tail down to the smallest numbers.

    Parameters
    ----------
    x : array
        Floating-point, of any shape; both results have the same dtype.

    Examples
    --------
    >>> import numpy
    >>> distribution, density = normal(numpy.array([-numpy.inf, 0.0, 1.0]))
    >>> distribution.round(6)
    array([0.      , 0.5     , 0.841345])
    >>> density.round(6)
    array([0.      , 0.398942, 0.241971])
    """
    xp = namespace(x)
    wide = widen_float16(x)
    size = xp.minimum(xp.abs(wide), 60.0)  # exp(-60^2/2) is 0 in every precision, and 60^2 overflows in none
    gauss = _gauss(size, 0.5)
    tail = 0.5 * gauss * _scaled_tail(size * math.sqrt(0.5))
    distribution = xp.where(wide < 0, tail, 1 - tail)
    density = gauss * (1 / math.sqrt(2 * math.pi))
    return distribution.astype(x.dtype, copy=False), density.astype(x.dtype, copy=False)


def _scaled_tail(z: Array) -> Array:
    """Return exp(z^2) erfc(z) for z >= 0."""
    return _polynomial(_TAIL, (z - _SPLIT) / (z + _SPLIT)) / (1 + 2 * z)


def _gauss(x: Array, factor: float) -> Array:
    """Return exp(-factor x^2) for x >= 0.

    The exponential would magnify the rounding of x^2. So x^2 = h^2 + (x - h)(x + h), with h so short that h^2 is exact.
    """
    xp = namespace(x)
    high = xp.trunc(x * 16) / 16
    return xp.exp(-factor * high * high) * xp.exp(-factor * (x - high) * (x + high))


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Return c0 + c1 x + c2 x^2 + ..., by Horner's rule."""
    value = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        value += coefficient
        value *= x
    return value + coefficients[0]
