"""A block of a Transformer that the engine computes in one call. For inference only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from minidl.engines import Engine, current
from minidl.errors import MinidlError
from minidl.layers.activation import Activation
from minidl.layers.inference import keeps_caches
from minidl.layers.key_values import KeyValues
from minidl.layers.linear import Linear
from minidl.layers.norm import LayerNorm
from minidl.layers.stored import StoredLinear
from minidl.ops import Array

__all__ = ["BlockParts", "run_block", "step_block"]


class BlockParts(NamedTuple):
    """What a block of a Transformer is made of, as its method ``parts`` returns it, or None if it has others; see ``compositions.transformer_block``.

    Attributes
    ----------
    norms : sequence of layer
        Two.
    maps : sequence of layer
        qkv and out; a pair of parameters, weight and bias, stands for a layer.
    feed_forward : Chain
        An affine map, an activation, and another map.
    heads : int
    norm_first : bool
    is_causal : bool
    dropouts : sequence of (layer, float)
        Layers that drop something out while they train, with their rates.
    """

    norms: Sequence[Any]
    maps: Sequence[Any]
    feed_forward: Any
    heads: int
    norm_first: bool
    is_causal: bool
    dropouts: Sequence[tuple[Any, float]]


def run_block(block: Any, x: Array, mask: Array | None = None) -> Array:
    """Return what ``block.forward`` does, in one call of the engine where it has the kernel and nothing is kept for backward."""
    engine = current()
    parts = _described(engine, block, x)
    if parts is not None:
        try:
            return engine.transformer_block(x, *parts, mask)
        except MinidlError:
            pass  # the layers meet the same error next, and know which of them it is
    return block.forward(x) if mask is None else block.forward(x, mask)


def step_block(block: Any, x: Array, state: KeyValues | None) -> tuple[Array, KeyValues | None]:
    """Return what ``block.forward_with_state`` does, in the same way."""
    engine = current()
    parts = _described(engine, block, x)
    if parts is None:
        return block.forward_with_state(x, state)
    before, heads = KeyValues() if state is None else state, parts[2]
    batch, queries, width = x.shape
    before.check(batch, heads, width // heads, block)
    after = before.extended(x, heads, queries)
    return engine.transformer_block(x, *parts, None, after.place(before.length)), after


def _described(engine: Engine, block: Any, x: Array) -> tuple[Any, ...] | None:
    """Return the arguments of the kernel between x and the mask, or None where the layers have to run one by one."""
    applied = engine.activations.get("transformer_block")  # nothing, if there is no kernel
    if applied is None or keeps_caches():
        return None
    parts: BlockParts | None = block.parts()
    if parts is None or not parts.feed_forward.fuse:
        return None
    layers = parts.feed_forward.layers
    if len(layers) != 3 or not isinstance(layers[1], Activation) or layers[1].op not in applied:
        return None
    first, activation, second = layers
    for layer, rate in parts.dropouts:
        if rate and layer.training:
            return None
    norms, maps = [], []
    for norm in parts.norms:
        if type(norm) is not LayerNorm:
            return None
        weight, bias = norm.weight, norm.bias
        norms.append((None if weight is None else weight._value, None if bias is None else bias._value, norm.eps))
    for layer in (*parts.maps, first, second):
        if type(layer) is Linear:
            weight, bias = layer.weight._value, layer.bias
            if weight.dtype is not x.dtype:
                return None
            maps.append((weight, None, None if bias is None else bias._value))
        elif type(layer) is StoredLinear and layer.follower is None and x.dtype == "float32":
            maps.append((layer.weight, layer.scale, layer.bias))
        elif type(layer) is tuple and layer[0].dtype is x.dtype:
            weight, bias = layer
            maps.append((weight._value, None, None if bias is None else bias._value))
        else:
            return None
    return norms, maps, parts.heads, parts.norm_first, parts.is_causal, activation.op, activation.settings
