"""Activations, alone and after the product and the bias of a linear layer."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

import numpy

from minidl.engines import compositions
from minidl.engines.cuda.dispatch import (
    NOT_TAKEN,
    OVERRIDES,
    alike,
    blocks_for,
    dense,
    is_taken,
    new,
    number,
    override,
    team,
)
from minidl.engines.cuda.source import launch
from minidl.engines.headers import include_folder
from minidl.ops import ACTIVATIONS, FORMULAS, Array, activation

__all__ = ["KERNELS"]

FILE = "elementwise/activations.cu"
THREADS = 256


def _read_list() -> dict[str, tuple[bool, str]]:
    """Return of each activation with kernels whether it keeps its output, and which first setting it takes."""
    text = (include_folder() / "elementwise" / "activation_list.h").read_text()
    lines = re.findall(
        r"^ +X\((\w+), (\w+), \w+, \w+, (\w+)\)", text.split("define MINIDL_FUNCTION_LIST")[0], re.MULTILINE
    )
    return {name: (keeps == "OUTPUT", first) for name, keeps, first in lines}


KERNELS = _read_list()


def _settings(kernel: str, settings: tuple[Any, ...]) -> tuple[float, float] | None:
    """Return both settings of a kernel, or None where the formula must object or compute."""
    if len(settings) > 2 or not all(number(value) for value in settings):
        return None
    first, second = (*map(float, settings), 0.0, 0.0)[:2]
    wanted = KERNELS[kernel][1]
    if (wanted == "POSITIVE" and not first > 0) or (wanted == "BELOW_SECOND" and not first < second):
        return None
    return first, second


def _forward(kernel: str, x: Any, settings: tuple[Any, ...] = ()) -> Any:
    numbers = _settings(kernel, settings) if is_taken(x) else None
    if numbers is None:
        return NOT_TAKEN
    x = dense(x)
    y = new(x)
    if x.size:
        launch(FILE, f"{kernel}_forward", x.dtype, _grid(x), THREADS, x, y, x.size, *numbers)
    return y


def _backward(kernel: str, dy: Any, kept: Any, settings: tuple[Any, ...] = ()) -> Any:
    numbers = _settings(kernel, settings) if alike(kept, dy) else None
    if numbers is None:
        return NOT_TAKEN
    dy, kept = dense(dy), dense(kept)
    dx = new(dy)
    if dy.size:
        launch(FILE, f"{kernel}_backward", dy.dtype, _grid(dy), THREADS, dy, kept, dx, dy.size, *numbers)
    return dx


def _grid(x: Array) -> int:
    return blocks_for(x.size, THREADS * 16 // x.dtype.itemsize)


def _define(kernel: str) -> None:
    """Register both functions of an activation whose settings are its arguments after x, kept in the cache after x or y."""
    signature, keeps_output = inspect.signature(FORMULAS[kernel]), KERNELS[kernel][0]

    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return NOT_TAKEN  # the formula says what is wrong
        bound.apply_defaults()
        x, *settings = bound.arguments.values()
        y = _forward(kernel, x, tuple(settings))
        return y if y is NOT_TAKEN else (y, (y if keeps_output else x, *settings))

    def backward(dy: Any, cache: tuple[Any, ...]) -> Any:
        return _backward(kernel, dy, cache[0], cache[1:])

    override(kernel)(forward)
    override(f"{kernel}_backward")(backward)


for _kernel in KERNELS:
    if "gelu" not in _kernel or _kernel == "quick_gelu":
        _define(_kernel)


def _gelu(approximate: Any) -> str:
    """Return the kernel for GELU's ``approximate``, or nothing where the formula must object."""
    return {"none": "gelu", "tanh": "gelu_tanh"}.get(approximate, "") if isinstance(approximate, str) else ""


@override("gelu")
def gelu(x: Any, approximate: Any = "none") -> Any:
    """See ``minidl.ops.activation.gelu``."""
    y = _forward(_gelu(approximate), x) if _gelu(approximate) else NOT_TAKEN
    return y if y is NOT_TAKEN else (y, (x, approximate))


@override("gelu_backward")
def gelu_backward(dy: Any, cache: tuple[Any, Any]) -> Any:
    """See ``minidl.ops.activation.gelu_backward``."""
    return _backward(_gelu(cache[1]), dy, cache[0]) if _gelu(cache[1]) else NOT_TAKEN


class _Steps:
    """What the compositions call an engine: the kernels, and the formulas for the rest."""

    def __getattr__(self, name: str) -> Any:
        return OVERRIDES.get(name) or FORMULAS[name]


@override("linear_activation", functools.partial(compositions.linear_activation, _Steps()))
def linear_activation(x: Any, weight: Any, bias: Any, activation: Any, settings: tuple[Any, ...] = ()) -> Any:
    """See ``minidl.engines.compositions.linear_activation``. Bias and activation are one pass over the product."""
    kernel, settings = _with_defaults(activation, settings)
    numbers = _settings(kernel, () if activation == "gelu" else settings) if kernel else None
    if numbers is None or bias is None or not is_taken(x, weight, bias) or bias.shape != weight.shape[:1]:
        return NOT_TAKEN
    product, (x, weight, _) = FORMULAS["linear"](x, weight)  # (..., O)
    product, bias = dense(product), dense(bias)
    y, keeps_output = new(product), KERNELS[kernel][0]
    if y.size:
        columns = weight.shape[0]
        hidden = None if keeps_output else product  # x W^T + b, where the backward reads it
        rows = y.size // columns
        arguments = (product, bias, hidden, y, rows, numpy.int32(columns), *numbers)
        launch(FILE, f"{kernel}_biased", x.dtype, *team(rows, columns), *arguments)
    return y, ((x, weight, True), (y if keeps_output else product, *settings))


def _with_defaults(activation_name: Any, settings: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the kernel of a fused activation, and all of its settings; no kernel where the formula must object."""
    formula = getattr(activation, activation_name, None) if isinstance(activation_name, str) else None
    if formula is None or activation_name not in ACTIVATIONS or not isinstance(settings, tuple):
        return "", ()
    defaults = [parameter.default for parameter in inspect.signature(formula).parameters.values()][1:]
    if len(settings) > len(defaults):
        return "", ()
    settings = (*settings, *defaults[len(settings) :])
    kernel = _gelu(settings[0]) if activation_name == "gelu" else activation_name
    return (kernel if kernel in KERNELS else ""), settings
