"""The loss of a set of boxes: predictions are matched with objects, and each pair is compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl.arrays import to_host
from minidl.engines import current
from minidl.errors import DataError, MissingDependencyError, OrderError, ParameterError, ShapeError, TargetError
from minidl.ops import Array, namespace
from minidl.ops._scalars import scalars_checked
from minidl.ops.box_geometry import cxcywh_to_xyxy, cxcywh_to_xyxy_backward, generalized_box_iou

__all__ = ["SetLoss", "match_boxes"]

Pairs = tuple[numpy.ndarray, numpy.ndarray]
Target = tuple[Any, Any]
"""The classes, (M,), and boxes, (M, 4), of the M objects in an image."""


def match_boxes(
    probabilities: numpy.ndarray,
    boxes: numpy.ndarray,
    target: Target,
    class_cost: float = 1.0,
    bbox_cost: float = 5.0,
    giou_cost: float = 2.0,
) -> Pairs:
    """Return which prediction answers for which object: the pairs whose costs have the least sum.

    The cost of query q for object m, with its class k_m and box b_m, is::

        cost = bbox_cost |b_q - b_m|_1 - class_cost p_q(k_m) - giou_cost giou(b_q, b_m)

    The assignment is that of ``scipy.optimize.linear_sum_assignment``.

    Parameters
    ----------
    probabilities : numpy.ndarray, shape (Q, K + 1)
    boxes : numpy.ndarray, shape (Q, 4)
        cx, cy, w, h.
    target : tuple
        The classes, (M,), and boxes, (M, 4).
    class_cost : float, default 1.0
    bbox_cost : float, default 5.0
    giou_cost : float, default 2.0

    Returns
    -------
    queries, objects : numpy.ndarray
        Indices, min(Q, M) each.

    Raises
    ------
    DataError
        If a prediction is not finite.
    MissingDependencyError
        If SciPy is not installed.

    References
    ----------
    N. Carion et al., "End-to-end object detection with transformers", ECCV 2020, equation 1.

    Examples
    --------
    >>> probabilities = numpy.full((3, 2), 0.5)
    >>> boxes = numpy.array([[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2]])
    >>> match_boxes(probabilities, boxes, (numpy.array([0, 0]), boxes[[2, 0]]))  # doctest: +SKIP
    (array([0, 2]), array([1, 0]))
    """
    assign = _assignment()
    classes, target_boxes = target
    target_boxes = target_boxes.astype(boxes.dtype, copy=False)
    if not (numpy.isfinite(probabilities).all() and numpy.isfinite(boxes).all()):
        raise DataError(
            "match_boxes: a prediction is not finite, so nothing can be matched; lower the learning rate, or clip gradients"
        )
    distance = abs(boxes[:, None] - target_boxes[None]).sum(axis=-1)  # (Q, M)
    overlap = generalized_box_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes))  # (Q, M)
    cost = bbox_cost * distance - class_cost * probabilities[:, classes] - giou_cost * overlap
    return assign(numpy.nan_to_num(cost, nan=numpy.finfo(cost.dtype).max))  # nan: two boxes without area


class SetLoss:
    """DETR's loss: cross-entropy of all queries, and for those that answer for an object the distance of the boxes.

    With the pairs of :func:`match_boxes`, M objects in the whole batch, and weights w::

        loss = cross_entropy(logits, classes) + bbox_weight / M sum |b - b_m|_1 + giou_weight / M sum (1 - giou(b, b_m))

    A query without an object has the class "no object", which counts ``no_object_weight`` in the mean of the cross-entropy. For
    predictions of each decoder layer, (L, N, Q, ...), every layer is matched by itself, and the losses are added. The pairs are
    constants in backward: a small change of the predictions does not change them.

    Parameters
    ----------
    no_object_weight : float, default 0.1
    bbox_weight : float, default 5.0
    giou_weight : float, default 2.0
    class_cost, bbox_cost, giou_cost : float, default 1.0, 5.0 and 2.0
        Of the matching.

    Attributes
    ----------
    parts : dict of str to float
        The three terms of the last forward, without their weights, added over layers.

    Raises
    ------
    ParameterError
        If a weight is negative.
    ShapeError
        From ``forward``, if predictions and targets do not fit together.
    TargetError
        From ``forward``, if a class or box of a target cannot be.
    OrderError
        From ``backward``, before forward.

    References
    ----------
    N. Carion et al., "End-to-end object detection with transformers", ECCV 2020, equations 1 and 2 and section A.2.

    Examples
    --------
    >>> logits = numpy.array([[[5.0, 0.0], [0.0, 5.0]]])  # (N, Q, K + 1)
    >>> boxes = numpy.array([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]])
    >>> targets = [(numpy.array([0]), numpy.array([[0.5, 0.5, 0.2, 0.4]]))]
    >>> loss = SetLoss()
    >>> round(float(loss.forward((logits, boxes), targets)), 4)  # doctest: +SKIP
    2.0067
    >>> dlogits, dboxes = loss.backward()  # doctest: +SKIP
    """

    @scalars_checked
    def __init__(
        self,
        no_object_weight: float = 0.1,
        bbox_weight: float = 5.0,
        giou_weight: float = 2.0,
        class_cost: float = 1.0,
        bbox_cost: float = 5.0,
        giou_cost: float = 2.0,
    ) -> None:
        weights = {"no_object_weight": no_object_weight, "bbox_weight": bbox_weight, "giou_weight": giou_weight}
        costs = {"class_cost": class_cost, "bbox_cost": bbox_cost, "giou_cost": giou_cost}
        for name, value in (weights | costs).items():
            if not 0.0 <= value < numpy.inf:
                raise ParameterError(f"SetLoss: {name} must not be negative, got {value!r}")
        self.no_object_weight, self.bbox_weight, self.giou_weight = weights.values()
        self.costs = costs
        self.parts: dict[str, float] = {}
        self._cache: Any = None

    def forward(self, prediction: tuple[Array, Array], targets: Sequence[Target]) -> Array:
        """Return the loss.

        Parameters
        ----------
        prediction : tuple of two arrays
            Logits, (N, Q, K + 1), and boxes, (N, Q, 4), cx, cy, w, h; or with L decoder layers in front of both.
        targets : sequence of tuples
            For each image the classes, integers of shape (M,), and boxes, (M, 4), of its objects; M may be 0.
        """
        logits, boxes = prediction
        shape = logits.shape
        if boxes.shape != (*shape[:-1], 4) or len(shape) not in (3, 4) or shape[-3] != len(targets):
            raise ShapeError(
                f"SetLoss: expected logits (N, Q, K + 1) and boxes (N, Q, 4), perhaps with layers in front, and N targets; got "
                f"{shape}, {boxes.shape} and {len(targets)}"
            )
        outputs = shape[-1]
        known = [_check_target(target, outputs - 1, index) for index, target in enumerate(targets)]
        flat_logits, flat_boxes = logits.reshape((-1, outputs)), boxes.reshape((-1, 4))  # (L N Q, ...)
        rows, classes, matched = self._match(logits, boxes, known)
        labels = numpy.full(flat_logits.shape[0], outputs - 1)
        labels[rows] = classes
        layers, total = (shape[0] if len(shape) == 4 else 1), max(sum(len(c) for c, _ in known), 1)
        engine, xp = current(), namespace(logits)
        weight = numpy.ones(outputs, "float64")
        weight[-1] = self.no_object_weight
        ce, by_class = engine.cross_entropy(
            flat_logits, engine.asarray(labels), engine.asarray(weight.astype(str(logits.dtype)))
        )
        found, wanted = flat_boxes[xp.asarray(rows)], engine.asarray(matched.astype(str(boxes.dtype)))  # (pairs, 4)
        l1, by_l1 = engine.l1_loss(found, wanted, "sum")
        giou, by_giou = engine.generalized_box_iou_loss(cxcywh_to_xyxy(found), cxcywh_to_xyxy(wanted), "sum")
        self._cache = (logits, boxes, rows, layers, total, by_class, by_l1, by_giou)
        self.parts = {"cross_entropy": float(ce) * layers, "bbox": float(l1) / total, "giou": float(giou) / total}
        return ce * layers + (l1 * self.bbox_weight + giou * self.giou_weight) / total

    def backward(self, dloss: Any = 1.0) -> tuple[Array, Array]:
        """Return the gradients of logits and boxes; of a query without an object the box has none."""
        if self._cache is None:
            raise OrderError("SetLoss: backward was called before forward")
        logits, boxes, rows, layers, total, by_class, by_l1, by_giou = self._cache
        engine, xp = current(), namespace(logits)
        dlogits = engine.cross_entropy_backward(dloss * layers, by_class)  # layers times the mean over all of them
        dfound = engine.l1_loss_backward(dloss * self.bbox_weight / total, by_l1)  # (pairs, 4)
        dcorners = engine.generalized_box_iou_loss_backward(dloss * self.giou_weight / total, by_giou)
        dboxes = xp.zeros((boxes.size // 4, 4), dtype=boxes.dtype)
        dboxes[xp.asarray(rows)] = dfound + cxcywh_to_xyxy_backward(dcorners)  # each row is in one pair at most
        return dlogits.reshape(logits.shape), dboxes.reshape(boxes.shape)

    def _match(
        self, logits: Array, boxes: Array, targets: list[tuple[numpy.ndarray, numpy.ndarray]]
    ) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """Return the rows of predictions that answer for an object, (pairs,), and the objects' classes and boxes, (pairs, 4)."""
        queries = logits.shape[-2]
        probabilities = to_host(current().softmax(logits)[0]).reshape(
            (-1, queries, logits.shape[-1])
        )  # (L N, Q, K + 1)
        corners = to_host(boxes).reshape((-1, queries, 4))
        rows, classes, matched = [numpy.zeros(0, "int64")], [numpy.zeros(0, "int64")], [numpy.zeros((0, 4))]
        for index, (p, b) in enumerate(zip(probabilities, corners, strict=True)):
            target = targets[index % len(targets)]
            if len(target[0]):
                own, objects = match_boxes(p, b, target, **self.costs)
                rows.append(index * queries + own)
                classes.append(target[0][objects])
                matched.append(target[1][objects])
        return numpy.concatenate(rows), numpy.concatenate(classes), numpy.concatenate(matched)

    def __repr__(self) -> str:
        return f"SetLoss(no_object_weight={self.no_object_weight}, bbox_weight={self.bbox_weight}, giou_weight={self.giou_weight})"


def _check_target(target: Target, classes: int, index: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return classes and boxes of an image on the host; raise unless they can be."""
    kinds, boxes = to_host(target[0]), to_host(target[1])
    boxes = boxes.reshape((-1, 4)) if boxes.size == 0 else boxes
    if kinds.ndim != 1 or boxes.shape != (len(kinds), 4):
        raise ShapeError(
            f"SetLoss: target {index} must be classes (M,) and boxes (M, 4), got {kinds.shape} and {boxes.shape}"
        )
    if kinds.size and (kinds.dtype.kind not in "iu" or kinds.min() < 0 or kinds.max() >= classes):
        raise TargetError(
            f"SetLoss: the classes of target {index} must be integers from 0 to {classes - 1}, got {kinds!r}"
        )
    if not numpy.isfinite(boxes).all() or (boxes[:, 2:] < 0).any():
        raise TargetError(f"SetLoss: the boxes of target {index} must be finite cx, cy, w, h with w and h not negative")
    return kinds.astype("int64"), boxes


def _assignment() -> Any:
    """Return SciPy's solver of the assignment problem."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise MissingDependencyError.needs("Matching boxes with objects", "scipy", "detection") from error
    return linear_sum_assignment
