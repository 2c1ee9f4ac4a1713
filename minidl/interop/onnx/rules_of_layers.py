"""The few layers and models that a graph needs in other words: methods that look at numbers, count with NumPy, or fill arrays.

Everything else is drawn by its own forward, op by op.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.drawing import Symbol
from minidl.layers import CausalConv1d, GroupedQueryAttention, RotaryPositions, StoredLinear
from minidl.models import BERT, CLIP, DETR, Transformer, TwoTower
from minidl.models.clip import TextTower
from minidl.models.tabular import ColumnFeatures
from minidl.models.vision import PatchEmbedding
from minidl.ops.position_tables import alibi_slopes

__all__ = ["METHODS", "use_rules"]

METHODS: dict[tuple[type, str], Callable[..., Any]] = {}
"""What stands in for a method of a class while a graph is drawn."""


def _method(owner: type, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def keep(draw: Callable[..., Any]) -> Callable[..., Any]:
        METHODS[owner, name] = draw
        return draw

    return keep


def use_rules(layer: Any) -> None:
    """Give a copy of a layer the methods that stand in for its own."""
    for (owner, name), draw in METHODS.items():
        if isinstance(layer, owner):
            vars(layer)[name] = functools.partial(draw, layer)


# positions: tables of any length are computed in the graph ---------------------------------------------------------------


@_method(RotaryPositions, "turn")
def _turn(self: RotaryPositions, x: Symbol, offset: int = 0, out: Any = None) -> Any:
    xp = x.__array_namespace__()
    frequency = self.base ** (-numpy.arange(0, self.dim, 2) / self.dim)  # (D / 2,)
    places = xp.arange(x.shape[-2]).astype("float64") + float(offset)
    angles = places.unsqueeze(1) * frequency  # (T, D / 2)
    return current().rotary_embedding(
        x, xp.cos(angles).astype(x.dtype), xp.sin(angles).astype(x.dtype), self.interleaved
    )


@_method(GroupedQueryAttention, "_alibi")
def _alibi(self: GroupedQueryAttention, q: Symbol, k: Symbol, offset: int) -> Symbol:
    xp = q.__array_namespace__()
    distance = xp.abs(xp.arange(q.shape[2]).unsqueeze(1) + offset - xp.arange(k.shape[2]))  # (T, S)
    return distance.astype(q.dtype) * (-alibi_slopes(self.num_heads)[:, None, None]).astype(q.dtype)  # (H, T, S)


@_method(PatchEmbedding, "forward")
def _patches(self: PatchEmbedding, x: Symbol) -> Symbol:
    """Put class token, registers and patches together instead of filling an array."""
    xp = x.__array_namespace__()
    rows, columns = self.grid(x.shape)
    z: Any = self.projection.forward(x)  # (N, C, h, w)
    places, _ = self._positions(rows, columns)  # (1 + h w, C)
    patches = z.reshape((z.shape[0], self.width, -1)).transpose((0, 2, 1)) + places[1:]  # (N, h w, C)
    token: Any = self.cls_token.value
    first = [(token.reshape((1, 1, self.width)) + places[0])]
    if self.register_tokens is not None:
        tokens: Any = self.register_tokens.value
        first.append(tokens.reshape((1, self.registers, self.width)))
    first = [xp.broadcast_to(part, (z.shape[0], *part.shape[1:])) for part in first]
    return xp.concatenate([*first, patches], axis=1)


@_method(DETR, "_places")
def _places(self: DETR, batch: Any, size: list[Any], pixel_mask: Symbol | None) -> Any:
    """Count rows and columns of the real places in the graph, as ``image_positions`` does."""
    xp = self.class_labels_classifier.weight.value.__array_namespace__()
    mask = xp.ones((1, *size), dtype="float32") if pixel_mask is None else pixel_mask.astype("float32")
    if pixel_mask is not None:  # the nearest pixel of each place
        for axis, n in enumerate(size, start=1):
            mask = mask.take(_nearest(xp, n, mask.shape[axis]), axis)
    half = self.config.width // 2
    frequency = (10000.0 ** (-2 * (numpy.arange(half) // 2) / half)).astype("float32")  # (C / 2,)
    parts = []
    for axis in (1, 2):
        count = mask.cumsum(axis)  # (N, h, w)
        last = count.reduce("Max", axis, keepdims=True)
        angles = (count * numpy.float32(2 * math.pi) / (last + numpy.float32(1e-6))).unsqueeze(3) * frequency
        parts.append(xp.where(numpy.arange(half) % 2 == 1, xp.cos(angles), xp.sin(angles)))
    table = xp.concatenate(parts, axis=-1).astype(self.dtype)  # (N or 1, h, w, C)
    positions = table.reshape((table.shape[0], -1, self.config.width))
    seen = None if pixel_mask is None else (mask > numpy.float32(0.5)).reshape((batch, 1, 1, -1))
    return positions, seen


def _nearest(symbols: Any, places: Any, pixels: Any) -> Symbol:
    """Return the nearest pixel of each place."""
    drawing = symbols.drawing
    return symbols.arange(places).binary(
        "Div", symbols.arange(places) * drawing.number(pixels, "int64"), drawing.number(places, "int64")
    )


# checks of numbers, which a graph does not make ---------------------------------------------------------------------------


@_method(BERT, "_check")
def _bert_mask(self: BERT, ids: Symbol, attention_mask: Any, types: Any) -> Any:
    return None if attention_mask is None else _nonzero(attention_mask).reshape((ids.shape[0], 1, 1, ids.shape[1]))


def _nonzero(mask: Symbol) -> Symbol:
    return mask if mask.dtype.kind == "b" else mask != 0


@_method(Transformer, "_check")
def _transformer_ids(self: Transformer, which: str, ids: Any, vocabulary: int, known: int) -> None:
    return None


@_method(ColumnFeatures, "forward")
def _columns(self: ColumnFeatures, x: Symbol) -> Symbol:
    numbers = [column for run in self.spans for column in range(run.start, run.stop)]
    parts: list[Any] = [x.take(numbers, axis=1).astype(self.dtype)]
    parts += [table.forward(x[:, int(column)].astype("int64")) for column, table in self.tables.items()]
    return x.__array_namespace__().concatenate(parts, axis=1)


@_method(TextTower, "forward")
def _text(self: TextTower, x: Symbol) -> Any:
    """Project the end token of each text, which is picked from the end of the last block."""
    ends = x.argmax(axis=1) if self.end is None else (x == self.end).argmax(axis=1)  # (N,): the first of them
    y: Any = self.hidden_states(x)[-1]  # (N, T, C)
    rows = y.__array_namespace__().arange(y.shape[0])
    return self.projection.forward(self.norm.forward(y[rows, ends]))


@_method(CLIP, "forward")
def _clip(self: CLIP, images: Symbol, ids: Symbol) -> Symbol:
    xp = images.__array_namespace__()
    image, text = (_unit(xp, part) for part in (self.vision.forward(images), self.text.forward(ids)))
    scale: Any = self.logit_scale.value
    return (image @ text.T) * xp.exp(scale)


def _unit(xp: Any, x: Any) -> Symbol:
    return x * (1.0 / xp.sqrt((x * x).sum(axis=-1, keepdims=True)))


@_method(TwoTower, "forward")
def _scores(self: TwoTower, users: Symbol, items: Symbol) -> Symbol:
    u: Any = self.user.forward(users)
    v: Any = self.item.forward(items)
    return (v @ u[:, :, None] + self.bias.forward(items))[:, :, 0]


# other ------------------------------------------------------------------------------------------------------------------


@_method(CausalConv1d, "forward")
def _causal(self: CausalConv1d, x: Symbol) -> Any:
    bias = None if self.bias is None else self.bias.value
    around = ((self._before, 0),)
    return current().conv1d(x, self.weight.value, bias, self.stride, around, self.dilation, self.groups)[0]


@_method(StoredLinear, "forward")
def _stored(self: StoredLinear, x: Symbol) -> Any:
    """Cast the stored weights in the graph; with int8 round the rows of x as ``int8_linear`` does."""
    xp, weight, scale = x.__array_namespace__(), self.weight, self.scale
    if self.stored_as != "int8" or scale is None:
        y = current().linear(x, weight.astype("float32"), self.bias)[0]
    else:
        largest = xp.abs(x).max(axis=-1, keepdims=True) / numpy.float32(127)  # (..., 1)
        steps = xp.where(largest == 0, numpy.float32(1), largest)
        rounded = x.drawing.one("Round", x / steps, since=11)
        sums = current().linear(rounded.astype("float64"), weight.astype("float64"))[0].astype("float32")
        y = sums * (steps * scale)
        y = y if self.bias is None else y + self.bias
    return y if self.follower is None else self.follower.forward(y)
