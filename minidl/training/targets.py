"""Targets and weights: checks against the loss and the model's outputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy

from minidl.errors import DataError, ParameterError, ShapeError, TargetError
from minidl.layers import BCEWithLogitsLoss, CrossEntropyLoss, Loss
from minidl.layers.loss import ClassLoss
from minidl.metrics.inputs import ROUNDING
from minidl.training.checks import as_host, cast_to, check_finite, check_kind
from minidl.training.losses import class_shape

__all__ = [
    "as_class_weights",
    "as_sample_weights",
    "as_targets",
    "check_numbers",
    "check_takes_weights",
    "convert_for_custom_loss",
    "convert_for_loss",
    "losses_shape",
]

Shape = tuple[int, ...]


def as_targets(y: Any, loss: Any, dtype: numpy.dtype[Any], outputs: Shape, where: str) -> numpy.ndarray:
    """Return the targets as the loss takes them.

    For a cross-entropy these are class indices (int64) of shape (N, ...), or probabilities in the model's dtype. For the
    other losses of minidl they are numbers in the model's dtype, in the shape of the outputs. (N,) and (N, 1) are
    equivalent; nothing else is broadcast.

    Parameters
    ----------
    y : array-like
    loss : loss
    dtype : dtype
        That of the model.
    outputs : tuple of int
        The shape of the model's output for one example.
    where : str
        For messages.

    Raises
    ------
    TargetError
        If a class index is not a whole number or not a class of the model, or a probability is not from 0 to 1.
    ShapeError
        If the targets do not fit the outputs.
    DataError, DtypeError
        If they are not real finite numbers.
    """
    return convert_for_loss(check_numbers(y, where, "y"), loss, dtype, outputs, where)


def check_numbers(y: Any, where: str, name: str) -> numpy.ndarray:
    """Convert targets to a host array; raise an error unless they are finite numbers."""
    array = as_host(y, where, name)
    check_kind(array, where, name, f"turn labels into class indices with numpy.unique({name}, return_inverse=True)")
    check_finite(array, where, name)
    return array


def convert_for_loss(
    array: numpy.ndarray, loss: Any, dtype: numpy.dtype[Any], outputs: Shape, where: str
) -> numpy.ndarray:
    """Convert finite numbers to what the loss takes; see :func:`as_targets`."""
    if isinstance(loss, ClassLoss):
        return _classes_or_probabilities(array, loss, dtype, outputs, where)
    if array.shape[1:] in ((), (1,)) and outputs in ((), (1,)):
        array = array.reshape(len(array), *outputs)
    if not isinstance(loss, Loss):
        return convert_for_custom_loss(array, dtype, where, "y")
    if array.shape[1:] != outputs:
        raise ShapeError(
            f"{where}: for {loss!r} y must have the shape of the model's outputs, ({len(array)}, "
            f"{', '.join(map(str, outputs))}), got {array.shape}; (N,) and (N, 1) are the same here, but nothing is "
            "broadcast"
        )
    if isinstance(loss, BCEWithLogitsLoss):
        _check_probabilities(array, where, "classes are 0 and 1, or a probability in between")
    return cast_to(array, dtype, where, "y")


def convert_for_custom_loss(array: numpy.ndarray, dtype: numpy.dtype[Any], where: str, name: str) -> numpy.ndarray:
    """Convert targets for a user's own loss: floats to the model's dtype, everything else keeps its dtype."""
    return cast_to(array, dtype, where, name) if array.dtype.kind == "f" else numpy.ascontiguousarray(array)


def _classes_or_probabilities(
    array: numpy.ndarray, loss: ClassLoss, dtype: numpy.dtype[Any], outputs: Shape, where: str
) -> numpy.ndarray:
    classes, others = class_shape(loss, outputs) if outputs else (0, ())
    if classes < 2:
        raise ShapeError(
            f"{where}: {loss!r} needs one output for each class, but the model's output for one example has shape "
            f"{outputs}; for two classes use two outputs, or one with the loss 'binary_crossentropy'"
        )
    if array.shape[1:] == outputs:
        _check_probabilities(array, where, "give probabilities, or class indices of shape (N,)")
        _check_sums(array, loss.class_axis or 1, where)
        return cast_to(array, dtype, where, "y")
    if array.shape[1:] == (*others, 1):
        array = array[..., 0]
    if array.shape[1:] != others:
        raise ShapeError(
            f"{where}: for outputs of shape (N, {', '.join(map(str, outputs))}) y must hold class indices of shape "
            f"(N{''.join(f', {n}' for n in others)}{'' if others else ','}), or probabilities of the outputs' shape; got "
            f"{array.shape}{_other_axis(array, loss, outputs)}"
        )
    return _class_indices(array, loss, classes, where)


def _other_axis(array: numpy.ndarray, loss: ClassLoss, outputs: Shape) -> str:
    """Return advice for targets that would fit if the classes were on the other axis."""
    axis, others = (1, outputs[1:]) if loss.class_axis == -1 else (-1, outputs[:-1])
    if len(outputs) < 2:
        return ""
    if loss.class_axis is None:  # by name: either would have done
        return f". With classes on the last axis, class indices have shape (N, {', '.join(map(str, others))})"
    if array.shape[1:] != others:
        return ""
    return (
        f". If the classes are on {'axis 1' if axis == 1 else 'the last axis'}, use CrossEntropyLoss(class_axis={axis})"
    )


def _class_indices(array: numpy.ndarray, loss: ClassLoss, classes: int, where: str) -> numpy.ndarray:
    if array.dtype.kind == "f":
        fraction = array != numpy.floor(array)
        if fraction.any():
            place, text = _first(fraction)
            raise TargetError(f"{where}: {text} = {array[place]} is no class index; class indices are whole numbers")
    bad = (array < 0) | (array >= classes)
    ignored = loss.settings["ignore_index"]
    if bad.any():
        bad &= array != ignored
    if bad.any():
        place, text = _first(bad)
        raise TargetError(
            f"{where}: {text} = {array[place]:g} is no class; the model has {classes} outputs, so classes are 0 to "
            f"{classes - 1} (or {ignored}, which is ignored)"
        )
    return numpy.ascontiguousarray(array, dtype=numpy.int64)


def _check_probabilities(array: numpy.ndarray, where: str, advice: str) -> None:
    bad = (array < 0) | (array > 1) if array.dtype.kind != "b" else numpy.zeros(0, bool)
    if bad.any():
        place, text = _first(bad)
        raise TargetError(f"{where}: {text} = {array[place]:g} is not from 0 to 1; {advice}")


def _check_sums(array: numpy.ndarray, axis: int, where: str) -> None:
    """Raise TargetError unless the probabilities of each example, or position, sum to 1."""
    total = array.sum(axis=axis, dtype=numpy.float64)
    wrong = ~(abs(total - 1) <= ROUNDING)
    if wrong.any():
        place = tuple(map(int, numpy.argwhere(wrong)[0]))
        raise TargetError(
            f"{where}: the targets of one example must be probabilities that sum to 1, but those at {place} sum to "
            f"{total[place]:g}; for several labels of one example, each a yes or no, use the loss 'binary_crossentropy'; to "
            "leave examples out, give them the sample_weight 0, or class indices with ignore_index"
        )


def _first(bad: numpy.ndarray, name: str = "y") -> tuple[Shape, str]:
    """Return the first place that is bad, and how to write it."""
    place = tuple(map(int, numpy.argwhere(bad)[0]))
    return place, f"{name}[{', '.join(map(str, place))}]"


# weights --------------------------------------------------------------------------------------------------------------


def losses_shape(y: Any, loss: Any) -> Shape:
    """Return the shape of the losses before they are reduced, for targets as :func:`as_targets` returns them.

    Of a user's own loss only the number of examples is known.
    """
    if not isinstance(loss, Loss):
        return (len(y),)
    if isinstance(loss, CrossEntropyLoss) and y.dtype.kind == "f":
        axis = (loss.class_axis or 1) % y.ndim
        return y.shape[:axis] + y.shape[axis + 1 :]
    return y.shape


def as_sample_weights(weights: Any, losses: Shape, dtype: numpy.dtype[Any], where: str) -> numpy.ndarray:
    """Return one weight for each example, or for each position, of losses of this shape.

    Raises
    ------
    DataError
        If there are more or fewer, or one is negative, nan or inf; the message names the first.
    DtypeError
        If they are not real numbers.
    """
    array = as_host(weights, where, "sample_weight")
    check_kind(array, where, "sample_weight", "give one number for each example")
    if array.shape != losses[: array.ndim]:
        more = f", or {losses}, one for each position," if len(losses) > 1 else ","
        raise DataError(
            f"{where}: sample_weight must have shape ({losses[0]},), one for each example{more} got {array.shape}"
        )
    bad = ~((array >= 0) & numpy.isfinite(array))
    if bad.any():
        place, text = _first(bad, "sample_weight")
        raise DataError(f"{where}: {text} = {array[place]}; weights must be finite and not negative")
    return cast_to(array, dtype, where, "sample_weight")


def as_class_weights(
    class_weight: Mapping[int, float],
    y: numpy.ndarray,
    loss: Any,
    dtype: numpy.dtype[Any],
    outputs: Shape,
    where: str,
    all_seen: bool = True,
) -> numpy.ndarray:
    """Return one weight for each example, or for each position of a map of classes.

    It is that of the class, or 1 where the class is not named, as in Keras.

    Parameters
    ----------
    class_weight : dict of int to float
    y : array
        As :func:`as_targets` returns it: class indices, one-hot classes, or zeros and ones.
    loss : loss
    dtype : dtype
        That of the model.
    outputs : tuple of int
        The shape of the model's output for one example.
    where : str
        For messages.
    all_seen : bool, default True
        Whether y holds all targets rather than those of one batch. If so, a class that occurs nowhere is an error.

    Raises
    ------
    DataError
        If the targets are not classes, a key is not a class of the model, or a weight is negative, nan or inf.
    """
    if not isinstance(class_weight, Mapping):
        raise DataError(f"{where}: class_weight must be a dict such as {{0: 1.0, 1: 5.0}}, got {class_weight!r}")
    labels = _labels(y, loss, where)  # (N,), or (N, ...) with a class for each position
    largest = int(labels.max(initial=0))
    if isinstance(loss, ClassLoss):
        classes = class_shape(loss, outputs)[0]
    elif isinstance(loss, BCEWithLogitsLoss):
        classes = 2
    else:
        classes = 1 + max(largest, 0 if all_seen else max(filter(_is_index, class_weight), default=0))
    table = numpy.ones(max(classes, largest + 1), dtype=dtype)
    for label, weight in class_weight.items():
        if not _is_index(label) or not 0 <= label < classes:
            raise DataError(f"{where}: class_weight names {label!r}, but classes are 0 to {classes - 1}")
        if not isinstance(weight, (int, float, numpy.number)) or not 0 <= weight < numpy.inf:
            raise DataError(f"{where}: class_weight[{label}] = {weight!r}; weights must be finite and not negative")
        table[label] = weight
    return numpy.where(labels < 0, dtype.type(1), table[numpy.maximum(labels, 0)])  # below 0 is ignored by the loss


def _is_index(label: Any) -> bool:
    return isinstance(label, (int, numpy.integer)) and not isinstance(label, bool)


def _labels(y: numpy.ndarray, loss: Any, where: str) -> numpy.ndarray:
    if isinstance(loss, ClassLoss):
        return y.argmax(axis=loss.class_axis or 1) if y.dtype.kind == "f" else y
    if y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
        labels = y.reshape(len(y))
        if labels.dtype.kind != "f" or (labels == numpy.floor(labels)).all():
            return labels.astype(numpy.int64)
    raise DataError(
        f"{where}: class_weight needs one class for each example, but y holds something else (shape {y.shape}, "
        f"dtype {y.dtype}); give sample_weight, or weight=... or pos_weight=... of the loss, instead"
    )


def check_takes_weights(loss: Any, where: str) -> None:
    """Raise ParameterError if a user's own loss has no place for sample weights."""
    if isinstance(loss, Loss):
        return
    try:
        inspect.signature(loss.forward).bind(None, None, None)
    except TypeError as error:
        raise ParameterError(
            f"{where}: {type(loss).__name__}.forward takes no sample weights; give it a third argument, or leave out "
            "sample_weight and class_weight"
        ) from error
