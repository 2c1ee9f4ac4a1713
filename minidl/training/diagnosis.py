"""Why a loss is not finite: run the batch again and find the first layer whose output is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from minidl.layers import Chain, Layer, Parameter
from minidl.layers.branches import Branches
from minidl.ops import Array, namespace
from minidl.training.array_group import call_with, group_arrays

__all__ = ["all_finite", "first_not_finite", "named_not_finite"]


def first_not_finite(model: Any, x: Any, loss: Any) -> str:
    """Say, for an error message, where the first number that is not finite comes from.

    Parameters
    ----------
    model : layer
        Run layer by layer in its current mode (dropout draws a new mask).
    x : array or ArrayGroup
        The batch.
    loss : loss
        Named if the outputs of all layers are finite.
    """
    try:
        with numpy.errstate(all="ignore"):
            found, output = _walk(model, x, ())
    except Exception as error:  # a user's layers may not run one by one; the loss must be reported all the same
        return f"the layer that it comes from is unknown, because the layers could not be run one by one ({error})"
    if found:
        return found
    largest = max((float(namespace(part).abs(part).max()) for part in _arrays(output) if part.size), default=0.0)
    return f"the outputs of all layers are finite, the largest {largest:.3g}, so it is the loss {loss!r} itself"


def _walk(layer: Any, x: Any, path: tuple[str, ...]) -> tuple[str, Any]:
    """Return a sentence about the first output that is not finite, or "", and the output of the layer."""
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
    y = call_with(layer.forward, group_arrays(x, "", ""))
    if _finite(y):
        return "", y
    guilty = _guilty_child(layer, x)
    if guilty is not None:
        name, inner, given = guilty
        found = _walk(inner, given, (*path, name))[0]
        if found:
            return found, y
    place = f"layer {'.'.join(path)}, {layer!r}" if path else repr(layer)
    spoilt = [p.name for p in getattr(layer, "parameters", list)() if isinstance(p, Parameter) and not _finite(p.value)]
    why = f" (its parameter {spoilt[0]!r} is not finite: the step before spoilt it)" if spoilt else ""
    return f"the first output that is not finite is that of {place}{why}", y


def _guilty_child(layer: Any, x: Any) -> tuple[str, Any, Any] | None:
    """Find the child of a layer whose output is the first that is not finite: its name, the child, and its input.

    The children are watched while the layer's own forward, which may call them in any way, runs again.
    """
    found: list[tuple[str, Any, Any]] = []
    watched: list[Any] = []

    def watch(name: str, inner: Any) -> None:
        forward = inner.forward

        def watching(*args: Any, **kwargs: Any) -> Any:
            y = forward(*args, **kwargs)
            if not found and not _finite(y):
                found.append((name, inner, kwargs or (args if len(args) > 1 else args[0])))
            return y

        inner.forward = watching
        watched.append(inner)

    try:
        for name, inner in (layer.children() if isinstance(layer, Layer) else {}).items():
            if "forward" not in getattr(inner, "__dict__", {"forward": None}):
                watch(name, inner)
        if watched:
            call_with(layer.forward, group_arrays(x, "", ""))
    finally:
        for inner in watched:
            del inner.forward
    return found[0] if found else None


def all_finite(parameters: list[Any]) -> bool:
    """Whether all parameters are finite: one look at each flat buffer."""
    buffers = dict.fromkeys(p.buffer for p in parameters if isinstance(p, Parameter))
    return _finite([buffer.values for buffer in buffers])


def named_not_finite(model: Any) -> str:
    """Return the path of the first parameter that is not finite."""
    return next(name for name, p in model.named_parameters() if isinstance(p, Parameter) and not _finite(p.value))


def _finite(output: Any) -> bool:
    arrays = _arrays(output)
    if not arrays or namespace(arrays[0]) is numpy:
        return all(bool(numpy.isfinite(array).all()) for array in arrays)
    xp = namespace(arrays[0])
    return bool(xp.stack([xp.isfinite(array).all() for array in arrays]).all())  # a GPU is waited for once


def _arrays(output: Any) -> list[Array]:
    """Return the arrays of an output: itself, or those of a tuple or dict."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    return [part for item in output for part in _arrays(item)] if isinstance(output, (tuple, list)) else [output]
