"""The state of objects as plain data, for JSON and safetensors: numbers, texts, arrays and containers, and random generators.

Nothing here imports a module or calls a class by a name that comes from a file.
"""

from __future__ import annotations

import functools
import inspect
import math
import random as python_random
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy

from minidl.arrays import to_host
from minidl.errors import ParameterError

__all__ = ["NotPlain", "Sources", "object_state", "pack", "put_object_state", "unpack"]

Arrays = dict[str, numpy.ndarray]

_STORED = frozenset("bfiu")
"""Kinds of dtypes that safetensors files hold; others are stored as bytes."""
_CONTAINERS: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}


class NotPlain(TypeError):
    """A value is no plain data."""


def pack(value: Any, arrays: Arrays, key: str) -> Any:
    """Return a value as JSON has it, with its arrays moved to ``arrays``.

    Raises
    ------
    NotPlain
        If it is something else than numbers, texts, arrays, None, and lists, tuples, sets and dicts of them.

    Examples
    --------
    >>> arrays = {}
    >>> packed = pack({"best": (1, 0.5), "mean": numpy.zeros(2)}, arrays, "metric")
    >>> list(arrays), unpack(packed, arrays)
    (['metric.mean'], {'best': (1, 0.5), 'mean': array([0., 0.])})
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"kind": "float", "value": repr(value)}
    if kind is list:
        return [pack(item, arrays, f"{key}.{i}") for i, item in enumerate(value)]
    if kind in _CONTAINERS:
        return {"kind": _CONTAINERS[kind], "items": [pack(item, arrays, f"{key}.{i}") for i, item in enumerate(value)]}
    if kind is dict:
        names = [pack(name, arrays, f"{key}.name{i}") for i, name in enumerate(value)]
        items = [pack(item, arrays, f"{key}.{name}") for name, item in value.items()]
        return {"kind": "dict", "items": [list(pair) for pair in zip(names, items, strict=True)]}
    if isinstance(value, numpy.generic) and value.dtype.kind in "bfiu":
        return {"kind": "scalar", "dtype": value.dtype.str, "value": pack(value.item(), arrays, key)}
    if hasattr(value, "dtype") and hasattr(value, "shape") and getattr(value.dtype, "kind", "O") != "O":
        return _pack_array(to_host(value), arrays, key)
    raise NotPlain(f"{key} is a {kind.__name__}, not plain data")


def _pack_array(array: numpy.ndarray, arrays: Arrays, key: str) -> dict[str, Any]:
    while key in arrays:
        key += "'"
    if array.dtype.kind in _STORED and array.dtype.itemsize <= 8:
        arrays[key] = array.copy()
        return {"kind": "array", "key": key}
    flat = numpy.ascontiguousarray(array).reshape(-1)
    arrays[key] = flat.view(numpy.uint8).copy() if flat.size else numpy.zeros(0, numpy.uint8)
    return {"kind": "bytes", "key": key, "dtype": array.dtype.str, "shape": list(array.shape)}


def unpack(packed: Any, arrays: Mapping[str, numpy.ndarray]) -> Any:
    """Return the value of :func:`pack`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not one.
    """
    if isinstance(packed, list):
        return [unpack(item, arrays) for item in packed]
    if not isinstance(packed, dict):
        return packed
    kind = packed["kind"]
    if kind == "float":
        return float(packed["value"])
    if kind == "dict":
        return {unpack(name, arrays): unpack(item, arrays) for name, item in packed["items"]}
    if kind == "scalar":
        return numpy.dtype(packed["dtype"]).type(unpack(packed["value"], arrays))
    if kind == "array":
        return arrays[packed["key"]].copy()
    if kind == "bytes":
        return arrays[packed["key"]].view(numpy.dtype(packed["dtype"])).reshape(packed["shape"]).copy()
    made: Any = next((made for made, name in _CONTAINERS.items() if name == kind), None)
    if made is None:
        raise ValueError(f"there is no {kind!r}")
    return made(unpack(item, arrays) for item in packed["items"])


# objects --------------------------------------------------------------------------------------------------------------


def object_state(owner: Any, arrays: Arrays, key: str, leave_out: Any = (), strict: bool = False) -> Any:
    """Return the state of an object: of its own ``state_dict``, or else those of its attributes that are plain.

    Attributes with ``state_dict`` and ``load_state_dict``, such as a schedule, count with what these say.

    Parameters
    ----------
    owner : object
    arrays : dict
        Gets the arrays.
    key : str
        The beginning of their names.
    leave_out : sequence of str or object, optional
        Names of attributes, and values that somebody else keeps.
    strict : bool, default False
        Whether an attribute that is neither plain nor a function is an error. It is left out otherwise.

    Raises
    ------
    NotPlain
        If what the object's own ``state_dict`` returns is not plain; with ``strict``, if an attribute is not.
    """
    if _keeps_state(owner):
        return {"kind": "own", "state": pack(_plain_mapping(owner.state_dict()), arrays, key)}
    found: dict[str, Any] = {}
    for name, value in getattr(owner, "__dict__", {}).items():
        if any(value is other or name == other for other in leave_out):
            continue
        if _keeps_state(value):
            found[name] = {"kind": "own", "state": pack(_plain_mapping(value.state_dict()), arrays, f"{key}.{name}")}
            continue
        own: Arrays = {}
        try:
            found[name] = {"kind": "plain", "value": pack(value, own, f"{key}.{name}")}
        except NotPlain:
            if strict and not callable(value) and not isinstance(value, _GENERATORS):
                raise
            continue
        arrays.update(own)
    return {"kind": "attributes", "of": found}


def put_object_state(owner: Any, packed: Any, arrays: Mapping[str, numpy.ndarray]) -> None:
    """Give an object the state that :func:`object_state` returned.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is none, or of another kind of object.
    """
    if packed["kind"] == "own":
        owner.load_state_dict(unpack(packed["state"], arrays))
        return
    for name, value in packed["of"].items():
        if value["kind"] == "own":
            getattr(owner, name).load_state_dict(unpack(value["state"], arrays))
        else:
            vars(owner)[name] = unpack(value["value"], arrays)


def _keeps_state(thing: Any) -> bool:
    return not isinstance(thing, type) and all(
        callable(getattr(thing, n, None)) for n in ("state_dict", "load_state_dict")
    )


def _plain_mapping(state: Any) -> Any:
    return dict(state) if isinstance(state, Mapping) else state


# random generators ----------------------------------------------------------------------------------------------------

_GENERATORS = (numpy.random.Generator, numpy.random.RandomState, python_random.Random)
_SEARCHED = (list, tuple, dict, functools.partial, types.MethodType, types.FunctionType, types.GeneratorType)
DEPTH = 4
_PLAIN = (int, float, complex, str, bytes, bool, type(None), numpy.ndarray, numpy.dtype, type, types.ModuleType)


class Sources:
    """All random generators that can be reached from some objects, with the states of those objects' own numbers.

    Attributes, lists, tuples and dicts are searched, and what functions hold: closures, defaults, ``functools.partial``. Not
    searched are objects of Python's own library, and what lies more than four objects of others deep, such as the inside of a
    tracker. The global generators of NumPy's old interface and of Python count too where ``everywhere`` is true.

    Parameters
    ----------
    roots : dict of str to object
    everywhere : bool, default False

    Examples
    --------
    >>> generator = numpy.random.default_rng(0)
    >>> sources = Sources({"augment": lambda x: x + generator.normal()})
    >>> arrays = {}
    >>> before, first = sources.state(arrays, "sources"), generator.normal()
    >>> sources.put(before, arrays)
    >>> generator.normal() == first
    True
    """

    def __init__(self, roots: Mapping[str, Any], everywhere: bool = False) -> None:
        self.found: dict[str, Any] = {}
        seen: set[int] = set()
        for name, root in roots.items():
            for path, generator in _generators(root, name, seen):
                self.found[path] = generator
        self.everywhere = everywhere

    def state(self, arrays: Arrays, key: str) -> Any:
        """Return the states of all."""
        states = {path: _state_of(generator) for path, generator in self.found.items()}
        if self.everywhere:
            states["numpy.random"] = numpy.random.get_state(legacy=False)  # noqa: NPY002 - somebody's augmentation may draw from it
            states["random"] = python_random.getstate()
        return pack(states, arrays, key)

    def put(self, packed: Any, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Put all into the states that :meth:`state` returned.

        Raises
        ------
        ParameterError
            If there are other generators now.
        """
        states = unpack(packed, arrays)
        if self.everywhere:
            numpy.random.set_state(states.pop("numpy.random"))  # noqa: NPY002
            python_random.setstate(states.pop("random"))
        for path in [*states, *self.found]:
            if path not in states or path not in self.found:
                where = "has one now" if path in self.found else "had one when the checkpoint was written"
                raise ParameterError(f"fit, resume: the random generators differ: {path} {where}, and only then")
        for path, state in states.items():
            _put_state(self.found[path], state, path)


