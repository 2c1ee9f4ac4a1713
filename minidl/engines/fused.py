"""Compositions of ops that an engine may compute in one go, written out step by step.

These are to a fused kernel what a formula is to a plain one: the definition it is checked against, and what runs where
there is no such kernel. Each takes the engine as its first argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ShapeError
from minidl.ops import Array, namespace

__all__ = [
    "FUSIBLE",
    "conv_activation",
    "conv_activation_backward_into",
    "conv_affine",
    "conv_backward_into",
    "linear_activation",
    "linear_activation_backward_into",
    "linear_backward_into",
    "linear_stack",
    "linear_stack_backward_into",
    "norm",
    "rescale",
]

FUSIBLE = ("elu", "gelu", "leaky_relu", "relu", "relu6", "sigmoid", "silu", "softplus", "tanh")
"""Activations of one element at a time, which can be applied while the product is still at hand."""


def linear_backward_into(
    engine: Any,
    dy: Array,
    cache: tuple[Any, ...],
    dweight: Array,
    dbias: Array | None,
    accumulate: bool = False,
    input_gradient: bool = True,
) -> Array | None:
    """Compute ``linear_backward`` with the parameter gradients written, or added, into given arrays.

    Parameters
    ----------
    dy, cache
        As for ``linear_backward``.
    dweight, dbias : array
        Where the gradients go; (out, in) and (out,).
    accumulate : bool
        Add to what is there instead of overwriting it.
    input_gradient : bool
        Whether dx is wanted; the first layer of a model does without when it is trained.

    Returns
    -------
    dx : array or None
    """
    dx, new_dweight, new_dbias = engine.linear_backward(dy, cache)
    _store(new_dweight, dweight, accumulate)
    _store(new_dbias, dbias, accumulate)
    return dx if input_gradient else None


def _store(new: Array, storage: Array | None, accumulate: bool) -> None:
    if storage is None:
        return
    if accumulate:
        storage += new
    else:
        storage[...] = new


def conv_backward_into(
    engine: Any,
    op: str,
    dy: Array,
    cache: tuple[Any, ...],
    dweight: Array,
    dbias: Array | None,
    accumulate: bool = False,
    input_gradient: bool = True,
) -> Array | None:
    """Go back through a convolution with the parameter gradients written, or added, into given arrays.

    Parameters
    ----------
    op : str
        ``"conv1d"``, ``"conv2d"``, ``"conv_transpose1d"`` or ``"conv_transpose2d"``.
    dy, cache
        As for the op's backward.
    dweight, dbias, accumulate, input_gradient
        As for :func:`linear_backward_into`.

    Returns
    -------
    dx : array or None
    """
    dx, new_dweight, new_dbias = getattr(engine, f"{op}_backward")(dy, cache)
    _store(new_dweight, dweight, accumulate)
    _store(new_dbias, dbias, accumulate)
    return dx if input_gradient else None


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


def conv_activation_backward_into(
    engine: Any,
    op: str,
    dy: Array,
    cache: tuple[Any, Any],
    activation: str,
    dweight: Array,
    dbias: Array | None,
    accumulate: bool = False,
    input_gradient: bool = True,
) -> Array | None:
    """Go back through :func:`conv_activation`; the rest is as for :func:`conv_backward_into`."""
    conv_cache, activation_cache = cache
    dhidden = getattr(engine, f"{activation}_backward")(dy, activation_cache)
    return engine.conv_backward_into(op, dhidden, conv_cache, dweight, dbias, accumulate, input_gradient)


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


def linear_activation_backward_into(
    engine: Any,
    dy: Array,
    cache: tuple[Any, Any],
    activation: str,
    dweight: Array,
    dbias: Array | None,
    accumulate: bool = False,
    input_gradient: bool = True,
) -> Array | None:
    """Go back through :func:`linear_activation`; the rest is as for :func:`linear_backward_into`."""
    linear_cache, activation_cache = cache
    dhidden = getattr(engine, f"{activation}_backward")(dy, activation_cache)
    return engine.linear_backward_into(dhidden, linear_cache, dweight, dbias, accumulate, input_gradient)


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


def linear_stack_backward_into(
    engine: Any,
    dy: Array,
    caches: Sequence[Any],
    layers: Sequence[tuple[Array, Array | None, str | None, tuple[Any, ...]]],
    storage: Sequence[tuple[Array, Array | None, bool]],
    input_gradient: bool = True,
) -> Array | None:
    """Go back through :func:`linear_stack`.

    Parameters
    ----------
    dy, caches, layers
        The upstream gradient, and what forward returned and was given.
    storage : sequence of (dweight, dbias, accumulate)
        For each layer as for :func:`linear_backward_into`.
    input_gradient : bool
        Whether the first layer's dx is wanted.

    Returns
    -------
    dx : array or None
    """
    dx: Any = dy
    for position in reversed(range(len(caches))):
        wanted = input_gradient or position > 0
        activation, cache = layers[position][2], caches[position]
        if activation is None:
            dx = engine.linear_backward_into(dx, cache, *storage[position], wanted)
        else:
            dx = engine.linear_activation_backward_into(dx, cache, activation, *storage[position], wanted)
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
