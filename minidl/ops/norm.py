"""Normalisation: bring elements to mean 0 and variance 1 over some axes, then scale and shift them.

Batch, layer and group normalisation are one formula over different axes::

    y = w x_hat + b,   x_hat = (x - mean) r,   r = 1 / sqrt(var + eps)

RMS normalisation leaves out the mean and the shift. The variance is taken in two passes, after the mean. float16 is
computed in float32 and rounded once; all sums are taken in float64. ``DtypeError`` is raised if an argument is not floating-point or the dtypes differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ParameterError, ShapeError
from minidl.ops._checks import ieee, require_like, require_same_dtype, sum_widened, widen_float16
from minidl.ops._gradients import parameter_gradients
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops._scalars import is_count, shown
from minidl.ops._windows import hashable

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "group_norm",
    "group_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]

Cache = tuple[Any, ...]


@ieee
def batch_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[Array, Cache]:
    """Normalise every channel over the batch and all positions.

    With the statistics of channel c::

        y = w_c x_hat + b_c,   x_hat = (x - mean_c) / sqrt(var_c + eps)

    In training these are the mean and the biased variance of the channel in this batch. Otherwise they are ``running_mean``
    and ``running_var``, which are constants. The op updates nothing: the cache holds the statistics that were used, and
    layers that keep running statistics (``minidl.layers.BatchNorm2d``) update them from there. A variance beyond the range of
    the dtype, of x beyond 1e19 in float32, is inf there, and y the bias.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Any number of axes may follow the channels.
    weight, bias : array, shape (C,), default 1 and 0
    running_mean, running_var : array, shape (C,), optional
        Required, and read, only with ``training=False``.
    training : bool, default True
        Whether to use the statistics of this batch.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    y : array, shape (N, C, ...)
    cache : (x, weight, whether there is a bias, mean, var, training, eps)
        Mean and variance have shape (C,), and dtype float32 if x is float16.

    Raises
    ------
    ShapeError
        If x has no channels, or a parameter does not have one element for each.
    ParameterError
        If ``training`` is False and the running statistics are missing.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
    ICML (2015), algorithm 1.

    Examples
    --------
    >>> import numpy
    >>> x = numpy.array([[0.0], [0.0], [2.0], [2.0]])  # mean 1, variance 1
    >>> y, cache = batch_norm(x, eps=0.0)
    >>> y.ravel()
    array([-1., -1.,  1.,  1.])
    >>> dx, dweight, dbias = batch_norm_backward(numpy.array([[4.0], [0.0], [0.0], [0.0]]), cache)
    >>> dx.ravel(), dweight, dbias
    (array([ 2., -2.,  0.,  0.]), None, None)
    """
    _check_channels(x, "batch_norm", weight=weight, bias=bias)
    wide, axes = widen_float16(x), _all_but_channels(x)
    if training:
        mean = _mean(wide, axes)  # (1, C, 1, ...)
        centred = wide - mean
        var = _mean(centred * centred, axes)
    else:
        if running_mean is None or running_var is None:
            raise ParameterError("batch_norm: with training=False, running_mean and running_var must be given")
        _check_channels(x, "batch_norm", running_mean=running_mean, running_var=running_var)
        mean, var = _broadcast_channels(running_mean, x), _broadcast_channels(running_var, x)
        centred = wide - mean
    y = _scale_and_shift(
        centred * _inverse_root(var, eps), _broadcast_channels(weight, x), _broadcast_channels(bias, x)
    )
    cache = (x, weight, bias is not None, mean.reshape(x.shape[1]), var.reshape(x.shape[1]), training, eps)
    return y.astype(x.dtype, copy=False), cache


def _backward_through_statistics(dx_hat: Array, x_hat: Array, inverse: Array, axes: tuple[int, ...]) -> Array:
    """Return dx from dx_hat, where x_hat = (x - mean) inverse and both statistics depend on x."""
    return inverse * (dx_hat - _mean(dx_hat, axes) - x_hat * _mean(dx_hat * x_hat, axes))


@parameter_gradients("weight", "bias")
@ieee
def batch_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of x, weight and bias; None where there is no weight or bias.

    With r = 1 / sqrt(var + eps), and sums and means over the batch and all positions of a channel::

        dx = r (g - mean(g) - x_hat mean(g x_hat)),   g = w dy
        dweight = sum(dy x_hat)
        dbias = sum(dy)

    Running statistics do not depend on x, so with ``training=False`` only the first term remains: dx = r g.

    Notes
    -----
    w multiplies every :math:`\hat x` of its channel and b is added to each, hence the two sums. For dx, with
    :math:`g = dL/d\hat x`, an element :math:`x_j` enters the n values :math:`\hat x_i = (x_i - \mu)\, r` in three ways:

    * directly: :math:`\partial \hat x_i / \partial x_j = r\, \delta_{ij}`, which gives :math:`r\, g_j`;
    * through the mean: :math:`\partial \mu / \partial x_j = 1/n`, which gives :math:`-\frac{r}{n} \sum_i g_i`;
    * through the variance: :math:`\partial \sigma^2 / \partial x_j = \frac{2}{n} (x_j - \mu)`, where the mean's own share is
      :math:`-\frac{2}{n} \sum_i (x_i - \mu) \frac{1}{n} = 0`, and :math:`\partial r / \partial \sigma^2 = -\frac12 r^3`. This
      gives :math:`-\frac{r^3}{n} (x_j - \mu) \sum_i g_i (x_i - \mu) = -\frac{r}{n}\, \hat x_j \sum_i g_i \hat x_i`.

    The sum of the three is the line above. It removes from g what it has in common with a constant and with
    :math:`\hat x`, because a shift or a stretch of x does not change y.
    """
    x, weight, has_bias, mean, var, training, eps = cache
    require_like(dy, x, "dy", "y", "batch_norm_backward")
    g, axes = widen_float16(dy), _all_but_channels(x)
    inverse = _broadcast_channels(_inverse_root(var, eps), x)  # (1, C, 1, ...)
    x_hat = (widen_float16(x) - _broadcast_channels(mean, x)) * inverse
    dweight = None if weight is None else sum_widened(g * x_hat, axes).astype(x.dtype, copy=False)  # (C,)
    dbias = sum_widened(g, axes).astype(x.dtype, copy=False) if has_bias else None  # (C,)
    dx_hat = _scale_and_shift(g, _broadcast_channels(weight, x))
    dx = _backward_through_statistics(dx_hat, x_hat, inverse, axes) if training else dx_hat * inverse
    return dx.astype(x.dtype, copy=False), dweight, dbias


