"""Activations: functions of one element at a time, y_i = f(x_i); of prelu, f has a parameter.

Every forward takes a floating-point array x of any shape, empty included. It returns y, of the shape and dtype of x, and
the cache. It raises ``DtypeError`` if x is not floating-point.

Since x_i enters y_i and no other output, every backward is dx_i = dy_i f'(x_i). It remains to say of each what f' is,
and how f and f' are computed so that no finite input overflows and no digits cancel. nan passes through; 0 times inf is
nan, as in IEEE arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minidl.errors import ParameterError, ShapeError
from minidl.ops._checks import ieee, require_like, require_same_dtype, sum_widened, widen_float16
from minidl.ops._gradients import parameter_gradients
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops.special import normal

__all__ = [
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "mish",
    "mish_backward",
    "prelu",
    "prelu_backward",
    "quick_gelu",
    "quick_gelu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
]

Cache = tuple[Any, ...]


def relu(x: Array) -> tuple[Array, Cache]:
    """Rectify: set negative elements to 0.

    The rectified linear unit::

        y = max(x, 0)

    The cache is (y,).
    Source: V. Nair, G. Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.

    Examples
    --------
    >>> import numpy
    >>> y, cache = relu(numpy.array([-1.0, 0.0, 2.0]))
    >>> y
    array([0., 0., 2.])
    >>> relu_backward(numpy.array([10.0, 10.0, 10.0]), cache)
    array([ 0.,  0., 10.])
    """
    require_float(x, "x", "relu")
    y = namespace(x).maximum(x, 0)
    return y, (y,)


def relu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' is 1 where x > 0, which is where y > 0. It is 0 elsewhere, by convention at the kink too::

        dx = dy where y > 0, else 0
    """
    (y,) = cache
    require_like(dy, y, "dy", "y", "relu_backward")
    return namespace(dy).where(y > 0, dy, 0)


def relu6(x: Array) -> tuple[Array, Cache]:
    """Rectify and saturate at 6.

    The bound keeps y in a range that low-precision arithmetic represents well, which is why MobileNets use it::

        y = min(max(x, 0), 6)

    The cache is (y,).
    Source: A. Krizhevsky, "Convolutional deep belief networks on CIFAR-10" (2010).

    Examples
    --------
    >>> import numpy
    >>> y, cache = relu6(numpy.array([-1.0, 2.0, 7.0]))
    >>> y
    array([0., 2., 6.])
    >>> relu6_backward(numpy.array([10.0, 10.0, 10.0]), cache)
    array([ 0., 10.,  0.])
    """
    require_float(x, "x", "relu6")
    y = namespace(x).clip(x, 0, 6)
    return y, (y,)


def relu6_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' is 1 where 0 < x < 6, which is where 0 < y < 6. It is 0 elsewhere, by convention at both kinks too::

        dx = dy where 0 < y < 6, else 0
    """
    (y,) = cache
    require_like(dy, y, "dy", "y", "relu6_backward")
    return namespace(dy).where((y > 0) & (y < 6), dy, 0)


@ieee
def leaky_relu(x: Array, negative_slope: float = 0.01) -> tuple[Array, Cache]:
    """Rectify with a leak, so that negative elements keep a small slope.

    With a = ``negative_slope``::

        y = x where x > 0, else a x

    The cache is (x, negative_slope).
    Source: A. Maas, A. Hannun, A. Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.

    Parameters
    ----------
    x : array
    negative_slope : float, default 0.01
        The slope a.

    Examples
    --------
    >>> import numpy
    >>> y, cache = leaky_relu(numpy.array([-1.0, 2.0]), 0.1)
    >>> y
    array([-0.1,  2. ])
    >>> leaky_relu_backward(numpy.array([10.0, 10.0]), cache)
    array([ 1., 10.])
    """
    require_float(x, "x", "leaky_relu")
    return namespace(x).where(x > 0, x, x * negative_slope), (x, negative_slope)


@ieee
def leaky_relu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' is 1 where x > 0 and a elsewhere, by convention at the kink too::

        dx = dy where x > 0, else a dy
    """
    x, negative_slope = cache
    require_like(dy, x, "dy", "x", "leaky_relu_backward")
    return namespace(dy).where(x > 0, dy, dy * negative_slope)


