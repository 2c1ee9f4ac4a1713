"""Independent results for each op: plain loops over Python floats, written from the definition.

Nothing here shares a line with the formulas. Nothing is stabilised either, because the catalogue draws moderate
inputs. Each oracle takes the op's own arguments and options and returns its y.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "each",
    "glu",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "linear",
    "log_softmax",
    "matmul",
    "mse_loss",
    "nll_loss",
    "softmax",
]

Index = tuple[int, ...]


def _indices(shape: Sequence[int]) -> Iterator[Index]:
    return itertools.product(*map(range, shape))


def _build(shape: Sequence[int], element: Callable[[Index], float]) -> numpy.ndarray:
    y = numpy.empty(tuple(shape))
    for index in _indices(shape):
        y[index] = element(index)
    return y


def each(function: Callable[..., float]) -> Callable[..., numpy.ndarray]:
    """Turn a function of one number (and options) into a function of arrays.

    >>> each(lambda x, times=2: times * x)(numpy.array([1.0, 2.0]), times=3)
    array([3., 6.])
    """
    return lambda x, *settings, **options: _build(x.shape, lambda i: function(float(x[i]), *settings, **options))


def glu(x: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Return a / (1 + exp(-b)), with a the first half along the axis and b the second."""
    at, half = axis % x.ndim, x.shape[axis] // 2

    def element(index: Index) -> float:
        return float(x[index]) / (1 + math.exp(-x[(*index[:at], index[at] + half, *index[at + 1 :])]))

    return _build((*x.shape[:at], half, *x.shape[at + 1 :]), element)


