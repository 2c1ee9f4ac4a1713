"""Initialisers: the initial values of parameters.

Each function takes a shape and returns a new array. Random numbers come from ``minidl.random.generator()`` unless a
generator is given. They are drawn in float64 and rounded, so a seed gives the same weights in every precision.

A weight of shape (out, in) has fan_in = in and fan_out = out. For a convolution's weight, of shape ``(out, in, *kernel)``, both
are multiplied by the number of kernel positions (:func:`fans`). With independent weights of variance s^2 and inputs of mean
square q, the sum of a unit has variance fan_in s^2 q. So the variance::

    s^2 = gain^2 / fan_in

keeps the size of the signal, if the gain compensates for the activation (:func:`calculate_gain`). Backward, the same holds
with fan_out. A uniform distribution on [-b, b] has s^2 = b^2 / 3.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError, UnknownNameError
from minidl.ops import ACTIVATIONS, FORMULAS
from minidl.ops._scalars import scalars_checked, shown
from minidl.ops._windows import require_addressable
from minidl.random import generator as context_generator

__all__ = [
    "calculate_gain",
    "constant",
    "fans",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Shape = Sequence[int]
Generator = numpy.random.Generator | None
Initializer = Callable[..., numpy.ndarray]

_undrawn: ContextVar[bool] = ContextVar("minidl_undrawn", default=False)

_BLOCK = 1 << 16
"""Random numbers drawn at a time, so that large weights need no float64 copy of themselves."""


# plain distributions -------------------------------------------------------------------------------------------------


@scalars_checked
def uniform(
    shape: Shape, *, low: float = -0.05, high: float = 0.05, dtype: Any = "float32", generator: Generator = None
) -> numpy.ndarray:
    """Draw from the uniform distribution on [low, high); the defaults are those of Keras's ``random_uniform``.

    Raises
    ------
    ParameterError
        If low is greater than high, or either is not finite.

    Examples
    --------
    >>> x = uniform((2, 3), low=1.0, high=2.0, generator=numpy.random.default_rng(0))
    >>> x.shape, x.dtype.name, bool(x.min() >= 1 and x.max() <= 2)
    ((2, 3), 'float32', True)
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ParameterError(f"uniform: expected finite low <= high, got low={low!r} and high={high!r}")
    return _draw(shape, dtype, lambda n, source: source.uniform(low, high, n), generator)


@scalars_checked
def normal(
    shape: Shape, *, mean: float = 0.0, std: float = 0.05, dtype: Any = "float32", generator: Generator = None
) -> numpy.ndarray:
    """Draw from the normal distribution; the defaults are those of Keras's ``random_normal``.

    Raises
    ------
    ParameterError
        If std is negative, or mean or std is not finite.
    """
    if not (math.isfinite(mean) and math.isfinite(std) and std >= 0):
        raise ParameterError(f"normal: expected a finite mean and std >= 0, got mean={mean!r} and std={std!r}")
    return _draw(shape, dtype, lambda n, source: source.normal(mean, std, n), generator)


@scalars_checked
def constant(shape: Shape, value: float = 0.0, *, dtype: Any = "float32", generator: Generator = None) -> numpy.ndarray:
    """Fill with one value; the generator is not used.

    >>> constant((2,), 0.5)
    array([0.5, 0.5], dtype=float32)
    """
    return numpy.full(_check_shape(shape), value, dtype=_check_dtype(dtype))


@scalars_checked
def zeros(shape: Shape, *, dtype: Any = "float32", generator: Generator = None) -> numpy.ndarray:
    """Fill with zeros; the generator is not used."""
    return constant(shape, 0.0, dtype=dtype)


@scalars_checked
def ones(shape: Shape, *, dtype: Any = "float32", generator: Generator = None) -> numpy.ndarray:
    """Fill with ones; the generator is not used."""
    return constant(shape, 1.0, dtype=dtype)


# scaled by the fans --------------------------------------------------------------------------------------------------


