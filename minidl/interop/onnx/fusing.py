"""Inference: a convolution and what follows it alone run as one, where the engine has the kernel.

``conv_affine`` applies a number for each channel, an activation, and what a shortcut adds, while the sums are at hand. So a
normalisation, products and sums with constants, and an activation after a convolution cost nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.operators import Node
from minidl.interop.onnx.operators.windows import padding_of, settings_of

__all__ = ["FusedConv", "fuse"]

ACTIVATIONS: dict[str, tuple[str, Callable[[Node], tuple[Any, ...] | None]]] = {
    "Relu": ("relu", lambda node: ()),
    "Sigmoid": ("sigmoid", lambda node: ()),
    "Tanh": ("tanh", lambda node: ()),
    "HardSwish": ("hardswish", lambda node: ()),
    "LeakyRelu": ("leaky_relu", lambda node: (node.get("alpha", 0.01),)),
    "Swish": ("silu", lambda node: () if node.get("alpha", 1.0) == 1 else None),
}
"""Operator, activation of minidl, and its settings; None if it has none for them."""


@dataclass
class FusedConv:
    """A convolution and its followers.

    Attributes
    ----------
    conv : Node
    affine : list of Node
        Normalisations, products and sums with one number for each channel.
    activation : Node or None
    after : list of Node
        Products and sums with single constants after the activation.
    """

    conv: Node
    affine: list[Node]
    activation: Node | None
    after: list[Node]

    @property
    def members(self) -> list[Node]:
        """The nodes, in their order."""
        return [self.conv, *self.affine, *([] if self.activation is None else [self.activation]), *self.after]

    @property
    def name(self) -> str:
        """For messages."""
        return self.conv.name

    kind = "Conv"

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the last of them writes."""
        return (self.members[-1].outputs[0],)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What they read that none of them writes."""
        own = {node.outputs[0] for node in self.members}
        return tuple(name for node in self.members for name in node.inputs if name not in own)

    def prepare(self, constants: Mapping[str, Any], weight: Any) -> None:
        """Look up, once, what does not change from one forward to the next."""
        conv, axes = self.conv, weight.ndim - 2
        kernel, strides, dilations = settings_of(conv, weight.shape[2:])
        fixed = conv.get("auto_pad", "NOTSET") in ("NOTSET", "")
        self._op = f"conv{axes}d"
        self._settings = kernel, strides, dilations
        self._windows = self._windows_for((1,) * axes) if fixed else None
        self._activation: tuple[Any, tuple[Any, ...]] = (None, ())
        if self.activation is not None:
            name, find = ACTIVATIONS[self.activation.kind]
            self._activation = name, find(self.activation) or ()
        self._steps: list[tuple[str, Any, Node]] = []
        for node in self.affine:
            number = None
            if node.kind != "BatchNormalization":
                number = next((constants[name] for name in node.inputs if name in constants), None)
                number = None if number is None else _each(number, weight.shape[0], weight.dtype)
            self._steps.append((node.kind, number, node))
        own = {node.outputs[0] for node in self.members}
        self._after = [(node.kind, next(name for name in node.inputs if name not in own)) for node in self.after]

    def _windows_for(self, image: Any) -> tuple[Any, ...]:
        """Return the op's arguments after the bias."""
        kernel, strides, dilations = self._settings
        pads = padding_of(self.conv, image, kernel, strides, dilations)
        around: Any = tuple(b for b, _ in pads) if all(b == a for b, a in pads) else tuple(pads)
        return tuple(strides), around, tuple(dilations), self.conv.get("group", 1)

    def run(self, values: Mapping[str, Any]) -> Any:
        """Return the output."""
        names = self.conv.inputs
        x, weight = values[names[0]], values[names[1]]
        bias = values[names[2]] if len(names) > 2 and names[2] else None
        windows = self._windows or self._windows_for(x.shape[2:])
        scale, shift = self._affine(values, bias, weight) if self._steps else (None, bias)
        y = current().conv_affine(self._op, x, weight, windows, scale, shift, *self._activation)
        for kind, name in self._after:
            (numpy.multiply if kind == "Mul" else numpy.add)(y, values[name], out=y)
        return y

    def _affine(self, values: Mapping[str, Any], bias: Any, weight: Any) -> tuple[Any, Any]:
        """Return one scale and one shift for each channel, None for 1 and 0."""
        scale, shift = None, bias
        for kind, number, node in self._steps:
            if kind == "BatchNormalization":
                gain, beta, mean, var = (values[name] for name in node.inputs[1:])
                each = gain / numpy.sqrt(var + numpy.asarray(node.get("epsilon", 1e-5), var.dtype))
                shift = beta - mean * each if shift is None else (shift - mean) * each + beta
                scale = each if scale is None else scale * each
                continue
            if number is None:
                other = next(values[name] for name in node.inputs if name in values)  # the value before is not stored
                number = _each(other, weight.shape[0], weight.dtype)
            if kind == "Mul":
                scale = number if scale is None else scale * number
                shift = None if shift is None else shift * number
            else:
                shift = number if shift is None else shift + number
        return scale, shift


