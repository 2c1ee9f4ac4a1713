"""Linear layers whose weights take 16 or 8 bits, for inference, and how a trained model gets them."""

from __future__ import annotations

import gc
from typing import Any

import numpy

from minidl.engines import current
from minidl.errors import DtypeError, OrderError, ParameterError, UnknownNameError
from minidl.layers.activation import Activation
from minidl.layers.base import Layer, Shape, cast_input
from minidl.layers.inference import keeps_caches
from minidl.layers.linear import Affine, Dense
from minidl.layers.lora import LoRALinear
from minidl.layers.swap import swap_layers
from minidl.ops import Array, namespace
from minidl.ops.stored import STORAGE, restore_weight, store_weight
from minidl.weights.tensors import BLOCK, Bfloat16Array

__all__ = ["StoredLinear", "store_weights"]


class StoredLinear(Layer):
    """A linear layer whose weights are stored in 16 or 8 bits: y = activation(x W^T + b). For inference only.

    x, bias and y are float32. ``minidl.ops.stored`` says how weights are rounded, and what that does to y.

    Parameters
    ----------
    linear : Linear or Dense
        A layer whose parameters are made and are float32.
    dtype : {"bfloat16", "float16", "int8"}

    Attributes
    ----------
    weight : array of uint16 (the bits of bfloat16), float16 or int8, shape (out, in)
        A buffer, as the next two: saved, loaded and moved, and not trained.
    scale : array of float32, shape (out,)
        Of int8 only.
    bias : array of float32, shape (out,), or None

    Raises
    ------
    UnknownNameError
        If there is no such dtype.
    ParameterError
        If the layer is none of these, or has no parameters yet.
    DtypeError
        If its weights are not float32.
    NonFiniteError
        If a weight is not finite, or too large for the dtype.

    Examples
    --------
    >>> from minidl.layers import Linear
    >>> layer = StoredLinear(Linear(3, 2), "bfloat16")
    >>> layer
    StoredLinear(3, 2, dtype='bfloat16')
    >>> layer.forward(numpy.zeros((4, 3), "float32")).shape, layer.weight.nbytes
    ((4, 2), 12)
    """

    weight: Array
    bias: Array | None
    scale: Array | None
    _told_by_parts = True  # the layer that it was made of, and its weights, are not kept

    def __init__(self, linear: Affine, dtype: str) -> None:
        super().__init__()
        _check(linear, dtype)
        self.follower = linear.activation if isinstance(linear, Dense) else None
        weight, scale = _store(linear.weight.value, dtype)
        self.register_buffer("weight", weight)
        self.scale = None
        if scale is not None:
            self.register_buffer("scale", scale)
        self.bias = None
        if linear.bias is not None:
            self.register_buffer("bias", linear.bias.value.copy())
        self.stored_as = dtype

    def forward(self, x: Array) -> Array:
        """Return activation(x W^T + b). No cache is kept."""
        return self.apply(x, self.follower)

    def apply(self, x: Array, follower: Any) -> Array:
        """Return follower(x W^T + b), where the follower is a layer or None. What the engine's kernel applies runs with the product."""
        like = self.bias if self.bias is not None else numpy.float32(0)
        if getattr(x, "dtype", None) != numpy.float32 or not isinstance(x, numpy.ndarray):
            x = cast_input(self, x, current().asarray(like))
        engine, stored = current(), (x, self.weight, self.scale, self.bias)
        if isinstance(follower, Activation) and not keeps_caches() and engine.applies("stored_linear", follower.op):
            return engine.stored_linear(*stored, follower.op, follower.settings)
        y = engine.stored_linear(*stored)  # (..., out)
        return y if follower is None else follower.forward(y)

    def backward(self, dy: Array) -> Array:
        """Raise OrderError: weights of so few digits cannot take the small steps of training."""
        raise OrderError(
            f"{self!r}: its weights are stored in {self.stored_as}, for inference only; train first, then store the weights"
        )

    def to(self, engine: Any = None, dtype: Any = None) -> Layer:
        """Move to the device of an engine; a dtype is refused."""
        if dtype is not None:
            raise DtypeError(f"{self!r}: its weights stay in {self.stored_as}; store those of another model instead")
        return super().to(engine)

    @property
    def input_shape(self) -> Shape | None:
        """One example: (in_features,)."""
        return (self.weight.shape[1],)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., out_features)."""
        return (*input_shape[:-1], self.weight.shape[0])

    def flops(self, input_shape: Shape) -> int:
        """Count 2 for each weight and row, and 1 for each bias."""
        rows = int(numpy.prod(input_shape[:-1], dtype=int))
        return rows * (2 * self.weight.size + (self.weight.shape[0] if self.bias is not None else 0))

    def restored(self) -> Array:
        """Return the weights as float32, shape (out, in)."""
        return restore_weight(self.weight, self.scale)

    def _saved_form(self, name: str) -> Any:
        """Return the bits of bfloat16 as what they are, numbers; other buffers as they are."""
        array = getattr(self, name)
        bits = name == "weight" and self.stored_as == "bfloat16" and isinstance(array, numpy.ndarray)
        return Bfloat16Array(array) if bits else array

    def extra_repr(self) -> str:
        """Return the sizes and the dtype."""
        out, into = self.weight.shape
        return f"{into}, {out}, dtype={self.stored_as!r}" + ("" if self.bias is not None else ", bias=False")


def _check(linear: Any, dtype: str) -> None:
    """Raise unless the weights of a layer can be stored."""
    if dtype not in STORAGE:
        raise UnknownNameError.among("dtype of stored weights", dtype, STORAGE)
    if not isinstance(linear, Affine):
        raise ParameterError(f"StoredLinear: expected a Linear or a Dense, got {type(linear).__name__}")
    if not linear.built:
        raise ParameterError(f"{linear!r}: it has no weights to store yet; build it, or give it an input first")
    weight = linear.weight.value
    if weight.dtype != numpy.float32:
        raise DtypeError(f"{linear!r}: expected float32 weights, got {weight.dtype}; see model.to(dtype=...)")
    xp = namespace(weight)
    store_weight(xp.stack([weight.min(), weight.max()])[None], dtype)  # nan and inf, and too large numbers show there


def _store(weight: Array, dtype: str) -> tuple[Array, Array | None]:
    """Return what :func:`minidl.ops.stored.store_weight` does, computed for some rows at a time, to save memory."""
    xp, rows = namespace(weight), max(1, BLOCK // weight.shape[1])
    stored, scale = store_weight(weight[:rows], dtype)
    if len(weight) <= rows:
        return stored, scale
    stored = xp.empty(weight.shape, dtype=stored.dtype)
    scale = None if scale is None else xp.empty(len(weight), dtype=scale.dtype)
    for i in range(0, len(weight), rows):
        stored[i : i + rows], some = store_weight(weight[i : i + rows], dtype)
        if scale is not None:
            scale[i : i + rows] = some
    return stored, scale


def store_weights(model: Any, dtype: str = "bfloat16") -> Any:
    """Replace the linear layers of a trained model by layers that store their weights in 16 or 8 bits, for inference.

    The model is changed in place. Weights of other layers stay float32, and so do all inputs and outputs. With 16 bits the linear
    layers take half the memory, and so does what one row of x has to read of them. With many rows int8 is faster than float32, and
    so is bfloat16 inside ``minidl.matmul_precision("bfloat16")``; docs/precision.md has errors and times. The float32 weights are
    given back as the others are made, unless somebody else refers to them.

    Parameters
    ----------
    model : layer
        Its Linear and Dense layers, at any depth, are replaced by :class:`StoredLinear`.
    dtype : {"bfloat16", "float16", "int8"}, default "bfloat16"

    Returns
    -------
    model : layer
        The same model, or the new layer if it was a linear layer itself.

    Raises
    ------
    UnknownNameError, DtypeError, NonFiniteError
        As :class:`StoredLinear`.
    ParameterError
        If there is no linear layer in the model, one without weights, or a :class:`LoRALinear`, which must be merged first.

    Examples
    --------
    >>> from minidl.layers import Chain, Linear, ReLU
    >>> model = store_weights(Chain(Linear(784, 300), ReLU(), Linear(300, 10)), "int8")
    >>> model
    Chain(StoredLinear(784, 300, dtype='int8'), ReLU(), StoredLinear(300, 10, dtype='int8'))

    A file of bfloat16 weights is read straight into a model that stores them so, a block at a time:
    ``store_weights(model, "bfloat16").load("weights.safetensors")``.
    """
    if dtype not in STORAGE:
        raise UnknownNameError.among("dtype of stored weights", dtype, STORAGE)
    layers = dict(model.named_layers()) if isinstance(model, Layer) else {}
    adapted = next((path for path, layer in layers.items() if isinstance(layer, LoRALinear)), None)
    if adapted is not None:
        raise ParameterError(f"store_weights: {adapted or 'the model'} is a LoRALinear; call merge_lora(model) first")
    linear = list(dict.fromkeys(layer for layer in layers.values() if isinstance(layer, Affine)))[::-1]
    if not linear:
        raise ParameterError(f"store_weights: there is no Linear or Dense in {type(model).__name__}")
    for layer in linear:  # all of them, or an error
        _check(layer, dtype)
    del layers, layer
    left = step = total = sum(layer.weight.size for layer in linear)
    while linear:  # a few at a time, so that there are never all weights in both forms
        old = linear.pop()
        left -= old.weight.size
        model = swap_layers(model, {id(old): StoredLinear(old, dtype)})
        del old
        if step - left > max(total // 8, BLOCK):
            step = left
            gc.collect()  # a Parameter and its buffer refer to each other, so nothing else frees them
    return model
