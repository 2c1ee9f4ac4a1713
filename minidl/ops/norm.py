r"""Normalisation: numbers are brought to mean 0 and variance 1 over some axes, then scaled and shifted.

Batch, layer and group normalisation are one formula over different axes. With the mean :math:`\mu` and the variance
:math:`\sigma^2` over n numbers,

.. math:: y = w\,\hat x + b, \qquad \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}.

Backward, one chain of steps serves all of them. Write :math:`r = 1 / \sqrt{\sigma^2 + \epsilon}` and :math:`g = dL/d\hat x`. An
element :math:`x_j` enters the n values :math:`\hat x_i = (x_i - \mu)\, r` in three ways:

* directly: :math:`\partial \hat x_i / \partial x_j = r\, \delta_{ij}`, which gives :math:`r\, g_j`;
* through the mean, of which it is one n-th: :math:`\partial \mu / \partial x_j = 1/n`, so :math:`-\frac{r}{n} \sum_i g_i`;
* through the variance: :math:`\partial \sigma^2 / \partial x_j = \frac{2}{n} (x_j - \mu)` (the mean's own share is
  :math:`-\frac{2}{n} \sum_i (x_i - \mu) \frac{1}{n} = 0`) and :math:`\partial r / \partial \sigma^2 = -\frac12 r^3`, so
  :math:`-\frac{r^3}{n} (x_j - \mu) \sum_i g_i (x_i - \mu) = -\frac{r}{n}\, \hat x_j \sum_i g_i \hat x_i`.

Together :math:`dx = r\,(g - \overline{g} - \hat x\, \overline{g \hat x})`, with bars for means over the same n numbers: what
g has in common with a constant and with :math:`\hat x` is taken out, because a shift or a stretch of x does not change y.
:func:`_through_statistics` is this line.

The variance is taken in two passes, after the mean. float16 is computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ParameterError, ShapeError
from minidl.ops._checks import ieee, require_like, require_same_dtype, widened
from minidl.ops._gradients import parameter_gradients
from minidl.ops._namespace import Array, namespace, require_float

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
    r"""Normalise every channel over the batch and all positions: :math:`y_{nc\cdot} = w_c\, \hat x_{nc\cdot} + b_c`.

    In training :math:`\mu_c` and :math:`\sigma^2_c` are the mean and the (biased) variance of the channel in this batch,
    otherwise ``running_mean`` and ``running_var``, which are constants. The op changes nothing: the cache holds the mean and
    the variance that were used, and whoever keeps running statistics (``minidl.layers.BatchNorm2d``) updates them from there.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Channels are on axis 1; any number of axes may follow.
    weight, bias : array, shape (C,), optional
        1 and 0 if left out.
    running_mean, running_var : array, shape (C,)
        Needed, and read, only with ``training=False``.
    training : bool
        Whether the statistics are this batch's.
    eps : float
        Added to the variance.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x, weight, whether there is a bias, mean, variance, training, eps)
        Mean and variance of shape (C,), in float32 if x is float16.

    Raises
    ------
    ShapeError
        If x has no channels, or a parameter not one number for each.
    DtypeError
        If an argument is not floating-point, or the dtypes differ.
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
    wide, axes = widened(x), _all_but_channels(x)
    if training:
        mean = _mean(wide, axes)  # (1, C, 1, ...)
        centred = wide - mean
        var = _mean(centred * centred, axes)
    else:
        if running_mean is None or running_var is None:
            raise ParameterError("batch_norm: with training=False, running_mean and running_var must be given")
        _check_channels(x, "batch_norm", running_mean=running_mean, running_var=running_var)
        mean, var = _per_channel(running_mean, x), _per_channel(running_var, x)
        centred = wide - mean
    y = _scaled(centred * _inverse_root(var, eps), _per_channel(weight, x), _per_channel(bias, x))
    cache = (x, weight, bias is not None, mean.reshape(x.shape[1]), var.reshape(x.shape[1]), training, eps)
    return y.astype(x.dtype, copy=False), cache


