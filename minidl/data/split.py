"""Split data into a training part and a test part."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.arrays import is_elsewhere, is_sparse, library_of, to_host
from minidl.data.batches import as_rows, same_length, select
from minidl.errors import DataError, ParameterError
from minidl.ops._scalars import scalars_checked
from minidl.random import Source, as_generator

__all__ = ["train_test_split"]


@scalars_checked
def train_test_split(
    *arrays: Any,
    test_size: float | int | None = None,
    train_size: float | int | None = None,
    random_state: Source = None,
    shuffle: bool = True,
    stratify: Any = None,
) -> list[Any]:
    """Split arrays of N examples at random into two parts, all at the same positions.

    The signature is that of ``sklearn.model_selection.train_test_split``; the random numbers are not.

    Parameters
    ----------
    *arrays : array, list, table or tensor, length N
        Rows are taken by position, whatever the index of a DataFrame or Series is.
    test_size, train_size : float or int, optional
        A share between 0 and 1, or a number of examples. The test part is rounded up, the training part down. If one is
        missing it is the rest; if both are, a quarter is for testing.
    random_state : int, numpy.random.Generator or None, default None
        A seed, or a generator; None is the generator of ``minidl.seed``.
    shuffle : bool, default True
        Whether to shuffle. If not, the first examples are for training and the last for testing.
    stratify : array-like, shape (N,), optional
        Class labels; each class is then split in the same proportion, up to rounding.

    Returns
    -------
    list
        ``[train, test]`` for each of the arrays: copies, or views without ``shuffle``. Tables, columns and tensors of pandas,
        polars, pyarrow and PyTorch stay what they are, sparse matrices stay sparse, and everything else becomes an array.

    Raises
    ------
    DataError
        If there are no examples, lengths differ, a part would be empty, or a class has too few examples to be in both parts.
    ParameterError
        If a size is outside its range, or ``stratify`` is given without ``shuffle``.

    Examples
    --------
    >>> X, y = numpy.arange(20).reshape(10, 2), numpy.array([0] * 5 + [1] * 5)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, random_state=0, stratify=y)
    >>> X_train.shape, y_train.sum(), y_test.sum()
    ((6, 2), np.int64(3), np.int64(2))
    """
    given = tuple(
        array
        if is_elsewhere(array) or is_sparse(array) or _has_rows(array)
        else as_rows(array, "train_test_split", index)
        for index, array in enumerate(arrays)
    )
    n = same_length(given, "train_test_split")
    n_train, n_test = _sizes(n, test_size, train_size)
    if not shuffle:
        if stratify is not None:
            raise ParameterError("train_test_split: stratify needs shuffle=True")
        parts: tuple[Any, Any] = slice(0, n_train), slice(n_train, n_train + n_test)
    else:
        source = as_generator(random_state)
        if stratify is None:
            order = source.permutation(n)
            parts = order[:n_train], order[n_train : n_train + n_test]
        else:
            parts = _stratify(to_host(stratify, "train_test_split", "stratify"), n, n_train, n_test, source)
    return [select(array, part) for array in given for part in parts]


def _has_rows(data: Any) -> bool:
    """Whether it is a table, a column or a tensor of another library that has its rows in memory."""
    return library_of(data) is not None and hasattr(data, "__len__") and getattr(data, "shape", (1,)) != ()


def _sizes(n: int, test_size: float | int | None, train_size: float | int | None) -> tuple[int, int]:
    if test_size is None and train_size is None:
        test_size = 0.25
    n_test = None if test_size is None else _count(n, test_size, "test_size", math.ceil)
    n_train = None if train_size is None else _count(n, train_size, "train_size", math.floor)
    if n_test is None:
        assert n_train is not None
        n_test = n - n_train
    if n_train is None:
        n_train = n - n_test
    if n_train + n_test > n:
        raise ParameterError(
            f"train_test_split: {n_train} examples to train and {n_test} to test are more than the {n} given"
        )
    if n_train < 1 or n_test < 1:
        raise DataError(
            f"train_test_split: {n} examples would be split into {n_train} to train and {n_test} to test; give more "
            "data or another size"
        )
    return n_train, n_test


def _count(n: int, size: float | int, name: str, rounded: Any) -> int:
    if isinstance(size, (int, numpy.integer)) and not isinstance(size, bool) and 0 < size < n:
        return int(size)
    if isinstance(size, (float, numpy.floating)) and 0.0 < size < 1.0:
        return rounded(float(size) * n)
    raise ParameterError(
        f"train_test_split: {name} must be a share between 0 and 1 or a number of examples below {n}, got {size!r}"
    )


def _stratify(
    labels: numpy.ndarray, n: int, n_train: int, n_test: int, source: numpy.random.Generator
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the indices of the two parts, each class divided in proportion."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise DataError(f"train_test_split: stratify must hold {n} labels, got an array of shape {labels.shape}")
    classes, which, counts = numpy.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise DataError(
            f"train_test_split: class {classes[counts.argmin()].item()!r} has a single member, which cannot be in both "
            "parts"
        )
    if min(n_train, n_test) < len(classes):
        raise DataError(
            f"train_test_split: {n_train} examples to train and {n_test} to test are too few for {len(classes)} classes"
        )
    train_counts = _shares(counts, n_train, source)
    test_counts = _shares(counts - train_counts, n_test, source)
    train, test = [], []
    for k in range(len(classes)):
        members = source.permutation(numpy.flatnonzero(which == k))
        train.append(members[: train_counts[k]])
        test.append(members[train_counts[k] : train_counts[k] + test_counts[k]])
    return source.permutation(numpy.concatenate(train)), source.permutation(numpy.concatenate(test))


def _shares(counts: numpy.ndarray, total: int, source: numpy.random.Generator) -> numpy.ndarray:
    """Divide ``total`` in proportion to the counts: whole parts first, then the largest remainders, ties at random."""
    exact = total * counts / counts.sum()
    shares = numpy.floor(exact).astype(int)
    order = numpy.lexsort((source.permutation(len(counts)), shares - exact))  # largest remainder first
    shares[order[: total - shares.sum()]] += 1
    return shares
