"""Losses: from predictions and targets to one number, or to one for each element.

Each loss is an elementwise (for cross-entropy, rowwise) loss l_i and then a reduction::

    loss = s sum_i l_i

with a constant s: 1/n for the mean over n elements, 1 for the sum, 1/2 for ``half_sum``; ``"none"`` returns the l_i. So
the gradient of p_i is dloss s slope_i, with slope_i the derivative of l_i by p_i. The forward has the slope at hand: each
derivation ends at the line that computes ``slope``. The cache is (slope, s), and every backward multiplies the upstream
gradient by the two. With ``"none"`` there is an upstream gradient for each l_i. Only cross-entropy computes its slope in
the backward: over a large vocabulary the slope is as large as everything else of a model together.

Targets are data: they have no gradient, and are converted to the dtype of the prediction. Shapes (N,) and (N, 1) are
aligned; nothing is broadcast. float16 is computed in float32 and rounded once.
"""

from __future__ import annotations

from typing import Any

from minidl.errors import DtypeError, ParameterError, ShapeError, TargetError
from minidl.ops._checks import ieee, sum_widened, widen_float16
from minidl.ops._losses import (
    Cache,
    align,
    check_upstream_of_rows,
    check_weight,
    class_axis,
    class_weight,
    from_indices,
    one_hot,
    reduce,
    reduce_rows,
    scale_slope,
    times_factor,
)
from minidl.ops._namespace import Array, namespace
from minidl.ops.softmax import is_first_largest, sum_but_one, sum_exponentials_but_one

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


@ieee
def mse_loss(prediction: Array, target: Array, reduction: str = "mean") -> tuple[Array, Cache]:
    """Return the squared error.

    With p the prediction and t the target::

        l = (p - t)^2,   slope = 2 (p - t)

    Parameters
    ----------
    prediction : array
        Floating-point, of any shape.
    target : array
        Real numbers, of the same shape.
    reduction : {"mean", "sum", "none", "half_sum"}, default "mean"
        ``"half_sum"`` is sum((p - t)^2) / 2, as textbooks write it, so that the gradient is p - t.

    Returns
    -------
    loss : scalar of the dtype of ``prediction``, or an array of its shape for ``"none"``
    cache : (slope, s)

    Raises
    ------
    ShapeError
        If the shapes differ, or the mean of an empty batch is asked for.
    DtypeError
        If the prediction is not floating-point, or the target does not hold real numbers.
    ParameterError
        If the reduction is unknown.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = mse_loss(numpy.array([2.5]), numpy.array([3.0]), "half_sum")
    >>> float(loss), mse_loss_backward(1.0, cache)
    (0.125, array([-0.5]))
    """
    p, t = align(prediction, target, "mse_loss")
    difference = p - t
    slope = 2 * difference
    return reduce(difference * difference, slope, reduction, "mse_loss", prediction.dtype, {"half_sum": 2})


@ieee
def mse_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the prediction.

    With the constant s of the reduction::

        dprediction = dloss s 2 (p - t)
    """
    return scale_slope(dloss, cache, "mse_loss_backward")


@ieee
def l1_loss(prediction: Array, target: Array, reduction: str = "mean") -> tuple[Array, Cache]:
    """Return the absolute error.

    With p the prediction and t the target::

        l = abs(p - t),   slope = sign(p - t)

    The slope at the kink is 0. Result, cache and errors are those of :func:`mse_loss`.

    Parameters
    ----------
    prediction : array
        Floating-point, of any shape.
    target : array
        Real numbers, of the same shape.
    reduction : {"mean", "sum", "none"}, default "mean"

    Examples
    --------
    >>> import numpy
    >>> loss, cache = l1_loss(numpy.array([1.0, 5.0]), numpy.array([2.0, 2.0]))
    >>> float(loss), l1_loss_backward(1.0, cache)
    (2.0, array([-0.5,  0.5]))
    """
    p, t = align(prediction, target, "l1_loss")
    difference = p - t
    xp = namespace(prediction)
    return reduce(xp.abs(difference), xp.sign(difference), reduction, "l1_loss", prediction.dtype)


@ieee
def l1_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the prediction.

    With the constant s of the reduction::

        dprediction = dloss s sign(p - t)
    """
    return scale_slope(dloss, cache, "l1_loss_backward")


