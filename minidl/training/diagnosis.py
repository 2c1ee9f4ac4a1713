"""Why a loss is not finite: the first layer whose output is not, found by running the batch once more."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.layers import Chain, Parameter
from minidl.layers.branches import Branches
from minidl.ops import Array, namespace

__all__ = ["all_finite", "first_not_finite", "named_not_finite"]


def first_not_finite(model: Any, x: Array, loss: Any) -> str:
    """Return, for a message, where the first number that is not finite comes from.

    Parameters
    ----------
    model : layer
        Run layer by layer, in the mode that it is in (dropout draws a new mask).
    x : array
        The batch.
    loss : loss
        What is to blame if all layers' outputs are finite.
    """
    with numpy.errstate(all="ignore"):
        found, output = _walk(model, x, ())
    if found:
        return found
    largest = float(namespace(output).abs(output).max()) if output.size else 0.0
    return f"the outputs of all layers are finite, the largest {largest:.3g}, so it is the loss {loss!r} itself"


def _walk(layer: Any, x: Array, path: tuple[str, ...]) -> tuple[str, Array]:
    """Return what to say about the first output that is not finite, or nothing, and the layer's output."""
    if isinstance(layer, Chain):
        for name, inner in layer.children().items():
            found, x = _walk(inner, x, (*path, name))
            if found:
                return found, x
        return "", x
    if isinstance(layer, Branches):
        for name, way in layer.ways.items():
            found = "" if way is None else _walk(way, x, (*path, *filter(None, [layer.inner(name)])))[0]
            if found:
                return found, x
    y = layer.forward(x)
    if _finite(y):
        return "", y
    place = f"layer {'.'.join(path)}, {layer!r}" if path else repr(layer)
    spoilt = [p.name for p in getattr(layer, "parameters", list)() if isinstance(p, Parameter) and not _finite(p.value)]
    why = f" (its parameter {spoilt[0]!r} is not finite: the step before spoilt it)" if spoilt else ""
    return f"the first output that is not finite is that of {place}{why}", y


def all_finite(parameters: list[Any]) -> bool:
    """Whether all parameters are finite: one look at each flat buffer."""
    return all(_finite(buffer.values) for buffer in {p.buffer for p in parameters if isinstance(p, Parameter)})


def named_not_finite(model: Any) -> str:
    """Return the path of the first parameter that is not finite."""
    return next(name for name, p in model.named_parameters() if isinstance(p, Parameter) and not _finite(p.value))


def _finite(array: Array) -> bool:
    return bool(namespace(array).isfinite(array).all())
