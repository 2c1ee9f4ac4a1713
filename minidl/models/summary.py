"""What a model costs: shapes, parameters, FLOPs and bytes, layer by layer."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl import engines
from minidl.engines.fused import FUSIBLE
from minidl.errors import NotBuiltError
from minidl.layers.base import Layer, Shape
from minidl.layers.branches import Branches
from minidl.layers.chain import Chain, tells_shape

__all__ = ["Row", "Summary", "summarize"]


@dataclass(frozen=True)
class Row:
    """One layer of a summary; ``None`` where a figure is not known."""

    name: str
    layer: str
    output_shape: Shape | None
    parameters: int | None
    flops: int | None
    output_bytes: int | None
    fused: bool = False
    """Whether the engine runs it as part of the layer before."""
    sources: tuple[str, ...] = ("input",)
    """The rows whose outputs it takes; "input" is the model's. Where branches meet there are several."""


@dataclass(frozen=True)
class Summary:
    """The table that ``Sequential.summary`` returns; ``print`` it, or read ``rows``.

    Attributes
    ----------
    rows : list of Row
        One a layer, nested layers after their container's name.
    parameters : int
        Numbers that are trained, each counted once.
    parameter_bytes : int
        What the values take; the gradients take as much again.
    flops : int
        Floating-point operations of one example's forward (a multiplication and an addition are 2); training takes about
        three times as many.
    stacks : list of (str, str)
        First and last of the layers that the engine runs in one call.
    """

    title: str
    input_shape: Shape | None
    rows: list[Row] = field(default_factory=list)
    parameters: int = 0
    parameter_bytes: int = 0
    flops: int = 0
    output_bytes: int = 0
    stacks: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        head = ("layer", "output shape", "parameters", "FLOPs", "bytes out")
        body = [
            (
                f"{row.name}  {'+ ' * row.fused}{row.layer}",
                _shape(row.output_shape),
                _count(row.parameters),
                _count(row.flops),
                _count(row.output_bytes),
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        lines = [f"{self.title}, input {_shape(self.input_shape)}"]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        for line in [head, None, *body, None]:
            if line is None:
                lines.append(rule)
                continue
            cells = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
            cells += [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        lines.append(
            f"{self.parameters:,} parameters ({_bytes(self.parameter_bytes)}); one example's forward: "
            f"{self.flops:,} FLOPs, {_bytes(self.output_bytes)} of outputs"
        )
        if any(row.fused for row in self.rows):
            lines.append("+ runs as one with the layer before it")
        if any(row.fused and len(row.sources) > 1 for row in self.rows):
            lines.append("+ a sum: in evaluation, as one with the first way's last layer")
        if self.stacks:
            lines.append(f"in one call of the engine: {', '.join(f'{first} to {last}' for first, last in self.stacks)}")
        return "\n".join(lines)

    __repr__ = __str__


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else f"({', '.join(['N', *map(str, shape)])})"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _bytes(number: float) -> str:
    """Return a size as people write it.

    >>> _bytes(2139152)
    '2.04 MiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"


def summarize(model: Chain, input_shape: Shape | None = None) -> Summary:
    """Walk through a model and add up what each layer costs for one example."""
    input_shape = model.input_shape if input_shape is None else tuple(input_shape)
    rows: list[Row] = []
    stacks: list[tuple[str, str]] = []
    _Walk(rows, stacks, _itemsize(model)).into(model, "", input_shape, ("input",))
    parameters = model.parameters() if model.built else []
    return Summary(
        title=type(model).__name__,
        input_shape=input_shape,
        rows=rows,
        parameters=sum(parameter.size for parameter in parameters),
        parameter_bytes=sum(parameter.size * parameter.dtype.itemsize for parameter in parameters),
        flops=sum(row.flops or 0 for row in rows),
        output_bytes=sum(row.output_bytes or 0 for row in rows),
        stacks=stacks,
    )


@dataclass
class _Walk:
    """The way through a model, along which rows are written."""

    rows: list[Row]
    stacks: list[tuple[str, str]]
    itemsize: int

    @property
    def has_kernels(self) -> bool:
        """Whether the engine computes as one what is planned as one."""
        return engines.current().coverage()["linear_activation"] == "kernel"

    def into(self, layer: Any, path: str, shape: Shape | None, sources: tuple[str, ...]) -> tuple[Shape | None, Any]:
        """Write a layer's rows, given its input's shape and rows; return its output's shape and rows."""
        if isinstance(layer, Chain):
            fused = layer.fused_into() if self.has_kernels else {}
            names = [_joined(path, name) for name in layer.children()]
            self.stacks += [(names[run[0]], names[run[-1]]) for run in layer.stacks() if self.has_kernels]
            for index, (name, inner) in enumerate(layer.children().items()):
                if isinstance(inner, (Chain, Branches)):
                    shape, sources = self.into(inner, _joined(path, name), shape, sources)
                else:
                    shape, sources = self.leaf(inner, _joined(path, name), shape, sources, index in fused)
            return shape, sources
        if isinstance(layer, Branches):
            return self.branches(layer, path, shape, sources)
        return self.leaf(layer, path, shape, sources)

    def branches(self, layer: Branches, path: str, shape: Shape | None, sources: tuple[str, ...]) -> Any:
        """Write the rows of each way, and one where they meet."""
        shapes: dict[str, Shape | None] = {}
        ends: list[str] = []
        for name, way in layer.ways.items():
            end: tuple[Shape | None, Any] = shape, sources
            if way is not None:
                end = self.into(way, _joined(path, layer.inner(name)), shape, sources)
            shapes[name] = end[0]
            ends += end[1]
        known = {name: end for name, end in shapes.items() if end is not None}
        joined = layer.join_shape(known) if len(known) == len(shapes) else None
        flops = None if joined is None else layer.join_flops(joined)
        fused = layer.adds_in_last_step and self.has_kernels
        self.rows.append(Row(path, layer.joint(), joined, 0, flops, self.bytes(joined), fused, tuple(ends)))
        if layer.follower is None:
            return joined, (path,)
        fused = fused and getattr(layer.follower, "op", None) in FUSIBLE
        return self.leaf(layer.follower, _joined(path, "activation"), joined, (path,), fused)

    def leaf(
        self, layer: Any, path: str, before: Shape | None, sources: tuple[str, ...], fused: bool = False
    ) -> tuple[Shape | None, tuple[str, ...]]:
        """Write one row."""
        shape = _output_shape(layer, before)
        flops = layer.flops(before) if isinstance(layer, Layer) and before is not None else None
        numbers = _parameter_count(layer), flops, self.bytes(shape)
        self.rows.append(Row(path, repr(layer), shape, *numbers, fused, sources))
        return shape, (path,)

    def bytes(self, shape: Shape | None) -> int | None:
        """Return what one example's output takes."""
        return None if shape is None else math.prod(shape) * self.itemsize


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _itemsize(model: Chain) -> int:
    return model.parameters()[0].dtype.itemsize if model.built and model.parameters() else 4


def _parameter_count(layer: Any) -> int | None:
    try:
        return sum(numpy.size(parameter.value) for parameter in getattr(layer, "parameters", list)())
    except NotBuiltError:
        return None


def _output_shape(layer: Any, input_shape: Shape | None) -> Shape | None:
    """Ask the layer, or, if it is somebody's own and does not say, try one example on a copy of it."""
    if input_shape is None:
        return None
    if tells_shape(layer):
        return layer.output_shape(input_shape)
    parameters: list[Any] = getattr(layer, "parameters", list)()
    dtype = parameters[0].value.dtype if parameters else "float32"
    return numpy.shape(copy.deepcopy(layer).forward(numpy.zeros((1, *input_shape), dtype=dtype)))[1:]
