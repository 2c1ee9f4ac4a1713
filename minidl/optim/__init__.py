"""Optimisers, learning-rate schedules and gradient clipping: passes over flat buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.errors import UnknownNameError
from minidl.optim.adagrad import Adagrad
from minidl.optim.adam import Adam, AdamW
from minidl.optim.clip import clip_grad_norm, clip_grad_value
from minidl.optim.groups import param_groups_weight_decay
from minidl.optim.one_cycle import OneCycleLR
from minidl.optim.optimizer import Group, Optimizer
from minidl.optim.plateau import ReduceLROnPlateau
from minidl.optim.rmsprop import RMSprop
from minidl.optim.schedules import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
    StepLR,
)
from minidl.optim.sgd import SGD
from minidl.optim.warmup import TransformerLR

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "Group",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "TransformerLR",
    "clip_grad_norm",
    "clip_grad_value",
    "get",
    "param_groups_weight_decay",
]

_NAMED: Mapping[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adagrad": (Adagrad, {"lr": 0.001, "initial_accumulator_value": 0.1, "eps": 1e-7}),
    "adam": (Adam, {"lr": 0.001, "eps": 1e-7}),
    "adamw": (AdamW, {"lr": 0.001, "weight_decay": 0.004, "eps": 1e-7}),
    "rmsprop": (RMSprop, {"lr": 0.001, "alpha": 0.9, "eps": 1e-7}),
    "sgd": (SGD, {"lr": 0.01}),
}


def get(name: str) -> tuple[type[Optimizer], dict[str, Any]]:
    """Return the optimiser of a Keras name and its initial settings.

    The settings are Keras's: the rate is 0.01 for ``"sgd"`` and 0.001 for the others, whose eps is 1e-7; alpha is 0.9 for
    ``"rmsprop"``, the weight decay 0.004 for ``"adamw"``, and the initial sum of squares 0.1 for ``"adagrad"``. Everything
    else is the default of the class. The formulas are those of the class: Keras adds eps inside the root for ``"rmsprop"``
    and ``"adagrad"``, and before the correction of the means for ``"adam"`` and ``"adamw"``.

    Raises
    ------
    UnknownNameError
        If there is no optimiser of that name; lists the known names.

    Examples
    --------
    >>> get("sgd")
    (<class 'minidl.optim.sgd.SGD'>, {'lr': 0.01})
    """
    if not isinstance(name, str) or name.lower() not in _NAMED:
        raise UnknownNameError.among("optimizer", name, _NAMED)
    optimizer, settings = _NAMED[name.lower()]
    return optimizer, dict(settings)
