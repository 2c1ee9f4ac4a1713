"""What the recurrent ops share: checks of their arguments, and the order in which a sequence is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops._checks import require_same_dtype, sum_widened, widen_float16
from minidl.ops._later import are_later, refuse_any
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops.precision import product

__all__ = [
    "arrange_backward",
    "arrange_steps",
    "check_sequences",
    "check_upstream",
    "find_running",
    "parameter_sums",
    "project",
    "restore_batch",
    "start_state",
]


def check_sequences(
    op: str,
    gates: int,
    x: Array,
    weights: tuple[Array, Array],
    biases: tuple[Array | None, Array | None],
    states: Mapping[str, Array | None],
    lengths: Array | None,
) -> Array | None:
    """Raise unless the arguments of a recurrent op with so many gates fit; return the lengths as an array beside x."""
    weight_ih, weight_hh = weights
    require_float(x, "x", op)
    if x.ndim != 3:
        raise ShapeError(f"{op}: x must have shape (N, T, C), batch first, got {x.shape}")
    for name, weight in (("weight_ih", weight_ih), ("weight_hh", weight_hh)):
        require_float(weight, name, op)
        require_same_dtype(weight, x, name, "x", op)
    hidden = weight_hh.shape[-1] if weight_hh.ndim else 0
    rows = f"{gates} H" if gates > 1 else "H"
    if weight_hh.shape != (gates * hidden, hidden) or hidden < 1:
        raise ShapeError(f"{op}: weight_hh must have shape ({rows}, H), got {weight_hh.shape}")
    if weight_ih.shape != (gates * hidden, x.shape[2]):
        raise ShapeError(
            f"{op}: weight_ih must have shape {(gates * hidden, x.shape[2])} for x of shape {x.shape} and weight_hh of "
            f"shape {weight_hh.shape}, got {weight_ih.shape}"
        )
    if x.shape[1] < 1:
        raise ShapeError(f"{op}: x must have at least one step, got shape {x.shape}")
    expected = dict.fromkeys(states, (x.shape[0], hidden)) | dict.fromkeys(("bias_ih", "bias_hh"), (gates * hidden,))
    for name, array in {**states, "bias_ih": biases[0], "bias_hh": biases[1]}.items():
        if array is None:
            continue
        require_float(array, name, op)
        require_same_dtype(array, x, name, "x", op)
        if array.shape != expected[name]:
            raise ShapeError(f"{op}: {name} must have shape {expected[name]}, got {array.shape}")
    return None if lengths is None else _check_lengths(op, x, lengths)


def _check_lengths(op: str, x: Array, lengths: Array) -> Array:
    xp = namespace(x)
    batch, steps, _ = x.shape
    lengths = xp.asarray(lengths)
    if lengths.dtype.kind not in "iu":
        raise DtypeError(
            f"{op}: lengths must be integers, got dtype {lengths.dtype}; an initial state goes into an argument of its own"
        )
    if lengths.shape != (batch,):
        raise ShapeError(f"{op}: lengths must have shape {(batch,)}, one for each sequence, got {lengths.shape}")
    bad = (lengths < 1) | (lengths > steps)

    def complain() -> NoReturn:
        place = int(bad.argmax())
        raise ParameterError(
            f"{op}: lengths[{place}] is {int(lengths[place])}, but a length must be from 1 to the {steps} steps of x; leave "
            "empty sequences out of the batch"
        )

    refuse_any(bad, complain)
    lengths = lengths.astype("int64")
    return xp.clip(lengths, 1, steps) if are_later(lengths) else lengths


def check_upstream(
    op: str, gradients: Sequence[Array | None], names: Sequence[str], shapes: Sequence[tuple[int, ...]], like: Array
) -> None:
    """Raise unless each upstream gradient is None or fits its output."""
    if not isinstance(gradients, (tuple, list)) or len(gradients) != len(names):
        raise ParameterError(
            f"{op}: expected a tuple of the upstream gradients ({', '.join(names)}), None where there is none"
        )
    for gradient, name, shape in zip(gradients, names, shapes, strict=True):
        if gradient is None:
            continue
        require_float(gradient, name, op)
        require_same_dtype(gradient, like, name, "y", op)
        if gradient.shape != shape:
            raise ShapeError(f"{op}: {name} must have shape {shape}, got {gradient.shape}")


# the order of steps ---------------------------------------------------------------------------------------------------


def find_running(lengths: Array | None, steps: int) -> Array | None:
    """Return which sequences still run at each step, (T, N, 1); None if all do."""
    if lengths is None:
        return None
    return (namespace(lengths).arange(steps)[:, None] < lengths)[..., None]


def _reversed(x: Array, lengths: Array | None) -> Array:
    """Turn each sequence around within its length, which undoes itself."""
    if lengths is None:
        return x[:, ::-1]
    xp = namespace(lengths)
    t, n = xp.arange(x.shape[1]), lengths[:, None]  # (T,), (N, 1)
    order = xp.where(t < n, n - 1 - t, t)  # (N, T)
    return x[xp.arange(x.shape[0])[:, None], order]


def arrange_steps(x: Array, lengths: Array | None, reverse: bool) -> Array:
    """Return x step by step in the order of reading, (T, N, C), with zeros for padding."""
    xp = namespace(x)
    steps = (_reversed(x, lengths) if reverse else x).swapaxes(0, 1)  # (T, N, C)
    running = find_running(lengths, x.shape[1])
    if running is not None:
        steps = xp.where(running, steps, 0)
    return widen_float16(xp.ascontiguousarray(steps))


def restore_batch(steps: Array, lengths: Array | None, reverse: bool, dtype: Any) -> Array:
    """Undo :func:`arrange_steps`: return (N, T, C), with zeros for padding."""
    xp = namespace(steps)
    running = find_running(lengths, steps.shape[0])
    if running is not None:
        steps = xp.where(running, steps, 0)
    x = steps.swapaxes(0, 1)  # (N, T, C)
    return xp.ascontiguousarray(_reversed(x, lengths) if reverse else x).astype(dtype, copy=False)


def arrange_backward(dy: Array | None, like: Array, lengths: Array | None, reverse: bool) -> Array:
    """Return the gradients of the outputs step by step, (T, N, H) as ``like``; zeros if there are none."""
    return namespace(like).zeros(like.shape, dtype=like.dtype) if dy is None else arrange_steps(dy, lengths, reverse)


def start_state(state: Array | None, x: Array, hidden: int) -> Array:
    """Return the initial state, or zeros: (N, H)."""
    if state is None:
        state = namespace(x).zeros((x.shape[0], hidden), dtype=x.dtype)
    return widen_float16(state)


# products over all steps ----------------------------------------------------------------------------------------------


def project(steps: Array, weight: Array, bias: Array | None) -> Array:
    """Return W x + b of all steps by one product: (T, N, rows of W)."""
    rows = steps.reshape((math.prod(steps.shape[:-1]), steps.shape[-1]))  # (T N, C)
    y = product(rows, widen_float16(weight).T, weight.dtype)
    if bias is not None:
        y = y + widen_float16(bias)
    return y.reshape((*steps.shape[:-1], weight.shape[0]))


def parameter_sums(
    da: Array, steps: Array, wanted_weight: bool, wanted_bias: bool, dtype: Any
) -> tuple[Array | None, Array | None]:
    """Return sum_t da_t^T x_t by one product, and sum_t da_t, each only if it is wanted."""
    rows = da.reshape((math.prod(da.shape[:-1]), da.shape[-1]))  # (T N, rows of W)
    inputs = steps.reshape((math.prod(steps.shape[:-1]), steps.shape[-1]))  # (T N, C)
    dweight = product(rows.T, inputs, dtype).astype(dtype, copy=False) if wanted_weight else None
    dbias = sum_widened(rows, axis=0).astype(dtype, copy=False) if wanted_bias else None
    return dweight, dbias
