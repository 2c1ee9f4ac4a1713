"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from minidl.errors import ParameterError
from minidl.ops import Array
from minidl.optim.checks import flag, non_negative, number
from minidl.optim.optimizer import Check, Optimizer, Settings

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's variant.

    With mu = ``momentum`` and tau = ``dampening``::

        g = grad + weight_decay theta
        b = mu b + (1 - tau) g           at the first step b = g
        theta = theta - lr b             with nesterov theta - lr (g + mu b)

    Parameters
    ----------
    params : list of Parameter, or list of dict
        As in :class:`Optimizer`.
    lr : float, default 0.01
        Keras's default; PyTorch's is 0.001.
    momentum : float, default 0.0
    dampening : float, default 0.0
    weight_decay : float, default 0.0
    nesterov : bool, default False
        Requires a momentum and no dampening.

    Raises
    ------
    ParameterError
        If a setting is outside its range, and as :class:`Optimizer`.

    References
    ----------
    B. Polyak, "Some methods of speeding up the convergence of iteration methods" (1964). Y. Nesterov, "A method for solving the
    convex programming problem with convergence rate O(1/k^2)" (1983), in the form of I. Sutskever, J. Martens, G. Dahl,
    G. Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Parameter
    >>> p = Parameter(numpy.array([1.0]))
    >>> optimizer = SGD([p], lr=0.5)
    >>> p.grad[...] = 1.0; optimizer.step(); p.value
    array([0.5])
    """

    scales_gradients = True
    checks: ClassVar[Mapping[str, Check]] = {
        "lr": non_negative,
        "momentum": non_negative,
        "dampening": number,
        "weight_decay": non_negative,
        "nesterov": flag,
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )

    def check_together(self, settings: Settings) -> None:
        """Raise unless Nesterov's variant has a momentum and no dampening."""
        if settings["nesterov"] and (settings["momentum"] == 0 or settings["dampening"] != 0):
            raise ParameterError(
                f"{self._name}: nesterov needs a momentum above 0 and dampening 0, got momentum="
                f"{settings['momentum']!r} and dampening={settings['dampening']!r}"
            )

    def state_names(self, settings: Settings) -> tuple[str, ...]:
        """Return the momentum buffer's name, if there is momentum."""
        return ("momentum_buffer",) if settings["momentum"] else ()

    def moves_touched_rows_only(self, settings: Settings) -> bool:
        """Return True without momentum and weight decay."""
        return settings["momentum"] == 0 and settings["weight_decay"] == 0

    def update(self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: Settings) -> None:
        """Call ``sgd_update``."""
        if settings["momentum"] == 0:  # the other settings are about the momentum
            decay = settings["weight_decay"]
            engine.sgd_update(
                values, gradients, None, lr=settings["lr"], weight_decay=decay, grad_scale=self.grad_scale
            )
            return
        engine.sgd_update(
            values,
            gradients,
            state.get("momentum_buffer"),
            lr=settings["lr"],
            momentum=settings["momentum"],
            dampening=settings["dampening"],
            nesterov=settings["nesterov"],
            weight_decay=settings["weight_decay"],
            grad_scale=self.grad_scale,
            first_step=self.updates == 1,
        )