@parameter_gradients("weight", "bias")
@ieee
def batch_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of x, weight and bias.

    With :math:`G = dL/dy`, and sums over the batch and all positions of a channel:

    * :math:`dw_c = \sum G_{nc\cdot}\, \hat x_{nc\cdot}`, because w multiplies every :math:`\hat x` of its channel;
    * :math:`db_c = \sum G_{nc\cdot}`, because b is added to each;
    * :math:`g = dL/d\hat x = w_c\, G`, and dx follows as derived at the top of this module, with means over the channel. With
      the running statistics, which do not depend on x, only the direct way remains: :math:`dx = r\, g`.

    Parameters
    ----------
    dy : array
        Of y's shape and dtype.
    cache : tuple
        From :func:`batch_norm`.

    Returns
    -------
    dx : array
    dweight, dbias : array, shape (C,), or None where there is none

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape or dtype of y.
    """
    x, weight, has_bias, mean, var, training, eps = cache
    require_like(dy, x, "dy", "y", "batch_norm_backward")
    g, axes = widened(dy), _all_but_channels(x)
    inverse = _per_channel(_inverse_root(var, eps), x)  # (1, C, 1, ...)
    x_hat = (widened(x) - _per_channel(mean, x)) * inverse
    dweight = None if weight is None else (g * x_hat).sum(axis=axes).astype(x.dtype, copy=False)  # (C,)
    dbias = g.sum(axis=axes).astype(x.dtype, copy=False) if has_bias else None  # (C,)
    dx_hat = _scaled(g, _per_channel(weight, x))
    dx = _through_statistics(dx_hat, x_hat, inverse, axes) if training else dx_hat * inverse
    return dx.astype(x.dtype, copy=False), dweight, dbias


@ieee
def layer_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Cache]:
    r"""Normalise each example by itself, over the last axes: :math:`y_{ri} = w_i\, \hat x_{ri} + b_i`.

    Parameters
    ----------
    x : array, shape (..., *normalized_shape)
    normalized_shape : int or sequence of int
        The last axes of x; mean and variance are over all of them together.
    weight, bias : array, shape normalized_shape, optional
        1 and 0 if left out.
    eps : float
        Added to the variance.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x, normalized_shape, weight, whether there is a bias, mean, 1 / sqrt(variance + eps))
        The last two of shape (R,), R being the number of examples, in float32 if x is float16.

    Raises
    ------
    ShapeError
        If the last axes of x, or a parameter, do not have that shape.
    DtypeError
        If an argument is not floating-point, or the dtypes differ.

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
    shape = _checked_shape(x, normalized_shape, "layer_norm", weight=weight, bias=bias)
    rows = _rows(widened(x), shape)  # (R, n)
    mean = _mean(rows, (1,))  # (R, 1)
    centred = rows - mean
    inverse = _inverse_root(_mean(centred * centred, (1,)), eps)  # (R, 1)
    y = _scaled(centred * inverse, _as_row(weight), _as_row(bias))  # (R, n)
    count = rows.shape[0]
    cache = (x, shape, weight, bias is not None, mean.reshape(count), inverse.reshape(count))
    return y.reshape(x.shape).astype(x.dtype, copy=False), cache


