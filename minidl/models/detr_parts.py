"""The parts of DETR: its sizes, the layers of encoder and decoder, and the head that gives boxes."""

from __future__ import annotations

import dataclasses
from typing import Any

from minidl import random
from minidl.engines import current
from minidl.layers import Chain, Dropout, Layer, LayerNorm, Linear, ReLU
from minidl.layers.attention import merge_heads, split_heads
from minidl.ops import Array, namespace

__all__ = ["Attention", "BoxHead", "DETRConfig", "Decoder", "DecoderLayer", "Encoder", "EncoderLayer"]


@dataclasses.dataclass(frozen=True)
class DETRConfig:
    """The sizes of a DETR; the defaults are those of the paper's model with a ResNet-50, for the 91 class numbers of COCO.

    Attributes
    ----------
    num_classes : int, default 91
        K, without "no object".
    num_queries : int, default 100
        Q, the most objects that can be found in an image.
    width : int, default 256
        C, the features of the Transformer; divisible by 4.
    heads : int, default 8
    encoder_layers, decoder_layers : int, default 6
    feed_forward : int, default 2048
        The inner features of a feed-forward block.
    dropout : float, default 0.1
        After each part of a layer.
    attention_dropout, activation_dropout : float, default 0.0
        Of attention's weights, and inside feed-forward blocks.
    depths : tuple of int, default (3, 4, 6, 3)
        The blocks in each stage of the backbone.
    channels : tuple of int, default (256, 512, 1024, 2048)
        The channels that each stage gives.
    stem : int, default 64
        The channels of the backbone's first convolution.
    block : {"bottleneck", "basic"}, default "bottleneck"
    norm : {"frozen", "batch"}, default "frozen"
        The backbone's norm. The paper's is frozen, because its backbone was trained before; to train one from the start use batch
        normalisation.
    small_images : bool, default False
        Whether the first convolution is one of 3x3 that keeps the size, instead of one of 7x7 with max pooling, which reduces it
        to a quarter.
    """

    num_classes: int = 91
    num_queries: int = 100
    width: int = 256
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    feed_forward: int = 2048
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    depths: tuple[int, ...] = (3, 4, 6, 3)
    channels: tuple[int, ...] = (256, 512, 1024, 2048)
    stem: int = 64
    block: str = "bottleneck"
    norm: str = "frozen"
    small_images: bool = False


