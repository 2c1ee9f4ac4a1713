"""Which tensor goes where: names of the other side, matrices that it keeps transposed, tied weights."""

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
from minidl.weights.tensors import BLOCK, Tensor

__all__ = ["IncompatibleKeys", "Names", "Target", "Transpose", "load_tensors"]

Names = Mapping[str, "str | None"] | Callable[[str], "str | None"]
"""A mapping of foreign names to own ones, as a dict of patterns or a function."""
Transpose = str | Iterable[str] | Callable[[str], bool]
"""Which own names are kept transposed on the other side, as patterns or a function."""


class IncompatibleKeys(NamedTuple):
    """What a file and a model did not have in common.

    Attributes
    ----------
    missing_keys : list of str
        Names of the model for which nothing came; these kept their values.
    unexpected_keys : list of str
        Names, as they stand on the other side, that the model has no place for.

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
    """An array to be filled.

    Parameters
    ----------
    names : tuple of str
        By which it is reached: one, or several where weights are tied.
    array : array
        Where the values go.
    optional : bool
        Whether it may keep its value where nothing comes for it.
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
    """Fill the targets from the tensors, all or, if anything does not fit, none.

    Raises
    ------
    ParameterError
        If ``strict`` and something is missing or unexpected; if two tensors are given for one name, or different ones
        for tied weights; if ``names`` or ``transpose`` cannot be used.
    ShapeError, DtypeError
        If a shape or a kind of number differs.
    FileFormatError
        If a tensor is of a dtype that cannot be read.
    """
    known = {name for target in targets for name in target.names}
    chosen, unexpected = _renamed(tensors, names, known, where)
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
    flips = _transposer(transpose, known, where)
    plan = [
        (target.array, [_Given(name, chosen[name], flips(name)) for name in target.names if name in chosen])
        for target in targets
    ]
    _check(plan, where)
    for array, given in plan:
        if given:
            _fill(array, given[0])
    return IncompatibleKeys(missing, list(unexpected))


def _renamed(
    tensors: Mapping[str, Tensor], names: Names | None, known: set[str], where: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors by own names, and of those with no place here the foreign names with how to show them."""
    rename = _renamer(names)
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


def _renamer(names: Names | None) -> Callable[[str], str | None]:
    if names is None:
        return lambda foreign: foreign
    if callable(names):
        return names
    if not isinstance(names, Mapping):
        raise ParameterError(f"names: expected a dict or a function, got {type(names).__name__}")
    rules = []
    for pattern, own in names.items():
        if not isinstance(pattern, str) or not isinstance(own, str | None):
            raise ParameterError(f"names: expected text, and text or None, got {pattern!r}: {own!r}")
        if own is not None and own.count("*") not in (0, pattern.count("*")):
            raise ParameterError(f"names: {own!r} must have as many * as {pattern!r}, or none")
        rules.append((_compiled(pattern), own))

    def rename(foreign: str) -> str | None:
        for pattern, own in rules:
            match = pattern.fullmatch(foreign)
            if match:
                texts = match.groups() if own and "*" in own else ()
                return own and "".join(map("".join, zip_longest(own.split("*"), texts, fillvalue="")))
        return foreign

    return rename


def _compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern in which each * stands for any text, the first ones for as little as fits."""
    return re.compile("(.*?)".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _transposer(transpose: Transpose | None, known: set[str], where: str) -> Callable[[str], bool]:
    if transpose is None:
        return lambda name: False
    if callable(transpose):
        return lambda name: bool(transpose(name))
    patterns = [transpose] if isinstance(transpose, str) else list(transpose)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise ParameterError(f"transpose: expected names or patterns of names, got {patterns}")
    flipped: set[str] = set()
    for pattern in patterns:
        fits = set(filter(_compiled(pattern).fullmatch, known))
        if not fits:  # with a square matrix nothing else would tell that a name is misspelt
            raise ParameterError(f"{where}: transpose: {pattern!r} fits no name of this model")
        flipped |= fits
    return flipped.__contains__


def _check(plan: Sequence[tuple[Array, list[_Given]]], where: str) -> None:
    """Raise an error if anything that is going to be loaded does not fit."""
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
                tensor.checked()
            if (tensor.kind == "f") != (array.dtype.kind == "f") or tensor.kind not in "fiu":
                wanted = "floating-point" if array.dtype.kind == "f" else "integer"
                raise DtypeError(f"{where}: {name} must be {wanted}, got dtype {tensor.dtype}")
    for _, given in plan:
        for other in given[1:]:
            if not _equal(given[0], other):
                raise ParameterError(
                    f"{where}: {given[0].name} and {other.name} are one tied weight in this model, but the values that "
                    "came for them differ"
                )


def _equal(one: _Given, other: _Given) -> bool:
    size = one.tensor.size
    if one.flipped == other.flipped:  # in the same order, so block by block
        return all(
            numpy.array_equal(
                one.tensor.read(at, min(at + BLOCK, size)), other.tensor.read(at, min(at + BLOCK, size)), equal_nan=True
            )
            for at in range(0, size, BLOCK)
        )
    both = [given.tensor.read(0, size).reshape(given.tensor.shape) for given in (one, other)]
    return numpy.array_equal(both[0].T, both[1], equal_nan=True)


def _fill(array: Array, given: _Given) -> None:
    """Write a tensor into an array, straight into its storage where that is on the host."""
    on_host = isinstance(array, numpy.ndarray)
    host = array if on_host else numpy.empty(array.shape, dtype=array.dtype)
    given.tensor.read_into(host.T if given.flipped else host)
    if not on_host:
        array[...] = namespace(array).asarray(host)
