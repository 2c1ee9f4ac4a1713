"""Losses of one element at a time."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.engines.cuda.dispatch import NOT_TAKEN, dense, is_taken, new, number, override, wide
from minidl.engines.cuda.source import launch
from minidl.ops import Array

__all__: list[str] = []

FILE = "loss/losses.cu"
THREADS = 256
MOST_PARTS, OF_PART = 256, 4096
"""Blocks, and elements that are worth one: by the number of elements alone, so that bits repeat."""


def _loss(
    kernel: str,
    prediction: Any,
    target: Any,
    reduction: Any,
    divisors: dict[str, float] | None = None,
    limit: Any = 0.0,
) -> Any:
    """Return a loss and its cache (slope, s)."""
    if not is_taken(prediction, target) or not prediction.size or not _aligned(prediction.shape, target.shape):
        return NOT_TAKEN
    n = prediction.size
    known = {"mean": n, "sum": 1, "none": 1, **(divisors or {})}
    if not isinstance(reduction, str) or reduction not in known:
        return NOT_TAKEN
    divisor = float(known[reduction])
    p, t = dense(prediction), dense(target)
    slope, each = new(p), new(p) if reduction == "none" else None
    parts = min(-(-n // OF_PART), MOST_PARTS)
    partials = new(p, (parts,), wide(p))
    launch(FILE, kernel, p.dtype, parts, THREADS, p, t, slope, each, partials, n, float(limit))
    if each is not None:
        return each, (slope, 1.0)
    loss = new(p, ())
    launch(FILE, "loss_total", p.dtype, 1, THREADS, partials, numpy.int32(parts), divisor, loss)
    return loss, (slope, 1.0 / divisor)


def _aligned(p: tuple[int, ...], t: tuple[int, ...]) -> bool:
    """Whether the shapes agree, or are (N, 1) and (N,) either way round."""
    shorter, longer = sorted((tuple(p), tuple(t)), key=len)
    return shorter == longer or (len(longer) == 2 and longer == (*shorter, 1))


@override("mse_loss")
def mse_loss(prediction: Any, target: Any, reduction: Any = "mean") -> Any:
    """See ``minidl.ops.loss.mse_loss``. Loss and slope in one pass."""
    return _loss("squared_error", prediction, target, reduction, {"half_sum": 2})


@override("l1_loss")
def l1_loss(prediction: Any, target: Any, reduction: Any = "mean") -> Any:
    """See ``minidl.ops.loss.l1_loss``. Loss and slope in one pass."""
    return _loss("absolute_error", prediction, target, reduction)


@override("huber_loss")
def huber_loss(prediction: Any, target: Any, delta: Any = 1.0, reduction: Any = "mean") -> Any:
    """See ``minidl.ops.loss.huber_loss``. Loss and slope in one pass."""
    if not number(delta) or not delta > 0:
        return NOT_TAKEN
    return _loss("huber", prediction, target, reduction, limit=delta)


@override("binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(
    logits: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: Any = "mean"
) -> Any:
    """See ``minidl.ops.loss.binary_cross_entropy_with_logits``. Loss and slope in one pass; weighted, the formula."""
    if weight is not None or pos_weight is not None:
        return NOT_TAKEN
    return _loss("logit_cross_entropy", logits, target, reduction)


@override("binary_cross_entropy")
def binary_cross_entropy(probabilities: Any, target: Any, weight: Any = None, reduction: Any = "mean") -> Any:
    """See ``minidl.ops.likelihood.binary_cross_entropy``. Loss and slope in one pass; weighted, the formula."""
    return NOT_TAKEN if weight is not None else _loss("probability_cross_entropy", probabilities, target, reduction)


@override("kl_div")
def kl_div(prediction: Any, target: Any, reduction: Any = "mean", log_target: Any = False) -> Any:
    """See ``minidl.ops.likelihood.kl_div``. Loss and slope in one pass; logarithms as targets go to the formula."""
    if log_target is not False:
        return NOT_TAKEN
    rows: Array = getattr(prediction, "shape", ())
    return _loss("kullback_leibler", prediction, target, reduction, {"batchmean": rows[0] if rows else 1})
