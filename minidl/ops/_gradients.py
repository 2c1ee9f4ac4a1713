"""One contract for the gradients of parameters: where to write them, whether to add them, and which of them are wanted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from minidl.errors import ParameterError, ShapeError
from minidl.ops._namespace import Array

__all__ = ["ALL_WANTED", "check_storage", "parameter_gradients"]

ALL_WANTED = (True, True, True)
"""The gradients of input, weight and bias, all of them wanted."""

Backward = Callable[..., Any]


def parameter_gradients(*parameters: str) -> Callable[[Backward], Backward]:
    """Give the backward of an op with parameters the contract that holds on every engine.

    The decorated backward returns one gradient for each input, then one for each parameter. It gains three arguments:
    ``backward(dy, cache, into=None, add=False, wanted=None)``.

    ``into`` : tuple of array or None, optional
        One entry for each parameter: the array to write its gradient to, which is then returned as the gradient. A gradient
        without such an array is returned in a new one.
    ``add`` : bool, default False
        Whether to add to the arrays in ``into`` instead of overwriting them.
    ``wanted`` : tuple of bool, optional
        One entry for each gradient, those of the inputs first; all are wanted by default. A gradient that is not wanted is
        None, and nothing is written for it.

    A formula that takes ``wanted`` itself skips the work of unwanted gradients; of any other formula they are computed and
    dropped. One that also takes ``into`` and ``add`` writes the gradients itself, as a table does, of which few rows change.
    A kernel that replaces the formula keeps the same contract.

    Parameters
    ----------
    *parameters : str
        The names of the parameters in the forward, in the order of their gradients.

    Raises
    ------
    ParameterError
        From the backward, if ``into`` or ``wanted`` does not have one entry for each gradient.
    ShapeError
        From the backward, if an array in ``into`` does not have the shape and dtype of the gradient.

    Examples
    --------
    >>> import numpy
    >>> @parameter_gradients("weight")
    ... def scale_backward(dy, cache):
    ...     x, weight = cache
    ...     return dy * weight, (dy * x).sum(axis=0)
    >>> cache, dy = (numpy.array([[1.0], [2.0]]), numpy.array([3.0])), numpy.ones((2, 1))
    >>> dweight = numpy.array([10.0])
    >>> dx, _ = scale_backward(dy, cache, into=(dweight,), add=True)
    >>> dweight
    array([13.])
    >>> scale_backward(dy, cache, wanted=(False, True))
    (None, array([3.]))
    """

    def decorate(backward: Backward) -> Backward:
        takes = inspect.signature(backward).parameters
        told, writes_itself = takes.get("wanted"), "into" in takes

        @functools.wraps(backward)
        def with_storage(
            dy: Array,
            cache: Any,
            into: Sequence[Array | None] | None = None,
            add: bool = False,
            wanted: Sequence[bool] | None = None,
        ) -> tuple[Any, ...]:
            if into is None and wanted is None:
                return backward(dy, cache)
            if writes_itself and told is not None:
                _check_wanted(backward.__name__, wanted, len(told.default))
                _check_into(backward.__name__, into, len(parameters))
                return backward(dy, cache, into, add, told.default if wanted is None else wanted)
            if told is not None and wanted is not None:
                _check_wanted(backward.__name__, wanted, len(told.default))
                gradients = backward(dy, cache, wanted=wanted)
            else:
                gradients = backward(dy, cache)
            return _deliver(backward.__name__, len(parameters), gradients, into, add, wanted)

        with_storage.parameters = parameters  # type: ignore[attr-defined]
        return with_storage

    return decorate


def _check_wanted(op: str, wanted: Sequence[bool] | None, count: int) -> None:
    if wanted is not None and len(wanted) != count:
        raise ParameterError(f"{op}: wanted must have {count} entries, one for each gradient, got {wanted!r}")


def _check_into(op: str, into: Sequence[Array | None] | None, count: int) -> None:
    if into is not None and len(into) != count:
        raise ParameterError(f"{op}: into must have {count} entries, one for each parameter, got {len(into)}")


def check_storage(op: str, position: int, storage: Array, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise ShapeError unless the array at a position of ``into`` has the shape and dtype of the gradient."""
    if storage.shape != shape or storage.dtype != dtype:
        raise ShapeError(
            f"{op}: into[{position}] must have shape {shape} and dtype {dtype}, got {storage.shape} and {storage.dtype}"
        )


def _deliver(
    op: str,
    count: int,
    gradients: Sequence[Any],
    into: Sequence[Array | None] | None,
    add: bool,
    wanted: Sequence[bool] | None,
) -> tuple[Any, ...]:
    """Write the gradients of the parameters, the last ``count``, to their storage; drop those not wanted."""
    _check_wanted(op, wanted, len(gradients))
    _check_into(op, into, count)
    delivered = [g if wanted is None or wanted[i] else None for i, g in enumerate(gradients)]
    first = len(gradients) - count
    for i, storage in enumerate(into or (), first):
        gradient = delivered[i]
        if storage is None or gradient is None:
            continue
        check_storage(op, i - first, storage, gradient.shape, gradient.dtype)
        if add:
            storage += gradient
        else:
            storage[...] = gradient
        delivered[i] = storage
    return tuple(delivered)