@ieee
def sigmoid(x: Array) -> tuple[Array, Cache]:
    """Squash elements to the interval (0, 1).

    The logistic function::

        y = sigma(x) = 1 / (1 + exp(-x))

    With e = exp(-abs(x)), which is at most 1, y is 1 / (1 + e) for positive x and e / (1 + e) for negative x. So nothing
    overflows, and small results keep all their digits.

    The cache is (y,).

    Examples
    --------
    >>> import numpy
    >>> y, cache = sigmoid(numpy.array([-1000.0, 0.0, numpy.log(3.0)]))
    >>> y
    array([0.  , 0.5 , 0.75])
    >>> sigmoid_backward(numpy.array([16.0, 16.0, 16.0]), cache)
    array([0., 4., 3.])
    """
    require_float(x, "x", "sigmoid")
    y = _sigmoid(x)
    return y, (y,)


@ieee
def sigmoid_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' = exp(-x) / (1 + exp(-x))^2, which is 1 / (1 + exp(-x)) times exp(-x) / (1 + exp(-x))::

        dx = dy y (1 - y)
    """
    (y,) = cache
    require_like(dy, y, "dy", "y", "sigmoid_backward")
    return dy * (y * (1 - y))


def tanh(x: Array) -> tuple[Array, Cache]:
    """Squash elements to the interval (-1, 1).

    The hyperbolic tangent::

        y = tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))

    The cache is (y,).

    Examples
    --------
    >>> import numpy
    >>> y, cache = tanh(numpy.array([0.0, numpy.arctanh(0.5)]))
    >>> y
    array([0. , 0.5])
    >>> tanh_backward(numpy.array([1.0, 1.0]), cache)
    array([1.  , 0.75])
    """
    require_float(x, "x", "tanh")
    y = namespace(x).tanh(x)
    return y, (y,)


@ieee
def tanh_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    With tanh = sinh / cosh, sinh' = cosh and cosh' = sinh, the quotient rule gives f' = (cosh^2 - sinh^2) / cosh^2::

        dx = dy (1 - y^2)
    """
    (y,) = cache
    require_like(dy, y, "dy", "y", "tanh_backward")
    return dy * (1 - y * y)


@ieee
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> tuple[Array, Cache]:
    """Smooth the rectifier.

    With b = ``beta``::

        y = log(1 + exp(b x)) / b where b x <= threshold, else x

    It is computed as (max(b x, 0) + log(1 + exp(-abs(b x)))) / b. This is the same, because for positive x the factor
    exp(b x) comes out of the logarithm, and it cannot overflow.

    The cache is (x, beta, threshold).
    Source: C. Dugas et al., "Incorporating second-order functional knowledge for better option pricing", NIPS 2000.

    Parameters
    ----------
    x : array
    beta : float, default 1.0
        The sharpness; positive.
    threshold : float, default 20.0
        Beyond it y is exactly x, as in PyTorch.

    Raises
    ------
    ParameterError
        If beta is not positive.

    Examples
    --------
    >>> import numpy
    >>> y, cache = softplus(numpy.array([0.0, 30.0]))
    >>> y.round(4)
    array([ 0.6931, 30.    ])
    >>> softplus_backward(numpy.array([1.0, 1.0]), cache)
    array([0.5, 1. ])
    """
    require_float(x, "x", "softplus")
    if not beta > 0:
        raise ParameterError(f"softplus: beta must be positive, got {beta!r}")
    xp = namespace(x)
    scaled = x * beta
    smooth = (xp.maximum(scaled, 0) + xp.log1p(xp.exp(-xp.abs(scaled)))) / beta
    return xp.where(scaled > threshold, x, smooth), (x, beta, threshold)


