"""The table of a model's layers: shapes, parameters, FLOPs and bytes."""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl import engines
from minidl.errors import MinidlError, NotBuiltError
from minidl.layers import Parameter, inference
from minidl.layers.base import Layer, Shape
from minidl.layers.branches import Branches
from minidl.layers.chain import Chain, knows_output_shape
from minidl.layers.fusion import SummedResidual
from minidl.layers.tree import find_parts

__all__ = ["Row", "Summary", "summarize", "trace_shapes"]


@dataclass(frozen=True)
class Row:
    """One layer of a summary; None stands for a figure that is not known."""

    name: str
    layer: str
    output_shape: Shape | None
    parameters: int | None
    flops: int | None
    output_bytes: int | None
    fused: bool = False
    """Whether the current engine runs it as one with the layer before, in training and in inference."""
    fused_in_inference: bool = False
    """Whether it does so inside ``minidl.inference()``, as in ``predict`` and ``evaluate``."""
    sources: tuple[str, ...] = ("input",)
    """The names of the rows whose outputs it takes; "input" is the input of the model."""


@dataclass(frozen=True)
class Summary:
    """The table that ``Sequential.summary`` returns. Print it, or read ``rows``.

    Attributes
    ----------
    title : str
    input_shape : tuple of int or None
        The shape of one example.
    rows : list of Row
        One for each layer; those inside containers have paths as names.
    parameters : int
        The number of elements of all parameters, each counted once.
    parameter_bytes : int
        The size of their values; training needs the same again for the gradients.
    flops : int
        Floating-point operations of the forward of one example, where a multiply-add counts 2. Training takes about three
        times as many.
    output_bytes : int
        The size of the outputs of all layers for one example.
    stacks : list of (str, str)
        The first and last of layers that the engine computes in one call.
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
                f"{row.name}  {'+ ' if row.fused else '* ' if row.fused_in_inference else ''}{row.layer}",
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
        if any(row.fused_in_inference and not row.fused for row in self.rows):
            lines.append("* runs as one with the layer before it in inference")
        if self.stacks:
            lines.append(f"in one call of the engine: {', '.join(f'{first} to {last}' for first, last in self.stacks)}")
        return "\n".join(lines)

    __repr__ = __str__


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else f"({', '.join(['N', *map(str, shape)])})"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _bytes(number: float) -> str:
    """Format a size in bytes.

    >>> _bytes(2139152)
    '2.04 MiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"


