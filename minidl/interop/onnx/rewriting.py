"""What exporters write in several nodes although there is an operator for it: the nodes become that one, for training too.

==================  ===========================================================================================
HardSwish           x clip(x + 3, 0, 6) / 6, in either order, or x HardSigmoid(x) with slope 1/6
Swish               x Sigmoid(x)
Gelu                x (1 + erf(x / sqrt(2))) / 2, in either order
LayerNormalization  (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) w + b over the last axis
==================  ===========================================================================================
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy

from minidl.interop.onnx.operators import Node

__all__ = ["rewrite"]


class _Finder:
    """Looks up who writes a value, who reads it, and what is constant."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.writer = {name: node for node in graph.nodes for name in node.outputs if name}
        self.reads = Counter(name for node in graph.nodes for name in node.inputs)
        self.reads.update(graph.outputs)
        self.used: list[Node] = []

    def number(self, name: str) -> float | None:
        """Return a constant of one element."""
        value = self.graph.constants.get(name)
        return float(value.flat[0]) if value is not None and value.size == 1 and value.dtype.kind == "f" else None

    def is_near(self, name: str, wanted: float) -> bool:
        found = self.number(name)
        return found is not None and math.isclose(found, wanted, rel_tol=1e-6)

    def inner(self, name: str, kind: str, reads: int = 1) -> Node | None:
        """Return the node of a kind that writes a value which nobody else reads."""
        node = self.writer.get(name)
        if node is None or node.kind != kind or self.reads[name] != reads:
            return None
        self.used.append(node)
        return node

    def with_number(self, name: str, kind: str, wanted: float, ordered: bool = False) -> str | None:
        """Return the other operand of such a node with a number."""
        node = self.inner(name, kind)
        if node is None:
            return None
        a, b = node.inputs
        if self.is_near(b, wanted):
            return a
        return b if not ordered and self.is_near(a, wanted) else None


def _pairs(node: Node) -> list[tuple[str, str]]:
    a, b = node.inputs
    return [(a, b), (b, a)]


def _clipped(find: _Finder, name: str) -> str | None:
    """Return x of clip(x + 3, 0, 6)."""
    clip = find.inner(name, "Clip")
    if clip is None:
        return None
    low = clip.get("min", 0.0) if len(clip.inputs) < 2 else find.number(clip.inputs[1])
    high = clip.get("max", 0.0) if len(clip.inputs) < 3 else find.number(clip.inputs[2])
    return find.with_number(clip.inputs[0], "Add", 3.0) if (low, high) == (0.0, 6.0) else None


def _hard_swish(find: _Finder, node: Node) -> tuple[str, str, dict[str, Any]] | None:
    if node.kind == "Div" and find.is_near(node.inputs[1], 6.0):
        product = find.inner(node.inputs[0], "Mul")
        for x, other in _pairs(product) if product else []:
            if _clipped(find, other) == x:
                return x, "HardSwish", {}
    if node.kind == "Mul":
        for x, other in _pairs(node):
            shared = find.with_number(other, "Div", 6.0, ordered=True)
            if shared is not None and _clipped(find, shared) == x:
                return x, "HardSwish", {}
            gate = find.inner(other, "HardSigmoid")
            slope, middle = (gate.get("alpha", 0.2), gate.get("beta", 0.5)) if gate is not None else (0.0, 0.0)
            if gate is not None and gate.inputs[0] == x and middle == 0.5 and math.isclose(slope, 1 / 6, rel_tol=1e-6):
                return x, "HardSwish", {}
    return None


def _swish(find: _Finder, node: Node) -> tuple[str, str, dict[str, Any]] | None:
    for x, other in _pairs(node) if node.kind == "Mul" else []:
        gate = find.inner(other, "Sigmoid")
        if gate is not None and gate.inputs[0] == x:
            return x, "Swish", {}
    return None


def _one_plus_erf(find: _Finder, name: str) -> str | None:
    """Return x of 1 + erf(x / sqrt(2))."""
    inside = find.with_number(name, "Add", 1.0)
    erf = find.inner(inside, "Erf") if inside else None
    if erf is None:
        return None
    x = find.with_number(erf.inputs[0], "Div", math.sqrt(2), ordered=True)
    return x or find.with_number(erf.inputs[0], "Mul", 1 / math.sqrt(2))


def _gelu(find: _Finder, node: Node) -> tuple[str, str, dict[str, Any]] | None:
    for left, right in _pairs(node) if node.kind == "Mul" else []:
        if find.is_near(right, 0.5):  # (x (1 + erf)) / 2
            product = find.inner(left, "Mul")
            for x, other in _pairs(product) if product else []:
                if _one_plus_erf(find, other) == x:
                    return x, "Gelu", {"approximate": "none"}
        half = find.with_number(left, "Mul", 0.5)  # (x / 2) (1 + erf)
        if half is not None and _one_plus_erf(find, right) == half:
            return half, "Gelu", {"approximate": "none"}
        inside = _one_plus_erf(find, right)
        if inside is not None and find.with_number(left, "Mul", 0.5) == inside:
            return inside, "Gelu", {"approximate": "none"}
    return None


def _mean_over_last(find: _Finder, name: str) -> str | None:
    node = find.inner(name, "ReduceMean")
    if node is None or not node.get("keepdims", 1):
        return None
    axes = find.graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else numpy.array(node.get("axes", []))
    return node.inputs[0] if axes is not None and axes.tolist() == [-1] else None


def _layer_norm(find: _Finder, node: Node) -> tuple[str, str, dict[str, Any]] | None:
    """Match (d / sqrt(mean(d^2) + eps)) w + b with d = x - mean(x); the weight and bias become inputs."""
    if node.kind != "Add":
        return None
    for scaled, bias in _pairs(node):
        product = find.inner(scaled, "Mul")
        for quotient, weight in _pairs(product) if product else []:
            known = all(name in find.graph.weights and find.graph.weights[name].ndim == 1 for name in (weight, bias))
            divided = find.inner(quotient, "Div") if known else None
            root = find.inner(divided.inputs[1], "Sqrt") if divided else None
            shifted = find.inner(root.inputs[0], "Add") if root else None
            if divided is None or shifted is None:
                continue
            eps = find.number(shifted.inputs[1])
            squares = _mean_over_last(find, shifted.inputs[0])
            power = find.inner(squares, "Pow") if squares else None
            if (
                eps is None
                or power is None
                or not find.is_near(power.inputs[1], 2.0)
                or power.inputs[0] != divided.inputs[0]
            ):
                continue
            centred = find.inner(power.inputs[0], "Sub", reads=2)
            if centred is not None and _mean_over_last(find, centred.inputs[1]) == centred.inputs[0]:
                how = {"axis": -1, "epsilon": eps, "more": (weight, bias)}
                return centred.inputs[0], "LayerNormalization", how
    return None


_PATTERNS: tuple[Callable[[_Finder, Node], Any], ...] = (_hard_swish, _swish, _gelu, _layer_norm)


def rewrite(graph: Any) -> None:
    """Replace the nodes of each pattern, in place; those that are left without a reader are removed."""
    find = _Finder(graph)
    made: dict[int, Node] = {}
    for node in graph.nodes:
        for pattern in _PATTERNS:
            find.used = []
            found = pattern(find, node)
            if found is not None:
                x, kind, how = found
                inputs = (x, *how.pop("more", ()))
                made[id(node)] = replace(node, kind=kind, inputs=inputs, attributes=how)
                break
    graph.nodes = [made.get(id(node), node) for node in graph.nodes]
