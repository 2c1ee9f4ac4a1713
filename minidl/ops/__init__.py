"""The formulas: every operation as a pair of pure functions on arrays, forward and backward.

``NAME(x, ...)`` returns (y, cache) and ``NAME_backward(dy, cache)`` returns the gradients. dy must have the shape and dtype
of y; otherwise ``ShapeError`` or ``DtypeError`` is raised. Each gradient has the shape and dtype of its argument. Backward
changes neither dy nor the cache, so it may be called again. Every docstring opens with the equations in plain lines:
``y = ...`` in a forward (``l = ...`` in a loss), and ``dx = ...`` for each gradient in a backward. The backward of an op
with parameters also takes ``into=``, ``add=`` and ``wanted=``; see ``minidl.ops._gradients``.

There is no state, no layer and no engine in here. A name reached as ``minidl.ops.NAME`` hands the call to the current
engine (see ``minidl.use``); ``minidl.ops.activation.relu`` or ``minidl.ops.FORMULAS["relu"]`` is the formula itself.

>>> import numpy, minidl
>>> y, cache = minidl.ops.relu(numpy.array([-1.0, 2.0]))
>>> y
array([0., 2.])
>>> minidl.ops.relu_backward(numpy.array([10.0, 10.0]), cache)
array([ 0., 10.])
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minidl.ops._dispatch import register
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops.folding import fold_batch_norm

if TYPE_CHECKING:  # the static types are those of the formulas
    from minidl.ops.activation import *
    from minidl.ops.attention import *
    from minidl.ops.boxes import *
    from minidl.ops.conv import *
    from minidl.ops.ctc import *
    from minidl.ops.dropout import *
    from minidl.ops.embedding import *
    from minidl.ops.gated import *
    from minidl.ops.likelihood import *
    from minidl.ops.linear import *
    from minidl.ops.loss import *
    from minidl.ops.norm import *
    from minidl.ops.pool import *
    from minidl.ops.position import *
    from minidl.ops.recurrent import *
    from minidl.ops.resample import *
    from minidl.ops.softmax import *
    from minidl.ops.unpool import *
    from minidl.ops.update import *
    from minidl.ops.volumes import *

ROOMS = (
    "linear",
    "conv",
    "pool",
    "unpool",
    "volumes",
    "resample",
    "norm",
    "activation",
    "gated",
    "softmax",
    "dropout",
    "embedding",
    "attention",
    "position",
    "loss",
    "likelihood",
    "ctc",
    "boxes",
    "recurrent",
    "update",
)
"""The modules with formulas; a new one is added here and its ``__all__`` does the rest."""

FORMULAS: dict[str, Callable[..., Any]] = {}
"""Every op by name, the pure formula."""

for _room in ROOMS:
    _module = importlib.import_module(f"{__name__}.{_room}")
    FORMULAS.update({_name: getattr(_module, _name) for _name in _module.__all__})
globals().update(register(FORMULAS))

PARAMETERS: dict[str, tuple[str, ...]] = {
    name.removesuffix("_backward"): formula.parameters  # type: ignore[attr-defined]
    for name, formula in FORMULAS.items()
    if hasattr(formula, "parameters")
}
"""The parameters of every op that has some, in the order of their gradients; see ``minidl.ops._gradients``."""

ACTIVATIONS = tuple(
    sorted(
        name
        for name, formula in FORMULAS.items()
        if formula.__module__ == f"{__name__}.activation" and f"{name}_backward" in FORMULAS and name not in PARAMETERS
    )
)
"""The activations of one element at a time: all of the room but those with parameters."""

__all__ = [
    "ACTIVATIONS",
    "FORMULAS",
    "PARAMETERS",
    "ROOMS",
    "Array",
    "fold_batch_norm",
    "namespace",
    "require_float",
    *FORMULAS,
]
