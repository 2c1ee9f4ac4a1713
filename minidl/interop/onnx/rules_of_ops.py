"""One rule for each op of minidl: the nodes that compute it. A rule takes the op's arguments and returns (y, None), as the op does.

Elementwise functions are in the first table, the others below in the order of ``minidl.ops``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy

from minidl.errors import ShapeError
from minidl.interop.onnx.drawing import Symbol
from minidl.interop.onnx.lengths import Length

__all__ = ["RULES", "rule"]

RULES: dict[str, Callable[..., Any]] = {}
"""The rule of each op, by its name."""


def rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function the rule of ops; what it returns is y, to which None is added in place of the cache."""

    def keep(draw: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(draw)
        def run(*args: Any, **how: Any) -> tuple[Any, None]:
            return draw(*args, **how), None

        RULES.update(dict.fromkeys(names, run))
        return draw

    return keep


def like(x: Symbol, number: float) -> numpy.ndarray:
    """Return a number in the precision of x."""
    return numpy.asarray(number, x.dtype)


def require(x: Symbol, axis: int, size: int, op: str) -> None:
    """Raise unless an axis has this length, which it then has in every run."""
    if x.ndim < abs(axis) or x.shape[axis] != size:
        raise ShapeError(f"export: {op} needs {size} elements on axis {axis} of x, got shape {x.shape}")


# functions of one element ------------------------------------------------------------------------------------------------

_ELEMENTWISE: dict[str, tuple[str, int, Callable[..., dict[str, Any]]]] = {
    "relu": ("Relu", 1, dict),
    "sigmoid": ("Sigmoid", 1, dict),
    "tanh": ("Tanh", 1, dict),
    "softsign": ("Softsign", 1, dict),
    "leaky_relu": ("LeakyRelu", 1, lambda negative_slope=0.01: {"alpha": float(negative_slope)}),
    "elu": ("Elu", 1, lambda alpha=1.0: {"alpha": float(alpha)}),
    "celu": ("Celu", 12, lambda alpha=1.0: {"alpha": float(alpha)}),
    "selu": ("Selu", 6, dict),
    "gelu": ("Gelu", 20, lambda approximate="none": {"approximate": approximate}),
    "mish": ("Mish", 18, dict),
    "hardswish": ("HardSwish", 14, dict),
    "hardsigmoid": ("HardSigmoid", 6, lambda: {"alpha": 1 / 6, "beta": 0.5}),
    "softmax": ("Softmax", 13, lambda axis=-1: {"axis": int(axis)}),
    "log_softmax": ("LogSoftmax", 13, lambda axis=-1: {"axis": int(axis)}),
}
"""Op, operator, the opset that has it in this form, and its attributes for the op's settings."""

for _op, (_kind, _since, _attributes) in _ELEMENTWISE.items():

    def _draw(x: Symbol, *settings: Any, axis: Any = None, _rule: Any = (_kind, _since, _attributes)) -> Symbol:
        kind, since, attributes = _rule
        return x.drawing.one(kind, x, since=since, **attributes(*settings, *([] if axis is None else [axis])))

    rule(_op)(_draw)


@rule("relu6")
def _relu6(x: Symbol) -> Symbol:
    return x.drawing.one("Clip", x, like(x, 0), like(x, 6))


@rule("hardtanh")
def _hardtanh(x: Symbol, min_val: float = -1.0, max_val: float = 1.0) -> Symbol:
    return x.drawing.one("Clip", x, like(x, min_val), like(x, max_val))


@rule("silu")
def _silu(x: Symbol) -> Symbol:
    return x * x.drawing.one("Sigmoid", x)


@rule("quick_gelu")
def _quick_gelu(x: Symbol) -> Symbol:
    return x * x.drawing.one("Sigmoid", x * like(x, 1.702))


@rule("softplus")
def _softplus(x: Symbol, beta: float = 1.0, threshold: float = 20.0) -> Symbol:
    """Beyond the threshold it is x itself, as in PyTorch."""
    scaled = x if beta == 1 else x * like(x, beta)
    y = x.drawing.one("Softplus", scaled)
    y = y if beta == 1 else y / like(x, beta)
    return x.__array_namespace__().where(scaled > like(x, threshold), x, y)


@rule("prelu")
def _prelu(x: Symbol, weight: Symbol) -> Symbol:
    ones = (1,) * (x.ndim - 2)
    slope = weight.reshape((-1, *ones)) if weight.shape != (1,) and ones else weight
    return x.drawing.one("PRelu", x, slope, since=9)


@rule("glu")
def _glu(x: Symbol, axis: int = -1) -> Symbol:
    at = axis % x.ndim
    half = x.shape[at] // 2
    before = (slice(None),) * at
    return x[(*before, slice(0, half))] * x.drawing.one("Sigmoid", x[(*before, slice(half, None))])


@rule("dropout", "dropout2d")
def _dropout(x: Symbol, p: float = 0.5, random: Any = None) -> Symbol:
    return x  # only reached in training, in which nothing is exported


# products ----------------------------------------------------------------------------------------------------------------


@rule("linear")
def _linear(x: Symbol, weight: Symbol, bias: Symbol | None = None) -> Symbol:
    """Gemm takes (out, in) as it is; for more axes the weight is turned, which runtimes do once, when they read the file."""
    require(x, -1, int(weight.shape[1]), "linear")
    if x.ndim == 2:
        inputs = (x, weight) if bias is None else (x, weight, bias)
        return x.drawing.one("Gemm", *inputs, shape=(x.shape[0], weight.shape[0]), since=11, transB=1)
    y = x.drawing.one("MatMul", x, weight.T, shape=(*x.shape[:-1], weight.shape[0]))
    return y if bias is None else y + bias


@rule("matmul")
def _matmul(
    a: Symbol,
    b: Symbol,
    transpose_a: bool = False,
    transpose_b: bool = False,
    out: Any = None,
    accumulate: bool = False,
) -> Symbol:
    a = a.swapaxes(-1, -2) if transpose_a else a
    return a @ (b.swapaxes(-1, -2) if transpose_b else b)


@rule("embedding")
def _embedding(ids: Symbol, weight: Symbol, padding_idx: int | None = None) -> Symbol:
    return weight.take(ids, axis=0)


# convolutions ------------------------------------------------------------------------------------------------------------


def each(value: Any, axes: int) -> list[int]:
    """Return a setting for each axis."""
    return [int(v) for v in value] if isinstance(value, (tuple, list)) else [int(value)] * axes


def pads(padding: Any, image: Any, kernel: list[int], stride: list[int], dilation: list[int]) -> list[tuple[int, int]]:
    """Return the padding (before, after) of each axis; "same" with a stride depends on the lengths, which are fixed then."""
    axes = len(kernel)
    if padding == "valid":
        return [(0, 0)] * axes
    if padding == "same":
        found = []
        for n, k, s, d in zip(image, kernel, stride, dilation, strict=True):
            total = d * (k - 1)
            if s > 1:
                total = max((-(-int(n) // s) - 1) * s + total + 1 - int(n), 0)
            found.append((total // 2, total - total // 2))
        return found
    values = padding if isinstance(padding, (tuple, list)) else (padding,) * axes
    return [tuple(map(int, p)) if isinstance(p, (tuple, list)) else (int(p), int(p)) for p in values]  # type: ignore[misc]


def flat(pairs: list[tuple[int, int]]) -> list[int]:
    """Return padding in ONNX's order: all beginnings, then all ends."""
    return [p for p, _ in pairs] + [q for _, q in pairs]


def positions(n: Any, k: int, s: int, d: int, p: tuple[int, int]) -> Any:
    """Return how many windows an axis has."""
    return (n + (sum(p) - d * (k - 1) - 1)) // s + 1


@rule("conv1d", "conv2d", "conv3d")
def _conv(
    x: Symbol, weight: Symbol, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Symbol:
    axes = x.ndim - 2
    require(x, 1, int(weight.shape[1]) * groups, "a convolution")
    kernel, stride, dilation = [int(k) for k in weight.shape[2:]], each(stride, axes), each(dilation, axes)
    around = pads(padding, x.shape[2:], kernel, stride, dilation)
    shape = [positions(*settings) for settings in zip(x.shape[2:], kernel, stride, dilation, around, strict=True)]
    how = {"kernel_shape": kernel, "strides": stride, "dilations": dilation, "group": groups, "pads": flat(around)}
    return x.drawing.one("Conv", x, weight, bias, shape=(x.shape[0], weight.shape[0], *shape), since=11, **how)


@rule("conv_transpose1d", "conv_transpose2d")
def _conv_transpose(
    x: Symbol,
    weight: Symbol,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Symbol:
    axes = x.ndim - 2
    require(x, 1, int(weight.shape[0]), "a transposed convolution")
    kernel, stride, dilation = [int(k) for k in weight.shape[2:]], each(stride, axes), each(dilation, axes)
    around, more = pads(padding, x.shape[2:], kernel, stride, dilation), each(output_padding, axes)
    image = [
        (n - 1) * s + (d * (k - 1) + 1 + e - sum(p))
        for n, s, k, d, p, e in zip(x.shape[2:], stride, kernel, dilation, around, more, strict=True)
    ]
    how = {"kernel_shape": kernel, "strides": stride, "dilations": dilation, "group": groups, "pads": flat(around)}
    shape = (x.shape[0], weight.shape[1] * groups, *image)
    return x.drawing.one("ConvTranspose", x, weight, bias, shape=shape, since=11, output_padding=more, **how)


# pooling -----------------------------------------------------------------------------------------------------------------


def _windows(x: Symbol, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    """Return kernel, stride, dilation, padding with what ceil_mode adds, how much that is, and the shape of the positions.

    ONNX and its runtimes do not agree about ceil_mode, so the padding says it all.
    """
    axes = x.ndim - 2
    kernel = each(kernel_size, axes)
    stride, dilation = (kernel if stride is None else each(stride, axes)), each(dilation, axes)
    around, added = pads(padding, x.shape[2:], kernel, stride, dilation), [0] * axes
    if ceil_mode:
        for i, n in enumerate(map(int, x.shape[2:])):
            span, p = dilation[i] * (kernel[i] - 1) + 1, around[i]
            count = -(-(n + sum(p) - span) // stride[i]) + 1
            count -= (count - 1) * stride[i] >= n + p[0]  # the last window must begin in the image
            added[i] = max((count - 1) * stride[i] + span - n - sum(p), 0)
            around[i] = (p[0], p[1] + added[i])
    shape = [positions(*settings) for settings in zip(x.shape[2:], kernel, stride, dilation, around, strict=True)]
    return kernel, stride, dilation, around, added, (*x.shape[:2], *shape)


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(
    x: Symbol,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    kernel, stride, dilation, around, _, shape = _windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    how = {"kernel_shape": kernel, "strides": stride, "dilations": dilation, "pads": flat(around)}
    if not return_indices:
        return x.drawing.one("MaxPool", x, shape=shape, since=12, **how)
    y, places = x.drawing.add("MaxPool", [x], [(shape, x.dtype), (shape, numpy.dtype("int64"))], 12, **how)
    size = x.drawing.number(math.prod(x.shape[2:]), "int64")
    return y, x.drawing.one("Mod", places, size)  # ONNX counts through the batch, minidl within each image


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(
    x: Symbol,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Symbol:
    kernel, stride, _, around, added, shape = _windows(x, kernel_size, stride, padding, 1, ceil_mode)
    how = {"kernel_shape": kernel, "strides": stride, "pads": flat(around)}
    if not any(added):
        return x.drawing.one("AveragePool", x, shape=shape, since=11, count_include_pad=int(count_include_pad), **how)
    y = x.drawing.one("AveragePool", x, shape=shape, since=11, count_include_pad=1, **how)
    share = numpy.ones((), "float64")  # of a window, what counts: without what ceil_mode added
    for i, n in enumerate(map(int, x.shape[2:])):
        first, last = (-around[i][0], n + around[i][1] - added[i]) if count_include_pad else (0, n)
        begin = numpy.arange(int(shape[2 + i])) * stride[i] - around[i][0]
        inside = numpy.minimum(begin + kernel[i], last) - numpy.maximum(begin, first)
        share = share[..., None] * (inside / kernel[i])
    return y / share.astype(x.dtype)


def _adaptive_of(kind: str) -> Callable[..., Any]:
    def draw(x: Symbol, output_size: Any, return_indices: bool = False) -> Any:
        """Pool each axis by itself: windows from floor(i n / m) to ceil((i + 1) n / m)."""
        if return_indices:
            raise NotImplementedError("return_indices")
        axes = x.ndim - 2
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * axes
        if all(m == 1 for m in sizes):
            name = {"Mean": "GlobalAveragePool", "Max": "GlobalMaxPool"}[kind]
            return x.drawing.one(name, x, shape=(*x.shape[:2], *[1] * axes))
        y, xp = x, x.__array_namespace__()
        for axis, m in enumerate(sizes, start=2):
            n = int(x.shape[axis])
            m = n if m is None else int(m)
            if m == n:
                continue
            bounds = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
            y = xp.concatenate([y.slice(axis, slice(*b)).reduce(kind, axis, keepdims=True) for b in bounds], axis=axis)
        return y

    return draw


for _axes in (1, 2):
    rule(f"adaptive_avg_pool{_axes}d")(_adaptive_of("Mean"))
    rule(f"adaptive_max_pool{_axes}d")(_adaptive_of("Max"))


@rule("max_unpool1d", "max_unpool2d")
def _max_unpool(
    x: Symbol, indices: Symbol, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Symbol:
    """Write each maximum to its place in zeros."""
    axes = x.ndim - 2
    kernel = each(kernel_size, axes)
    stride, around = (
        (kernel if stride is None else each(stride, axes)),
        pads(padding, x.shape[2:], kernel, kernel, [1] * axes),
    )
    image = [(n - 1) * s + (k - sum(p)) for n, s, k, p in zip(x.shape[2:], stride, kernel, around, strict=True)]
    if output_size is not None:
        image = [int(n) for n in tuple(output_size)[-axes:]]
    xp, rows = x.__array_namespace__(), (*x.shape[:2], math.prod(x.shape[2:]))
    zeros = xp.zeros((*x.shape[:2], math.prod(image)), dtype=x.dtype)
    places = indices.astype("int64").reshape(rows)
    y = x.drawing.one("ScatterElements", zeros, places, x.reshape(rows), since=11, axis=2)
    return y.reshape((*x.shape[:2], *image))


# normalisation -----------------------------------------------------------------------------------------------------------


def _or(value: Any, x: Symbol, shape: Any, number: float) -> Any:
    """Return a parameter, or a constant in its place."""
    return value if value is not None else numpy.full(shape, number, x.dtype)


@rule("batch_norm")
def _batch_norm(
    x: Symbol,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    training: bool = True,
    eps: float = 1e-5,
) -> Symbol:
    c = x.shape[1]
    if running_mean is None:  # without running statistics, those of the batch count in evaluation too
        axes, ones = (0, *range(2, x.ndim)), (1,) * (x.ndim - 2)
        centred = x - x.mean(axes, keepdims=True)
        y = centred / x.__array_namespace__().sqrt((centred * centred).mean(axes, keepdims=True) + like(x, eps))
        y = y if weight is None else y * weight.reshape((-1, *ones))
        return y if bias is None else y + bias.reshape((-1, *ones))
    inputs = (x, _or(weight, x, c, 1), _or(bias, x, c, 0), running_mean, running_var)
    return x.drawing.one("BatchNormalization", *inputs, since=9, epsilon=float(eps))


@rule("layer_norm")
def _layer_norm(x: Symbol, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Symbol:
    shape = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    return x.drawing.one(
        "LayerNormalization", x, _or(weight, x, shape, 1), bias, since=17, axis=-len(shape), epsilon=float(eps)
    )


@rule("rms_norm")
def _rms_norm(x: Symbol, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Symbol:
    """Normalise rows; the default of eps is the machine's, as in PyTorch, while ONNX's is 1e-5."""
    shape = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    eps = float(numpy.finfo(x.dtype).eps) if eps is None else float(eps)
    return x.drawing.one("RMSNormalization", x, _or(weight, x, shape, 1), since=23, axis=-len(shape), epsilon=eps)


@rule("group_norm")
def _group_norm(x: Symbol, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Symbol:
    if x.ndim < 3:  # the operator wants an image
        return _group_norm(x.unsqueeze(2), num_groups, weight, bias, eps).reshape(x.shape)
    c = int(x.shape[1])
    inputs = (x, _or(weight, x, c, 1), _or(bias, x, c, 0))
    return x.drawing.one("GroupNormalization", *inputs, since=21, num_groups=num_groups, epsilon=float(eps))


# images ------------------------------------------------------------------------------------------------------------------

_PAD_MODES = {
    "constant": ("constant", 1),
    "reflect": ("reflect", 1),
    "replicate": ("edge", 1),
    "circular": ("wrap", 19),
}


@rule("pad")
def _pad(x: Symbol, padding: Any, mode: str = "constant", value: float = 0.0) -> Symbol:
    given = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
    pairs = list(zip(map(int, given[::2]), map(int, given[1::2]), strict=True))[::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    shape = [n + sum(p) for n, p in zip(x.shape, pairs, strict=True)]
    name, since = _PAD_MODES[mode]
    fill = like(x, value) if mode == "constant" and value else None
    return x.drawing.one("Pad", x, numpy.array(flat(pairs), "int64"), fill, shape=shape, since=since, mode=name)


def _resize(x: Symbol, size: Any, scale_factor: Any, **how: Any) -> Symbol:
    axes = x.ndim - 2
    given = size if scale_factor is None else scale_factor
    values = list(given) if isinstance(given, (tuple, list)) else [given] * axes
    if scale_factor is None:
        shape = (*x.shape[:2], *values)
        return x.drawing.one("Resize", x, None, None, x.drawing.shape(shape), shape=shape, since=11, **how)
    image = [n * int(f) if f == int(f) else math.floor(int(n) * f) for n, f in zip(x.shape[2:], values, strict=True)]
    same = [not isinstance(n, Length) and n == m for n, m in zip(x.shape[2:], image, strict=True)]
    scales = [1.0, 1.0, *(1.0 if equal else float(f) for equal, f in zip(same, values, strict=True))]
    return x.drawing.one(
        "Resize", x, None, numpy.array(scales, "float32"), shape=(*x.shape[:2], *image), since=11, **how
    )


@rule("upsample_nearest")
def _nearest(x: Symbol, size: Any = None, scale_factor: Any = None) -> Symbol:
    how: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _resize(x, size, scale_factor, **how)


@rule("upsample_nearest_exact")
def _nearest_exact(x: Symbol, size: Any = None, scale_factor: Any = None) -> Symbol:
    how: dict[str, Any] = {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_ceil",
    }
    return _resize(x, size, scale_factor, **how)


def _smooth(mode: str, op: str) -> Callable[..., Symbol]:
    def draw(
        x: Symbol, size: Any = None, scale_factor: Any = None, align_corners: bool = False, antialias: bool = False
    ) -> Symbol:
        if antialias:
            return _by_matrices(x, op, size, scale_factor, align_corners)
        how = {"mode": mode, "coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel"}
        return _resize(x, size, scale_factor, **how, **({"cubic_coeff_a": -0.75} if mode == "cubic" else {}))

    return draw


def _by_matrices(x: Symbol, op: str, size: Any, scale_factor: Any, align_corners: bool) -> Symbol:
    """Resize by a matrix for each axis, which is what the op gives for the unit vectors; for images of one size."""
    from minidl import ops

    axes = x.ndim - 2
    given = size if scale_factor is None else scale_factor
    values = list(given) if isinstance(given, (tuple, list)) else [given] * axes
    formula: Any = getattr(ops, op).__wrapped__
    y = x
    for axis, (n, value) in enumerate(zip(map(int, x.shape[2:]), values, strict=True)):
        unit = numpy.eye(n)[:, None, :]  # (n, 1, n): one image for each pixel
        how = {"size": int(value)} if scale_factor is None else {"scale_factor": value}
        rows, _ = formula(unit, **how, align_corners=align_corners, antialias=True)
        matrix = y.drawing.symbol(rows[:, 0].astype(x.dtype))  # (n, m)
        y = y @ matrix if axis == axes - 1 else (y.swapaxes(-1, -2) @ matrix).swapaxes(-1, -2)
    return y


rule("upsample_bilinear")(_smooth("linear", "upsample_bilinear"))
rule("upsample_bicubic")(_smooth("cubic", "upsample_bicubic"))
