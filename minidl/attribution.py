"""Which inputs an output came from: integrated gradients."""

from __future__ import annotations

import copy
from typing import Any

import numpy

from minidl.arrays import to_host
from minidl.engines import current
from minidl.errors import ParameterError, ShapeError

__all__ = ["integrated_gradients"]


def integrated_gradients(
    model: Any, x: Any, baseline: Any = None, *, target: int = 0, steps: int = 32
) -> numpy.ndarray:
    """Return how much each input adds to an output, beside the output for a baseline.

    With F the output, x the input and b the baseline, the gradient is integrated on the straight way from b to x::

        a_i = (x_i - b_i) * integral from 0 to 1 of dF/dx_i (b + t (x - b)) dt

    By the chain rule the integrand, summed over i, is dF/dt, so the attributions add up to F(x) - F(b). The integral is taken by
    Gauss and Legendre's rule, which is exact for polynomials of a degree up to 2 steps - 1; at the kinks of ReLU it is not, so
    compare the sum if digits matter.

    Parameters
    ----------
    model : layer
        Maps (N, ...) to (N, K). A copy is used, in evaluation mode, so gradients and states stay as they are.
    x : array, shape (N, ...)
    baseline : array, shape (...) or (N, ...), optional
        Zeros by default.
    target : int, default 0
        Which of the K outputs.
    steps : int, default 32
        Points on the way.

    Returns
    -------
    numpy.ndarray, of x's shape

    Raises
    ------
    ShapeError
        If the baseline has another shape, or the model does not return (N, K).
    ParameterError
        If there is no such output, or no step.

    References
    ----------
    M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", ICML 2017, equation 1.

    Examples
    --------
    >>> import minidl as dl
    >>> model = dl.Sequential(dl.Linear(2, 1, bias=False))
    >>> model[0].weight.value[...] = [[2, -3]]
    >>> integrated_gradients(model, numpy.array([[1, 2]], dtype="float32"))
    array([[ 2., -6.]], dtype=float32)
    """
    if steps < 1:
        raise ParameterError(f"integrated_gradients: steps must be at least 1, got {steps}")
    engine = current()
    copied = copy.deepcopy(model).eval()
    x = engine.asarray(x)
    start = engine.asarray(numpy.zeros(x.shape[1:], x.dtype) if baseline is None else baseline).astype(x.dtype)
    if start.shape not in (x.shape, x.shape[1:]):
        raise ShapeError(
            f"integrated_gradients: the baseline must have shape {x.shape[1:]} or {x.shape}, got {start.shape}"
        )
    way = x - start
    total = (x * 0).astype("float64")
    for point, weight in zip(*numpy.polynomial.legendre.leggauss(steps), strict=True):
        y = copied.forward(start + way * float(0.5 * (point + 1)))  # from [-1, 1] to [0, 1]
        if y.ndim != 2:
            raise ShapeError(f"integrated_gradients: expected outputs of shape (N, K) from the model, got {y.shape}")
        if not 0 <= target < y.shape[1]:
            raise ParameterError(f"integrated_gradients: target must be from 0 to {y.shape[1] - 1}, got {target}")
        dy = y * 0
        dy[:, target] = 1
        total = total + copied.backward(dy) * float(0.5 * weight)
    return to_host((way * total).astype(x.dtype))
