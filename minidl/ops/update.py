"""The optimisers' update equations, each one pass over flat arrays, in place.

In all of them g is the gradient, theta the value, lr the learning rate. Every update begins with::

    g = grad_scale grad + weight_decay theta

``grad_scale`` is the factor that clipping asks for (``Optimizer.clip_grad_norm``), so that the clipped gradients need not
be written. On a GPU it may be an array without axes, which nobody waits for. Weight decay is the gradient of the penalty weight_decay / 2 abs(theta)^2, unless it is decoupled. The order of
operations is PyTorch's.

All arrays have one shape and one floating-point dtype, usually (P,) for P parameters in one flat buffer; they may be
empty. Nothing is returned, and ``grad`` is never changed. ``ShapeError`` or ``DtypeError`` is raised where the arrays
differ in shape or dtype, ``ParameterError`` where a setting needs an array that is None.

Values of float16 are updated in float32, and every array that changes is rounded once, at the end. Their state may be
float32, and in the optimisers it is: in float16 the square of a gradient below 2e-4 is zero, and so is an eps of 1e-8.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from minidl.errors import ParameterError
from minidl.ops._checks import ieee, require_like, widen_float16
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["adagrad_update", "adam_update", "rmsprop_update", "sgd_update"]

Update = Callable[..., None]


def _in_float32(update: Update) -> Update:
    """Let an update of float16 values compute in float32 and round each array that it changes once."""
    signature = inspect.signature(update)
    states = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name not in ("value", "grad")
    ]

    @functools.wraps(update)
    def widened(*args: Any, **kwargs: Any) -> None:
        value = args[0] if args else kwargs.get("value")
        dtype = getattr(value, "dtype", None)
        if dtype is None or dtype.kind != "f" or dtype.itemsize >= 4:
            update(*args, **kwargs)
            return
        given = signature.bind(*args, **kwargs).arguments
        _check(update.__name__, value, grad=given["grad"])
        wide = {name: widen_float16(given[name]) for name in states if given[name] is not None}
        wide["value"] = widen_float16(value)
        update(**{**given, **wide, "grad": widen_float16(given["grad"])})
        for name, array in wide.items():
            if array is not given[name]:
                given[name][...] = array

    return widened


@ieee
@_in_float32
def sgd_update(
    value: Array,
    grad: Array,
    momentum_buffer: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    first_step: bool = False,
) -> None:
    """Apply stochastic gradient descent with momentum.

    With mu = ``momentum`` and tau = ``dampening``::

        b = mu b + (1 - tau) g           at the first step b = g
        theta = theta - lr b             with nesterov theta - lr (g + mu b), without momentum theta - lr g

    Parameters
    ----------
    value, grad : array, shape (P,)
        ``value`` is changed.
    momentum_buffer : array, shape (P,), or None
        The buffer b, changed; None without momentum.
    lr : float
    momentum, dampening : float, default 0.0
    nesterov : bool, default False
    weight_decay : float, default 0.0
    grad_scale : float, default 1.0
    first_step : bool, default False

    References
    ----------
    B. Polyak, "Some methods of speeding up the convergence of iteration methods" (1964). I. Sutskever et al., "On the
    importance of initialization and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy
    >>> value, momentum_buffer = numpy.array([1.0]), numpy.zeros(1)
    >>> sgd_update(value, numpy.array([2.0]), momentum_buffer, lr=0.1, momentum=0.5, first_step=True)
    >>> value, momentum_buffer
    (array([0.8]), array([2.]))
    >>> sgd_update(value, numpy.array([2.0]), momentum_buffer, lr=0.1, momentum=0.5)  # by 0.1 (0.5 * 2 + 2)
    >>> value.round(6), momentum_buffer
    (array([0.5]), array([3.]))
    """
    _check("sgd_update", value, grad=grad, momentum_buffer=momentum_buffer)
    grad = _scale_and_decay(grad, grad_scale, value, weight_decay)
    if momentum:
        if momentum_buffer is None:
            raise ParameterError("sgd_update: momentum needs a momentum_buffer; give an array of zeros like value")
        if first_step:
            momentum_buffer[...] = grad
        else:
            momentum_buffer *= momentum
            momentum_buffer += (1 - dampening) * grad
        grad = grad + momentum * momentum_buffer if nesterov else momentum_buffer
    value -= lr * grad


@ieee
@_in_float32
def adagrad_update(
    value: Array,
    grad: Array,
    square_sum: Array,
    *,
    lr: float,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    step: int,
) -> None:
    """Apply Adagrad.

    For step t = 1, 2, ..., with d = ``lr_decay``::

        s = s + g^2
        theta = theta - lr / (1 + (t - 1) d) g / (sqrt(s) + eps)

    Parameters
    ----------
    value, grad, square_sum : array, shape (P,)
        ``value`` and ``square_sum`` (s) are changed.
    lr : float
    lr_decay : float, default 0.0
    eps : float, default 1e-10
    weight_decay : float, default 0.0
    grad_scale : float, default 1.0
    step : int
        The number t, from 1.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12
    (2011).

    Examples
    --------
    >>> import numpy
    >>> value, square_sum = numpy.array([1.0]), numpy.zeros(1)
    >>> adagrad_update(value, numpy.array([3.0]), square_sum, lr=0.1, step=1)  # the first step has length lr
    >>> value.round(6), square_sum
    (array([0.9]), array([9.]))
    """
    _check("adagrad_update", value, grad=grad, square_sum=square_sum)
    _check_step("adagrad_update", step)
    if not lr_decay >= 0:
        raise ParameterError(f"adagrad_update: lr_decay must not be negative, got {lr_decay!r}")
    grad = _scale_and_decay(grad, grad_scale, value, weight_decay)
    rate = lr / (1 + (step - 1) * lr_decay)
    square_sum += grad * grad
    value -= rate * grad / (namespace(value).sqrt(square_sum) + eps)


@ieee
@_in_float32
def rmsprop_update(
    value: Array,
    grad: Array,
    square_average: Array,
    grad_average: Array | None,
    momentum_buffer: Array | None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    momentum: float = 0.0,
) -> None:
    """Apply RMSprop: divide by a running root mean square of the gradient.

    With mu = ``momentum``::

        v = alpha v + (1 - alpha) g^2
        a = alpha a + (1 - alpha) g                  centred form only; otherwise a = 0
        b = mu b + g / (sqrt(v - a^2) + eps)         without momentum mu = 0
        theta = theta - lr b

    Parameters
    ----------
    value, grad, square_average : array, shape (P,)
        ``value`` and ``square_average`` (v) are changed.
    grad_average : array, shape (P,), or None
        The average a of the centred form, changed.
    momentum_buffer : array, shape (P,), or None
        The buffer b, changed; None without momentum.
    lr : float
    alpha : float, default 0.99
    eps : float, default 1e-8
    weight_decay : float, default 0.0
    grad_scale : float, default 1.0
    momentum : float, default 0.0

    References
    ----------
    T. Tieleman, G. Hinton, "Neural networks for machine learning", lecture 6.5 (2012). For the centred form: A. Graves,
    arXiv:1308.0850 (2013), equations 38 to 45.

    Examples
    --------
    >>> import numpy
    >>> value, square_average = numpy.array([1.0]), numpy.zeros(1)
    >>> rmsprop_update(value, numpy.array([3.0]), square_average, None, None, lr=0.1, alpha=0.75)
    >>> value.round(6), square_average  # v = 9/4, so the step is 0.1 * 3 / 1.5
    (array([0.8]), array([2.25]))
    """
    arrays = {"grad": grad, "square_average": square_average, "grad_average": grad_average}
    _check("rmsprop_update", value, **arrays, momentum_buffer=momentum_buffer)
    if momentum and momentum_buffer is None:
        raise ParameterError("rmsprop_update: momentum needs a momentum_buffer; give an array of zeros like value")
    xp = namespace(value)
    grad = _scale_and_decay(grad, grad_scale, value, weight_decay)
    square_average *= alpha
    square_average += (1 - alpha) * (grad * grad)
    variance = square_average
    if grad_average is not None:
        grad_average *= alpha
        grad_average += (1 - alpha) * grad
        variance = xp.maximum(square_average - grad_average * grad_average, 0)  # rounding may leave it below zero
    step = grad / (xp.sqrt(variance) + eps)
    if momentum_buffer is not None:
        momentum_buffer *= momentum
        momentum_buffer += step
        step = momentum_buffer
    value -= lr * step


@ieee
@_in_float32
def adam_update(
    value: Array,
    grad: Array,
    m: Array,
    v: Array,
    v_max: Array | None,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    decoupled: bool = False,
    step: int,
) -> None:
    """Apply Adam, AMSGrad or AdamW.

    For step t = 1, 2, ...::

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        theta = theta - lr m_hat / (sqrt(v_hat) + eps),   m_hat = m / (1 - beta1^t),   v_hat = v / (1 - beta2^t)

    AMSGrad divides by the largest v so far. Decoupled weight decay (AdamW) first multiplies theta by 1 - lr weight_decay and
    leaves g alone.

    Parameters
    ----------
    value, grad, m, v : array, shape (P,)
        All but ``grad`` are changed.
    v_max : array, shape (P,), or None
        The largest v so far, for AMSGrad; changed.
    lr : float
    beta1 : float, default 0.9
    beta2 : float, default 0.999
    eps : float, default 1e-8
    weight_decay : float, default 0.0
    grad_scale : float, default 1.0
    decoupled : bool, default False
        Whether weight decay is decoupled, as in AdamW.
    step : int
        The number t, from 1.

    References
    ----------
    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1. AMSGrad: S. Reddi, S. Kale,
    S. Kumar, "On the convergence of Adam and beyond", ICLR 2018. AdamW: I. Loshchilov, F. Hutter, "Decoupled weight decay
    regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy
    >>> value, m, v = numpy.array([1.0]), numpy.zeros(1), numpy.zeros(1)
    >>> adam_update(value, numpy.array([5.0]), m, v, None, lr=0.1, step=1)  # the first step has length lr
    >>> value.round(6)
    array([0.9])
    """
    _check("adam_update", value, grad=grad, m=m, v=v, v_max=v_max)
    _check_step("adam_update", step)
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ParameterError(f"adam_update: beta1 and beta2 must be from 0 to below 1, got {beta1!r} and {beta2!r}")
    if weight_decay and decoupled:
        value *= 1 - lr * weight_decay
    grad = _scale_and_decay(grad, grad_scale, value, 0.0 if decoupled else weight_decay)
    m += (1 - beta1) * (grad - m)
    v *= beta2
    v += (1 - beta2) * (grad * grad)
    xp = namespace(value)
    second = v
    if v_max is not None:
        xp.maximum(v_max, v, out=v_max)
        second = v_max
    denominator = xp.sqrt(second) / math.sqrt(1 - beta2**step) + eps
    value -= lr / (1 - beta1**step) * m / denominator


def _scale_and_decay(grad: Array, grad_scale: float, value: Array, weight_decay: float) -> Array:
    """Return the scaled gradient plus that of the L2 penalty; ``grad`` itself where there is neither."""
    if hasattr(grad_scale, "dtype"):  # on a device, where it stays
        grad = grad * grad_scale.astype(grad.dtype)  # type: ignore[attr-defined]
    elif grad_scale != 1:
        grad = grad * grad_scale
    return grad + weight_decay * value if weight_decay else grad


def _check_step(op: str, step: int) -> None:
    if step < 1:
        raise ParameterError(f"{op}: step is the number of the step, from 1, got {step}")


def _check(op: str, value: Array, **arrays: Array | None) -> None:
    """Raise unless all arrays have the shape and dtype of value: broadcasting would hide the mistake."""
    require_float(value, "value", op)
    for name, array in arrays.items():
        if array is not None:
            require_like(array, value, name, "value", op)
