"""Every activation as a layer: it remembers the cache and hands the rest to the engine."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl import engines
from minidl.errors import ParameterError, ShapeError, UnknownNameError
from minidl.layers.base import Layer, OpLayer, Shape, cast_input
from minidl.layers.parameter import Parameter
from minidl.ops import Array
from minidl.ops._names import axis_or_dim

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Activation",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "QuickGELU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "activation",
]


class Activation(OpLayer):
    """A function of each element, or of each row: one op, whose settings are given to the constructor.

    Attributes
    ----------
    settings : tuple
        The op's arguments after x.
    other_names : tuple of str
        What :func:`activation` calls the layer besides the name of its op, such as Keras's spelling.
    """

    other_names: tuple[str, ...] = ()

    def __init__(self, *settings: Any) -> None:
        super().__init__()
        self.settings: tuple[Any, ...] = settings

    def flops(self, input_shape: Shape) -> int:
        """Count one operation an element, by convention, however many the function takes."""
        return math.prod(input_shape)

    def extra_repr(self) -> str:
        """Show the settings."""
        return ", ".join(map(repr, self.settings))


class ReLU(Activation):
    """Apply y = max(x, 0); see ``minidl.ops.relu``."""

    op = "relu"

    def __init__(self) -> None:
        super().__init__()


class ReLU6(Activation):
    """Apply y = min(max(x, 0), 6); see ``minidl.ops.relu6``."""

    op = "relu6"

    def __init__(self) -> None:
        super().__init__()


class LeakyReLU(Activation):
    """Apply y = x where x > 0, negative_slope x elsewhere; see ``minidl.ops.leaky_relu``."""

    op = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(negative_slope)


class Sigmoid(Activation):
    """Apply y = 1 / (1 + exp(-x)); see ``minidl.ops.sigmoid``."""

    op = "sigmoid"

    def __init__(self) -> None:
        super().__init__()


class Tanh(Activation):
    """Apply y = tanh(x); see ``minidl.ops.tanh``."""

    op = "tanh"

    def __init__(self) -> None:
        super().__init__()


class Softplus(Activation):
    """Apply y = log(1 + exp(beta x)) / beta, linear beyond the threshold; see ``minidl.ops.softplus``."""

    op = "softplus"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta, threshold)


class ELU(Activation):
    """Apply y = x where x > 0, alpha (exp(x) - 1) elsewhere; see ``minidl.ops.elu``."""

    op = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)


class GELU(Activation):
    """Apply y = x Phi(x), exactly or in the tanh approximation; see ``minidl.ops.gelu``."""

    op = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ParameterError(f"GELU: approximate must be 'none' or 'tanh', got {approximate!r}")
        super().__init__(approximate)


class QuickGELU(Activation):
    """Apply y = x sigmoid(1.702 x), the GELU of CLIP; see ``minidl.ops.quick_gelu``."""

    op = "quick_gelu"

    def __init__(self) -> None:
        super().__init__()


class SiLU(Activation):
    """Apply y = x sigmoid(x); see ``minidl.ops.silu``."""

    op = "silu"
    other_names = ("swish",)

    def __init__(self) -> None:
        super().__init__()


class Hardswish(Activation):
    """Apply y = x min(max(x + 3, 0), 6) / 6; see ``minidl.ops.hardswish``."""

    op = "hardswish"
    other_names = ("hard_swish", "hard_silu")

    def __init__(self) -> None:
        super().__init__()


class Hardsigmoid(Activation):
    """Apply y = min(max(x + 3, 0), 6) / 6; see ``minidl.ops.hardsigmoid``."""

    op = "hardsigmoid"
    other_names = ("hard_sigmoid",)

    def __init__(self) -> None:
        super().__init__()


class Hardtanh(Activation):
    """Apply y = min(max(x, min_val), max_val); see ``minidl.ops.hardtanh``."""

    op = "hardtanh"
    other_names = ("hard_tanh",)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        if not min_val < max_val:
            raise ParameterError(f"Hardtanh: min_val must be less than max_val, got {min_val!r} and {max_val!r}")
        super().__init__(min_val, max_val)


class Softsign(Activation):
    """Apply y = x / (1 + abs(x)); see ``minidl.ops.softsign``."""

    op = "softsign"

    def __init__(self) -> None:
        super().__init__()


class Mish(Activation):
    """Apply y = x tanh(log(1 + exp(x))); see ``minidl.ops.mish``."""

    op = "mish"

    def __init__(self) -> None:
        super().__init__()


class SELU(Activation):
    """Apply y = s x where x > 0, s a (exp(x) - 1) elsewhere, with constants s and a; see ``minidl.ops.selu``."""

    op = "selu"

    def __init__(self) -> None:
        super().__init__()


class CELU(Activation):
    """Apply y = x where x > 0, alpha (exp(x / alpha) - 1) elsewhere; see ``minidl.ops.celu``."""

    op = "celu"

    def __init__(self, alpha: float = 1.0) -> None:
        if not alpha > 0:
            raise ParameterError(f"CELU: alpha must be positive, got {alpha!r}")
        super().__init__(alpha)


class PReLU(Layer):
    """Apply y = x where x > 0, w x elsewhere, with a slope w that is learned; see ``minidl.ops.prelu``.

    Parameters
    ----------
    num_parameters : int, default 1
        1 for one slope, or the number of channels C for inputs of shape (N, C, ...).
    init : float, default 0.25
        The initial slope.
    dtype : dtype, default float32

    Raises
    ------
    ParameterError
        If num_parameters is not a positive integer.
    ShapeError
        By forward, if the channels of the input are not as many as the slopes.

    Examples
    --------
    >>> PReLU(2).forward(numpy.array([[-1.0, -4.0]], dtype="float32"))
    array([[-0.25, -1.  ]], dtype=float32)
    """

    input_gradient_optional = True

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = "float32") -> None:
        super().__init__()
        if isinstance(num_parameters, bool) or not hasattr(num_parameters, "__index__") or num_parameters < 1:
            raise ParameterError(f"PReLU: num_parameters must be a positive integer, got {num_parameters!r}")
        self.num_parameters, self.init = int(num_parameters), init
        slopes = numpy.full(num_parameters, init, dtype)
        self.weight = Parameter(engines.current().asarray(slopes), name="weight")

    def forward(self, x: Array) -> Array:
        """Return the rectified x."""
        weight = self.weight.value
        if type(x) is not type(weight) or x.dtype != weight.dtype:
            x = cast_input(self, x, weight)
        if self.num_parameters > 1 and x.shape[1:2] != (self.num_parameters,):
            raise ShapeError(
                f"{self!r}: expected a batch of shape (N, {self.num_parameters}, ...), with channels on axis 1, got shape "
                f"{x.shape}"
            )
        y, cache = engines.current().prelu(x, weight)
        self._remember(cache)
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Add to the gradient of the slopes and return dx."""
        return self._run_backward("prelu", dy, (self.weight,), input_gradient)

    def flops(self, input_shape: Shape) -> int:
        """Count one operation an element."""
        return math.prod(input_shape)

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"{self.num_parameters}" + ("" if self.init == 0.25 else f", init={self.init!r}")