@ieee
def huber_loss(prediction: Array, target: Array, delta: float = 1.0, reduction: str = "mean") -> tuple[Array, Cache]:
    """Return Huber's loss, quadratic near zero and linear beyond delta.

    With d = p - t::

        l = d^2 / 2 where abs(d) <= delta, else delta (abs(d) - delta / 2)

    The slope is d in the first case and delta sign(d) in the second, that is d clipped to [-delta, delta]. With this slope c,
    both cases of l are c (d - c / 2). Result, cache and errors are those of :func:`mse_loss`.

    Parameters
    ----------
    prediction : array
        Floating-point, of any shape.
    target : array
        Real numbers, of the same shape.
    delta : float, default 1.0
        Where the linear part begins; positive, else ``ParameterError``.
    reduction : {"mean", "sum", "none"}, default "mean"

    References
    ----------
    P. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Examples
    --------
    >>> import numpy
    >>> loss, cache = huber_loss(numpy.array([0.5, 3.0]), numpy.zeros(2), reduction="sum")
    >>> float(loss), huber_loss_backward(1.0, cache)
    (2.625, array([0.5, 1. ]))
    """
    if not delta > 0:
        raise ParameterError(f"huber_loss: delta must be positive, got {delta!r}")
    p, t = align(prediction, target, "huber_loss")
    difference = p - t
    slope = namespace(prediction).clip(difference, -delta, delta)
    return reduce(slope * (difference - slope / 2), slope, reduction, "huber_loss", prediction.dtype)


@ieee
def huber_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the prediction.

    With the constant s of the reduction::

        dprediction = dloss s clip(p - t, -delta, delta)
    """
    return scale_slope(dloss, cache, "huber_loss_backward")


@ieee
def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, Cache]:
    """Return the binary cross-entropy of sigmoid(logits).

    With x the logit, t the target, w = ``weight``, q = ``pos_weight`` and sigma the sigmoid::

        l = -w (q t log(sigma(x)) + (1 - t) log(1 - sigma(x)))

    It is computed from the softplus zeta(x) = max(x, 0) + log(1 + exp(-abs(x))). Since 1 - sigma(x) = sigma(-x) and
    -log(sigma(x)) = zeta(-x), l = w (q t zeta(-x) + (1 - t) zeta(x)). No exponential overflows, no logarithm sees zero, and
    no terms of unlike sign meet, so the loss of a confident and right answer keeps all its digits.

    With zeta' = sigma, the slope is w ((1 - t) sigma(x) - q t sigma(-x)). Without weights that is sigma(x) - t, but it does
    not cancel. Result, cache and errors are those of :func:`mse_loss`.

    Parameters
    ----------
    logits : array
        Floating-point, of any shape.
    target : array
        From 0 to 1 (not enforced, as in PyTorch), of the same shape.
    weight : array, optional
        Broadcast to the shape of the logits, else ``ShapeError``.
    pos_weight : array, optional
        Weight of the positive term; broadcast to the shape of the logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over elements, whatever the weights.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = binary_cross_entropy_with_logits(numpy.array([0.0]), numpy.array([1.0]))
    >>> round(float(loss), 4), binary_cross_entropy_with_logits_backward(1.0, cache)
    (0.6931, array([-0.5]))
    """
    op = "binary_cross_entropy_with_logits"
    x, t = align(logits, target, op, "logits")
    xp = namespace(logits)
    e = xp.exp(-xp.abs(x))
    large, small, rest = 1 / (1 + e), e / (1 + e), xp.log1p(e)  # sigma(|x|), sigma(-|x|), log(1 + exp(-|x|))
    positive = t if pos_weight is None else check_weight(op, pos_weight, x, "pos_weight") * t  # q t
    negative = 1 - t
    each = positive * (xp.maximum(-x, 0) + rest) + negative * (xp.maximum(x, 0) + rest)
    slope = negative * xp.where(x >= 0, large, small) - positive * xp.where(x >= 0, small, large)
    if weight is not None:
        w = check_weight(op, weight, x, "weight")
        each, slope = w * each, w * slope
    return reduce(each, slope, reduction, op, logits.dtype)


@ieee
def binary_cross_entropy_with_logits_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the logits.

    With the constant s of the reduction::

        dlogits = dloss s w ((1 - t) sigma(x) - q t sigma(-x))
    """
    return scale_slope(dloss, cache, "binary_cross_entropy_with_logits_backward")


