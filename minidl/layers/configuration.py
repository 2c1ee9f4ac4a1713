"""Models as plain data: which classes, made with which arguments. From that a model is built again; no code is run from it.

Layers of minidl note what they were made with. A container of layers, such as ``Chain``, is described by the layers that it
holds now. Layers that others were put in the place of, by ``add_lora`` and ``store_weights``, are listed beside.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy

import minidl
from minidl import init
from minidl.errors import FileFormatError, MinidlError, ParameterError, UnknownNameError
from minidl.layers.base import Layer
from minidl.layers.chain import Chain
from minidl.layers.lora import LoRALinear
from minidl.layers.parameter import Parameter
from minidl.layers.stored import StoredLinear
from minidl.layers.swap import swap_layers

__all__ = ["build_model", "describe_model", "register_layer"]

FORMAT, VERSION = "minidl model", 1
LARGEST_ARRAY = 1 << 16
"""Elements of an array among the arguments, such as a table of categories. Weights belong into a file of weights."""

Kind = TypeVar("Kind", bound=type)
_registered: dict[str, type] = {}


def register_layer(kind: Kind | None = None, *, name: str | None = None) -> Any:
    """Let models that hold layers of your own be written by ``to_config`` and built by ``minidl.models.from_config``.

    A decorator of a class with ``forward`` and ``backward``. It notes the arguments of the constructor, which must be plain
    data, or layers.

    Parameters
    ----------
    kind : class, optional
    name : str, optional
        What the class is called in files; by default its own name. Another class may take the name over, as when a cell of a
        notebook is run again.

    Raises
    ------
    ParameterError
        If it is no class of layers, or a layer of minidl has the name.

    Examples
    --------
    >>> import minidl as dl
    >>> @dl.models.register_layer
    ... class Scale(dl.Layer):
    ...     def __init__(self, factor):
    ...         super().__init__()
    ...         self.factor = factor
    ...     def forward(self, x):
    ...         return self.factor * x
    ...     def backward(self, dy):
    ...         return self.factor * dy
    >>> config = dl.Sequential([Scale(3)]).to_config()
    >>> dl.models.from_config(config)[0].factor
    3
    """
    if kind is None:
        return functools.partial(register_layer, name=name)
    if not isinstance(kind, type) or not (hasattr(kind, "forward") and hasattr(kind, "backward")):
        raise ParameterError(f"register_layer: expected a class with forward and backward, got {kind!r}")
    own = name or kind.__name__
    if own in _own_classes():
        raise ParameterError(f"register_layer: minidl has a {own} of its own; give another name")
    whole = kind.__init__  # type: ignore[misc]

    @functools.wraps(whole)
    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        whole(self, *args, **kwargs)
        if type(self) is kind:
            self.__dict__["_made_with"] = args, kwargs

    kind.__init__ = noting  # type: ignore[misc]
    _registered[own] = kind
    return kind


def _own_classes() -> dict[str, type]:
    """Return the classes of minidl's layers and models by the names that they have in files."""
    found: dict[str, type] = {}
    pending = [Layer]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind.__module__.startswith("minidl."):
            found[_name_of(kind)] = kind
    return found


def _name_of(kind: type) -> str:
    """Return the name of a public class, or else that of its module and class, as several have the same name."""
    public = kind.__name__ in getattr(sys.modules[kind.__module__], "__all__", ())
    return kind.__name__ if public else f"{kind.__module__}.{kind.__qualname__}"


# writing --------------------------------------------------------------------------------------------------------------


def describe_model(model: Any) -> dict[str, Any]:
    """Return the config of a model; see :meth:`Layer.to_config`."""
    parameters: list[tuple[str, Any]] = [*model.named_parameters()] if model.built else []
    names: dict[int, list[str]] = {}
    for name, parameter in parameters:
        names.setdefault(id(parameter), []).append(name)
    swapped = {path: _swapped_node(layer) for path, layer in model.named_layers() if type(layer) in _SWAPPED and path}
    return {
        "format": FORMAT,
        "version": VERSION,
        "minidl": minidl.__version__,
        "model": _layer_node(model, "the model"),
        "swapped": swapped,
        "removed": [
            f"{path}.{part}".removeprefix(".")
            for path, layer in model.named_layers()
            for part in getattr(layer, "_may_be_removed", ())
            if getattr(layer, part) is None
        ],
        "parameters": [[name, list(p.shape), str(p.dtype)] for name, p in parameters],
        "tied": [group for group in names.values() if len(group) > 1],
        "frozen": [name for name, p in parameters if not getattr(p, "trainable", True)],
    }


_SWAPPED = (LoRALinear, StoredLinear)


def _swapped_node(layer: Any) -> dict[str, Any]:
    if isinstance(layer, StoredLinear):
        return {"class": "StoredLinear", "dtype": layer.stored_as}
    return {"class": "LoRALinear", "rank": layer.rank, "alpha": layer.alpha, "dropout": layer.dropout}


