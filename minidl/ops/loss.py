r"""Losses: from predictions and targets to one number, or one for each element.

Each loss is first an elementwise (or, for cross-entropy, rowwise) loss :math:`l_i` and then a reduction
:math:`L = s \sum_i l_i` with a constant s: 1/n for the mean over n elements, 1 for the sum, 1/2 for ``half_sum``. So
:math:`\partial L / \partial p_i = s\, \partial l_i / \partial p_i`, and every cache is the pair (slope, s) with slope
:math:`\partial l_i / \partial p_i`, which the forward has at hand. Targets are data and have no gradient.
"""

from __future__ import annotations

import math
from typing import Any

from minidl.errors import DtypeError, ParameterError, ShapeError, TargetError
from minidl.ops._namespace import Array, namespace, require_float

__all__ = [
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "huber_loss",
    "huber_loss_backward",
    "l1_loss",
    "l1_loss_backward",
    "mse_loss",
    "mse_loss_backward",
]

Cache = tuple[Any, ...]


def mse_loss(prediction: Array, target: Array, reduction: str = "mean") -> tuple[Array, Cache]:
    r"""Squared error: :math:`l_i = (p_i - t_i)^2`.

    Parameters
    ----------
    prediction : array
        Any shape, floating.
    target : array
        The same shape; (N,) and (N, 1) are aligned, nothing is broadcast.
    reduction : str
        ``"mean"``, ``"sum"``, ``"none"``, or ``"half_sum"``: :math:`L = \tfrac12 \sum_i l_i`, as textbooks write it.

    Returns
    -------
    loss : scalar of the dtype of ``prediction``, or an array of its shape for ``"none"``
    cache : (slope, s)

    Raises
    ------
    ShapeError
        If the shapes differ, or the mean of nothing is asked for.
    DtypeError
        If an argument holds no real numbers.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = mse_loss(numpy.array([2.5]), numpy.array([3.0]), "half_sum")
    >>> float(loss), mse_loss_backward(1.0, cache)
    (0.125, array([-0.5]))
    """
    target = _align(prediction, target, "mse_loss")
    difference = prediction - target
    slope = 2 * difference  # d/dp (p - t)^2 = 2 (p - t)
    return _reduce(difference * difference, slope, reduction, "mse_loss")


def mse_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return dprediction = dloss s slope."""
    return _backward(dloss, cache)


def l1_loss(prediction: Array, target: Array, reduction: str = "mean") -> tuple[Array, Cache]:
    r"""Absolute error: :math:`l_i = |p_i - t_i|`, with slope :math:`\operatorname{sign}(p_i - t_i)` (0 at the kink).

    Parameters and errors as for :func:`mse_loss`, without ``"half_sum"``.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = l1_loss(numpy.array([1.0, 5.0]), numpy.array([2.0, 2.0]))
    >>> float(loss), l1_loss_backward(1.0, cache)
    (2.0, array([-0.5,  0.5]))
    """
    target = _align(prediction, target, "l1_loss")
    difference = prediction - target
    xp = namespace(prediction)
    return _reduce(xp.abs(difference), xp.sign(difference), reduction, "l1_loss")


def l1_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return dprediction = dloss s slope."""
    return _backward(dloss, cache)


def huber_loss(prediction: Array, target: Array, delta: float = 1.0, reduction: str = "mean") -> tuple[Array, Cache]:
    r"""Huber's loss: quadratic near zero, linear beyond delta.

    With :math:`d = p - t`: :math:`l = \tfrac12 d^2` where :math:`|d| \le \delta`, else
    :math:`\delta (|d| - \tfrac12 \delta)`. The slope is d, cut off at :math:`\pm\delta`.
    P. Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964).

    Parameters and errors as for :func:`mse_loss`, without ``"half_sum"``; delta must be positive.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = huber_loss(numpy.array([0.5, 3.0]), numpy.zeros(2), reduction="sum")
    >>> float(loss), huber_loss_backward(1.0, cache)
    (2.625, array([0.5, 1. ]))
    """
    if not delta > 0:
        raise ParameterError(f"huber_loss: delta must be positive, got {delta!r}")
    target = _align(prediction, target, "huber_loss")
    xp = namespace(prediction)
    difference = prediction - target
    slope = xp.clip(difference, -delta, delta)  # d/dp of both branches
    each = slope * (difference - slope / 2)  # d^2/2 inside, delta (|d| - delta/2) outside
    return _reduce(each, slope, reduction, "huber_loss")


