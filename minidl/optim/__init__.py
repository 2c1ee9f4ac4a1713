"""Optimisers, learning-rate schedules and gradient clipping: passes over flat buffers."""

from __future__ import annotations

from typing import Any

from minidl.errors import UnknownNameError
from minidl.optim import schedules
from minidl.optim.adaptive import Adagrad, Adam, AdamW, RMSprop
from minidl.optim.clip import clip_grad_norm, clip_grad_value
from minidl.optim.optimizer import Optimizer
from minidl.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
    "get",
    "schedules",
]

_NAMED: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adagrad": (Adagrad, {"lr": 0.001}),
    "adam": (Adam, {"lr": 0.001}),
    "adamw": (AdamW, {"lr": 0.001}),
    "rmsprop": (RMSprop, {"lr": 0.001, "alpha": 0.9}),
    "sgd": (SGD, {"lr": 0.01}),
}


def get(name: str) -> tuple[type[Optimizer], dict[str, Any]]:
    """Return the optimiser of a Keras name and the settings in which Keras's defaults differ.

    >>> get("sgd")
    (<class 'minidl.optim.sgd.SGD'>, {'lr': 0.01})
    """
    if not isinstance(name, str) or name.lower() not in _NAMED:
        raise UnknownNameError.among("optimizer", name, _NAMED)
    optimizer, settings = _NAMED[name.lower()]
    return optimizer, dict(settings)
