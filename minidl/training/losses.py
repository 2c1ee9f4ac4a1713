"""Losses by their Keras names, and how a model that ends in a softmax or sigmoid meets a loss that takes logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.errors import ParameterError, UnknownNameError
from minidl.layers import BCEWithLogitsLoss, Chain, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, Sigmoid, Softmax

__all__ = ["is_classification", "loss_named", "trunk_of"]

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

    >>> loss_named("mean_squared_error")
    MSELoss(reduction='mean')
    """
    if isinstance(loss, str):
        if loss not in _NAMED:
            raise UnknownNameError.among("loss", loss, _NAMED)
        return _NAMED[loss]()
    if isinstance(loss, type) or not (hasattr(loss, "forward") and hasattr(loss, "backward")):
        raise ParameterError(f"compile: loss must be a name or an object with forward and backward, got {loss!r}")
    return loss


def is_classification(loss: Any) -> bool:
    """Whether the loss compares logits with classes."""
    return isinstance(loss, (CrossEntropyLoss, BCEWithLogitsLoss))


def trunk_of(model: Any, loss: Any, by_name: bool) -> tuple[Any, Any]:
    """Return what is trained, and the activation that turns its output into predictions (None if there is none).

    The cross-entropies work on logits, which is exact where probabilities have long rounded to 0 or 1. With Keras's names
    a model may end in the Softmax or Sigmoid that goes with the loss: training then stops just before it, which is the same
    model and the same loss, computed soundly. A model that ends otherwise gives logits.

    Raises
    ------
    ParameterError
        If a loss *object* that takes logits meets such a model: it would apply the softmax twice.
    """
    wanted = {CrossEntropyLoss: Softmax, BCEWithLogitsLoss: Sigmoid}.get(type(loss))
    if wanted is None or not isinstance(model, Chain):
        return model, None
    trunk, last = model.without_last_activation()
    if not isinstance(last, (Softmax, Sigmoid)):
        return model, None
    if not isinstance(last, wanted):
        raise ParameterError(
            f"compile: the loss {loss!r} takes logits, but the model ends in {last!r}; leave that layer out"
            + ("" if isinstance(loss, CrossEntropyLoss) else ", or use the loss 'categorical_crossentropy'")
        )
    if not by_name:
        name = "categorical_crossentropy" if wanted is Softmax else "binary_crossentropy"
        raise ParameterError(
            f"compile: {loss!r} takes logits, but the model ends in {last!r}, which would be applied twice; leave that "
            f"layer out, or give the loss by its name {name!r}, which takes it into account"
        )
    return trunk, last
