"""Probabilities that can be acted on: how far they are from the truth, how to mend them, and what decisions cost."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import DataError, ParameterError
from minidl.metrics.inputs import binary_targets, labels_with_scores, scores
from minidl.ops._scalars import scalars_checked

__all__ = ["best_threshold", "brier_score", "calibration_error", "decision_cost", "fit_temperature"]


def brier_score(y_true: Any, probability: Any) -> float:
    """Return the mean of (p - y)^2, with y 1 for what happened and 0 for what did not.

    Parameters
    ----------
    y_true : array of 0 and 1, shape (N,) or (N, 1)
    probability : array, shape (N,) or (N, 1)

    Raises
    ------
    DataError
        If a number is not a probability, or there are none.
    TargetError
        If a target is neither 0 nor 1.

    References
    ----------
    G. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950).

    Examples
    --------
    >>> brier_score([1, 0], [0.5, 0.0])
    0.125
    """
    true, given = _pair(y_true, probability, "brier_score")
    return float(((given - true) ** 2).mean())


@scalars_checked
def calibration_error(y_true: Any, probability: Any, bins: int = 10) -> float:
    """Return how far probabilities are from frequencies, on average.

    The examples are put into bins of equal width by their probability. With n_b of N examples in a bin::

        error = sum over bins of n_b / N |mean of y - mean of p|

    Parameters
    ----------
    y_true : array of 0 and 1, shape (N,) or (N, 1)
    probability : array, shape (N,) or (N, 1)
    bins : int, default 10

    Raises
    ------
    DataError, TargetError
        As :func:`brier_score`.
    ParameterError
        If there is no bin.

    References
    ----------
    M. Naeini, G. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.

    Examples
    --------
    >>> calibration_error([1, 1, 0, 1], [0.75, 0.75, 0.75, 0.75])
    0.0
    """
    if bins < 1:
        raise ParameterError(f"calibration_error: bins must be at least 1, got {bins}")
    true, given = _pair(y_true, probability, "calibration_error")
    places = numpy.minimum((given * bins).astype(numpy.int64), bins - 1)  # (N,)
    gaps = numpy.bincount(places, true - given, minlength=bins)  # (bins,), n_b times the difference of the means
    return float(abs(gaps).sum() / len(true))


@scalars_checked
def decision_cost(
    y_true: Any, probability: Any, threshold: float = 0.5, *, false_positive: float = 1.0, false_negative: float = 1.0
) -> float:
    """Return what decisions cost on average, if 1 is decided where the probability is at least the threshold.

    Parameters
    ----------
    y_true : array of 0 and 1, shape (N,) or (N, 1)
    probability : array, shape (N,) or (N, 1)
    threshold : float, default 0.5
    false_positive : float, default 1.0
        The cost of deciding 1 where 0 is true.
    false_negative : float, default 1.0
        The cost of deciding 0 where 1 is true.

    Raises
    ------
    DataError, TargetError
        As :func:`brier_score`.
    ParameterError
        If a cost is negative.

    Examples
    --------
    >>> decision_cost([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.2], false_negative=5)
    1.5
    """
    _check_costs(false_positive, false_negative, "decision_cost")
    true, given = _pair(y_true, probability, "decision_cost")
    decided = given >= threshold
    return float((false_positive * (decided & ~true) + false_negative * (~decided & true)).mean())


@scalars_checked
def best_threshold(y_true: Any, probability: Any, *, false_positive: float = 1.0, false_negative: float = 1.0) -> float:
    """Return the threshold with which decisions on these examples cost least; see :func:`decision_cost`.

    It is the middle between two neighbouring probabilities, or 0 or 1.0000001 if all or none should be decided to be 1. Of
    several that cost the same it is the one next to false_positive / (false_positive + false_negative), which is right for
    probabilities that are calibrated perfectly. Choose it on examples that the model was not trained with.

    Parameters
    ----------
    y_true : array of 0 and 1, shape (N,) or (N, 1)
    probability : array, shape (N,) or (N, 1)
    false_positive, false_negative : float, default 1.0

    Raises
    ------
    DataError, TargetError, ParameterError
        As :func:`decision_cost`; also if both costs are 0.

    References
    ----------
    C. Elkan, "The foundations of cost-sensitive learning", IJCAI 2001, equation 2.

    Examples
    --------
    >>> best_threshold([0, 0, 1, 1], [0.1, 0.6, 0.8, 0.3], false_negative=5)
    0.2
    """
    _check_costs(false_positive, false_negative, "best_threshold")
    if false_positive + false_negative == 0:
        raise ParameterError("best_threshold: both costs are 0, so every threshold is as good")
    true, given = _pair(y_true, probability, "best_threshold")
    order = numpy.argsort(given, kind="stable")
    given, true = given[order], true[order]
    # With the k least probable decided to be 0, those of them that are 1 and those of the others that are 0 cost.
    missed = numpy.concatenate([[0], numpy.cumsum(true)])  # (N + 1,)
    raised = numpy.concatenate([numpy.cumsum(~true[::-1])[::-1], [0]])  # (N + 1,)
    cost = false_negative * missed + false_positive * raised
    thresholds = numpy.concatenate([[0.0], (given[1:] + given[:-1]) / 2, [1.0000001]])  # (N + 1,)
    possible = numpy.concatenate([[True], given[1:] > given[:-1], [True]])  # equal probabilities are decided alike
    cheapest = possible & (cost == cost[possible].min())
    ideal = false_positive / (false_positive + false_negative)
    return float(min(thresholds[cheapest], key=lambda threshold: abs(threshold - ideal)))


def fit_temperature(logits: Any, y_true: Any) -> float:
    """Return the temperature T with which softmax(logits / T), or sigmoid(logits / T), is calibrated best.

    T minimises the cross-entropy on examples that the model was not trained with. With b = 1 / T and classes k, the loss and its
    derivatives are::

        L(b)   = mean of  log sum_k exp(b z_k) - b z_y
        L'(b)  = mean of  sum_k p_k z_k - z_y              with p = softmax(b z)
        L''(b) = mean of  sum_k p_k (z_k - sum_j p_j z_j)^2

    L is convex, so b is where L' changes its sign; it is enclosed by doubling and found by halving.

    Parameters
    ----------
    logits : array, shape (N,), (N, 1) or (N, K)
        One column is the logit of class 1 of two.
    y_true : int array, shape (N,) or (N, 1)

    Raises
    ------
    DataError
        If no temperature is best: every example is right (T = 0 would be) or the logits say less than nothing (T = infinity).
    TargetError
        If a target is not one of the classes.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.

    Examples
    --------
    >>> round(fit_temperature([2.0, 2.0, 2.0, -2.0], [1, 1, 0, 0]), 3)  # three of four are right: log(3) = 2 / T
    1.82
    """
    z = scores(logits, "fit_temperature").astype(numpy.float64)
    if z.ndim == 1 or z.shape[1] == 1:
        true = binary_targets(y_true, (z.size,), "fit_temperature").astype(numpy.int64)
        z = numpy.stack([numpy.zeros(z.size), z.reshape(-1)], axis=1)  # (N, 2)
    else:
        true = labels_with_scores(y_true, z, "fit_temperature")[0]
    z = z - z[numpy.arange(len(z)), true][:, None]  # z_y is 0 now

    def slope(b: float) -> float:
        p = numpy.exp(b * z - (b * z).max(axis=1, keepdims=True))
        return float(((p * z).sum(axis=1) / p.sum(axis=1)).mean())

    right = bool((z <= 0).all())
    if right or slope(0.0) >= 0:
        which = "are right for every example" if right else "do not tell the classes apart"
        raise DataError(f"fit_temperature: the logits {which}, so no temperature is best; give more examples")
    low, high = 0.0, 1.0
    while slope(high) < 0:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def _check_costs(false_positive: float, false_negative: float, where: str) -> None:
    for name, cost in (("false_positive", false_positive), ("false_negative", false_negative)):
        if not 0 <= cost < float("inf"):
            raise ParameterError(f"{where}: {name} must be a cost, at least 0, got {cost!r}")


def _pair(y_true: Any, probability: Any, where: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return booleans and probabilities, (N,)."""
    given = scores(probability, where).astype(numpy.float64)
    true = binary_targets(y_true, given.shape, where)
    outside = (given < 0) | (given > 1)
    if outside.any():
        raise DataError(
            f"{where}: expected probabilities from 0 to 1, got {given[outside][0]:g}; logits need a sigmoid first"
        )
    return true.reshape(-1), given.reshape(-1)