@ieee
def softplus_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' = (1 / b) b exp(b x) / (1 + exp(b x)), and 1 beyond the threshold::

        dx = dy sigma(b x) where b x <= threshold, else dy
    """
    x, beta, threshold = cache
    require_like(dy, x, "dy", "x", "softplus_backward")
    scaled = x * beta
    return namespace(dy).where(scaled > threshold, dy, dy * _sigmoid(scaled))


@ieee
def elu(x: Array, alpha: float = 1.0) -> tuple[Array, Cache]:
    """Apply the exponential linear unit.

    With a = ``alpha``::

        y = x where x > 0, else a (exp(x) - 1)

    exp(x) - 1 is one function, expm1, because the difference would lose the digits of small x.

    The cache is (x, alpha).
    Source: D. Clevert, T. Unterthiner, S. Hochreiter, "Fast and accurate deep network learning by exponential linear units",
    ICLR 2016.

    Parameters
    ----------
    x : array
    alpha : float, default 1.0
        The scale a; y tends to -a for very negative x.

    Examples
    --------
    >>> import numpy
    >>> y, cache = elu(numpy.array([-numpy.log(2.0), 3.0]))
    >>> y
    array([-0.5,  3. ])
    >>> elu_backward(numpy.array([1.0, 1.0]), cache)
    array([0.5, 1. ])
    """
    require_float(x, "x", "elu")
    xp = namespace(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, 0)) * alpha), (x, alpha)


@ieee
def elu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' is 1 where x > 0 and a exp(x) elsewhere::

        dx = dy where x > 0, else dy a exp(x)
    """
    x, alpha = cache
    require_like(dy, x, "dy", "x", "elu_backward")
    xp = namespace(dy)
    return xp.where(x > 0, dy, dy * (xp.exp(xp.minimum(x, 0)) * alpha))


@ieee
def gelu(x: Array, approximate: str = "none") -> tuple[Array, Cache]:
    """Apply the Gaussian error linear unit.

    With Phi the normal distribution function::

        y = x Phi(x)

    ``approximate="tanh"`` takes Phi(x) = (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3). That is computed as
    sigma(2 u), because 1 + tanh(u) would cancel for negative x. The exact form would cancel too in 1 + erf, so it takes Phi
    from the tail; see ``minidl.ops.special``.

    The cache is (x, approximate).
    Source: D. Hendrycks, K. Gimpel, "Gaussian error linear units", arXiv:1606.08415 (2016), section 2.

    Parameters
    ----------
    x : array
    approximate : {"none", "tanh"}, default "none"

    Raises
    ------
    ParameterError
        If ``approximate`` is neither of the two.

    Examples
    --------
    >>> import numpy
    >>> y, cache = gelu(numpy.array([-1.0, 0.0, 1.0]))
    >>> y.round(4)
    array([-0.1587,  0.    ,  0.8413])
    >>> gelu_backward(numpy.array([1.0, 1.0, 1.0]), cache).round(4)
    array([-0.0833,  0.5   ,  1.0833])
    >>> gelu(numpy.array([-1.0, 0.0, 1.0]), "tanh")[0].round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    require_float(x, "x", "gelu")
    if approximate not in ("none", "tanh"):
        raise ParameterError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    gate = normal(x)[0] if approximate == "none" else _sigmoid(2 * _gelu_inner(x)[0])
    return x * gate, (x, approximate)


@ieee
def gelu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    By the product rule, with the normal density phi = Phi'::

        dx = dy (Phi(x) + x phi(x))

    The approximation has s = sigma(2 u), and sigma' = sigma (1 - sigma), in place of Phi. So there it is
    dy (s + x s (1 - s) 2 u') with u' = sqrt(2 / pi) (1 + 3 0.044715 x^2).
    """
    x, approximate = cache
    require_like(dy, x, "dy", "x", "gelu_backward")
    if approximate == "none":
        distribution, density = normal(x)
        return dy * (distribution + x * density)
    inner, slope = _gelu_inner(x)
    s = _sigmoid(2 * inner)
    return dy * (s + x * (s * (1 - s)) * (2 * slope))


@ieee
def silu(x: Array) -> tuple[Array, Cache]:
    """Apply the sigmoid-weighted linear unit, also called swish.

    With sigma the logistic function::

        y = x sigma(x)

    The cache is (x,).
    Source: S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-weighted linear units for neural network function approximation in
    reinforcement learning", Neural Networks 107 (2018).

    Examples
    --------
    >>> import numpy
    >>> y, cache = silu(numpy.array([0.0, numpy.log(3.0)]))
    >>> y.round(4)
    array([0.   , 0.824])
    >>> silu_backward(numpy.array([1.0, 1.0]), cache).round(4)
    array([0.5  , 0.956])
    """
    require_float(x, "x", "silu")
    return x * _sigmoid(x), (x,)