def huber_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return dprediction = dloss s slope."""
    return _backward(dloss, cache)


def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, Cache]:
    r"""Binary cross-entropy of :math:`\sigma(x)`: :math:`l = -w\,(q\,t \log\sigma(x) + (1 - t) \log(1 - \sigma(x)))`.

    Since :math:`\log\sigma(x) = -\zeta(-x)` and :math:`\log(1 - \sigma(x)) = -x - \zeta(-x)` with the softplus
    :math:`\zeta(-x) = \max(-x, 0) + \log(1 + e^{-|x|})`, this is
    :math:`l = w\,((1 - t)\,x + (1 + (q - 1)\,t)\,\zeta(-x))`: no exponential overflows and no logarithm sees zero.
    With :math:`\zeta'(-x) = -\sigma(-x)`, the slope is :math:`w\,((1 - t) - (1 + (q - 1)\,t)\,\sigma(-x))`, which for
    q = 1 is :math:`w\,(\sigma(x) - t)`.

    Parameters
    ----------
    logits : array
        x; any shape, floating.
    target : array
        t, from 0 to 1; the same shape; (N,) and (N, 1) are aligned.
    weight : array, optional
        w; broadcast to the shape of the logits.
    pos_weight : array, optional
        q, what a positive counts for; broadcast to the shape of the logits.
    reduction : str
        ``"mean"`` (over elements, whatever the weights), ``"sum"``, ``"none"``.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = binary_cross_entropy_with_logits(numpy.array([0.0]), numpy.array([1.0]))
    >>> round(float(loss), 4), binary_cross_entropy_with_logits_backward(1.0, cache)
    (0.6931, array([-0.5]))
    """
    op = "binary_cross_entropy_with_logits"
    target = _align(logits, target, op)
    xp = namespace(logits)
    e = xp.exp(-xp.abs(logits))
    softplus = xp.maximum(-logits, 0) + xp.log1p(e)  # zeta(-x)
    sigmoid = xp.where(logits >= 0, e, 1) / (1 + e)  # sigma(-x)
    factor = 1 if pos_weight is None else 1 + (_factor(pos_weight, logits, "pos_weight") - 1) * target
    each = (1 - target) * logits + factor * softplus
    slope = (1 - target) - factor * sigmoid
    if weight is not None:
        w = _factor(weight, logits, "weight")
        each, slope = w * each, w * slope
    return _reduce(each, slope, reduction, op)


def binary_cross_entropy_with_logits_backward(dloss: Any, cache: Cache) -> Array:
    """Return dlogits = dloss s slope."""
    return _backward(dloss, cache)


def cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array, Cache]:
    r"""Cross-entropy of softmax(logits): :math:`l_n = -\sum_k q_{nk} \log p_{nk}`, :math:`p = \operatorname{softmax}(x)`.

    The coefficients q come from the target. For probabilities :math:`t_{nk}`, class weights w and smoothing
    :math:`\epsilon`: :math:`q_{nk} = w_k ((1 - \epsilon)\,t_{nk} + \epsilon / K)`. For a class index :math:`c_n`, t is 1 at
    :math:`c_n` and 0 elsewhere, and q is 0 for the ignored index.

    With :math:`\partial \log p_{nj} / \partial x_{nk} = \delta_{jk} - p_{nk}`, the slope is
    :math:`\partial l_n / \partial x_{nk} = p_{nk} \sum_j q_{nj} - q_{nk}`; without weights and smoothing :math:`p - t`.

    The mean divides by the number of targets not ignored, weighted by :math:`w_{c_n}`; for probabilities by the number of
    rows. If all targets are ignored it is nan. All as in PyTorch; the smoothing is that of C. Szegedy et al., "Rethinking
    the Inception architecture", CVPR 2016, section 7.

    Parameters
    ----------
    logits : array, shape (N, K, ...) or (K,)
        Floating; classes on axis 1, or 0 for a single example.
    target : integer array, shape (N, ...) or (), or floating array of the shape of the logits
        Class indices, or probabilities.
    weight : array, shape (K,), optional
        w, one for each class.
    ignore_index : int
        A class index that counts for nothing.
    label_smoothing : float
        :math:`\epsilon`, from 0 to 1.
    reduction : str
        ``"mean"``, ``"sum"``, ``"none"``.

    Returns
    -------
    loss : scalar, or an array of shape (N, ...) for ``"none"``
    cache : (slope, s, axis)

    Raises
    ------
    TargetError
        If a class index is out of range, or floating-point.
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = cross_entropy(numpy.log(numpy.array([[1.0, 3.0]])), numpy.array([1]))
    >>> round(float(loss), 4), cross_entropy_backward(1.0, cache)
    (0.2877, array([[ 0.25, -0.25]]))
    """
    require_float(logits, "logits", "cross_entropy")
    if logits.ndim == 0:
        raise ShapeError("cross_entropy: logits must have a class axis, got a scalar")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ParameterError(f"cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    axis = min(logits.ndim - 1, 1)
    if logits.shape[axis] == 0:
        raise ShapeError(f"cross_entropy: there are no classes on axis {axis} of logits of shape {logits.shape}")
    xp = namespace(logits)
    class_weight = None if weight is None else _class_weight(weight, logits, axis)
    if target.dtype.kind in "iu":
        t, total = _from_indices(logits, target, class_weight, ignore_index, axis)
        mass = t.sum(axis=axis, keepdims=True)  # 0 for an ignored row, which smoothing must leave at 0
    else:
        t, total = _from_probabilities(logits, target, axis)
        mass = 1
    q = (1 - label_smoothing) * t + mass * (label_smoothing / logits.shape[axis]) if label_smoothing else t
    if class_weight is not None:
        q = q * class_weight
    shifted = logits - logits.max(axis=axis, keepdims=True) if logits.size else logits
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))  # (N, K, ...)
    each = -xp.where(q == 0, 0, q * log_p).sum(axis=axis)  # (N, ...); 0 times -inf is 0 here
    slope = xp.exp(log_p) * q.sum(axis=axis, keepdims=True) - q  # (N, K, ...)
    if reduction == "mean" and each.size == 0:
        raise ShapeError(f"cross_entropy: the mean of an empty batch is undefined (logits of shape {logits.shape})")
    if reduction == "mean":
        s = 1 / total if total else math.nan
        return each.sum() * s, (slope, s, axis)
    loss, (_, s) = _reduce(each, slope, reduction, "cross_entropy")
    return loss, (slope, s, axis)


def cross_entropy_backward(dloss: Any, cache: Cache) -> Array:
    """Return dlogits = dloss s slope; for ``"none"`` each row's dloss goes to all its classes."""
    slope, s, axis = cache
    if getattr(dloss, "ndim", 0):
        dloss = namespace(slope).expand_dims(dloss, axis)  # (N, 1, ...)
    return dloss * slope if s == 1 else (dloss * s) * slope


