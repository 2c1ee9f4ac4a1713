"""Published weights: a model from a folder that was downloaded from Hugging Face.

config.json says which model it is and how large; the class of that model builds it, and reads model.safetensors by a table of
names that stands in the model's own file.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from minidl import init
from minidl.errors import FileFormatError, ParameterError, UnknownNameError
from minidl.weights.safetensors_file import parse_json

__all__ = ["Pretrained", "Settings", "change_settings", "from_pretrained", "read_settings", "require"]

Settings = dict[str, Any]
"""The content of a config.json."""

Config = TypeVar("Config")
"""A dataclass of a model's settings."""

_CLASSES = {
    "bert": "minidl.models.bert.BERT",
    "clip": "minidl.models.clip.CLIP",
    "detr": "minidl.models.detr.DETR",
    "dinov2": "minidl.models.vit.ViT",
    "dinov2_with_registers": "minidl.models.vit.ViT",
    "distilbert": "minidl.models.bert.BERT",
    "gpt2": "minidl.models.gpt2.GPT2",
    "roberta": "minidl.models.bert.BERT",
    "vit": "minidl.models.vit.ViT",
}
"""The class of each ``model_type``; it is imported when such a model is asked for."""


class Pretrained(Protocol):
    """What a class has whose models :func:`from_pretrained` can make."""

    @classmethod
    def from_settings(cls, settings: Settings, *, dtype: Any = "float32") -> Any:
        """Build the model that a config.json describes, or raise ParameterError for what it cannot be."""

    def load_hugging_face(self, path: str | os.PathLike[str]) -> None:
        """Read the weights of a folder or safetensors file."""


def from_pretrained(folder: str | os.PathLike[str], *, dtype: Any = "float32") -> Any:
    """Build the model of a folder and read its weights.

    Parameters
    ----------
    folder : path
        With config.json, and with model.safetensors or model.safetensors.index.json and its shards. Nothing is downloaded.
    dtype : dtype, default float32
        Of the parameters; the numbers of the file are converted.

    Returns
    -------
    model : Layer
        In evaluation mode, so that dropout is off; ``model.train()`` switches it on.

    Raises
    ------
    FileFormatError
        If a file is missing or damaged, or the weights are those of another model. Pickles are not read: the message says how to
        convert one.
    UnknownNameError
        If minidl has no such model.
    ParameterError
        If config.json asks for something that the model here does not do.
    MissingDependencyError
        If the package safetensors is not installed.

    Examples
    --------
    >>> model = from_pretrained("gpt2")  # doctest: +SKIP
    >>> type(model).__name__, model.config.width  # doctest: +SKIP
    ('GPT2', 768)
    """
    folder = Path(folder)
    settings = read_settings(folder)
    kind = settings.get("model_type")
    if kind not in _CLASSES:
        raise UnknownNameError.among(f"model_type in {folder / 'config.json'}:", kind, _CLASSES)
    module, name = _CLASSES[kind].rsplit(".", 1)
    made_by = getattr(importlib.import_module(module), name).from_settings
    with init.undrawn():
        model = made_by(settings, dtype=dtype)
    model.load_hugging_face(folder)
    if left := [name for name, parameter in model.named_parameters() if parameter._undrawn]:
        raise ParameterError(f"from_pretrained({os.fspath(folder)!r}): the weights lack {', '.join(left)}")
    return model.eval()


def read_settings(folder: str | os.PathLike[str]) -> Settings:
    """Return the content of a folder's config.json.

    Raises
    ------
    FileFormatError
        If there is no such file, or it is not a JSON object.
    """
    path = Path(folder) / "config.json"
    try:
        settings = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise FileFormatError(
            f"there is no {path}; give the folder that holds config.json and model.safetensors"
        ) from error
    except ValueError as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise FileFormatError(f"{path}: expected an object of settings, got {type(settings).__name__}")
    return settings


def require(settings: Mapping[str, Any], allowed: Mapping[str, Collection[Any]], model: str) -> None:
    """Raise ParameterError if config.json has a setting that changes the computation to what the model does not do.

    Parameters
    ----------
    settings : mapping
        The content of config.json.
    allowed : mapping
        For each name, the values that the model can be built with. A setting that is absent passes.
    model : str
        For the message.
    """
    for name, values in allowed.items():
        if name in settings and settings[name] not in values:
            known = ", ".join(map(repr, values))
            raise ParameterError(f"{model}: config.json has {name} = {settings[name]!r}; minidl has {known}")


def change_settings(config: Config, changes: Mapping[str, Any], model: str) -> Config:
    """Return a configuration with some settings changed; raise ParameterError for one that it does not have."""
    known = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    if unknown := sorted(set(changes) - known):
        raise ParameterError(f"{model}: there is no setting {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]
