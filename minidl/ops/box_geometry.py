"""Boxes in a plane, which have no gradients here: their two forms, areas, and how far pairs of them overlap.

A box is four numbers on the last axis, in one of two forms: cx, cy, w, h (centre, width and height) or x1, y1, x2, y2 (the corners
with the smallest and the largest coordinates).
"""

from __future__ import annotations

from typing import Any

from minidl.errors import ShapeError
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["box_area", "box_iou", "cxcywh_to_xyxy", "cxcywh_to_xyxy_backward", "generalized_box_iou", "xyxy_to_cxcywh"]


def cxcywh_to_xyxy(boxes: Array) -> Array:
    """Return the corners of boxes that are given by their centres.

    In elements::

        x1 = cx - w / 2,   x2 = cx + w / 2,   and so for y

    Parameters
    ----------
    boxes : array, shape (..., 4)
        cx, cy, w, h.

    Returns
    -------
    corners : array, shape (..., 4)
        The numbers x1, y1, x2, y2.

    Raises
    ------
    ShapeError
        If the last axis is not of length 4.
    DtypeError
        If the array is not floating-point.

    Examples
    --------
    >>> import numpy
    >>> cxcywh_to_xyxy(numpy.array([2.0, 3.0, 2.0, 4.0]))
    array([1., 1., 3., 5.])
    """
    check_boxes(boxes, "boxes", "cxcywh_to_xyxy")
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return namespace(boxes).concatenate([center - half, center + half], axis=-1)


def cxcywh_to_xyxy_backward(dy: Array) -> Array:
    """Return the gradient of boxes that :func:`cxcywh_to_xyxy` was given.

    The centre enters both corners with 1, and the width enters x1 with -1/2 and x2 with 1/2::

        dcx = dx1 + dx2,   dw = (dx2 - dx1) / 2,   and so for y

    Parameters
    ----------
    dy : array, shape (..., 4)
        The gradients of x1, y1, x2, y2.

    Returns
    -------
    dboxes : array, shape (..., 4)
        The gradients of cx, cy, w, h.
    """
    first, last = dy[..., :2], dy[..., 2:]
    return namespace(dy).concatenate([first + last, (last - first) / 2], axis=-1)


def xyxy_to_cxcywh(boxes: Array) -> Array:
    """Return centre, width and height of boxes that are given by their corners; the inverse of :func:`cxcywh_to_xyxy`.

    >>> import numpy
    >>> xyxy_to_cxcywh(numpy.array([1.0, 1.0, 3.0, 5.0]))
    array([2., 3., 2., 4.])
    """
    check_boxes(boxes, "boxes", "xyxy_to_cxcywh")
    first, last = boxes[..., :2], boxes[..., 2:]
    return namespace(boxes).concatenate([(first + last) / 2, last - first], axis=-1)


def box_area(boxes: Array) -> Array:
    """Return the areas, (...), of boxes x1, y1, x2, y2, (..., 4).

    >>> import numpy
    >>> float(box_area(numpy.array([1.0, 1.0, 3.0, 5.0])))
    8.0
    """
    check_boxes(boxes, "boxes", "box_area")
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Return the intersection over union of each pair.

    With I the area of the intersection of A and B, and U that of their union::

        iou = I / U,   U = area(A) + area(B) - I

    Parameters
    ----------
    boxes1 : array, shape (N, 4)
        x1, y1, x2, y2.
    boxes2 : array, shape (M, 4)

    Returns
    -------
    iou : array, shape (N, M)
        From 0 to 1; nan for two boxes without area.

    Raises
    ------
    ShapeError
        If an array is not of shape (N, 4).
    DtypeError
        If an array is not floating-point.

    Examples
    --------
    >>> import numpy
    >>> box_iou(numpy.array([[0.0, 0.0, 2.0, 2.0]]), numpy.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])).round(4)
    array([[0.3333, 0.    ]])
    """
    inter, union, _ = _areas(boxes1, boxes2, "box_iou")
    return _divide(inter, union)


def generalized_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Return the generalised intersection over union of each pair.

    With C the area of the smallest box around both::

        giou = I / U - (C - U) / C

    Far boxes have values towards -1, so that, unlike with the intersection over union, a smaller distance is a larger value.
    Arguments and errors are those of :func:`box_iou`.

    Parameters
    ----------
    boxes1 : array, shape (N, 4)
    boxes2 : array, shape (M, 4)

    Returns
    -------
    giou : array, shape (N, M)
        From -1 to 1.

    References
    ----------
    H. Rezatofighi et al., "Generalized intersection over union", CVPR 2019, algorithm 1.

    Examples
    --------
    >>> import numpy
    >>> generalized_box_iou(numpy.array([[0.0, 0.0, 1.0, 1.0]]), numpy.array([[0.0, 0.0, 1.0, 1.0], [3.0, 0.0, 4.0, 1.0]]))
    array([[ 1. , -0.5]])
    """
    inter, union, around = _areas(boxes1, boxes2, "generalized_box_iou")
    return _divide(inter, union) + _divide(union, around) - 1


def check_boxes(boxes: Any, name: str, op: str, pairwise: bool = False) -> None:
    """Raise unless these are boxes, (..., 4), or with ``pairwise`` (N, 4)."""
    require_float(boxes, name, op)
    if boxes.ndim < 1 or boxes.shape[-1] != 4 or (pairwise and boxes.ndim != 2):
        wanted = "(N, 4)" if pairwise else "(..., 4)"
        raise ShapeError(f"{op}: {name} must have shape {wanted}, got {boxes.shape}")


def _areas(boxes1: Array, boxes2: Array, op: str) -> tuple[Array, Array, Array]:
    """Return the areas of the intersection, the union, and the box around each pair, all (N, M)."""
    check_boxes(boxes1, "boxes1", op, pairwise=True)
    check_boxes(boxes2, "boxes2", op, pairwise=True)
    xp = namespace(boxes1, boxes2)
    a, b = boxes1[:, None], boxes2[None]  # (N, 1, 4), (1, M, 4)
    size = xp.maximum(xp.minimum(a[..., 2:], b[..., 2:]) - xp.maximum(a[..., :2], b[..., :2]), 0)  # (N, M, 2)
    around = xp.maximum(a[..., 2:], b[..., 2:]) - xp.minimum(a[..., :2], b[..., :2])  # (N, M, 2)
    inter = size[..., 0] * size[..., 1]
    union = box_area(boxes1)[:, None] + box_area(boxes2)[None] - inter
    return inter, union, around[..., 0] * around[..., 1]


def _divide(a: Array, b: Array) -> Array:
    """Return a / b, nan without a warning for 0 / 0."""
    xp = namespace(b)
    return xp.where(b == 0, xp.nan, a / xp.where(b == 0, 1, b))
