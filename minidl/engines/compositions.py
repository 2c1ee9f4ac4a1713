"""Compositions: several ops that an engine may compute in one call, written out step by step.

A composition is to a fused kernel what a formula is to a plain one: the definition that the kernel is tested against, and
what runs where there is no kernel. Each takes the engine first, so ``engine.NAME(...)`` passes the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ShapeError
from minidl.ops import ACTIVATIONS, Array, namespace
from minidl.ops.stored import int8_linear, restore_weight

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
    "stored_linear",
    "transformer_block",
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
    """Compute a convolution and an activation.

    In one line::

        y = activation(conv(x, weight, bias))

    Parameters
    ----------
    engine : Engine
    op : str
        ``"conv1d"`` or ``"conv2d"``.
    x : array, shape (N, C, ...)
    weight : array, shape (O, C / groups, ...)
    bias : array, shape (O,), or None
    windows : tuple
        The op's arguments after the bias.
    activation : str
        One of :data:`FUSIBLE`.
    settings : tuple, default ()
        The activation's arguments after x.

    Returns
    -------
    y : array, shape (N, O, ...)
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
    """Return the gradients of :func:`conv_activation`, in the form of the convolution's own backward: dx, dweight, dbias."""
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
    """Compute a convolution, an affine map of each output channel, a sum and an activation. For inference: it has no backward.

    In one line::

        y = activation(scale conv(x, weight) + shift + residual)

    With running statistics, batch normalisation is such an affine map. The residual is what a shortcut adds.

    Parameters
    ----------
    engine : Engine
    op : str
        ``"conv1d"`` or ``"conv2d"``.
    x : array, shape (N, C, ...)
    weight : array, shape (O, C / groups, ...)
    windows : tuple
        The op's arguments after the bias.
    scale, shift : array, shape (O,), or None
        One number for each output channel; None is 1 and 0.
    activation : str, optional
        One of :data:`FUSIBLE`.
    settings : tuple, default ()
        The activation's arguments after x.
    residual : array, shape (N, O, ...), optional

    Returns
    -------
    y : array, shape (N, O, ...)

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
    """Compute an affine map and an activation.

    In one line::

        y = activation(x W^T + b)

    Parameters
    ----------
    engine : Engine
    x : array, shape (..., in)
    weight : array, shape (out, in)
    bias : array, shape (out,), or None
    activation : str
        One of :data:`FUSIBLE`.
    settings : tuple, default ()
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
    """Return the gradients of :func:`linear_activation`, in the form of ``linear_backward``: dx, dweight, dbias."""
    linear_cache, activation_cache = cache
    dhidden = getattr(engine, f"{activation}_backward")(dy, activation_cache)
    return engine.linear_backward(dhidden, linear_cache, into, add, wanted)


