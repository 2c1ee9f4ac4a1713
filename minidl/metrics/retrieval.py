"""How good a ranking is: what share of the relevant items is found, and how far up."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError, ShapeError, TargetError
from minidl.metrics.inputs import on_host, scores
from minidl.ops._scalars import scalars_checked

__all__ = ["ndcg", "recall_at_k"]


@scalars_checked
def recall_at_k(relevant: Any, y_score: Any, k: int) -> float:
    """Return the share of the relevant items that is among the k highest scores, averaged over the queries.

    Parameters
    ----------
    relevant : array of 0 and 1, or bool, shape (Q, I)
        Which of I items are relevant for each of Q queries, or users. Those with none are left out.
    y_score : array, shape (Q, I)
        Give what must not be recommended, such as what is known, the score -inf. Of equal scores the earlier item comes first.
    k : int

    Returns
    -------
    float
        The mean; nan if no query has a relevant item.

    Raises
    ------
    ShapeError
        If the shapes differ.
    TargetError
        If ``relevant`` holds anything but 0 and 1.
    ParameterError
        If k is not from 1 to I.

    Examples
    --------
    >>> recall_at_k([[0, 1, 1, 0]], [[0.9, 0.8, 0.1, 0.3]], k=2)
    0.5
    """
    true, given = _rankings(relevant, y_score, "recall_at_k", k)
    if ((true != 0) & (true != 1)).any():
        raise TargetError("recall_at_k: relevant must hold 0 and 1; ndcg takes degrees of relevance")
    best = numpy.argsort(-given, axis=1, kind="stable")[:, :k]  # (Q, k)
    found, all_ = numpy.take_along_axis(true, best, axis=1).sum(axis=1), true.sum(axis=1)
    return float((found[all_ > 0] / all_[all_ > 0]).mean()) if (all_ > 0).any() else float("nan")


@scalars_checked
def ndcg(relevance: Any, y_score: Any, k: int | None = None) -> float:
    """Return the normalised discounted cumulative gain, averaged over the queries.

    With the items in descending order of their scores, and g_r the relevance of the one at rank r = 1, 2, ..., k::

        dcg = sum over r of g_r / log2(r + 1)          ndcg = dcg / the largest dcg that an order could have

    Items of equal scores share the mean of their relevance, as in scikit-learn.

    Parameters
    ----------
    relevance : array of numbers, at least 0, shape (Q, I)
        Queries without a relevant item are left out.
    y_score : array, shape (Q, I)
    k : int, optional
        How many ranks count; all by default.

    Returns
    -------
    float
        The mean; nan if no query has a relevant item.

    Raises
    ------
    ShapeError, ParameterError
        As :func:`recall_at_k`.
    TargetError
        If a relevance is negative or not a number.

    References
    ----------
    K. Järvelin, J. Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20 (2002).

    Examples
    --------
    >>> round(ndcg([[0, 3, 2, 1]], [[0.9, 0.8, 0.1, 0.3]], k=2), 4)  # 3 / log2(3) of 3 + 2 / log2(3)
    0.4441
    """
    true, given = _rankings(relevance, y_score, "ndcg", k)
    if not (numpy.isfinite(true) & (true >= 0)).all():
        raise TargetError("ndcg: every relevance must be a number of at least 0")
    ranks = numpy.arange(2, true.shape[1] + 2)
    discount = 1 / numpy.log2(ranks)  # (I,)
    if k is not None:
        discount[k:] = 0
    ideal = (-numpy.sort(-true, axis=1) * discount).sum(axis=1)  # (Q,)
    values = [
        _gain(one, score, discount) / best for one, score, best in zip(true, given, ideal, strict=True) if best > 0
    ]
    return float(numpy.mean(values)) if values else float("nan")


def _gain(relevance: numpy.ndarray, score: numpy.ndarray, discount: numpy.ndarray) -> float:
    """Return the dcg of one query; items of equal scores share the mean of their relevance."""
    _, places, counts = numpy.unique(-score, return_inverse=True, return_counts=True)
    mean = numpy.bincount(places, relevance) / counts
    ends = numpy.cumsum(counts)
    cumulated = numpy.concatenate([[0.0], numpy.cumsum(discount)])
    return float((mean * (cumulated[ends] - cumulated[ends - counts])).sum())


def _rankings(relevance: Any, y_score: Any, where: str, k: int | None) -> tuple[numpy.ndarray, numpy.ndarray]:
    given, true = scores(y_score, where), on_host(relevance, where, "the relevance")
    if given.ndim != 2 or true.shape != given.shape:
        raise ShapeError(f"{where}: expected relevance and scores of shape (Q, I), got {true.shape} and {given.shape}")
    if k is not None and not 1 <= k <= given.shape[1]:
        raise ParameterError(f"{where}: k must be from 1 to the number of items, {given.shape[1]}, got {k}")
    return true.astype(numpy.float64), given.astype(numpy.float64)