class Attention(Layer):
    """Attention of several heads, with inputs of their own for queries, keys and values, because positions are no part of values."""

    _live = ()

    def __init__(self, config: DETRConfig, options: dict[str, Any]) -> None:
        super().__init__()
        width = config.width
        self.heads, self.attn_dropout, self.generator = config.heads, config.attention_dropout, options["generator"]
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(width, width, **options) for _ in range(4))

    def forward(self, query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:  # type: ignore[override]
        """Return y, (N, T, C); the mask, (N, 1, 1, S), is True where there is something to look at."""
        maps = ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        parts = [split_heads(layer.forward(x), self.heads) for layer, x in maps]  # (N, H, T or S, D)
        p = self.attn_dropout if self.training else 0.0
        source = (self.generator or random.generator()) if p else None
        y, cache = current().scaled_dot_product_attention(*parts, mask, p, random=source)
        self._remember(cache)
        return self.out_proj.forward(merge_heads(y))  # (N, T, C)

    def backward(self, dy: Array) -> tuple[Array, Array, Array]:
        """Return the gradients of query, key and value."""
        d = split_heads(self.out_proj.backward(dy), self.heads)  # (N, H, T, D)
        dq, dk, dv = current().scaled_dot_product_attention_backward(d, self._remembered())
        parts = ((self.q_proj, dq), (self.k_proj, dk), (self.v_proj, dv))
        return tuple(layer.backward(merge_heads(d)) for layer, d in parts)  # type: ignore[return-value]


class _Block(Layer):
    """What encoder and decoder layers share: norm(x + dropout(part(x))), and the feed-forward part."""

    _live = ()
    _not_parts = ("_feed_forward",)

    def _make(self, config: DETRConfig, options: dict[str, Any], attentions: tuple[str, ...]) -> None:
        width, generator = config.width, options["generator"]
        for name in attentions:
            setattr(self, name, Attention(config, options))
            setattr(self, f"{name}_layer_norm", LayerNorm(width, dtype=options["dtype"]))
        self.fc1, self.fc2 = (
            Linear(width, config.feed_forward, **options),
            Linear(config.feed_forward, width, **options),
        )
        self.final_layer_norm = LayerNorm(width, dtype=options["dtype"])
        self.dropouts = [Dropout(config.dropout, generator=generator) for _ in range(len(attentions) + 1)]
        inner = [ReLU(), Dropout(config.activation_dropout, generator=generator)]
        self._feed_forward = Chain(self.fc1, *inner, self.fc2)
        self.inner = inner

    def _feed(self, x: Array) -> Array:
        return self.final_layer_norm.forward(x + self.dropouts[-1].forward(self._feed_forward.forward(x)))

    def _feed_back(self, dy: Array) -> Array:
        dsum = self.final_layer_norm.backward(dy)
        return dsum + self._feed_forward.backward(self.dropouts[-1].backward(dsum))


class EncoderLayer(_Block):
    """Self-attention among the places of an image, and a feed-forward block; positions are added to queries and keys."""

    self_attn: Attention
    self_attn_layer_norm: LayerNorm

    def __init__(self, config: DETRConfig, options: dict[str, Any]) -> None:
        super().__init__()
        self._make(config, options, ("self_attn",))

    def forward(self, x: Array, positions: Array, mask: Array | None) -> Array:  # type: ignore[override]
        """Return y for x, (N, S, C)."""
        placed = x + positions
        y = self.self_attn.forward(placed, placed, x, mask)
        return self._feed(self.self_attn_layer_norm.forward(x + self.dropouts[0].forward(y)))

    def backward(self, dy: Array) -> Array:
        """Return dx: x is in the sum, in queries and keys, and in values."""
        dsum = self.self_attn_layer_norm.backward(self._feed_back(dy))
        dq, dk, dv = self.self_attn.backward(self.dropouts[0].backward(dsum))
        return dsum + dq + dk + dv


class DecoderLayer(_Block):
    """Self-attention among the queries, cross-attention to the memory, and a feed-forward block.

    The queries' own vectors are added to what asks and, in self-attention, to what is asked; positions to the memory's keys.
    """

    self_attn: Attention
    self_attn_layer_norm: LayerNorm
    encoder_attn: Attention
    encoder_attn_layer_norm: LayerNorm

    def __init__(self, config: DETRConfig, options: dict[str, Any]) -> None:
        super().__init__()
        self._make(config, options, ("self_attn", "encoder_attn"))

    def forward(  # type: ignore[override]
        self, x: Array, queries: Array, memory: Array, positions: Array, mask: Array | None
    ) -> Array:
        """Return y for x, (N, Q, C)."""
        asked = x + queries
        y = self.self_attn.forward(asked, asked, x)
        x = self.self_attn_layer_norm.forward(x + self.dropouts[0].forward(y))
        y = self.encoder_attn.forward(x + queries, memory + positions, memory, mask)
        x = self.encoder_attn_layer_norm.forward(x + self.dropouts[1].forward(y))
        return self._feed(x)

    def backward(self, dy: Array) -> tuple[Array, Array, Array]:
        """Return the gradients of x, of the queries, (N, Q, C), and of the memory."""
        dsum = self.encoder_attn_layer_norm.backward(self._feed_back(dy))
        dasked, dkey, dvalue = self.encoder_attn.backward(self.dropouts[1].backward(dsum))
        dsum = self.self_attn_layer_norm.backward(dsum + dasked)
        dq, dk, dv = self.self_attn.backward(self.dropouts[0].backward(dsum))
        return dsum + dq + dk + dv, dasked + dq + dk, dkey + dvalue


class Encoder(Layer):
    """Encoder layers, one after another."""

    _live = ()

    def __init__(self, config: DETRConfig, options: dict[str, Any]) -> None:
        super().__init__()
        self.layers = [EncoderLayer(config, options) for _ in range(config.encoder_layers)]

    def forward(self, x: Array, positions: Array, mask: Array | None) -> Array:  # type: ignore[override]
        """Return the memory, (N, S, C)."""
        for layer in self.layers:
            x = layer.forward(x, positions, mask)
        return x

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class Decoder(Layer):
    """Decoder layers, and one norm for what each of them gives."""

    _live = ()

    def __init__(self, config: DETRConfig, options: dict[str, Any]) -> None:
        super().__init__()
        self.layers = [DecoderLayer(config, options) for _ in range(config.decoder_layers)]
        self.layernorm = LayerNorm(config.width, dtype=options["dtype"])

    def forward(  # type: ignore[override]
        self, queries: Array, memory: Array, positions: Array, mask: Array | None, each: bool
    ) -> Array:
        """Return the last layer's features, (1, N, Q, C), or with ``each`` those of all L layers, (L, N, Q, C)."""
        xp = namespace(memory)
        x = xp.zeros((memory.shape[0], *queries.shape), dtype=memory.dtype)  # (N, Q, C)
        given = []
        for layer in self.layers:
            x = layer.forward(x, queries, memory, positions, mask)
            given.append(x)
        return self.layernorm.forward(xp.stack(given if each else given[-1:]))

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Return the gradients of the queries, (Q, C), and of the memory: each layer adds to both."""
        dgiven: list[Any] = [*self.layernorm.backward(dy)]  # type: ignore[misc]  # (N, Q, C) each, for the last layer or for all
        dx, dqueries, dmemory = dgiven.pop(), 0, 0
        for layer in reversed(self.layers):
            dx, dq, dm = layer.backward(dx)
            dqueries, dmemory = dqueries + dq, dmemory + dm
            if dgiven:
                dx = dx + dgiven.pop()
        return dqueries.sum(axis=0), dmemory  # type: ignore[attr-defined,return-value]


class BoxHead(Layer):
    """Three maps with ReLU between them, and a sigmoid: cx, cy, w, h between 0 and 1."""

    _live = ()
    _not_parts = ("_chain",)

    def __init__(self, width: int, options: dict[str, Any]) -> None:
        super().__init__()
        self.layers = [Linear(width, out, **options) for out in (width, width, 4)]
        first, second, third = self.layers
        self.activations = [ReLU(), ReLU()]
        self._chain = Chain(first, self.activations[0], second, self.activations[1], third)

    def forward(self, x: Array) -> Array:
        """Return boxes, (..., 4), for features, (..., C)."""
        y, cache = current().sigmoid(self._chain.forward(x))
        self._remember(cache)
        return y

    def backward(self, dy: Array) -> Array:
        """Return the gradient of the features."""
        return self._chain.backward(current().sigmoid_backward(dy, self._remembered()))
