"""Convolutions, with their columns by kernels and their products as the formulas have them, and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from minidl.engines.cuda.channels import bias_gradient
from minidl.engines.cuda.dispatch import NOT_TAKEN, blocks_for, dense, is_taken, new, override, storable, wide
from minidl.engines.cuda.source import launch
from minidl.ops import Array, conv
from minidl.ops._checks import widen_float16
from minidl.ops._gradients import ALL_WANTED, parameter_gradients
from minidl.ops._pooling import Pooling, pooling, require_batch
from minidl.ops._windows import Windows, windows, windows_of_transposed
from minidl.ops.pool import find_indices
from minidl.ops.precision import product

__all__: list[str] = []

COLUMNS, POOL = "conv/columns.cu", "image/pool.cu"
THREADS = 256


def _geometry(w: Windows | Pooling) -> list[Any] | None:
    """Return kernel, stride, padding before, dilation, image and output for the kernels, two axes each; None if too large."""
    before = tuple(p[0] for p in w.padding)
    both = [
        (*(least,) * (2 - len(of)), *of)
        for of, least in ((w.kernel, 1), (w.stride, 1), (before, 0), (w.dilation, 1), (w.image, 1), (w.output, 1))
    ]
    reach = (abs(o * s) + k * d + abs(b) + n for k, s, b, d, n, o in zip(*both, strict=True))
    return [numpy.int32(n) for pair in both for n in pair] if max(reach) < 2**31 else None


def _each(kernel: str, file: str, dtype: Any, count: int, *arguments: Any) -> None:
    launch(file, kernel, dtype, blocks_for(count, THREADS), THREADS, *arguments)


# convolutions ----------------------------------------------------------------------------------------------------------------


def _im2col(x: Array, w: Windows) -> Array:
    """Lay out the pixels that each output sees: (N, C, *image) to (N, G, C/G k, P), where float16 becomes float32."""
    planes, outputs = x.shape[0] * x.shape[1], math.prod(w.output)
    shape = x.shape[0], w.groups, x.shape[1] // w.groups * math.prod(w.kernel), outputs
    if math.prod(w.kernel) == 1 and math.prod(w.stride) == 1 and w.output == w.image and not any(map(any, w.padding)):
        return widen_float16(x).reshape(shape)
    columns = new(x, shape, wide(x))
    _each("image_to_columns", COLUMNS, x.dtype, planes * outputs, dense(x), columns, planes, *(_geometry(w) or ()))
    return columns


def _col2im(columns: Array, channels: int, w: Windows, dtype: Any) -> Array:
    """Add every element of columns to its pixel: (N, G, C/G k, P) to (N, C, *image)."""
    planes = columns.shape[0] * channels
    x = new(columns, (columns.shape[0], channels, *w.image), dtype)
    _each("columns_to_image", COLUMNS, dtype, x.size, dense(columns), x, planes, *(_geometry(w) or ()))
    return x


def _slide(x: Array, weight: Array, w: Windows) -> Array:
    kernels = conv._to_kernel_matrices(widen_float16(weight), w)  # (G, O/G, C/G k)
    y = product(kernels, _im2col(x, w), x.dtype)  # (N, G, O/G, P)
    return y.reshape((x.shape[0], weight.shape[0], *w.output)).astype(x.dtype, copy=False)  # (N, O, *output)


def _spread(g: Array, weight: Array, w: Windows) -> Array:
    kernels = conv._to_kernel_matrices(widen_float16(weight), w).swapaxes(-1, -2)  # (G, C/G k, O/G)
    columns = product(kernels, conv._split_groups(widen_float16(g), w), g.dtype)  # (N, G, C/G k, P)
    return _col2im(columns, weight.shape[1] * w.groups, w, g.dtype)  # (N, C, *image)


def _kernel_gradient(x: Array, g: Array, weight: Array, w: Windows) -> Array:
    rows = conv._join_images(conv._split_groups(widen_float16(g), w))  # (G, O/G, N P)
    columns = conv._join_images(_im2col(x, w)).swapaxes(-1, -2)  # (G, N P, C/G k)
    return product(rows, columns, x.dtype).reshape(weight.shape).astype(x.dtype, copy=False)  # (O, C/G, *kernel)


def _bias_gradient(dy: Array) -> Array:
    return bias_gradient(dy, dy.shape[1], math.prod(dy.shape[2:]))  # (O,)


def _fits(axes: int, x: Any, weight: Any, bias: Any) -> bool:
    arrays = (x, weight) if bias is None else (x, weight, bias)
    return is_taken(*arrays) and x.ndim == weight.ndim == axes + 2 and x.size > 0 and weight.size > 0


def _define_convolution(axes: int) -> None:
    """Register the convolution along one or two axes and its adjoint."""

    def forward(
        x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
    ) -> Any:
        if not _fits(axes, x, weight, bias):
            return NOT_TAKEN
        w = windows(f"conv{axes}d", axes, x.shape, weight.shape, stride, padding, dilation, groups)
        if _geometry(w) is None:
            return NOT_TAKEN
        y = conv._add_bias(f"conv{axes}d", _slide(x, weight, w), bias, weight.shape[0])  # (N, O, *output)
        return y, (x, weight, bias is not None, w)

    def transposed(
        x: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: Any = 1,
        dilation: Any = 1,
    ) -> Any:
        if not _fits(axes, x, weight, bias):
            return NOT_TAKEN
        op = f"conv_transpose{axes}d"
        w = windows_of_transposed(op, axes, x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
        if _geometry(w) is None:
            return NOT_TAKEN
        y = conv._add_bias(op, _spread(x, weight, w), bias, w.groups * weight.shape[1])  # (N, O, *image)
        return y, (x, weight, bias is not None, w)

    @parameter_gradients("weight", "bias")
    def gradients(dy: Any, cache: Any, wanted: Sequence[bool] = ALL_WANTED) -> Any:
        x, weight, has_bias, w = cache
        dx = _spread(dy, weight, w) if wanted[0] else None  # (N, C, *image)
        dweight = _kernel_gradient(x, dy, weight, w) if wanted[1] else None  # (O, C / groups, *kernel)
        return dx, dweight, _bias_gradient(dy) if wanted[2] and has_bias else None

    @parameter_gradients("weight", "bias")
    def gradients_of_transposed(dy: Any, cache: Any, wanted: Sequence[bool] = ALL_WANTED) -> Any:
        x, weight, has_bias, w = cache
        dx = _slide(dy, weight, w) if wanted[0] else None  # (N, C, *output)
        dweight = _kernel_gradient(dy, x, weight, w) if wanted[1] else None  # (C, O / groups, *kernel)
        return dx, dweight, _bias_gradient(dy) if wanted[2] and has_bias else None

    def checked(computed: Callable[..., Any], is_transposed: bool) -> Callable[..., Any]:
        def backward(dy: Any, cache: Any, into: Any = None, add: Any = False, wanted: Any = None) -> Any:
            x, weight, _, w = cache
            channels, of_y = (w.groups * weight.shape[1], w.image) if is_transposed else (weight.shape[0], w.output)
            shape = x.shape[0], channels, *of_y
            if not _fits(axes, x, weight, dy) or not dy.size or dy.shape != shape or _geometry(w) is None:
                return NOT_TAKEN
            if not storable(into, wanted, [weight.shape, (channels,)], 1, x):
                return NOT_TAKEN
            return computed(dense(dy), cache, into=into, add=add, wanted=wanted)

        return backward

    override(f"conv{axes}d")(forward)
    override(f"conv_transpose{axes}d")(transposed)
    override(f"conv{axes}d_backward")(checked(gradients, False))
    override(f"conv_transpose{axes}d_backward")(checked(gradients_of_transposed, True))


# pooling ---------------------------------------------------------------------------------------------------------------------


def _after(w: Pooling) -> list[Any]:
    """Return the padding behind the image, for two axes."""
    return [numpy.int32(n) for n in (*(0,) * (2 - len(w.padding)), *(p[1] for p in w.padding))]


def _positions(won: Array) -> tuple[Array | None, Array | None]:
    """Return the array as the kernels take it: of bytes, or of 32 bits."""
    return (won, None) if won.dtype == numpy.uint8 else (None, won)


def _is_batch(x: Any, axes: int) -> bool:
    return is_taken(x) and x.ndim == axes + 2 and x.size > 0


def _define_pooling(axes: int) -> None:
    """Register the poolings along one or two axes."""
    of_max, of_mean = f"max_pool{axes}d", f"avg_pool{axes}d"

    def max_pool(
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: Any = False,
        return_indices: Any = False,
    ) -> Any:
        if not _is_batch(x, axes):
            return NOT_TAKEN
        require_batch(x, axes, of_max)
        w = pooling(of_max, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
        geometry = _geometry(w)
        if geometry is None:
            return NOT_TAKEN
        y = new(x, (*x.shape[:2], *w.output))
        won = new(x, y.shape, "uint8" if math.prod(w.kernel) < 256 else "int32")
        planes = x.shape[0] * x.shape[1]
        _each("max_pool_forward", POOL, x.dtype, y.size, dense(x), y, *_positions(won), planes, *geometry)
        return (y, find_indices(won, w)) if return_indices else y, (won, x.dtype, w)

    def max_pool_backward(dy: Any, cache: Any) -> Any:
        won, dtype, w = cache
        geometry = _geometry(w)
        if not _is_batch(dy, axes) or dy.dtype != dtype or dy.shape != won.shape or geometry is None:
            return NOT_TAKEN
        dx, planes = new(dy, (*dy.shape[:2], *w.image)), dy.shape[0] * dy.shape[1]
        positions = _positions(dense(won))
        _each("max_pool_backward", POOL, dtype, dx.size, dense(dy), *positions, dx, planes, *geometry)
        return dx

    def avg_pool(
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: Any = False,
        count_include_pad: Any = True,
    ) -> Any:
        if not _is_batch(x, axes):
            return NOT_TAKEN
        require_batch(x, axes, of_mean)
        w = pooling(of_mean, x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
        geometry = _geometry(w)
        if geometry is None:
            return NOT_TAKEN
        y, planes = new(x, (*x.shape[:2], *w.output)), x.shape[0] * x.shape[1]
        rest = (planes, *geometry, *_after(w), bool(count_include_pad))
        _each("avg_pool_forward", POOL, x.dtype, y.size, dense(x), y, *rest)
        return y, (x.shape, x.dtype, w, count_include_pad)

    def avg_pool_backward(dy: Any, cache: Any) -> Any:
        shape, dtype, w, count_include_pad = cache
        geometry = _geometry(w)
        if not _is_batch(dy, axes) or dy.dtype != dtype or dy.shape != (*shape[:2], *w.output) or geometry is None:
            return NOT_TAKEN
        dx = new(dy, shape)
        rest = (shape[0] * shape[1], *geometry, *_after(w), bool(count_include_pad))
        _each("avg_pool_backward", POOL, dtype, dx.size, dense(dy), dx, *rest)
        return dx

    override(of_max)(max_pool)
    override(f"{of_max}_backward")(max_pool_backward)
    override(of_mean)(avg_pool)
    override(f"{of_mean}_backward")(avg_pool_backward)


for _axes in (1, 2):
    _define_convolution(_axes)
    _define_pooling(_axes)
