"""Layers that multiply by a matrix: Linear (PyTorch's habit) and Dense (Keras's)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from minidl import init
from minidl.engines import current
from minidl.errors import NotBuiltError, ParameterError, ShapeError
from minidl.layers.activation import Activation, activation
from minidl.layers.base import Layer, Shape, admit
from minidl.layers.parameter import Parameter, run_backward
from minidl.ops import Array

__all__ = ["Affine", "AffineOfDense", "Dense", "Linear"]


class Affine(Layer):
    """What Linear and Dense share: y = x W^T + b and its gradients, once weight and bias exist."""

    input_gradient_optional = True
    dtype: Any
    weight: Parameter
    bias: Parameter | None

    def forward(self, x: Array) -> Array:
        """Return x W^T + b."""
        weight, bias = self.weight._value, self.bias  # (out, in), (out,)
        if type(x) is not type(weight) or x.dtype is not weight.dtype:
            x = admit(self, x, weight)
        y, cache = current().linear(x, weight, None if bias is None else bias._value)
        self._remember(cache)
        return y  # (..., out)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Add dy^T x to the weight's gradient and the column sums of dy to the bias's; return dx = dy W."""
        cache = self._cache
        if cache is None:
            self._remembered()
        parameters = self.weight, self.bias
        return run_backward(current().linear_backward, (dy, cache), parameters, input_gradient)

    def _make(self, in_features: int, out_features: int, bias: bool, weight_init: Any, bias_init: Any) -> None:
        if in_features < 1 or out_features < 1:
            raise ParameterError(
                f"{type(self).__name__}: in_features and out_features must be positive, got {in_features} and "
                f"{out_features}"
            )
        xp = current().asarray
        self.weight = Parameter(xp(weight_init((out_features, in_features), dtype=self.dtype)), name="weight")
        self.bias = Parameter(xp(bias_init((out_features,), dtype=self.dtype)), name="bias") if bias else None
        if not self._trainable:  # a lazy layer was frozen before it had parameters
            self.weight.trainable = False
            if self.bias is not None:
                self.bias.trainable = False

    def _check_last_axis(self, input_shape: Shape, in_features: int) -> None:
        if not input_shape or input_shape[-1] != in_features:
            raise ShapeError(
                f"expected an input with {in_features} features on the last axis, got examples of shape {input_shape}"
            )


