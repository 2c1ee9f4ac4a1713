"""minidl: a deep-learning engine from scratch.

Every operation is a pair of formulas, forward and backward (``minidl.ops``); the same pairs exist as compiled kernels
and on a GPU (``minidl.engines``); a catalogue of checks proves that they agree and that every gradient is right
(``minidl.testing``).

>>> import numpy, minidl as dl
>>> dl.gradcheck("sigmoid", numpy.array([-1.0, 0.5])).ok
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from minidl import data, engines, errors, init, inspection, layers, metrics, models, ops, optim, training
from minidl.engines import get_num_threads, set_num_threads, use
from minidl.errors import GradcheckError, MinidlError
from minidl.layers import (
    ELU,
    GELU,
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    BCEWithLogitsLoss,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    CrossEntropyLoss,
    Dense,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    HuberLoss,
    Identity,
    L1Loss,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    LogSoftmax,
    MaxPool1d,
    MaxPool2d,
    MSELoss,
    Parallel,
    Parameter,
    ReflectionPad2d,
    ReLU,
    ReLU6,
    ReplicationPad2d,
    Residual,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    Upsample,
    ZeroPad2d,
    inference,
)
from minidl.models import Sequential
from minidl.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from minidl.random import seed

if TYPE_CHECKING:
    from minidl import testing
    from minidl.testing import gradcheck

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dense",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "GradcheckError",
    "GroupNorm",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "MinidlError",
    "Parallel",
    "Parameter",
    "RMSNorm",
    "RMSprop",
    "ReLU",
    "ReLU6",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Upsample",
    "ZeroPad2d",
    "__version__",
    "data",
    "engines",
    "errors",
    "get_num_threads",
    "gradcheck",
    "inference",
    "init",
    "inspection",
    "layers",
    "metrics",
    "models",
    "ops",
    "optim",
    "seed",
    "set_num_threads",
    "testing",
    "training",
    "use",
]


def __getattr__(name: str) -> Any:
    """Import the checks when they are first asked for: programs that only train need not wait for them."""
    if name in ("testing", "gradcheck"):
        testing_module = importlib.import_module("minidl.testing")
        globals().update(testing=testing_module, gradcheck=testing_module.gradcheck)
        return globals()[name]
    raise AttributeError(f"module 'minidl' has no attribute {name!r}")
