"""Losses of probabilities and of their logarithms, for models that give these instead of logits.

The losses of logits in ``minidl.ops.loss`` do more: they keep the digits of answers that are nearly certain, which have no
digits left once they are probabilities. What is written there of reductions, targets and the cache holds here too.
"""

from __future__ import annotations

from typing import Any

from minidl.errors import DtypeError
from minidl.ops._checks import ieee, sum_widened, widen_float16
from minidl.ops._losses import (
    Cache,
    align,
    check_upstream_of_rows,
    check_weight,
    class_axis,
    class_weight,
    from_indices,
    reduce,
    reduce_rows,
    scale_slope,
    times_factor,
)
from minidl.ops._namespace import Array, namespace

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "kl_div",
    "kl_div_backward",
    "nll_loss",
    "nll_loss_backward",
]


@ieee
def nll_loss(
    prediction: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[Array, Cache]:
    """Return the negative log-likelihood of the classes that are right.

    With x the log-probabilities, such as log_softmax gives them, c_n the class of row n and w = ``weight``::

        l_n = -w_c x_nc,   c = c_n

    and 0 if c_n is the ignored index. The slope is -w_c at the class c_n and 0 elsewhere. The mean divides by the total weight of
    the targets that are not ignored; if all are, it is nan and its gradient 0. After log_softmax this is cross_entropy, which is
    one op and keeps more digits.

    Parameters
    ----------
    prediction : array, shape (N, K, ...) or (K,)
        The log-probabilities, floating-point; classes on axis 1, or 0 for a single example.
    target : integer array, shape (N, ...) or ()
        Class indices.
    weight : array, shape (K,), optional
        A weight for each class.
    ignore_index : int, default -100
        The class index that does not count.
    reduction : {"mean", "sum", "none"}, default "mean"

    Returns
    -------
    loss : scalar of the dtype of ``prediction``, or an array of shape (N, ...) for ``"none"``
    cache : (slope, s, axis of the classes)

    Raises
    ------
    TargetError
        If a class index is out of range.
    ShapeError
        If the shapes do not fit, there are no classes, or the mean of an empty batch is asked for.
    DtypeError
        If the log-probabilities are not floating-point, or the target is not an array of integers.
    ParameterError
        If the reduction is unknown.

    Examples
    --------
    >>> import numpy
    >>> log_p = numpy.array([[-0.5, -1.5, -2.0], [-3.0, -0.25, -1.0]])
    >>> loss, cache = nll_loss(log_p, numpy.array([0, 2]), weight=numpy.array([1.0, 2.0, 3.0]))
    >>> float(loss)  # (1 * 0.5 + 3 * 1) / (1 + 3)
    0.875
    >>> nll_loss_backward(1.0, cache)
    array([[-0.25,  0.  ,  0.  ],
           [ 0.  ,  0.  , -0.75]])
    """
    op = "nll_loss"
    axis = class_axis(op, prediction, "prediction")
    kind = getattr(getattr(target, "dtype", None), "kind", None)
    if kind is None or kind not in "iu":
        came = type(target).__name__ if kind is None else f"dtype {target.dtype}"
        raise DtypeError(
            f"{op}: target must be an array of integers (class indices), got {came}; for probabilities as targets use "
            "cross_entropy or kl_div"
        )
    x = widen_float16(prediction)
    w = None if weight is None else class_weight(op, weight, x, axis)
    q, divisor = from_indices(op, x, target, w, ignore_index, axis, "prediction")
    slope = 0 - (q if w is None else q * w)  # (N, K, ...)
    each = sum_widened(
        namespace(x).where(slope == 0, 0, slope * x), axis
    )  # (N, ...); of the other classes also -inf is 0
    loss, s = reduce_rows(each, divisor, reduction, op, prediction.dtype)
    return loss, (slope.astype(prediction.dtype, copy=False), s, axis)


@ieee
def nll_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the prediction.

    With the constant s of the reduction, and 0 for the classes that are not right::

        dprediction = -dloss s w_c
    """
    slope, s, axis = cache
    return times_factor(check_upstream_of_rows(dloss, slope, axis, "nll_loss_backward"), s, slope) * slope


@ieee
def binary_cross_entropy(
    probabilities: Array, target: Array, weight: Array | None = None, reduction: str = "mean"
) -> tuple[Array, Cache]:
    """Return the binary cross-entropy of probabilities.

    With p the probability, t the target and w = ``weight``::

        l = -w (t max(log(p), -100) + (1 - t) max(log(1 - p), -100))

    The bound of -100 makes the loss of a wrong and certain answer finite, as in PyTorch. The slope is
    w (p - t) / (p (1 - p)): from t comes -t / p, and from 1 - t comes (1 - t) / (1 - p), together (p - t) / (p (1 - p)). The
    denominator is at least 1e-12, so that the slope is finite too. ``binary_cross_entropy_with_logits`` needs no bounds. Outside
    0 to 1 the loss is nan. Result, cache and errors are those of :func:`minidl.ops.mse_loss`.

    Parameters
    ----------
    probabilities : array
        Floating-point, of any shape.
    target : array
        From 0 to 1 (not enforced), of the same shape.
    weight : array, optional
        Broadcast to the shape of the probabilities, else ``ShapeError``.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over elements, whatever the weights.

    Examples
    --------
    >>> import numpy
    >>> loss, cache = binary_cross_entropy(numpy.array([0.2, 0.9]), numpy.array([0.0, 1.0]))
    >>> round(float(loss), 6), binary_cross_entropy_backward(1.0, cache).round(4)
    (0.164252, array([ 0.625 , -0.5556]))
    >>> float(binary_cross_entropy(numpy.array([0.0]), numpy.array([1.0]))[0])
    100.0
    """
    op = "binary_cross_entropy"
    p, t = align(probabilities, target, op, "probabilities")
    xp = namespace(p)
    none, certain = p == 0, p == 1
    log_p = xp.where(none, -100, xp.maximum(xp.log(xp.where(none, 1, p)), -100))
    log_rest = xp.where(certain, -100, xp.maximum(xp.log1p(xp.where(certain, 0, -p)), -100))
    each = -(t * log_p + (1 - t) * log_rest)
    slope = (p - t) / xp.maximum(p * (1 - p), 1e-12)
    if weight is not None:
        w = check_weight(op, weight, p, "weight", "probabilities")
        each, slope = w * each, w * slope
    return reduce(each, slope, reduction, op, probabilities.dtype)


@ieee
def binary_cross_entropy_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the probabilities.

    With the constant s of the reduction::

        dprobabilities = dloss s w (p - t) / max(p (1 - p), 1e-12)
    """
    return scale_slope(dloss, cache, "binary_cross_entropy_backward")


@ieee
def kl_div(prediction: Array, target: Array, reduction: str = "mean", log_target: bool = False) -> tuple[Array, Cache]:
    """Return the Kullback-Leibler divergence from a target distribution, element by element.

    With x the log-probabilities of the model, such as log_softmax gives them, and t the probability that the target gives::

        l = t (log(t) - x)

    and 0 where t is 0. The slope is -t. With ``log_target`` the target holds log(t). Errors are those of
    :func:`minidl.ops.mse_loss`.

    Parameters
    ----------
    prediction : array
        The log-probabilities, floating-point, of any shape.
    target : array
        Probabilities, or with ``log_target`` their logarithms, of the same shape.
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        ``"batchmean"`` divides the sum by the length of the first axis, and so is the mean divergence of the examples.
        ``"mean"`` divides by the number of elements, as in PyTorch.
    log_target : bool, default False
        Whether the target holds logarithms.

    Returns
    -------
    loss : scalar of the dtype of ``prediction``, or an array of its shape for ``"none"``
    cache : (slope, s)

    References
    ----------
    S. Kullback, R. Leibler, "On information and sufficiency", Annals of Mathematical Statistics 22 (1951), equation 2.4.

    Examples
    --------
    >>> import numpy
    >>> q, p = numpy.log(numpy.array([[0.5, 0.5]])), numpy.array([[0.25, 0.75]])
    >>> loss, cache = kl_div(q, p, "batchmean")
    >>> round(float(loss), 6), kl_div_backward(1.0, cache)
    (0.130812, array([[-0.25, -0.75]]))
    """
    op = "kl_div"
    x, t = align(prediction, target, op, "prediction")
    xp = namespace(x)
    if log_target:
        log_t, t = t, xp.exp(t)
    else:
        log_t = xp.log(xp.where(t == 0, 1, t))
    each = xp.where((t == 0) & (x == x), 0, t * (log_t - x))  # 0 times an infinity is 0, and nan stays nan
    examples = x.shape[0] if x.ndim else 1
    more = {"batchmean": max(examples, 1)}
    return reduce(each, -t, reduction, op, prediction.dtype, more)


@ieee
def kl_div_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the prediction.

    With the constant s of the reduction::

        dprediction = -dloss s t
    """
    return scale_slope(dloss, cache, "kl_div_backward")
