"""A deep-learning engine from scratch.

Every operation is a pair of formulas, forward and backward (``minidl.ops``). The same pairs exist as compiled kernels and
on a GPU (``minidl.engines``). A test catalogue checks that they agree and that every gradient is right
(``minidl.testing``).

Every layer, loss, optimiser and ``Sequential`` is available as ``minidl.NAME``. Each package is loaded when a name in it is
first used.

>>> import numpy, minidl as dl
>>> dl.gradcheck("sigmoid", numpy.array([-1.0, 0.5])).ok
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidl import (
        data,
        engines,
        errors,
        init,
        inspection,
        interop,
        layers,
        metrics,
        models,
        ops,
        optim,
        testing,
        text,
        training,
        weights,
    )
    from minidl.engines import get_num_threads, set_num_threads, use
    from minidl.errors import GradcheckError, MinidlError
    from minidl.layers import *
    from minidl.models import Sequential
    from minidl.ops.precision import get_matmul_precision, matmul_precision, set_matmul_precision
    from minidl.optim import *
    from minidl.random import seed
    from minidl.testing import gradcheck

__version__ = "0.1.0"

_ROOMS = (
    "cli",
    "data",
    "engines",
    "errors",
    "init",
    "inspection",
    "interop",
    "layers",
    "metrics",
    "models",
    "ops",
    "optim",
    "random",
    "testing",
    "text",
    "training",
    "weights",
)
_FUNCTIONS = {
    "GradcheckError": "errors",
    "MinidlError": "errors",
    "Sequential": "models",
    "add_lora": "layers",
    "get_matmul_precision": "ops.precision",
    "get_num_threads": "engines",
    "gradcheck": "testing",
    "inference": "layers",
    "load_lora": "layers",
    "lora_state_dict": "layers",
    "matmul_precision": "ops.precision",
    "merge_lora": "layers",
    "save_lora": "layers",
    "seed": "random",
    "set_matmul_precision": "ops.precision",
    "set_num_threads": "engines",
    "store_weights": "layers",
    "use": "engines",
}
_OPTIMIZERS = ("SGD", "Adagrad", "Adam", "AdamW", "RMSprop")


def __getattr__(name: str) -> Any:
    """Load the package of a name when the name is first used."""
    if name == "__all__":
        return sorted(_public_names())
    if name in _ROOMS:
        return importlib.import_module(f"minidl.{name}")
    if name in _OPTIMIZERS or name in _FUNCTIONS or name[:1].isupper():
        room = "optim" if name in _OPTIMIZERS else _FUNCTIONS.get(name, "layers")
        module = importlib.import_module(f"minidl.{room}")
        if room != "layers" or name in module.__all__:
            globals()[name] = found = getattr(module, name)
            return found
    raise AttributeError(f"module 'minidl' has no attribute {name!r}")


def _public_names() -> set[str]:
    layers_module = importlib.import_module("minidl.layers")
    classes = {name for name in layers_module.__all__ if name[0].isupper()}
    return {*classes, *_OPTIMIZERS, *_FUNCTIONS, *_ROOMS, "__version__"} - {"cli", "random", "weights"}


def __dir__() -> list[str]:
    return sorted(_public_names() | set(globals()))
