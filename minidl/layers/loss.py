"""Losses as objects: ``forward(prediction, target)`` gives the number, ``backward()`` its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.engines import current
from minidl.errors import OrderError, ParameterError, ShapeError
from minidl.ops import Array

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "NLLLoss",
]


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
    """Cross-entropy of softmax(logits) with integer or probability targets; see ``minidl.ops.cross_entropy``.

    Parameters
    ----------
    weight : array, shape (K,), optional
        One factor for each class.
    ignore_index : int, default -100
        Targets that count for nothing, such as padding.
    reduction : str, default "mean"
        ``"mean"``, ``"sum"`` or ``"none"``.
    label_smoothing : float, default 0.0
    class_axis : int, default 1
        Where the classes are in logits of three or more axes: 1 for (N, K, ...), as in PyTorch and as images have them;
        -1 for (N, ..., K), as sequence models have them. Class indices have the other axes, in their order, and
        probabilities have the shape of the logits.

    Raises
    ------
    ParameterError
        If a setting is outside its range.

    Examples
    --------
    >>> logits = numpy.log(numpy.array([[[1.0, 3.0], [1.0, 1.0], [2.0, 2.0]]]))  # (N, T, K) = (1, 3, 2)
    >>> loss = CrossEntropyLoss(class_axis=-1)
    >>> float(loss.forward(logits, numpy.array([[1, 0, -100]]))) == float(-numpy.log([0.75, 0.5]).mean())
    True
    >>> loss.backward()
    array([[[ 0.125, -0.125],
            [-0.25 ,  0.25 ],
            [ 0.   ,  0.   ]]])
    """

    op = "cross_entropy"

    def __init__(
        self,
        weight: Array | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        class_axis: int = 1,
    ) -> None:
        if not 0.0 <= label_smoothing <= 1.0:
            raise ParameterError(f"CrossEntropyLoss: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
        if class_axis not in (1, -1):
            raise ParameterError(f"CrossEntropyLoss: class_axis must be 1 or -1, got {class_axis!r}")
        super().__init__(reduction, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing)
        self.class_axis: int | None = class_axis  # None: named by a string, and no data have told yet; taken as 1
        self._shape: tuple[int, ...] | None = None  # of logits that were taken apart into rows

    def forward(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> Any:
        """Return the loss; see :meth:`Loss.forward`."""
        self._shape = None
        if self.class_axis != -1 or prediction.ndim < 3:
            try:
                return super().forward(prediction, target, sample_weight)
            except ShapeError as error:
                if prediction.ndim < 3 or target.shape != prediction.shape[:-1]:
                    raise
                raise ShapeError(
                    f"{error.message}; if the classes are on the last axis, use CrossEntropyLoss(class_axis=-1)"
                ) from error
        *leading, classes = shape = prediction.shape  # (N, ..., K)
        rows, examples = math.prod(leading), shape[0]
        if target.shape == shape:
            target = target.reshape(rows, classes)
        elif target.shape == (*leading,):
            target = target.reshape(rows)
        else:
            raise ShapeError(
                f"{self!r}: for logits of shape {shape}, with classes on the last axis, targets must be class indices of "
                f"shape {(*leading,)}, or probabilities of shape {shape}; got {target.shape}"
            )
        if sample_weight is not None:
            if sample_weight.shape != (examples,):
                raise ShapeError(
                    f"{self!r}: expected sample_weight of shape ({examples},), one for each example, got "
                    f"{sample_weight.shape}"
                )
            sample_weight = sample_weight.repeat(rows // max(examples, 1))  # (rows,)
        value = super().forward(prediction.reshape(rows, classes), target, sample_weight)
        self._shape = shape
        return value.reshape(leading) if self.reduction == "none" else value

    def backward(self, dloss: Any = None) -> Array:
        """Return the gradient with respect to the logits; see :meth:`Loss.backward`."""
        if self._shape is None:
            return super().backward(dloss)
        if getattr(dloss, "ndim", 0):
            if dloss.shape != self._shape[:-1]:
                raise ShapeError(f"{self!r}: expected dloss of shape {self._shape[:-1]}, got {dloss.shape}")
            dloss = dloss.reshape(-1)
        return super().backward(dloss).reshape(self._shape)

    def __repr__(self) -> str:
        shown = super().__repr__()
        return shown if self.class_axis != -1 else f"{shown[:-1]}, class_axis=-1)"


class NLLLoss(Loss):
    """Negative log-likelihood of log-probabilities, as LogSoftmax gives them; see ``minidl.ops.nll_loss``.

    Parameters
    ----------
    weight : array, shape (K,), optional
        One factor for each class.
    ignore_index : int, default -100
        Targets that count for nothing.
    reduction : {"mean", "sum", "none"}, default "mean"

    Examples
    --------
    >>> loss = NLLLoss()
    >>> float(loss.forward(numpy.array([[-0.5, -1.5], [-3.0, -0.25]]), numpy.array([0, 1])))
    0.375
    >>> loss.backward()
    array([[-0.5,  0. ],
           [ 0. , -0.5]])
    """

    op = "nll_loss"

    def __init__(self, weight: Array | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index)


class BCELoss(Loss):
    """Binary cross-entropy of probabilities, as Sigmoid gives them; see ``minidl.ops.binary_cross_entropy``.

    ``BCEWithLogitsLoss`` without the Sigmoid keeps the digits of answers that are nearly certain.

    Parameters
    ----------
    weight : array, optional
        Broadcast to the shape of the probabilities.
    reduction : {"mean", "sum", "none"}, default "mean"

    Examples
    --------
    >>> round(float(BCELoss().forward(numpy.array([0.2, 0.9]), numpy.array([0.0, 1.0]))), 6)
    0.164252
    """

    op = "binary_cross_entropy"

    def __init__(self, weight: Array | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of log-probabilities from a target distribution; see ``minidl.ops.kl_div``.

    Parameters
    ----------
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        ``"batchmean"`` is the mean divergence of the examples; ``"mean"`` divides by the number of elements, as in PyTorch.
    log_target : bool, default False
        Whether targets are logarithms of probabilities.

    Examples
    --------
    >>> loss = KLDivLoss("batchmean")
    >>> round(float(loss.forward(numpy.log(numpy.array([[0.5, 0.5]])), numpy.array([[0.25, 0.75]]))), 6)
    0.130812
    """

    op = "kl_div"
    reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, log_target=log_target)

    def forward(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> Any:
        """Return the loss; see :meth:`Loss.forward`."""
        if sample_weight is not None and self.reduction == "batchmean":
            sample_weight = sample_weight / max(len(prediction), 1)
        return super().forward(prediction, target, sample_weight)