class Softmax(Activation):
    """Apply y = exp(x) / sum of exp(x) along an axis; see ``minidl.ops.softmax``."""

    op = "softmax"

    @axis_or_dim
    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim)


class LogSoftmax(Activation):
    """Apply y = x - log(sum of exp(x)) along an axis; see ``minidl.ops.log_softmax``."""

    op = "log_softmax"

    @axis_or_dim
    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim)


class GLU(OpLayer):
    """Apply y = a sigmoid(b), with a the first half of x along an axis and b the second; see ``minidl.ops.glu``.

    Parameters
    ----------
    dim : int, default -1
        The axis that is halved, counted with the batch; not 0. Keras's name for it, ``axis``, is taken too.

    Raises
    ------
    ParameterError
        If the axis is that of the batch.
    ShapeError
        If there is no such axis, or its length is odd.

    Examples
    --------
    >>> GLU().forward(numpy.array([[8.0, 4.0, 0.0, 0.0]]))
    array([[4., 2.]])
    """

    op = "glu"

    @axis_or_dim
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        if not hasattr(dim, "__index__") or dim == 0:
            raise ParameterError(f"GLU: dim must be an axis behind that of the batch, got {dim!r}")
        self.dim = dim.__index__()

    @property
    def settings(self) -> tuple[int]:
        """The axis."""
        return (self.dim,)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape with one axis halved."""
        at = self.dim + len(input_shape) if self.dim < 0 else self.dim - 1
        if not 0 <= at < len(input_shape) or input_shape[at] % 2:
            raise ShapeError(
                f"{self!r}: axis {self.dim} must have an even length, got examples of shape {tuple(input_shape)}"
            )
        return (*input_shape[:at], input_shape[at] // 2, *input_shape[at + 1 :])

    def flops(self, input_shape: Shape) -> int:
        """Count a gate and a product for each element of the output."""
        return 2 * math.prod(self.output_shape(input_shape))

    def extra_repr(self) -> str:
        """Show the axis."""
        return f"dim={self.dim}"


_NAMED: dict[str, type[Activation]] = {
    name: layer
    for layer in tuple(globals().values())
    if isinstance(layer, type) and layer is not Activation and issubclass(layer, Activation)
    for name in (layer.op, *layer.other_names)
}


def activation(name: str | Activation | None) -> Activation | None:
    """Return the activation layer of a name: that of its op, or Keras's.

    Parameters
    ----------
    name : str, Activation or None
        Such as ``"relu"`` or ``"swish"``. None and ``"linear"`` mean no activation; a layer is returned as it is.

    Raises
    ------
    UnknownNameError
        If no activation has the name; the message lists those known.

    Examples
    --------
    >>> activation("relu"), activation("swish"), activation("linear")
    (ReLU(), SiLU(), None)
    """
    if name is None or name == "linear":
        return None
    if isinstance(name, Layer):
        return name  # type: ignore[return-value]
    if name not in _NAMED:
        raise UnknownNameError.among("activation", name, [*_NAMED, "linear"])
    return _NAMED[name]()
