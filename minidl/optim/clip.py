"""Gradient clipping, one pass over each flat buffer."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy

from minidl import engines
from minidl.errors import NonFiniteError, ParameterError
from minidl.layers.parameter import Parameter
from minidl.ops import namespace
from minidl.optim.segments import segments, unique_parameters

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(
    parameters: Iterable[Parameter], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    r"""Scale all gradients so that their joint norm is at most ``max_norm``; return the norm before.

    :math:`g \leftarrow g \cdot \min(1, c / (\lVert g \rVert + 10^{-6}))`, the norm taken over all parameters together.
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013,
    algorithm 1.

    Parameters
    ----------
    parameters : list of Parameter
    max_norm : float
        c; positive.
    norm_type : float
        p of the p-norm, positive; ``math.inf`` for the largest absolute value.
    error_if_nonfinite : bool
        Raise instead of scaling by what a nan or infinite norm gives, which is PyTorch's behaviour and the default.

    Raises
    ------
    ParameterError
        If something is no parameter, or ``max_norm`` or ``norm_type`` is not positive.
    NonFiniteError
        If asked for, when the norm is nan or infinite; the gradients are unchanged.

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
    if not norm_type > 0:
        raise ParameterError(f"clip_grad_norm: norm_type must be positive, got {norm_type!r}")
    runs = segments(unique_parameters(parameters, "clip_grad_norm"))
    gradients = [segment.gradients() for segment in runs if segment.values.size]
    engine = engines.current()
    measure = engine.norm
    norm = measure(numpy.array([measure(gradient, norm_type) for gradient in gradients] or [0.0]), norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise NonFiniteError(
            f"clip_grad_norm: the norm of the gradients is {norm}; look for the first layer whose output "
            "or gradient is not finite"
        )
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1.0:  # written so that a nan norm is seen in the gradients
        for gradient in gradients:
            engine.rescale(gradient, factor)
    return norm


def clip_grad_value(parameters: Iterable[Parameter], clip_value: float) -> None:
    r"""Cut every element of the gradients off at :math:`\pm` ``clip_value``.

    Raises
    ------
    ParameterError
        If something is no parameter, or ``clip_value`` is not positive.

    Examples
    --------
    >>> p = Parameter(numpy.zeros(2))
    >>> p.grad[...] = [3.0, -0.5]
    >>> clip_grad_value([p], 1.0); p.grad
    array([ 1. , -0.5])
    """
    if not clip_value > 0:
        raise ParameterError(f"clip_grad_value: clip_value must be positive, got {clip_value!r}")
    for segment in segments(unique_parameters(parameters, "clip_grad_value")):
        gradients = segment.gradients()
        namespace(gradients).clip(gradients, -clip_value, clip_value, out=gradients)
