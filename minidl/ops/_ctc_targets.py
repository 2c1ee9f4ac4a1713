"""The checks of what the CTC loss is given: labels, lengths, and whether each target fits into its input."""

from __future__ import annotations

from typing import Any, NoReturn

from minidl.errors import DtypeError, ParameterError, ShapeError, TargetError
from minidl.ops._later import are_later, refuse_any
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["check_targets"]

OP = "ctc_loss"


def check_targets(
    log_probs: Array, targets: Array, input_lengths: Array, target_lengths: Array, blank: int, zero_infinity: bool
) -> tuple[Array, Array, Array]:
    """Return the labels (N, S), with the blank as padding, and both lengths (N,).

    Raises
    ------
    DtypeError, ShapeError, ParameterError, TargetError
        Unless all fits; see :func:`minidl.ops.ctc.ctc_loss`.
    """
    _, t, k = _check_kinds(log_probs, targets, input_lengths, target_lengths, blank)
    steps, counts = input_lengths.astype("int64"), target_lengths.astype("int64")
    labels = targets.astype("int64") if targets.ndim == 2 else _unpack(targets.astype("int64"), counts)
    xp = namespace(labels)
    s = labels.shape[1]
    counted = xp.arange(s) < counts[:, None]  # (N, S)
    needed = counts + ((labels[:, 1:] == labels[:, :-1]) & counted[:, 1:]).sum(axis=1)
    checks: list[tuple[Array, Array, str, type[Exception]]] = [
        ((steps < 0) | (steps > t), steps, f"input_lengths must be from 0 to {t}, the T of log_probs", ShapeError),
        ((counts < 0) | (counts > s), counts, f"target_lengths must be from 0 to {s}, the S of targets", ShapeError),
        (
            counted & ((labels < 0) | (labels >= k) | (labels == blank)),
            labels,
            f"targets must be classes from 0 to {k - 1} other than the blank, {blank}",
            TargetError,
        ),
    ]
    if not zero_infinity:
        too_long = (
            "a target needs a step for each label, and one more between equal labels; give it as many in input_lengths, leave "
            "the example out, or pass zero_infinity=True; steps needed"
        )
        checks.append((needed > steps, needed, too_long, TargetError))

    def complain() -> NoReturn:
        for bad, values, message, error in checks:
            if bool(bad.any()):
                first = int(bad.ravel().argmax())
                row, column = divmod(first, s) if bad.ndim == 2 else (first, None)
                place = row if column is None else (row, column)
                raise error(f"{OP}: {message}; got {int(values.ravel()[first])} at index {place}")
        raise AssertionError("unreachable: some check failed")

    refuse_any(xp.stack([bad.any() for bad, _, _, _ in checks]), complain)
    if are_later(labels):
        labels, counts = xp.clip(labels, 0, k - 1), xp.clip(counts, 0, s)
    return xp.where(counted, labels, blank), steps, counts


def _check_kinds(
    log_probs: Array, targets: Any, input_lengths: Any, target_lengths: Any, blank: int
) -> tuple[int, ...]:
    """Return N, T and K; raise unless dtypes and numbers of axes are right."""
    require_float(log_probs, "log_probs", OP)
    if log_probs.ndim != 3 or not log_probs.shape[2]:
        raise ShapeError(f"{OP}: log_probs must have shape (N, T, K) with classes, got {log_probs.shape}")
    n, _, k = log_probs.shape
    if isinstance(blank, bool) or not 0 <= blank < k:
        raise ParameterError(f"{OP}: blank must be one of the {k} classes, 0 to {k - 1}, got {blank!r}")
    lengths = {"input_lengths": input_lengths, "target_lengths": target_lengths}
    for name, array in {"targets": targets, **lengths}.items():
        kind = getattr(getattr(array, "dtype", None), "kind", "")
        if kind not in ("i", "u"):
            came = f"dtype {array.dtype}" if kind else type(array).__name__
            raise DtypeError(f"{OP}: {name} must be an array of integers, got {came}")
    for name, array in lengths.items():
        if array.shape != (n,):
            raise ShapeError(f"{OP}: {name} must have shape {(n,)}, one for each example, got {array.shape}")
    if targets.ndim not in (1, 2) or (targets.ndim == 2 and len(targets) != n):
        raise ShapeError(f"{OP}: targets must have shape ({n}, S) or (sum of target_lengths,), got {targets.shape}")
    return log_probs.shape


def _unpack(targets: Array, counts: Array) -> Array:
    """Return labels that are stored one sequence after another as rows, (N, S)."""
    xp = namespace(targets)
    lengths = counts.tolist()  # another transfer: the shape of the rows depends on it
    total, longest = sum(lengths), max(lengths, default=0)
    if min(lengths, default=0) < 0 or total != len(targets):
        raise ShapeError(
            f"{OP}: targets one after another must have shape (sum of target_lengths,), ({total},), got {targets.shape}"
        )
    if not total:
        return xp.zeros((len(counts), 0), dtype="int64")
    places = (xp.cumsum(counts) - counts)[:, None] + xp.arange(longest)  # (N, S)
    return targets[xp.minimum(places, total - 1)]
