"""Gradient clipping, one pass over each flat buffer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy

from minidl import weights
from minidl.errors import NonFiniteError, ParameterError
from minidl.layers.parameter import Parameter

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(
    parameters: Iterable[Parameter], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    r"""Scale all gradients so that their joint norm is at most ``max_norm``; return the norm before.

    :math:`g \leftarrow g \cdot \min(1, c / (\lVert g \rVert + 10^{-6}))`, the norm taken over all parameters together.
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.

    Parameters
    ----------
    parameters : list of Parameter
    max_norm : float
        c; positive.
    norm_type : float
        p of the p-norm; ``float("inf")`` for the largest absolute value.
    error_if_nonfinite : bool
        Raise NonFiniteError instead of scaling by nan.

    Examples
    --------
    >>> p = Parameter(numpy.zeros(2))
    >>> p.grad[...] = [3.0, 4.0]
    >>> clip_grad_norm([p], max_norm=1.0)
    5.0
    >>> p.grad.round(5)
    array([0.6, 0.8])
    """
    if not max_norm > 0:
        raise ParameterError(f"clip_grad_norm: max_norm must be positive, got {max_norm!r}")
    gradients = [p.grad for p in dict.fromkeys(parameters)]
    norms = [float(numpy.linalg.norm(weights.to_host(abs(g).reshape(-1)), norm_type)) for g in gradients if g.size]
    norm = float(numpy.linalg.norm(norms, norm_type)) if norms else 0.0
    if error_if_nonfinite and not numpy.isfinite(norm):
        raise NonFiniteError(f"clip_grad_norm: the norm of the gradients is {norm}")
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1.0:
        for gradient in gradients:
            gradient *= factor
    return norm


def clip_grad_value(parameters: Iterable[Parameter], clip_value: float) -> None:
    r"""Cut every element of the gradients off at :math:`\pm` ``clip_value``.

    Examples
    --------
    >>> p = Parameter(numpy.zeros(2))
    >>> p.grad[...] = [3.0, -0.5]
    >>> clip_grad_value([p], 1.0); p.grad
    array([ 1. , -0.5])
    """
    if not clip_value > 0:
        raise ParameterError(f"clip_grad_value: clip_value must be positive, got {clip_value!r}")
    for parameter in dict.fromkeys(parameters):
        parameter.grad[...] = parameter.grad.clip(-clip_value, clip_value)