@scalars_checked
def xavier_uniform(
    shape: Shape, *, gain: float = 1.0, dtype: Any = "float32", generator: Generator = None
) -> numpy.ndarray:
    """Draw from the uniform distribution on [-b, b] with b = gain sqrt(6 / (fan_in + fan_out)).

    Also called Glorot's; Keras's default for Dense. X. Glorot, Y. Bengio, "Understanding the difficulty of training
    deep feedforward neural networks", AISTATS 2010, equation 16.

    Raises
    ------
    ShapeError
        If the shape has fewer than two axes, and so no fans.

    Examples
    --------
    >>> bool(abs(xavier_uniform((2, 4))).max() <= 1.0)  # sqrt(6 / (4 + 2)) = 1
    True
    """
    fan_in, fan_out = fans(shape)
    bound = gain * math.sqrt(6.0 / max(fan_in + fan_out, 1))
    return uniform(shape, low=-bound, high=bound, dtype=dtype, generator=generator)


@scalars_checked
def xavier_normal(
    shape: Shape, *, gain: float = 1.0, dtype: Any = "float32", generator: Generator = None
) -> numpy.ndarray:
    """Draw from the normal distribution of variance 2 gain^2 / (fan_in + fan_out).

    Also called Glorot's. X. Glorot, Y. Bengio, AISTATS 2010, equation 12. As in PyTorch the distribution is not truncated;
    Keras truncates it at two standard deviations.
    """
    fan_in, fan_out = fans(shape)
    return normal(shape, std=gain * math.sqrt(2.0 / max(fan_in + fan_out, 1)), dtype=dtype, generator=generator)


@scalars_checked
def kaiming_uniform(
    shape: Shape,
    *,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: Any = "float32",
    generator: Generator = None,
) -> numpy.ndarray:
    """Draw from the uniform distribution on [-b, b] with b = gain sqrt(3 / fan).

    Also called He's. K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015, equations 10, 14 and 15.

    Parameters
    ----------
    shape : sequence of int
        The shape ``(out, in, *kernel)``.
    a : float, default 0.0
        The negative slope for ``"leaky_relu"``; 0 is the plain ReLU.
    mode : {"fan_in", "fan_out"}, default "fan_in"
        ``"fan_in"`` keeps the size of the signal forward, ``"fan_out"`` that of the gradient backward.
    nonlinearity : str, default "leaky_relu"
        Determines the gain; as in :func:`calculate_gain`.
    dtype : dtype, default "float32"
    generator : numpy.random.Generator, optional

    Raises
    ------
    ShapeError
        If the shape has fewer than two axes, and so no fans.
    ParameterError
        If the mode is neither of the two.
    """
    bound = math.sqrt(3.0) * _kaiming_std(shape, a, mode, nonlinearity)
    return uniform(shape, low=-bound, high=bound, dtype=dtype, generator=generator)


@scalars_checked
def kaiming_normal(
    shape: Shape,
    *,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: Any = "float32",
    generator: Generator = None,
) -> numpy.ndarray:
    """Draw from the normal distribution of variance gain^2 / fan; arguments as in :func:`kaiming_uniform`.

    Also called He's; not truncated (Keras truncates it).
    """
    return normal(shape, std=_kaiming_std(shape, a, mode, nonlinearity), dtype=dtype, generator=generator)


@scalars_checked
def lecun_uniform(shape: Shape, *, dtype: Any = "float32", generator: Generator = None) -> numpy.ndarray:
    """Draw from the uniform distribution on [-b, b] with b = sqrt(3 / fan_in).

    Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, "Efficient BackProp" (1998), section 4.6, equation 16.
    """
    return kaiming_uniform(shape, nonlinearity="linear", dtype=dtype, generator=generator)


@scalars_checked
def lecun_normal(shape: Shape, *, dtype: Any = "float32", generator: Generator = None) -> numpy.ndarray:
    """Draw from the normal distribution of variance 1 / fan_in; see :func:`lecun_uniform`."""
    return kaiming_normal(shape, nonlinearity="linear", dtype=dtype, generator=generator)


glorot_uniform, glorot_normal = xavier_uniform, xavier_normal
he_uniform, he_normal = kaiming_uniform, kaiming_normal