@ieee
def cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array, Cache]:
    r"""Return the cross-entropy of softmax(logits).

    With p = softmax(x) over the K classes::

        l_n = -sum_k q_nk log(p_nk)

    The coefficients q come from the target. For probabilities t_nk, class weights w and e = ``label_smoothing``,
    q_nk = w_k ((1 - e) t_nk + e / K). For a class index c_n, t is 1 at c_n and 0 elsewhere, and the whole row of q is 0 if
    c_n is the ignored index.

    The mean divides by the total weight w[c_n] of the targets that are not ignored; for probabilities by the number of rows.
    If all targets are ignored, the mean is nan and its gradient 0. All of this is as in PyTorch.

    Parameters
    ----------
    logits : array, shape (N, K, ...) or (K,)
        Floating-point; classes on axis 1, or 0 for a single example. Minus infinity rules a class out; plus
        infinity makes a loss nan.
    target : integer array, shape (N, ...) or (), or floating-point array of the shape of the logits
        Class indices, or probabilities.
    weight : array, shape (K,), optional
        A weight for each class.
    ignore_index : int, default -100
        The class index that does not count.
    label_smoothing : float, default 0.0
        From 0 to 1.
    reduction : {"mean", "sum", "none"}, default "mean"

    Returns
    -------
    loss : scalar of the dtype of ``logits``, or an array of shape (N, ...) for ``"none"``
    cache : (logits, s, axis of the classes, target, weight, ignore_index, label_smoothing, m, r)
        Of each row m is the largest logit, and r the sum of exp(x_k - m) over all k but one with x_k = m; both have shape
        (N, 1, ...). Nothing of the size of the logits is made. Backward reads the logits and the target again, so they must
        not change before it.

    Raises
    ------
    TargetError
        If a class index is out of range or floating-point.
    ShapeError
        If the shapes do not fit, there are no classes, or the mean of an empty batch is asked for.
    DtypeError
        If the logits are not floating-point, or the target is neither integer nor floating-point.
    ParameterError
        If ``label_smoothing`` is not from 0 to 1, or the reduction is unknown.

    Notes
    -----
    From :math:`\log p_{nj} = x_{nj} - \log \sum_k e^{x_{nk}}` follows
    :math:`\partial \log p_{nj} / \partial x_{nk} = \delta_{jk} - p_{nk}`. So the slope is

    .. math:: \frac{\partial l_n}{\partial x_{nk}} = -\sum_j q_{nj} (\delta_{jk} - p_{nk}) = p_{nk} \sum_j q_{nj} - q_{nk},

    which is p - t without weights and smoothing. For a confident and right answer p is 1 but for the rounding, and both this
    and log(p) would lose all digits. So neither is computed like that. With the largest logit taken out, one exponential is
    1, and the sum of the others goes into log1p. In the slope :math:`q_{nk} = q_{nk} \sum_j p_{nj}` cancels a term:

    .. math:: \frac{\partial l_n}{\partial x_{nk}} = p_{nk} \sum_{j \ne k} q_{nj} - q_{nk} \sum_{j \ne k} p_{nj},

    so that the right class gets minus the sum of what the others get.

    References
    ----------
    Label smoothing: C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016, section 7.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = cross_entropy(numpy.log(numpy.array([[1.0, 3.0]])), numpy.array([1]))
    >>> round(float(loss), 4), cross_entropy_backward(1.0, cache)
    (0.2877, array([[ 0.25, -0.25]]))
    """
    op = "cross_entropy"
    axis = class_axis(op, logits)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ParameterError(f"{op}: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    xp = namespace(logits)
    x = widen_float16(logits)
    w = None if weight is None else class_weight(op, weight, x, axis)
    t, divisor = _read_target(x, target, w, ignore_index, axis)
    q = _coefficients(t, target, w, label_smoothing, axis)
    largest = x.max(axis=axis, keepdims=True)  # (N, 1, ...)
    shifted = x - largest  # (N, K, ...)
    rest = sum_exponentials_but_one(xp.exp(shifted), axis)  # (N, 1, ...); the exponential left out is 1
    log_p = shifted - xp.log1p(rest)  # (N, K, ...)
    each = -sum_widened(
        xp.where(q == 0, 0, q * log_p), axis
    )  # (N, ...); for a class that is ruled out, 0 times -inf is 0
    loss, s = reduce_rows(each, divisor, reduction, op, logits.dtype)
    return loss, (logits, s, axis, target, weight, ignore_index, label_smoothing, largest, rest)


@ieee
def cross_entropy_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the logits.

    With the constant s of the reduction; for ``"none"`` each row's dloss goes to all its classes::

        dlogits = dloss s (p sum_k q_k - q)
    """
    logits, s, axis, target, weight, ignore_index, label_smoothing, largest, rest = cache
    dloss = check_upstream_of_rows(dloss, logits, axis, "cross_entropy_backward")
    x = widen_float16(logits)
    w = None if weight is None else class_weight("cross_entropy_backward", weight, x, axis)
    t = target.astype(x.dtype, copy=False) if target.dtype.kind == "f" else one_hot(x, target, ignore_index, axis)
    q = _coefficients(t, target, w, label_smoothing, axis)
    e = namespace(x).exp(x - largest)  # (N, K, ...); at most 1, and one of them 1
    slope = (e * _sum_others(q, axis) - q * _sum_others(e, axis)) / (1 + rest)  # (N, K, ...)
    return (times_factor(dloss, s, x) * slope).astype(logits.dtype, copy=False)


def _sum_others(x: Array, axis: int) -> Array:
    """Return, for each element of x >= 0, the sum of the others along an axis, also where it is much smaller than x."""
    largest = x.max(axis=axis, keepdims=True)
    rest = sum_but_one(x, axis)
    return namespace(x).where(is_first_largest(x, axis), rest, rest + (largest - x))


def _coefficients(t: Array, target: Array, w: Array | None, label_smoothing: float, axis: int) -> Array:
    """Return q, (N, K, ...)."""
    q = t
    if label_smoothing:
        # 1, but 0 for an ignored row, which smoothing must leave at 0
        mass = 1 if target.dtype.kind == "f" else sum_widened(t, axis, keepdims=True)
        q = (1 - label_smoothing) * t + mass * (label_smoothing / t.shape[axis])
    return q if w is None else q * w


def _read_target(x: Array, target: Array, w: Array | None, ignore_index: int, axis: int) -> tuple[Array, float]:
    """Return t, (N, K, ...), and the divisor of the mean; raise unless the target fits."""
    kind = getattr(getattr(target, "dtype", None), "kind", None)
    if kind is None or kind not in "iuf":
        came = type(target).__name__ if kind is None else f"dtype {target.dtype}"
        raise DtypeError(
            f"cross_entropy: target must be an array of integers (class indices) or of floating-point numbers "
            f"(probabilities), got {came}"
        )
    if kind == "f":
        return _from_probabilities(x, target, axis)
    return from_indices("cross_entropy", x, target, w, ignore_index, axis)


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
