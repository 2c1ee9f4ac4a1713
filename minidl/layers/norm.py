"""Normalisation layers: each has a weight and a bias, and batch normalisation also its running statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.engines import current
from minidl.errors import ParameterError, ShapeError
from minidl.layers.base import Layer, Shape, cast_input
from minidl.layers.parameter import Parameter
from minidl.ops import PARAMETERS, Array, require_float
from minidl.ops._scalars import counts, plain
from minidl.ops._windows import require_addressable

__all__ = ["BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm", "RMSNorm"]


class _Normalization(Layer):
    """What all share: an optional weight, initially 1, and an optional bias, initially 0."""

    input_gradient_optional = True
    _live = ("bias", "eps", "momentum")
    op: str
    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, shape: Shape, weight: bool, bias: bool, eps: float | None, dtype: Any) -> None:
        super().__init__()
        require_addressable(shape, type(self).__name__)
        if eps is not None and not eps >= 0.0:
            raise ParameterError(f"{type(self).__name__}: eps must not be negative, got {eps!r}")
        self.eps, self.dtype = eps, numpy.dtype(dtype)
        asarray = current().asarray
        self.weight = Parameter(asarray(numpy.ones(shape, self.dtype)), name="weight") if weight else None
        self.bias = Parameter(asarray(numpy.zeros(shape, self.dtype)), name="bias") if bias else None

    def _parameter_values(self) -> tuple[Array | None, Array | None]:
        """Return the arrays of weight and bias, or None."""
        weight, bias = self.weight, self.bias
        return None if weight is None else weight.value, None if bias is None else bias.value

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Add to the gradients of weight and bias, and return dx, or None with ``input_gradient=False``."""
        parameters = (self.weight, self.bias)[: len(PARAMETERS[self.op])]
        return self._run_backward(self.op, dy, parameters, input_gradient)

    def _cast_input(self, x: Any, like: Array | None) -> Array:
        """Return x in the precision of ``like``, one of the layer's own arrays; unchanged if the layer has none."""
        if like is None:
            require_float(x, "x", repr(self))
            return x
        return x if type(x) is type(like) and x.dtype == like.dtype else cast_input(self, x, like)

    def _count_flops(self, each: int, input_shape: Shape) -> int:
        return math.prod(input_shape) * (each + (self.weight is not None) + (self.bias is not None))


