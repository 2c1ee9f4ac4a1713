"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl.errors import ParameterError
from minidl.ops import Array
from minidl.optim.optimizer import Optimizer, at_least

__all__ = ["SGD"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum, dampening and Nesterov's variant.

    :math:`b \leftarrow \mu b + (1 - \tau) g`, :math:`\theta \leftarrow \theta - \eta b`; see ``minidl.ops.sgd_update`` for
    all variants and sources.

    Parameters
    ----------
    params : list of Parameter, or list of dict
        ``model.parameters()``, or groups with settings of their own.
    lr : float
        The learning rate; Keras's default, since PyTorch's 1e-3 is for Adam.
    momentum, dampening, weight_decay : float
    nesterov : bool
        Needs momentum and no dampening.

    Examples
    --------
    >>> import numpy, minidl as dl
    >>> p = dl.Parameter(numpy.array([1.0]))
    >>> optimizer = SGD([p], lr=0.5)
    >>> p.grad[...] = 1.0; optimizer.step(); p.value
    array([0.5])
    """

    checks = {"lr": at_least(0), "momentum": at_least(0), "weight_decay": at_least(0)}

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
        for group in self.groups:
            s = group.settings
            if s["nesterov"] and (s["momentum"] <= 0 or s["dampening"] != 0):
                raise ParameterError("SGD: nesterov needs a momentum above 0 and dampening 0")

    def state_names(self, settings: dict[str, Any]) -> tuple[str, ...]:
        """Return the momentum buffer's name, if there is momentum."""
        return ("momentum_buffer",) if settings["momentum"] else ()

    def update(
        self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: dict[str, Any]
    ) -> None:
        """Call ``sgd_update``."""
        engine.sgd_update(
            values, gradients, state.get("momentum_buffer"), **settings, first_step=self.step_count == 1
        )