def _from_indices(
    logits: Array, target: Array, class_weight: Array | None, ignore_index: int, axis: int
) -> tuple[Array, float]:
    """Return t as zeros and ones, (N, K, ...), and what the mean divides by."""
    expected = logits.shape[:axis] + logits.shape[axis + 1 :]
    if target.shape != expected:
        raise ShapeError(
            f"cross_entropy: class indices for logits of shape {logits.shape} must have shape {expected}, got "
            f"{target.shape}"
        )
    xp = namespace(logits)
    classes = logits.shape[axis]
    counted = target != ignore_index
    bad = counted & ((target < 0) | (target >= classes))
    if bool(bad.any()):
        where = tuple(int(i[0]) for i in xp.nonzero(xp.atleast_1d(bad)))
        raise TargetError(
            f"cross_entropy: target {int(xp.atleast_1d(target)[where])} at index {where if target.ndim else ()} is no "
            f"class; with {classes} classes the indices are 0 to {classes - 1}, or {ignore_index} to ignore"
        )
    shape = [1] * logits.ndim
    shape[axis] = classes
    labels = xp.arange(classes, dtype=target.dtype).reshape(shape)
    same = (xp.expand_dims(target, axis) == labels) & xp.expand_dims(counted, axis)
    t = same.astype(logits.dtype)  # (N, K, ...)
    return t, float((t if class_weight is None else t * class_weight).sum())


