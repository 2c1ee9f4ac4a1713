r"""Losses: from predictions and targets to one number, or one for each element.

Each loss is first an elementwise (or, for cross-entropy, rowwise) loss :math:`l_i` and then a reduction
:math:`L = s \sum_i l_i` with a constant s: 1/n for the mean over n elements, 1 for the sum, 1/2 for ``half_sum``. So
:math:`\partial L / \partial p_i = s\, \partial l_i / \partial p_i`, and every cache is the pair (slope, s) with slope
:math:`\partial l_i / \partial p_i`, which the forward has at hand: the line that computes ``slope`` is where each derivation
ends, and every backward is the product of the upstream gradient with the two. With ``"none"`` there is an upstream
gradient for each :math:`l_i`.

Targets are data: they have no gradient, and are converted to the dtype of the prediction. float16 is computed in float32
and rounded once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError, TargetError
from minidl.ops._checks import ieee, require_same_dtype, widened
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


@ieee
def mse_loss(prediction: Array, target: Array, reduction: str = "mean") -> tuple[Array, Cache]:
    r"""Squared error: :math:`l_i = (p_i - t_i)^2`, with slope :math:`2 (p_i - t_i)`.

    Parameters
    ----------
    prediction : array
        p; any shape, floating.
    target : array
        t; the same shape, real numbers. (N,) and (N, 1) are aligned, nothing is broadcast.
    reduction : str
        ``"mean"``, ``"sum"``, ``"none"``, or ``"half_sum"``: :math:`L = \tfrac12 \sum_i l_i`, as textbooks write it, so that
        :math:`dp_i = p_i - t_i`.

    Returns
    -------
    loss : scalar of the dtype of ``prediction``, or an array of its shape for ``"none"``
    cache : (slope, s)

    Raises
    ------
    ShapeError
        If the shapes differ, or the mean of nothing is asked for.
    DtypeError
        If the prediction is not floating-point, or the target holds no real numbers.
    ParameterError
        If there is no such reduction.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = mse_loss(numpy.array([2.5]), numpy.array([3.0]), "half_sum")
    >>> float(loss), mse_loss_backward(1.0, cache)
    (0.125, array([-0.5]))
    """
    p, t = _align(prediction, target, "mse_loss")
    difference = p - t
    slope = 2 * difference
    return _reduce(difference * difference, slope, reduction, "mse_loss", prediction.dtype)


@ieee
def mse_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return dprediction = dloss s slope."""
    return _backward(dloss, cache, "mse_loss_backward")


@ieee
def l1_loss(prediction: Array, target: Array, reduction: str = "mean") -> tuple[Array, Cache]:
    r"""Absolute error: :math:`l_i = |p_i - t_i|`, with slope :math:`\operatorname{sign}(p_i - t_i)`, at the kink 0.

    Parameters
    ----------
    prediction : array
        p; any shape, floating.
    target : array
        t; the same shape, real numbers. (N,) and (N, 1) are aligned, nothing is broadcast.
    reduction : str
        ``"mean"``, ``"sum"``, ``"none"``.

    Returns
    -------
    loss : scalar of the dtype of ``prediction``, or an array of its shape for ``"none"``
    cache : (slope, s)

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        As :func:`mse_loss`.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = l1_loss(numpy.array([1.0, 5.0]), numpy.array([2.0, 2.0]))
    >>> float(loss), l1_loss_backward(1.0, cache)
    (2.0, array([-0.5,  0.5]))
    """
    p, t = _align(prediction, target, "l1_loss")
    difference = p - t
    xp = namespace(prediction)
    return _reduce(xp.abs(difference), xp.sign(difference), reduction, "l1_loss", prediction.dtype)


@ieee
def l1_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return dprediction = dloss s slope."""
    return _backward(dloss, cache, "l1_loss_backward")


@ieee
def huber_loss(prediction: Array, target: Array, delta: float = 1.0, reduction: str = "mean") -> tuple[Array, Cache]:
    r"""Huber's loss: quadratic near zero, linear beyond delta.

    With :math:`d = p - t`: :math:`l = \tfrac12 d^2` where :math:`|d| \le \delta`, else
    :math:`\delta (|d| - \tfrac12 \delta)`. The slope is d in the first case and :math:`\delta \operatorname{sign} d` in the second:
    d, cut off at :math:`\pm\delta`. With this slope c, both cases of l are :math:`c\,(d - \tfrac12 c)`.
    P. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Parameters
    ----------
    prediction : array
        p; any shape, floating.
    target : array
        t; the same shape, real numbers. (N,) and (N, 1) are aligned, nothing is broadcast.
    delta : float
        Where the line begins; positive.
    reduction : str
        ``"mean"``, ``"sum"``, ``"none"``.

    Returns
    -------
    loss : scalar of the dtype of ``prediction``, or an array of its shape for ``"none"``
    cache : (slope, s)

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        As :func:`mse_loss`; ``ParameterError`` also if delta is not positive.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = huber_loss(numpy.array([0.5, 3.0]), numpy.zeros(2), reduction="sum")
    >>> float(loss), huber_loss_backward(1.0, cache)
    (2.625, array([0.5, 1. ]))
    """
    if not delta > 0:
        raise ParameterError(f"huber_loss: delta must be positive, got {delta!r}")
    p, t = _align(prediction, target, "huber_loss")
    difference = p - t
    slope = namespace(prediction).clip(difference, -delta, delta)
    return _reduce(slope * (difference - slope / 2), slope, reduction, "huber_loss", prediction.dtype)


@ieee
def huber_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return dprediction = dloss s slope."""
    return _backward(dloss, cache, "huber_loss_backward")


