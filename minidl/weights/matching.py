"""Matching the tensors of a file to the arrays of a model: foreign names, transposed matrices, tied weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops import Array, namespace
from minidl.weights.safetensors_file import StoredTensor
from minidl.weights.tensors import BLOCK, Bfloat16Array, Tensor

__all__ = ["IncompatibleKeys", "Names", "Target", "Transpose", "load_tensors", "match_names"]

Names = Mapping[str, "str | None"] | Callable[[str], "str | None"]
"""Translates names in the file to names in the model: a dict of patterns, or a function."""
Transpose = str | Iterable[str] | Callable[[str], bool]
"""The names in the model of tensors that the file holds transposed: patterns, or a function."""


class IncompatibleKeys(NamedTuple):
    """The names that only the file, or only the model, has.

    Attributes
    ----------
    missing_keys : list of str
        Names in the model that the file lacks. Their values are unchanged.
    unexpected_keys : list of str
        Names in the file that the model lacks.

    Examples
    --------
    >>> IncompatibleKeys(["head.bias"], [])
    missing: head.bias; unexpected: none
    >>> IncompatibleKeys([], [])
    <All keys matched>
    """

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not any(self):
            return "<All keys matched>"
        return f"missing: {', '.join(self.missing_keys) or 'none'}; unexpected: {', '.join(self.unexpected_keys) or 'none'}"


@dataclass(frozen=True)
class Target:
    """An array of the model that is to be filled.

    Attributes
    ----------
    names : tuple of str
        Several for tied weights.
    array : array
    optional : bool, default False
        Whether the file may lack it.
    """

    names: tuple[str, ...]
    array: Array
    optional: bool = False


class _Given(NamedTuple):
    name: str
    tensor: Tensor
    flipped: bool


def load_tensors(
    targets: Sequence[Target],
    tensors: Mapping[str, Tensor],
    *,
    strict: bool,
    names: Names | None,
    transpose: Transpose | None,
    where: str,
) -> IncompatibleKeys:
    """Fill the targets from the tensors: all of them or, if anything does not fit, none.

    Raises
    ------
    ParameterError
        If ``strict`` and something is missing or unexpected, if there are two tensors for one name or different ones for
        tied weights, or if ``names`` or ``transpose`` is invalid.
    ShapeError, DtypeError
        If a shape differs, or a floating-point tensor is given for integers or the reverse.
    FileFormatError
        If a tensor has a dtype that cannot be read.
    """
    rename = _compile_names(names)
    targets = _cut_targets(targets, [own for own in map(rename, tensors) if isinstance(own, str)])
    known = {name for target in targets for name in target.names}
    chosen, unexpected = _rename_all(tensors, rename, known, where)
    missing = [
        name
        for target in targets
        if not target.optional and not any(name in chosen for name in target.names)
        for name in target.names
    ]
    if strict and (missing or unexpected):
        raise ParameterError(
            f"{where}: the weights are of another model; {IncompatibleKeys(missing, list(unexpected.values()))}"
        )
    is_flipped = _compile_transpose(transpose, known, where)
    plan = [
        (target.array, [_Given(name, chosen[name], is_flipped(name)) for name in target.names if name in chosen])
        for target in targets
    ]
    _check(plan, where)
    for array, given in plan:
        if given:
            _fill(array, given[0])
    return IncompatibleKeys(missing, list(unexpected))


_SHARE = re.compile(r"(.+)\[(\d+)/(\d+)\]", re.DOTALL)
"""A name of one of several equal parts of an array, such as ``in_proj_weight[0/3]``."""


def _cut_targets(targets: Sequence[Target], wanted: Iterable[str]) -> list[Target]:
    """Return the targets, those of which parts are named cut into so many along the first axis."""
    counts = {found[1]: int(found[3]) for found in map(_SHARE.fullmatch, wanted) if found}
    cut: list[Target] = []
    for target in targets:
        parts = next((counts[name] for name in target.names if name in counts), 0)
        if not parts or not target.array.ndim or len(target.array) % parts:
            cut.append(target)
            continue
        rows = len(target.array) // parts
        for i in range(parts):
            names = tuple(f"{name}[{i}/{parts}]" for name in target.names)
            cut.append(Target(names, target.array[i * rows : (i + 1) * rows], target.optional))
    return cut


def _rename_all(
    tensors: Mapping[str, Tensor], rename: Callable[[str], str | None], known: set[str], where: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors by their names in the model, and the names without a place there, with their text for messages."""
    chosen: dict[str, Tensor] = {}
    unexpected = {}
    for foreign, tensor in tensors.items():
        own = rename(foreign)
        if own is None:
            continue
        if not isinstance(own, str):
            raise ParameterError(f"{where}: names gave {own!r} for {foreign!r}; expected a name, or None to ignore it")
        if own not in known:
            unexpected[foreign] = str(foreign) if own == foreign else f"{foreign} (as {own})"
        elif own in chosen:
            raise ParameterError(f"{where}: {chosen[own].name} and {foreign} are both given for {own}")
        else:
            chosen[own] = tensor
    return chosen, unexpected


