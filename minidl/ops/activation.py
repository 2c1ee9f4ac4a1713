r"""Activations: functions of one element at a time, :math:`y_i = f(x_i)`.

Since :math:`x_i` enters :math:`y_i` and no other output, the chain rule is :math:`dx_i = dy_i\, f'(x_i)` for all of them.
What remains to be said of each is :math:`f'`, and how f and :math:`f'` are computed so that no finite input overflows on the
way and no digits cancel.

Every forward takes a floating array x of any shape, empty included, and returns y of the same shape and dtype together
with the cache; every backward takes dy, of the shape and dtype of y, and the cache, changes neither, and returns dx. Raised
are ``DtypeError`` for arrays that are not floating or not of one dtype, and ``ShapeError`` for a dy of another shape. nan
goes through; at infinity a product 0 times inf is nan, as in IEEE arithmetic.
"""

from __future__ import annotations

import math
from typing import Any

from minidl.errors import ParameterError
from minidl.ops._checks import ieee, require_like
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops.special import normal

__all__ = [
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]

Cache = tuple[Any, ...]


def relu(x: Array) -> tuple[Array, Cache]:
    r"""Rectify: :math:`y = \max(x, 0)`.

    V. Nair, G. Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.

    Parameters
    ----------
    x : array
        Any shape, floating.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (y,)

    Raises
    ------
    DtypeError
        If x is not floating-point.

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
    """Return dx: f' is 1 where x > 0, which is where y > 0, and 0 elsewhere (at the kink too, by convention)."""
    (y,) = cache
    require_like(dy, y, "dy", "y", "relu_backward")
    return namespace(dy).where(y > 0, dy, 0)


def relu6(x: Array) -> tuple[Array, Cache]:
    r"""Rectify and saturate: :math:`y = \min(\max(x, 0), 6)`.

    A. Krizhevsky, "Convolutional deep belief networks on CIFAR-10" (2010). The bound keeps numbers in the range that
    low-precision arithmetic represents well, which is why MobileNets use it.

    Parameters
    ----------
    x : array
        Any shape, floating.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (y,)

    Raises
    ------
    DtypeError
        If x is not floating-point.

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
    """Return dx: f' is 1 where 0 < x < 6, which is where 0 < y < 6, and 0 elsewhere (at both kinks too, by convention)."""
    (y,) = cache
    require_like(dy, y, "dy", "y", "relu6_backward")
    return namespace(dy).where((y > 0) & (y < 6), dy, 0)


@ieee
def leaky_relu(x: Array, negative_slope: float = 0.01) -> tuple[Array, Cache]:
    r"""Rectify with a leak: :math:`y = x` where :math:`x > 0` and :math:`a x` elsewhere.

    A. Maas, A. Hannun, A. Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.

    Parameters
    ----------
    x : array
        Any shape, floating.
    negative_slope : float
        The slope a.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x, negative_slope)

    Raises
    ------
    DtypeError
        If x is not floating-point.

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
    """Return dx: f' is 1 where x > 0 and the slope a elsewhere (at the kink too, by convention)."""
    x, negative_slope = cache
    require_like(dy, x, "dy", "x", "leaky_relu_backward")
    return namespace(dy).where(x > 0, dy, dy * negative_slope)


@ieee
def sigmoid(x: Array) -> tuple[Array, Cache]:
    r"""Squash to (0, 1): :math:`y = \sigma(x) = 1 / (1 + e^{-x})`.

    With :math:`e = e^{-|x|} \le 1`, y is :math:`1/(1+e)` for positive x and :math:`e/(1+e)` for negative x: nothing
    overflows, and small results keep all their digits.

    Parameters
    ----------
    x : array
        Any shape, floating.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (y,)

    Raises
    ------
    DtypeError
        If x is not floating-point.

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
    r"""Return dx.

    :math:`f' = \frac{e^{-x}}{(1+e^{-x})^2} = \frac{1}{1+e^{-x}} \cdot \frac{e^{-x}}{1+e^{-x}} = y (1 - y)`.
    """
    (y,) = cache
    require_like(dy, y, "dy", "y", "sigmoid_backward")
    return dy * (y * (1 - y))


def tanh(x: Array) -> tuple[Array, Cache]:
    r"""Squash to (-1, 1): :math:`y = \tanh x = (e^x - e^{-x}) / (e^x + e^{-x})`.

    Parameters
    ----------
    x : array
        Any shape, floating.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (y,)

    Raises
    ------
    DtypeError
        If x is not floating-point.

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
    r"""Return dx.

    With :math:`\tanh = \sinh/\cosh`, :math:`\sinh' = \cosh` and :math:`\cosh' = \sinh`, the quotient rule gives
    :math:`f' = \frac{\cosh^2 x - \sinh^2 x}{\cosh^2 x} = 1 - y^2`.
    """
    (y,) = cache
    require_like(dy, y, "dy", "y", "tanh_backward")
    return dy * (1 - y * y)