@ieee
def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, Cache]:
    r"""Binary cross-entropy of :math:`\sigma(x)`: :math:`l = -w\,(q\,t \log\sigma(x) + (1 - t) \log(1 - \sigma(x)))`.

    Since :math:`1 - \sigma(x) = \sigma(-x)` and :math:`-\log\sigma(x) = \log(1 + e^{-x}) = \zeta(-x)`, the softplus, this is
    :math:`l = w\,(q\,t\,\zeta(-x) + (1 - t)\,\zeta(x))` with :math:`\zeta(x) = \max(x, 0) + \log(1 + e^{-|x|})`: no
    exponential overflows, no logarithm sees zero, and no two terms of unlike sign meet, so the loss of a confident and right
    answer keeps all its digits.

    With :math:`\zeta' = \sigma`, the slope is :math:`w\,((1 - t)\,\sigma(x) - q\,t\,\sigma(-x))`; without weights that is
    :math:`\sigma(x) - t`, but does not cancel.

    Parameters
    ----------
    logits : array
        x; any shape, floating.
    target : array
        t, from 0 to 1 (not enforced, as in PyTorch); the same shape; (N,) and (N, 1) are aligned.
    weight : array, optional
        w; broadcast to the shape of the logits.
    pos_weight : array, optional
        q, what a positive counts for; broadcast to the shape of the logits.
    reduction : str
        ``"mean"`` (over elements, whatever the weights), ``"sum"``, ``"none"``.

    Returns
    -------
    loss : scalar of the dtype of ``logits``, or an array of their shape for ``"none"``
    cache : (slope, s)

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        As :func:`mse_loss`; ``ShapeError`` also if a weight does not broadcast to the shape of the logits.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = binary_cross_entropy_with_logits(numpy.array([0.0]), numpy.array([1.0]))
    >>> round(float(loss), 4), binary_cross_entropy_with_logits_backward(1.0, cache)
    (0.6931, array([-0.5]))
    """
    op = "binary_cross_entropy_with_logits"
    x, t = _align(logits, target, op, "logits")
    xp = namespace(logits)
    e = xp.exp(-xp.abs(x))
    large, small, rest = 1 / (1 + e), e / (1 + e), xp.log1p(e)  # sigma(|x|), sigma(-|x|), log(1 + exp(-|x|))
    positive = t if pos_weight is None else _factor(pos_weight, x, "pos_weight") * t  # q t
    negative = 1 - t
    each = positive * (xp.maximum(-x, 0) + rest) + negative * (xp.maximum(x, 0) + rest)
    slope = negative * xp.where(x >= 0, large, small) - positive * xp.where(x >= 0, small, large)
    if weight is not None:
        w = _factor(weight, x, "weight")
        each, slope = w * each, w * slope
    return _reduce(each, slope, reduction, op, logits.dtype)


@ieee
def binary_cross_entropy_with_logits_backward(dloss: Any, cache: Cache) -> Array:
    """Return dlogits = dloss s slope."""
    return _backward(dloss, cache, "binary_cross_entropy_with_logits_backward")