def summarize(model: Chain, input_shape: Shape | None = None) -> Summary:
    """Return the table of a model for examples of this shape."""
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
    """A walk through a model that writes the rows."""

    rows: list[Row]
    stacks: list[tuple[str, str]]
    itemsize: int

    def into(
        self,
        layer: Any,
        path: str,
        shape: Shape | None,
        sources: tuple[str, ...],
        fused: tuple[bool, bool] = (False, False),
        step: Any = None,
    ) -> tuple[Shape | None, Any]:
        """Write the rows of a layer, given the shape and the source rows of its input; return those of its output.

        ``fused`` says whether it runs as one with the layer before, in training and in inference. ``step`` is the step
        that replaces it in inference.
        """
        if isinstance(layer, Chain):
            return self.chain(layer, path, shape, sources)
        if isinstance(layer, Branches):
            return self.branches(layer, path, shape, sources, step)
        inside = _parts(layer)
        if inside:
            return self.block(layer, inside, path, shape, sources)
        return self.leaf(layer, path, shape, sources, fused)

    def chain(self, chain: Chain, path: str, shape: Shape | None, sources: tuple[str, ...]) -> tuple[Shape | None, Any]:
        """Write the rows of layers one after another."""
        names = [_joined(path, name) for name in chain.children()]
        self.stacks += [(names[run[0]], names[run[-1]]) for run in chain.stacks()]
        training, inference = chain.fused_into(), chain.fused_into(inference=True)
        steps = dict(chain.steps(keeping=False))
        for index, (name, layer) in enumerate(zip(names, chain.layers, strict=False)):
            fused = index in training, index in inference
            shape, sources = self.into(layer, name, shape, sources, fused, steps.get(index))
        return shape, sources

    def branches(
        self, layer: Branches, path: str, shape: Shape | None, sources: tuple[str, ...], step: Any
    ) -> tuple[Shape | None, Any]:
        """Write the rows of each branch, and one for the combination of their outputs."""
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
        summed = False, isinstance(step, SummedResidual)
        self.rows.append(Row(path, layer.joint(), joined, 0, flops, self.bytes(joined), *summed, tuple(ends)))
        if layer.follower is None:
            return joined, (path,)
        applied = summed[1] and engines.current().applies("conv_affine", getattr(layer.follower, "op", ""))
        return self.leaf(layer.follower, _joined(path, "activation"), joined, (path,), (False, applied))

    def block(
        self, layer: Layer, inside: dict[str, Any], path: str, before: Shape | None, sources: tuple[str, ...]
    ) -> tuple[Shape | None, tuple[str, ...]]:
        """Write a row for a layer whose forward calls other layers, and rows for these.

        An example must pass through it to show the shapes inside.
        """
        seen = trace_shapes(layer, before)
        shape = seen.get("", (None, None))[1]
        own = sum(p.size for name, p in find_parts(layer) if isinstance(p, Parameter))
        self.rows.append(Row(path, type(layer).__name__, shape, own, 0, self.bytes(shape), sources=sources))
        for name, part in inside.items():
            self.into(part, _joined(path, name), seen.get(name, (None, None))[0], ())
        return shape, (path,)

    def leaf(
        self,
        layer: Any,
        path: str,
        before: Shape | None,
        sources: tuple[str, ...],
        fused: tuple[bool, bool] = (False, False),
    ) -> tuple[Shape | None, tuple[str, ...]]:
        """Write one row."""
        shape = _output_shape(layer, before)
        flops = layer.flops(before) if isinstance(layer, Layer) and before is not None else None
        sizes = _parameter_count(layer), flops, self.bytes(shape)
        self.rows.append(Row(path, repr(layer), shape, *sizes, *fused, sources))
        return shape, (path,)

    def bytes(self, shape: Shape | None) -> int | None:
        """Return the size of the output for one example."""
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
    """Ask the layer or, if it is a user's layer without ``output_shape``, run one example through a copy of it."""
    if input_shape is None:
        return None
    if knows_output_shape(layer):
        return layer.output_shape(input_shape)
    return trace_shapes(layer, input_shape).get("", (None, None))[1]


def _parts(layer: Any) -> dict[str, Any]:
    """Return the layers inside a layer."""
    if not isinstance(layer, Layer):
        return {}
    return {name: part for name, part in layer.children().items() if not name.startswith("_")}


def trace_shapes(layer: Any, input_shape: Shape | None) -> dict[str, tuple[Shape | None, Shape | None]]:
    """Run one example of zeros through a copy of a layer; return the shapes of each layer's input and output, by path.

    The layer itself has the path "". The shape of several arrays is None. If the layer does not take such an example, the
    shapes seen before the error are returned.
    """
    if input_shape is None:
        return {}
    copied = copy.deepcopy(layer)
    parameters: list[Any] = getattr(copied, "parameters", list)()
    dtype = parameters[0].value.dtype if parameters else numpy.dtype("float32")
    seen: dict[str, tuple[Shape | None, Shape | None]] = {}

    def watch(path: str, watched: Any) -> None:
        forward = watched.forward

        def recording(*args: Any, **kwargs: Any) -> Any:
            y = forward(*args, **kwargs)
            seen[path] = _shape_of(args[0] if args else None), _shape_of(y)
            return y

        watched.forward = recording

    for path, inner in copied.named_layers() if isinstance(copied, Layer) else [("", copied)]:
        watch(path, inner)
    x = numpy.zeros((1, *input_shape), dtype="int64" if getattr(copied, "integer_inputs", False) else dtype)
    with engines.use("numpy"), inference(evaluate=True), contextlib.suppress(MinidlError, TypeError):
        copied.forward(x)  # on the numpy engine every layer runs by itself
    return seen


def _shape_of(array: Any) -> Shape | None:
    return tuple(array.shape[1:]) if hasattr(array, "shape") else None