@ieee
def silu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    By the product rule, with sigma' = sigma (1 - sigma), f' = s + x s (1 - s)::

        dx = dy s (1 + x (1 - s)),   s = sigma(x)
    """
    (x,) = cache
    require_like(dy, x, "dy", "x", "silu_backward")
    s = _sigmoid(x)
    return dy * (s * (1 + x * (1 - s)))


@ieee
def quick_gelu(x: Array) -> tuple[Array, Cache]:
    """Apply GELU as approximated by a sigmoid, as CLIP does.

    With sigma the logistic function::

        y = x sigma(1.702 x)

    The cache is (x,).
    Source: D. Hendrycks, K. Gimpel, "Gaussian error linear units (GELUs)", arXiv:1606.08415 (2016), section 2.

    Examples
    --------
    >>> import numpy
    >>> y, cache = quick_gelu(numpy.array([0.0, numpy.log(3.0) / 1.702]))
    >>> y.round(4)
    array([0.    , 0.4841])
    >>> quick_gelu_backward(numpy.array([1.0, 1.0]), cache).round(4)
    array([0.5  , 0.956])
    """
    require_float(x, "x", "quick_gelu")
    return x * _sigmoid(_quick_inner(x)), (x,)


@ieee
def quick_gelu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    By the product rule, with u = 1.702 x and sigma' = sigma (1 - sigma), f' = s + x 1.702 s (1 - s)::

        dx = dy s (1 + u (1 - s)),   u = 1.702 x, s = sigma(u)
    """
    (x,) = cache
    require_like(dy, x, "dy", "x", "quick_gelu_backward")
    u = _quick_inner(x)
    s = _sigmoid(u)
    return dy * (s * (1 + u * (1 - s)))


@ieee
def hardswish(x: Array) -> tuple[Array, Cache]:
    """Apply the piecewise form of SiLU, which takes no exponential.

    The gate, a sigmoid in SiLU, is a straight line here, cut at 0 and 1::

        y = x min(max(x + 3, 0), 6) / 6

    The gate is divided by 6 before x multiplies it, so that the product cannot overflow.

    The cache is (x,).
    Source: A. Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2.

    Examples
    --------
    >>> import numpy
    >>> y, cache = hardswish(numpy.array([-4.0, -1.5, 0.0, 4.0]))
    >>> y
    array([-0.   , -0.375,  0.   ,  4.   ])
    >>> hardswish_backward(numpy.array([1.0, 1.0, 1.0, 1.0]), cache)
    array([0. , 0. , 0.5, 1. ])
    """
    require_float(x, "x", "hardswish")
    return x * _hard_gate(x), (x,)


@ieee
def hardswish_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    By the product rule, with the gate h, whose slope is 1/6 where it is not cut::

        dx = dy (h + x / 6) where -3 < x < 3, else dy h,   h = min(max(x + 3, 0), 6) / 6
    """
    (x,) = cache
    require_like(dy, x, "dy", "x", "hardswish_backward")
    xp = namespace(dy)
    return dy * (_hard_gate(x) + xp.where(xp.abs(x) < 3, x, 0) / 6)


@ieee
def hardsigmoid(x: Array) -> tuple[Array, Cache]:
    """Apply the piecewise form of the sigmoid, which takes no exponential.

    A straight line, cut at 0 and 1::

        y = min(max(x + 3, 0), 6) / 6

    The cache is (x,).
    Source: A. Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2; with another slope already in M.
    Courbariaux, Y. Bengio, J. David, "BinaryConnect", NIPS 2015, equation (3).

    Examples
    --------
    >>> import numpy
    >>> y, cache = hardsigmoid(numpy.array([-4.0, -1.5, 0.0, 4.0]))
    >>> y
    array([0.  , 0.25, 0.5 , 1.  ])
    >>> hardsigmoid_backward(numpy.array([6.0, 6.0, 6.0, 6.0]), cache)
    array([0., 1., 1., 0.])
    """
    require_float(x, "x", "hardsigmoid")
    return _hard_gate(x), (x,)


@ieee
def hardsigmoid_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' is 1/6 where the line is not cut, and 0 elsewhere, by convention at both kinks too::

        dx = dy / 6 where -3 < x < 3, else 0

    It is taken from x, because y may round to 0 or 1 before x reaches a kink.
    """
    (x,) = cache
    require_like(dy, x, "dy", "x", "hardsigmoid_backward")
    xp = namespace(dy)
    return xp.where(xp.abs(x) < 3, dy / 6, 0)


