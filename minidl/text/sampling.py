"""From the logits of the next token to the token: what changes the distribution, and the draw.

Each function takes logits of shape (N, V) and returns new ones; a token that is ruled out has minus infinity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from minidl.errors import NonFiniteError, ParameterError

__all__ = ["draw_tokens", "keep_top_k", "keep_top_p", "penalize_repetition", "scale_by_temperature"]


def scale_by_temperature(logits: numpy.ndarray, temperature: float) -> numpy.ndarray:
    """Return the logits divided by the temperature: below 1 the likely tokens gain, above 1 the unlikely ones.

    Raises
    ------
    ParameterError
        If the temperature is not positive.
    """
    if not temperature > 0:
        raise ParameterError(f"scale_by_temperature: temperature must be positive, got {temperature!r}")
    return logits / temperature


def penalize_repetition(logits: numpy.ndarray, seen: numpy.ndarray, penalty: float) -> numpy.ndarray:
    """Return logits in which tokens that were seen are less likely: x / penalty if x is positive, else x penalty.

    Parameters
    ----------
    logits : array, shape (N, V)
    seen : bool array, shape (N, V)
    penalty : float
        1 changes nothing.

    Raises
    ------
    ParameterError
        If the penalty is not positive.

    References
    ----------
    N. S. Keskar et al., "CTRL: a conditional transformer language model for controllable generation" (2019), section 4.1.

    Examples
    --------
    >>> penalize_repetition(numpy.array([[2.0, -2.0, 1.0]]), numpy.array([[True, True, False]]), 2.0)
    array([[ 1., -4.,  1.]])
    """
    if not penalty > 0:
        raise ParameterError(f"penalize_repetition: repetition_penalty must be positive, got {penalty!r}")
    return numpy.where(seen, numpy.where(logits > 0, logits / penalty, logits * penalty), logits)


def keep_top_k(logits: numpy.ndarray, k: int) -> numpy.ndarray:
    """Return logits in which all but the k largest of each row are ruled out; of equal ones the first are kept.

    Raises
    ------
    ParameterError
        If k is not an integer of at least 1.

    Examples
    --------
    >>> keep_top_k(numpy.array([[1.0, 3.0, 2.0, 2.0]]), 2)
    array([[-inf,   3.,   2., -inf]])
    """
    if isinstance(k, bool) or not isinstance(k, (int, numpy.integer)) or k < 1:
        raise ParameterError(f"keep_top_k: top_k must be an integer of at least 1, got {k!r}")
    if k >= logits.shape[-1]:
        return logits
    least = -numpy.partition(-logits, k - 1, axis=-1)[:, k - 1 : k]  # (N, 1); the k-th largest
    larger, equal = logits > least, logits == least
    room = k - larger.sum(axis=-1, keepdims=True)
    return numpy.where(larger | (equal & (equal.cumsum(axis=-1) <= room)), logits, -numpy.inf)


def keep_top_p(logits: numpy.ndarray, p: float) -> numpy.ndarray:
    """Return logits in which all but the nucleus is ruled out: the fewest tokens with a probability of p together.

    A token is kept if the more likely ones together have a probability below p. So the likeliest is always kept.

    Raises
    ------
    ParameterError
        If p is not above 0 and at most 1.

    References
    ----------
    A. Holtzman et al., "The curious case of neural text degeneration", ICLR 2020, section 3.1.

    Examples
    --------
    >>> keep_top_p(numpy.log(numpy.array([[0.2, 0.5, 0.3]])), 0.6).round(2)
    array([[ -inf, -0.69, -1.2 ]])
    """
    if not 0 < p <= 1:
        raise ParameterError(f"keep_top_p: top_p must be above 0 and at most 1, got {p!r}")
    order = numpy.argsort(-logits, axis=-1, kind="stable")  # (N, V)
    probabilities = numpy.take_along_axis(_softmax(logits), order, axis=-1)
    kept = numpy.empty(logits.shape, dtype=bool)
    numpy.put_along_axis(kept, order, probabilities.cumsum(axis=-1) - probabilities < p, axis=-1)
    return numpy.where(kept, logits, -numpy.inf)


def draw_tokens(logits: numpy.ndarray, generators: Sequence[numpy.random.Generator]) -> numpy.ndarray:
    """Return a token for each row, drawn with the probabilities softmax(logits), by one number of the row's generator.

    The token is the first at which the sum of the probabilities exceeds that number.

    Parameters
    ----------
    logits : array, shape (N, V)
    generators : sequence of numpy.random.Generator
        One for each row.
    """
    sums = _softmax(logits).cumsum(axis=-1)  # (N, V)
    drawn = numpy.array([generator.random() for generator in generators])
    return (sums <= (drawn * sums[:, -1])[:, None]).sum(axis=-1)


def check_finite(logits: numpy.ndarray) -> None:
    """Raise NonFiniteError if a logit is nan or plus infinity, or a row has no token that is possible."""
    largest = logits.max(axis=-1)
    if not numpy.isfinite(largest).all():
        row = int((~numpy.isfinite(largest)).argmax())
        raise NonFiniteError(
            f"generate: the model gave logits of which the largest is {largest[row]} in row {row}; the weights hold nan or inf, "
            "or the model computes them"
        )


def _softmax(logits: numpy.ndarray) -> numpy.ndarray:
    e = numpy.exp(logits.astype("float64") - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