def _from_probabilities(logits: Array, target: Array, axis: int) -> tuple[Array, float]:
    if target.dtype.kind != "f":
        raise DtypeError(f"cross_entropy: target must hold integers or floating-point numbers, got {target.dtype}")
    if target.shape != logits.shape:
        if target.shape == logits.shape[:axis] + logits.shape[axis + 1 :]:
            raise TargetError(
                f"cross_entropy: class indices must be integers, got dtype {target.dtype}; convert them with "
                "target.astype('int64'), or give probabilities of the shape of the logits"
            )
        raise ShapeError(
            f"cross_entropy: probabilities must have the shape of the logits, {logits.shape}, got {target.shape}"
        )
    return target.astype(logits.dtype), logits.size / logits.shape[axis]


def _class_weight(weight: Array, logits: Array, axis: int) -> Array:
    if weight.shape != (logits.shape[axis],):
        raise ShapeError(
            f"cross_entropy: weight must have one entry for each of the {logits.shape[axis]} classes, got shape "
            f"{weight.shape}"
        )
    shape = [1] * logits.ndim
    shape[axis] = logits.shape[axis]
    return weight.astype(logits.dtype).reshape(shape)


def _align(prediction: Array, target: Array, op: str) -> Array:
    """Return the target in the shape and dtype of the prediction; only (N,) and (N, 1) may differ."""
    require_float(prediction, "prediction", op)
    kind = getattr(getattr(target, "dtype", None), "kind", None)
    if kind is None or kind not in "fiub":
        came = type(target).__name__ if kind is None else f"dtype {target.dtype}"
        raise DtypeError(f"{op}: target must be an array of real numbers, got {came}")
    if target.shape != prediction.shape:
        longer, shorter = sorted((tuple(prediction.shape), tuple(target.shape)), key=len, reverse=True)
        if len(longer) != 2 or longer != (*shorter, 1):
            raise ShapeError(
                f"{op}: prediction has shape {prediction.shape} and target {target.shape}; they must agree (only (N,) "
                "and (N, 1) are aligned, nothing is broadcast)"
            )
        target = target.reshape(prediction.shape)
    return target if target.dtype == prediction.dtype else target.astype(prediction.dtype)


def _factor(weight: Array, logits: Array, name: str) -> Array:
    """Return a weight in the dtype of the logits, checked to broadcast to their shape and no further."""
    try:
        namespace(logits).broadcast_to(weight, logits.shape)
    except ValueError as error:
        raise ShapeError(
            f"binary_cross_entropy_with_logits: {name} of shape {weight.shape} does not broadcast to {logits.shape}"
        ) from error
    return weight.astype(logits.dtype)


def _reduce(each: Array, slope: Array, reduction: str, op: str) -> tuple[Array, Cache]:
    """Return the reduced loss and the cache (slope, s)."""
    if reduction == "mean":
        if each.size == 0:
            raise ShapeError(f"{op}: the mean of an empty batch is undefined (shape {each.shape})")
        return each.mean(), (slope, 1 / each.size)
    if reduction == "sum":
        return each.sum(), (slope, 1.0)
    if reduction == "none":
        return each, (slope, 1.0)
    if reduction == "half_sum" and op == "mse_loss":
        return each.sum() / 2, (slope, 0.5)
    known = "mean, sum, none" + (", half_sum" if op == "mse_loss" else "")
    raise ParameterError(f"{op}: reduction must be one of {known}, got {reduction!r}")


def _backward(dloss: Any, cache: Cache) -> Array:
    slope, s = cache
    return dloss * slope if s == 1 else (dloss * s) * slope
