"""Compositions of ops that an engine may compute as one, written out step by step.

These are to a fused kernel what a formula is to a plain one: the definition it is checked against, and what runs where
there is no such kernel. Each takes the engine as its first argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ShapeError
from minidl.ops import ACTIVATIONS, Array, namespace

__all__ = [
    "FUSIBLE",
    "conv_activation",
    "conv_activation_backward",
    "conv_affine",
    "linear_activation",
    "linear_activation_backward",
    "linear_stack",
    "linear_stack_backward",
    "norm",
    "rescale",
]

FUSIBLE = ACTIVATIONS
"""Activations of one element at a time, which can be applied while a product is still at hand."""

Into = Sequence[Array | None] | None
Wanted = Sequence[bool] | None


def conv_activation(
    engine: Any,
    op: str,
    x: Array,
    weight: Array,
    bias: Array | None,
    windows: tuple[Any, ...],
    activation: str,
    settings: tuple[Any, ...] = (),
) -> tuple[Array, tuple[Any, Any]]:
    """Compute ``activation(conv(x, weight, bias))``.

    Parameters
    ----------
    op : str
        ``"conv1d"`` or ``"conv2d"``.
    x, weight, bias
        As for the op.
    windows : tuple
        The op's arguments after the bias.
    activation : str
        One of :data:`FUSIBLE`.
    settings : tuple
        The activation's arguments after x.

    Returns
    -------
    y : array
    cache : (cache of the convolution, cache of the activation)
    """
    hidden, conv_cache = getattr(engine, op)(x, weight, bias, *windows)
    y, activation_cache = getattr(engine, activation)(hidden, *settings)
    return y, (conv_cache, activation_cache)


def conv_activation_backward(
    engine: Any,
    op: str,
    dy: Array,
    cache: tuple[Any, Any],
    activation: str,
    into: Into = None,
    add: bool = False,
    wanted: Wanted = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Go back through :func:`conv_activation`; arguments and gradients are those of the convolution's own backward."""
    conv_cache, activation_cache = cache
    dhidden = getattr(engine, f"{activation}_backward")(dy, activation_cache)
    return getattr(engine, f"{op}_backward")(dhidden, conv_cache, into, add, wanted)


def conv_affine(
    engine: Any,
    op: str,
    x: Array,
    weight: Array,
    windows: tuple[Any, ...],
    scale: Array | None,
    shift: Array | None,
    activation: str | None = None,
    settings: tuple[Any, ...] = (),
    residual: Array | None = None,
) -> Array:
    """Compute ``activation(scale * conv(x, weight) + shift + residual)``, which leaves nothing to go back through.

    A convolution, the batch normalisation after it with its running statistics, what a shortcut adds, and an activation are
    this.

    Parameters
    ----------
    op, x, weight, windows, activation, settings
        As for :func:`conv_activation`; without an activation if it is None.
    scale, shift : array, shape (O,), optional
        For each output channel; 1 and 0 if not given.
    residual : array, shape of y, optional

    Returns
    -------
    y : array

    Raises
    ------
    ShapeError
        If the residual has another shape.
    """
    y, _ = getattr(engine, op)(x, weight, None, *windows)
    each = (-1,) + (1,) * (y.ndim - 2)
    if scale is not None:
        y = y * scale.reshape(each)
    if shift is not None:
        y = y + shift.reshape(each)
    if residual is not None:
        if residual.shape != y.shape:
            raise ShapeError(f"conv_affine: residual must have the shape of y, {y.shape}, got {residual.shape}")
        y = y + residual
    return y if activation is None else getattr(engine, activation)(y, *settings)[0]


def linear_activation(
    engine: Any, x: Array, weight: Array, bias: Array | None, activation: str, settings: tuple[Any, ...] = ()
) -> tuple[Array, tuple[Any, Any]]:
    """Compute ``activation(x W^T + b)``.

    Parameters
    ----------
    x, weight, bias
        As for ``linear``.
    activation : str
        One of :data:`FUSIBLE`.
    settings : tuple
        The activation's arguments after x.

    Returns
    -------
    y : array, shape (..., out)
    cache : (cache of linear, cache of the activation)
    """
    hidden, linear_cache = engine.linear(x, weight, bias)
    y, activation_cache = getattr(engine, activation)(hidden, *settings)
    return y, (linear_cache, activation_cache)


def linear_activation_backward(
    engine: Any,
    dy: Array,
    cache: tuple[Any, Any],
    activation: str,
    into: Into = None,
    add: bool = False,
    wanted: Wanted = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Go back through :func:`linear_activation`; arguments and gradients are those of ``linear_backward``."""
    linear_cache, activation_cache = cache
    dhidden = getattr(engine, f"{activation}_backward")(dy, activation_cache)
    return engine.linear_backward(dhidden, linear_cache, into, add, wanted)


def linear_stack(
    engine: Any, x: Array, layers: Sequence[tuple[Array, Array | None, str | None, tuple[Any, ...]]]
) -> tuple[Array, list[Any]]:
    """Compute linear layers, each perhaps with an activation, one after another.

    Parameters
    ----------
    x : array, shape (..., in)
    layers : sequence of (weight, bias, activation, settings)
        As for ``linear`` where the activation is None, else as for :func:`linear_activation`.

    Returns
    -------
    y : array, shape (..., out of the last)
    caches : list
        The cache of each.
    """
    caches = []
    for weight, bias, activation, settings in layers:
        if activation is None:
            x, cache = engine.linear(x, weight, bias)
        else:
            x, cache = engine.linear_activation(x, weight, bias, activation, settings)
        caches.append(cache)
    return x, caches


def linear_stack_backward(
    engine: Any,
    dy: Array,
    caches: Sequence[Any],
    layers: Sequence[tuple[Array, Array | None, str | None, tuple[Any, ...]]],
    storage: Sequence[tuple[Into, bool, Wanted]],
) -> Array | None:
    """Go back through :func:`linear_stack`, from the last layer to the first whose input's gradient is not wanted.

    Parameters
    ----------
    dy, caches, layers
        The upstream gradient, and what forward returned and was given.
    storage : sequence of (into, add, wanted)
        For each layer the last three arguments of ``linear_backward``.

    Returns
    -------
    dx : array or None
    """
    dx: Any = dy
    for position in reversed(range(len(caches))):
        activation, cache = layers[position][2], caches[position]
        if activation is None:
            dx = engine.linear_backward(dx, cache, *storage[position])[0]
        else:
            dx = engine.linear_activation_backward(dx, cache, activation, *storage[position])[0]
        if dx is None:
            break
    return dx


def norm(engine: Any, x: Array, p: float = 2.0) -> float:
    r"""Compute :math:`(\sum_i |x_i|^p)^{1/p}` of a flat array, also where the powers leave the range of its dtype.

    Parameters
    ----------
    x : array, shape (P,)
    p : float
        Positive; ``math.inf`` for the largest absolute value.
    """
    xp = namespace(x)
    if x.dtype.itemsize < 4:
        x = x.astype("float32")
    with numpy.errstate(over="ignore"):
        size = float(xp.linalg.norm(x, p))
    if 0.0 < size < math.inf:
        return size
    largest = float(xp.max(xp.abs(x)))
    if largest == 0.0 or not math.isfinite(largest) or p == math.inf:
        return largest
    return largest * float(xp.linalg.norm(x / largest, p))


def rescale(engine: Any, x: Array, factor: float) -> None:
    """Multiply a flat array by a number, in place.

    Parameters
    ----------
    x : array, shape (P,)
    factor : float
    """
    x *= factor