def softmax(x: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Return exp(x_i) / sum_j exp(x_j)."""
    return _build(x.shape, lambda i: math.exp(x[i]) / math.fsum(math.exp(v) for v in _line(x, i, axis)))


def log_softmax(x: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
    """Return x_i - log(sum_j exp(x_j))."""
    return _build(x.shape, lambda i: float(x[i]) - math.log(math.fsum(math.exp(v) for v in _line(x, i, axis))))


def _line(x: numpy.ndarray, index: Index, axis: int) -> list[float]:
    """Return the elements of x along an axis through an index."""
    axis %= x.ndim
    line = [(*index[:axis], j, *index[axis + 1 :]) for j in range(x.shape[axis])]
    return [float(x[place]) for place in line]


def dropout(x: numpy.ndarray, p: float, mask: numpy.ndarray) -> numpy.ndarray:
    """Return x / (1 - p) where the mask is True, 0 elsewhere."""
    return _build(x.shape, lambda i: float(x[i]) / (1 - p) if mask[i] and p < 1 else 0.0)


def matmul(a: numpy.ndarray, b: numpy.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> numpy.ndarray:
    """Return sum_k a_ik b_kj, each sum rounded once."""
    m, k = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    n = b.shape[-2] if transpose_b else b.shape[-1]

    def left(batch: Index, i: int, j: int) -> float:
        place = _broadcast(batch, a.shape[:-2]) + ((j, i) if transpose_a else (i, j))
        return float(a[place])

    def right(batch: Index, i: int, j: int) -> float:
        place = _broadcast(batch, b.shape[:-2]) + ((j, i) if transpose_b else (i, j))
        return float(b[place])

    def element(index: Index) -> float:
        *batch, i, j = index
        return math.fsum(left(tuple(batch), i, s) * right(tuple(batch), s, j) for s in range(k))

    return _build((*numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2]), m, n), element)


def _broadcast(index: Index, shape: Sequence[int]) -> Index:
    """Return the index to read in an array of this shape that is broadcast to a result read at ``index``."""
    own = index[len(index) - len(shape) :]
    return tuple(0 if size == 1 else i for i, size in zip(own, shape, strict=True))


def linear(x: numpy.ndarray, weight: numpy.ndarray, bias: numpy.ndarray | None = None) -> numpy.ndarray:
    """Return sum_i x_i w_oi + b_o."""

    def element(index: Index) -> float:
        row, o = index[:-1], index[-1]
        terms = [float(x[row][i]) * float(weight[o, i]) for i in range(weight.shape[1])]
        return math.fsum([*terms, 0.0 if bias is None else float(bias[o])])

    return _build((*x.shape[:-1], weight.shape[0]), element)


def _reduce(losses: list[float], shape: Sequence[int], reduction: str) -> Any:
    if reduction == "none":
        return numpy.array(losses).reshape(tuple(shape))
    total = math.fsum(losses)
    count = {"sum": 1, "mean": max(len(losses), 1), "batchmean": max(shape[0], 1) if shape else 1, "half_sum": 2}
    return total / count[reduction]


def _pairwise(function: Callable[..., float]) -> Callable[..., Any]:
    """Turn the loss of one prediction and target into a loss of arrays."""

    def loss(prediction: numpy.ndarray, target: numpy.ndarray, reduction: str = "mean", **options: Any) -> Any:
        pairs = zip(prediction.ravel().tolist(), target.ravel().tolist(), strict=True)
        return _reduce([function(p, t, **options) for p, t in pairs], prediction.shape, reduction)

    return loss


@_pairwise
def mse_loss(p: float, t: float) -> float:
    """Return (p - t)^2."""
    return (p - t) ** 2


@_pairwise
def l1_loss(p: float, t: float) -> float:
    """Return abs(p - t)."""
    return abs(p - t)


@_pairwise
def huber_loss(p: float, t: float, delta: float = 1.0) -> float:
    """Return d^2 / 2 for d = abs(p - t) up to delta, else delta (d - delta / 2)."""
    d = abs(p - t)
    return d * d / 2 if d <= delta else delta * d - delta * delta / 2


def binary_cross_entropy_with_logits(
    logits: numpy.ndarray,
    target: numpy.ndarray,
    weight: numpy.ndarray | None = None,
    pos_weight: numpy.ndarray | None = None,
    reduction: str = "mean",
) -> Any:
    """Return -w (q t log p + (1 - t) log(1 - p)) with p = 1 / (1 + exp(-x))."""
    target = target.reshape(logits.shape)
    losses = []
    for index in _indices(logits.shape):
        x, t = float(logits[index]), float(target[index])
        w = 1.0 if weight is None else float(weight[_broadcast(index, weight.shape)])
        q = 1.0 if pos_weight is None else float(pos_weight[_broadcast(index, pos_weight.shape)])
        p = 1 / (1 + math.exp(-x))
        losses.append(-w * (q * t * math.log(p) + (1 - t) * math.log(1 - p)))
    return _reduce(losses, logits.shape, reduction)


def cross_entropy(
    logits: numpy.ndarray,
    target: numpy.ndarray,
    weight: numpy.ndarray | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """Return -sum_k q_k log p_k; the mean divides by the total weight of the targets that count."""
    axis = min(logits.ndim - 1, 1)
    classes = logits.shape[axis]
    shape = (*logits.shape[:axis], *logits.shape[axis + 1 :])
    probabilities = target.dtype.kind == "f"
    losses, total = [], 0.0
    for index in _indices(shape):
        line = _line(logits, (*index[:axis], 0, *index[axis:]), axis)
        log_p = [x - math.log(math.fsum(map(math.exp, line))) for x in line]
        w = [1.0 if weight is None else float(weight[k]) for k in range(classes)]
        if probabilities:
            t = _line(target, (*index[:axis], 0, *index[axis:]), axis)
            total += 1.0
        elif target[index] == ignore_index:
            losses.append(0.0)
            continue
        else:
            t = [float(k == target[index]) for k in range(classes)]
            total += w[int(target[index])]
        smooth = [(1 - label_smoothing) * t[k] + label_smoothing / classes for k in range(classes)]
        losses.append(-math.fsum(w[k] * smooth[k] * log_p[k] for k in range(classes)))
    if reduction == "mean":
        return math.fsum(losses) / total
    return _reduce(losses, shape, reduction)


def nll_loss(
    prediction: numpy.ndarray,
    target: numpy.ndarray,
    weight: numpy.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """Return -w_c x_c at the class c of each row; the mean divides by the total weight of the targets that count."""
    axis = min(prediction.ndim - 1, 1)
    losses, total = [], 0.0
    for index in _indices(target.shape):
        c = int(target[index])
        if c == ignore_index:
            losses.append(0.0)
            continue
        w = 1.0 if weight is None else float(weight[c])
        place = (*index[:axis], c, *index[axis:])
        losses.append(-w * float(prediction[place]))
        total += w
    return math.fsum(losses) / total if reduction == "mean" else _reduce(losses, target.shape, reduction)


def binary_cross_entropy(
    probabilities: numpy.ndarray, target: numpy.ndarray, weight: numpy.ndarray | None = None, reduction: str = "mean"
) -> Any:
    """Return -w (t log p + (1 - t) log(1 - p)), no logarithm below -100."""
    target = target.reshape(probabilities.shape)

    def log(p: float) -> float:
        return max(math.log(p), -100.0) if p > 0 else -100.0

    losses = []
    for index in _indices(probabilities.shape):
        p, t = float(probabilities[index]), float(target[index])
        w = 1.0 if weight is None else float(weight[_broadcast(index, weight.shape)])
        losses.append(-w * (t * log(p) + (1 - t) * log(1 - p)))
    return _reduce(losses, probabilities.shape, reduction)


@_pairwise
def kl_div(x: float, t: float, log_target: bool = False) -> float:
    """Return t (log t - x)."""
    t = math.exp(t) if log_target else t
    return t * (math.log(t) - x) if t > 0 else 0.0
