"""Independent results for CTC: every alignment of a target, one after another."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy

__all__ = ["ctc_loss"]


def _spell(path: tuple[int, ...], blank: int) -> list[int]:
    """Return the labels that a path of classes spells: repetitions merged, then blanks left out."""
    return [label for label, _ in itertools.groupby(path) if label != blank]


def ctc_loss(
    log_probs: numpy.ndarray,
    targets: numpy.ndarray,
    input_lengths: numpy.ndarray,
    target_lengths: numpy.ndarray,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """Return -log of the sum of the probabilities of all K^T paths that spell the target."""
    losses = []
    for n, (steps, count) in enumerate(zip(input_lengths.tolist(), target_lengths.tolist(), strict=True)):
        paths = itertools.product(range(log_probs.shape[2]), repeat=steps)
        spelling = [path for path in paths if _spell(path, blank) == targets[n, :count].tolist()]
        total = math.fsum(
            math.exp(math.fsum(float(log_probs[n, t, k]) for t, k in enumerate(path))) for path in spelling
        )
        losses.append(-math.log(total) if total else 0.0 if zero_infinity else math.inf)
    if reduction == "none":
        return numpy.array(losses)
    if reduction == "sum":
        return math.fsum(losses)
    return math.fsum(loss / max(count, 1) for loss, count in zip(losses, target_lengths.tolist(), strict=True)) / len(
        losses
    )
