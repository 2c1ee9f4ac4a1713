"""Optimisers that scale each coordinate by the size of its past gradients: Adagrad, RMSprop, Adam, AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl.ops import Array
from minidl.optim.optimizer import Optimizer, at_least, fraction

__all__ = ["Adagrad", "Adam", "AdamW", "RMSprop"]


class Adagrad(Optimizer):
    r"""Adagrad: :math:`s \leftarrow s + g^2`, :math:`\theta \leftarrow \theta - \eta g / (\sqrt s + \epsilon)`.

    See ``minidl.ops.adagrad_update`` for the decay of the rate and the source (Duchi et al. 2011).

    Parameters
    ----------
    params : list of Parameter, or list of dict
    lr, lr_decay, weight_decay, initial_accumulator_value, eps : float
        As in PyTorch.
    """

    checks = {
        "lr": at_least(0),
        "lr_decay": at_least(0),
        "weight_decay": at_least(0),
        "eps": at_least(0),
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
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)
        if initial_accumulator_value:
            for segment, _ in self._segments:
                segment.state["square_sum"][...] = initial_accumulator_value

    def state_names(self, settings: dict[str, Any]) -> tuple[str, ...]:
        """Return the name of the sum of squares."""
        return ("square_sum",)

    def update(
        self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: dict[str, Any]
    ) -> None:
        """Call ``adagrad_update``."""
        engine.adagrad_update(values, gradients, state["square_sum"], **settings, step=self.step_count)


class RMSprop(Optimizer):
    r"""RMSprop: :math:`v \leftarrow \alpha v + (1-\alpha) g^2`, :math:`\theta \leftarrow \theta - \eta g / (\sqrt v + \epsilon)`.

    See ``minidl.ops.rmsprop_update`` for the centred form, momentum, and sources.

    Parameters
    ----------
    params : list of Parameter, or list of dict
    lr, alpha, eps, weight_decay, momentum : float
        As in PyTorch.
    centered : bool
        Divide by the standard deviation rather than the root mean square.
    """

    checks = {
        "lr": at_least(0),
        "alpha": fraction,
        "eps": at_least(0),
        "weight_decay": at_least(0),
        "momentum": at_least(0),
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

    def state_names(self, settings: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the averages and of the momentum buffer, as far as they are needed."""
        return (
            "square_average",
            *(("grad_average",) if settings["centered"] else ()),
            *(("momentum_buffer",) if settings["momentum"] else ()),
        )

    def update(
        self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: dict[str, Any]
    ) -> None:
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
            momentum=settings["momentum"],
        )


class Adam(Optimizer):
    r"""Adam: running means of the gradient and of its square, both corrected for their start at zero.

    :math:`\theta \leftarrow \theta - \eta\, \hat m / (\sqrt{\hat v} + \epsilon)`; see ``minidl.ops.adam_update`` for all
    equations and sources (Kingma and Ba 2015, Reddi et al. 2018).

    Parameters
    ----------
    params : list of Parameter, or list of dict
    lr : float
    betas : pair of float
        Decay of the two means.
    eps, weight_decay : float
    amsgrad : bool
        Divide by the largest mean square so far.

    Examples
    --------
    >>> import numpy, minidl as dl
    >>> p = dl.Parameter(numpy.array([1.0]))
    >>> optimizer = Adam([p], lr=0.1)
    >>> p.grad[...] = 7.0; optimizer.step(); p.value.round(6)
    array([0.9])
    """

    decoupled = False
    checks = {
        "lr": at_least(0),
        "betas": lambda betas: None
        if isinstance(betas, (tuple, list)) and len(betas) == 2 and not any(map(fraction, betas))
        else "must be two numbers from 0 up to but not including 1",
        "eps": at_least(0),
        "weight_decay": at_least(0),
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

    def state_names(self, settings: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the two means, and of the largest mean square for AMSGrad."""
        return ("m", "v", "v_max") if settings["amsgrad"] else ("m", "v")

    def update(
        self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: dict[str, Any]
    ) -> None:
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
            decoupled=self.decoupled,
            step=self.step_count,
        )


class AdamW(Adam):
    r"""Adam with decoupled weight decay: :math:`\theta \leftarrow (1 - \eta\lambda)\,\theta` before Adam's own step.

    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, amsgrad
        As for :class:`Adam`; the decay is 0.01 unless said otherwise.
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
