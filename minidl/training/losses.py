"""Losses by their Keras names, and how a model that ends in a softmax or sigmoid meets a loss that takes logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

__all__ = ["absorbed", "check_axis", "loss_named", "takes_logits", "trunk_of"]

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
        return _NAMED[loss.lower()]()
    if isinstance(loss, type):
        raise ParameterError(f"compile: loss is the class {loss.__name__}; create it with {loss.__name__}()")
    if not (hasattr(loss, "forward") and hasattr(loss, "backward")):
        raise ParameterError(f"compile: loss must be a name or an object with forward and backward, got {loss!r}")
    if getattr(loss, "reduction", None) == "none":
        raise ParameterError(f"compile: {loss!r} gives one number for each element; training needs a mean or a sum")
    return loss


def takes_logits(loss: Any) -> bool:
    """Whether the loss applies a softmax or sigmoid itself."""
    return isinstance(loss, (CrossEntropyLoss, BCEWithLogitsLoss))


def absorbed(model: Any, loss: Any, by_name: bool) -> Activation | None:
    """Return the last activation of the model if the loss takes its place while training, else None.

    The cross-entropies work on logits, which is exact where probabilities have long rounded to 0 or 1. With Keras's names
    a model may end in the Softmax or Sigmoid that goes with the loss: training then stops just before it, which is the
    same model and the same loss, computed soundly. A model that ends in anything else gives logits. Only layers of ours
    can be seen through; somebody's own layer that ends in a softmax inside gives whatever it gives.

    Raises
    ------
    ParameterError
        If the last layer does not go with the loss: a Softmax before a binary cross-entropy, or over another axis than
        the classes', a Sigmoid before a softmax cross-entropy, or either before a loss *object* that takes logits and
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
        raise ParameterError(f"compile: the model ends in {last!r}, but classes are on axis 1")
    return last


def trunk_of(model: Any, activation: Activation | None) -> Any:
    """Return what is trained: the model, or the model up to an activation that the loss takes the place of."""
    if activation is None:
        return model
    trunk, _ = model.without_last_activation()
    if not model.fuse:
        trunk.fuse = False
    return trunk


def check_axis(activation: Activation | None, outputs: tuple[int, ...]) -> None:
    """Raise ParameterError if a model's last softmax is over another axis than the loss's classes."""
    if isinstance(activation, Softmax) and activation.settings[0] == -1 and len(outputs) > 1:
        raise ParameterError(
            f"fit: the model ends in {activation!r}, over the last axis of outputs of shape (N, "
            f"{', '.join(map(str, outputs))}), but classes are on axis 1; use Softmax(1)"
        )


def _last_activation(layer: Any) -> Any:
    """Return the activation that a model ends in, wherever it is nested, or None."""
    while isinstance(layer, Chain):
        layer = layer[-1] if len(layer) else None
    if isinstance(layer, Dense):
        return layer.activation
    return layer if isinstance(layer, Activation) else None