@ieee
def layer_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Cache]:
    """Normalise each example by itself, over its last axes.

    With the statistics of example n::

        y = w x_hat + b,   x_hat = (x - mean_n) / sqrt(var_n + eps)

    Parameters
    ----------
    x : array, shape (..., *normalized_shape)
    normalized_shape : int or sequence of int
        The last axes of x; mean and variance are over all of them together.
    weight, bias : array, shape normalized_shape, default 1 and 0
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    y : array, shape (..., *normalized_shape)
    cache : (x, normalized_shape, weight, whether there is a bias, mean, 1 / sqrt(var + eps))
        The last two have one element for each example, and dtype float32 if x is float16.

    Raises
    ------
    ShapeError
        If the last axes of x, or a parameter, do not have that shape.

    References
    ----------
    J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization" (2016), equation 4.

    Examples
    --------
    >>> import numpy
    >>> y, cache = layer_norm(numpy.array([[0.0, 0.0, 2.0, 2.0]]), 4, weight=numpy.array([1.0, 2.0, 3.0, 4.0]), eps=0.0)
    >>> y
    array([[-1., -2.,  3.,  4.]])
    >>> dx, dweight, dbias = layer_norm_backward(numpy.array([[4.0, 0.0, 0.0, 0.0]]), cache)
    >>> dx, dweight, dbias
    (array([[ 2., -2.,  0.,  0.]]), array([-4.,  0.,  0.,  0.]), None)
    """
    shape = _check_shape(x, normalized_shape, "layer_norm", weight=weight, bias=bias)
    rows = _to_rows(widen_float16(x), shape)  # (N, C)
    mean = _mean(rows, (1,))  # (N, 1)
    centred = rows - mean
    inverse = _inverse_root_of_mean_square(centred, eps)  # (N, 1)
    y = _scale_and_shift(centred * inverse, _to_row(weight), _to_row(bias))  # (N, C)
    count = rows.shape[0]
    cache = (x, shape, weight, bias is not None, mean.reshape(count), inverse.reshape(count))
    return y.reshape(x.shape).astype(x.dtype, copy=False), cache


