"""What a model and its loss require of data: checks for whole arrays, or for each batch as it is read."""

from __future__ import annotations

import inspect
from typing import Any

import numpy

from minidl import engines
from minidl.errors import DataError, ParameterError, ShapeError
from minidl.layers import Activation, Chain, Loss, Parameter
from minidl.layers.parameter import structure
from minidl.training import checks, losses, targets
from minidl.training.array_group import ArrayGroup, call_with, group_arrays, move
from minidl.training.loop import Loop, evaluating

__all__ = ["Requirements", "prepare_inputs"]


class Requirements:
    """Check data against a compiled model and its loss.

    The first data build the model if necessary. They also decide whether there are several inputs, and on which axis the
    classes are if the loss was given by name.

    Parameters
    ----------
    model : layer
    loss_by_name : bool
        Whether the loss was given by name; see ``minidl.training.losses``.
    """

    def __init__(self, model: Any, loss_by_name: bool) -> None:
        self.model, self.by_name = model, loss_by_name
        self.activation: Activation | None = None
        self.trunk: Any = None
        self._outputs: dict[Any, tuple[int, ...] | None] = {}  # by the shape of one example
        self._several: dict[str, bool] = {}

    def check(self, x: Any, y: Any, sample_weight: Any, where: str) -> tuple[Any, Any, numpy.ndarray | None]:
        """Return examples, targets and weights, checked and converted for the loop.

        Raises
        ------
        DataError, DtypeError, ParameterError, ShapeError, TargetError
            If they do not fit each other, the model or its loss.
        """
        inputs = prepare_inputs(self.model, x, where)
        if self.trunk is None:
            self.activation = losses.absorbed_activation(self.model, self.model.loss, self.by_name)
            self.trunk = losses.trunk_of(self.model, self.activation)
        found = self._targets(y, inputs, where)
        for name, data in (("x", inputs), ("y", found)):
            if self._several.setdefault(name, isinstance(data, ArrayGroup)) != isinstance(data, ArrayGroup):
                before, now = ("several arrays", "one array")[:: 1 if self._several[name] else -1]
                raise DataError(f"{where}: {name} is {now} in this batch, but was {before} in the first")
        if len(inputs) != len(found):
            hint = ""
            if isinstance(x, list) and len(x) < 5 and all(getattr(part, "ndim", 0) for part in x):
                hint = "; a list is one array, so give several inputs as a tuple or a dict"
            raise DataError(f"{where}: x holds {len(inputs)} examples but y holds {len(found)} targets{hint}")
        weights = None
        if sample_weight is not None:
            targets.check_takes_weights(self.model.loss, where)
            shape = targets.losses_shape(found, self.model.loss)
            weights = targets.as_sample_weights(sample_weight, shape, _dtype(self.model), where)
        return inputs, found, weights

    def _targets(self, y: Any, inputs: Any, where: str) -> Any:
        loss, outputs, dtype = self.model.loss, self._outputs_of(inputs, where), _dtype(self.model)
        given = group_arrays(y, where, "y")
        if isinstance(given, ArrayGroup):
            if isinstance(loss, Loss) and not loss.several_targets:
                raise DataError(f"{where}: y is a {type(y).__name__} of arrays, but {loss!r} takes one array")
            if self.model.metrics:
                raise ParameterError(f"{where}: y is a {type(y).__name__} of arrays, but a metric takes one array")
            found = [
                targets.convert_for_custom_loss(targets.check_numbers(part, where, name), dtype, where, name)
                for name, part in zip(given.labels("y"), given.arrays, strict=True)
            ]
            return _same_length(ArrayGroup(found, given.names), "y", where)
        array = targets.check_numbers(y, where, "y")
        if outputs is None:
            return targets.convert_for_custom_loss(array, dtype, where, "y")
        losses.resolve_class_axis(loss, self.by_name, self.activation, array, outputs, where)
        return targets.convert_for_loss(array, loss, dtype, outputs, where)

    def _outputs_of(self, inputs: Any, where: str) -> tuple[int, ...] | None:
        """Return the shape of the output for one example, or None if there are several outputs.

        For each new shape of example, one example is run through the model: a user's own layers do not tell their output
        shape in any other way.
        """
        if isinstance(inputs, ArrayGroup):
            key = (inputs.names, tuple(array.shape[1:] for array in inputs.arrays))
        else:
            key = inputs.shape[1:]
        if key in self._outputs:
            return self._outputs[key]
        output = _one_example(self.model, self.trunk.forward, inputs)
        if isinstance(output, (tuple, list, dict)):
            if isinstance(self.model.loss, Loss) or self.model.metrics:
                what = repr(self.model.loss) if isinstance(self.model.loss, Loss) else "a metric"
                raise ParameterError(
                    f"{where}: the model returns {len(output)} outputs, but {what} takes one; write a loss whose forward "
                    "takes them all, and leave out the metrics"
                )
            self._outputs[key] = None
        else:
            self._outputs[key] = tuple(output.shape[1:])
        return self._outputs[key]

    def with_classes(
        self, class_weight: Any, x: Any, y: Any, weights: Any, where: str, all_seen: bool = True
    ) -> numpy.ndarray:
        """Multiply the weights of the examples by those of their classes."""
        loss = self.model.loss
        targets.check_takes_weights(loss, where)
        outputs = self._outputs_of(x, where)
        if outputs is None or isinstance(y, ArrayGroup):
            raise DataError(
                f"{where}: class_weight needs one output and one class for each example; give sample_weight"
            )
        found = targets.as_class_weights(class_weight, y, loss, _dtype(self.model), outputs, where, all_seen)
        if weights is None:
            return found
        few, many = sorted((weights, found), key=lambda array: array.ndim)
        return many * few.reshape(few.shape + (1,) * (many.ndim - few.ndim))

    def loop(self, inputs: Any, found: Any) -> Loop:
        """Return the loop that runs on data of this kind."""
        model = self.model
        several = isinstance(inputs, ArrayGroup) or isinstance(found, ArrayGroup)
        return Loop(model, self.trunk, self.activation, model.loss, list(model.metrics), several)


