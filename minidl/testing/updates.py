"""The catalogue of the optimisers' updates: ops that change their arguments and have no backward.

The oracles update one number at a time, from the equations in the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl.errors import GradcheckError
from minidl.ops._checks import widen_float16

__all__ = ["UPDATES", "UpdateCase", "UpdateSpec", "run"]

States = dict[str, float]


@dataclass(frozen=True)
class UpdateCase:
    """One setting of an optimiser.

    Attributes
    ----------
    name : str
    states : tuple of str
        The state arrays that are given; the others are None.
    options : mapping
        The hyperparameters.
    """

    name: str
    states: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateSpec:
    """Everything that the tests need to know about an update.

    Attributes
    ----------
    name : str
        The name in ``minidl.ops``.
    states : tuple of str
        The state arrays, in the order in which they follow ``value`` and ``grad``.
    cases : tuple of UpdateCase
    oracle : callable
        ``oracle(value, grad, states, step, **options) -> value``, on Python floats; changes the dictionary of states.
    counter : callable
        Maps the number of the step, from 1, to the keyword arguments that depend on it.
    rounding : float
        As in ``OpSpec``.
    """

    name: str
    states: tuple[str, ...]
    cases: tuple[UpdateCase, ...]
    oracle: Callable[..., float]
    counter: Callable[[int], Mapping[str, Any]]
    rounding: float = 4.0

    def expected(self, case: UpdateCase, value: numpy.ndarray, grads: numpy.ndarray) -> dict[str, numpy.ndarray]:
        """Return value and states from the oracle after steps with these gradients, (T, P)."""
        results = [
            self._expected_one(case, float(v), [float(g) for g in column])
            for v, column in zip(value, grads.T, strict=True)
        ]
        return {name: numpy.array([result[name] for result in results]) for name in ("value", *case.states)}

    def _expected_one(self, case: UpdateCase, value: float, grads: list[float]) -> States:
        states = dict.fromkeys(case.states, 0.0)
        for step, grad in enumerate(grads, start=1):
            value = self.oracle(value, grad, states, step, **case.options)
        return {"value": value, **states}


def run(
    update: Callable[..., Any],
    spec: UpdateSpec,
    case: UpdateCase,
    value: Any,
    grads: Any,
    largest: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Apply an update in place once for each gradient; return value and states by name.

    Parameters
    ----------
    update : callable
        The formula, or an engine's update.
    spec : UpdateSpec
    case : UpdateCase
    value : array, shape (P,)
        Copied first.
    grads : sequence of arrays of shape (P,)
    largest : dict, optional
        Filled with the largest absolute value of each array on the way.

    Raises
    ------
    GradcheckError
        If the update changes the gradient or returns something.
    """
    value = value.copy()
    states: dict[str, Any] = {}
    for name in case.states:
        states[name] = widen_float16(value * 0)  # as the optimisers keep it
    for step, grad in enumerate(grads, start=1):
        given = grad.copy()
        arguments = [states.get(name) for name in spec.states]
        result = update(value, given, *arguments, **case.options, **spec.counter(step))
        if result is not None:
            raise GradcheckError(f"{spec.name} must work in place and return nothing, got {type(result).__name__}")
        if not bool((given == grad).all()):
            raise GradcheckError(f"{spec.name} changes the gradient")
        if largest is not None:
            for name, array in {"value": value, **states}.items():
                largest[name] = max(largest.get(name, 0.0), float(numpy.max(numpy.abs(array), initial=0.0)))
    return {"value": value, **states}


def _sgd(
    value: float,
    grad: float,
    states: States,
    step: int,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
) -> float:
    grad = grad_scale * grad + weight_decay * value
    if momentum:
        b = grad if step == 1 else momentum * states["momentum_buffer"] + (1 - dampening) * grad
        states["momentum_buffer"] = b
        grad = grad + momentum * b if nesterov else b
    return value - lr * grad


def _adagrad(
    value: float,
    grad: float,
    states: States,
    step: int,
    lr: float,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
) -> float:
    grad = grad_scale * grad + weight_decay * value
    states["square_sum"] += grad**2
    return value - lr / (1 + (step - 1) * lr_decay) * grad / (math.sqrt(states["square_sum"]) + eps)