@parameter_gradients("weight", "bias")
@ieee
def layer_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of x, weight and bias; None where there is no weight or bias.

    With r = 1 / sqrt(var + eps), means over the features of an example, and sums over the examples n::

        dx = r (g - mean(g) - x_hat mean(g x_hat)),   g = w dy
        dweight = sum_n dy x_hat
        dbias = sum_n dy

    Notes
    -----
    Every example meets the same w and b, hence the two sums. dx has three terms because :math:`x_j` enters every
    :math:`\hat x_i = (x_i - \mu)\, r` of its example in three ways. With :math:`g = dL/d\hat x` and C features:

    * directly: :math:`r\, g_j`;
    * through the mean, :math:`\partial \mu / \partial x_j = 1/C`: :math:`-r\, \overline{g}`;
    * through the variance, :math:`\partial r / \partial x_j = -\frac12 r^3 \cdot \frac2C (x_j - \mu)`:
      :math:`-\frac{r^3}{C} (x_j - \mu) \sum_i g_i (x_i - \mu) = -r\, \hat x_j\, \overline{g \hat x}`.
    """
    x, shape, weight, has_bias, mean, inverse = cache
    require_like(dy, x, "dy", "y", "layer_norm_backward")
    g, inverse = _to_rows(widen_float16(dy), shape), inverse[:, None]
    x_hat = (_to_rows(widen_float16(x), shape) - mean[:, None]) * inverse  # (N, C)
    dweight = None if weight is None else sum_widened(g * x_hat, 0).reshape(shape).astype(x.dtype, copy=False)
    dbias = sum_widened(g, 0).reshape(shape).astype(x.dtype, copy=False) if has_bias else None
    dx = _backward_through_statistics(_scale_and_shift(g, _to_row(weight)), x_hat, inverse, (1,))  # (N, C)
    return dx.reshape(x.shape).astype(x.dtype, copy=False), dweight, dbias


@ieee
def group_norm(
    x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Cache]:
    """Normalise groups of channels, each example by itself.

    With the statistics of the group of channel c in example n::

        y = w_c x_hat + b_c,   x_hat = (x - mean_ng) / sqrt(var_ng + eps)

    Mean and variance are over the positions and channels of a group. One group is layer normalisation with a weight for each
    channel. As many groups as channels are instance normalisation.

    Parameters
    ----------
    x : array, shape (N, C, ...)
    num_groups : int
        Must divide C; a group is C / num_groups consecutive channels.
    weight, bias : array, shape (C,), default 1 and 0
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    y : array, shape (N, C, ...)
    cache : (x, num_groups, weight, whether there is a bias, mean, 1 / sqrt(var + eps))
        The last two have shape (N num_groups,), and dtype float32 if x is float16.

    Raises
    ------
    ShapeError
        If x has no channels, or a parameter does not have one element for each.
    ParameterError
        If the channels cannot be divided into that many groups.

    References
    ----------
    Y. Wu, K. He, "Group normalization", ECCV (2018), equations 1, 2 and 7.

    Examples
    --------
    >>> import numpy
    >>> x = numpy.array([[0.0, 2.0, 10.0, 14.0]])  # means 1 and 12, standard deviations 1 and 2
    >>> y, cache = group_norm(x, 2, bias=numpy.array([0.0, 0.0, 5.0, 5.0]), eps=0.0)
    >>> y
    array([[-1.,  1.,  4.,  6.]])
    >>> group_norm_backward(numpy.array([[1.0, 2.0, 3.0, 4.0]]), cache)  # two elements always become -1 and 1
    (array([[0., 0., 0., 0.]]), None, array([1., 2., 3., 4.]))
    """
    _check_channels(x, "group_norm", weight=weight, bias=bias)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise ParameterError(f"group_norm: {x.shape[1]} channels cannot be divided into {num_groups} equal groups")
    groups = _to_groups(widen_float16(x), num_groups)  # (N G, C/G P)
    mean = _mean(groups, (1,))  # (N G, 1)
    centred = groups - mean
    inverse = _inverse_root_of_mean_square(centred, eps)  # (N G, 1)
    x_hat = (centred * inverse).reshape(x.shape)  # (N, C, ...)
    y = _scale_and_shift(x_hat, _broadcast_channels(weight, x), _broadcast_channels(bias, x))
    count = groups.shape[0]
    cache = (x, num_groups, weight, bias is not None, mean.reshape(count), inverse.reshape(count))
    return y.astype(x.dtype, copy=False), cache


@parameter_gradients("weight", "bias")
@ieee
def group_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    """Return the gradients of x, weight and bias; None where there is no weight or bias.

    With r = 1 / sqrt(var + eps), means over a group, and sums over the batch and all positions of a channel::

        dx = r (g - mean(g) - x_hat mean(g x_hat)),   g = w dy
        dweight = sum(dy x_hat)
        dbias = sum(dy)

    x_j acts directly, which gives r g_j; through the mean, -r mean(g); and through the variance, -r x_hat_j mean(g x_hat).
    :func:`batch_norm_backward` derives each.
    """
    x, num_groups, weight, has_bias, mean, inverse = cache
    require_like(dy, x, "dy", "y", "group_norm_backward")
    g, axes, inverse = widen_float16(dy), _all_but_channels(x), inverse[:, None]
    x_hat = (_to_groups(widen_float16(x), num_groups) - mean[:, None]) * inverse  # (N G, C/G P)
    dweight = None
    if weight is not None:
        dweight = sum_widened(g * x_hat.reshape(x.shape), axes).astype(x.dtype, copy=False)  # (C,)
    dbias = sum_widened(g, axes).astype(x.dtype, copy=False) if has_bias else None  # (C,)
    dx_hat = _to_groups(_scale_and_shift(g, _broadcast_channels(weight, x)), num_groups)  # (N G, C/G P)
    dx = _backward_through_statistics(dx_hat, x_hat, inverse, (1,)).reshape(x.shape)  # (N, C, ...)
    return dx.astype(x.dtype, copy=False), dweight, dbias


@ieee
def rms_norm(
    x: Array, normalized_shape: int | Sequence[int], weight: Array | None = None, eps: float | None = None
) -> tuple[Array, Cache]:
    """Divide each example by its root mean square over its last axes.

    With the mean over the features of an example::

        y = w x_hat,   x_hat = x / sqrt(mean(x^2) + eps)

    Parameters
    ----------
    x : array, shape (..., *normalized_shape)
    normalized_shape : int or sequence of int
        The last axes of x; the mean is over all of them together.
    weight : array, shape normalized_shape, default 1
    eps : float, optional
        Added to the mean square; the machine epsilon of x's dtype by default.

    Returns
    -------
    y : array, shape (..., *normalized_shape)
    cache : (x, normalized_shape, weight, 1 / sqrt(mean(x^2) + eps))
        The last has one element for each example, and dtype float32 if x is float16.

    Raises
    ------
    ShapeError
        If the last axes of x, or the weight, do not have that shape.

    References
    ----------
    B. Zhang, R. Sennrich, "Root mean square layer normalization", NeurIPS (2019), equation 4.

    Examples
    --------
    >>> import numpy
    >>> y, cache = rms_norm(numpy.array([[1.0, 7.0]]), 2, weight=numpy.array([5.0, 10.0]), eps=0.0)  # mean square 25
    >>> y
    array([[ 1., 14.]])
    >>> dx, dweight = rms_norm_backward(numpy.array([[2.0, 0.0]]), cache)
    >>> dx.round(4), dweight
    (array([[ 1.96, -0.28]]), array([0.4, 0. ]))
    """
    shape = _check_shape(x, normalized_shape, "rms_norm", weight=weight)
    rows = _to_rows(widen_float16(x), shape)  # (N, C)
    if eps is None:
        eps = float(numpy.finfo(x.dtype).eps)
    inverse = _inverse_root_of_mean_square(rows, eps)  # (N, 1)
    y = _scale_and_shift(rows * inverse, _to_row(weight)).reshape(x.shape)
    return y.astype(x.dtype, copy=False), (x, shape, weight, inverse.reshape(rows.shape[0]))


@parameter_gradients("weight")
@ieee
def rms_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array | None]:
    r"""Return the gradients of x and weight; None without a weight.

    With r = 1 / sqrt(mean(x^2) + eps), means over the features of an example, and the sum over the examples n::

        dx = r (g - x_hat mean(g x_hat)),   g = w dy
        dweight = sum_n dy x_hat

    Notes
    -----
    :math:`x_j` enters :math:`\hat x_i = x_i\, r` directly, which gives :math:`r\, g_j`, and through the mean square of the C
    features: :math:`\partial r / \partial x_j = -\frac12 r^3 \cdot \frac2C x_j`, which gives
    :math:`-\frac{r^3}{C} x_j \sum_i g_i x_i = -r\, \hat x_j\, \overline{g \hat x}`.
    """
    x, shape, weight, inverse = cache
    require_like(dy, x, "dy", "y", "rms_norm_backward")
    g, inverse = _to_rows(widen_float16(dy), shape), inverse[:, None]
    x_hat = _to_rows(widen_float16(x), shape) * inverse  # (N, C)
    dweight = None if weight is None else sum_widened(g * x_hat, 0).reshape(shape).astype(x.dtype, copy=False)
    dx_hat = _scale_and_shift(g, _to_row(weight))  # (N, C)
    dx = inverse * (dx_hat - x_hat * _mean(dx_hat * x_hat, (1,)))
    return dx.reshape(x.shape).astype(x.dtype, copy=False), dweight


# Shared by all of them ------------------------------------------------------------------------------------------------------


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean over some axes, kept with length 1; the mean of nothing is 0."""
    return sum_widened(x, axes, keepdims=True, divisor=max(math.prod(x.shape[axis] for axis in axes), 1))