@parameter_gradients("weight", "bias")
@ieee
def layer_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of x, weight and bias.

    With :math:`G = dL/dy`, one row r for each example:

    * :math:`dw_i = \sum_r G_{ri}\, \hat x_{ri}` and :math:`db_i = \sum_r G_{ri}`: every example met the same w and b;
    * :math:`g_{ri} = dL/d\hat x_{ri} = w_i\, G_{ri}`, and dx follows as derived at the top of this module, with means over the
      row.

    Parameters
    ----------
    dy : array
        Of y's shape and dtype.
    cache : tuple
        From :func:`layer_norm`.

    Returns
    -------
    dx : array
    dweight, dbias : array, shape normalized_shape, or None where there is none

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape or dtype of y.
    """
    x, shape, weight, has_bias, mean, inverse = cache
    require_like(dy, x, "dy", "y", "layer_norm_backward")
    g, inverse = _rows(widened(dy), shape), inverse[:, None]
    x_hat = (_rows(widened(x), shape) - mean[:, None]) * inverse  # (R, n)
    dweight = None if weight is None else (g * x_hat).sum(axis=0).reshape(shape).astype(x.dtype, copy=False)
    dbias = g.sum(axis=0).reshape(shape).astype(x.dtype, copy=False) if has_bias else None
    dx = _through_statistics(_scaled(g, _as_row(weight)), x_hat, inverse, (1,))  # (R, n)
    return dx.reshape(x.shape).astype(x.dtype, copy=False), dweight, dbias


@ieee
def group_norm(
    x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Cache]:
    r"""Normalise groups of channels, each example by itself: :math:`y_{nc\cdot} = w_c\, \hat x_{nc\cdot} + b_c`.

    Mean and variance are over the positions and channels of a group. One group is layer normalisation with a weight for each
    channel; as many groups as channels are instance normalisation.

    Parameters
    ----------
    x : array, shape (N, C, ...)
    num_groups : int
        Must divide C; a group is C / num_groups channels that follow one another.
    weight, bias : array, shape (C,), optional
        1 and 0 if left out.
    eps : float
        Added to the variance.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x, num_groups, weight, whether there is a bias, mean, 1 / sqrt(variance + eps))
        The last two of shape (N num_groups,), in float32 if x is float16.

    Raises
    ------
    ShapeError
        If x has no channels, or a parameter not one number for each.
    DtypeError
        If an argument is not floating-point, or the dtypes differ.
    ParameterError
        If the channels cannot be cut into so many groups.

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
    >>> group_norm_backward(numpy.array([[1.0, 2.0, 3.0, 4.0]]), cache)  # two numbers always become -1 and 1
    (array([[0., 0., 0., 0.]]), None, array([1., 2., 3., 4.]))
    """
    _check_channels(x, "group_norm", weight=weight, bias=bias)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise ParameterError(f"group_norm: {x.shape[1]} channels cannot be cut into {num_groups} equal groups")
    groups = _groups(widened(x), num_groups)  # (N G, n)
    mean = _mean(groups, (1,))  # (N G, 1)
    centred = groups - mean
    inverse = _inverse_root(_mean(centred * centred, (1,)), eps)  # (N G, 1)
    x_hat = (centred * inverse).reshape(x.shape)
    y = _scaled(x_hat, _per_channel(weight, x), _per_channel(bias, x))
    count = groups.shape[0]
    cache = (x, num_groups, weight, bias is not None, mean.reshape(count), inverse.reshape(count))
    return y.astype(x.dtype, copy=False), cache


@parameter_gradients("weight", "bias")
@ieee
def group_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    r"""Return the gradients of x, weight and bias.

    With :math:`G = dL/dy`:

    * :math:`dw_c = \sum G_{nc\cdot}\, \hat x_{nc\cdot}` and :math:`db_c = \sum G_{nc\cdot}`, over batch and positions, as in
      :func:`batch_norm_backward`;
    * :math:`g = dL/d\hat x = w_c\, G`, and dx follows as derived at the top of this module, with means over the group.

    Parameters
    ----------
    dy : array
        Of y's shape and dtype.
    cache : tuple
        From :func:`group_norm`.

    Returns
    -------
    dx : array
    dweight, dbias : array, shape (C,), or None where there is none

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape or dtype of y.
    """
    x, num_groups, weight, has_bias, mean, inverse = cache
    require_like(dy, x, "dy", "y", "group_norm_backward")
    g, axes, inverse = widened(dy), _all_but_channels(x), inverse[:, None]
    x_hat = (_groups(widened(x), num_groups) - mean[:, None]) * inverse  # (N G, n)
    dweight = None
    if weight is not None:
        dweight = (g * x_hat.reshape(x.shape)).sum(axis=axes).astype(x.dtype, copy=False)  # (C,)
    dbias = g.sum(axis=axes).astype(x.dtype, copy=False) if has_bias else None  # (C,)
    dx_hat = _groups(_scaled(g, _per_channel(weight, x)), num_groups)
    dx = _through_statistics(dx_hat, x_hat, inverse, (1,)).reshape(x.shape)
    return dx.astype(x.dtype, copy=False), dweight, dbias


@ieee
def rms_norm(
    x: Array, normalized_shape: int | Sequence[int], weight: Array | None = None, eps: float | None = None
) -> tuple[Array, Cache]:
    r"""Divide each example by its root mean square over the last axes: :math:`y_{ri} = w_i\, \hat x_{ri}`.

    .. math:: \hat x_{ri} = x_{ri}\, \rho_r, \qquad \rho_r = 1 / \sqrt{\tfrac1n \textstyle\sum_j x_{rj}^2 + \epsilon}.

    Parameters
    ----------
    x : array, shape (..., *normalized_shape)
    normalized_shape : int or sequence of int
        The last axes of x; the mean is over all of them together.
    weight : array, shape normalized_shape, optional
        1 if left out.
    eps : float, optional
        Added to the mean square; the machine epsilon of x's dtype if left out.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (x, normalized_shape, weight, 1 / sqrt(mean square + eps))
        The last of shape (R,), R being the number of examples, in float32 if x is float16.

    Raises
    ------
    ShapeError
        If the last axes of x, or the weight, do not have that shape.
    DtypeError
        If an argument is not floating-point, or the dtypes differ.

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
    shape = _checked_shape(x, normalized_shape, "rms_norm", weight=weight)
    rows = _rows(widened(x), shape)  # (R, n)
    if eps is None:
        eps = float(numpy.finfo(x.dtype).eps)
    inverse = _inverse_root(_mean(rows * rows, (1,)), eps)  # (R, 1)
    y = _scaled(rows * inverse, _as_row(weight)).reshape(x.shape)
    return y.astype(x.dtype, copy=False), (x, shape, weight, inverse.reshape(rows.shape[0]))


