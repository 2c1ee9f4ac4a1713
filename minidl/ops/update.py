r"""The optimisers' update equations, each one pass over flat arrays, in place.

In all of them :math:`g` is the gradient, :math:`\theta` the value, :math:`\eta` the learning rate and :math:`\lambda` the
weight decay. First of all the gradient is multiplied by ``grad_scale``, the factor that clipping asks for
(``Optimizer.clip_grad_norm``), so that nobody has to write the clipped gradients. Unless decoupled, weight decay is the gradient
of an L2 penalty :math:`\tfrac\lambda2 |\theta|^2`, so :math:`g \leftarrow g + \lambda\theta` comes next. The order of
operations is PyTorch's.

All arrays have one shape and one floating dtype, usually (P,) for P parameters in one flat buffer; they may be empty. Nothing
is returned, and ``grad`` is never changed. Raised are ``ShapeError`` and ``DtypeError`` where the arrays are not alike, and
``ParameterError`` where a setting needs an array that is None.
"""

from __future__ import annotations

import math

from minidl.errors import ParameterError
from minidl.ops._checks import ieee, require_like
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["adagrad_update", "adam_update", "rmsprop_update", "sgd_update"]


@ieee
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
    r"""Stochastic gradient descent with momentum.

    :math:`b \leftarrow \mu b + (1 - \tau) g` (b = g at the first step);
    :math:`\theta \leftarrow \theta - \eta\, b`, in Nesterov's variant :math:`\theta - \eta\,(g + \mu b)`, without momentum
    :math:`\theta - \eta\, g`.
    B. Polyak, "Some methods of speeding up the convergence of iteration methods" (1964); I. Sutskever et al., "On the
    importance of initialization and momentum in deep learning", ICML 2013.

    Parameters
    ----------
    value, grad : array, shape (P,)
        ``value`` is changed; ``grad`` is not.
    momentum_buffer : array, shape (P,), or None without momentum
        b; changed.
    lr, momentum, dampening, weight_decay, grad_scale : float
        :math:`\eta, \mu, \tau, \lambda`, and the factor of the gradient.
    nesterov, first_step : bool

    Raises
    ------
    ShapeError, DtypeError
        If the arrays are not alike.
    ParameterError
        If there is a momentum but no buffer.

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
    grad = _effective(grad, grad_scale, value, weight_decay)
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
    r"""Adagrad: :math:`s \leftarrow s + g^2`, :math:`\theta \leftarrow \theta - \eta_t\, g / (\sqrt s + \epsilon)`.

    With :math:`\eta_t = \eta / (1 + (t - 1)\,d)` for the step number t from 1 and the decay d.
    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12
    (2011).

    Parameters
    ----------
    value, grad, square_sum : array, shape (P,)
        ``value`` and ``square_sum`` (s) are changed.
    lr, lr_decay, eps, weight_decay, grad_scale : float
    step : int
        t, from 1.

    Raises
    ------
    ShapeError, DtypeError
        If the arrays are not alike.

    Examples
    --------
    >>> import numpy
    >>> value, square_sum = numpy.array([1.0]), numpy.zeros(1)
    >>> adagrad_update(value, numpy.array([3.0]), square_sum, lr=0.1, step=1)  # the first step has length lr
    >>> value.round(6), square_sum
    (array([0.9]), array([9.]))
    """
    _check("adagrad_update", value, grad=grad, square_sum=square_sum)
    grad = _effective(grad, grad_scale, value, weight_decay)
    rate = lr / (1 + (step - 1) * lr_decay)
    square_sum += grad * grad
    value -= rate * grad / (namespace(value).sqrt(square_sum) + eps)


@ieee
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
    r"""RMSprop: divide by a running root mean square of the gradient.

    :math:`v \leftarrow \alpha v + (1 - \alpha) g^2`; centred, :math:`a \leftarrow \alpha a + (1 - \alpha) g` and
    :math:`\tilde v = v - a^2`, else :math:`\tilde v = v`; :math:`u = g / (\sqrt{\tilde v} + \epsilon)`;
    :math:`b \leftarrow \mu b + u` with momentum, else b = u; :math:`\theta \leftarrow \theta - \eta\, b`.
    T. Tieleman, G. Hinton, "Neural networks for machine learning", lecture 6.5 (2012); A. Graves, arXiv:1308.0850
    (2013), equations 38 to 45, for the centred form.

    Parameters
    ----------
    value, grad, square_average : array, shape (P,)
        ``value`` and ``square_average`` (v) are changed.
    grad_average : array or None
        a, for the centred form; changed.
    momentum_buffer : array or None
        b, with momentum; changed.
    lr, alpha, eps, weight_decay, momentum, grad_scale : float
        :math:`\eta, \alpha, \epsilon, \lambda, \mu`, and the factor of the gradient.

    Raises
    ------
    ShapeError, DtypeError
        If the arrays are not alike.
    ParameterError
        If there is a momentum but no buffer.

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
    grad = _effective(grad, grad_scale, value, weight_decay)
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
    r"""Adam, AMSGrad and AdamW.

    :math:`m \leftarrow \beta_1 m + (1 - \beta_1) g`, :math:`v \leftarrow \beta_2 v + (1 - \beta_2) g^2`,
    :math:`\hat m = m / (1 - \beta_1^t)`, :math:`\hat v = v / (1 - \beta_2^t)`,
    :math:`\theta \leftarrow \theta - \eta\, \hat m / (\sqrt{\hat v} + \epsilon)`.
    AMSGrad divides by the largest v so far. Decoupled weight decay (AdamW) multiplies :math:`\theta` by
    :math:`1 - \eta\lambda` first and leaves g alone.
    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1; S. Reddi, S. Kale, S. Kumar, "On
    the convergence of Adam and beyond", ICLR 2018 (AMSGrad); I. Loshchilov, F. Hutter, "Decoupled weight decay
    regularization", ICLR 2019 (AdamW).

    Parameters
    ----------
    value, grad, m, v : array, shape (P,)
        All but ``grad`` are changed.
    v_max : array or None
        The largest v so far, for AMSGrad; changed.
    lr, beta1, beta2, eps, weight_decay, grad_scale : float
        :math:`\eta, \beta_1, \beta_2, \epsilon, \lambda`, and the factor of the gradient.
    decoupled : bool
        AdamW.
    step : int
        t, from 1.

    Raises
    ------
    ShapeError, DtypeError
        If the arrays are not alike.

    Examples
    --------
    >>> import numpy
    >>> value, m, v = numpy.array([1.0]), numpy.zeros(1), numpy.zeros(1)
    >>> adam_update(value, numpy.array([5.0]), m, v, None, lr=0.1, step=1)  # the first step has length lr
    >>> value.round(6)
    array([0.9])
    """
    _check("adam_update", value, grad=grad, m=m, v=v, v_max=v_max)
    if weight_decay and decoupled:
        value *= 1 - lr * weight_decay
    grad = _effective(grad, grad_scale, value, 0.0 if decoupled else weight_decay)
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


def _effective(grad: Array, grad_scale: float, value: Array, weight_decay: float) -> Array:
    """Return the gradient, scaled, with that of the L2 penalty; itself where there is neither."""
    if grad_scale != 1:
        grad = grad * grad_scale
    return grad + weight_decay * value if weight_decay else grad


def _check(op: str, value: Array, **arrays: Array | None) -> None:
    """Raise unless all arrays that are given have the shape and dtype of value: broadcasting would hide the mistake."""
    require_float(value, "value", op)
    for name, array in arrays.items():
        if array is not None:
            require_like(array, value, name, "value", op)
