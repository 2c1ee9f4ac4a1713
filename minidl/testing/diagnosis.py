"""A diagnosis of a wrong gradient: the usual suspects."""

from __future__ import annotations

import math

import numpy

__all__ = ["diagnose"]

CLOSE = 1e-5
"""How well a diagnosis must explain the gradients before it is reported."""


def diagnose(analytic: numpy.ndarray, numeric: numpy.ndarray, shape: tuple[int, ...], full: bool) -> str:
    """Name the mistake that the pattern of the differences points to.

    Parameters
    ----------
    analytic, numeric : array, shape (r, n)
        The gradient for r upstream gradients, the last of them random. The columns are the elements of the argument, or random
        directions.
    shape : tuple of int
        The shape of the argument.
    full : bool
        Whether these are Jacobians: all upstream gradients but the last pick one output, and columns are elements.

    Examples
    --------
    >>> right = numpy.array([[1.0, 2.0], [3.0, -5.0]])
    >>> diagnose(-right, right, (2,), full=True)
    'The sign is wrong everywhere.'
    >>> diagnose(right / 4, right, (2,), full=True)
    'Everywhere 0.25 times what it should be: a factor is missing or too much.'
    >>> diagnose(numpy.array([[4.0, 4.0], [4.0, 4.0]]), right, (2,), full=True)
    'It is the same whatever dy is: the upstream gradient is not used.'
    """
    size = float(numpy.linalg.norm(numeric))
    if not numpy.all(numpy.isfinite(analytic)):
        return "It is not finite."
    if size == 0.0 or size < 1e-9 * float(numpy.linalg.norm(analytic)):
        return "The output does not depend on this argument, but its gradient is not zero."
    if not analytic.any():
        return "It is zero everywhere: it was not computed, or not written."
    factor = float(numpy.vdot(numeric, analytic)) / size**2
    if abs(factor - 1) > 1e-3 and _close(analytic, factor * numeric):
        return _of_factor(factor)
    if len(analytic) > 1 and _close(analytic, analytic[:1]):
        return "It is the same whatever dy is: the upstream gradient is not used."
    if full and _close(analytic[:-1], numeric[:-1]):
        return "Right for each output alone but not for a combination: backward is not linear in dy."
    if len(shape) == 2 and shape[0] == shape[1] > 1 and analytic.shape[1] == shape[0] * shape[1]:
        swapped = analytic.reshape(-1, *shape).swapaxes(1, 2).reshape(analytic.shape)
        if _close(swapped, numeric):
            return "It is the transpose of what it should be."
    if analytic.shape[1] != math.prod(shape):
        return "Found by following random directions to an element that is wrong; others may be too."
    wrong = numpy.abs(analytic - numeric) > CLOSE * numpy.max(numpy.abs(numeric))
    columns = int(wrong.any(axis=0).sum())
    if columns < analytic.shape[1]:
        return f"{columns} of {analytic.shape[1]} elements are wrong, the others right."
    return "Elements differ by different amounts: a term is missing or wrong."


def _close(one: numpy.ndarray, other: numpy.ndarray) -> bool:
    return bool(numpy.linalg.norm(one - other) <= CLOSE * numpy.linalg.norm(other))


def _of_factor(factor: float) -> str:
    if abs(factor + 1) < CLOSE:
        return "The sign is wrong everywhere."
    return f"Everywhere {factor:.6g} times what it should be: a factor is missing or too much."