@ieee
def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> tuple[Array, Cache]:
    """Clip elements to an interval.

    With a = ``min_val`` and b = ``max_val``::

        y = min(max(x, a), b)

    The default bounds make it the piecewise form of tanh.

    The cache is (x, min_val, max_val).
    Source: R. Collobert, "Large scale machine learning", PhD thesis, Universite Paris VI (2004).

    Parameters
    ----------
    x : array
    min_val : float, default -1.0
        The lower bound a.
    max_val : float, default 1.0
        The upper bound b, more than a.

    Raises
    ------
    ParameterError
        If min_val is not less than max_val.

    Examples
    --------
    >>> import numpy
    >>> y, cache = hardtanh(numpy.array([-4.0, 0.5, 3.0]), -1.0, 2.0)
    >>> y
    array([-1. ,  0.5,  2. ])
    >>> hardtanh_backward(numpy.array([10.0, 10.0, 10.0]), cache)
    array([ 0., 10.,  0.])
    """
    require_float(x, "x", "hardtanh")
    if not min_val < max_val:
        raise ParameterError(f"hardtanh: min_val must be less than max_val, got {min_val!r} and {max_val!r}")
    return namespace(x).clip(x, min_val, max_val), (x, min_val, max_val)


@ieee
def hardtanh_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' is 1 between the bounds and 0 elsewhere, by convention at both kinks too::

        dx = dy where a < x < b, else 0
    """
    x, min_val, max_val = cache
    require_like(dy, x, "dy", "x", "hardtanh_backward")
    return namespace(dy).where((x > min_val) & (x < max_val), dy, 0)


@ieee
def softsign(x: Array) -> tuple[Array, Cache]:
    """Squash elements to the interval (-1, 1), more slowly than tanh does.

    A quotient without an exponential::

        y = x / (1 + abs(x))

    The cache is (x,).
    Source: J. Bergstra, G. Desjardins, P. Lamblin, Y. Bengio, "Quadratic polynomials learn better image features", technical
    report 1337, Universite de Montreal (2009).

    Examples
    --------
    >>> import numpy
    >>> y, cache = softsign(numpy.array([-1.0, 0.0, 3.0]))
    >>> y
    array([-0.5 ,  0.  ,  0.75])
    >>> softsign_backward(numpy.array([16.0, 16.0, 16.0]), cache)
    array([ 4., 16.,  1.])
    """
    require_float(x, "x", "softsign")
    return x / (1 + namespace(x).abs(x)), (x,)


@ieee
def softsign_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    With s the sign of x, which is the derivative of abs(x), the quotient rule gives f' = ((1 + s x) - x s) / (1 + s x)^2::

        dx = dy / (1 + abs(x))^2

    It is divided twice, because the square could overflow. At 0 both one-sided derivatives are 1.
    """
    (x,) = cache
    require_like(dy, x, "dy", "x", "softsign_backward")
    below = 1 + namespace(dy).abs(x)
    return dy / below / below


@ieee
def mish(x: Array) -> tuple[Array, Cache]:
    """Apply a smooth activation that, like SiLU, is not monotonic.

    The gate is the tanh of softplus::

        y = x w(x),   w(x) = tanh(log(1 + exp(x)))

    As tanh(log(u)) = (u^2 - 1) / (u^2 + 1), the gate is a fraction of polynomials in u = 1 + exp(x). With e = exp(-abs(x)),
    which is at most 1, it is::

        e (2 + e) / ((1 + e)^2 + 1) for negative x, else (1 + 2 e) / ((1 + e)^2 + e^2)

    where nothing overflows and all terms are positive, so that small results keep all their digits.

    The cache is (x,).
    Source: D. Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020, equation (1).

    Examples
    --------
    >>> import numpy
    >>> y, cache = mish(numpy.array([-1.0, 0.0, numpy.log(2.0)]))
    >>> y.round(4)
    array([-0.3034,  0.    ,  0.5545])
    >>> mish_backward(numpy.array([1.0, 1.0, 1.0]), cache).round(4)
    array([0.0592, 0.6   , 0.9664])
    """
    require_float(x, "x", "mish")
    return x * _mish_gate(x)[0], (x,)


