"""Standardise features to mean 0 and standard deviation 1."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import DataError, DtypeError, OrderError, ShapeError
from minidl.ops import Array, namespace
from minidl.weights import to_host

__all__ = ["Standardizer"]


class Standardizer:
    """Subtract the mean of each feature and divide by its standard deviation.

    Fit it on the training data alone and apply it to all data::

        x = (x - mean) / scale

    The scale is the square root of the mean squared deviation (divided by N), computed in float64 in two passes. A feature that
    never varies is only centred.

    Attributes
    ----------
    mean, scale : float64 array, the shape of one example
        None before ``fit``; the scale is 1 where the standard deviation is 0.

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
        x = to_host(_numbers(X, "fit")).astype(numpy.float64)  # (N, ...)
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
        # Compare exactly: rounding may make the mean of equal numbers differ from them, and then the scale from 0.
        constant = x.max(axis=0) == x.min(axis=0)
        self.mean = numpy.where(constant, x[0], x.mean(axis=0))
        deviation = x - self.mean
        largest = numpy.where(constant, 1.0, abs(deviation).max(axis=0))  # factored out, so that no square overflows
        rms = numpy.sqrt(((deviation / largest) ** 2).mean(axis=0))
        self.scale = numpy.where(constant, 1.0, largest * rms)
        return self

    def transform(self, X: Any) -> Array:
        """Return (X - mean) / scale, in X's floating-point dtype (float32 for integers) and on its device.

        Raises
        ------
        OrderError
            Before ``fit``.
        ShapeError
            If an example does not have the shape of those fitted.
        """
        x, mean, scale = self._prepare(X, "transform")
        return (x - mean) / scale

    def inverse_transform(self, X: Any) -> Array:
        """Return X * scale + mean; raises the errors of :meth:`transform`."""
        x, mean, scale = self._prepare(X, "inverse_transform")
        return x * scale + mean

    def fit_transform(self, X: Any) -> Array:
        """Fit, then transform the same data."""
        return self.fit(X).transform(X)

    def _prepare(self, X: Any, what: str) -> tuple[Array, Array, Array]:
        if self.mean is None or self.scale is None:
            raise OrderError(f"Standardizer: {what} was called before fit; call fit(X) with the training data first")
        x = _numbers(X, what)
        if x.ndim == 0 or x.shape[1:] != self.mean.shape:
            raise ShapeError(
                f"Standardizer.{what}: expected examples of shape {self.mean.shape}, as fitted, got an array of shape "
                f"{x.shape}"
            )
        if x.dtype.kind != "f":
            x = x.astype("float32")
        xp = namespace(x)
        return x, xp.asarray(self.mean, dtype=x.dtype), xp.asarray(self.scale, dtype=x.dtype)

    def __repr__(self) -> str:
        return (
            f"Standardizer({'not fitted' if self.mean is None else f'fitted to examples of shape {self.mean.shape}'})"
        )


def _numbers(X: Any, what: str) -> Array:
    x = X if hasattr(X, "dtype") else numpy.asarray(X)
    if x.dtype.kind not in "fiub":
        raise DtypeError(f"Standardizer.{what}: expected real numbers, got dtype {x.dtype}")
    return x