class _BatchNorm(_Normalization):
    """Batch normalisation; the subclasses differ in the shapes that they take."""

    op = "batch_norm"
    takes: dict[int, str]
    """The possible shapes of a batch, by their number of axes."""
    num_batches_tracked: numpy.ndarray

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        _check_positive(type(self).__name__, num_features=num_features)
        if momentum is not None and not 0.0 <= momentum <= 1.0:
            raise ParameterError(f"{type(self).__name__}: momentum must be from 0 to 1, or None, got {momentum!r}")
        super().__init__((num_features,), affine, affine and bias, eps, dtype)
        self.num_features, self.momentum, self.affine = num_features, momentum, affine
        self.track_running_stats = track_running_stats
        self.running_mean: Array | None = None
        self.running_var: Array | None = None
        if track_running_stats:
            asarray = current().asarray
            self.register_buffer("running_mean", asarray(numpy.zeros(num_features, self.dtype)))
            self.register_buffer("running_var", asarray(numpy.ones(num_features, self.dtype)))
            self.register_buffer("num_batches_tracked", numpy.array(0, dtype="int64"))

    @property
    def moves_statistics(self) -> bool:
        """Whether the running statistics follow each batch: in training, unless the layer is frozen, as in Keras."""
        return self.training and self._trainable

    def forward(self, x: Array) -> Array:
        """Return the normalised x; in training also update the running statistics."""
        weight, bias = self._parameter_values()
        x = self._cast_input(x, self.running_mean if weight is None else weight)
        if len(x.shape) not in self.takes or x.shape[1] != self.num_features:
            raise self._shape_error(x.shape)
        training = self.moves_statistics
        if not training and self.running_mean is not None:
            y, cache = current().batch_norm(x, weight, bias, self.running_mean, self.running_var, False, self.eps)
            self._remember(cache)
            return y
        count = x.shape[0] * math.prod(x.shape[2:])
        if training and count == 1:
            raise ShapeError(
                f"{self!r}: in training a channel needs at least two elements to have a variance, got a batch of shape "
                f"{x.shape}; use a larger batch (and a batch_size that does not leave a last batch of one example), or eval()"
            )
        y, cache = current().batch_norm(x, weight, bias, eps=self.eps)
        self._remember(cache)
        if training and count:
            self._update_statistics(cache[3], cache[4], count)
        return y

    def _update_statistics(self, mean: Array, var: Array, count: int) -> None:
        """Move the running statistics towards those of this batch, with the unbiased variance, as in PyTorch."""
        if self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked += 1
        share = 1.0 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
            running *= 1.0 - share
            running += share * new

    def reset_running_stats(self) -> None:
        """Reset the running statistics to mean 0 and variance 1."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean[...], self.running_var[...], self.num_batches_tracked[...] = 0, 1, 0

    def _shape_error(self, shape: Shape) -> ShapeError:
        wanted = " or ".join(self.takes.values()).replace("C", str(self.num_features))
        advice = ""
        if len(shape) + 1 == min(self.takes):
            advice = "; for a single example add the batch axis with x[None]"
        elif len(shape) > 2 and shape[-1] == self.num_features:
            order = (0, len(shape) - 1, *range(1, len(shape) - 1))
            advice = f"; the channels seem to be last: move them to axis 1 with x.transpose{order}"
        return ShapeError(f"{self!r}: expected a batch of shape {wanted}, got shape {shape}{advice}")

    def flops(self, input_shape: Shape) -> int:
        """Count the operations of evaluation for each element: subtract the mean, multiply, weight and bias."""
        return self._count_flops(2, input_shape)

    def extra_repr(self) -> str:
        """Return the sizes, and the arguments that differ from their defaults."""
        settings = {
            "eps": (self.eps, 1e-5),
            "momentum": (self.momentum, 0.1),
            "affine": (self.affine, True),
            "track_running_stats": (self.track_running_stats, True),
            "bias": (self.bias is not None, self.weight is not None),
        }
        return _format_arguments([self.num_features], settings)


class BatchNorm1d(_BatchNorm):  # numpydoc ignore=PR02
    """Normalise each feature over the batch.

    For feature c::

        y = w_c (x - mean_c) / sqrt(var_c + eps) + b_c

    In training, mean and variance are those of the batch, and the running statistics move towards them. In evaluation, or
    if the layer is frozen, they are the running statistics. ``minidl.ops.batch_norm`` derives the gradients.

    Parameters
    ----------
    num_features : int
        C, for batches of shape (N, C) or (N, C, L).
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        The share of each new batch in the running statistics. With None they are the mean over all batches.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics. Without them evaluation uses the statistics of the batch.
    bias : bool, default True
        Whether there is a bias beside the weight.
    dtype : dtype, default float32

    Attributes
    ----------
    weight, bias : Parameter, shape (C,), or None
        Initially 1 and 0.
    running_mean, running_var : array, shape (C,), or None
        Initially 0 and 1. The variance is the unbiased one, with divisor n - 1.
    num_batches_tracked : numpy.ndarray, shape ()
        The number of batches in them.

    Raises
    ------
    ParameterError
        If an argument is invalid.
    ShapeError
        From ``forward``, if the batch has another number of channels or axes or, in training, only one element per channel.

    Examples
    --------
    >>> layer = BatchNorm1d(1, eps=0.0)
    >>> layer.forward(numpy.array([[1.0], [3.0]], dtype="float32")).ravel()
    array([-1.,  1.], dtype=float32)
    >>> layer.running_mean, layer.running_var  # a tenth of the way from 0 to 2, and from 1 to 2
    (array([0.2], dtype=float32), array([1.1], dtype=float32))
    """

    takes = {2: "(N, C)", 3: "(N, C, L)"}  # noqa: RUF012 - never written to


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of images, of shape (N, C, H, W), over the batch and all pixels.

    Arguments, attributes and errors are those of :class:`BatchNorm1d`.

    Examples
    --------
    >>> layer = BatchNorm2d(3)
    >>> layer.forward(numpy.zeros((2, 4, 4, 3), dtype="float32"))
    Traceback (most recent call last):
    ...
    minidl.errors.ShapeError: BatchNorm2d(3): expected a batch of shape (N, 3, H, W), got shape (2, 4, 4, 3); the channels \
seem to be last: move them to axis 1 with x.transpose(0, 3, 1, 2)
    """

    takes = {4: "(N, C, H, W)"}  # noqa: RUF012


