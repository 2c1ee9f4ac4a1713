"""Losses as objects: ``forward(prediction, target)`` gives the number, ``backward()`` its gradient."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.engines import current
from minidl.errors import OrderError, ParameterError, ShapeError
from minidl.ops import Array

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "Loss", "MSELoss"]


class Loss:
    """A loss op with its settings and the cache of the last forward.

    Parameters
    ----------
    reduction : str
        ``"mean"``, ``"sum"`` or ``"none"`` (one loss an element).
    **settings
        Handed to the op.
    """

    op: str
    """The name of the op in ``minidl.ops``."""
    reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, reduction: str = "mean", **settings: Any) -> None:
        if reduction not in self.reductions:
            raise ParameterError(
                f"{type(self).__name__}: reduction must be one of {', '.join(self.reductions)}, got {reduction!r}"
            )
        self.reduction = reduction
        self.settings = settings
        self._backward = f"{self.op}_backward"
        self._cache: Any = None
        self._upstream: Array | None = None  # what sample weights multiply each element's gradient by

    def forward(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> Any:
        """Return the loss.

        Parameters
        ----------
        prediction, target : array
            As the op takes them.
        sample_weight : array, shape (N,), optional
            Each example's loss is multiplied by its weight; the mean still divides by the number of elements, as in
            Keras.
        """
        op = getattr(current(), self.op)
        self._upstream = None
        if sample_weight is None:
            if self.settings:
                value, self._cache = op(prediction, target, reduction=self.reduction, **self.settings)
            else:  # a call with names that are known beforehand costs half
                value, self._cache = op(prediction, target, reduction=self.reduction)
            return value
        each, self._cache = op(prediction, target, reduction="none", **self.settings)
        self._upstream = self._scaled(each, sample_weight)
        weighted = each * self._upstream
        return weighted if self.reduction == "none" else weighted.sum()

    def _scaled(self, each: Array, sample_weight: Array) -> Array:
        """Return each element's factor: its example's weight, and the reduction's."""
        if sample_weight.shape != each.shape[:1]:
            raise ShapeError(
                f"{self!r}: expected sample_weight of shape {each.shape[:1]}, one for each example, got "
                f"{sample_weight.shape}"
            )
        shape = sample_weight.shape + (1,) * (each.ndim - 1)
        factor = numpy.ones_like(each) * sample_weight.reshape(shape).astype(each.dtype)
        return factor / {"mean": each.size, "half_sum": 2}.get(self.reduction, 1)

    def backward(self, dloss: Any = None) -> Array:
        """Return the gradient with respect to the prediction.

        Parameters
        ----------
        dloss : number or array, optional
            The upstream gradient; 1, or ones for ``reduction="none"``.
        """
        if self._cache is None:
            raise OrderError(f"{self!r}: backward was called before forward; call forward(prediction, target) first")
        if dloss is None:
            dloss = 1.0
        if self._upstream is not None:
            dloss = self._upstream * dloss
        return getattr(current(), self._backward)(dloss, self._cache)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call ``forward``."""
        return self.forward(*args, **kwargs)

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.settings.items() if value is not None]
        return f"{type(self).__name__}({', '.join([*shown, f'reduction={self.reduction!r}'])})"


class MSELoss(Loss):
    """Mean squared error, or with ``reduction="half_sum"`` one half of the sum of squares; ``minidl.ops.mse_loss``."""

    op = "mse_loss"
    reductions = ("mean", "sum", "none", "half_sum")

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class L1Loss(Loss):
    """Mean absolute error; see ``minidl.ops.l1_loss``."""

    op = "l1_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class HuberLoss(Loss):
    """Quadratic near zero, linear beyond delta; see ``minidl.ops.huber_loss``."""

    op = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        if not delta > 0:
            raise ParameterError(f"HuberLoss: delta must be positive, got {delta!r}")
        super().__init__(reduction, delta=delta)


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of sigmoid(logits); see ``minidl.ops.binary_cross_entropy_with_logits``."""

    op = "binary_cross_entropy_with_logits"

    def __init__(self, weight: Array | None = None, reduction: str = "mean", pos_weight: Array | None = None) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)


class CrossEntropyLoss(Loss):
    """Cross-entropy of softmax(logits) with integer or probability targets; see ``minidl.ops.cross_entropy``."""

    op = "cross_entropy"

    def __init__(
        self,
        weight: Array | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0.0 <= label_smoothing <= 1.0:
            raise ParameterError(f"CrossEntropyLoss: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
        super().__init__(reduction, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing)
