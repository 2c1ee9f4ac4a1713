"""Losses: ``forward(prediction, target)`` returns the loss, and ``backward()`` its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.engines import current
from minidl.errors import EngineError, OrderError, ParameterError, ShapeError
from minidl.ops import Array, namespace
from minidl.ops._later import are_later
from minidl.ops._scalars import check_constructor

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "NLLLoss",
]


class Loss:
    """The base class of losses: an op with its settings, and the cache of the last forward.

    Parameters
    ----------
    reduction : str, default "mean"
        ``"mean"``, ``"sum"``, or ``"none"`` for one loss per element.
    **settings : any
        Other arguments of the op.

    Raises
    ------
    ParameterError
        If the reduction is unknown.
    """

    op: str
    """The name of the op in ``minidl.ops``."""
    reductions: tuple[str, ...] = ("mean", "sum", "none")
    several_targets = False
    """Whether the target may be a tuple of arrays."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the numbers, switches and names that minidl's own constructors are given."""
        super().__init_subclass__(**options)
        check_constructor(cls)

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
        self._total: Any = None  # with sample weights, what the mean divided by

    def forward(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> Any:
        """Return the loss.

        Parameters
        ----------
        prediction, target : array
            As the op takes them.
        sample_weight : array, shape (N,) or that of the unreduced loss or of its first axes, optional
            Each loss is multiplied by its weight. The mean divides by the same number as without sample weights, as in
            Keras, so that weights of 1 change nothing.
        """
        op = getattr(current(), self.op)
        self._upstream = self._total = None
        if sample_weight is None:
            try:
                if self.settings:
                    value, self._cache = op(prediction, target, reduction=self.reduction, **self.settings)
                else:  # a call without ** takes half the time
                    value, self._cache = op(prediction, target, reduction=self.reduction)
            except EngineError as error:
                raise error.at(repr(self)) from None
            return value
        each, self._cache = op(prediction, target, reduction="none", **self.settings)
        self._total = self._divide_by(each, target)
        self._upstream = self._compute_factors(each, sample_weight)
        weighted = each * self._upstream
        if self.reduction == "none":
            return weighted
        return weighted.sum() * _nan_if_zero(self._total)

    def _compute_factors(self, each: Array, sample_weight: Array) -> Array:
        """Return each element's factor: its weight, and the reduction's."""
        check_sample_weight(self, sample_weight, each.shape)
        shape = sample_weight.shape + (1,) * (each.ndim - sample_weight.ndim)
        factor = numpy.ones_like(each) * sample_weight.reshape(shape).astype(each.dtype)
        return factor * inverse(self._total, each.dtype)

    def _divide_by(self, each: Array, target: Array) -> Any:
        """Return what the sum of these losses is divided by."""
        return {"mean": self._mean_divisor(each, target), "half_sum": 2.0}.get(self.reduction, 1.0)

    def _mean_divisor(self, each: Array, target: Array) -> Any:
        return float(each.size)

    @property
    def divisor(self) -> Any:
        """What the last forward divided the sum of all losses by.

        For a mean, the number of elements; for a cross-entropy the number of targets that count, or their total class
        weight, and 0 if none counts. The loss of several batches is the mean of theirs, weighted by their divisors. In ``fit`` on
        a GPU it is an array without axes, which stays there.
        """
        if self._cache is None:
            raise OrderError(f"{self!r}: there was no forward yet")
        if self._total is not None:
            return self._total
        return inverse(self._cache[1])

    def backward(self, dloss: Any = None) -> Array:
        """Return the gradient with respect to the prediction.

        Parameters
        ----------
        dloss : float or array, optional
            The upstream gradient, 1 by default. With ``reduction="none"`` it may be an array.

        Raises
        ------
        OrderError
            If ``forward`` was not called.
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


def inverse(total: Any, dtype: Any = None) -> Any:
    """Return 1 / total, or 0 if total is 0, in a dtype if total is an array on a device."""
    if not hasattr(total, "dtype"):
        return 1 / total if total else 0.0
    found = namespace(total).where(total == 0, 0.0, 1 / total)
    return found if dtype is None else found.astype(dtype)


def _nan_if_zero(total: Any) -> Any:
    """Return 1, or nan if total is 0: the mean of nothing."""
    if not hasattr(total, "dtype"):
        return 1 if total else math.nan
    return namespace(total).where(total == 0, math.nan, 1.0)


def check_sample_weight(loss: Loss, sample_weight: Array, losses: tuple[int, ...]) -> None:
    """Raise ShapeError unless there is a weight for each example, or for each position, of losses of this shape."""
    given = sample_weight.shape
    if given != losses[: len(given)] or (losses and not given):
        more = f", or of shape {losses}, one for each position" if len(losses) > 1 else ""
        raise ShapeError(
            f"{loss!r}: expected sample_weight of shape {losses[:1]}, one for each example{more}; got {given}"
        )


class MSELoss(Loss):
    """Mean squared error, or half the sum of squares with ``reduction="half_sum"``; see ``minidl.ops.mse_loss``."""

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
    """Huber loss: quadratic up to delta, linear beyond; see ``minidl.ops.huber_loss``."""

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


class ClassLoss(Loss):
    """A loss whose targets may be class indices, with a weight for each class and an index that does not count."""

    class_axis: int | None = 1

    def _mean_divisor(self, each: Array, target: Array) -> Any:
        """Return the total class weight of the targets that count; of probabilities the number of rows."""
        if target.dtype.kind == "f":
            return float(each.size)
        counted = target != self.settings["ignore_index"]
        weight = self.settings["weight"]
        if weight is None:
            total = counted.sum(dtype="float64")
        else:
            xp = namespace(target)
            total = xp.where(counted, weight[xp.where(counted, target, 0)], 0).sum(dtype="float64")
        return total if are_later(target) else float(total)


class CrossEntropyLoss(ClassLoss):
    """Cross-entropy of softmax(logits) with integer or probability targets; see ``minidl.ops.cross_entropy``.

    Parameters
    ----------
    weight : array, shape (K,), optional
        A factor for each class.
    ignore_index : int, default -100
        Targets equal to this, such as padding, do not count.
    reduction : str, default "mean"
        ``"mean"``, ``"sum"`` or ``"none"``.
    label_smoothing : float, default 0.0
    class_axis : int, default 1
        The axis of the classes in logits of three or more axes: 1 for (N, K, ...), as in PyTorch and for images, or -1
        for (N, ..., K), as in sequence models. Class indices have all other axes; probabilities have the shape of the
        logits.

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
        self.class_axis = class_axis  # None, used as 1: the loss was given by name, and no data have shown it
        self._shape: tuple[int, ...] | None = None  # the shape of logits that were flattened to rows

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
        rows = math.prod(leading)
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
            check_sample_weight(self, sample_weight, (*leading,))
            sample_weight = sample_weight.reshape(-1).repeat(rows // max(sample_weight.size, 1))  # (rows,)
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


class NLLLoss(ClassLoss):
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

    def _divide_by(self, each: Array, target: Array) -> float:
        return float(max(len(each), 1)) if self.reduction == "batchmean" else super()._divide_by(each, target)


class CTCLoss(Loss):
    """Connectionist temporal classification: labels without places in the input; see ``minidl.ops.ctc_loss``.

    ``forward`` takes PyTorch's four arguments. For ``fit``, y is the tuple of the last three.

    Parameters
    ----------
    blank : int, default 0
        The class of the blank.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over examples, each loss divided by the number of its labels.
    zero_infinity : bool, default False
        Whether targets that are too long for their input have a loss of 0 instead of being an error.

    Examples
    --------
    >>> log_p = numpy.log(numpy.full((1, 2, 2), 0.5))  # (N, T, K)
    >>> loss = CTCLoss()
    >>> round(float(loss.forward(log_p, numpy.array([[1]]), numpy.array([2]), numpy.array([1]))), 6)
    0.287682
    >>> loss.backward().round(4)
    array([[[-0.3333, -0.6667],
            [-0.3333, -0.6667]]])
    """

    op = "ctc_loss"
    several_targets = True

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction, blank=blank, zero_infinity=zero_infinity)

    def forward(  # type: ignore[override]
        self,
        log_probs: Array,
        targets: Any,
        input_lengths: Array | None = None,
        target_lengths: Array | None = None,
        sample_weight: Array | None = None,
    ) -> Any:
        """Return the loss.

        Parameters
        ----------
        log_probs : array, shape (N, T, K)
            The output of a log-softmax.
        targets : integer array, shape (N, S) or (sum of the target lengths,), or a tuple
            The tuple (targets, input_lengths, target_lengths); then the next argument is ``sample_weight``.
        input_lengths, target_lengths : integer array, shape (N,)
            The numbers of steps and of labels that count.
        sample_weight : array, shape (N,), optional
            Each loss is multiplied by its weight.

        Raises
        ------
        ParameterError
            If the lengths are missing.
        """
        if isinstance(targets, tuple) and len(targets) == 3:
            sample_weight = input_lengths
            targets, input_lengths, target_lengths = targets
        if input_lengths is None or target_lengths is None:
            raise ParameterError(
                f"{self!r}: give forward(log_probs, targets, input_lengths, target_lengths), or the last three as one tuple"
            )
        op, given = getattr(current(), self.op), (log_probs, targets, input_lengths, target_lengths)
        self._upstream = self._total = None
        if sample_weight is None:
            value, self._cache = op(*given, reduction=self.reduction, **self.settings)
            return value
        each, self._cache = op(*given, reduction="none", **self.settings)  # (N,)
        self._total = self._divide_by(each, targets)
        self._upstream = self._compute_factors(each, sample_weight)
        if self.reduction == "mean":
            self._upstream = self._upstream / target_lengths.clip(1).astype(each.dtype)
        weighted = each * self._upstream
        return weighted if self.reduction == "none" else weighted.sum()