@ieee
def mish_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    By the product rule::

        dx = dy (w + x w'),   w' = 4 u (u - 1) / (u^2 + 1)^2,   u = 1 + exp(x)

    w' is the derivative of w = 1 - 2 / (u^2 + 1), with u' = exp(x) = u - 1. It is written in e = exp(-abs(x)) as w is, because
    w' = (1 - w^2) sigma(x) would cancel for large x.
    """
    (x,) = cache
    require_like(dy, x, "dy", "x", "mish_backward")
    gate, slope = _mish_gate(x)
    return dy * (gate + x * slope)


def _mish_gate(x: Array) -> tuple[Array, Array]:
    """Return w(x) and w'(x)."""
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    left, square = x < 0, e * e
    below = (1 + e) * (1 + e) + xp.where(left, 1, square)
    gate = xp.where(left, e * (2 + e), 1 + 2 * e) / below
    return gate, 4 * (1 + e) * xp.where(left, e, square) / (below * below)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848
"""The solution of the equations (4) and (5) of the paper for a mean of 0 and a variance of 1."""


@ieee
def selu(x: Array) -> tuple[Array, Cache]:
    """Apply the scaled exponential linear unit, which drives a deep network's activations to mean 0 and variance 1.

    With s = 1.0507... and a = 1.6733..., for which mean 0 and variance 1 stay so::

        y = s x where x > 0, else s a (exp(x) - 1)

    exp(x) - 1 is one function, expm1, because the difference would lose the digits of small x.

    The cache is (x,).
    Source: G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing neural networks", NIPS 2017, equation (2).

    Examples
    --------
    >>> import numpy
    >>> y, cache = selu(numpy.array([-numpy.log(2.0), 0.0, 1.0]))
    >>> y.round(4)
    array([-0.879 ,  0.    ,  1.0507])
    >>> selu_backward(numpy.array([1.0, 1.0, 1.0]), cache).round(4)
    array([0.879 , 1.7581, 1.0507])
    """
    require_float(x, "x", "selu")
    xp = namespace(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, 0)) * SELU_ALPHA) * SELU_SCALE, (x,)


@ieee
def selu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' is s where x > 0 and s a exp(x) elsewhere, by convention at the kink too::

        dx = dy s where x > 0, else dy s a exp(x)
    """
    (x,) = cache
    require_like(dy, x, "dy", "x", "selu_backward")
    xp = namespace(dy)
    return dy * (xp.where(x > 0, 1, xp.exp(xp.minimum(x, 0)) * SELU_ALPHA) * SELU_SCALE)


@ieee
def celu(x: Array, alpha: float = 1.0) -> tuple[Array, Cache]:
    """Apply the exponential linear unit whose derivative is continuous for every alpha.

    With a = ``alpha``::

        y = x where x > 0, else a (exp(x / a) - 1)

    exp(x) - 1 is one function, expm1, because the difference would lose the digits of small x.

    The cache is (x, alpha).
    Source: J. Barron, "Continuously differentiable exponential linear units", arXiv:1704.07483 (2017).

    Parameters
    ----------
    x : array
    alpha : float, default 1.0
        The scale a, positive; y tends to -a for very negative x.

    Raises
    ------
    ParameterError
        If alpha is not positive.

    Examples
    --------
    >>> import numpy
    >>> y, cache = celu(numpy.array([-2 * numpy.log(2.0), 3.0]), 2.0)
    >>> y
    array([-1.,  3.])
    >>> celu_backward(numpy.array([1.0, 1.0]), cache)
    array([0.5, 1. ])
    """
    require_float(x, "x", "celu")
    if not alpha > 0:
        raise ParameterError(f"celu: alpha must be positive, got {alpha!r}")
    xp = namespace(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, 0) / alpha) * alpha), (x, alpha)


@ieee
def celu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    f' is 1 where x > 0 and a exp(x / a) / a elsewhere::

        dx = dy where x > 0, else dy exp(x / a)
    """
    x, alpha = cache
    require_like(dy, x, "dy", "x", "celu_backward")
    xp = namespace(dy)
    return dy * xp.where(x > 0, 1, xp.exp(xp.minimum(x, 0) / alpha))


