"""The weights of a layer by name: the work of ``state_dict``, ``load_state_dict``, ``save`` and ``load``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from minidl import weights
from minidl.errors import MinidlError
from minidl.layers.parameter import Parameter
from minidl.ops import Array
from minidl.weights.matching import IncompatibleKeys, Names, Target, Transpose, load_tensors
from minidl.weights.tensors import MemoryTensor, Tensor

if TYPE_CHECKING:
    from minidl.layers.base import Layer

_OPTIONAL = "num_batches_tracked"
"""A buffer that may be missing: files of PyTorch before 0.4.1, and some converted files, lack it. PyTorch loads them too."""


class _Entry(NamedTuple):
    name: str
    owner: Any  # the same one for all names of a tied parameter
    array: Array


def _list_entries(layer: Layer) -> list[_Entry]:
    """Return the values of parameters and the buffers, each under all its names."""
    parameters = [_Entry(name, parameter, parameter.value) for name, parameter in layer.named_parameters()]
    return parameters + [_Entry(name, array, array) for name, array in layer.saved_buffers()]


def _group_by_array(entries: list[_Entry]) -> list[Target]:
    """Return each array once, with all its names."""
    groups: dict[int, list[_Entry]] = {}
    for entry in entries:
        groups.setdefault(id(entry.owner), []).append(entry)
    return [
        Target(
            names=tuple(entry.name for entry in group),
            array=group[0].array,
            optional=group[0].owner is group[0].array and group[0].name.split(".")[-1] == _OPTIONAL,
        )
        for group in groups.values()
    ]


def state_dict(layer: Layer) -> dict[str, numpy.ndarray]:
    """Return copies of all parameters and buffers by name; see :meth:`Layer.state_dict`."""
    entries = _list_entries(layer)
    copies: dict[str, numpy.ndarray] = {}
    for target in _group_by_array(entries):
        copies |= dict.fromkeys(target.names, weights.to_host(target.array).copy())
    return {entry.name: copies[entry.name] for entry in entries}


def load_state_dict(
    layer: Layer,
    state_dict: Mapping[str, Any],
    strict: bool = True,
    names: Names | None = None,
    transpose: Transpose | None = None,
) -> IncompatibleKeys:
    """Copy values into the parameters and buffers; see :meth:`Layer.load_state_dict`."""
    where = "load_state_dict"
    tensors = {name: MemoryTensor(name, a) for name, a in weights.arrays_by_name(state_dict, where).items()}
    return _load(layer, tensors, strict, names, transpose, where)


def save(
    layer: Layer, path: str | os.PathLike[str], dtype: str | None = None, max_shard_size: int | str | None = None
) -> None:
    """Write the weights to a file; see :meth:`Layer.save`."""
    targets = _group_by_array(_list_entries(layer))
    aliases = {
        alias: target.names[0] for target in targets for alias in target.names[1:]
    }  # as safetensors.torch notes them
    arrays = {target.names[0]: target.array for target in targets}
    metadata = {**aliases, **_config_of(layer)}
    weights.save_file(arrays, path, metadata, dtype=dtype, max_shard_size=max_shard_size)


def _config_of(layer: Layer) -> dict[str, str]:
    """Return the config for the metadata of a file, or why there is none, which ``load_model`` then says."""
    try:
        return {"minidl.config": json.dumps(layer.to_config(), separators=(",", ":"))}
    except MinidlError as error:
        return {"minidl.no_config": str(error)}


def load(
    layer: Layer,
    path: str | os.PathLike[str],
    strict: bool = True,
    names: Names | None = None,
    transpose: Transpose | None = None,
) -> IncompatibleKeys:
    """Read weights from a file, an index or a folder; see :meth:`Layer.load`."""
    with weights.open_weights(path) as tensors:
        return _load(layer, tensors, strict, names, transpose, f"load({os.fspath(path)!r})")


def _load(
    layer: Layer,
    tensors: Mapping[str, Tensor],
    strict: bool,
    names: Names | None,
    transpose: Transpose | None,
    where: str,
) -> IncompatibleKeys:
    """Fill the parameters and buffers, and note that these parameters have values."""
    entries = _list_entries(layer)
    targets = _group_by_array(entries)
    report = load_tensors(targets, tensors, strict=strict, names=names, transpose=transpose, where=where)
    missing = {name.partition("[")[0] for name in report.missing_keys}  # of a parameter in shares, any of them
    for name, owner, _ in entries:
        if isinstance(owner, Parameter) and name not in missing:
            owner._undrawn = False
    return report
