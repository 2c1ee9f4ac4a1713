r"""The error function and the normal distribution, which NumPy lacks, from operations that every namespace has.

Everything comes from one function that is smooth and bounded on the whole half-line, the scaled tail

.. math:: g(z) = (1 + 2z)\, e^{z^2} \operatorname{erfc}(z), \qquad z \ge 0,

which rises from 1 to 1.28 and falls to :math:`2/\sqrt\pi`. In the variable :math:`t = (z - 3.75)/(z + 3.75)`, which maps
the half-line to :math:`[-1, 1)`, its Chebyshev series converges so fast that the first 24 terms are right to
:math:`3 \cdot 10^{-17}`.

M. Shepherd, J. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity", Mathematics of
Computation 36 (1981).
"""

from __future__ import annotations

import math

from minidl.ops._checks import ieee, widened
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
"""Coefficients of 1, t, ... t^23 in g: those 24 Chebyshev terms, multiplied out.

Their absolute values sum to 1.8, so Horner's rule loses nothing on [-1, 1]. A test compares the polynomial
with the definition, in 90 digits.
"""

_NEAR = tuple(2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(13))
"""Coefficients of 1, x^2, x^4, ... in erf(x)/x: Maclaurin's series; for |x| < 1/2 the next term is below 1e-18."""


@ieee
def erf(x: Array) -> Array:
    r"""Return :math:`\operatorname{erf}(x) = \frac{2}{\sqrt\pi} \int_0^x e^{-s^2} ds` of each element.

    Maclaurin's series :math:`\frac{2}{\sqrt\pi} \sum_n \frac{(-1)^n x^{2n+1}}{n!\,(2n+1)}` for :math:`|x| < 1/2`, so that small
    results keep all their digits; :math:`\pm(1 - \operatorname{erfc}|x|)` beyond, where nothing cancels.

    Parameters
    ----------
    x : array
        Any shape, floating; the result has the same dtype and in float64 is right to about 3e-16 of its size.

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
    wide = widened(x)
    size = xp.minimum(xp.abs(wide), 6.0)  # erfc(6) is 2e-17: erf is 1 from there on
    near = wide * _polynomial(_NEAR, size * size)
    far = xp.sign(wide) * (1 - _gauss(size, 1.0) * _scaled_tail(size))
    return xp.where(size < 0.5, near, far).astype(x.dtype, copy=False)


def normal(x: Array) -> tuple[Array, Array]:
    r"""Return the distribution function and the density of the standard normal distribution.

    .. math:: \varphi(x) = \frac{e^{-x^2/2}}{\sqrt{2\pi}}, \qquad
              \Phi(x) = \int_{-\infty}^x \varphi = \tfrac12 \operatorname{erfc}(-x/\sqrt2)

    From the tail :math:`\Phi(-|x|) = \tfrac12 e^{-x^2/2} \cdot e^{z^2} \operatorname{erfc}(z)`, :math:`z = |x|/\sqrt2`, and
    :math:`1 - \Phi(-|x|)` for positive x; both keep all their digits, the left tail down to the smallest numbers.

    Parameters
    ----------
    x : array
        Any shape, floating; both results have the same dtype.

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
    wide = widened(x)
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

    Of x^2 = h^2 + (x - h)(x + h), h has so few digits that h^2 is exact: the exponential would magnify its rounding.
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