@ieee
def prelu(x: Array, weight: Array) -> tuple[Array, Cache]:
    """Rectify with a slope for negative elements that is learned.

    With the slope w of all elements, or of the element's channel::

        y = x where x > 0, else w x

    Parameters
    ----------
    x : array, shape (N, C, ...) or any
    weight : array, shape (1,) or (C,)
        One slope for all, or one for each channel on axis 1.

    Returns
    -------
    y : array, shape of x
    cache : (x, weight)

    Raises
    ------
    ShapeError
        If weight has neither one element nor one for each channel of x.
    DtypeError
        If weight has not the dtype of x.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
    classification", ICCV (2015), section 2.1.

    Examples
    --------
    >>> import numpy
    >>> y, cache = prelu(numpy.array([[-1.0, 2.0], [-4.0, -3.0]]), numpy.array([0.5, 0.25]))
    >>> y
    array([[-0.5 ,  2.  ],
           [-2.  , -0.75]])
    >>> dx, dweight = prelu_backward(numpy.ones((2, 2)), cache)
    >>> dx
    array([[0.5 , 1.  ],
           [0.5 , 0.25]])
    >>> dweight
    array([-5., -3.])
    """
    require_float(x, "x", "prelu")
    require_float(weight, "weight", "prelu")
    require_same_dtype(weight, x, "weight", "x", "prelu")
    if weight.ndim != 1 or weight.shape not in ((1,), x.shape[1:2]):
        raise ShapeError(
            f"prelu: weight must have shape (1,), or one element for each channel, on axis 1 of x; got {weight.shape} for "
            f"x of shape {x.shape}"
        )
    return namespace(x).where(x > 0, x, x * _to_channels(weight, x)), (x, weight)


@parameter_gradients("weight")
@ieee
def prelu_backward(dy: Array, cache: Cache, wanted: Sequence[bool] = (True, True)) -> tuple[Array | None, Array | None]:
    """Return the gradients of x and weight.

    Where x > 0, y does not depend on w; elsewhere, by convention at the kink too, y = w x. So w gathers dy x from every such
    element that it multiplies::

        dx = dy where x > 0, else w dy
        dweight = sum of dy x where x <= 0

    The sum is over all axes but that of the channels, or over all for a single slope. float16 is summed in float32.
    """
    x, weight = cache
    require_like(dy, x, "dy", "x", "prelu_backward")
    xp, positive = namespace(dy), x > 0
    dx = xp.where(positive, dy, dy * _to_channels(weight, x)) if wanted[0] else None
    if not wanted[1]:
        return dx, None
    terms = xp.where(positive, 0, widen_float16(dy) * widen_float16(x))
    axes = tuple(axis for axis in range(x.ndim) if axis != 1 or weight.shape == (1,))
    return dx, sum_widened(terms, axes).reshape(weight.shape).astype(x.dtype, copy=False)  # (1,) or (C,)


def _to_channels(weight: Array, x: Array) -> Array:
    """Return weight with as many axes as x has, along which it is the same except on axis 1."""
    return weight.reshape(tuple(weight.shape[0] if axis == 1 else 1 for axis in range(x.ndim)))


def _hard_gate(x: Array) -> Array:
    return namespace(x).clip(x + 3, 0, 6) / 6


def _sigmoid(x: Array) -> Array:
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


def _quick_inner(x: Array) -> Array:
    """Return u; beyond abs(x) = 1000 the gate is 0 or 1 whatever u is, and a float16 would overflow."""
    return 1.702 * namespace(x).clip(x, -1000, 1000)


def _gelu_inner(x: Array) -> tuple[Array, Array]:
    """Return u and u' of the tanh approximation; beyond abs(x) = 50 the gate is 0 or 1 whatever u is."""
    bounded = namespace(x).clip(x, -50, 50)
    square = bounded * bounded
    scale = math.sqrt(2 / math.pi)
    return scale * bounded * (1 + 0.044715 * square), scale * (1 + 3 * 0.044715 * square)
