"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from minidl.ops import Array
from minidl.optim.checks import flag, fraction, non_negative
from minidl.optim.optimizer import Check, Optimizer, Settings

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop: divide by a running root mean square of the gradient.

    With mu = ``momentum``::

        g = grad + weight_decay theta
        v = alpha v + (1 - alpha) g^2
        a = alpha a + (1 - alpha) g                  centred form only; otherwise a = 0
        b = mu b + g / (sqrt(v - a^2) + eps)
        theta = theta - lr b

    Parameters
    ----------
    params : list of Parameter, or list of dict
        As in :class:`Optimizer`.
    lr : float, default 0.01
    alpha : float, default 0.99
    eps : float, default 1e-8
    weight_decay : float, default 0.0
    momentum : float, default 0.0
    centered : bool, default False
        Whether to divide by an estimate of the gradient's standard deviation instead of its root mean square.

    Raises
    ------
    ParameterError
        If a setting is outside its range, and as :class:`Optimizer`.

    References
    ----------
    T. Tieleman, G. Hinton, "Neural networks for machine learning", lecture 6.5 (2012). For the centred form: A. Graves,
    "Generating sequences with recurrent neural networks", arXiv:1308.0850 (2013), equations 38 to 45.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Parameter
    >>> p = Parameter(numpy.array([1.0]))
    >>> optimizer = RMSprop([p], lr=0.1, alpha=0.75)
    >>> p.grad[...] = 7.0; optimizer.step(); p.value.round(6)  # the step is lr g / sqrt(0.25 g^2)
    array([0.8])
    """

    scales_gradients = True
    checks: ClassVar[Mapping[str, Check]] = {
        "lr": non_negative,
        "alpha": fraction,
        "eps": non_negative,
        "weight_decay": non_negative,
        "momentum": non_negative,
        "centered": flag,
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered
        )

    def state_names(self, settings: Settings) -> tuple[str, ...]:
        """Return the names of the averages and of the momentum buffer that these settings need."""
        centred = ("grad_average",) if settings["centered"] else ()
        return ("square_average", *centred, *(("momentum_buffer",) if settings["momentum"] else ()))

    def update(self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: Settings) -> None:
        """Call ``rmsprop_update``."""
        engine.rmsprop_update(
            values,
            gradients,
            state["square_average"],
            state.get("grad_average"),
            state.get("momentum_buffer"),
            lr=settings["lr"],
            alpha=settings["alpha"],
            eps=settings["eps"],
            weight_decay=settings["weight_decay"],
            grad_scale=self.grad_scale,
            momentum=settings["momentum"],
        )
