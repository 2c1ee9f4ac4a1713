"""Weights in one file, or in several files with an index."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy

from minidl.errors import FileFormatError, ParameterError, UnknownNameError
from minidl.ops import Array
from minidl.weights.files import atomic_file, open_binary, resolve_target
from minidl.weights.safetensors_file import (
    PICKLED,
    SAVED_DTYPES,
    StoredTensor,
    list_tensors,
    parse_json,
    stored_size,
    write_tensors,
)

__all__ = ["find_weights", "load_file", "open_weights", "save_file"]

_INDEX = ".index.json"


def load_file(path: str | os.PathLike[str]) -> dict[str, numpy.ndarray]:
    """Read the arrays of a safetensors file, of the shards of an index, or of a folder with either.

    bfloat16 is converted to float32, which is exact.

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    FileFormatError
        If the file is no safetensors file, is cut short, or is damaged, or has a dtype that NumPy has no equal for; if
        index and shards do not fit together.
    ParameterError
        If the path contains a null byte.
    FileNotFoundError
        If there is no such file.
    """
    with open_weights(path) as tensors:
        return {name: tensor.read_all() for name, tensor in tensors.items()}


def save_file(
    state_dict: Mapping[str, Array],
    path: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    *,
    dtype: str | None = None,
    max_shard_size: int | str | None = None,
) -> None:
    """Write arrays by name to a safetensors file, or to several with an index.

    Parameters
    ----------
    state_dict : mapping of str to array
    path : path
    metadata : dict of str to str, optional
        Written into the header.
    dtype : str, optional
        ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"float64"``. Floating-point numbers are rounded to it.
    max_shard_size : int or str, optional
        In bytes, or text such as ``"2GB"``. Larger weights are split into files ``NAME-00001-of-00003.safetensors``,
        with the index in ``path`` + ``.index.json``; a file at ``path`` itself is removed.

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    DtypeError
        If the format has no such dtype.
    NonFiniteError
        If a finite number would become infinite in ``dtype``.
    ParameterError, UnknownNameError
        If a name is not a string, or a setting is invalid.
    """
    if dtype is not None and dtype not in SAVED_DTYPES:
        raise UnknownNameError.among("dtype to save in", dtype, SAVED_DTYPES)
    shards = [dict(state_dict)]
    if max_shard_size is not None:
        shards = _split(state_dict, dtype, _parse_size(max_shard_size))
    if len(shards) <= 1:
        with atomic_file(path) as file:
            write_tensors(file, state_dict, dtype, metadata)
        return
    path = Path(path)
    resolve_target(path)
    names = [f"{path.stem}-{i:05d}-of-{len(shards):05d}{path.suffix}" for i in range(1, len(shards) + 1)]
    index = path.with_name(path.name + _INDEX)
    total = sum(stored_size(name, array, dtype) for name, array in state_dict.items())
    weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
    with contextlib.ExitStack() as stack:  # closes in reverse order: the index appears last
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n"
        stack.enter_context(atomic_file(index)).write(text.encode())
        for name, shard in zip(names, shards, strict=True):
            file = stack.enter_context(atomic_file(path.with_name(name)))
            write_tensors(file, shard, dtype, metadata)
            os.fsync(file.fileno())
        for old in (path, index):  # from here on an interruption leaves no index rather than one of old and new shards
            Path(os.path.realpath(old)).unlink(missing_ok=True)  # links stay, as everywhere


def _parse_size(size: int | str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(i?)B?", str(size), re.IGNORECASE)
    if match is None or not int(match[1]):
        raise ParameterError(f"max_shard_size: expected a number of bytes or text such as '2GB', got {size!r}")
    return int(match[1]) * (1024 if match[3] else 1000) ** " KMG".index(match[2].upper() or " ")


def _split(arrays: Mapping[str, Array], dtype: str | None, limit: int) -> list[dict[str, Array]]:
    """Split the arrays, in order, into shards of at most ``limit`` bytes. A larger array gets its own shard."""
    shards: list[dict[str, Array]] = []
    filled = 0
    for name, array in arrays.items():
        size = stored_size(name, array, dtype)
        if not shards or filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = array
        filled += size
    return shards


@contextlib.contextmanager
def open_weights(path: str | os.PathLike[str]) -> Iterator[dict[str, StoredTensor]]:
    """Open a file, an index or a folder of weights; yield its tensors by name, which can be read inside the block.

    Raises
    ------
    MissingDependencyError, FileFormatError, ParameterError, FileNotFoundError
        As :func:`load_file`.
    """
    found = find_weights(Path(path))
    with contextlib.ExitStack() as stack:
        if found.suffix == ".json":
            yield _open_shards(found, stack)
        else:
            yield list_tensors(stack.enter_context(open_binary(found)))


def find_weights(path: Path) -> Path:
    """Return the file or the index that a path names, or that is in the folder that it names."""
    if path.is_dir():
        plain = path / "model.safetensors"
        index = plain.with_name(plain.name + _INDEX)
        found = [file for file in (plain, index) if file.is_file()]
        if len(found) == 1:
            return found[0]
        if found:
            raise FileFormatError(f"the folder {path} holds both {plain.name} and {index.name}; name the one to load")
        pickles = sorted(file.name for file in path.glob("*.bin"))
        advice = f". It holds {', '.join(pickles)}. {PICKLED}" if pickles else "; name the file to load"
        raise FileFormatError(f"the folder {path} holds neither {plain.name} nor {index.name}{advice}")
    index = path.with_name(path.name + _INDEX)
    return index if not path.exists() and index.is_file() else path


def _open_shards(index: Path, stack: contextlib.ExitStack) -> dict[str, StoredTensor]:
    weight_map = _read_index(index)
    shards = {name: index.with_name(name) for name in dict.fromkeys(weight_map.values())}
    absent = [name for name, path in shards.items() if not path.is_file()]
    if absent:
        raise FileFormatError(f"{index} names shards that are not beside it: {', '.join(absent)}")
    tensors: dict[str, StoredTensor] = {}
    for shard, path in shards.items():
        held = list_tensors(stack.enter_context(open_binary(path)))
        wanted = [name for name, file in weight_map.items() if file == shard]
        lacking = [name for name in wanted if name not in held]
        extra = [name for name in held if weight_map.get(name) != shard]
        if lacking or extra:
            raise FileFormatError(
                f"{path} is not the shard that {index.name} describes; it lacks: {', '.join(lacking) or 'none'}; "
                f"the index does not place there: {', '.join(extra) or 'none'}"
            )
        tensors |= held
    return {name: tensors[name] for name in weight_map}


def _read_index(index: Path) -> dict[str, str]:
    """Return the name of the file of each tensor.

    Raises
    ------
    FileFormatError
        If it is not an index, or names files outside its folder.
    """
    try:
        weight_map = parse_json(index.read_bytes())["weight_map"]
        fits = all(isinstance(name, str) for name in weight_map.values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileFormatError(f"{index} is not an index of shards, a JSON object with weight_map: {error!r}") from error
    if not fits:
        raise FileFormatError(
            f"{index} is not an index of shards: weight_map must give the name of a file for each tensor"
        )
    for name in dict.fromkeys(weight_map.values()):
        plain = PurePosixPath(name).name == name == PureWindowsPath(name).name and name not in ("", ".", "..")
        if not plain or "\0" in name:
            raise FileFormatError(f"{index} names {name!r}; shards must lie beside the index, in its own folder")
    return weight_map