@scalars_checked
def orthogonal(
    shape: Shape, *, gain: float = 1.0, dtype: Any = "float32", generator: Generator = None
) -> numpy.ndarray:
    """Draw an orthogonal matrix times the gain: its rows or its columns are orthonormal, whichever are fewer.

    All axes but the first together are the columns. The matrix is the Q of a QR decomposition of a normal matrix, with each
    column multiplied by the sign of R's diagonal. This makes it uniform over all orthogonal matrices (F. Mezzadri, "How to
    generate random matrices from the classical compact groups", Notices of the AMS 54 (2007)).
    A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    ICLR 2014.

    Raises
    ------
    ShapeError
        If the shape has fewer than two axes.

    Examples
    --------
    >>> q = orthogonal((2, 3), dtype="float64")
    >>> numpy.allclose(q @ q.T, numpy.eye(2))
    True
    """
    fans(shape)  # raises for fewer than two axes
    rows, columns = shape[0], math.prod(shape[1:])
    long, short = max(rows, columns), min(rows, columns)
    q, r = numpy.linalg.qr(normal((long, short), std=1.0, dtype="float64", generator=generator))
    q *= numpy.where(numpy.diagonal(r) < 0, -1.0, 1.0)
    q = q if rows >= columns else q.T  # (rows, columns)
    return numpy.ascontiguousarray((gain * q).reshape(tuple(shape)), dtype=_check_dtype(dtype))


# fans and gains ------------------------------------------------------------------------------------------------------


@scalars_checked
def fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out): the number of inputs of a unit, and the number of units that an input reaches.

    Raises
    ------
    ShapeError
        If the shape has fewer than two axes.

    Examples
    --------
    >>> fans((10, 64))  # a linear layer, (out, in)
    (64, 10)
    >>> fans((16, 3, 5, 5))  # a convolution, (out, in, height, width)
    (75, 400)
    """
    shape = _check_shape(shape)
    if len(shape) < 2:
        raise ShapeError(
            f"expected a weight of shape (out, in) or (out, in, *kernel), got {shape}: it has no fans; initialise a bias "
            "with zeros, constant, uniform or normal"
        )
    positions = math.prod(shape[2:])
    return shape[1] * positions, shape[0] * positions


@scalars_checked
def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the recommended gain of an activation, as in ``torch.nn.init.calculate_gain``.

    It is 1 for linear maps and the sigmoid, 5/3 for tanh, sqrt(2) for ReLU, sqrt(2 / (1 + a^2)) for leaky ReLU of slope a, and
    3/4 for SELU. For an activation without an entry in PyTorch, such as GELU, it is::

        gain = 1 / sqrt(E[f(z)^2]),   z standard normal

    so that inputs of unit mean square give outputs of unit mean square. This follows the argument of He et al., and gives
    sqrt(2) for ReLU.

    Parameters
    ----------
    nonlinearity : str
    param : float, default 0.01
        The slope of ``"leaky_relu"``.

    Raises
    ------
    UnknownNameError
        If the activation is unknown.

    Examples
    --------
    >>> round(calculate_gain("relu"), 4), round(calculate_gain("gelu"), 2)
    (1.4142, 1.53)
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1.0 + slope * slope))
    if nonlinearity in _GAINS:
        return _GAINS[nonlinearity]
    if nonlinearity in _MEASURED:
        return _second_moment_gain(nonlinearity)
    raise UnknownNameError.among("nonlinearity", nonlinearity, [*_GAINS, *_MEASURED, "leaky_relu"])


_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "softmax": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}
_MEASURED = tuple(name for name in ACTIVATIONS if name not in _GAINS and name != "leaky_relu")


def _second_moment_gain(activation: str) -> float:
    """Integrate f(z)^2 over the standard normal density by the trapezoid rule, exact to 1e-7 here."""
    z, step = numpy.linspace(-12.0, 12.0, 8001, retstep=True)
    y = FORMULAS[activation](z)[0]
    density = numpy.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return 1.0 / math.sqrt(step * float(numpy.sum(y * y * density)))


def _kaiming_std(shape: Shape, a: float, mode: str, nonlinearity: str) -> float:
    fan_in, fan_out = fans(shape)
    if mode not in ("fan_in", "fan_out"):
        raise ParameterError(f"kaiming: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan_in if mode == "fan_in" else fan_out, 1))


# by name -------------------------------------------------------------------------------------------------------------

_NAMED: dict[str, Initializer] = {
    "constant": constant,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "kaiming_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "normal": normal,
    "ones": ones,
    "orthogonal": orthogonal,
    "random_normal": normal,
    "random_uniform": uniform,
    "uniform": uniform,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "zeros": zeros,
}


@scalars_checked
def get(initializer: str | Initializer) -> Initializer:
    """Return the initialiser of a name (Keras's or PyTorch's), or the callable itself.

    A callable takes ``(shape, dtype=..., generator=...)``, or fewer of these, and returns an array. Use ``functools.partial``
    to set options of a function of this module.

    Raises
    ------
    UnknownNameError
        If there is no initialiser of that name; lists the known names.
    ParameterError
        If it is neither a name nor a function.

    Examples
    --------
    >>> get("he_normal")((4, 3)).shape
    (4, 3)
    """
    if callable(initializer):
        return initializer
    if not isinstance(initializer, str):
        raise ParameterError(
            f"an initializer must be a name or a function, got {type(initializer).__name__}; for given values assign them: "
            "layer.weight.value = array"
        )
    if initializer not in _NAMED:
        raise UnknownNameError.among("initializer", initializer, _NAMED)
    return _NAMED[initializer]


@scalars_checked
def draw(initializer: Initializer, shape: Shape, dtype: Any, generator: Generator, where: str) -> numpy.ndarray:
    """Return the initial values, from a function that takes the shape, or the shape and the dtype, or a generator too.

    Parameters
    ----------
    initializer : callable
    shape : tuple of int
    dtype : dtype
        Other dtypes that the function returns are converted.
    generator : numpy.random.Generator or None
    where : str
        For messages.

    Raises
    ------
    ParameterError
        If the function takes something else.
    ShapeError
        If it returns another shape.
    """
    ways: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
        ((shape,), {"dtype": dtype, "generator": generator}),
        ((shape,), {"dtype": dtype}),
        ((shape, dtype), {}),
        ((shape,), {}),
    )
    for args, named in ways:
        try:
            inspect.signature(initializer).bind(*args, **named)
        except TypeError:
            continue
        except ValueError:  # its arguments cannot be inspected
            pass
        found = initializer(*args, **named)
        values = numpy.asarray(found, dtype=dtype) if isinstance(found, (int, float, list, tuple)) else found
        values = values.astype(dtype, copy=False)
        if values.shape != shape:
            raise ShapeError(f"{where}: expected an array of shape {shape}, got {values.shape}")
        return values
    raise ParameterError(
        f"{where}: the function must take (shape), (shape, dtype) or (shape, dtype=..., generator=...), but takes "
        f"{inspect.signature(initializer)}"
    )


# not drawing ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Draw no initial values inside, because a file will give them: a large model is then built at once, and in no memory.

    Initialisers return zeros that cannot be written to, all of them one number. Parameters begin at zeros that take no memory
    before they are written, and know that they still have to be read, so that ``from_pretrained`` can refuse a model with any
    that the file did not give.
    """
    token = _undrawn.set(True)
    try:
        yield
    finally:
        _undrawn.reset(token)


