"""Metrics: functions of ``(y_true, y_pred)`` in scikit-learn's order, and objects that take one batch at a time.

>>> accuracy([0, 1, 1], [0, 1, 0])
0.6666666666666666
>>> metric = get("mae")
>>> metric.update([1.0, 2.0], [1.0, 4.0])
>>> metric.result()
1.0
"""

from minidl.metrics.accumulating import F1, Precision, R2Score, Recall, RocAuc
from minidl.metrics.calibration import best_threshold, brier_score, calibration_error, decision_cost, fit_temperature
from minidl.metrics.classification import accuracy, confusion_matrix, f1, precision, recall, top_k_accuracy
from minidl.metrics.detection import mean_average_precision
from minidl.metrics.names import get
from minidl.metrics.pictures import draw_confusion_matrix, draw_worst_mistakes, worst_mistakes
from minidl.metrics.ranking import roc_auc
from minidl.metrics.regression import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error
from minidl.metrics.retrieval import ndcg, recall_at_k
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

__all__ = [
    "F1",
    "Accuracy",
    "BinaryAccuracy",
    "FunctionMetric",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "R2Score",
    "Recall",
    "RocAuc",
    "RootMeanSquaredError",
    "TopKAccuracy",
    "accuracy",
    "best_threshold",
    "brier_score",
    "calibration_error",
    "confusion_matrix",
    "decision_cost",
    "draw_confusion_matrix",
    "draw_worst_mistakes",
    "f1",
    "fit_temperature",
    "get",
    "mean_absolute_error",
    "mean_average_precision",
    "mean_squared_error",
    "ndcg",
    "precision",
    "r2_score",
    "recall",
    "recall_at_k",
    "roc_auc",
    "root_mean_squared_error",
    "top_k_accuracy",
    "worst_mistakes",
]
