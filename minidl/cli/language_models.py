"""The language models of the command line, built from what a checkpoint says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl import models
from minidl.errors import FileFormatError, UnknownNameError

__all__ = ["KINDS", "create_model"]


def _gpt(**sizes: Any) -> Any:
    return models.GPT2("nano", **sizes)


def _recurrent(cell: str) -> Callable[..., Any]:
    def create(vocab_size: int, layers: int, width: int, dropout: float, **others: Any) -> Any:
        return models.CharRNN(vocab_size, width, width, layers, cell, dropout)

    return create


KINDS: dict[str, Callable[..., Any]] = {
    "gpt": _gpt,
    "lstm": _recurrent("lstm"),
    "gru": _recurrent("gru"),
    "rnn": _recurrent("rnn"),
}
"""The function that creates each kind."""


def create_model(settings: dict[str, Any]) -> Any:
    """Return a new model.

    Parameters
    ----------
    settings : dict
        ``"kind"``, ``"vocab_size"``, ``"context"``, ``"layers"``, ``"heads"``, ``"width"`` and ``"dropout"``.

    Raises
    ------
    UnknownNameError
        If there is no such kind.
    FileFormatError
        If a setting is missing.
    """
    others = dict(settings)
    kind = others.pop("kind", None)
    if kind not in KINDS:
        raise UnknownNameError.among("kind of language model", kind, KINDS)
    try:
        return KINDS[kind](**others)
    except TypeError as error:
        raise FileFormatError(f"the settings of the model do not fit its kind, {kind}: {error}") from error
