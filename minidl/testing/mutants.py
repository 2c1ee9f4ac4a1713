"""Deliberately broken code that the checks must catch: a check that cannot fail proves nothing.

There are two kinds. *Wrappers* take a working pair ``(forward, backward)`` and spoil its results or its arguments; they fit
any op. *Source mutants* change one operation in the text of a function, as a slip of the pen would: a plus for a minus, a
missing factor or term. Use both to test a check, ours or your own.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import numpy

__all__ = ["WRAPPERS", "source_mutants", "wrapped"]

Pair = tuple[Callable[..., Any], Callable[..., Any]]


def _each(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Apply a change to every gradient that backward returns."""

    def changed(gradients: Any) -> Any:
        if isinstance(gradients, tuple):
            return tuple(None if g is None else change(g) for g in gradients)
        return change(gradients)

    return changed


def _after(change: Callable[[Any], Any]) -> Callable[[Pair], Pair]:
    """Spoil the result of backward."""

    def wrap(pair: Pair) -> Pair:
        forward, backward = pair
        return forward, lambda dy, cache: change(backward(dy, cache))

    return wrap


def _before(change: Callable[[Any], Any]) -> Callable[[Pair], Pair]:
    """Spoil the upstream gradient before backward sees it."""

    def wrap(pair: Pair) -> Pair:
        forward, backward = pair
        return forward, lambda dy, cache: backward(change(dy), cache)

    return wrap


