"""Checks of a layer in a file, and of everything a layer must do besides having the right gradient."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy

from minidl import engines
from minidl.errors import DataError, MinidlError, ParameterError, ShapeError, UnknownNameError
from minidl.layers import Layer
from minidl.testing.gradcheck import gradcheck
from minidl.testing.report import Report, Row
from minidl.testing.subjects import is_loss, positional
from minidl.weights import to_host

__all__ = ["check_layer", "check_object", "draw_input", "import_file", "load_object", "split_target"]

BATCH = 4
GUESSES = ((BATCH, 3), (BATCH,), (2, 3, 8, 8), (2, 5, 3))
"""Input shapes to try when nothing tells what a layer expects."""


def check_object(
    target: str,
    shape: Sequence[int] | None = None,
    *,
    seed: int = 0,
    raise_exception: bool = False,
    **options: Any,
) -> Report:
    """Check the gradients of a layer, loss or function in a file.

    Parameters
    ----------
    target : str
        ``path/to/file.py:NAME``. NAME is a class (created without arguments, or with those given as in
        ``layers.py:Scale(3, bias=False)``), an object, or a function with a ``NAME_backward`` in the same file.
    shape : sequence of int, optional
        The shape of the input, batch axis included. By default it follows from the layer (``input_shape``, ``in_features``, its
        parameters), or else some common shapes are tried.
    seed : int, default 0
        Seed of the random input.
    raise_exception : bool, default False
        Whether to raise if a gradient is wrong.
    **options : Any
        Passed on to ``gradcheck``.

    Returns
    -------
    report : Report

    Raises
    ------
    DataError
        If there is no such file, or it cannot be imported.
    UnknownNameError
        If the file does not define that name; lists what it defines.
    ParameterError
        If the object cannot be checked or created.
    ShapeError
        If no input shape fits; give one with ``shape``.
    """
    subject = load_object(target)
    random = numpy.random.default_rng(seed)
    if is_loss(subject):
        arrays: tuple[Any, ...] = _draw_loss_input(subject, shape, random)
    elif inspect.isfunction(subject):
        arrays = tuple(_draw(tuple(shape or GUESSES[0]), random) for _ in positional(subject, required=True))
    elif hasattr(subject, "forward") and hasattr(subject, "backward"):
        arrays = (draw_input(subject, shape, random),)
    else:
        raise ParameterError(
            f"gradcheck: {target} must be a function or an object with forward and backward, got type "
            f"{type(subject).__name__}"
        )
    name = target.rpartition(":")[2]
    return gradcheck(subject, *arrays, seed=seed, raise_exception=raise_exception, name=name, **options)


def load_object(target: str) -> Any:
    """Import ``path/to/file.py:NAME`` and return the object of that name; a class is instantiated."""
    path, name, arguments, keywords = split_target(target)
    module = import_file(Path(path))
    if not hasattr(module, name):
        raise UnknownNameError.among(f"name in {path}", name, _list_checkable(module))
    found = getattr(module, name)
    if isinstance(found, type):
        found = _create(found, target, arguments, keywords)
    elif arguments is not None:
        raise ParameterError(f"gradcheck: {name} in {path} is not a class, so it takes no arguments")
    return found


def split_target(target: str) -> tuple[str, str, list[Any] | None, dict[str, Any]]:
    """Return the parts of ``PLACE:NAME`` or ``PLACE:NAME(1, key=2)``; without brackets there are no arguments, None.

    >>> split_target("layers.py:Scale(3, bias=False)")
    ('layers.py', 'Scale', [3], {'bias': False})
    """
    place, colon, expression = target.partition(".py:") if ".py:" in target else target.partition(":")
    place += ".py" if colon == ".py:" else ""
    if not colon or not place or not expression:
        raise ParameterError(f"gradcheck: expected path/to/file.py:NAME, got {target!r}")
    return place, *_parse(expression)


def import_file(path: Path) -> ModuleType:
    """Import a file of Python, which may import its neighbours."""
    if not path.is_file():
        raise DataError(f"gradcheck: there is no file {path}")
    specification = importlib.util.spec_from_file_location(f"minidl_checked_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise DataError(f"gradcheck: {path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses, for one, look up their module
    beside = str(path.resolve().parent)
    sys.path.insert(0, beside)  # so that the file can import its neighbours
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        raise DataError(f"gradcheck: {path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(beside)
    return module


def _parse(expression: str) -> tuple[str, list[Any] | None, dict[str, Any]]:
    """Split ``NAME`` or ``NAME(1, key=2)`` without evaluating anything but literals."""
    try:
        node = ast.parse(expression, mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, None, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            keywords = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
            return node.func.id, [ast.literal_eval(a) for a in node.args], keywords
    except (SyntaxError, ValueError):
        pass
    raise ParameterError(
        f"gradcheck: expected NAME or NAME(numbers, key=value, ...) after the colon, got {expression!r}"
    )


def _list_checkable(module: ModuleType) -> list[str]:
    """Return the names in a file that could be checked."""
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return [
        name
        for name, value in own.items()
        if (hasattr(value, "forward") and hasattr(value, "backward")) or f"{name}_backward" in own
    ] or ["nothing with forward and backward"]


def _create(kind: type[Any], target: str, arguments: list[Any] | None, keywords: dict[str, Any]) -> Any:
    if not (hasattr(kind, "forward") and hasattr(kind, "backward")):
        lacks = [method for method in ("forward", "backward") if not hasattr(kind, method)]
        raise ParameterError(f"gradcheck: {kind.__name__} has no {' and no '.join(lacks)}")
    try:
        inspect.signature(kind).bind(*arguments or [], **keywords)
    except TypeError as error:
        wanted = ", ".join(inspect.signature(kind).parameters)
        raise ParameterError(
            f"gradcheck: {kind.__name__}({wanted}) cannot be created with these arguments ({error}); give them after "
            f"the name, as in '{target.partition('(')[0]}(3, 2)'"
        ) from error
    return kind(*arguments or [], **keywords)


def draw_input(subject: Any, shape: Sequence[int] | None, random: numpy.random.Generator) -> Any:
    """Draw an input of a shape that the subject accepts."""
    if shape is not None:
        return _draw(tuple(shape), random)
    tried = []
    for guess in dict.fromkeys(_guess_shapes(subject)):
        x = _draw(guess, random)
        try:
            numpy.shape(subject.forward(x))
        except Exception as error:  # a wrong shape may raise anything
            tried.append(f"{guess}: {error}")
        else:
            return x
    raise ShapeError(
        f"gradcheck: {type(subject).__name__}.forward accepts none of the input shapes tried; give its shape with "
        f"--shape N,FEATURES. Tried {'; '.join(tried)}"
    )


def _guess_shapes(subject: Any) -> list[tuple[int, ...]]:
    """Return likely input shapes, the likeliest first."""
    guesses: list[tuple[int, ...]] = []
    example = getattr(subject, "input_shape", None)
    if isinstance(example, tuple):
        guesses.append((BATCH, *example))
    features = getattr(subject, "in_features", None)
    if isinstance(features, (int, numpy.integer)):
        guesses.append((BATCH, int(features)))
    try:
        parameters = list(getattr(subject, "parameters", list)())
    except MinidlError:  # a lazy layer takes any shape
        parameters = []
    for parameter in parameters:
        sizes = numpy.shape(getattr(parameter, "value", parameter))
        guesses += [(BATCH, size) for size in reversed(sizes)]
    return [*guesses, *GUESSES]


def _draw(shape: tuple[int, ...], random: numpy.random.Generator) -> Any:
    return engines.current().asarray(random.standard_normal(shape))


def _draw_loss_input(loss: Any, shape: Sequence[int] | None, random: numpy.random.Generator) -> tuple[Any, Any]:
    """Draw a prediction, and a target that the loss accepts: numbers, zeros and ones, or classes."""
    shape = tuple(shape or (BATCH, 3))
    prediction = random.standard_normal(shape)
    targets = [random.standard_normal(shape), random.integers(0, 2, shape).astype(float)]
    if len(shape) > 1:
        targets.append(random.integers(0, shape[1], (shape[0], *shape[2:])))
    tried = []
    place = engines.current().asarray
    for target in targets:
        try:
            value = float(numpy.sum(to_host(loss.forward(place(prediction), place(target)))))
        except Exception as error:  # as above
            tried.append(f"{target.dtype} of shape {target.shape}: {error}")
        else:
            if numpy.isfinite(value):
                return place(prediction), place(target)
    raise ShapeError(f"gradcheck: {type(loss).__name__}.forward accepts none of the targets tried: {'; '.join(tried)}")


# more than gradients ------------------------------------------------------------------------------------------------


def check_layer(layer: Any, x: Any, *, raise_exception: bool = True, **options: Any) -> Report:
    """Check the gradients of a layer and the rules of ``minidl.layers.Layer``.

    Besides ``gradcheck``: output and input gradient keep the dtype of the layer, and inputs that are not contiguous give the
    same results. A ``Layer`` must also have outputs of the shape that ``output_shape`` returns, and a ``state_dict`` that can be
    loaded again.

    Parameters
    ----------
    layer : Layer or any object with forward and backward
        Its forward and backward are called, and its parameters' gradients change.
    x : array
        An input in the precision of the layer.
    raise_exception : bool, default True
        Whether to raise ``GradcheckError`` if something is wrong.
    **options : Any
        Passed on to ``gradcheck``.

    Examples
    --------
    >>> from minidl.layers import Linear
    >>> check_layer(Linear(3, 2), numpy.ones((4, 3), dtype="float32")).ok
    True
    """
    report = gradcheck(layer, x, raise_exception=False, **options)
    problems = [*_check_dtype(layer, x), *_check_layouts(layer, x)]
    if isinstance(layer, Layer):
        problems += _check_promises(layer, x)
    name = report.table[0].op if report.table else type(layer).__name__
    rows = tuple(Row(name, argument, problem=problem) for argument, problem in problems)
    report = replace(report, table=(*report.table, *rows))
    return report.check() if raise_exception else report


def _check_dtype(layer: Any, x: Any) -> list[tuple[str, str]]:
    y = layer.forward(x)
    dx = layer.backward(y * 0 + 1)
    results = [("y", y), ("dx", dx)]
    return [(name, f"It has dtype {a.dtype}, the input {x.dtype}.") for name, a in results if a.dtype != x.dtype]


def _check_layouts(layer: Any, x: Any) -> list[tuple[str, str]]:
    """Compare with the same input and upstream gradient in another memory layout."""
    if getattr(layer, "training", False) and hasattr(layer, "eval"):
        layer.eval()
        restore = layer.train
    else:
        restore = lambda: None  # noqa: E731
    y = layer.forward(x)
    dx = layer.backward(y)
    strided = [a.T.copy().T for a in (x, y)]
    y2 = layer.forward(strided[0])
    dx2 = layer.backward(strided[1])
    restore()
    tolerance = 64 * float(numpy.finfo(x.dtype).eps)
    pairs = [("y", to_host(y), to_host(y2)), ("dx", to_host(dx), to_host(dx2))]
    return [
        (name, "It depends on the memory layout of the input.")
        for name, one, other in pairs
        if not numpy.allclose(
            one, other, rtol=tolerance, atol=tolerance * float(numpy.max(numpy.abs(one), initial=0.0))
        )
    ]


def _check_promises(layer: Layer, x: Any) -> list[tuple[str, str]]:
    problems = []
    y = layer.forward(x)
    promised = (x.shape[0], *layer.output_shape(x.shape[1:]))
    if y.shape != promised:
        problems.append(("y", f"It has shape {y.shape}; output_shape promises {promised}."))
    before = layer.state_dict()
    layer.load_state_dict(before)
    after = layer.state_dict()
    if any(not numpy.array_equal(before[name], after[name]) for name in before):
        problems.append(("state_dict", "Saving and loading it changes it."))
    return problems