class LayerNorm(_Normalization):
    """Normalise each example over its last axes; see ``minidl.ops.layer_norm``.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the last axes.
    eps : float, default 1e-5
        Added to the variance.
    elementwise_affine : bool, default True
        Whether there are a weight and a bias, of shape ``normalized_shape``.
    bias : bool, default True
        Whether there is a bias beside the weight.
    dtype : dtype, default float32

    Raises
    ------
    ParameterError
        If an argument is invalid.
    ShapeError
        From ``forward``, if the last axes have other sizes.

    Examples
    --------
    >>> LayerNorm(2, eps=0.0).forward(numpy.array([[1.0, 3.0], [8.0, 2.0]], dtype="float32"))
    array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """

    op = "layer_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = _check_normalized_shape(type(self).__name__, normalized_shape)
        self.elementwise_affine = elementwise_affine
        super().__init__(self.normalized_shape, elementwise_affine, elementwise_affine and bias, eps, dtype)

    def forward(self, x: Array) -> Array:
        """Return the normalised x."""
        weight, bias = self._parameter_values()
        x = self._cast_input(x, weight)
        _check_last_axes(self, x.shape, self.normalized_shape)
        y, cache = current().layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        self._remember(cache)
        return y

    def flops(self, input_shape: Shape) -> int:
        """Count for each element: add to the mean, subtract it, square and add, multiply, weight and bias."""
        return self._count_flops(5, input_shape)

    def extra_repr(self) -> str:
        """Return the sizes, and the arguments that differ from their defaults."""
        settings = {
            "eps": (self.eps, 1e-5),
            "elementwise_affine": (self.elementwise_affine, True),
            "bias": (self.bias is not None, self.weight is not None),
        }
        return _format_arguments(
            [self.normalized_shape[0] if len(self.normalized_shape) == 1 else self.normalized_shape], settings
        )


class RMSNorm(_Normalization):
    """Divide each example by the root mean square over its last axes; see ``minidl.ops.rms_norm``.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the last axes.
    eps : float, optional
        Added to the mean square; the machine epsilon of the input's dtype by default.
    elementwise_affine : bool, default True
        Whether there is a weight, of shape ``normalized_shape``.
    dtype : dtype, default float32

    Raises
    ------
    ParameterError
        If an argument is invalid.
    ShapeError
        From ``forward``, if the last axes have other sizes.

    Examples
    --------
    >>> RMSNorm(2, eps=0.0).forward(numpy.array([[1.0, 7.0]], dtype="float32"))  # the mean square is 25
    array([[0.2, 1.4]], dtype=float32)
    """

    op = "rms_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = _check_normalized_shape(type(self).__name__, normalized_shape)
        self.elementwise_affine = elementwise_affine
        super().__init__(self.normalized_shape, elementwise_affine, False, eps, dtype)

    def forward(self, x: Array) -> Array:
        """Return the normalised x."""
        weight, _ = self._parameter_values()
        x = self._cast_input(x, weight)
        _check_last_axes(self, x.shape, self.normalized_shape)
        y, cache = current().rms_norm(x, self.normalized_shape, weight, self.eps)
        self._remember(cache)
        return y

    def flops(self, input_shape: Shape) -> int:
        """Count for each element: square and add, multiply, weight."""
        return self._count_flops(3, input_shape)

    def extra_repr(self) -> str:
        """Return the sizes, and the arguments that differ from their defaults."""
        settings = {"eps": (self.eps, None), "elementwise_affine": (self.elementwise_affine, True)}
        return _format_arguments(
            [self.normalized_shape[0] if len(self.normalized_shape) == 1 else self.normalized_shape], settings
        )


