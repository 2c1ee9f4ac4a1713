"""The loss of boxes: how far the prediction is from covering the target."""

from __future__ import annotations

from typing import Any

from minidl.ops._checks import ieee
from minidl.ops._losses import Cache, align, check_upstream, reduce
from minidl.ops._namespace import Array, namespace
from minidl.ops.box_geometry import check_boxes

__all__ = ["generalized_box_iou_loss", "generalized_box_iou_loss_backward"]


@ieee
def generalized_box_iou_loss(prediction: Array, target: Array, reduction: str = "mean") -> tuple[Array, Cache]:
    r"""Return one minus the generalised intersection over union of each prediction with its target.

    For boxes A and B with corners x1, y1, x2, y2, with I the area of their intersection, U that of their union, and C that of
    the smallest box around both::

        l = 1 - (I / U - (C - U) / C) = 2 - I / U - U / C

    It is 0 for equal boxes and tends to 2 as they move apart. It is nan for two boxes without area at one place.

    Parameters
    ----------
    prediction : array, shape (..., 4)
        A: x1, y1, x2, y2, with x1 <= x2 and y1 <= y2; floating-point.
    target : array, shape (..., 4)
        B, of the same shape. It has no gradient.
    reduction : {"mean", "sum", "none"}, default "mean"

    Returns
    -------
    loss : scalar of the dtype of ``prediction``, or an array of shape (...) for ``"none"``
    cache : (slope, s)

    Raises
    ------
    ShapeError
        If the shapes differ, the last axis is not of length 4, or the mean of no boxes is asked for.
    DtypeError
        If the prediction is not floating-point, or the target does not hold real numbers.
    ParameterError
        If the reduction is unknown.

    Notes
    -----
    The sides are, in x and likewise in y,

    .. math:: w_A = x_2 - x_1,\quad w_I = \max(\min(x_2, x_2') - \max(x_1, x_1'), 0),\quad w_C = \max(x_2, x_2') - \min(x_1, x_1')

    and the areas :math:`A = w_A h_A`, :math:`I = w_I h_I`, :math:`C = w_C h_C`, :math:`U = A + B - I`. The slopes by the areas are

    .. math::

        \frac{\partial l}{\partial U} = \frac{I}{U^2} - \frac{1}{C} = l_U,\quad
        \frac{\partial l}{\partial C} = \frac{U}{C^2} = l_C,\quad
        \frac{\mathrm{d} l}{\mathrm{d} A} = l_U,\quad
        \frac{\mathrm{d} l}{\mathrm{d} I} = -\frac{1}{U} - l_U = l_I,

    the last because I is also a part of U. An area's slope by its width is the height. The corner x2 moves w_A with 1, w_I with
    1 where x2 < x2' and the boxes meet, and w_C with 1 where x2 > x2'. Hence

    .. math:: \frac{\partial l}{\partial x_2} = l_U h_A + l_I h_I [x_2 < x_2'] [w_I > 0] + l_C h_C [x_2 > x_2'],

    for x1 with the opposite sign and the opposite comparisons. Where two corners are equal each bracket is 1/2.

    References
    ----------
    H. Rezatofighi et al., "Generalized intersection over union", CVPR 2019, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy
    >>> a, b = numpy.array([[0.0, 0.0, 2.0, 2.0]]), numpy.array([[1.0, 0.0, 3.0, 2.0]])  # I = 2, U = C = 6
    >>> loss, cache = generalized_box_iou_loss(a, b)
    >>> round(float(loss), 4), generalized_box_iou_loss_backward(1.0, cache).round(4)
    (0.6667, array([[-0.1111, -0.    , -0.3333,  0.    ]]))
    """
    op = "generalized_box_iou_loss"
    check_boxes(prediction, "prediction", op)
    p, t = align(prediction, target, op)
    xp = namespace(prediction)
    first, last, first_t, last_t = p[..., :2], p[..., 2:], t[..., :2], t[..., 2:]  # (..., 2) each
    outer = xp.maximum(last, last_t) - xp.minimum(first, first_t)
    scale = outer.max(axis=-1, keepdims=True)  # (..., 1); the loss does not depend on it, and areas must not overflow
    overlap = xp.minimum(last, last_t) - xp.maximum(first, first_t)
    meet, inner = overlap > 0, xp.maximum(overlap, 0) / scale
    own, other, outer = (last - first) / scale, (last_t - first_t) / scale, outer / scale
    i, c = inner[..., 0] * inner[..., 1], outer[..., 0] * outer[..., 1]  # (...)
    u = own[..., 0] * own[..., 1] + other[..., 0] * other[..., 1] - i
    by_union = i / u / u - 1 / c
    by_own, by_inner, by_outer = (
        slope[..., None] * size[..., ::-1]  # of an area by its width and height: height and width
        for slope, size in ((by_union, own), (-1 / u - by_union, inner), (u / c / c, outer))
    )
    by_inner = by_inner * meet
    by_last = (
        by_own + by_inner * _share(last < last_t, last == last_t) + by_outer * _share(last > last_t, last == last_t)
    )
    by_first = (
        by_own
        + by_inner * _share(first > first_t, first == first_t)
        + by_outer * _share(first < first_t, first == first_t)
    )
    slope = xp.concatenate([-by_first, by_last], axis=-1) / scale  # (..., 4)
    return reduce(2 - i / u - u / c, slope, reduction, op, prediction.dtype)


@ieee
def generalized_box_iou_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the prediction.

    With the constant s of the reduction, and the slope that the forward derives; for ``"none"`` each box's dloss goes to all four
    numbers::

        dprediction = dloss s slope
    """
    slope, s = cache
    dloss = check_upstream(dloss, slope, slope.shape[:-1], "generalized_box_iou_loss_backward")
    if getattr(dloss, "ndim", 0):
        dloss = dloss[..., None]  # (..., 1)
    return (dloss * s) * slope


def _share(yes: Array, equal: Array) -> Array:
    """Return 1 where a corner decides, 1/2 where both do, and 0 elsewhere."""
    return (2 * yes + 1 * equal) / 2