def linear_stack(
    engine: Any, x: Array, layers: Sequence[tuple[Array, Array | None, str | None, tuple[Any, ...]]]
) -> tuple[Array, list[Any]]:
    """Compute affine maps one after another, each with or without an activation.

    Parameters
    ----------
    engine : Engine
    x : array, shape (..., in)
    layers : sequence of (weight, bias, activation, settings)
        The arguments of ``linear`` where the activation is None, and of :func:`linear_activation` elsewhere.

    Returns
    -------
    y : array, shape (..., out)
    caches : list
        One for each layer.
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
    """Compute the gradients of :func:`linear_stack`, from the last layer to the first.

    Layers before one whose dx is not wanted are left out.

    Parameters
    ----------
    engine : Engine
    dy : array, shape (..., out)
    caches : list
        What the forward returned.
    layers : sequence of (weight, bias, activation, settings)
        What the forward was given.
    storage : sequence of (into, add, wanted)
        The last three arguments of ``linear_backward``, for each layer.

    Returns
    -------
    dx : array, shape (..., in), or None
        None if it is not wanted.
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
    """Compute the p-norm of a flat array, even if the powers leave the range of its dtype.

    In one line::

        norm = (sum_i |x_i|^p)^(1/p)

    Parameters
    ----------
    engine : Engine
    x : array, shape (P,)
    p : float, default 2.0
        Positive. ``math.inf`` gives the largest absolute value.
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


def rescale(engine: Any, x: Array, factor: Any) -> None:
    """Multiply a flat array by a number, in place.

    Parameters
    ----------
    engine : Engine
    x : array, shape (P,)
    factor : float, or array without axes on the same device
    """
    x *= factor.astype(x.dtype) if hasattr(factor, "dtype") else factor


def stored_linear(
    engine: Any,
    x: Array,
    weight: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    activation: str | None = None,
    settings: tuple[Any, ...] = (),
) -> Array:
    """Compute an affine map whose weights are stored in 16 or 8 bits. For inference: it has no backward.

    In one line, with the W that ``minidl.ops.stored.restore_weight`` returns, or for int8 as in ``int8_linear`` there::

        y = activation(x W^T + b)

    A kernel reads the stored weights, where this makes float32 of them.

    Parameters
    ----------
    engine : Engine
    x : array of float32, shape (..., in)
    weight : array of uint16 (the bits of bfloat16), float16 or int8, shape (out, in)
    scale : array of float32, shape (out,), optional
        Of int8.
    bias : array of float32, shape (out,), optional
    activation : str, optional
        One of :data:`FUSIBLE`.
    settings : tuple, default ()
        The activation's arguments after x.

    Returns
    -------
    y : array of float32, shape (..., out)
    """
    if weight.dtype == "int8" and scale is not None:
        y = int8_linear(x, weight, scale, bias)
    else:
        y = engine.linear(x, restore_weight(weight, scale), bias)[0]
    return y if activation is None else getattr(engine, activation)(y, *settings)[0]


def transformer_block(
    engine: Any,
    x: Array,
    norms: Sequence[tuple[Array | None, Array | None, float]],
    maps: Sequence[tuple[Array, Array | None, Array | None]],
    heads: int,
    norm_first: bool,
    is_causal: bool,
    activation: str,
    settings: tuple[Any, ...] = (),
    mask: Array | None = None,
    cache: tuple[Array, Array, int] | None = None,
) -> Array:
    """Compute a block of a Transformer: attention and a feed-forward part, each with a sum and a norm. It has no backward.

    With ``norm_first``::

        h = x + out(attend(qkv(norm_0(x))))
        y = h + second(activation(first(norm_1(h))))

    and else::

        h = norm_0(x + out(attend(qkv(x))))
        y = norm_1(h + second(activation(first(h))))

    Parameters
    ----------
    engine : Engine
    x : array, shape (N, T, C)
    norms : sequence of (weight, bias, eps)
        Two layer normalisations; weight and bias have shape (C,) or are None.
    maps : sequence of (weight, scale, bias)
        The affine maps qkv, from C to 3 C, out, first and second. A weight is that of ``linear``, with None for the scale, or one
        of :func:`stored_linear`.
    heads : int
        H, must divide C.
    norm_first : bool
    is_causal : bool
        Whether a position sees only itself and those before it.
    activation : str
        One of :data:`FUSIBLE`.
    settings : tuple, default ()
        The activation's arguments after x.
    mask : array, optional
        As ``attn_mask`` of ``scaled_dot_product_attention``.
    cache : (keys, values, length), optional
        Arrays (N, H, room, C / H), in which the first ``length`` positions are those before x. The new ones are written behind
        them, and the queries look at all.

    Returns
    -------
    y : array, shape (N, T, C)
    """

    def normed(x: Array, norm: tuple[Array | None, Array | None, float]) -> Array:
        weight, bias, eps = norm
        return engine.layer_norm(x, x.shape[-1], weight, bias, eps)[0]

    def mapped(x: Array, map_: tuple[Array, Array | None, Array | None]) -> Array:
        weight, scale, bias = map_
        if scale is not None or weight.dtype in ("uint16", "float16"):
            return engine.stored_linear(x, weight, scale, bias)
        return engine.linear(x, weight, bias)[0]

    qkv, out, first, second = maps
    batch, queries, width = x.shape
    z = mapped(normed(x, norms[0]) if norm_first else x, qkv)  # (N, T, 3 C)
    q, k, v = z.reshape((batch, queries, 3, heads, width // heads)).transpose((2, 0, 3, 1, 4))  # each (N, H, T, D)
    length = 0
    if cache is not None:
        keys, values, length = cache
        end = length + queries
        keys[:, :, length:end], values[:, :, length:end] = k, v
        k, v = keys[:, :, :end], values[:, :, :end]
    y, _ = engine.scaled_dot_product_attention(q, k, v, mask, 0.0, is_causal, offset=length)
    h = x + mapped(y.transpose((0, 2, 1, 3)).reshape(x.shape), out)  # (N, T, C)
    h = h if norm_first else normed(h, norms[0])
    y = mapped(normed(h, norms[1]) if norm_first else h, first)
    y = h + mapped(getattr(engine, activation)(y, *settings)[0], second)
    return y if norm_first else normed(y, norms[1])