class Linear(Affine):
    r"""The affine map y = x W^T + b.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis of x and of y; any leading axes pass through.
    bias : bool
        Whether there is a b.
    dtype : dtype
        float32 unless said otherwise.
    generator : numpy.random.Generator, optional
        Where the initial weights come from; the one of ``minidl.seed`` otherwise.

    Notes
    -----
    Weight and bias start uniform in :math:`\pm 1/\sqrt{\text{in\_features}}`, as PyTorch's do.
    With G the upstream gradient, dx = G W, dW = G^T x, db = sum of G over all leading axes; see
    ``minidl.ops.linear`` for the derivation.

    Examples
    --------
    >>> layer = Linear(3, 2)
    >>> layer.weight.value[...] = [[1, 0, 0], [0, 1, 1]]; layer.bias.value[...] = [0.5, 0]
    >>> layer.forward(numpy.array([[1, 2, 3]], dtype=numpy.float32))
    array([[1.5, 5. ]], dtype=float32)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.dtype = numpy.dtype(dtype)
        bound = 1.0 / numpy.sqrt(max(in_features, 1))

        def start(shape: Shape, dtype: Any) -> numpy.ndarray:
            return init.uniform(shape, low=-bound, high=bound, dtype=dtype, generator=generator)

        self._make(in_features, out_features, bias, start, start)

    @property
    def input_shape(self) -> Shape | None:
        """One example: (in_features,)."""
        return (self.in_features,)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Replace the last axis by out_features."""
        self._check_last_axis(input_shape, self.in_features)
        return (*input_shape[:-1], self.out_features)

    def flops(self, input_shape: Shape) -> int:
        """Count 2 in out for each row, and out for the bias."""
        rows = int(numpy.prod(input_shape[:-1], dtype=int))
        return rows * self.out_features * (2 * self.in_features + (self.bias is not None))

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Dense(Affine):
    """An affine map followed by an activation, sized when it first sees its input (Keras's habit).

    Parameters
    ----------
    units : int
        Size of the last axis of the output.
    activation : str, layer or None
        Such as ``"relu"``; applied to the output.
    use_bias : bool
        Whether there is a bias.
    input_shape : tuple of int, optional
        Shape of one example; builds the layer at once.
    kernel_initializer, bias_initializer : str or callable
        As in ``minidl.init``; Glorot uniform and zeros, as in Keras.
    dtype : dtype
        float32 unless said otherwise.
    generator : numpy.random.Generator, optional
        Where the initial weights come from; the one of ``minidl.seed`` otherwise.

    Examples
    --------
    >>> layer = Dense(units=4, activation="relu")
    >>> layer.built
    False
    >>> layer.forward(numpy.ones((2, 3), dtype=numpy.float32)).shape
    (2, 4)
    >>> layer.weight.shape
    (4, 3)
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        input_shape: Shape | None = None,
        kernel_initializer: str | Callable[..., numpy.ndarray] = "glorot_uniform",
        bias_initializer: str | Callable[..., numpy.ndarray] = "zeros",
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(units, int) or units < 1:
            raise ParameterError(f"Dense: units must be a positive integer, got {units!r}")
        self.units = self.out_features = units
        self.use_bias = use_bias
        self.dtype = numpy.dtype(dtype)
        self._initializers = init.get(kernel_initializer), init.get(bias_initializer)
        self._generator = generator
        self._input_shape: Shape | None = None
        self._activation = _named_activation(activation)
        if input_shape is not None:
            self.build(tuple(input_shape))

    @property
    def activation(self) -> Activation | None:
        """The activation layer, or None."""
        return self._activation

    @property
    def built(self) -> bool:
        """Whether the input's size is known yet."""
        return self._input_shape is not None

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one example, once known."""
        return self._input_shape

    def build(self, input_shape: Shape) -> None:
        """Create weight and bias for examples of this shape."""
        if self.built:
            return
        if not input_shape:
            raise ShapeError(f"{self!r}: examples must have at least one axis; reshape X to (N, 1)")
        kernel, bias = self._initializers

        def kernel_init(shape: Shape, dtype: Any) -> numpy.ndarray:
            return kernel(shape, dtype=dtype, generator=self._generator)

        def bias_init(shape: Shape, dtype: Any) -> numpy.ndarray:
            return bias(shape, dtype=dtype, generator=self._generator)

        self._make(input_shape[-1], self.units, self.use_bias, kernel_init, bias_init)
        self._input_shape = tuple(input_shape)

    def forward(self, x: Array) -> Array:
        """Return activation(x W^T + b), building first if this is the first input."""
        if not self.built:
            self.build(numpy.shape(x)[1:])
        y = super().forward(x)
        return y if self._activation is None else self._activation.forward(y)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Go back through the activation, then through the affine map."""
        return super().backward(dy if self._activation is None else self._activation.backward(dy), input_gradient)

    def named_parameters(self, prefix: str = "") -> Any:
        """Yield weight and bias.

        Raises
        ------
        NotBuiltError
            If the layer has not seen its input shape.
        """
        if not self.built:
            raise NotBuiltError(
                f"{self!r}: has no parameters before it knows its input; give Dense(..., input_shape=(features,)), or "
                "run a forward first"
            )
        return super().named_parameters(prefix)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Replace the last axis by units."""
        if self._input_shape is not None:
            self._check_last_axis(input_shape, self._input_shape[-1])
        return (*input_shape[:-1], self.units)

    def flops(self, input_shape: Shape) -> int:
        """Count 2 in units for each row, units for the bias, and the activation's."""
        rows = int(numpy.prod(input_shape[:-1], dtype=int))
        affine = rows * self.units * (2 * input_shape[-1] + self.use_bias)
        return affine + (self._activation.flops(self.output_shape(input_shape)) if self._activation else 0)

    def extra_repr(self) -> str:
        """Show units and activation."""
        return f"{self.units}" + (f", activation={self._activation!r}" if self._activation else "")


class AffineOfDense(Layer):
    """A Dense layer up to, but without, its activation."""

    input_gradient_optional = True
    _not_parts = ("dense",)

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.dense = dense

    @property
    def built(self) -> bool:
        """Whether the layer's parameters exist."""
        return self.dense.built

    def forward(self, x: Array) -> Array:
        """Return x W^T + b."""
        if not self.dense.built:
            self.dense.build(numpy.shape(x)[1:])
        return Affine.forward(self.dense, x)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx."""
        return Affine.backward(self.dense, dy, input_gradient)

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one example, once known."""
        return self.dense.input_shape

    def build(self, input_shape: Shape) -> None:
        """Create the layer's weight and bias."""
        self.dense.build(input_shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the layer's."""
        return self.dense.output_shape(input_shape)

    def named_parameters(self, prefix: str = "") -> Any:
        """Yield the layer's weight and bias, under its names."""
        return self.dense.named_parameters(prefix)

    def __repr__(self) -> str:
        return f"{self.dense!r} without its activation"


def _named_activation(wanted: Any) -> Activation | None:
    """Resolve Dense's ``activation`` argument (its name hides the function inside the class)."""
    return activation(wanted)
