"""Losses by their Keras names, and how a model that ends in a softmax or sigmoid meets a loss that takes logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from minidl.errors import ParameterError, UnknownNameError
from minidl.layers import (
    Activation,
    BCEWithLogitsLoss,
    Chain,
    CrossEntropyLoss,
    Dense,
    HuberLoss,
    L1Loss,
    MSELoss,
    Sigmoid,
    Softmax,
)
from minidl.layers.loss import ClassLoss

__all__ = ["absorbed_activation", "class_shape", "loss_named", "resolve_class_axis", "takes_logits", "trunk_of"]

_NAMED: dict[str, Callable[[], Any]] = {
    "binary_crossentropy": BCEWithLogitsLoss,
    "categorical_crossentropy": CrossEntropyLoss,
    "huber": HuberLoss,
    "mae": L1Loss,
    "mean_absolute_error": L1Loss,
    "mean_squared_error": MSELoss,
    "mse": MSELoss,
    "sparse_categorical_crossentropy": CrossEntropyLoss,
}


def loss_named(loss: Any) -> Any:
    """Return the loss object for a Keras name such as ``"mse"``; an object with forward and backward is itself.

    The two names of the softmax cross-entropy mean the same loss, which sees by the targets' shape whether they are
    class indices or probabilities.

    Raises
    ------
    UnknownNameError
        If there is none of that name; the message lists those there are.
    ParameterError
        If it is no loss, or one that gives no single number.

    Examples
    --------
    >>> loss_named("mean_squared_error")
    MSELoss(reduction='mean')
    """
    if isinstance(loss, str):
        if loss.lower() not in _NAMED:
            raise UnknownNameError.among("loss", loss, _NAMED)
        found = _NAMED[loss.lower()]()
        if isinstance(found, CrossEntropyLoss):
            found.class_axis = None  # decided by the data; see resolve_class_axis
        return found
    if isinstance(loss, type):
        raise ParameterError(f"compile: loss is the class {loss.__name__}; create it with {loss.__name__}()")
    if callable(loss) and not (hasattr(loss, "forward") and hasattr(loss, "backward")):
        raise ParameterError(
            f"compile: the function {getattr(loss, '__name__', loss)!r} has no gradient, and minidl does not differentiate "
            "functions; give the name of a loss, or an object with forward and backward: forward(prediction, target) "
            "returns the loss, backward() its gradient with respect to the prediction, which minidl.gradcheck checks"
        )
    if not (hasattr(loss, "forward") and hasattr(loss, "backward")):
        raise ParameterError(f"compile: loss must be a name or an object with forward and backward, got {loss!r}")
    if getattr(loss, "reduction", None) == "none":
        raise ParameterError(f"compile: {loss!r} gives one number for each element; training needs a mean or a sum")
    return loss


def takes_logits(loss: Any) -> bool:
    """Whether the loss applies a softmax or sigmoid itself."""
    return isinstance(loss, (CrossEntropyLoss, BCEWithLogitsLoss))


def absorbed_activation(model: Any, loss: Any, by_name: bool) -> Activation | None:
    """Return the last activation of the model if the loss takes its place while training, else None.

    The cross-entropies work on logits, which is exact where probabilities have long rounded to 0 or 1. With Keras's names
    a model may end in the Softmax or Sigmoid that goes with the loss: training then stops just before it, which is the
    same model and the same loss, computed soundly. A model that ends in anything else gives logits. Only layers of ours
    can be seen through; somebody's own layer that ends in a softmax inside gives whatever it gives.

    Raises
    ------
    ParameterError
        If the last layer does not go with the loss: a Softmax before a binary cross-entropy, or over an axis where no
        classes are, a Sigmoid before a softmax cross-entropy, or either before a loss *object* that takes logits and
        would apply it twice.
    """
    last = _last_activation(model)
    if not takes_logits(loss) or not isinstance(last, (Softmax, Sigmoid)):
        return None
    wanted = Softmax if isinstance(loss, CrossEntropyLoss) else Sigmoid
    if not isinstance(last, wanted):
        other = "categorical_crossentropy" if wanted is Sigmoid else "binary_crossentropy"
        raise ParameterError(
            f"compile: the loss {loss!r} takes logits and applies the {wanted.__name__.lower()} itself, but the model "
            f"ends in {last!r}; leave that layer out, or use the loss {other!r}"
        )
    if not by_name:
        name = "categorical_crossentropy" if wanted is Softmax else "binary_crossentropy"
        raise ParameterError(
            f"compile: {loss!r} takes logits, but the model ends in {last!r}, which would be applied twice; leave that "
            f"layer out, or give the loss by its name {name!r}, which takes it into account"
        )
    if wanted is Softmax and last.settings[0] not in (-1, 1):
        raise ParameterError(f"compile: the model ends in {last!r}, but classes are on axis 1 or the last")
    return last


def trunk_of(model: Any, activation: Activation | None) -> Any:
    """Return what is trained: the model, or the model up to an activation that the loss takes the place of."""
    if activation is None:
        return model
    trunk, _ = model.without_last_activation()
    if not model.fuse:
        trunk.fuse = False
    return trunk


def class_shape(loss: ClassLoss, outputs: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the number of classes in one example's output, and the shape of its class indices.

    >>> class_shape(CrossEntropyLoss(), (3, 8, 8)), class_shape(CrossEntropyLoss(class_axis=-1), (7, 3))
    ((3, (8, 8)), (3, (7,)))
    """
    if loss.class_axis == -1:
        return outputs[-1], outputs[:-1]
    return outputs[0], outputs[1:]


