"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from minidl.ops import Array
from minidl.optim.checks import flag, fractions, non_negative
from minidl.optim.optimizer import Check, Optimizer, Settings

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam: running means of the gradient and of its square, both corrected for their start at zero.

    For step t = 1, 2, ...::

        g = grad + weight_decay theta
        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        theta = theta - lr m_hat / (sqrt(v_hat) + eps),   m_hat = m / (1 - beta1^t),   v_hat = v / (1 - beta2^t)

    With ``amsgrad`` the largest v so far replaces v in the last line.

    Parameters
    ----------
    params : list of Parameter, or list of dict
        As in :class:`Optimizer`.
    lr : float, default 0.001
    betas : pair of float, default (0.9, 0.999)
    eps : float, default 1e-8
    weight_decay : float, default 0.0
    amsgrad : bool, default False

    Raises
    ------
    ParameterError
        If a setting is outside its range, and as :class:`Optimizer`.

    References
    ----------
    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1. AMSGrad: S. Reddi, S. Kale,
    S. Kumar, "On the convergence of Adam and beyond", ICLR 2018, algorithm 2.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Parameter
    >>> p = Parameter(numpy.array([1.0]))
    >>> optimizer = Adam([p], lr=0.1)
    >>> p.grad[...] = 7.0; optimizer.step(); p.value.round(6)  # the first step has length lr
    array([0.9])
    """

    decoupled = False
    """Whether weight decay shrinks the values directly instead of adding to the gradient."""
    scales_gradients = True
    checks: ClassVar[Mapping[str, Check]] = {
        "lr": non_negative,
        "betas": fractions,
        "eps": non_negative,
        "weight_decay": non_negative,
        "amsgrad": flag,
    }

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    def state_names(self, settings: Settings) -> tuple[str, ...]:
        """Return the names of the two means, and of the largest mean square for AMSGrad."""
        return ("m", "v", "v_max") if settings["amsgrad"] else ("m", "v")

    def update(self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: Settings) -> None:
        """Call ``adam_update``."""
        beta1, beta2 = settings["betas"]
        engine.adam_update(
            values,
            gradients,
            state["m"],
            state["v"],
            state.get("v_max"),
            lr=settings["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=settings["eps"],
            weight_decay=settings["weight_decay"],
            grad_scale=self.grad_scale,
            decoupled=self.decoupled,
            step=self.updates,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay.

    Before Adam's step, which then has no decay of its own::

        theta = (1 - lr weight_decay) theta

    Parameters
    ----------
    params : list of Parameter, or list of dict
        As in :class:`Optimizer`.
    lr : float, default 0.001
    betas : pair of float, default (0.9, 0.999)
    eps : float, default 1e-8
    weight_decay : float, default 0.01
    amsgrad : bool, default False

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2. Its schedule multiplier is the
    learning rate here, as in PyTorch.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)
