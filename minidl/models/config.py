"""Models from their configs, and from one file with config and weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minidl.errors import FileFormatError
from minidl.layers.configuration import build_model
from minidl.weights.safetensors_file import read_metadata
from minidl.weights.sharded import find_weights

__all__ = ["from_config", "load_model"]


def from_config(config: Mapping[str, Any] | str) -> Any:
    """Build a model from what ``model.to_config()`` returned, or from its JSON text. Its weights are new ones.

    Only classes of minidl, and those that were given to ``minidl.models.register_layer``, are made; no code comes from a
    config.

    Parameters
    ----------
    config : dict or str

    Returns
    -------
    model : layer
        Of the same class, with parameters of the same names, shapes and precision, tied and frozen in the same way. What
        ``compile`` was given is not part of it, and neither are random generators.

    Raises
    ------
    FileFormatError
        If it is no config, of a newer version, or damaged.
    UnknownNameError
        If a class is not known; the message tells how to register one.
    ParameterError
        If the arguments do not make the parameters that the model had.

    Examples
    --------
    >>> import json, minidl as dl
    >>> model = dl.Sequential([dl.Dense(8, activation="relu", input_shape=(4,)), dl.Dense(3)])
    >>> text = json.dumps(model.to_config())
    >>> dl.models.from_config(text)
    Sequential(Dense(8, activation=ReLU()), Dense(3))
    """
    return build_model(config)


def load_model(path: str | os.PathLike[str]) -> Any:
    """Build the model of a file that ``model.save`` wrote, and load its weights.

    Parameters
    ----------
    path : path
        A safetensors file, the index of shards, or a folder with either.

    Raises
    ------
    FileFormatError
        If the file holds no config, because a layer was not registered or another program wrote it; or as :func:`from_config`
        and ``Layer.load``.
    UnknownNameError, ParameterError
        As :func:`from_config`.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import os, tempfile, minidl as dl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     dl.Sequential([dl.Linear(4, 3), dl.Tanh()]).save(path)
    ...     dl.models.load_model(path)
    Sequential(Linear(4, 3), Tanh())
    """
    about = read_metadata(find_weights(Path(path)))
    if "minidl.config" not in about:
        why = about.get("minidl.no_config", "it is not from minidl, or from an earlier version")
        raise FileFormatError(
            f"load_model: {os.fspath(path)} holds weights, but not how the model was made: {why}. Make the model, and call "
            "model.load(path)"
        )
    model = build_model(about["minidl.config"])
    model.load(path)
    return model