@ieee
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

    From :math:`\log p_{nj} = x_{nj} - \log \sum_k e^{x_{nk}}` follows
    :math:`\partial \log p_{nj} / \partial x_{nk} = \delta_{jk} - p_{nk}`. So the slope is

    .. math:: \frac{\partial l_n}{\partial x_{nk}} = -\sum_j q_{nj} (\delta_{jk} - p_{nk}) = p_{nk} \sum_j q_{nj} - q_{nk},

    without weights and smoothing :math:`p - t`.

    The mean divides by the number of targets not ignored, each counted with its weight :math:`w_{c_n}`; for probabilities by
    the number of rows. If all targets are ignored, the mean is nan and its gradient 0. All of this is as in PyTorch. The
    smoothing is that of C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016, section 7.

    Parameters
    ----------
    logits : array, shape (N, K, ...) or (K,)
        x; floating. Classes on axis 1, or 0 for a single example. A class may be ruled out by minus infinity.
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
    loss : scalar of the dtype of ``logits``, or an array of shape (N, ...) for ``"none"``
    cache : (slope, s, axis of the classes)

    Raises
    ------
    TargetError
        If a class index is out of range, or floating-point.
    ShapeError
        If the shapes do not fit, there are no classes, or the mean of an empty batch is asked for.
    DtypeError
        If the logits are not floating-point, or the target is neither integer nor floating.
    ParameterError
        If ``label_smoothing`` is not from 0 to 1, or there is no such reduction.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = cross_entropy(numpy.log(numpy.array([[1.0, 3.0]])), numpy.array([1]))
    >>> round(float(loss), 4), cross_entropy_backward(1.0, cache)
    (0.2877, array([[ 0.25, -0.25]]))
    """
    op = "cross_entropy"
    axis = _class_axis(logits)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ParameterError(f"{op}: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    xp = namespace(logits)
    x = widened(logits)
    w = None if weight is None else _class_weight(weight, x, axis)
    q, divisor = _coefficients(x, target, w, ignore_index, label_smoothing, axis)
    shifted = x - x.max(axis=axis, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))  # (N, K, ...)
    each = -xp.where(q == 0, 0, q * log_p).sum(axis=axis)  # (N, ...); where a class is ruled out, 0 times -inf is 0
    slope = xp.exp(log_p) * q.sum(axis=axis, keepdims=True) - q  # (N, K, ...)
    if reduction != "mean" or each.size == 0:
        loss, cache = _reduce(each, slope, reduction, op, logits.dtype)
        return loss, (*cache, axis)
    loss = each.sum() * (1 / divisor if divisor else math.nan)
    return loss.astype(logits.dtype), (slope.astype(logits.dtype, copy=False), 1 / divisor if divisor else 0.0, axis)


@ieee
def cross_entropy_backward(dloss: Any, cache: Cache) -> Array:
    """Return dlogits = dloss s slope; for ``"none"`` each row's dloss goes to all its classes."""
    slope, s, axis = cache
    dloss = _upstream(dloss, slope, slope.shape[:axis] + slope.shape[axis + 1 :], "cross_entropy_backward")
    if getattr(dloss, "ndim", 0):
        dloss = namespace(slope).expand_dims(dloss, axis)  # (N, 1, ...)
    return (dloss * s) * slope


def _class_axis(logits: Array) -> int:
    require_float(logits, "logits", "cross_entropy")
    if logits.ndim == 0:
        raise ShapeError("cross_entropy: logits must have a class axis, got a scalar")
    axis = min(logits.ndim - 1, 1)
    if logits.shape[axis] == 0:
        raise ShapeError(f"cross_entropy: there are no classes on axis {axis} of logits of shape {logits.shape}")
    return axis


def _coefficients(
    x: Array, target: Array, w: Array | None, ignore_index: int, label_smoothing: float, axis: int
) -> tuple[Array, float]:
    """Return q, (N, K, ...), and what the mean divides by."""
    kind = getattr(getattr(target, "dtype", None), "kind", None)
    if kind is None or kind not in "iuf":
        came = type(target).__name__ if kind is None else f"dtype {target.dtype}"
        raise DtypeError(
            f"cross_entropy: target must be an array of integers (class indices) or of floating-point numbers "
            f"(probabilities), got {came}"
        )
    if kind == "f":
        t, divisor = _from_probabilities(x, target, axis)
        mass = 1
    else:
        t, divisor = _from_indices(x, target, w, ignore_index, axis)
        mass = t.sum(axis=axis, keepdims=True)  # 0 for an ignored row, which smoothing must leave at 0
    q = (1 - label_smoothing) * t + mass * (label_smoothing / x.shape[axis]) if label_smoothing else t
    return q if w is None else q * w, divisor


def _from_indices(x: Array, target: Array, w: Array | None, ignore_index: int, axis: int) -> tuple[Array, float]:
    """Return t as zeros and ones, (N, K, ...), and the weight of all targets that count."""
    expected = x.shape[:axis] + x.shape[axis + 1 :]
    if target.shape != expected:
        hint = "; one-hot rows are probabilities: convert them with target.astype(float)" * (target.shape == x.shape)
        raise ShapeError(
            f"cross_entropy: class indices for logits of shape {x.shape} must have shape {expected}, got "
            f"{target.shape}{hint}"
        )
    xp = namespace(x)
    classes = x.shape[axis]
    c = target.astype("int64", copy=False)
    counted = c != ignore_index
    bad = counted & ((c < 0) | (c >= classes))
    labels = xp.arange(classes).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    t = ((xp.expand_dims(c, axis) == labels) & xp.expand_dims(counted, axis)).astype(x.dtype)  # (N, K, ...)
    weight = (t if w is None else t * w).sum(dtype="float64")
    wrong, divisor = xp.stack([bad.sum(dtype="float64"), weight]).tolist()  # the one look at values that must be taken
    if wrong:
        first = int(bad.ravel().argmax())
        index = tuple(int(i) for i in numpy.unravel_index(first, target.shape))
        raise TargetError(
            f"cross_entropy: target {int(c.ravel()[first])} at index {index} is no class; with {classes} classes the "
            f"indices are 0 to {classes - 1}, or {ignore_index} to ignore"
        )
    return t, divisor