def _inverse_root(var: Array, eps: Any) -> Array:
    return 1 / namespace(var).sqrt(var + eps)


def _inverse_root_of_mean_square(rows: Array, eps: float) -> Array:
    """Return 1 / sqrt(mean(x^2) + eps) of every row, (N, 1).

    Where the squares leave the range of the dtype, eps counts for nothing, and a small c brings them back, which cancels::

        c / sqrt(mean((c x)^2))

    All other rows are multiplied by 1. To leave that out would need a value on the host, which would wait for a GPU.
    """
    xp = namespace(rows)
    beyond = xp.isinf(_mean(rows * rows, (1,)))  # (N, 1)
    c = xp.where(beyond, float(numpy.finfo(rows.dtype).max) ** -0.6, 1).astype(rows.dtype)  # (N, 1)
    scaled = rows * c
    return c * _inverse_root(_mean(scaled * scaled, (1,)), xp.where(beyond, 0, eps).astype(rows.dtype))


def _scale_and_shift(x_hat: Array, weight: Array | None, bias: Array | None = None) -> Array:
    """Return w x_hat + b; None stands for no weight or bias."""
    y = x_hat if weight is None else x_hat * weight
    return y if bias is None else y + bias


def _all_but_channels(x: Array) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _broadcast_channels(values: Array | None, x: Array) -> Array | None:
    """Reshape (C,) to (1, C, 1, ...), to broadcast against x."""
    if values is None:
        return None
    return widen_float16(values).reshape(tuple(size if axis == 1 else 1 for axis, size in enumerate(x.shape)))


