"""Functions of one element, arithmetic with broadcasting, comparisons, logic and bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.operators.table import Node, fits, operator, unbroadcast
from minidl.ops.special import erf

# activations that are ops of minidl: operator, op, attributes, and the settings of the op ---------------------------------

ACTIVATIONS: dict[str, tuple[str, str, Callable[[Node], tuple[Any, ...]]]] = {
    "Relu": ("relu", "", lambda node: ()),
    "Sigmoid": ("sigmoid", "", lambda node: ()),
    "Tanh": ("tanh", "", lambda node: ()),
    "Softsign": ("softsign", "", lambda node: ()),
    "Softplus": ("softplus", "", lambda node: (1.0, 1e30)),
    "LeakyRelu": ("leaky_relu", "alpha", lambda node: (node.get("alpha", 0.01),)),
    "Elu": ("elu", "alpha", lambda node: (node.get("alpha", 1.0),)),
    "Celu": ("celu", "alpha", lambda node: (node.get("alpha", 1.0),)),
    "Gelu": ("gelu", "approximate", lambda node: (node.get("approximate", "none"),)),
    "Mish": ("mish", "", lambda node: ()),
    "HardSwish": ("hardswish", "", lambda node: ()),
}
"""Operator, op of minidl, attributes, and the settings of the op for them."""

for _kind, (_op, _attributes, _settings) in ACTIVATIONS.items():

    def _activate(node: Node, x: Any, _op: str = _op, _settings: Any = _settings) -> Any:
        y, cache = getattr(current(), _op)(x, *_settings(node))
        return (y,), lambda dy: (getattr(current(), f"{_op}_backward")(dy, cache),)

    operator(_kind, _attributes)(_activate)

# other functions of one element: f(x), and f'(x) of x and y ----------------------------------------------------------------

_FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "Sqrt": (numpy.sqrt, lambda x, y: fits(x, 0.5) / y),
    "Exp": (numpy.exp, lambda x, y: y),
    "Log": (numpy.log, lambda x, y: 1 / x),
    "Neg": (numpy.negative, lambda x, y: fits(x, -1)),
    "Reciprocal": (numpy.reciprocal, lambda x, y: -y * y),
    "Abs": (numpy.abs, lambda x, y: numpy.sign(x)),
    "Sin": (numpy.sin, lambda x, y: numpy.cos(x)),
    "Cos": (numpy.cos, lambda x, y: -numpy.sin(x)),
    "Tan": (numpy.tan, lambda x, y: 1 + y * y),
    "Asin": (numpy.arcsin, lambda x, y: 1 / numpy.sqrt(1 - x * x)),
    "Acos": (numpy.arccos, lambda x, y: -1 / numpy.sqrt(1 - x * x)),
    "Atan": (numpy.arctan, lambda x, y: 1 / (1 + x * x)),
    "Sinh": (numpy.sinh, lambda x, y: numpy.cosh(x)),
    "Cosh": (numpy.cosh, lambda x, y: numpy.sinh(x)),
    "Asinh": (numpy.arcsinh, lambda x, y: 1 / numpy.sqrt(x * x + 1)),
    "Acosh": (numpy.arccosh, lambda x, y: 1 / numpy.sqrt(x * x - 1)),
    "Atanh": (numpy.arctanh, lambda x, y: 1 / (1 - x * x)),
    "Erf": (erf, lambda x, y: fits(x, 2 / math.sqrt(math.pi)) * numpy.exp(-x * x)),
    "Sign": (numpy.sign, None),
    "Floor": (numpy.floor, None),
    "Ceil": (numpy.ceil, None),
    "Round": (numpy.rint, None),
    "IsNaN": (numpy.isnan, None),
    "Not": (numpy.logical_not, None),
    "BitwiseNot": (numpy.invert, None),
}
"""Operator, function, and its derivative; None where it is 0 or there is none."""

for _kind, (_function, _derivative) in _FUNCTIONS.items():

    def _apply(node: Node, x: Any, _function: Any = _function, _derivative: Any = _derivative) -> Any:
        y = numpy.asarray(_function(x))
        y = y if y.dtype.kind == "b" else y.astype(x.dtype, copy=False)
        if x.dtype.kind != "f" or _derivative is None:
            return (y,), lambda dy: (None if x.dtype.kind != "f" else numpy.zeros_like(x),)
        return (y,), lambda dy: (dy * _derivative(x, y),)

    operator(_kind)(_apply)


@operator("Swish", "alpha")
def _swish(node: Node, x: Any) -> Any:
    """Return x s(a x), of which the derivative is s + a x s (1 - s)."""
    alpha = fits(x, node.get("alpha", 1.0))
    s, _ = current().sigmoid(alpha * x)
    return (x * s,), lambda dy: (dy * (s + alpha * x * s * (1 - s)),)


@operator("Selu", "alpha gamma")
def _selu(node: Node, x: Any) -> Any:
    alpha, gamma = (fits(x, node.get(*pair)) for pair in (("alpha", 1.6732632423543772), ("gamma", 1.0507009873554805)))
    grown = alpha * numpy.exp(numpy.minimum(x, 0))
    return (gamma * numpy.where(x > 0, x, grown - alpha),), lambda dy: (dy * gamma * numpy.where(x > 0, 1, grown),)


@operator("ThresholdedRelu", "alpha")
def _thresholded(node: Node, x: Any) -> Any:
    kept = x > fits(x, node.get("alpha", 1.0))
    return (x * kept,), lambda dy: (dy * kept,)


@operator("Shrink", "bias lambd")
def _shrink(node: Node, x: Any) -> Any:
    bias, width = fits(x, node.get("bias", 0.0)), node.get("lambd", 0.5)
    above, below = x > width, x < -width
    return (numpy.where(above, x - bias, numpy.where(below, x + bias, 0)).astype(x.dtype),), lambda dy: (
        dy * (above | below),
    )


@operator("HardSigmoid", "alpha beta")
def _hard_sigmoid(node: Node, x: Any) -> Any:
    alpha, beta = fits(x, node.get("alpha", 0.2)), fits(x, node.get("beta", 0.5))
    line = alpha * x
    line += beta
    return (numpy.minimum(numpy.maximum(line, fits(x, 0)), fits(x, 1)),), lambda dy: (
        dy * alpha * ((line > 0) & (line < 1)),
    )


@operator("Identity")
def _identity(node: Node, x: Any) -> Any:
    return (x,), lambda dy: (dy,)


@operator("IsInf", "detect_negative detect_positive")
def _is_inf(node: Node, x: Any) -> Any:
    y = numpy.zeros(x.shape, bool)
    y |= (x == numpy.inf) & bool(node.get("detect_positive", 1))
    y |= (x == -numpy.inf) & bool(node.get("detect_negative", 1))
    return (y,), lambda dy: ()


@operator("PRelu")
def _prelu(node: Node, x: Any, slope: Any) -> Any:
    positive = x > 0
    return (numpy.where(positive, x, slope * x).astype(x.dtype),), lambda dy: (
        numpy.where(positive, dy, dy * slope),
        unbroadcast(numpy.where(positive, 0, dy * x), slope.shape),
    )


@operator("Clip", "min max", settings=(1, 2))
def _clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    low, high = (node.get(name) if given is None else given for name, given in (("min", low), ("max", high)))
    y = x
    y = y if low is None else numpy.maximum(y, fits(x, low))
    y = y if high is None else numpy.minimum(y, fits(x, high))
    return (y,), lambda dy: (dy * (y == x),)


# two arrays ------------------------------------------------------------------------------------------------------------------


def _both(a: Any, b: Any, da: Any, db: Any) -> Any:
    return unbroadcast(da, a.shape), unbroadcast(db, b.shape)


@operator("Add")
def _add(node: Node, a: Any, b: Any) -> Any:
    return (a + b,), lambda dy: _both(a, b, dy, dy)


@operator("Sub")
def _sub(node: Node, a: Any, b: Any) -> Any:
    return (a - b,), lambda dy: _both(a, b, dy, -dy)


@operator("Mul")
def _mul(node: Node, a: Any, b: Any) -> Any:
    return (a * b,), lambda dy: _both(a, b, dy * b, dy * a)


@operator("Div")
def _div(node: Node, a: Any, b: Any) -> Any:
    """Divide a by b; integers towards zero, as in C."""
    if a.dtype.kind != "f":
        q, r = numpy.divmod(a, b)
        return ((q + ((r != 0) & ((a < 0) != (b < 0)))).astype(a.dtype),), lambda dy: ()
    y = a / b
    return (y,), lambda dy: _both(a, b, dy / b, -dy * y / b)


@operator("Pow")
def _pow(node: Node, a: Any, b: Any) -> Any:
    y = numpy.power(a, b)
    if a.dtype.kind == "f" and b.size == 1 and float(b.flat[0]) == 2:
        return (a * a,), lambda dy: (dy * (a + a), unbroadcast(_log_times(dy * a * a, a), b.shape))
    y = y.astype(a.dtype, copy=False)

    def back(dy: Any) -> Any:
        power = b.astype(a.dtype)
        da = dy * power * numpy.power(a, power - 1)
        return unbroadcast(da, a.shape), unbroadcast(_log_times(dy * y, a), b.shape) if b.dtype.kind == "f" else None

    return (y,), back


def _log_times(z: Any, a: Any) -> Any:
    """Return z log(a), and 0 where there is no logarithm."""
    return z * numpy.log(numpy.where(a > 0, a, 1))


@operator("Mod", "fmod")
def _mod(node: Node, a: Any, b: Any) -> Any:
    if node.get("fmod", 0):
        y = numpy.fmod(a, b)
        return (y,), lambda dy: _both(a, b, dy, -dy * numpy.trunc(a / b)) if a.dtype.kind == "f" else ()
    return (numpy.mod(a, b),), lambda dy: _both(a, b, dy, -dy * numpy.floor(a / b)) if a.dtype.kind == "f" else ()


def _fold(choose: Any) -> Any:
    def run(node: Node, *xs: Any) -> Any:
        y = xs[0]
        for x in xs[1:]:
            y = choose(y, x)

        def back(dy: Any) -> Any:
            hits = [x == y for x in xs]
            share = dy / sum(hit.astype(y.dtype) for hit in hits) if y.dtype.kind == "f" else dy
            return [unbroadcast(share * hit, x.shape) for hit, x in zip(hits, xs, strict=True)]

        return (y,), back

    return run


operator("Max")(_fold(numpy.maximum))
operator("Min")(_fold(numpy.minimum))


@operator("Sum Mean")
def _sum(node: Node, *xs: Any) -> Any:
    y = xs[0]
    for x in xs[1:]:
        y = y + x
    n = len(xs) if node.kind == "Mean" else 1
    y = y if n == 1 else y / fits(y, n)
    return (y,), lambda dy: [unbroadcast(dy / fits(dy, n), x.shape) for x in xs]


@operator("Where", settings=(0,))
def _where(node: Node, condition: Any, a: Any, b: Any) -> Any:
    return (numpy.where(condition, a, b),), lambda dy: (
        None,
        unbroadcast(numpy.where(condition, dy, 0), a.shape),
        unbroadcast(numpy.where(condition, 0, dy), b.shape),
    )


_COMPARISONS = {
    "Equal": numpy.equal,
    "Less": numpy.less,
    "LessOrEqual": numpy.less_equal,
    "Greater": numpy.greater,
    "GreaterOrEqual": numpy.greater_equal,
    "And": numpy.logical_and,
    "Or": numpy.logical_or,
    "Xor": numpy.logical_xor,
    "BitwiseAnd": numpy.bitwise_and,
    "BitwiseOr": numpy.bitwise_or,
    "BitwiseXor": numpy.bitwise_xor,
}
"""Functions of two arrays without a gradient."""

for _kind, _function in _COMPARISONS.items():

    def _compare(node: Node, a: Any, b: Any, _function: Any = _function) -> Any:
        return (numpy.asarray(_function(a, b)),), lambda dy: ()

    operator(_kind)(_compare)


@operator("BitShift", "direction")
def _shift(node: Node, a: Any, b: Any) -> Any:
    shift = numpy.left_shift if node["direction"] == "LEFT" else numpy.right_shift
    return (shift(a, b),), lambda dy: ()