def _from_probabilities(x: Array, target: Array, axis: int) -> tuple[Array, float]:
    if target.shape != x.shape:
        if target.shape == x.shape[:axis] + x.shape[axis + 1 :]:
            raise TargetError(
                f"cross_entropy: class indices must be integers, got dtype {target.dtype}; convert them with "
                "target.astype('int64'), or give probabilities of the shape of the logits"
            )
        raise ShapeError(
            f"cross_entropy: probabilities must have the shape of the logits, {x.shape}, got {target.shape}"
        )
    return target.astype(x.dtype, copy=False), x.size / x.shape[axis]


def _class_weight(weight: Array, x: Array, axis: int) -> Array:
    if getattr(weight, "shape", None) != (x.shape[axis],):
        raise ShapeError(
            f"cross_entropy: weight must be an array with one entry for each of the {x.shape[axis]} classes, got "
            f"{getattr(weight, 'shape', weight)}"
        )
    return weight.astype(x.dtype, copy=False).reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def _align(prediction: Array, target: Array, op: str, name: str = "prediction") -> tuple[Array, Array]:
    """Return both in the shape and dtype of the prediction, widened; only (N,) and (N, 1) may differ."""
    require_float(prediction, name, op)
    kind = getattr(getattr(target, "dtype", None), "kind", None)
    if kind is None or kind not in "fiub":
        came = type(target).__name__ if kind is None else f"dtype {target.dtype}"
        raise DtypeError(f"{op}: target must be an array of real numbers, got {came}")
    if target.shape != prediction.shape:
        longer, shorter = sorted((tuple(prediction.shape), tuple(target.shape)), key=len, reverse=True)
        if len(longer) != 2 or longer != (*shorter, 1):
            raise ShapeError(
                f"{op}: {name} has shape {prediction.shape} and target {target.shape}; they must agree (only (N,) "
                "and (N, 1) are aligned, nothing is broadcast)"
            )
        target = target.reshape(prediction.shape)
    wide = widened(prediction)
    return wide, target.astype(wide.dtype, copy=False)


def _factor(weight: Array, x: Array, name: str) -> Array:
    """Return a weight in the dtype of the logits, checked to broadcast to their shape and no further."""
    op = "binary_cross_entropy_with_logits"
    if not hasattr(weight, "dtype"):
        raise DtypeError(
            f"{op}: {name} must be an array, got {type(weight).__name__}; convert it with numpy.asarray(...)"
        )
    try:
        fits = numpy.broadcast_shapes(weight.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"{op}: {name} of shape {weight.shape} does not broadcast to {x.shape}, the shape of the logits"
        )
    return weight.astype(x.dtype, copy=False)


def _reduce(each: Array, slope: Array, reduction: str, op: str, dtype: Any) -> tuple[Array, Cache]:
    """Return the reduced loss and the cache (slope, s), both in the dtype of the prediction."""
    factors = {"mean": 1 / max(each.size, 1), "sum": 1.0, "none": 1.0}
    if op == "mse_loss":
        factors["half_sum"] = 0.5
    if reduction not in factors:
        raise ParameterError(f"{op}: reduction must be one of {', '.join(factors)}, got {reduction!r}")
    if reduction == "mean" and each.size == 0:
        raise ShapeError(f"{op}: the mean of an empty batch is undefined (loss of shape {each.shape})")
    s = factors[reduction]
    loss = each if reduction == "none" else each.sum() * s
    return loss.astype(dtype, copy=False), (slope.astype(dtype, copy=False), s)


def _backward(dloss: Any, cache: Cache, op: str) -> Array:
    slope, s = cache
    return (_upstream(dloss, slope, slope.shape, op) * s) * slope


def _upstream(dloss: Any, slope: Array, shape: tuple[int, ...], op: str) -> Any:
    """Return dloss, which is a number or has the shape of the unreduced loss, such that it does not promote the slope."""
    if type(dloss) in (float, int):
        return dloss
    if getattr(dloss, "ndim", 0):
        require_float(dloss, "dloss", op)
        require_same_dtype(dloss, slope, "dloss", "the loss", op)
        if dloss.shape != shape:
            raise ShapeError(f"{op}: dloss must be a number or have the shape of the loss, {shape}, got {dloss.shape}")
        return dloss
    return namespace(slope).asarray(dloss, dtype=slope.dtype)
