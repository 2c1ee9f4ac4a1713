"""What a model takes and gives, found by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minidl import engines
from minidl.errors import MinidlError, ParameterError
from minidl.interop.onnx.examples import EXAMPLES, examples_for
from minidl.interop.onnx.exporting import name_inputs
from minidl.interop.serving.tensors import TensorSpec
from minidl.layers import inference

__all__ = ["Signature", "find_signature", "run_model"]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model.

    Attributes
    ----------
    inputs, outputs : tuple of TensorSpec
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def run_model(model: Any, inputs: Sequence[numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """Return the outputs by name, as arrays of the host: ``y``, or ``y0``, ``y1`` ..., or the model's own names."""
    engine = engines.current()
    with inference(evaluate=True):
        found = model.forward(*map(engine.asarray, inputs))
    if isinstance(found, (tuple, list)):
        found = {f"y{i}": y for i, y in enumerate(found)}
    elif not isinstance(found, dict):
        found = {"y": found}
    return {name: numpy.asarray(engine.to_host(y)) for name, y in found.items()}


def find_signature(model: Any, shape: Sequence[int] | None = None) -> Signature:
    """Return what a model takes and gives: it is run on two and on three examples, and on longer ones.

    Parameters
    ----------
    model : layer
    shape : sequence of int, optional
        Of one example, for a model of one input; -1 is an axis of any length. By default the shape that the model knows.

    Raises
    ------
    ParameterError
        If the shape is needed, or an output does not have one row for each example, so that requests cannot share a batch.
    MinidlError
        If the model cannot take such examples.
    """
    fill: list[Any] = [0]
    if shape is not None:
        floating = [p.dtype for p in model.parameters() if p.dtype.kind == "f"]
        integers = getattr(model, "integer_inputs", False)
        dtype = numpy.dtype("int64" if integers else floating[0] if floating else "float32")
        inputs = [TensorSpec(name_inputs(model, 1)[0], dtype, tuple(shape))]
    else:
        examples = examples_for(model)
        if examples is None:
            raise ParameterError(
                "serve: this model takes inputs of many shapes; give the shape of one example (--shape)"
            )
        fill = [x.flat[0] for x in examples]
        named = isinstance(model, tuple(EXAMPLES))
        inputs = [
            TensorSpec(name, x.dtype, (-1,) * (x.ndim - 1) if named and x.dtype.kind == "i" else x.shape[1:])
            for name, x in zip(name_inputs(model, len(examples)), examples, strict=True)
        ]
    two, three, longer = (_try(model, inputs, fill, count, length) for count, length in ((2, 4), (3, 4), (3, 5)))
    outputs = []
    for name, y in two.items():
        if y.ndim == 0 or (len(y), three[name].shape) != (2, (3, *y.shape[1:])):
            raise ParameterError(
                f"serve: the output {name} of {type(model).__name__} has the shapes {y.shape} and {three[name].shape} for 2 and "
                "3 examples, not one row for each, so that requests cannot share a batch; serve a part of the model that "
                "gives such rows"
            )
        same = zip(y.shape[1:], longer[name].shape[1:], strict=True)
        outputs.append(TensorSpec(name, y.dtype, tuple(n if n == other else -1 for n, other in same)))
    return Signature(tuple(inputs), tuple(outputs))


def _try(model: Any, inputs: list[TensorSpec], fill: list[Any], count: int, length: int) -> dict[str, numpy.ndarray]:
    """Run the model on examples of the inputs' shapes."""
    arrays = []
    for spec, value in zip(inputs, fill, strict=True):
        shape = [length if n == -1 else n for n in spec.shape]
        arrays.append(numpy.full((count, *shape), value, spec.dtype))
    try:
        return run_model(model, arrays)
    except MinidlError as error:
        raise error.at(f"serve, examples of {', '.join(map(str, inputs))}")  # noqa: B904
