"""Standardise features to mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from minidl.arrays import check_real, is_elsewhere, to_host
from minidl.errors import DataError, OrderError, ShapeError
from minidl.ops import Array, namespace

__all__ = ["Standardizer"]

BLOCK = 1 << 20
"""Elements that are standardised at a time: 8 MiB of float64."""


class Standardizer:
    """Subtract the mean of each feature and divide by its standard deviation.

    Fit it on the training data alone and apply it to all data::

        x = (x - mean) / scale

    The scale is the square root of the mean squared deviation (divided by N), computed in float64 in two passes. The mean is
    subtracted in float64 too, and the result rounded once, so timestamps and other large integers keep their digits up to 2^53.

    A feature that never varies is only centred. Nor does one that varies by no more than rounding: floating-point numbers
    within 64 units of float64's rounding, or 4 of their own dtype's, relative to the largest (0.1 + 0.2 and 0.3). Integers
    are compared exactly.

    Attributes
    ----------
    mean, scale : float64 array, the shape of one example
        None before ``fit``; the scale is 1 where the feature does not vary.

    Examples
    --------
    >>> X = numpy.array([[1.0, 5.0], [3.0, 5.0]])
    >>> standardizer = Standardizer().fit(X)
    >>> standardizer.transform(X)
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> standardizer.inverse_transform([[0.0, 1.0]])
    array([[2., 6.]])
    """

    def __init__(self) -> None:
        self.mean: numpy.ndarray | None = None
        self.scale: numpy.ndarray | None = None

    def fit(self, X: Any) -> Standardizer:
        """Measure mean and standard deviation over the first axis; return self.

        Raises
        ------
        DataError
            If there are no examples, or an element is NaN or infinite.
        DtypeError
            If X does not hold real numbers.
        ShapeError
            If X has no axis of examples.
        """
        given = _numbers(X, "fit")
        x = to_host(given).astype(numpy.float64)  # (N, ...)
        if x.ndim == 0:
            raise ShapeError("Standardizer.fit: expected an array with one row for each example, got a single number")
        if x.shape[0] == 0:
            raise DataError("Standardizer.fit: there are no examples")
        bad = ~numpy.isfinite(x)
        if bad.any():
            place = tuple(map(int, numpy.argwhere(bad)[0]))
            raise DataError(
                f"Standardizer.fit: {x[place]} in example {place[0]}, feature {place[1:]}; drop such examples, or fill "
                "them in first"
            )
        # By the extremes: rounding may make the mean of equal numbers differ from them, and then the scale from 0.
        low, high = x.min(axis=0), x.max(axis=0)
        constant = high - low <= _rounding(given.dtype) * numpy.maximum(abs(low), abs(high))
        self.mean = numpy.where(constant, x[0], x.mean(axis=0))
        deviation = numpy.where(constant, 0.0, x - self.mean)
        largest = numpy.where(constant, 1.0, abs(deviation).max(axis=0))  # factored out, so that no square overflows
        rms = numpy.sqrt(((deviation / largest) ** 2).mean(axis=0))
        self.scale = numpy.where(constant, 1.0, largest * rms)
        return self

    def transform(self, X: Any) -> Array:
        """Return (X - mean) / scale, in X's floating-point dtype (float32 for integers) and on its device.

        Tables and tensors become arrays; their columns are those of ``fit`` by position.

        Raises
        ------
        OrderError
            Before ``fit``.
        ShapeError
            If an example does not have the shape of those fitted.
        """
        return self._apply(X, "transform", lambda x, mean, scale: (x - mean) / scale)

    def inverse_transform(self, X: Any) -> Array:
        """Return X * scale + mean; raises the errors of :meth:`transform`."""
        return self._apply(X, "inverse_transform", lambda x, mean, scale: x * scale + mean)

    def fit_transform(self, X: Any) -> Array:
        """Fit, then transform the same data."""
        return self.fit(X).transform(X)

    def _apply(self, X: Any, what: str, formula: Callable[[Array, Array, Array], Array]) -> Array:
        """Compute a formula in float64, in blocks of rows, and round it once."""
        if self.mean is None or self.scale is None:
            raise OrderError(f"Standardizer: {what} was called before fit; call fit(X) with the training data first")
        x = _numbers(X, what)
        if x.ndim == 0 or x.shape[1:] != self.mean.shape:
            raise ShapeError(
                f"Standardizer.{what}: expected examples of shape {self.mean.shape}, as fitted, got an array of shape "
                f"{x.shape}"
            )
        xp = namespace(x)
        mean, scale = xp.asarray(self.mean), xp.asarray(self.scale)
        result = xp.empty(x.shape, dtype=x.dtype if x.dtype.kind == "f" else "float32")
        rows = max(1, BLOCK // max(1, self.mean.size))
        for start in range(0, x.shape[0], rows):
            part = slice(start, start + rows)
            result[part] = formula(x[part].astype("float64"), mean, scale)
        return result

    def __repr__(self) -> str:
        return (
            f"Standardizer({'not fitted' if self.mean is None else f'fitted to examples of shape {self.mean.shape}'})"
        )


def _numbers(X: Any, what: str) -> Array:
    where = f"Standardizer.{what}"
    x = X if is_elsewhere(X) else to_host(X, where, "X")
    check_real(x, where, "X")
    return x


def _rounding(dtype: numpy.dtype[Any]) -> float:
    """Return the relative difference up to which numbers count as equal."""
    if dtype.kind != "f":
        return 0.0
    return max(4 * float(numpy.finfo(dtype).eps), 64 * float(numpy.finfo("float64").eps))
