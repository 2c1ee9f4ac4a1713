"""Convolution and pooling along three spatial axes: of volumes, or of images over time.

These are the formulas of images with one more axis, D before H and W. Their arguments, errors and derivations are those of
``minidl.ops.conv2d``, ``max_pool2d`` and ``avg_pool2d``, with three numbers or pairs where these take two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.ops._checks import ieee
from minidl.ops._gradients import ALL_WANTED, parameter_gradients
from minidl.ops._namespace import Array
from minidl.ops.conv import Gradients, _conv, _conv_backward
from minidl.ops.pool import _avg_pool, _avg_pool_backward, _max_pool, _max_pool_backward

__all__ = [
    "avg_pool3d",
    "avg_pool3d_backward",
    "conv3d",
    "conv3d_backward",
    "max_pool3d",
    "max_pool3d_backward",
]

Cache = tuple[Any, ...]


@ieee
def conv3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Array, Cache]:
    """Slide a kernel over volumes.

    x has shape (N, C, D, H, W), weight (O, C / groups, kernel depth, height, width), y (N, O, D', H', W')::

        y_nop = b_o + sum_ck w_ock x_ncu,   u = p s + k d - padding

    where p, k and u have an entry for each of the three axes.

    Examples
    --------
    >>> import numpy
    >>> x = numpy.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> y, cache = conv3d(x, numpy.array([[[[[-1.0]], [[1.0]]]]]))  # each pixel minus the one before it in depth
    >>> y
    array([[[[[4., 4.],
              [4., 4.]]]]])
    >>> conv3d_backward(numpy.ones_like(y), cache)[1].ravel()
    array([ 6., 22.])
    """
    return _conv("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


@parameter_gradients("weight", "bias")
@ieee
def conv3d_backward(dy: Array, cache: Cache, wanted: Sequence[bool] = ALL_WANTED) -> Gradients:
    """Return the gradients of x, weight and bias; None without a bias.

    Those of :func:`minidl.ops.conv2d_backward` with three spatial axes, u = p s + k d - padding::

        dx_ncu = sum of w_ock dy_nop over all o, p, k that meet at u
        dweight_ock = sum_np dy_nop x_ncu
        dbias_o = sum_np dy_nop
    """
    return _conv_backward("conv3d_backward", dy, cache, wanted)


@ieee
def max_pool3d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Any, Cache]:
    """Keep the maximum of each window of volumes.

    x has shape (N, C, D, H, W), y (N, C, D', H', W')::

        y_ncp = max_k x_ncu,   u = p s + k d - padding

    Indices count all pixels of a volume: (u_1 H + u_2) W + u_3.

    Examples
    --------
    >>> import numpy
    >>> y, cache = max_pool3d(numpy.arange(8.0).reshape(1, 1, 2, 2, 2), (2, 1, 2))
    >>> y
    array([[[[[5.],
              [7.]]]]])
    >>> max_pool3d_backward(10 * y, cache).ravel()
    array([ 0.,  0.,  0.,  0.,  0., 50.,  0., 70.])
    """
    return _max_pool("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@ieee
def max_pool3d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    That of :func:`minidl.ops.max_pool2d_backward` with three spatial axes::

        dx_ncu = sum of dy_ncp over all windows p that pixel u won
    """
    return _max_pool_backward("max_pool3d_backward", dy, cache)


@ieee
def avg_pool3d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, Cache]:
    """Take the mean of each window of volumes.

    x has shape (N, C, D, H, W), y (N, C, D', H', W')::

        y_ncp = sum_k x_ncu / a_p,   u = p s + k - padding

    Examples
    --------
    >>> import numpy
    >>> y, cache = avg_pool3d(numpy.arange(8.0).reshape(1, 1, 2, 2, 2), (2, 1, 2))
    >>> y
    array([[[[[2.5],
              [4.5]]]]])
    >>> avg_pool3d_backward(y, cache).ravel()
    array([0.625, 0.625, 1.125, 1.125, 0.625, 0.625, 1.125, 1.125])
    """
    return _avg_pool("avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


@ieee
def avg_pool3d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    That of :func:`minidl.ops.avg_pool2d_backward` with three spatial axes::

        dx_ncu = sum of dy_ncp / a_p over all windows p that hold pixel u
    """
    return _avg_pool_backward("avg_pool3d_backward", dy, cache)