@parameter_gradients("weight")
@ieee
def rms_norm_backward(dy: Array, cache: Cache) -> tuple[Array, Array | None]:
    r"""Return the gradients of x and weight.

    With :math:`G = dL/dy` and :math:`g_{ri} = dL/d\hat x_{ri} = w_i\, G_{ri}`:

    * :math:`dw_i = \sum_r G_{ri}\, \hat x_{ri}`;
    * :math:`x_{rj}` enters :math:`\hat x_{ri} = x_{ri}\, \rho_r` directly, which gives :math:`\rho\, g_j`, and through the mean
      square: :math:`\partial \rho / \partial x_j = -\frac12 \rho^3 \cdot \frac2n x_j`, so
      :math:`-\frac{\rho^3}{n} x_j \sum_i g_i x_i = -\rho\, \hat x_j\, \overline{g \hat x}`. Together
      :math:`dx = \rho\,(g - \hat x\, \overline{g \hat x})`.

    Parameters
    ----------
    dy : array
        Of y's shape and dtype.
    cache : tuple
        From :func:`rms_norm`.

    Returns
    -------
    dx : array
    dweight : array, shape normalized_shape, or None where there is none

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape or dtype of y.
    """
    x, shape, weight, inverse = cache
    require_like(dy, x, "dy", "y", "rms_norm_backward")
    g, inverse = _rows(widened(dy), shape), inverse[:, None]
    x_hat = _rows(widened(x), shape) * inverse  # (R, n)
    dweight = None if weight is None else (g * x_hat).sum(axis=0).reshape(shape).astype(x.dtype, copy=False)
    dx_hat = _scaled(g, _as_row(weight))
    dx = inverse * (dx_hat - x_hat * _mean(dx_hat * x_hat, (1,)))
    return dx.reshape(x.shape).astype(x.dtype, copy=False), dweight


# what they share ------------------------------------------------------------------------------------------------------


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean over some axes, which stay with length 1; of nothing, 0."""
    return x.sum(axis=axes, keepdims=True) / max(math.prod(x.shape[axis] for axis in axes), 1)


def _inverse_root(var: Array, eps: float) -> Array:
    return 1 / namespace(var).sqrt(var + eps)


def _scaled(x_hat: Array, weight: Array | None, bias: Array | None = None) -> Array:
    """Return w x_hat + b, without what is None."""
    y = x_hat if weight is None else x_hat * weight
    return y if bias is None else y + bias


def _through_statistics(dx_hat: Array, x_hat: Array, inverse: Array, axes: tuple[int, ...]) -> Array:
    """Return dx for the gradient of x_hat = (x - mean) inverse, where mean and inverse depend on x."""
    return inverse * (dx_hat - _mean(dx_hat, axes) - x_hat * _mean(dx_hat * x_hat, axes))


def _all_but_channels(x: Array) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _per_channel(values: Array | None, x: Array) -> Array | None:
    """Return (C,) as (1, C, 1, ...), to be broadcast against x."""
    if values is None:
        return None
    return widened(values).reshape(tuple(size if axis == 1 else 1 for axis, size in enumerate(x.shape)))


def _as_row(values: Array | None) -> Array | None:
    return None if values is None else widened(values).reshape((1, values.size))


def _rows(x: Array, shape: tuple[int, ...]) -> Array:
    """Flatten the last axes, which have this shape, and the axes before them."""
    return x.reshape((math.prod(x.shape[: x.ndim - len(shape)]), math.prod(shape)))


def _groups(x: Array, num_groups: int) -> Array:
    """Return a row for each group of channels of each example."""
    return x.reshape((x.shape[0] * num_groups, x.shape[1] // num_groups * math.prod(x.shape[2:])))


def _check_channels(x: Array, op: str, **parameters: Array | None) -> None:
    """Raise unless x has channels on axis 1 and each parameter one number for each."""
    require_float(x, "x", op)
    if x.ndim < 2:
        raise ShapeError(f"{op}: x must have shape (N, C, ...), with channels on axis 1, got {x.shape}")
    for name, values in parameters.items():
        if values is not None:
            require_float(values, name, op)
            require_same_dtype(values, x, name, "x", op)
            if values.shape != x.shape[1:2]:
                raise ShapeError(
                    f"{op}: {name} must have one number for each channel, shape {x.shape[1:2]} for x of shape "
                    f"{x.shape}, got shape {values.shape}"
                )


def _checked_shape(
    x: Array, normalized_shape: int | Sequence[int], op: str, **parameters: Array | None
) -> tuple[int, ...]:
    """Return the shape of the last axes as a tuple; raise unless x and the parameters fit it."""
    require_float(x, "x", op)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise ShapeError(f"{op}: the last axes of x must have shape {shape}, got x of shape {x.shape}")
    for name, values in parameters.items():
        if values is not None:
            require_float(values, name, op)
            require_same_dtype(values, x, name, "x", op)
            if values.shape != shape:
                raise ShapeError(f"{op}: {name} must have shape {shape}, as normalized_shape, got {values.shape}")
    return shape
