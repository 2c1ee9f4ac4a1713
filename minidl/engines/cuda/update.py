"""The optimisers' updates."""

from __future__ import annotations

import math
from typing import Any

from minidl.engines.cuda.dispatch import NOT_TAKEN, blocks_for, is_taken, number, override, wide
from minidl.engines.cuda.source import launch
from minidl.ops import Array
from minidl.ops._scalars import is_count

__all__: list[str] = []

FILE = "update/updates.cu"
THREADS = 256


def _fit(value: Any, grad: Any, *states: Any) -> bool:
    """Whether the arrays can be updated in place: of one shape, without gaps, the states in the precision of the computation."""
    if not is_taken(value, grad) or grad.shape != value.shape or not value.flags.c_contiguous:
        return False
    given = [state for state in states if state is not None]
    return all(
        type(state) is type(value)
        and state.dtype == wide(value)
        and state.shape == value.shape
        and state.flags.c_contiguous
        for state in given
    )


def _scale(grad_scale: Any, value: Array) -> tuple[float, Array | None] | None:
    """Return the factor of the gradient as a number and as an array on the device, one of the two; None where it is neither."""
    if number(grad_scale):
        return float(grad_scale), None
    if type(grad_scale) is type(value) and grad_scale.ndim == 0 and grad_scale.dtype.kind == "f":
        return 1.0, grad_scale.astype(wide(value), copy=False)
    return None


def _launch(kernel: str, value: Array, grad: Array, *arguments: Any) -> None:
    if value.size:
        grid = blocks_for(value.size, THREADS * 16 // value.dtype.itemsize)
        grad = grad if grad.flags.c_contiguous else grad.copy()
        launch(FILE, kernel, value.dtype, grid, THREADS, value, grad, *arguments)


@override("sgd_update")
def sgd_update(
    value: Any,
    grad: Any,
    momentum_buffer: Any,
    *,
    lr: Any,
    momentum: Any = 0.0,
    dampening: Any = 0.0,
    nesterov: Any = False,
    weight_decay: Any = 0.0,
    grad_scale: Any = 1.0,
    first_step: Any = False,
) -> Any:
    """See ``minidl.ops.update.sgd_update``."""
    if not all(map(number, (lr, momentum, dampening, weight_decay))) or not _fit(value, grad, momentum_buffer):
        return NOT_TAKEN
    scale = _scale(grad_scale, value)
    if scale is None or (momentum and momentum_buffer is None):
        return NOT_TAKEN
    buffer = momentum_buffer if momentum else None
    settings = [float(s) for s in (lr, momentum, 1 - dampening, weight_decay)]
    _launch("sgd_update", value, grad, buffer, value.size, *settings, *scale, bool(first_step), bool(nesterov))
    return None


@override("adagrad_update")
def adagrad_update(
    value: Any,
    grad: Any,
    square_sum: Any,
    *,
    lr: Any,
    lr_decay: Any = 0.0,
    eps: Any = 1e-10,
    weight_decay: Any = 0.0,
    grad_scale: Any = 1.0,
    step: Any,
) -> Any:
    """See ``minidl.ops.update.adagrad_update``."""
    if (
        not all(map(number, (lr, lr_decay, eps, weight_decay)))
        or square_sum is None
        or not _fit(value, grad, square_sum)
    ):
        return NOT_TAKEN
    scale = _scale(grad_scale, value)
    if scale is None or not is_count(step, 1) or not lr_decay >= 0:
        return NOT_TAKEN
    settings = [float(s) for s in (lr / (1 + (step - 1) * lr_decay), eps, weight_decay)]
    _launch("adagrad_update", value, grad, square_sum, value.size, *settings, *scale)
    return None


@override("rmsprop_update")
def rmsprop_update(
    value: Any,
    grad: Any,
    square_average: Any,
    grad_average: Any,
    momentum_buffer: Any,
    *,
    lr: Any,
    alpha: Any = 0.99,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    grad_scale: Any = 1.0,
    momentum: Any = 0.0,
) -> Any:
    """See ``minidl.ops.update.rmsprop_update``."""
    states = (square_average, grad_average, momentum_buffer)
    if not all(map(number, (lr, alpha, eps, weight_decay, momentum))) or square_average is None:
        return NOT_TAKEN
    scale = _scale(grad_scale, value) if _fit(value, grad, *states) else None
    if scale is None or (momentum and momentum_buffer is None):
        return NOT_TAKEN
    settings = [float(s) for s in (lr, alpha, 1 - alpha, eps, momentum, weight_decay)]
    _launch("rmsprop_update", value, grad, *states, value.size, *settings, *scale)
    return None


@override("adam_update")
def adam_update(
    value: Any,
    grad: Any,
    m: Any,
    v: Any,
    v_max: Any,
    *,
    lr: Any,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    grad_scale: Any = 1.0,
    decoupled: Any = False,
    step: Any,
) -> Any:
    """See ``minidl.ops.update.adam_update``."""
    if not all(map(number, (lr, beta1, beta2, eps, weight_decay))) or m is None or v is None or not is_count(step, 1):
        return NOT_TAKEN
    scale = _scale(grad_scale, value) if _fit(value, grad, m, v, v_max) else None
    if scale is None or not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        return NOT_TAKEN
    rates = (lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step), 1 - beta1, beta2, 1 - beta2, eps)
    decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    settings = [float(s) for s in (*rates, *decay)]
    _launch("adam_update", value, grad, m, v, v_max, value.size, *settings, *scale)
    return None
