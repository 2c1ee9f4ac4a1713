"""Agreement of an engine with the formulas, and of the formulas with the oracles.

The engine computes in some dtype. The reference is the formula applied in float64 to the very same elements. Two results
agree if they differ by less than::

    eps (r + 2 sqrt(n)) s + (the smallest normal number)

with the machine epsilon eps of the dtype, the r other roundings that the catalogue allows the op, and the length n of its
longest sum, whose rounding errors grow like a random walk. The scale s is the element itself for the forward of an
elementwise op, and otherwise the largest element of the array.

Where products round their operands to bfloat16, so do those of the reference: its operands and upstream gradients are rounded
before they become float64. The products of rounded numbers are exact, so the bound is the same, that of the sums. An engine may
make zero of subnormal sums there, which the smallest normal number covers.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from minidl.ops import FORMULAS, Array
from minidl.ops._checks import widen_float16
from minidl.ops.precision import matmul_precision, round_operand
from minidl.testing.report import Row
from minidl.testing.specs import Case, OpSpec
from minidl.testing.updates import UpdateCase, UpdateSpec, run

__all__ = ["agreement", "as_dtype", "compared", "oracle_agreement", "update_agreement", "upstream_like"]

UPDATE_STEPS = 4


def as_dtype(arguments: Sequence[Any], dtype: Any) -> list[Any]:
    """Convert the floating-point arrays among the arguments to a dtype."""
    return [a.astype(dtype) if getattr(getattr(a, "dtype", None), "kind", "") == "f" else a for a in arguments]


def to_engine(engine: Any, arguments: Sequence[Any]) -> list[Any]:
    """Move the arrays among the arguments to the engine."""
    return [engine.asarray(a) if isinstance(a, numpy.ndarray) else a for a in arguments]


def upstream_like(y: Any, dtype: Any, seed: int = 0, reduced: bool = False) -> Any:
    """Draw an upstream gradient for an output; a Python float for a loss that was reduced to one, as users pass it."""
    dy = numpy.asarray(numpy.random.default_rng([seed, 7]).standard_normal(numpy.shape(y)))
    return float(dy.astype("float16")) if reduced and dy.ndim == 0 else dy.astype(dtype)


def agreement(
    engine: Any,
    spec: OpSpec,
    case: Case,
    dtype: Any,
    arguments: Sequence[Any] | None = None,
    layout: Callable[[Array], Array] | None = None,
    precision: str = "highest",
) -> list[Row]:
    """Compare forward and backward of an engine with the formula; one row for y and one for each gradient.

    Parameters
    ----------
    engine : Engine
    spec : OpSpec
    case : Case
    dtype : dtype
        The dtype in which the engine computes.
    arguments : sequence, optional
        Arguments on the host, in that dtype; drawn by the case by default.
    layout : callable, optional
        Applied to each array on the engine; see ``minidl.testing.layouts``.
    precision : {"highest", "bfloat16"}, default "highest"
        The precision of products in which the engine computes. With ``"bfloat16"`` many of the numbers drawn are ties.
    """
    layout = layout or (lambda array: array)
    rounds = precision == "bfloat16" and numpy.dtype(dtype) == numpy.float32
    if arguments is None:
        arguments = as_dtype(spec.arguments(case), dtype)
        arguments = [_with_ties(a) for a in arguments] if rounds else arguments
    given = [layout(a) if hasattr(a, "dtype") else a for a in to_engine(engine, arguments)]
    with matmul_precision(precision):
        y, cache = spec.forward(engine)(*given, **case.options)
    multiplied = [name in spec.operands for name in inspect.signature(FORMULAS[spec.name]).parameters]
    read = [_rounded(a) if rounds and m else a for a, m in zip(arguments, multiplied, strict=False)]
    exact = as_dtype(read, "float64")
    y_true, cache_true = spec.forward()(*exact, **case.options)
    allowed = spec.rounding + 2 * math.sqrt(spec.terms(*exact, **case.options))
    magnitude = spec.magnitude(*exact, **case.options)
    title = f"{spec.name} ({case.name})"
    rows = [_row(title, "y", engine, y, y_true, dtype, allowed, magnitude, spec.elementwise)]
    if not rows[0].method:  # wrong dtype or shape: backward would get an unexpected dy
        return rows
    dy = upstream_like(y_true, dtype, reduced=numpy.ndim(exact[0]) > 0)
    dy = _with_ties(dy) if rounds else dy
    dy_placed = layout(engine.asarray(dy)).astype(y.dtype, copy=False) if isinstance(dy, numpy.ndarray) else dy
    with matmul_precision(precision):
        gradients = _tuple(spec.backward(engine)(dy_placed, cache))
    dy_exact = dy.astype("float64") if isinstance(dy, numpy.ndarray) else dy
    gradients_true = _tuple(spec.backward()(dy_exact, cache_true))
    first = len(gradients_true) - len(spec.differentiable)  # inputs without gradient, such as ids, come before
    if rounds:
        of_products = _tuple(spec.backward()(_rounded(dy).astype("float64"), cache_true))
        names = (*("",) * first, *spec.differentiable)
        triples = zip(names, of_products, gradients_true, strict=True)
        gradients_true = tuple(ours if name in spec.operands else plain for name, ours, plain in triples)
    slope = spec.slope(*exact, **case.options) * float(numpy.max(numpy.abs(dy), initial=0.0))
    for name, found, true in zip(spec.differentiable, gradients[first:], gradients_true[first:], strict=True):
        if true is not None:
            rows.append(_row(title, f"d{name}", engine, found, true, dtype, allowed, slope))
    return rows


def _with_ties(x: Any) -> Any:
    """Cut every second float32 off after its 9th digit, so that half of those are halfway between two bfloat16."""
    if not isinstance(x, numpy.ndarray) or x.dtype.kind != "f":
        return x
    bits = x.copy(order="C").view("uint32")
    bits.reshape(-1)[::2] &= 0xFFFF8000
    return bits.view("float32")


def _rounded(x: Any) -> Any:
    return round_operand(x) if isinstance(x, numpy.ndarray) and x.dtype.kind == "f" else x


def _tuple(gradients: Any) -> tuple[Any, ...]:
    return gradients if isinstance(gradients, tuple) else (gradients,)


def _row(
    title: str,
    what: str,
    engine: Any,
    found: Array,
    true: Array,
    dtype: Any,
    allowed: float,
    magnitude: float = 0.0,
    elementwise: bool = False,
) -> Row:
    problem = ""
    if numpy.dtype(found.dtype).newbyteorder("=") != numpy.dtype(dtype):  # the byte order is free
        problem = f"It has dtype {found.dtype} instead of {numpy.dtype(dtype)}."
    elif found.shape != true.shape:
        problem = f"It has shape {found.shape} instead of {true.shape}."
    if problem:
        return Row(title, what, true.shape, problem=problem, engine=engine.name, dtype=str(numpy.dtype(dtype)))
    return compared(title, what, engine.to_host(found), true, dtype, allowed, magnitude, elementwise, engine.name)


def compared(
    title: str,
    what: str,
    found: numpy.ndarray,
    true: numpy.ndarray,
    dtype: Any,
    allowed: float,
    magnitude: float = 0.0,
    elementwise: bool = False,
    engine: str = "",
) -> Row:
    """Compare two arrays; the error and the tolerance of the row are relative to the scale.

    Parameters
    ----------
    title : str
        The op and the case.
    what : str
        The result that is compared, such as ``"y"`` or ``"dx"``.
    found, true : numpy.ndarray
    dtype : dtype
    allowed : float
        In units of the machine epsilon.
    magnitude : float, default 0.0
        The scale, if it is larger than the elements.
    elementwise : bool, default False
        Whether to compare each element with its own size instead of with the largest.
    engine : str, default ""
    """
    information = numpy.finfo(dtype)
    true, found = numpy.asarray(true, dtype="float64"), numpy.asarray(found).astype("float64")
    tolerance = float(information.eps) * allowed
    finite = numpy.where(numpy.isfinite(true), numpy.abs(true), 0.0)
    size = finite if elementwise else numpy.max(finite, initial=0.0)
    scale = numpy.maximum(size, magnitude) + float(information.tiny) / tolerance
    same = (found == true) | (numpy.isnan(found) & numpy.isnan(true))
    with numpy.errstate(invalid="ignore"):
        difference = numpy.where(same, 0.0, numpy.abs(found - true))
    relative = numpy.nan_to_num(difference / scale, nan=math.inf)
    index = tuple(int(i) for i in numpy.unravel_index(int(numpy.argmax(relative)), true.shape)) if true.size else ()
    error = float(relative[index]) if true.size else 0.0
    return Row(
        op=title,
        argument=what,
        shape=true.shape,
        index=index,
        analytic=float(found[index]) if true.size else 0.0,
        numeric=float(true[index]) if true.size else 0.0,
        error=error,
        tolerance=tolerance,
        method="against the formula",
        dtype=str(numpy.dtype(dtype)),
        engine=engine,
        problem="" if error <= tolerance else "The engine and the formula disagree.",
    )


def oracle_agreement(spec: OpSpec, case: Case, forward: Any = None) -> Row:
    """Compare the forward of the formula, or another forward, with the oracle in float64."""
    arguments = spec.arguments(case)
    y, _ = (forward or spec.forward())(*arguments, **case.options)
    true = numpy.asarray(spec.oracle(*arguments, **case.options))
    allowed = spec.rounding + 2 * math.sqrt(spec.terms(*arguments, **case.options))
    magnitude = spec.magnitude(*arguments, **case.options)
    title = f"{spec.name} ({case.name})"
    return compared(title, "y", y, true, "float64", allowed, magnitude, spec.elementwise)


def update_agreement(
    update: Any, spec: UpdateSpec, case: UpdateCase, dtype: Any, size: int, engine: Any = None
) -> list[Row]:
    """Compare some steps of an update with the formula in float64, or without an engine with the oracle."""
    random = numpy.random.default_rng([size, sum(map(ord, spec.name + case.name))])
    value = random.standard_normal(size).astype(dtype)
    grads = random.standard_normal((UPDATE_STEPS, size)).astype(dtype)
    largest: dict[str, float] = {}  # sums of steps may cancel, their rounding errors do not
    exact = run(FORMULAS[spec.name], spec, case, value.astype("float64"), grads.astype("float64"), largest)
    if engine is None:
        found, true = run(update, spec, case, value, grads), spec.expected(case, value, grads)
    else:
        on_device = run(update, spec, case, engine.asarray(value), [engine.asarray(grad) for grad in grads])
        found, true = {name: engine.to_host(array) for name, array in on_device.items()}, exact
    title = f"{spec.name} ({case.name})"
    name = "" if engine is None else engine.name
    allowed = spec.rounding + UPDATE_STEPS
    rows = []
    for key, array in found.items():
        row = compared(title, key, array, true[key], dtype, allowed, largest[key], engine=name)
        if numpy.dtype(array.dtype) != (widen_float16(value).dtype if key != "value" else numpy.dtype(dtype)):
            row = Row(title, key, array.shape, engine=name, problem=f"It has dtype {array.dtype} instead of {dtype}.")
        rows.append(row)
    return rows