def _layer_node(layer: Any, where: str) -> dict[str, Any]:
    """Return a layer as its class and its arguments."""
    kind = type(layer)
    name = next((name for name, known in _registered.items() if known is kind), None)
    if name is None and isinstance(layer, Layer) and kind.__module__.startswith("minidl."):
        name = _name_of(kind)
    if isinstance(layer, StoredLinear):  # it does not keep the layer that it was made of
        return _stored_node(layer, where)
    made = layer._made_from() if isinstance(layer, Layer) else vars(layer).get("_made_with")
    if name is None or made is None:
        late = "was made before its class was registered; make it again" if name else "is not a class that files know"
        raise ParameterError(
            f"to_config: {where}, a {kind.__name__}, {late}. Put @minidl.models.register_layer before the class, and make the "
            "model with that"
        )
    args, kwargs = made
    several, named = _bind(kind, args, kwargs)
    if isinstance(layer, Layer):
        named |= _current(layer, named)
    node: dict[str, Any] = {"class": name}
    if several:
        node["layers"] = [_value(item, f"{where}.{i}") for i, item in enumerate(several)]
    node["arguments"] = {key: _value(value, f"{where}, {key}") for key, value in named.items() if value is not None}
    return node


def _stored_node(layer: StoredLinear, where: str) -> dict[str, Any]:
    out, into = layer.weight.shape
    named = {"units": out, "use_bias": layer.bias is not None, "input_shape": {"tuple": [into]}}
    if layer.follower is not None:
        named["activation"] = _value(layer.follower, where)
    linear = {"class": "Dense", "arguments": named}
    return {"class": "StoredLinear", "arguments": {"linear": {"layer": linear}, "dtype": layer.stored_as}}