def _state_of(generator: Any) -> Any:
    if isinstance(generator, numpy.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, python_random.Random) else generator.get_state(legacy=False)


def _put_state(generator: Any, state: Any, path: str) -> None:
    try:
        if isinstance(generator, numpy.random.Generator):
            generator.bit_generator.state = state
        elif isinstance(generator, python_random.Random):
            generator.setstate(state)
        else:
            generator.set_state(state)
    except (TypeError, ValueError, KeyError) as error:
        raise ParameterError(f"fit, resume: the random generator {path} is of another kind: {error}") from error


def _generators(thing: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield each generator that can be reached, once, with its path."""
    pending = [(path, thing, 0)]
    while pending:
        path, thing, depth = pending.pop()
        if isinstance(thing, _PLAIN) or id(thing) in seen or depth > DEPTH:
            continue
        if isinstance(thing, _GENERATORS):
            seen.add(id(thing))
            yield path, thing
            continue
        room = type(thing).__module__.partition(".")[0]
        if room in sys.stdlib_module_names and not isinstance(thing, _SEARCHED):
            continue
        seen.add(id(thing))
        deeper = depth + (room not in ("builtins", "functools", "minidl"))
        pending += [(inner, item, deeper) for inner, item in reversed(list(_inside(thing, path)))]


def _inside(thing: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, with its path."""
    if isinstance(thing, (list, tuple)):
        yield from ((f"{path}.{i}", item) for i, item in enumerate(thing))
    elif isinstance(thing, dict):
        yield from ((f"{path}.{name}", item) for name, item in thing.items())
    elif isinstance(thing, functools.partial):
        yield from ((f"{path}.{name}", getattr(thing, name)) for name in ("func", "args", "keywords"))
    elif isinstance(thing, types.MethodType):
        yield from ((path, thing.__self__), (path, thing.__func__))
    elif isinstance(thing, types.FunctionType):
        yield f"{path}.defaults", (thing.__defaults__, thing.__kwdefaults__)
        names = thing.__code__.co_freevars
        for name, cell in zip(names, thing.__closure__ or (), strict=True):
            try:
                yield f"{path}.{name}", cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        used = thing.__globals__
        for name in thing.__code__.co_names:
            if isinstance(used.get(name), _GENERATORS):
                yield f"{path}.{name}", used[name]
    elif isinstance(thing, types.GeneratorType):
        yield from ((f"{path}.{name}", value) for name, value in inspect.getgeneratorlocals(thing).items())
    elif hasattr(thing, "__dict__"):
        yield from ((f"{path}.{name}", value) for name, value in vars(thing).items())