class GroupNorm(_Normalization):
    """Normalise each group of channels of each example; see ``minidl.ops.group_norm``.

    Parameters
    ----------
    num_groups : int
        Divides ``num_channels``.
    num_channels : int
        C, for batches of shape (N, C, ...).
    eps : float, default 1e-5
        Added to the variance.
    affine : bool, default True
        Whether there are a weight and a bias, of shape (C,).
    bias : bool, default True
        Whether there is a bias beside the weight.
    dtype : dtype, default float32

    Raises
    ------
    ParameterError
        If an argument is invalid.
    ShapeError
        From ``forward``, if the batch has another number of channels.

    Examples
    --------
    >>> GroupNorm(2, 4, eps=0.0).forward(numpy.array([[1.0, 3.0, 8.0, 2.0]], dtype="float32"))
    array([[-1.,  1.,  1., -1.]], dtype=float32)
    """

    op = "group_norm"

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        _check_positive("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ParameterError(
                f"GroupNorm: num_groups must divide num_channels, got {num_groups} groups for {num_channels} channels"
            )
        self.num_groups, self.num_channels, self.affine = num_groups, num_channels, affine
        super().__init__((num_channels,), affine, affine and bias, eps, dtype)

    def forward(self, x: Array) -> Array:
        """Return the normalised x."""
        weight, bias = self._parameter_values()
        x = self._cast_input(x, weight)
        if len(x.shape) < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                f"{self!r}: expected a batch of shape (N, {self.num_channels}, ...), with channels on axis 1, got shape "
                f"{x.shape}"
            )
        y, cache = current().group_norm(x, self.num_groups, weight, bias, self.eps)
        self._remember(cache)
        return y

    def flops(self, input_shape: Shape) -> int:
        """Count for each element: add to the mean, subtract it, square and add, multiply, weight and bias."""
        return self._count_flops(5, input_shape)

    def extra_repr(self) -> str:
        """Return the sizes, and the arguments that differ from their defaults."""
        settings = {
            "eps": (self.eps, 1e-5),
            "affine": (self.affine, True),
            "bias": (self.bias is not None, self.weight is not None),
        }
        return _format_arguments([self.num_groups, self.num_channels], settings)


def _check_positive(owner: str, **sizes: Any) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, numpy.integer)) or size < 1:
            raise ParameterError(f"{owner}: {name} must be a positive integer, got {size!r}")


def _check_normalized_shape(owner: str, normalized_shape: Any) -> Shape:
    """Return normalized_shape as a tuple of positive integers."""
    given = (normalized_shape,) if isinstance(plain(normalized_shape), int) else normalized_shape
    shape = counts(given, owner, "normalized_shape")
    if not shape:
        raise ParameterError(f"{owner}: normalized_shape must have at least one axis")
    for size in shape:
        _check_positive(owner, normalized_shape=size)
    return shape


def _check_last_axes(layer: Layer, shape: Shape, wanted: Shape) -> None:
    if shape[-len(wanted) :] != wanted:
        raise ShapeError(f"{layer!r}: expected an input whose last axes have shape {wanted}, got shape {shape}")


def _format_arguments(first: list[Any], settings: dict[str, tuple[Any, Any]]) -> str:
    """Write arguments as in a call: the first by position, the others by name if they differ from their defaults."""
    shown = [f"{name}={value!r}" for name, (value, default) in settings.items() if value != default]
    return ", ".join([*map(repr, first), *shown])
