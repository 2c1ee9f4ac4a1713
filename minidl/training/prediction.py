"""The inputs of predict in batches, and the outputs of all batches in one array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy

from minidl import engines
from minidl.data.passes import ArrayPasses, Passes, is_batches, make_passes
from minidl.errors import DataError, ParameterError
from minidl.training.array_group import group_arrays, move
from minidl.training.preparation import any_stored, collect_arrays
from minidl.training.requirements import prepare_inputs
from minidl.training.stream import Stream

__all__ = ["iterate_inputs", "join_outputs", "output_to_host"]


def iterate_inputs(model: Any, x: Any, batch_size: int, steps: int | None, only_with_arrays: Any = ()) -> Iterator[Any]:
    """Yield the inputs in batches on the engine's device; targets that come with batches are ignored."""
    place = engines.current().asarray
    inputs = group_arrays(x, "predict", "x")
    if not is_batches(x) and not any_stored(inputs) and steps is None:
        whole = prepare_inputs(model, x, "predict")
        for at in range(0, len(whole), batch_size):
            yield move(whole[at : at + batch_size], place)
        return
    passes: Passes
    if is_batches(x):
        if only_with_arrays:
            raise ParameterError(
                f"predict: {', '.join(only_with_arrays)} cannot be combined with x in batches, which have their own size"
            )
        passes = make_passes(x)
    else:
        found, count = collect_arrays({"x": inputs}, "predict")
        passes = ArrayPasses((found["x"],), range(count), batch_size)
    for batch in Stream(passes, lambda batch, at: prepare_inputs(model, _inputs(batch), at), "predict", steps, True):
        yield move(batch, place)


def _inputs(batch: Any) -> Any:
    """Return x of a batch: (x,), (x, y) or (x, y, sample_weight), as in Keras, or x itself."""
    rows = isinstance(batch, list) and not all(hasattr(item, "shape") for item in batch)
    return batch[0] if isinstance(batch, (tuple, list)) and len(batch) in (1, 2, 3) and not rows else batch


def output_to_host(output: Any, to_host: Callable[[Any], numpy.ndarray]) -> Any:
    """Copy an output, or each of several, to the host."""
    if isinstance(output, dict):
        return {name: to_host(part) for name, part in output.items()}
    return tuple(map(to_host, output)) if isinstance(output, (tuple, list)) else to_host(output)


def join_outputs(parts: list[Any]) -> Any:
    """Concatenate the outputs of all batches; of a tuple or dict each array separately.

    Raises
    ------
    DataError
        If the outputs for one example differ in shape between batches.

    Examples
    --------
    >>> join_outputs([(numpy.zeros((2, 3)), numpy.zeros(2)), (numpy.ones((1, 3)), numpy.ones(1))])[1]
    array([0., 0., 1.])
    """
    first = parts[0]
    if isinstance(first, dict):
        return {name: join_outputs([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple):
        return tuple(join_outputs([part[i] for part in parts]) for i in range(len(first)))
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise DataError(
            "predict: the outputs for one example have different shapes in different batches, "
            f"{' and '.join(map(str, sorted(shapes)))}, so they cannot be joined; predict the batches one at a time"
        )
    return first if len(parts) == 1 else numpy.concatenate(parts)
