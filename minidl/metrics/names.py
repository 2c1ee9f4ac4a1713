"""Metrics by their Keras names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.errors import ParameterError, UnknownNameError
from minidl.metrics.accumulating import F1, Precision, R2Score, Recall, RocAuc
from minidl.metrics.streaming import (
    Accuracy,
    BinaryAccuracy,
    FunctionMetric,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    RootMeanSquaredError,
    TopKAccuracy,
)

__all__ = ["get"]

_THRESHOLDED: dict[str, Callable[..., Metric]] = {
    "acc": Accuracy,
    "accuracy": Accuracy,
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": Accuracy,
    "sparse_categorical_accuracy": Accuracy,
}
_COUNTED: dict[str, Callable[..., Metric]] = {"f1": F1, "f1_score": F1, "precision": Precision, "recall": Recall}
_PLAIN: dict[str, Callable[..., Metric]] = {
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "r2": R2Score,
    "r2_score": R2Score,
    "rmse": RootMeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "sparse_top_k_categorical_accuracy": TopKAccuracy,
    "top_k_accuracy": TopKAccuracy,
    "top_k_categorical_accuracy": TopKAccuracy,
}
_RANKED: dict[str, Callable[..., Metric]] = {"auc": RocAuc, "roc_auc": RocAuc}


def get(metric: Any, *, from_logits: bool = False, multilabel: bool = False) -> Metric:
    """Return the metric of a Keras name, a metric unchanged, or a metric made from a function.

    Parameters
    ----------
    metric : str, callable, Metric or its class
        Any object with update, result and reset counts as a metric; a function takes ``(y_true, y_pred)``. A name becomes the
        name in the history, so ``"acc"`` and ``"accuracy"`` are different metrics.
    from_logits : bool, default False
        Whether predictions are logits instead of probabilities. A single one then means class 1 above 0 instead of 0.5.
    multilabel : bool, default False
        Whether several scores of an example are those of independent labels. ``"accuracy"`` is then the binary accuracy.

    Raises
    ------
    UnknownNameError
        If there is no metric of that name; lists the known names.
    ParameterError
        If ``metric`` is none of the above.

    Examples
    --------
    >>> import numpy
    >>> metric = get("accuracy", from_logits=True)
    >>> metric.update(numpy.array([0.3, -0.2]), numpy.array([1, 0]))
    >>> metric.name, metric.result()
    ('accuracy', 1.0)
    """
    if all(callable(getattr(metric, method, None)) for method in ("update", "result", "reset")):
        return metric() if isinstance(metric, type) else metric
    if isinstance(metric, str):
        name = metric.lower()
        threshold = 0.0 if from_logits else 0.5
        if multilabel and name in ("acc", "accuracy"):
            return BinaryAccuracy(threshold=threshold, name=name)
        if name in _THRESHOLDED:
            return _THRESHOLDED[name](threshold=threshold, name=name)
        if name in _COUNTED:
            return _COUNTED[name](threshold=threshold, name=name, multilabel=multilabel)
        if name in _RANKED:
            return _RANKED[name](from_logits=from_logits, name=name, multilabel=multilabel)
        if name in _PLAIN:
            return _PLAIN[name](name=name)
        raise UnknownNameError.among("metric", metric, [*_THRESHOLDED, *_COUNTED, *_PLAIN, *_RANKED])
    if callable(metric):
        return FunctionMetric(metric)
    raise ParameterError(f"expected a metric, its name, or a function of (y_true, y_pred), got {metric!r}")
