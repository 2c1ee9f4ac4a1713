"""What a backward must do besides being right: change nothing, repeat itself, keep shapes and dtypes."""

from __future__ import annotations

import numpy

from minidl.testing.report import Row
from minidl.testing.subjects import Subject
from minidl.weights import to_host

__all__ = ["audit"]

NOT_REPEATING = (
    "two calls of forward with the same inputs differ, so differences of outputs are meaningless; draw random numbers "
    "from a numpy.random.Generator kept in an attribute, or from minidl.random.generator(), or switch to evaluation "
    "with .eval()"
)


def audit(subject: Subject, values: list[numpy.ndarray], seed: int) -> list[Row]:
    """Return a row for each violation."""
    outputs = subject.forward(values)
    problems = [
        (name, "forward changes it")
        for name, old, new in zip(subject.names, values, subject.passed(), strict=True)
        if not _is_same(old, new)
    ]
    if not all(_is_same(one, other) for one, other in zip(outputs, subject.forward(values), strict=True)):
        problems.append(("y", NOT_REPEATING))
    random = numpy.random.default_rng([seed, 0])
    upstream = [numpy.asarray(random.standard_normal(y.shape)) for y in outputs]
    before = [(name, array, numpy.array(to_host(array))) for name, array in subject.watched()]
    gradients = subject.backward(upstream)
    problems += [(name, "backward changes it") for name, array, old in before if not _is_same(to_host(array), old)]
    problems += _check_upstream(subject, upstream)
    problems += _check_shapes(subject, values, gradients)
    problems += _check_repetition(subject, gradients, subject.backward(upstream, accumulate=True))
    if not problems and subject.returned() and _reads_its_output(subject, values, upstream, gradients):
        subject.notes.append(
            f"note: backward of {subject.name} reads the array that forward returned; do not change it in place before "
            "backward."
        )
    return [
        Row(subject.name, argument, problem=f"{problem}.", dtype=str(subject.dtype))
        for argument, problem in dict.fromkeys(problems)
    ]


def _is_same(one: numpy.ndarray, other: numpy.ndarray) -> bool:
    return one.shape == other.shape and numpy.array_equal(one, other, equal_nan=True)


def _check_upstream(subject: Subject, upstream: list[numpy.ndarray]) -> list[tuple[str, str]]:
    given = [to_host(array) for array in subject.given_upstream()]
    changed = any(not _is_same(new, old.astype(new.dtype)) for new, old in zip(given, upstream, strict=False))
    return [("dy", "backward changes it")] if changed else []


def _check_shapes(
    subject: Subject, values: list[numpy.ndarray], gradients: list[numpy.ndarray]
) -> list[tuple[str, str]]:
    problems = []
    for name, value, gradient in zip(subject.names, values, gradients, strict=True):
        if gradient.shape != value.shape:
            problems.append((name, f"its gradient has shape {gradient.shape}, the argument {value.shape}"))
        elif gradient.dtype != value.dtype:
            problems.append((name, f"its gradient has dtype {gradient.dtype}, the argument {value.dtype}"))
    return problems


def _is_doubled(once: numpy.ndarray, twice: numpy.ndarray) -> bool:
    """Whether the gradient was added again; the last bits may differ, because a kernel may add inside its sums."""
    if not numpy.isfinite(once).all():
        return _is_same(2 * once, twice)
    allowed = 64 * numpy.finfo(once.dtype).eps * numpy.max(numpy.abs(once), initial=0.0)
    return bool((numpy.abs(2 * once - twice) <= allowed).all())


def _check_repetition(
    subject: Subject, gradients: list[numpy.ndarray], repeated: list[numpy.ndarray]
) -> list[tuple[str, str]]:
    """Compare a second backward with the first: the same gradient for inputs, twice the gradient for parameters."""
    problems = []
    for name, once, twice, expected in zip(subject.names, gradients, repeated, subject.repetition(), strict=True):
        same, added = _is_same(once, twice), _is_doubled(once, twice)
        if expected == "same" and not same:
            problems.append((name, "a second call of backward gives another gradient"))
        elif (expected == "added" and not added) or not (same or added):
            problems.append((name, "a second call of backward does not add the same gradient again"))
        elif expected == "either" and not added:
            subject.notes.append(
                f"note: backward overwrites the gradient of {name} instead of adding to it; adding up over several "
                "batches will not work."
            )
    return problems


def _reads_its_output(
    subject: Subject, values: list[numpy.ndarray], upstream: list[numpy.ndarray], gradients: list[numpy.ndarray]
) -> bool:
    """Whether another gradient comes back if the caller changes what forward returned."""
    subject.forward(values)
    for output in subject.returned():
        if getattr(getattr(output, "flags", None), "writeable", True):
            output[...] = 2 * output + 1
    try:
        changed = subject.backward(upstream)
    except Exception:  # whatever backward makes of it, it has read it
        return True
    return not all(_is_same(one, other) for one, other in zip(gradients, changed, strict=True))