def _rmsprop(
    value: float,
    grad: float,
    states: States,
    step: int,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    momentum: float = 0.0,
) -> float:
    grad = grad_scale * grad + weight_decay * value
    states["square_average"] = alpha * states["square_average"] + (1 - alpha) * grad**2
    variance = states["square_average"]
    if "grad_average" in states:
        states["grad_average"] = alpha * states["grad_average"] + (1 - alpha) * grad
        variance -= states["grad_average"] ** 2
    move = grad / (math.sqrt(variance) + eps)
    if "momentum_buffer" in states:
        move = states["momentum_buffer"] = momentum * states["momentum_buffer"] + move
    return value - lr * move


def _adam(
    value: float,
    grad: float,
    states: States,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    decoupled: bool = False,
) -> float:
    grad *= grad_scale
    if decoupled:
        value -= lr * weight_decay * value
    else:
        grad += weight_decay * value
    states["m"] = beta1 * states["m"] + (1 - beta1) * grad
    states["v"] = beta2 * states["v"] + (1 - beta2) * grad**2
    second = states["v"]
    if "v_max" in states:
        second = states["v_max"] = max(states["v_max"], states["v"])
    m_hat, v_hat = states["m"] / (1 - beta1**step), second / (1 - beta2**step)
    return value - lr * m_hat / (math.sqrt(v_hat) + eps)


def _step(step: int) -> dict[str, Any]:
    return {"step": step}


UPDATES: dict[str, UpdateSpec] = {
    spec.name: spec
    for spec in (
        UpdateSpec(
            name="sgd_update",
            states=("momentum_buffer",),
            cases=(
                UpdateCase("plain", (), {"lr": 0.1}),
                UpdateCase("weight decay", (), {"lr": 0.1, "weight_decay": 0.3}),
                UpdateCase("momentum", ("momentum_buffer",), {"lr": 0.1, "momentum": 0.9}),
                UpdateCase("dampening", ("momentum_buffer",), {"lr": 0.1, "momentum": 0.8, "dampening": 0.4}),
                UpdateCase(
                    "nesterov",
                    ("momentum_buffer",),
                    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2},
                ),
                UpdateCase("clipped", (), {"lr": 0.1, "grad_scale": 0.3}),
                UpdateCase(
                    "clipped momentum",
                    ("momentum_buffer",),
                    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2, "grad_scale": 0.3},
                ),
            ),
            oracle=_sgd,
            counter=lambda step: {"first_step": step == 1},
        ),
        UpdateSpec(
            name="adagrad_update",
            states=("square_sum",),
            cases=(
                UpdateCase("plain", ("square_sum",), {"lr": 0.1}),
                UpdateCase("decay", ("square_sum",), {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.3, "eps": 0.1}),
                UpdateCase("clipped", ("square_sum",), {"lr": 0.1, "weight_decay": 0.3, "grad_scale": 0.3, "eps": 0.1}),
            ),
            oracle=_adagrad,
            counter=_step,
        ),
        UpdateSpec(
            name="rmsprop_update",
            states=("square_average", "grad_average", "momentum_buffer"),
            cases=(
                UpdateCase("plain", ("square_average",), {"lr": 0.1}),
                UpdateCase(
                    "centred",
                    ("square_average", "grad_average"),
                    {"lr": 0.1, "alpha": 0.7, "eps": 0.1, "weight_decay": 0.3},
                ),
                UpdateCase(
                    "centred momentum",
                    ("square_average", "grad_average", "momentum_buffer"),
                    {"lr": 0.1, "alpha": 0.8, "momentum": 0.9, "eps": 0.01},
                ),
                UpdateCase("momentum", ("square_average", "momentum_buffer"), {"lr": 0.1, "momentum": 0.5}),
                UpdateCase("clipped", ("square_average",), {"lr": 0.1, "grad_scale": 0.3, "eps": 0.1}),
            ),
            oracle=_rmsprop,
            counter=lambda step: {},
            rounding=16.0,  # the centred variance is a difference
        ),
        UpdateSpec(
            name="adam_update",
            states=("m", "v", "v_max"),
            cases=(
                UpdateCase("plain", ("m", "v"), {"lr": 0.1}),
                UpdateCase("weight decay", ("m", "v"), {"lr": 0.1, "weight_decay": 0.3, "eps": 0.1}),
                UpdateCase("decoupled", ("m", "v"), {"lr": 0.1, "weight_decay": 0.3, "decoupled": True}),
                UpdateCase("amsgrad", ("m", "v", "v_max"), {"lr": 0.1, "beta1": 0.8, "beta2": 0.7}),
                UpdateCase("clipped", ("m", "v"), {"lr": 0.1, "weight_decay": 0.3, "grad_scale": 0.3, "eps": 0.1}),
            ),
            oracle=_adam,
            counter=_step,
        ),
    )
}
"""Every update, by name."""