def _bind(kind: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that a constructor takes as ``*layers``, and all others by name."""
    parameters = list(inspect.signature(kind).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return args, dict(kwargs)
    return (), dict(zip([p.name for p in parameters], args, strict=False)) | dict(kwargs)


def _current(layer: Layer, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments whose values may have changed since the layer was made, or only been found since."""
    found: dict[str, Any] = {}
    for name in type(layer)._live:
        if name == "bias" and getattr(layer, "bias", True) is None and "use_bias" not in named:
            if name in inspect.signature(type(layer)).parameters:
                found[name] = False
        elif name in named and name not in ("bias", "generator"):
            found[name] = getattr(layer, name)
    shape = getattr(layer, "_input_shape", None)
    if shape is not None and layer.built:
        found["input_shape"] = shape
    return found


def _value(value: Any, where: str) -> Any:
    """Return an argument as JSON has it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, numpy.random.Generator):
        return None
    if isinstance(value, numpy.generic):
        return _value(value.item(), where)
    if isinstance(value, list):
        return [_value(item, f"{where}.{i}") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [_value(item, f"{where}.{i}") for i, item in enumerate(value)]}
    if isinstance(value, Mapping):
        return {"dict": [[_value(k, where), _value(item, f"{where}.{k}")] for k, item in value.items()]}
    if isinstance(value, numpy.dtype):
        return {"dtype": value.name}
    if isinstance(value, numpy.ndarray) and value.dtype.kind in "biufU" and value.size <= LARGEST_ARRAY:
        return {"array": [value.dtype.str, _value(value.tolist(), where)]}
    if isinstance(value, type):
        return _class_value(value, where)
    if dataclasses.is_dataclass(value) and type(value).__module__.startswith("minidl."):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return {"settings": [type(value).__name__, {k: _value(v, f"{where}.{k}") for k, v in fields.items()}]}
    if hasattr(value, "forward") and hasattr(value, "backward"):
        return {"layer": _layer_node(value, where)}
    named = next((name for name in init.__all__ if getattr(init, name) is value), None)
    if named is not None:
        return {"initializer": named}
    raise ParameterError(
        f"to_config: {where} is a {type(value).__name__}, which a config cannot hold. It holds numbers, texts, lists, tuples, dicts, "
        "layers and the functions of minidl.init"
    )


def _class_value(kind: type, where: str) -> Any:
    if issubclass(kind, numpy.generic):
        return {"dtype": numpy.dtype(kind).name}
    if issubclass(kind, Layer) and kind.__module__.startswith("minidl."):
        return {"class": _name_of(kind)}
    raise ParameterError(f"to_config: {where} is the class {kind.__name__}, which a config cannot hold")


# building -------------------------------------------------------------------------------------------------------------


def build_model(config: Mapping[str, Any] | str) -> Any:
    """Build a model from a config; see :func:`minidl.models.from_config`."""
    try:
        found = json.loads(config) if isinstance(config, str) else config
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"from_config: the text is not JSON: {error}") from error
    if not isinstance(found, Mapping) or found.get("format") != FORMAT:
        raise FileFormatError("from_config: this is no config of a model of minidl")
    if found.get("version") != VERSION:
        raise FileFormatError(
            f"from_config: the config has version {found.get('version')!r}, but this minidl reads {VERSION}; install the minidl "
            "that wrote it"
        )
    try:
        model = _build_layer(found["model"])
        for path, node in found["swapped"].items():
            model = _swap(model, path, node)
        for name in found["removed"]:
            path, _, part = name.rpartition(".")
            owner = dict(model.named_layers())[path]
            if part not in owner._may_be_removed:
                raise FileFormatError(f"from_config: {name} is no part that can be removed")
            setattr(owner, part, None)
        _finish(model, found)
    except MinidlError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise FileFormatError(f"from_config: the config is damaged: {error!r}") from error
    return model


def _build_layer(node: Mapping[str, Any]) -> Any:
    name = node["class"]
    known = _own_classes() | _registered
    if name not in known:
        error = UnknownNameError.among("class of layers for from_config", name, sorted(known))
        raise UnknownNameError(f"{error}. A layer of your own must be registered first: @minidl.models.register_layer")
    several = [_restore(item) for item in node.get("layers", ())]
    named = {key: _restore(value) for key, value in node["arguments"].items()}
    return known[name](*several, **named)


def _restore(value: Any) -> Any:
    """Return an argument as it was."""
    if isinstance(value, list):
        return [_restore(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    [(kind, content)] = value.items()
    return _READERS[kind](content)


def _restore_settings(content: Any) -> Any:
    name, values = content
    kinds = _settings_classes()
    if name not in kinds:
        raise UnknownNameError.among("class of settings for from_config", name, sorted(kinds))
    return kinds[name](**{key: _restore(item) for key, item in values.items()})


def _settings_classes() -> dict[str, type]:
    """Return the data classes of the rooms of models, such as ``GPT2Config``."""
    rooms = [vars(module) for name, module in sys.modules.items() if name.startswith("minidl.models.")]
    found = [kind for room in rooms for kind in list(room.values()) if isinstance(kind, type)]
    return {k.__name__: k for k in found if dataclasses.is_dataclass(k) and k.__module__.startswith("minidl.models.")}


def _restore_initializer(name: str) -> Any:
    if name not in init.__all__:
        raise UnknownNameError.among("function of minidl.init for from_config", name, init.__all__)
    return getattr(init, name)


_READERS: dict[str, Callable[[Any], Any]] = {
    "float": float,
    "tuple": lambda content: tuple(map(_restore, content)),
    "dict": lambda content: {_restore(key): _restore(item) for key, item in content},
    "dtype": numpy.dtype,
    "array": lambda content: numpy.array(_restore(content[1]), dtype=numpy.dtype(content[0])),
    "class": lambda content: _own_classes()[content],
    "settings": _restore_settings,
    "layer": lambda content: _build_layer(content),
    "initializer": _restore_initializer,
}


def _swap(model: Any, path: str, node: Mapping[str, Any]) -> Any:
    """Put a layer with adapters, or with stored weights, in the place of a linear layer, unless it is there already."""
    old = dict(model.named_layers())[path]
    if isinstance(old, _SWAPPED):
        return model
    if node["class"] == "StoredLinear":
        new: Layer = StoredLinear(old, node["dtype"])
    else:
        new = LoRALinear(old, node["rank"], node["alpha"], node["dropout"])
    return swap_layers(model, {id(old): new})


def _finish(model: Any, config: Mapping[str, Any]) -> None:
    """Bring the parameters to the precision that they had, tie and freeze them; raise if they are others."""
    wanted = [(name, tuple(shape), dtype) for name, shape, dtype in config["parameters"]]
    dtypes = {dtype for _, _, dtype in wanted}
    if wanted and not model.built:
        raise FileFormatError(
            "from_config: the model had its parameters, but the config does not say the shape of its input"
        )
    if len(dtypes) == 1 and any(str(p.dtype) not in dtypes for p in model.parameters()):
        model.to(dtype=dtypes.pop())
    if not wanted:
        return
    for group in config["tied"]:
        _tie(model, group)
    found = [(name, tuple(p.shape), str(p.dtype)) for name, p in model.named_parameters()]
    for old, new in zip(wanted, found, strict=False):
        if old != new:
            raise ParameterError(
                f"from_config: the model had the parameter {_shown(old)} where the one built from its config has {_shown(new)}: it was "
                "changed after it was made, in a way that its arguments do not say"
            )
    if len(wanted) != len(found):
        raise ParameterError(
            f"from_config: the model had {len(wanted)} parameters, but the one built from its config has {len(found)}: it was changed "
            "after it was made, in a way that its arguments do not say"
        )
    frozen = set(config["frozen"])
    for name, parameter in model.named_parameters():
        if isinstance(parameter, Parameter) and parameter.trainable == (name in frozen):
            parameter.trainable = name not in frozen


def _shown(parameter: tuple[str, tuple[int, ...], str]) -> str:
    return f"{parameter[0]} of shape {parameter[1]} and {parameter[2]}"


def _tie(model: Any, names: list[str]) -> None:
    """Let all these names be one parameter."""
    own = dict(model.named_parameters())
    layers = dict(model.named_layers())
    for name in names[1:]:
        if own[name] is not own[names[0]]:
            path, _, attribute = name.rpartition(".")
            setattr(layers[path], attribute, own[names[0]])
            if isinstance(model, Chain):
                model._settle()
