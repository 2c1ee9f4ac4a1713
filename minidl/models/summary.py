"""What a model costs: shapes, parameters, FLOPs and bytes, layer by layer."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl import engines
from minidl.errors import NotBuiltError
from minidl.layers.base import Layer, Shape
from minidl.layers.chain import Chain

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
    """

    title: str
    input_shape: Shape | None
    rows: list[Row] = field(default_factory=list)
    parameters: int = 0
    parameter_bytes: int = 0
    flops: int = 0
    output_bytes: int = 0

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
    shape = input_shape = model.input_shape if input_shape is None else tuple(input_shape)
    rows: list[Row] = []
    itemsize = _itemsize(model)
    for name, layer, fused in _leaves(model):
        before, shape = shape, _output_shape(layer, shape)
        flops = layer.flops(before) if isinstance(layer, Layer) and before is not None else None
        rows.append(
            Row(
                name=name,
                layer=repr(layer),
                output_shape=shape,
                parameters=_parameter_count(layer),
                flops=flops,
                output_bytes=None if shape is None else math.prod(shape) * itemsize,
                fused=fused,
            )
        )
    parameters = model.parameters() if model.built else []
    return Summary(
        title=type(model).__name__,
        input_shape=input_shape,
        rows=rows,
        parameters=sum(parameter.size for parameter in parameters),
        parameter_bytes=sum(parameter.size * parameter.dtype.itemsize for parameter in parameters),
        flops=sum(row.flops or 0 for row in rows),
        output_bytes=sum(row.output_bytes or 0 for row in rows),
    )


def _leaves(model: Chain, prefix: str = "") -> list[tuple[str, Any, bool]]:
    """Return each layer with its path and whether the current engine fuses it into the one before."""
    has_kernel = engines.current().coverage()["linear_activation"] == "kernel"
    fused = model.fused_into() if has_kernel else {}
    leaves: list[tuple[str, Any, bool]] = []
    for index, layer in enumerate(model.layers):
        if isinstance(layer, Chain):
            leaves += _leaves(layer, f"{prefix}{index}.")
        else:
            leaves.append((f"{prefix}{index}", layer, index in fused))
    return leaves


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
    known = isinstance(layer, Layer) and (
        type(layer).output_shape is not Layer.output_shape or type(layer).__module__.startswith("minidl.")
    )
    if known:
        return layer.output_shape(input_shape)
    parameters: list[Any] = getattr(layer, "parameters", list)()
    dtype = parameters[0].value.dtype if parameters else "float32"
    return numpy.shape(copy.deepcopy(layer).forward(numpy.zeros((1, *input_shape), dtype=dtype)))[1:]