@ieee
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> tuple[Array, Cache]:
    r"""Smooth the rectifier: :math:`y = \frac1\beta \log(1 + e^{\beta x})`, and y = x where beta x exceeds the threshold.

    Computed as :math:`\frac1\beta (\max(\beta x, 0) + \log(1 + e^{-|\beta x|}))`, which is the same and cannot overflow:
    for positive x the factor :math:`e^{\beta x}` is taken out of the logarithm.
    C. Dugas et al., "Incorporating second-order functional knowledge for better option pricing", NIPS 2000.

    Parameters
    ----------
    x : array
        Any shape, floating.
    beta : float
        Sharpness; positive.
    threshold : float
        Beyond it y is exactly x, as in PyTorch.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x, beta, threshold)

    Raises
    ------
    DtypeError
        If x is not floating-point.
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
    r"""Return dx: :math:`f' = \frac1\beta \cdot \frac{\beta e^{\beta x}}{1+e^{\beta x}} = \sigma(\beta x)`, beyond the threshold 1."""
    x, beta, threshold = cache
    require_like(dy, x, "dy", "x", "softplus_backward")
    scaled = x * beta
    return namespace(dy).where(scaled > threshold, dy, dy * _sigmoid(scaled))


@ieee
def elu(x: Array, alpha: float = 1.0) -> tuple[Array, Cache]:
    r"""Exponential linear unit: :math:`y = x` where :math:`x > 0` and :math:`\alpha (e^x - 1)` elsewhere.

    :math:`e^x - 1` is one function (expm1), because the difference would lose the digits of small x.
    D. Clevert, T. Unterthiner, S. Hochreiter, "Fast and accurate deep network learning by exponential linear units",
    ICLR 2016.

    Parameters
    ----------
    x : array
        Any shape, floating.
    alpha : float
        What y tends to for very negative x is -alpha.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x, alpha)

    Raises
    ------
    DtypeError
        If x is not floating-point.

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
    r"""Return dx: f' is 1 where :math:`x > 0` and :math:`\alpha e^x` elsewhere."""
    x, alpha = cache
    require_like(dy, x, "dy", "x", "elu_backward")
    xp = namespace(dy)
    return xp.where(x > 0, dy, dy * (xp.exp(xp.minimum(x, 0)) * alpha))


@ieee
def gelu(x: Array, approximate: str = "none") -> tuple[Array, Cache]:
    r"""Gaussian error linear unit: :math:`y = x \Phi(x)`, with :math:`\Phi` the normal distribution function.

    ``approximate="tanh"`` takes :math:`\Phi(x) \approx \tfrac12 (1 + \tanh u)`,
    :math:`u = \sqrt{2/\pi}\,(x + 0.044715\,x^3)`. That is :math:`\sigma(2u)`, and computed as such, for at negative x the sum
    :math:`1 + \tanh u` would cancel; so would :math:`1 + \operatorname{erf}` in the exact form, which takes
    :math:`\Phi` from the tail instead (``minidl.ops.special``).
    D. Hendrycks, K. Gimpel, "Gaussian error linear units", arXiv:1606.08415 (2016), section 2.

    Parameters
    ----------
    x : array
        Any shape, floating.
    approximate : str
        ``"none"`` or ``"tanh"``.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x, approximate)

    Raises
    ------
    DtypeError
        If x is not floating-point.
    ParameterError
        If ``approximate`` is neither.

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
    r"""Return dx.

    Exactly, by the product rule with :math:`\Phi' = \varphi`: :math:`f' = \Phi(x) + x \varphi(x)`.
    In the approximation, with :math:`s = \sigma(2u)` and :math:`\sigma' = \sigma (1 - \sigma)`:
    :math:`f' = s + x \cdot s (1 - s) \cdot 2 u'`, :math:`u' = \sqrt{2/\pi}\,(1 + 3 \cdot 0.044715\, x^2)`.
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
    r"""Sigmoid-weighted linear unit, or swish: :math:`y = x\,\sigma(x)`.

    S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-weighted linear units for neural network function approximation in
    reinforcement learning", Neural Networks 107 (2018).

    Parameters
    ----------
    x : array
        Any shape, floating.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x,)

    Raises
    ------
    DtypeError
        If x is not floating-point.

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
    r"""Return dx.

    By the product rule with :math:`\sigma' = \sigma (1 - \sigma)`: :math:`f' = \sigma + x \sigma (1 - \sigma)
    = \sigma (1 + x (1 - \sigma))`.
    """
    (x,) = cache
    require_like(dy, x, "dy", "x", "silu_backward")
    s = _sigmoid(x)
    return dy * (s * (1 + x * (1 - s)))


def _sigmoid(x: Array) -> Array:
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


def _gelu_inner(x: Array) -> tuple[Array, Array]:
    """Return u and u' of the tanh approximation; beyond |x| = 50 the gate is 0 or 1 whatever u is."""
    bounded = namespace(x).clip(x, -50, 50)
    square = bounded * bounded
    scale = math.sqrt(2 / math.pi)
    return scale * bounded * (1 + 0.044715 * square), scale * (1 + 3 * 0.044715 * square)