def _without_some_terms(dy: Any) -> Any:
    """Leave half of the outputs out of the sum over outputs."""
    dy = numpy.array(dy)
    dy.flat[: (dy.size + 1) // 2] = 0
    return dy


def _with_one_wrong_element(gradient: Any) -> Any:
    gradient = gradient.copy()
    gradient[(0,) * gradient.ndim] += 1
    return gradient


def _first_only(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Apply a change to the first gradient that there is."""

    def changed(gradients: Any) -> Any:
        if not isinstance(gradients, tuple):
            return change(gradients)
        first = next(i for i, g in enumerate(gradients) if g is not None)
        return tuple(change(g) if i == first else g for i, g in enumerate(gradients))

    return changed


def _find_array(things: Any) -> Any:
    """Return the first array of real numbers, or else of any: ids may not become any numbers, but the winners of a pool may."""
    arrays = [t for t in things if getattr(t, "ndim", 0) or hasattr(t, "__setitem__")]
    real = [t for t in arrays if getattr(getattr(t, "dtype", None), "kind", "f") not in "iu"]
    return (real or arrays)[0]


def _spoil_upstream(pair: Pair) -> Pair:
    forward, backward = pair

    def spoiling(dy: Any, cache: Any) -> Any:
        gradients = backward(dy, cache)
        dy[...] = dy * 2
        return gradients

    return forward, spoiling


def _spoil_cache(pair: Pair) -> Pair:
    forward, backward = pair

    def spoiling(dy: Any, cache: Any) -> Any:
        gradients = backward(dy, cache)
        array = _find_array(cache)
        array[...] = array * 2 + 1
        return gradients

    return forward, spoiling


def _spoil_input(pair: Pair) -> Pair:
    forward, backward = pair

    def spoiling(*arguments: Any, **options: Any) -> Any:
        result = forward(*arguments, **options)
        x = _find_array(arguments)
        x[...] = x * 2 + 1
        return result

    return spoiling, backward


def _forget_half(pair: Pair) -> Pair:
    """Return the right gradient only the first time."""
    forward, backward = pair
    calls: list[int] = []

    def forgetful(dy: Any, cache: Any) -> Any:
        calls.append(1)
        gradients = backward(dy, cache)
        return gradients if len(calls) % 2 else _each(lambda g: g / 2)(gradients)

    return forward, forgetful


def _ones_like(dy: Any) -> Any:
    return dy * 0 + 1


WRAPPERS: dict[str, Callable[[Pair], Pair]] = {
    "wrong sign": _after(_each(lambda g: -g)),
    "wrong sign of the first": _after(_first_only(lambda g: -g)),
    "too large by a millionth": _after(_each(lambda g: g * (1 + 1e-6))),
    "missing": _after(_each(lambda g: g * 0)),
    "one element wrong": _after(_first_only(_with_one_wrong_element)),
    "an offset": _after(_each(lambda g: g + 1e-3)),
    "dropped term": _before(_without_some_terms),
    "dropped upstream gradient": _before(_ones_like),
    "absolute upstream gradient": _before(abs),
    "wrong shape": _after(_first_only(lambda g: g[None])),
    "lower precision": _after(_first_only(lambda g: g.astype("float32"))),
    "mutated dy": _spoil_upstream,
    "mutated cache": _spoil_cache,
    "mutated input": _spoil_input,
    "right only once": _forget_half,
}
"""Ways to break the forward and backward of any op, by name."""


def wrapped(name: str, forward: Callable[..., Any], backward: Callable[..., Any]) -> Pair:
    """Return a broken pair.

    >>> from minidl.ops.activation import relu, relu_backward
    >>> forward, backward = wrapped("wrong sign", relu, relu_backward)
    >>> y, cache = forward(numpy.array([-1.0, 2.0]))
    >>> backward(numpy.array([10.0, 10.0]), cache)
    array([ -0., -10.])
    """
    return WRAPPERS[name]((forward, backward))


# the text of a function -----------------------------------------------------------------------------------------------

_SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_REVERSED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.GtE: ast.Lt, ast.LtE: ast.Gt}


def source_mutants(function: Callable[..., Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield copies of a function with one operation changed, each with a description.

    Sums and differences lose a term or change sign, products and quotients lose a factor or are swapped, comparisons
    are reversed, and signs dropped. Checks of arguments (an ``if`` that raises), f-strings and annotations stay.

    Examples
    --------
    >>> from minidl.ops.activation import tanh_backward
    >>> for description, _ in source_mutants(tanh_backward):
    ...     print(description)
    dy * (1 - y * y) -> dy
    dy * (1 - y * y) -> 1 - y * y
    dy * (1 - y * y) -> dy / (1 - y * y)
    1 - y * y -> 1
    1 - y * y -> y * y
    1 - y * y -> 1 + y * y
    y * y -> y
    y * y -> y / y
    """
    function = inspect.unwrap(function)  # a decorated function has other globals
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    count = len(list(_sites(definition)))
    seen = set()
    for number in range(count):
        site = list(_sites(definition))[number]
        for replacement in _replacements(site):
            described = f"{ast.unparse(site)} -> {ast.unparse(replacement)}"
            if (number, described) in seen:
                continue
            seen.add((number, described))
            mutant = copy.deepcopy(definition)
            target = list(_sites(mutant))[number]
            yield described, _compile(_Replace(target, replacement).visit(mutant), function)


def _sites(node: ast.AST) -> Iterator[ast.expr | ast.AugAssign]:
    """Yield the operations that may be changed, outermost first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Raise, ast.JoinedStr, ast.arguments, ast.Assert)) or _only_raises(child):
            continue
        if _is_changeable(child):
            yield child  # type: ignore[misc]
        yield from _sites(child)


def _is_changeable(node: ast.AST) -> bool:
    if any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node)):
        return False  # the text of a message
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        return type(node.op) in _SWAPPED
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant)
    return isinstance(node, ast.Compare) and type(node.ops[0]) in _REVERSED


def _only_raises(node: ast.AST) -> bool:
    """Whether this is a check of the arguments."""
    return isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise) and not node.orelse


def _replacements(site: ast.expr | ast.AugAssign) -> Iterator[ast.AST]:
    if isinstance(site, ast.BinOp):
        yield site.left
        if not isinstance(site.op, ast.Div):
            yield site.right
        yield ast.BinOp(site.left, _SWAPPED[type(site.op)](), site.right)
    elif isinstance(site, ast.UnaryOp):
        yield site.operand
    elif isinstance(site, ast.Compare):
        yield ast.Compare(site.left, [_REVERSED[type(site.ops[0])](), *site.ops[1:]], site.comparators)
    else:
        assert isinstance(site, ast.AugAssign)
        yield ast.AugAssign(site.target, _SWAPPED[type(site.op)](), site.value)


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, replacement: ast.AST) -> None:
        self.target, self.replacement = target, replacement

    def visit(self, node: ast.AST) -> Any:
        return self.replacement if node is self.target else super().visit(node)


def _compile(definition: ast.FunctionDef, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile the changed definition with the globals of the original."""
    module = ast.fix_missing_locations(ast.Module([definition], []))
    scope: dict[str, Any] = {}
    exec(compile(module, f"<mutant of {function.__name__}>", "exec"), {**function.__globals__}, scope)
    return scope[function.__name__]