def prepare_inputs(model: Any, x: Any, where: str) -> Any:
    """Return the examples, checked and converted for the model; build the model for their shape if necessary.

    A single array is converted to the model's dtype, even if it holds integers, unless the model takes integers
    (``model.integer_inputs``). If there are several inputs, integers and booleans keep their dtype.

    Raises
    ------
    DataError, DtypeError
        If they cannot be used; see ``minidl.training.checks``.
    ShapeError
        If they do not fit the model.
    """
    given = group_arrays(x, where, "x")
    if isinstance(given, ArrayGroup):
        return _several_examples(model, given, where)
    array = checks.as_host(x, where, "x")
    if array.ndim == 1 and model.input_shape:
        raise ShapeError(
            f"{where}: x has shape {array.shape}, a single number for each example, but the model expects examples of shape "
            f"{model.input_shape}; for one feature use x.reshape(-1, 1)"
        )
    with structure.lock:  # several threads may predict at once
        if not model.built:
            model.build(array.shape[1:])
    keep = bool(getattr(model, "integer_inputs", False))
    dtype = _dtype(model)
    inputs = checks.as_inputs(array, dtype, where, "x", keep)
    if not model.built:  # a user's own layer hides the shapes: they show when an example passes through
        with structure.lock:
            _one_example(model, model.forward, inputs)
        if _dtype(model) != dtype:
            inputs = checks.as_inputs(array, _dtype(model), where, "x", keep)
    return inputs


def _first_layer(model: Any) -> Any:
    """Return the layer that gets the inputs: in a chain the first one."""
    while isinstance(model, Chain) and len(model):
        model = model[0]
    return model


def _several_examples(model: Any, given: ArrayGroup, where: str) -> ArrayGroup:
    try:
        signature = inspect.signature(_first_layer(model).forward)
    except (TypeError, ValueError):  # its arguments cannot be inspected
        signature = None
    if signature is not None:
        try:
            call_with(signature.bind, given)
        except TypeError as error:
            raise DataError(
                f"{where}: x holds the inputs {', '.join(given.labels('x'))}, but {type(_first_layer(model)).__name__}.forward takes "
                f"{signature}: {error}"
            ) from error
    labels = given.labels("x")
    arrays = [checks.as_host(array, where, name) for name, array in zip(labels, given.arrays, strict=True)]

    def convert() -> ArrayGroup:
        dtype = _dtype(model)
        found = [checks.as_inputs(a, dtype, where, name, True) for name, a in zip(labels, arrays, strict=True)]
        return _same_length(ArrayGroup(found, given.names), "x", where)

    dtype, inputs = _dtype(model), convert()
    if not model.built:
        with structure.lock:
            _one_example(model, model.forward, inputs)
        inputs = inputs if _dtype(model) == dtype else convert()
    return inputs


def _same_length(data: ArrayGroup, name: str, where: str) -> ArrayGroup:
    """Return the group; raise DataError if its arrays differ in their number of examples."""
    labels, first = data.labels(name), len(data)
    for label, array in zip(labels, data.arrays, strict=True):
        if len(array) != first:
            raise DataError(f"{where}: {labels[0]} holds {first} examples but {label} holds {len(array)}")
    return data


def _one_example(model: Any, forward: Any, inputs: Any) -> Any:
    """Return the output for the first example, in evaluation mode."""
    with evaluating(model), numpy.errstate(all="ignore"):
        return call_with(forward, move(inputs[:1], engines.current().asarray))


def _dtype(model: Any) -> numpy.dtype[Any]:
    """Return the dtype of the model's parameters, or float32 if it has none."""
    named = model.named_parameters() if model.built else ()  # one at a time, because this is asked for every batch
    return next((p.dtype for _, p in named if isinstance(p, Parameter)), numpy.dtype("float32"))