def _compile_names(names: Names | None) -> Callable[[str], str | None]:
    if names is None:
        return lambda foreign: foreign
    if callable(names):
        return names
    if not isinstance(names, Mapping):
        raise ParameterError(f"names: expected a dict or a function, got {type(names).__name__}")
    rules = []
    for pattern, own in names.items():
        if not isinstance(pattern, str) or not isinstance(own, str | None):
            raise ParameterError(f"names: expected a string, and a string or None, got {pattern!r}: {own!r}")
        if own is not None and own.count("*") not in (0, pattern.count("*")):
            raise ParameterError(f"names: {own!r} must have as many * as {pattern!r}, or none")
        rules.append((_compile_pattern(pattern), own))

    def rename(foreign: str) -> str | None:
        for pattern, own in rules:
            match = pattern.fullmatch(foreign)
            if match:
                texts = match.groups() if own and "*" in own else ()
                return own and "".join(map("".join, zip_longest(own.split("*"), texts, fillvalue="")))
        return foreign

    return rename


def _compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern in which each * matches any text, as little as possible."""
    return re.compile("(.*?)".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def match_names(patterns: str | Iterable[str], known: Iterable[str], where: str, kind: str = "name") -> list[str]:
    """Return the names that a pattern fits, in their order; ``*`` is any text.

    Parameters
    ----------
    patterns : str or list of str
    known : list of str
    where, kind : str
        For messages: who asks, and what the names are of.

    Raises
    ------
    ParameterError
        If a pattern is no text, or fits no name, because nothing else might show that it is misspelt.

    Examples
    --------
    >>> match_names(["head.*", "*.bias"], ["body.weight", "body.bias", "head.weight"], "freeze")
    ['body.bias', 'head.weight']
    """
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    if not all(isinstance(pattern, str) for pattern in wanted):
        raise ParameterError(f"{where}: expected names or patterns of names, got {wanted}")
    known = list(known)
    found: set[str] = set()
    for pattern in wanted:
        fits = set(filter(_compile_pattern(pattern).fullmatch, known))
        if not fits:
            raise ParameterError(f"{where}: {pattern!r} matches no {kind} of this model")
        found |= fits
    return [name for name in known if name in found]


def _compile_transpose(transpose: Transpose | None, known: set[str], where: str) -> Callable[[str], bool]:
    if transpose is None:
        return lambda name: False
    if callable(transpose):
        return lambda name: bool(transpose(name))
    flipped = set(match_names(transpose, known, f"{where}: transpose"))
    return flipped.__contains__


def _check(plan: Sequence[tuple[Array, list[_Given]]], where: str) -> None:
    """Raise an error if a tensor that is to be loaded does not fit."""
    shapes = []
    for array, given in plan:
        for name, tensor, flipped in given:
            shape = tensor.shape[::-1] if flipped else tensor.shape
            if shape != array.shape:
                hint = " (transposed, it would fit: see transpose)" if shape[::-1] == array.shape else ""
                shapes.append(f"{name} has shape {array.shape}, got {shape}{hint}")
    if shapes:
        raise ShapeError(f"{where}: {'; '.join(shapes)}")
    for array, given in plan:
        for name, tensor, _ in given:
            if isinstance(tensor, StoredTensor):
                tensor.check_readable()
            if (tensor.kind == "f") != (array.dtype.kind == "f") or tensor.kind not in "fiu":
                wanted = "floating-point" if array.dtype.kind == "f" else "integer"
                raise DtypeError(f"{where}: {name} must be {wanted}, got dtype {tensor.dtype}")
    for _, given in plan:
        for other in given[1:]:
            if not _equal(given[0], other):
                raise ParameterError(
                    f"{where}: {given[0].name} and {other.name} are one tied weight in this model, but the values that "
                    "were given for them differ"
                )


def _equal(one: _Given, other: _Given) -> bool:
    size = one.tensor.size
    if one.flipped == other.flipped:  # elements in the same order, so they can be compared block by block
        return all(
            numpy.array_equal(
                one.tensor.read(at, min(at + BLOCK, size)), other.tensor.read(at, min(at + BLOCK, size)), equal_nan=True
            )
            for at in range(0, size, BLOCK)
        )
    both = [given.tensor.read(0, size).reshape(given.tensor.shape) for given in (one, other)]
    return numpy.array_equal(both[0].T, both[1], equal_nan=True)


def _fill(array: Array, given: _Given) -> None:
    """Write a tensor into an array, directly if the array is on the host."""
    on_host = isinstance(array, (numpy.ndarray, Bfloat16Array))
    host = array if on_host else numpy.empty(array.shape, dtype=array.dtype)
    given.tensor.read_into(host.T if given.flipped else host)
    if not on_host:
        array[...] = namespace(array).asarray(host)
