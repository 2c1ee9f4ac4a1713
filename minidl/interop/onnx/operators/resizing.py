"""Resize: a matrix for each axis, forward W x and backward W^T dy."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.interop.onnx.operators.arranging import numbers
from minidl.interop.onnx.operators.table import Node, operator

__all__: list[str] = []

_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
_NEAREST: dict[str, Any] = {
    "floor": numpy.floor,
    "ceil": numpy.ceil,
    "round_prefer_floor": lambda p: numpy.ceil(p - 0.5),
    "round_prefer_ceil": lambda p: numpy.floor(p + 0.5),
}


def _coordinates(kind: str, m: int, n: int, scale: float, region: tuple[float, float]) -> Any:
    """Return where the m pixels of the output are among the n of the input."""
    at = numpy.arange(m, dtype="float64")
    if kind == "asymmetric":
        return at / scale
    if kind == "align_corners":
        return (
            at * ((n - 1) / (scale * n - 1)) if m > 1 else at * 0
        )  # the reference counts with the length before rounding
    if kind == "pytorch_half_pixel":
        return (at + 0.5) / scale - 0.5 if m > 1 else at * 0
    if kind == "tf_crop_and_resize":
        begin, end = region
        return (
            begin * (n - 1) + at * (end - begin) * (n - 1) / (m - 1)
            if m > 1
            else 0.5 * (begin + end) * (n - 1) + at * 0
        )
    shift = 0.0
    if kind == "half_pixel_symmetric":
        adjusted = m / (scale * n)
        shift = (n / 2) * (1 - adjusted)
    return shift + (at + 0.5) / scale - 0.5


def _kernel(mode: str, a: float) -> tuple[Any, int]:
    """Return the weight of a pixel by its distance, and how far it reaches."""
    if mode == "linear":
        return lambda d: numpy.maximum(1 - numpy.abs(d), 0), 1

    def cubic(d: Any) -> Any:
        d = numpy.abs(d)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return numpy.where(d <= 1, near, numpy.where(d < 2, far, 0))

    return cubic, 2


def _matrix(node: Node, n: int, m: int, scale: float, region: tuple[float, float]) -> Any:
    """Return the matrix of one axis, (m, n)."""
    mode, kind = node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel")
    p = _coordinates(kind, m, n, scale, region)
    rows, w = numpy.arange(m), numpy.zeros((m, n))
    if mode == "nearest":
        w[rows, numpy.clip(_NEAREST[node.get("nearest_mode", "round_prefer_floor")](p).astype(int), 0, n - 1)] = 1
    else:
        weight, reach = _kernel(mode, node.get("cubic_coeff_a", -0.75))
        wide = max(1 / scale, 1.0) if node.get("antialias", 0) else 1.0
        span = math.ceil(reach * wide)
        first = numpy.floor(p).astype(int) - span + 1
        total = numpy.zeros(m)
        taps = []
        for step in range(2 * span):
            at = first + step
            value = weight((p - at) / wide)
            if node.get("exclude_outside", 0):
                value = value * ((at >= 0) & (at < n))
            taps.append((at, value))
            total += value
        if node.get("exclude_outside", 0) or wide > 1:
            taps = [(at, value / total) for at, value in taps]
        for at, value in taps:
            numpy.add.at(w, (rows, numpy.clip(at, 0, n - 1)), value)
    if kind == "tf_crop_and_resize":
        w[(p < 0) | (p > n - 1)] = numpy.nan  # takes the extrapolated value
    return w


def _output(node: Node, x: Any, axes: list[int], scales: Any, sizes: Any) -> tuple[list[int], list[float]]:
    """Return the size of each of the axes, and its scale."""
    if scales is not None and scales.size:
        given = [float(s) for s in scales]
        return [math.floor(x.shape[axis] * s) for axis, s in zip(axes, given, strict=True)], given
    wanted = numbers(sizes)
    exact = [size / x.shape[axis] for axis, size in zip(axes, wanted, strict=True)]
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        scale = min(exact) if policy == "not_larger" else max(exact)
        return [math.floor(scale * x.shape[axis] + 0.5) for axis in axes], [scale] * len(axes)
    return wanted, exact


@operator(
    "Resize Upsample",
    "antialias axes cubic_coeff_a exclude_outside extrapolation_value nearest_mode scales keep_aspect_ratio_policy",
    {"mode": ("nearest", "linear", "cubic"), "coordinate_transformation_mode": _COORDINATES},
    settings=(1, 2, 3),
)
def _resize(node: Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    """Resize an array; before opset 11, and as Upsample, scales are the second input and coordinates are asymmetric."""
    if node.kind == "Upsample" or node.opset < 11:
        scales = roi if roi is not None else numpy.asarray(node["scales"])
        old = {
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
            "mode": node.get("mode", "nearest"),
        }
        roi, node = None, Node(node.kind, node.name, node.inputs, node.outputs, old, 11)
    axes = [axis % x.ndim for axis in node.get("axes", range(x.ndim))]
    lengths, factors = _output(node, x, axes, scales, sizes)
    regions = [(0.0, 1.0)] * len(axes)
    if roi is not None and roi.size:
        regions = list(zip(map(float, roi[: len(axes)]), map(float, roi[len(axes) :]), strict=True))
    if (
        node.get("mode", "nearest") == "nearest"
        and node.get("coordinate_transformation_mode", "") != "tf_crop_and_resize"
    ):
        return _repeat(node, x, axes, lengths, factors)
    matrices = {
        axis: _matrix(node, x.shape[axis], m, scale, region)
        for axis, m, scale, region in zip(axes, lengths, factors, regions, strict=True)
        if not (m == x.shape[axis] and scale == 1 and region == (0.0, 1.0))
    }
    outside = {axis: numpy.isnan(w).any(axis=1) for axis, w in matrices.items()}
    matrices = {axis: numpy.nan_to_num(w).astype(x.dtype) for axis, w in matrices.items()}

    def through(z: Any, turned: bool) -> Any:
        for axis, w in matrices.items():
            z = numpy.moveaxis(numpy.matmul(numpy.moveaxis(z, axis, -1), w if turned else w.T), -1, axis)
        return numpy.ascontiguousarray(z)

    y = through(x, False)
    lost = numpy.zeros(y.shape, bool)
    for axis, rows in outside.items():
        lost |= rows.reshape([-1 if i == axis else 1 for i in range(y.ndim)])
    if lost.any():
        y = numpy.where(lost, numpy.asarray(node.get("extrapolation_value", 0.0), y.dtype), y)
    return (y,), lambda dy: (through(numpy.where(lost, 0, dy) if lost.any() else dy, True),)


def _repeat(node: Node, x: Any, axes: list[int], lengths: list[int], factors: list[float]) -> Any:
    """Pick the nearest pixel on each axis."""
    kind, choose = (
        node.get("coordinate_transformation_mode", "half_pixel"),
        _NEAREST[node.get("nearest_mode", "round_prefer_floor")],
    )
    picked = {}
    for axis, m, scale in zip(axes, lengths, factors, strict=True):
        n = x.shape[axis]
        if not (m == n and scale == 1):
            picked[axis] = numpy.clip(choose(_coordinates(kind, m, n, scale, (0.0, 1.0))).astype(int), 0, n - 1)
    y = x
    for axis, at in picked.items():
        y = numpy.take(y, at, axis)

    def back(dy: Any) -> Any:
        for axis, at in picked.items():
            n = x.shape[axis]
            w = numpy.zeros((len(at), n), dy.dtype)
            w[numpy.arange(len(at)), at] = 1
            dy = numpy.moveaxis(numpy.matmul(numpy.moveaxis(dy, axis, -1), w), -1, axis)
        return (dy,)

    return (y,), back
