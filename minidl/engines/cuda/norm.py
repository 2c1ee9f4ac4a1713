"""Layer, group, root-mean-square and batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.engines.cuda.channels import sum_channels
from minidl.engines.cuda.dispatch import NOT_TAKEN, alike, dense, is_taken, new, number, override, storable, team, wide
from minidl.engines.cuda.source import launch
from minidl.ops import Array
from minidl.ops._scalars import is_count

__all__: list[str] = []

FILE = "norm/norm.cu"
Into = Sequence[Array | None] | None
Wanted = Sequence[bool] | None


def _parameters(x: Array, shape: tuple[int, ...], *parameters: Any) -> list[Array | None] | None:
    """Return the parameters without gaps, or None where one is not as it must be."""
    given = [p for p in parameters if p is not None]
    if not is_taken(x, *given) or any(p.shape != shape for p in given):
        return None
    return [None if p is None else dense(p) for p in parameters]


# rows ------------------------------------------------------------------------------------------------------------------------


def _features(x: Any, normalized_shape: Any) -> tuple[int, ...] | None:
    """Return the shape of the last axes that are normalised together, or None where the formula must object."""
    shape = normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,)
    if not is_taken(x) or not shape or not all(map(is_count, shape)) or not x.size:
        return None
    fits = len(shape) <= x.ndim and x.shape[x.ndim - len(shape) :] == shape and math.prod(shape) < 2**31
    return tuple(map(int, shape)) if fits else None


def _normalise_rows(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    columns: int,
    groups: int,
    positions: int,
    eps: float,
    centred: bool,
) -> tuple[Array, Array | None, Array]:
    """Return y, the means and the inverses of the rows."""
    rows, real = x.size // columns, wide(x)
    x = dense(x)
    y, inverses = new(x), new(x, (rows,), real)
    means = new(x, (rows,), real) if centred else None
    small = float(numpy.finfo(real).max) ** -0.6
    shape = (rows, numpy.int32(columns), numpy.int32(groups), numpy.int32(positions))
    arguments = (x, weight, bias, y, means, inverses, *shape, float(eps), small)
    launch(FILE, "rows_forward", x.dtype, *team(rows, columns), *arguments)
    return y, means, inverses


def _rows_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    means: Array | None,
    inverses: Array,
    columns: int,
    groups: int,
    positions: int,
) -> Array:
    """Return dx."""
    rows = x.size // columns
    dx = new(x)
    shape = (rows, numpy.int32(columns), numpy.int32(groups), numpy.int32(positions))
    launch(FILE, "rows_backward", x.dtype, *team(rows, columns), dy, x, weight, means, inverses, dx, *shape)
    return dx


@override("layer_norm")
def layer_norm(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: Any = 1e-5) -> Any:
    """See ``minidl.ops.norm.layer_norm``."""
    shape = _features(x, normalized_shape)
    parameters = None if shape is None else _parameters(x, shape, weight, bias)
    if shape is None or parameters is None or not number(eps):
        return NOT_TAKEN
    y, means, inverses = _normalise_rows(x, parameters[0], parameters[1], math.prod(shape), 1, 1, eps, centred=True)
    return y, (x, shape, weight, bias is not None, means, inverses)


@override("layer_norm_backward")
def layer_norm_backward(dy: Any, cache: Any, into: Into = None, add: Any = False, wanted: Wanted = None) -> Any:
    """See ``minidl.ops.norm.layer_norm_backward``."""
    x, shape, weight, has_bias, means, inverses = cache
    columns = math.prod(shape)
    statistics = (means, inverses, None, 0.0, 1, columns)
    return _backward(dy, x, weight, has_bias, shape, statistics, (columns, 1, 1), into, add, wanted)


@override("rms_norm")
def rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: Any = None) -> Any:
    """See ``minidl.ops.norm.rms_norm``."""
    shape = _features(x, normalized_shape)
    parameters = None if shape is None else _parameters(x, shape, weight)
    if shape is None or parameters is None or not (eps is None or number(eps)):
        return NOT_TAKEN
    eps = float(numpy.finfo(x.dtype).eps) if eps is None else eps
    y, _, inverses = _normalise_rows(x, parameters[0], None, math.prod(shape), 1, 1, eps, centred=False)
    return y, (x, shape, weight, inverses)


@override("rms_norm_backward")
def rms_norm_backward(dy: Any, cache: Any, into: Into = None, add: Any = False, wanted: Wanted = None) -> Any:
    """See ``minidl.ops.norm.rms_norm_backward``."""
    x, shape, weight, inverses = cache
    columns = math.prod(shape)
    statistics = (None, inverses, None, 0.0, 1, columns)
    return _backward(dy, x, weight, None, shape, statistics, (columns, 1, 1), into, add, wanted)


@override("group_norm")
def group_norm(x: Any, num_groups: Any, weight: Any = None, bias: Any = None, eps: Any = 1e-5) -> Any:
    """See ``minidl.ops.norm.group_norm``."""
    if not is_taken(x) or x.ndim < 2 or not x.size or not is_count(num_groups, 1) or x.shape[1] % num_groups:
        return NOT_TAKEN
    positions = math.prod(x.shape[2:])
    columns = x.shape[1] // int(num_groups) * positions
    parameters = _parameters(x, x.shape[1:2], weight, bias)
    if parameters is None or not number(eps) or columns >= 2**31:
        return NOT_TAKEN
    y, means, inverses = _normalise_rows(
        x, parameters[0], parameters[1], columns, int(num_groups), positions, eps, centred=True
    )
    return y, (x, num_groups, weight, bias is not None, means, inverses)


@override("group_norm_backward")
def group_norm_backward(dy: Any, cache: Any, into: Into = None, add: Any = False, wanted: Wanted = None) -> Any:
    """See ``minidl.ops.norm.group_norm_backward``."""
    x, num_groups, weight, has_bias, means, inverses = cache
    groups, positions = int(num_groups), math.prod(x.shape[2:])
    channels = x.shape[1] // groups
    statistics = (means, inverses, None, 0.0, groups, channels)
    rows = (channels * positions, groups, positions)
    return _backward(dy, x, weight, has_bias, x.shape[1:2], statistics, rows, into, add, wanted)


# channels --------------------------------------------------------------------------------------------------------------------


def _total(x: Array, partials: Array, divisor: float, *outputs: Any) -> None:
    """Add the partial sums up, into arrays for the next kernel or into gradients."""
    blocks, channels, _ = partials.shape
    shape = (numpy.int32(blocks), numpy.int32(channels))
    launch(FILE, "channel_totals", x.dtype, -(-channels // 128), 128, partials, *shape, float(divisor), *outputs)


def _matrix(x: Array, positions: int) -> tuple[int, int]:
    """Return the rows and columns as which a kernel over channels sees x."""
    columns = x.shape[1] if positions == 1 else positions
    return x.size // columns, columns


@override("batch_norm")
def batch_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    training: Any = True,
    eps: Any = 1e-5,
) -> Any:
    """See ``minidl.ops.norm.batch_norm``."""
    if not is_taken(x) or x.ndim < 2 or not x.size or x.shape[1] >= 2**31 or not number(eps):
        return NOT_TAKEN
    running = () if training else (running_mean, running_var)
    parameters = _parameters(x, x.shape[1:2], weight, bias)
    if parameters is None or None in [r if r is None else 0 for r in running]:
        return NOT_TAKEN
    if _parameters(x, x.shape[1:2], *running) is None:
        return NOT_TAKEN
    channels, positions, real = x.shape[1], math.prod(x.shape[2:]), wide(x)
    given, x = x, dense(x)
    if training:
        mean, var = new(x, (channels,), real), new(x, (channels,), real)
        count = x.size / channels
        partials = sum_channels(FILE, "channel_means", x, positions, channels, x, pairs=True)
        _total(x, partials, count, mean, None, None, False, None, False)
        partials = sum_channels(FILE, "channel_variances", x, positions, channels, x, mean, pairs=True)
        _total(x, partials, count, var, None, None, False, None, False)
    else:
        mean, var = (dense(r.astype(real, copy=False)) for r in running)
    y, (rows, columns) = new(x), _matrix(x, positions)
    shape = (rows, numpy.int32(columns), numpy.int32(channels), numpy.int32(positions), float(eps))
    launch(FILE, "channel_forward", x.dtype, *team(rows, columns), x, mean, var, *parameters, y, *shape)
    return y, (given, weight, bias is not None, mean, var, training, eps)


@override("batch_norm_backward")
def batch_norm_backward(dy: Any, cache: Any, into: Into = None, add: Any = False, wanted: Wanted = None) -> Any:
    """See ``minidl.ops.norm.batch_norm_backward``."""
    x, weight, has_bias, mean, var, training, eps = cache
    statistics = (mean, None, var, float(eps), 0, 1)
    return _backward(dy, x, weight, has_bias, x.shape[1:2], statistics, None, into, add, wanted, through=bool(training))


def _backward(
    dy: Any,
    x: Array,
    weight: Array | None,
    has_bias: bool | None,
    shape: tuple[int, ...],
    statistics: tuple[Array | None, Array | None, Array | None, float, int, int],
    rows: tuple[int, int, int] | None,
    into: Into,
    add: Any,
    wanted: Wanted,
    through: bool = True,
) -> Any:
    """Return dx, dweight and, unless has_bias is None, dbias.

    ``statistics`` are means, inverses, variances, eps, statistics of a row, channels of each; ``rows`` are columns, groups
    and positions where rows are normalised, and None where channels are.
    """
    parameters = 1 if has_bias is None else 2
    if not alike(x, dy) or not x.size or (weight is not None and not is_taken(x, weight)):
        return NOT_TAKEN
    if not storable(into, wanted, [shape] * parameters, 1, x):
        return NOT_TAKEN
    dy, x, weight = dense(dy), dense(x), None if weight is None else dense(weight)
    means, inverses, variances, eps, of_row, width = statistics
    channels, positions = (math.prod(shape), 1) if rows and rows[1:] == (1, 1) else (x.shape[1], math.prod(x.shape[2:]))
    of_weight = weight is not None and (wanted is None or bool(wanted[1]))
    of_bias = bool(has_bias) and (wanted is None or bool(wanted[2]))
    of_x = wanted is None or bool(wanted[0])
    partials = dx = None
    if of_weight or of_bias or (of_x and rows is None and through):
        arguments = (dy, x, means, inverses, variances, eps)
        after = (numpy.int32(of_row), numpy.int32(width))
        partials = sum_channels(FILE, "channel_gradients", x, positions, channels, *arguments, after=after, pairs=True)
    if of_x and rows is not None:
        dx = _rows_backward(dy, x, weight, means, inverses, *rows)  # type: ignore[arg-type]
    elif of_x:
        dx = _channels_backward(dy, x, weight, means, variances, eps, partials if through else None)
    outputs: list[Any] = []
    for position, needed in ((1, of_bias), (0, of_weight)):
        given = into[position] if needed and into is not None else None
        target = (new(x, shape) if given is None else given) if needed else None
        outputs += [target, bool(add) and given is not None]
    if partials is not None and (of_bias or of_weight):
        _total(x, partials, 1.0, None, None, *outputs)
    return (dx, outputs[2]) if has_bias is None else (dx, outputs[2], outputs[0])


def _channels_backward(
    dy: Array, x: Array, weight: Array | None, means: Any, variances: Any, eps: float, partials: Array | None
) -> Array:
    """Return dx of batch normalisation; without partial sums, that of running statistics."""
    channels, positions, real = x.shape[1], math.prod(x.shape[2:]), wide(x)
    mean_dy = mean_product = None
    if partials is not None:
        mean_dy, mean_product = new(x, (channels,), real), new(x, (channels,), real)
        _total(x, partials, x.size / channels, mean_dy, mean_product, None, False, None, False)
    dx, (rows, columns) = new(x), _matrix(x, positions)
    shape = (rows, numpy.int32(columns), numpy.int32(channels), numpy.int32(positions), eps)
    arguments = (dy, x, means, variances, weight, mean_dy, mean_product, dx, *shape)
    launch(FILE, "channel_backward", x.dtype, *team(rows, columns), *arguments)
    return dx
