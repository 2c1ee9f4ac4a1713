"""The affine map as a layer, as PyTorch has it (Linear) and as Keras has it (Dense)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from minidl import init
from minidl.engines import current
from minidl.errors import NotBuiltError, ParameterError, ShapeError
from minidl.layers.activation import Activation, activation
from minidl.layers.base import Layer, Shape, as_shape, cast_input
from minidl.layers.inference import keeps_caches
from minidl.layers.parameter import Parameter, claim_gradients, release_gradients
from minidl.ops import Array

__all__ = ["Affine", "AffineOfDense", "Dense", "Linear"]


class Affine(Layer):
    """What Linear and Dense share: y = x W^T + b and its gradients."""

    input_gradient_optional = True
    dtype: Any
    weight: Parameter
    bias: Parameter | None

    def forward(self, x: Array) -> Array:
        """Return x W^T + b."""
        weight, bias = self.weight._value, self.bias  # (out, in), (out,)
        if type(x) is not type(weight) or x.dtype is not weight.dtype:
            x = cast_input(self, x, weight)
        y, cache = current().linear(x, weight, None if bias is None else bias._value)
        if keeps_caches():
            self.__dict__["_cache"] = cache
        return y  # (..., out)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Add dW = dy^T x and db = sum of dy over all leading axes; return dx = dy W, or None with ``input_gradient=False``."""
        cache = self._cache
        if cache is None:
            self._remembered()
        parameters = self.weight, self.bias
        storage = into, add, wanted = claim_gradients(parameters, input_gradient)
        try:  # as run_backward, without another call
            return current().linear_backward(dy, cache, into, add, wanted)[0]
        except BaseException:
            release_gradients(parameters, storage)
            raise

    def _make_parameters(
        self, in_features: int, out_features: int, bias: bool, weight_init: Any, bias_init: Any
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise ParameterError(
                f"{type(self).__name__}: in_features and out_features must be positive, got {in_features} and "
                f"{out_features}"
            )
        asarray = current().asarray
        self.weight = Parameter(asarray(weight_init((out_features, in_features), dtype=self.dtype)), name="weight")
        self.bias = Parameter(asarray(bias_init((out_features,), dtype=self.dtype)), name="bias") if bias else None
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
    """The affine map y = x W^T + b; ``minidl.ops.linear`` derives its gradients.

    Parameters
    ----------
    in_features, out_features : int
        The sizes of the last axis of x and of y. There may be any leading axes.
    bias : bool, default True
        Whether there is a b.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter, shape (out_features,), or None

    Raises
    ------
    ParameterError
        If a size is not positive.

    Notes
    -----
    The initial weight and bias are uniform in +-1 / sqrt(in_features), as in PyTorch.

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

        def draw(shape: Shape, dtype: Any) -> numpy.ndarray:
            return init.uniform(shape, low=-bound, high=bound, dtype=dtype, generator=generator)

        self._make_parameters(in_features, out_features, bias, draw, draw)

    @property
    def input_shape(self) -> Shape | None:
        """One example: (in_features,)."""
        return (self.in_features,)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., out_features)."""
        self._check_last_axis(input_shape, self.in_features)
        return (*input_shape[:-1], self.out_features)

    def flops(self, input_shape: Shape) -> int:
        """Count 2 in_features out_features for each row, and out_features for the bias."""
        rows = int(numpy.prod(input_shape[:-1], dtype=int))
        return rows * self.out_features * (2 * self.in_features + (self.bias is not None))

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Dense(Affine):
    """An affine map and an activation, as in Keras: y = activation(x W^T + b).

    The layer is lazy: it makes its parameters when it knows the size of its input.

    Parameters
    ----------
    units : int
        The size of the last axis of y.
    activation : str or layer, optional
        Such as ``"relu"``.
    use_bias : bool, default True
    input_shape : tuple of int, or int, optional
        The shape of one example, to make the parameters at once; 4 is (4,).
    kernel_initializer : str or callable, default "glorot_uniform"
        See ``minidl.init``. A function takes the shape, which is (units, features), or the shape and the dtype.
    bias_initializer : str or callable, default "zeros"
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight : Parameter, shape (units, features)
    bias : Parameter, shape (units,), or None

    Raises
    ------
    ParameterError
        If ``units`` is not a positive integer.
    UnknownNameError
        If there is no activation or initialiser of that name.

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
        if isinstance(units, bool) or not isinstance(units, (int, numpy.integer)) or units < 1:
            raise ParameterError(f"Dense: units must be a positive integer, got {units!r}")
        self.units = self.out_features = int(units)
        self.use_bias = use_bias
        self.dtype = numpy.dtype(dtype)
        self._initializers = init.get(kernel_initializer), init.get(bias_initializer)
        self._generator = generator
        self._input_shape: Shape | None = None
        self._activation = _make_activation(activation)
        if input_shape is not None:
            self.build(input_shape)

    @property
    def activation(self) -> Activation | None:
        """The activation layer, or None."""
        return self._activation

    @property
    def built(self) -> bool:
        """Whether the parameters exist."""
        return self._input_shape is not None

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one example, or None if it is not known yet."""
        return self._input_shape

    def build(self, input_shape: Shape) -> None:
        """Make weight and bias for examples of this shape."""
        if self.built:
            return
        input_shape = as_shape(input_shape, repr(self))
        if not input_shape:
            raise ShapeError(f"{self!r}: examples must have at least one axis; reshape X to (N, 1)")
        kernel, bias = self._initializers

        def kernel_init(shape: Shape, dtype: Any) -> numpy.ndarray:
            return init.draw(kernel, shape, dtype, self._generator, "Dense: kernel_initializer")

        def bias_init(shape: Shape, dtype: Any) -> numpy.ndarray:
            return init.draw(bias, shape, dtype, self._generator, "Dense: bias_initializer")

        self._make_parameters(input_shape[-1], self.units, self.use_bias, kernel_init, bias_init)
        self._input_shape = tuple(input_shape)

    def forward(self, x: Array) -> Array:
        """Return activation(x W^T + b). The first call makes the parameters."""
        if not self.built:
            self.build(numpy.shape(x)[1:])
        y = super().forward(x)
        return y if self._activation is None else self._activation.forward(y)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Add to the gradients of weight and bias, and return dx, or None with ``input_gradient=False``."""
        return super().backward(dy if self._activation is None else self._activation.backward(dy), input_gradient)

    def named_parameters(self, prefix: str = "") -> Any:
        """Yield weight and bias.

        Raises
        ------
        NotBuiltError
            If the layer does not know its input's shape yet.
        """
        if not self.built:
            raise NotBuiltError(
                f"{self!r}: has no parameters before it knows its input; give Dense(..., input_shape=(features,)), or "
                "run a forward first"
            )
        return super().named_parameters(prefix)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., units)."""
        if self._input_shape is not None:
            self._check_last_axis(input_shape, self._input_shape[-1])
        return (*input_shape[:-1], self.units)

    def flops(self, input_shape: Shape) -> int:
        """Count 2 features units for each row, units for the bias, and those of the activation."""
        rows = int(numpy.prod(input_shape[:-1], dtype=int))
        affine = rows * self.units * (2 * input_shape[-1] + self.use_bias)
        return affine + (self._activation.flops(self.output_shape(input_shape)) if self._activation else 0)

    def extra_repr(self) -> str:
        """Return units and activation."""
        return f"{self.units}" + (f", activation={self._activation!r}" if self._activation else "")


class AffineOfDense(Layer):
    """The affine map of a Dense layer, without its activation."""

    input_gradient_optional = True
    _not_parts = ("dense",)

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.dense = dense

    @property
    def built(self) -> bool:
        """Whether the parameters of the Dense layer exist."""
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
        """The shape of one example, or None if it is not known yet."""
        return self.dense.input_shape

    def build(self, input_shape: Shape) -> None:
        """Make the weight and bias of the Dense layer."""
        self.dense.build(input_shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., units)."""
        return self.dense.output_shape(input_shape)

    def named_parameters(self, prefix: str = "") -> Any:
        """Yield the weight and bias of the Dense layer, with its names."""
        return self.dense.named_parameters(prefix)

    def __repr__(self) -> str:
        return f"{self.dense!r} without its activation"


def _make_activation(wanted: Any) -> Activation | None:
    """Call the function ``activation``, which the argument of the same name hides in ``Dense.__init__``."""
    return activation(wanted)
