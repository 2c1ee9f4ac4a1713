"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from minidl.ops import Array
from minidl.optim.checks import non_negative
from minidl.optim.optimizer import Check, Optimizer, Settings

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Adagrad: the rate of each coordinate falls with the sum of its squared gradients.

    For step t = 1, 2, ..., with d = ``lr_decay``::

        g = grad + weight_decay theta
        s = s + g^2
        theta = theta - lr / (1 + (t - 1) d) g / (sqrt(s) + eps)

    Parameters
    ----------
    params : list of Parameter, or list of dict
        As in :class:`Optimizer`.
    lr : float, default 0.01
    lr_decay : float, default 0.0
    weight_decay : float, default 0.0
    initial_accumulator_value : float, default 0.0
        The initial value of s.
    eps : float, default 1e-10

    Raises
    ------
    ParameterError
        If a setting is outside its range, and as :class:`Optimizer`.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12
    (2011), the diagonal form of figure 1.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Parameter
    >>> p = Parameter(numpy.array([1.0]))
    >>> optimizer = Adagrad([p], lr=0.1)
    >>> p.grad[...] = 7.0; optimizer.step(); p.value.round(6)  # the first step has length lr
    array([0.9])
    """

    scales_gradients = True
    checks: ClassVar[Mapping[str, Check]] = {
        "lr": non_negative,
        "lr_decay": non_negative,
        "weight_decay": non_negative,
        "initial_accumulator_value": non_negative,
        "eps": non_negative,
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )

    def state_names(self, settings: Settings) -> tuple[str, ...]:
        """Return the name of the sum of squares."""
        return ("square_sum",)

    def initial_state(self, name: str, settings: Settings) -> float:
        """Return the initial value of the sum."""
        return settings["initial_accumulator_value"]

    def moves_touched_rows_only(self, settings: Settings) -> bool:
        """Return True without weight decay, if eps keeps 0 / 0 away."""
        return settings["weight_decay"] == 0 and settings["eps"] > 0

    def update(self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: Settings) -> None:
        """Call ``adagrad_update``."""
        engine.adagrad_update(
            values,
            gradients,
            state["square_sum"],
            lr=settings["lr"],
            lr_decay=settings["lr_decay"],
            eps=settings["eps"],
            weight_decay=settings["weight_decay"],
            grad_scale=self.grad_scale,
            step=self.updates,
        )
