"""The gradient check: compare a backward with the numeric derivative of its forward."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy

from minidl import engines, ops
from minidl.errors import DtypeError, ParameterError, UnknownNameError
from minidl.testing.audit import audit
from minidl.testing.compare import Comparison, Settings, compare
from minidl.testing.diagnosis import diagnose
from minidl.testing.numeric import default_tolerance, scale_of
from minidl.testing.randomness import frozen
from minidl.testing.report import Report, Row
from minidl.testing.specs import SPECS
from minidl.testing.subjects import FunctionSubject, LayerSubject, LossSubject, Subject, is_loss

__all__ = ["gradcheck"]

COMPLEX_TOLERANCE = 2.0**-40
"""A complex step leaves only the rounding of the function itself and of the analytic gradient."""
MOVE = 0.05
"""How far to move a point off a kink, relative to its scale."""
UNRESOLVED = (
    "No trustworthy numeric derivative: the forward has a kink or a jump here, or is not smooth in its last digits (is "
    "part of it computed in a lower precision?)"
)


def gradcheck(
    subject: Any,
    *arrays: Any,
    method: str = "central",
    tolerance: float | None = None,
    eps: float | None = None,
    differentiable: Iterable[str | int] | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_resamples: int = 5,
    raise_exception: bool = True,
    name: str | None = None,
) -> Report:
    """Check the gradients that a backward computes against numeric derivatives of its forward.

    Every floating-point input and every parameter is checked, in float64 whatever the precision of the layer. Small arguments
    are compared element by element (up to 64 outputs: the full Jacobian), large ones along random directions. The upstream
    gradients are random too. Backward must also leave its inputs, dy, the cache and the parameters unchanged. When called
    again, it must return the same gradients and add the same parameter gradients again. It must keep shapes and dtypes.

    Parameters
    ----------
    subject : tuple, str, callable or object
        What to check:

        * a pair ``(forward, backward)`` of functions: ``forward(*arrays) -> (y, cache)``, and ``backward(dy, cache)`` which
          returns one gradient for each floating-point input;
        * the name of an op such as ``"relu"``, or the op itself, or a function of your own with a ``NAME_backward`` in the
          same module;
        * a layer or a model: ``forward(x)``, ``backward(dy)`` and, if it has any, ``parameters()``;
        * a loss: ``forward(prediction, target)`` and ``backward()``.
    *arrays : array
        The point at which to check, of any floating dtype. Integer arrays are passed on and have no gradient.
    method : {"central", "complex"}, default "central"
        ``"central"`` uses differences of order four. ``"complex"`` uses the complex step, which is exact to rounding; it needs
        a pair of functions that are written against ``minidl.ops.namespace(x)``, as the formulas are.
    tolerance : float, optional
        The largest relative error that passes. By default half of the digits: the square root of the machine epsilon,
        1.5e-8 in float64.
    eps : float, optional
        The step; derived from dtype and scale by default. See ``minidl.testing.numeric``.
    differentiable : iterable of str or int, optional
        Names or positions of the inputs that have a gradient; all floating-point inputs by default.
    options : dict, optional
        Keyword arguments of a function's forward.
    seed : int, default 0
        Seed of the random upstream gradients and directions.
    max_resamples : int, default 5
        How often to move off a kink of the forward before giving up.
    raise_exception : bool, default True
        Whether to raise if something is wrong, or only to report it.
    name : str, optional
        The name of the subject in the report.

    Returns
    -------
    report : Report
        Has ``.ok``, ``.max_error`` and ``.table``; prints as a table.

    Raises
    ------
    GradcheckError
        If a gradient is wrong. Names the argument, the index, the analytic and the numeric value, and the relative error.
    ParameterError
        If ``subject`` is none of the above.

    Notes
    -----
    A layer is checked on a deep copy in float64; yours is not touched. If it computes in float32 even then, the check falls back
    to float32 and its tolerance, and the report says so. Random layers (dropout in training) are made to repeat themselves; see
    ``minidl.testing.randomness``.

    Examples
    --------
    >>> import numpy, minidl
    >>> x = numpy.random.default_rng(0).normal(size=(3, 4))
    >>> minidl.gradcheck("softmax", x).ok
    True
    >>> def square(x):
    ...     return x * x, x
    >>> def square_backward(dy, x):
    ...     return 3 * x * dy
    >>> report = minidl.gradcheck((square, square_backward), x, raise_exception=False)
    >>> report.ok
    False
    >>> print(report.table[0].problem)
    Everywhere 1.5 times what it should be: a factor is missing or too much.
    """
    if method not in ("central", "complex"):
        raise UnknownNameError.among("method", method, ["central", "complex"])
    make = _make_factory(subject, arrays, differentiable, options, name)
    checked = make("float64")
    if method == "complex" and not isinstance(checked, FunctionSubject):
        raise ParameterError("gradcheck: the complex step works only on a function pair")
    with frozen(checked.owner) as rewind:
        checked.rewind = rewind
        if method == "central":
            checked = _match_precision(checked, make)
        checked.rewind = rewind
        report = _check(checked, method, tolerance, eps, seed, max_resamples)
    return report.check() if raise_exception else report


def _make_factory(
    subject: Any,
    arrays: tuple[Any, ...],
    differentiable: Iterable[str | int] | None,
    options: Mapping[str, Any] | None,
    name: str | None,
) -> Callable[[str], Subject]:
    """Return a function that creates the subject in a given precision."""
    for array in arrays:
        if getattr(getattr(array, "dtype", None), "kind", "f") not in "fiub":
            raise DtypeError(f"gradcheck: inputs must hold real numbers, got dtype {array.dtype}")
    if isinstance(subject, type):
        raise ParameterError(f"gradcheck: got the class {subject.__name__}; create it first: {subject.__name__}(...)")
    if hasattr(subject, "forward") and hasattr(subject, "backward"):
        kind = LossSubject if is_loss(subject) else LayerSubject
        return lambda dtype: kind(subject, arrays, dtype=dtype, name=name)
    forward, backward = _pair(subject)
    if differentiable is None:
        differentiable = _find_differentiable(forward, arrays)
    return lambda dtype: FunctionSubject(
        forward, backward, arrays, options=options, differentiable=differentiable, dtype=dtype, name=name
    )


def _pair(subject: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return forward and backward of anything that names a function."""
    if isinstance(subject, tuple) and len(subject) == 2 and all(map(callable, subject)):
        return subject[0], subject[1]
    if isinstance(subject, str):
        known = [op for op in ops.FORMULAS if f"{op}_backward" in ops.FORMULAS]
        if subject not in known:
            raise UnknownNameError.among("op", subject, known)
        return getattr(ops, subject), getattr(ops, f"{subject}_backward")
    if inspect.isfunction(subject):
        backward = f"{subject.__name__}_backward"
        beside = vars(ops) if getattr(ops, subject.__name__, None) is subject else inspect.unwrap(subject).__globals__
        if callable(beside.get(backward)):
            return subject, beside[backward]
        raise ParameterError(
            f"gradcheck: there is no {backward} beside {subject.__name__}; give the pair (forward, backward)"
        )
    raise ParameterError(
        "gradcheck: expected a pair (forward, backward), the name of an op, a function with a NAME_backward beside it, "
        f"or an object with forward and backward; got {type(subject).__name__}"
    )