def resolve_class_axis(
    loss: Any, by_name: bool, activation: Activation | None, y: numpy.ndarray, outputs: tuple[int, ...], where: str
) -> None:
    """Decide on which axis the classes are, for a cross-entropy given by name and outputs of three or more axes.

    Keras puts them on the last axis, PyTorch on axis 1. The shape of class indices shows which, because they have all
    other axes; probabilities sum to 1 over the class axis. If both axes are possible, the model's last softmax decides, or
    else the axis that was found for earlier data. A loss *object* has its own ``class_axis``.

    Raises
    ------
    ParameterError
        If both axes are possible and nothing decides, or if the model's last softmax is over the other axis.
    """
    if not isinstance(loss, CrossEntropyLoss) or len(outputs) < 2:
        return
    last = activation.settings[0] if isinstance(activation, Softmax) else None
    if by_name:
        possible = [axis for axis in (1, -1) if _is_class_axis(axis, y, outputs)]
        if len(possible) == 1:
            loss.class_axis = possible[0]
        elif last is not None:
            loss.class_axis = last
        elif possible and loss.class_axis is None:
            raise ParameterError(
                f"{where}: with outputs of shape {_batch(outputs)} and y of shape {y.shape} the classes may be on axis 1 or "
                "on the last axis; give the loss as an object, CrossEntropyLoss(class_axis=1) or CrossEntropyLoss(class_axis=-1)"
            )
    if last is not None and last != (loss.class_axis or 1):
        wanted = "axis 1; use Softmax(1)" if last == -1 else "the last axis; use Softmax(-1)"
        raise ParameterError(
            f"{where}: the model ends in {activation!r}, but for outputs of shape {_batch(outputs)} and y of shape "
            f"{y.shape} the classes are on {wanted}"
        )


def _is_class_axis(axis: int, y: numpy.ndarray, outputs: tuple[int, ...]) -> bool:
    if y.shape[1:] == outputs:
        return bool(abs(y.sum(axis=axis, dtype=numpy.float64) - 1).max() < 1e-3)
    others = outputs[1:] if axis == 1 else outputs[:-1]
    return y.shape[1:] in (others, (*others, 1))


def _batch(outputs: tuple[int, ...]) -> str:
    return f"(N, {', '.join(map(str, outputs))})"


def _last_activation(layer: Any) -> Any:
    """Return the activation that a model ends in, wherever it is nested, or None."""
    while isinstance(layer, Chain):
        layer = layer[-1] if len(layer) else None
    if isinstance(layer, Dense):
        return layer.activation
    return layer if isinstance(layer, Activation) else None