def _to_row(values: Array | None) -> Array | None:
    return None if values is None else widen_float16(values).reshape((1, values.size))


def _to_rows(x: Array, shape: tuple[int, ...]) -> Array:
    """Flatten the normalised axes to C features and the axes before them to N examples: (N, C)."""
    return x.reshape((math.prod(x.shape[: x.ndim - len(shape)]), math.prod(shape)))


def _to_groups(x: Array, num_groups: int) -> Array:
    """Reshape x to one row for each group of channels of each example: (N G, C/G P)."""
    return x.reshape((x.shape[0] * num_groups, x.shape[1] // num_groups * math.prod(x.shape[2:])))


def _check_channels(x: Array, op: str, **parameters: Array | None) -> None:
    """Raise unless x has channels on axis 1 and each parameter has one element for each channel."""
    require_float(x, "x", op)
    if x.ndim < 2:
        raise ShapeError(f"{op}: x must have shape (N, C, ...), with channels on axis 1, got {x.shape}")
    for name, values in parameters.items():
        if values is not None:
            require_float(values, name, op)
            require_same_dtype(values, x, name, "x", op)
            if values.shape != x.shape[1:2]:
                raise ShapeError(
                    f"{op}: {name} must have one element for each channel, shape {x.shape[1:2]} for x of shape "
                    f"{x.shape}, got shape {values.shape}"
                )


def _check_shape(
    x: Array, normalized_shape: int | Sequence[int], op: str, **parameters: Array | None
) -> tuple[int, ...]:
    """Return the shape of the normalised axes as a tuple; raise unless x and the parameters fit it."""
    require_float(x, "x", op)
    given = hashable(normalized_shape)
    shape = given if isinstance(given, tuple) else (given,)
    if not all(map(is_count, shape)):
        raise ParameterError(
            f"{op}: normalized_shape must be a whole number or a sequence of them, got {shown(normalized_shape)}"
        )
    if not shape or x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise ShapeError(f"{op}: the last axes of x must have shape {shape}, got x of shape {x.shape}")
    for name, values in parameters.items():
        if values is not None:
            require_float(values, name, op)
            require_same_dtype(values, x, name, "x", op)
            if values.shape != shape:
                raise ShapeError(f"{op}: {name} must have shape {shape}, as normalized_shape, got {values.shape}")
    return shape
