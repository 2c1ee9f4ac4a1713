"""Gradient clipping, in one pass over each flat buffer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from minidl import engines
from minidl.errors import NonFiniteError, ParameterError
from minidl.layers.parameter import Parameter
from minidl.ops import Array, namespace
from minidl.optim.segments import Segment, segments, unique_parameters

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(
    parameters: Iterable[Parameter], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Any:
    """Scale all gradients so that their joint norm is at most ``max_norm``; return the norm before.

    With the norm over all parameters together::

        grad = grad min(1, max_norm / (norm + 1e-6))

    ``Optimizer.clip_grad_norm`` gives the same step without writing the gradients. On a GPU the norm is an array without axes;
    ``float(norm)`` waits for it.

    Parameters
    ----------
    parameters : list of Parameter
    max_norm : float
        Positive.
    norm_type : float, default 2.0
        The p of the p-norm, positive; ``math.inf`` is the largest absolute value.
    error_if_nonfinite : bool, default False
        Whether to raise on a nan or infinite norm. By default the gradients are scaled all the same, as in PyTorch.

    Raises
    ------
    ParameterError
        If an item is not a parameter, or ``max_norm`` or ``norm_type`` is not positive.
    NonFiniteError
        With ``error_if_nonfinite``, if the norm is nan or infinite; the gradients are unchanged.

    References
    ----------
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.

    Examples
    --------
    >>> p = Parameter(numpy.zeros(2))
    >>> p.grad[...] = [3.0, 4.0]
    >>> clip_grad_norm([p], max_norm=1.0)
    5.0
    >>> p.grad.round(5)
    array([0.6, 0.8])
    """
    runs = segments(unique_parameters(parameters, "clip_grad_norm"))
    norm, factor = norm_and_factor(runs, max_norm, norm_type, error_if_nonfinite)
    if hasattr(factor, "dtype") or factor != 1.0:
        rescale(runs, factor)
    return norm


def norm_and_factor(
    runs: Sequence[Segment], max_norm: float, norm_type: float, error_if_nonfinite: bool, scale: Any = 1.0
) -> tuple[Any, Any]:
    """Return the joint norm of the gradients times ``scale``, and the factor to clip them by, which is 1 if the norm is small enough.

    On a device both stay there, as arrays without axes.
    """
    if not max_norm > 0:
        raise ParameterError(f"clip_grad_norm: max_norm must be positive, got {max_norm!r}")
    if not norm_type > 0:
        raise ParameterError(f"clip_grad_norm: norm_type must be positive, got {norm_type!r}")
    runs = [segment for segment in runs if segment.values.size]
    on_device = bool(runs) and namespace(runs[0].values) is not numpy
    if on_device:
        norm = scale * _norm_on_device([segment.nonzero_gradients() for segment in runs], norm_type)
    else:
        measure = engines.current().norm
        norms = [measure(segment.nonzero_gradients(), norm_type) for segment in runs]
        norm = scale * measure(numpy.array(norms or [0.0]), norm_type)
    if error_if_nonfinite and not math.isfinite(float(norm)):
        raise NonFiniteError(
            f"clip_grad_norm: the norm of the gradients is {float(norm)}; look for the first layer whose output "
            "or gradient is not finite"
        )
    factor = max_norm / (norm + 1e-6)
    if on_device:
        return norm, namespace(factor).minimum(factor, 1.0)  # which keeps nan
    return norm, 1.0 if factor >= 1.0 else factor  # so that a nan norm shows in the gradients


def _norm_on_device(parts: list[Array], p: float) -> Array:
    """Return the joint p-norm of flat arrays, in float64. The largest value is taken out, so that no power overflows."""
    xp = namespace(parts[0])
    largest = xp.stack([xp.abs(part).max() for part in parts]).max().astype("float64")
    scale = xp.where((largest > 0) & xp.isfinite(largest), largest, 1.0)
    each = [xp.linalg.norm(part / scale.astype(part.dtype), p).astype("float64") for part in parts]
    return xp.where(xp.isfinite(largest), scale * xp.linalg.norm(xp.stack(each), p), largest)


def rescale(runs: Sequence[Segment], factor: Any) -> None:
    """Multiply the gradients by a number, in place."""
    for segment in runs:
        if segment.values.size:
            engines.current().rescale(segment.writable_gradients(), factor)


def clip_grad_value(parameters: Iterable[Parameter], clip_value: float) -> None:
    """Clip every element of the gradients to [-clip_value, clip_value].

    Raises
    ------
    ParameterError
        If an item is not a parameter, or ``clip_value`` is not positive.

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
        gradients = segment.writable_gradients()
        namespace(gradients).clip(gradients, -clip_value, clip_value, out=gradients)