def is_undrawn() -> bool:
    """Return whether this is inside :func:`undrawn`."""
    return _undrawn.get()


# checks and drawing --------------------------------------------------------------------------------------------------


def _check_shape(shape: Shape) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not all(isinstance(n, (int, numpy.integer)) and not isinstance(n, bool) and n >= 0 for n in sizes):
        raise ShapeError(f"expected a shape of non-negative integers, got {shown(shape)}")
    require_addressable(sizes, "initialiser")
    return tuple(map(int, sizes))


def _check_dtype(dtype: Any) -> numpy.dtype[Any]:
    dtype = numpy.dtype(dtype)
    if dtype.kind != "f":
        raise DtypeError(f"parameters must be floating-point, got dtype {dtype}; use float32 or float64")
    return dtype


def _draw(
    shape: Shape,
    dtype: Any,
    draw: Callable[[int, numpy.random.Generator], numpy.ndarray],
    generator: Generator,
) -> numpy.ndarray:
    if is_undrawn():
        return numpy.broadcast_to(numpy.zeros((), _check_dtype(dtype)), _check_shape(shape))
    source = context_generator() if generator is None else generator
    result = numpy.empty(_check_shape(shape), dtype=_check_dtype(dtype))
    flat = result.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        block[...] = draw(block.size, source)
    return result