def _each(number: Any, channels: int, dtype: Any) -> Any:
    """Return one number for each channel."""
    flat = number.reshape(-1)
    return flat if flat.size == channels else numpy.full(channels, flat[0], dtype)


def fuse(
    nodes: list[Node], constants: Mapping[str, Any], weights: Mapping[str, Any], outputs: list[str]
) -> list[Node | FusedConv]:
    """Return what a forward in inference runs.

    Parameters
    ----------
    nodes : list of Node
    constants, weights : mapping of str to array
        What never changes, and what may.
    outputs : list of str
        Of the graph.
    """
    known = {**constants, **weights}
    reads = Counter(name for node in nodes for name in node.inputs)
    reads.update(outputs)
    reader = {name: node for node in nodes for name in node.inputs}
    taken: set[int] = set()
    plan: list[Any] = []
    for node in nodes:
        if id(node) in taken:
            continue
        weight = known.get(node.inputs[1]) if node.kind == "Conv" else None
        if weight is None or weight.ndim not in (3, 4):
            plan.append(node)
            continue
        fused = _follow(node, known, reads, reader)
        fused.prepare(constants, weight)
        taken.update(map(id, fused.members))
        plan.append(fused)
    return plan


def _follow(conv: Node, constants: Mapping[str, Any], reads: Counter[str], reader: Mapping[str, Node]) -> FusedConv:
    """Return a convolution with all that can run with it: each follower reads the value, and nobody else does."""
    weight = constants[conv.inputs[1]]
    fused, last = FusedConv(conv, [], None, []), conv.outputs[0]
    while reads[last] == 1 and last in reader:
        node = reader[last]
        others = [name for name in node.inputs if name != last]
        constant = all(name in constants for name in others) and len(list(filter(None, node.outputs))) == 1
        if (
            node.kind == "BatchNormalization"
            and constant
            and fused.activation is None
            and not node.get("training_mode", 0)
        ):
            fused.affine.append(node)
        elif node.kind in ("Mul", "Add") and constant and len(others) == 1:
            where = _place(constants[others[0]], weight, fused)
            if where is None:
                break
            where.append(node)
        elif node.kind in ACTIVATIONS and fused.activation is None and ACTIVATIONS[node.kind][1](node) is not None:
            fused.activation = node
        else:
            break
        last = node.outputs[0]
    return fused


def _place(other: Any, weight: Any, fused: FusedConv) -> list[Node] | None:
    """Return where a product or sum with a constant belongs: to the affine map of each channel, or after the activation."""
    each = (weight.shape[0], *[1] * (weight.ndim - 2))
    single = other.size == 1 and other.ndim <= weight.ndim
    if fused.activation is not None:
        return fused.after if single else None
    return fused.affine if single or other.shape in (each, (1, *each)) else None
