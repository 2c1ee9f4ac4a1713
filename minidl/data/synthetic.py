"""Draw data from a known model."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.ops._scalars import scalars_checked
from minidl.random import Source, as_generator

__all__ = ["make_regression"]


@scalars_checked
def make_regression(
    n_samples: int = 100,
    n_features: int = 100,
    *,
    n_informative: int = 10,
    n_targets: int = 1,
    bias: float = 0.0,
    noise: float = 0.0,
    coef: bool = False,
    random_state: Source = None,
) -> tuple[Any, ...]:
    """Draw a linear regression problem.

    With X standard normal, and e normal with standard deviation ``noise``::

        y = X w + bias + e

    w is uniform on [0, 100) in ``n_informative`` randomly chosen rows and zero elsewhere. Arguments and shapes are those of
    ``sklearn.datasets.make_regression``; the random numbers are not.

    Parameters
    ----------
    n_samples : int, default 100
    n_features : int, default 100
    n_informative : int, default 10
    n_targets : int, default 1
    bias : float, default 0.0
    noise : float, default 0.0
    coef : bool, default False
        Whether to return w too.
    random_state : int, numpy.random.Generator or None, default None
        A seed, or a generator; None is the generator of ``minidl.seed``.

    Returns
    -------
    X : float64 array, shape (n_samples, n_features)
    y : float64 array, shape (n_samples,), or (n_samples, n_targets) if there are several
    w : float64 array, shape (n_features,) or (n_features, n_targets)
        With ``coef=True``.

    Raises
    ------
    ParameterError
        If a count is not a positive integer, or the noise is negative.

    Examples
    --------
    >>> X, y, w = make_regression(5, 1, coef=True, random_state=0)
    >>> X.shape, y.shape, w.shape
    ((5, 1), (5,), (1,))
    >>> numpy.allclose(y, X @ w)
    True
    """
    counts = {"n_samples": n_samples, "n_features": n_features, "n_targets": n_targets, "n_informative": n_informative}
    for name, count in counts.items():
        least = 0 if name == "n_informative" else 1
        if isinstance(count, bool) or not isinstance(count, (int, numpy.integer)) or count < least:
            raise ParameterError(f"make_regression: {name} must be an integer of at least {least}, got {count!r}")
    if not 0.0 <= noise < numpy.inf:
        raise ParameterError(f"make_regression: noise must be a standard deviation, got {noise!r}")
    source = as_generator(random_state)
    informative = source.permutation(n_features)[:n_informative]
    w = numpy.zeros((n_features, n_targets))
    w[informative] = 100.0 * source.random((len(informative), n_targets))
    X = source.normal(size=(n_samples, n_features))
    y = X @ w + bias + noise * source.normal(size=(n_samples, n_targets))  # (n_samples, n_targets)
    if n_targets == 1:
        w, y = w[:, 0], y[:, 0]
    return (X, y, w) if coef else (X, y)
