"""Padding and upsampling layers."""

from __future__ import annotations

import math
from typing import Any

from minidl.errors import ParameterError, ShapeError
from minidl.layers.base import OpLayer, Shape
from minidl.ops import Array
from minidl.ops._resampling import scales, widths
from minidl.ops._scalars import is_count, shown

__all__ = ["ReflectionPad2d", "ReplicationPad2d", "Upsample", "ZeroPad2d"]


class _Pad2d(OpLayer):
    """Padding of images on four sides."""

    op = "pad"
    mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        name = type(self).__name__
        sides = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
        if len(sides) != 4 or not all(map(is_count, sides)):
            raise ParameterError(
                f"{name}: padding must be a whole number from 0 on, or four of them, (left, right, top, bottom); got "
                f"{shown(padding)}"
            )
        self.padding = tuple(n.__index__() for n in sides)

    @property
    def settings(self) -> tuple[Any, ...]:
        """Padding and mode."""
        return self.padding, self.mode

    def forward(self, x: Array) -> Array:
        """Return the padded x."""
        if getattr(x, "ndim", 4) != 4:
            raise ShapeError(f"{self!r}: x must have shape (N, C, H, W), got {x.shape}")
        return super().forward(x)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, H + top + bottom, W + left + right)."""
        if len(input_shape) != 3:
            raise ShapeError(f"{self!r}: expected examples of shape (C, H, W), got {tuple(input_shape)}")
        pairs = widths(type(self).__name__, tuple(input_shape), self.padding, self.mode)
        return tuple(n + before + after for n, (before, after) in zip(input_shape, pairs, strict=True))

    def extra_repr(self) -> str:
        """Return the padding."""
        return str(self.padding[0] if len(set(self.padding)) == 1 else self.padding)


class ZeroPad2d(_Pad2d):  # numpydoc ignore=PR02
    """Pad images (N, C, H, W) with zeros; see ``minidl.ops.pad``.

    Parameters
    ----------
    padding : int or (int, int, int, int)
        On all sides, or (left, right, top, bottom).

    Raises
    ------
    ParameterError
        If the padding is invalid.

    Examples
    --------
    >>> import numpy
    >>> ZeroPad2d((1, 0, 0, 1)).forward(numpy.array([[[[1.0, 2.0]]]]))
    array([[[[0., 1., 2.],
             [0., 0., 0.]]]])
    """

    mode = "constant"


class ReflectionPad2d(_Pad2d):
    """Pad images with their reflection at the outermost pixels, which are not repeated; arguments as in :class:`ZeroPad2d`.

    >>> import numpy
    >>> ReflectionPad2d((2, 1, 0, 0)).forward(numpy.array([[[[1.0, 2.0, 3.0]]]]))
    array([[[[3., 2., 1., 2., 3., 2.]]]])
    """

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """Pad images with copies of the outermost pixels; arguments as in :class:`ZeroPad2d`.

    >>> import numpy
    >>> ReplicationPad2d((2, 1, 0, 0)).forward(numpy.array([[[[1.0, 2.0, 3.0]]]]))
    array([[[[1., 1., 1., 2., 3., 3.]]]])
    """

    mode = "replicate"


class Upsample(OpLayer):
    """Resize images (N, C, H, W) or sequences (N, C, L).

    See ``minidl.ops.upsample_nearest``, ``upsample_nearest_exact``, ``upsample_bilinear`` and ``upsample_bicubic``.

    Parameters
    ----------
    size : int, or one for each spatial axis, optional
        The size of the output. Give this or ``scale_factor``.
    scale_factor : float, or one for each spatial axis, optional
        The size of the output divided by that of the input.
    mode : str, default "nearest"
        ``"nearest"`` and ``"nearest-exact"`` repeat pixels, the latter by their centres. ``"bilinear"`` and ``"bicubic"``
        interpolate images, and ``"linear"`` sequences.
    align_corners : bool, optional
        For interpolation: whether the centres of the corner pixels of input and output coincide. False by default.
    antialias : bool, default False
        For ``"bilinear"`` and ``"bicubic"``: whether pixels are averaged where an image shrinks. By keyword only, because
        PyTorch's layer has ``recompute_scale_factor`` there.

    Raises
    ------
    ParameterError
        If an argument is invalid or does not fit the mode.

    Examples
    --------
    >>> import numpy
    >>> Upsample(scale_factor=2).forward(numpy.array([[[[1.0, 2.0]]]]))
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    >>> Upsample(size=3, mode="linear", align_corners=True).forward(numpy.array([[[0.0, 4.0]]]))
    array([[[0., 2., 4.]]])
    """

    MODES = ("nearest", "linear", "bilinear", "bicubic", "nearest-exact")

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        *,
        antialias: bool = False,
    ) -> None:
        super().__init__()
        if mode not in self.MODES:
            raise ParameterError(f"Upsample: mode must be one of {', '.join(map(repr, self.MODES))}, got {mode!r}")
        repeats = mode in ("nearest", "nearest-exact")
        if repeats and align_corners is not None:
            raise ParameterError("Upsample: align_corners is for the modes 'linear', 'bilinear' and 'bicubic'")
        if antialias and mode not in ("bilinear", "bicubic"):
            raise ParameterError(f"Upsample: antialias is for the modes 'bilinear' and 'bicubic', got mode {mode!r}")
        given = size if scale_factor is None else scale_factor
        axes = len(given) if isinstance(given, (tuple, list)) else 1 if mode == "linear" else 2
        if axes not in {"linear": (1,), "bilinear": (2,), "bicubic": (2,)}.get(mode, (1, 2)):
            raise ParameterError(f"Upsample: mode {mode!r} is not for {axes} axes, got {given!r}")
        scales("Upsample", (1 << 20,) * axes, size, scale_factor)  # raises if it is invalid
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners
        self.antialias = antialias
        self.op = f"upsample_{mode.replace('-', '_')}" if mode != "linear" else "upsample_bilinear"

    @property
    def settings(self) -> tuple[Any, ...]:
        """The size, the scale_factor, and align_corners and antialias if the mode has them."""
        smooth = (bool(self.align_corners), self.antialias) if not self.mode.startswith("nearest") else ()
        return (self.size, self.scale_factor, *smooth)

    def _check_rank(self, shape: Shape, without_batch: bool = False) -> None:
        names = {"linear": ("(N, C, L)",), "bilinear": ("(N, C, H, W)",), "bicubic": ("(N, C, H, W)",)}
        wanted = names.get(self.mode, ("(N, C, H, W)", "(N, C, L)"))
        if len(shape) + without_batch not in {len(name.split(",")) for name in wanted}:
            what = "examples" if without_batch else "x"
            shown = " or ".join(wanted).replace("(N, ", "(") if without_batch else " or ".join(wanted)
            raise ShapeError(f"{self!r}: expected {what} of shape {shown}, got {tuple(shape)}")

    def forward(self, x: Array) -> Array:
        """Return the enlarged x."""
        self._check_rank(getattr(x, "shape", ()))
        return super().forward(x)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, *size)."""
        self._check_rank(input_shape, without_batch=True)
        found = scales("Upsample", tuple(input_shape[1:]), self.size, self.scale_factor)
        return (input_shape[0], *(scale.after for scale in found))

    def flops(self, input_shape: Shape) -> int:
        """Count a product and a sum for each pixel that is read, an axis and element; repeating is free."""
        if self.mode.startswith("nearest"):
            return 0
        total, shape, radius = 0, list(input_shape), 2 if self.mode == "bicubic" else 1
        for axis, length in enumerate(self.output_shape(input_shape)[1:], start=1):
            read = 2 * radius * max(shape[axis] / length, 1) if self.antialias else 2 * radius
            shape[axis] = length
            total += int(2 * read - 1) * math.prod(shape)
        return total

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        defaults = {"size": None, "scale_factor": None, "mode": "nearest", "align_corners": None, "antialias": False}
        given = {name: getattr(self, name) for name in defaults}
        return ", ".join(f"{name}={value!r}" for name, value in given.items() if value != defaults[name])
