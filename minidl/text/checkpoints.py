"""Checkpoints of language models: everything that generation and further training need, in one file.

It is a safetensors file. Its tensors are the model's weights by their names, and the optimiser's state by the names of
``Optimizer.state_dict`` after ``optimizer.``. Its metadata holds one JSON text: how to build the model, the tokenizer, and
where the training is. One file is written as a whole or not at all, so weights and settings always fit together.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import numpy

from minidl import weights
from minidl.errors import FileFormatError, MissingDependencyError
from minidl.text.tokenizers import Tokenizer, from_dict
from minidl.weights.safetensors_file import parse_json

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = "minidl language model"
_OPTIMIZER = "optimizer."


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes
    ----------
    settings : dict
        How to build the model.
    tokenizer : Tokenizer
    weights : dict of str to array
        For ``model.load_state_dict``.
    optimizer : dict of str to array
        For ``optimizer.load_state_dict``.
    training : dict
        The step, the seed, the schedule and the generator of random numbers; see :class:`minidl.text.Trainer`.
    """

    settings: dict[str, Any]
    tokenizer: Tokenizer
    weights: dict[str, numpy.ndarray]
    optimizer: dict[str, numpy.ndarray]
    training: dict[str, Any]


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a safetensors file, as a whole or not at all.

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    FileFormatError, ParameterError, OSError
        If the file cannot be written.
    """
    about = {
        "format": FORMAT,
        "version": 1,
        "model": checkpoint.settings,
        "tokenizer": checkpoint.tokenizer.to_dict(),
        "training": checkpoint.training,
    }
    first_names: dict[int, str] = {}  # tied weights are one array with several names, and are written once
    own = {name: w for name, w in checkpoint.weights.items() if first_names.setdefault(id(w), name) == name}
    tensors = own | {_OPTIMIZER + name: array for name, array in checkpoint.optimizer.items()}
    weights.save_file(tensors, path, {"minidl": json.dumps(about, separators=(",", ":"))})


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    FileFormatError
        If the file is no checkpoint of a language model, or is damaged.
    FileNotFoundError, PermissionError, IsADirectoryError, ParameterError
        If it cannot be read.
    """
    name = os.fspath(path)
    tensors = weights.load_file(path)
    try:
        about = parse_json(_read_metadata(name).get("minidl", "null").encode())
    except ValueError as error:
        raise FileFormatError(f"{name}: the description of the model is damaged: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise FileFormatError(
            f"{name}: this file holds weights, but not the description that `minidl train --text` writes with them"
        )
    parts = [about.get(part) for part in ("model", "training", "tokenizer")]
    if about.get("version") != 1 or not all(isinstance(part, dict) for part in parts):
        raise FileFormatError(f"{name}: the description of the model is of another version, or damaged")
    optimizer = {key.removeprefix(_OPTIMIZER): a for key, a in tensors.items() if key.startswith(_OPTIMIZER)}
    own = {key: array for key, array in tensors.items() if not key.startswith(_OPTIMIZER)}
    return Checkpoint(about["model"], from_dict(about["tokenizer"], name), own, optimizer, about["training"])


def _read_metadata(name: str) -> dict[str, str]:
    """Return the metadata of a safetensors file that could be read."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingDependencyError.needs("A checkpoint", "safetensors", "weights") from error
    try:
        with safe_open(name, framework="numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise FileFormatError(f"{name}: {error}") from error