def _find_differentiable(forward: Callable[..., Any], arrays: tuple[Any, ...]) -> list[int] | None:
    """Return the positions of the arguments of one of our ops that have a gradient, by the catalogue."""
    name = getattr(forward, "__name__", "")
    ours = (getattr(ops, name, None), ops.FORMULAS.get(name), getattr(engines.current(), name, None))
    if name not in SPECS or forward not in ours:
        return None
    return SPECS[name].present(arrays)


def _match_precision(subject: Subject, make: Callable[[str], Subject]) -> Subject:
    """Return the subject, or one in float32 if its outputs are float32 although all its arguments are float64."""
    if subject.dtype == numpy.float64:
        outputs = [y for y in subject.forward(subject.values) if y.dtype.kind == "f"]
        lowest = min((y.dtype for y in outputs), key=lambda dtype: dtype.itemsize, default=subject.dtype)
        if lowest.itemsize >= 8:
            return subject
        subject = make(str(lowest))
    subject.notes.append(
        f"note: {subject.name} computes in {subject.dtype} even when given float64, so it was checked in "
        f"{subject.dtype}, to a tolerance of {default_tolerance(subject.dtype):.1e} instead of "
        f"{default_tolerance('float64'):.1e}."
    )
    return subject


def _check(
    subject: Subject, method: str, tolerance: float | None, eps: float | None, seed: int, max_resamples: int
) -> Report:
    if tolerance is None:
        tolerance = COMPLEX_TOLERANCE if method == "complex" else default_tolerance(subject.dtype)
    # Relative to this share of the largest element, rounding leaves all the digits that the tolerance needs.
    floor = 1.0 if method == "complex" else math.sqrt(default_tolerance(subject.dtype))
    settings = Settings(method, tolerance, floor, eps)
    random = numpy.random.default_rng([seed, 2])
    values = subject.values
    problems = audit(subject, values, seed)
    if problems:  # differences would say the same less clearly, or nothing
        return Report(tuple(problems), tuple(subject.notes))
    for _ in range(max_resamples + 1):
        found = compare(subject, values, settings, seed)
        if not any(comparison.unresolved for comparison in found):
            break
        values = [value + MOVE * scale_of(value) * random.uniform(-1, 1, value.shape) for value in values]
        values = [value.astype(subject.dtype) for value in values]
    return Report(
        tuple(_row(subject, comparison, tolerance) for comparison in found), tuple(dict.fromkeys(subject.notes))
    )


def _row(subject: Subject, found: Comparison, tolerance: float) -> Row:
    shape = subject.values[found.argument].shape
    analytic, numeric, error = found.worst
    problem = ""
    if found.unresolved:
        problem = UNRESOLVED
    elif error > tolerance:
        problem = diagnose(found.analytic, found.numeric, shape, found.full)
    return Row(
        op=subject.name,
        argument=subject.names[found.argument],
        shape=shape,
        index=found.index,
        analytic=analytic,
        numeric=numeric,
        error=error,
        tolerance=tolerance,
        method=found.method,
        dtype=str(subject.dtype),
        problem=problem,
    )
