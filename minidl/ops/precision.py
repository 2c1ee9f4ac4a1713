"""The precision of matrix products: float32 as it is, or operands rounded to bfloat16.

A bfloat16 number is the upper half of a float32: the same sign and exponent, and 8 significant binary digits instead of 24.
The product of two of them has 16 digits, so it is exact in float32. In this mode a product of float32 matrices is::

    y_ij = sum_k bf16(a_ik) bf16(b_kj)

with exact products and a float32 sum, where bf16 is :func:`round_operand`. Processors compute it faster than the float32 product, because they read half the
bytes and multiply short numbers. Weights, gradients and everything between products stay float32.

The rounding has derivative 0 or none. Backward takes it for 1 (a *straight-through* gradient) and computes its own products,
dx = dy W say, in the same way: of rounded operands, added up in float32.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from minidl.errors import DtypeError, UnknownNameError
from minidl.ops._namespace import Array, namespace

__all__ = [
    "PRECISIONS",
    "get_matmul_precision",
    "matmul_precision",
    "product",
    "round_operand",
    "round_to_bfloat16",
    "set_matmul_precision",
]

PRECISIONS = ("highest", "bfloat16")
"""The names that :func:`set_matmul_precision` takes."""

rounds_operands: ContextVar[bool] = ContextVar("minidl_matmul_precision", default=False)
"""Whether products of float32 round their operands in this context. The native engine reads it too."""


def round_to_bfloat16(x: Array) -> Array:
    """Round float32 numbers to the nearest bfloat16, ties to the even one.

    The upper 16 of the 32 bits stay. Before the others are cut off, half of the last digit that stays is added, or one unit less
    than half if that digit is even, so that a tie goes to the even neighbour::

        y = (bits + 0x7fff + (bit 16)) with the lower 16 bits cleared

    A carry into the exponent is right: the next number after the largest of a binade is the first of the next one, and after the
    largest of all comes infinity. Only a nan could be carried out of the nans. It keeps its upper bits instead, and its highest
    fraction bit is set, so that it is a nan without the lower bits too.

    Parameters
    ----------
    x : array of float32

    Returns
    -------
    y : array of float32, same shape
        A new array, whose numbers have 8 significant digits.

    Raises
    ------
    DtypeError
        If x is not float32.

    References
    ----------
    S. Wang, P. Kanwar, "BFloat16: The secret to high performance on Cloud TPUs" (2019).

    Examples
    --------
    1 and 1 + 1/128 are neighbours. What is halfway between them goes to 1, which is even.

    >>> import numpy
    >>> x = numpy.array([1.0, 1 + 1 / 256, 1 + 1.01 / 256, 1 + 3 / 256], dtype="float32")
    >>> round_to_bfloat16(x)
    array([1.       , 1.       , 1.0078125, 1.015625 ], dtype=float32)
    """
    dtype = getattr(x, "dtype", None)
    if dtype is None or dtype.kind != "f" or dtype.itemsize != 4:
        raise DtypeError(f"round_to_bfloat16: x must be an array of float32, got {dtype or type(x).__name__}")
    xp = namespace(x)
    bits = x.astype("float32", copy=False).view("uint32")  # in this machine's byte order
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    quiet = bits | 0x00400000
    return (xp.where(xp.isnan(x), quiet, rounded) & 0xFFFF0000).view("float32")


def round_operand(x: Array) -> Array:
    """Round float32 numbers to bfloat16 as products read them: subnormal numbers are zero, with their sign.

    The instructions for bfloat16 of x86-64 processors take them for zero. So every engine does, or infinity times such a number
    would be infinity on one processor and nan on another.

    Parameters
    ----------
    x : array of float32

    Returns
    -------
    y : array of float32, same shape
        :func:`round_to_bfloat16` of x, with zero where x is below the smallest normal number, 2^-126, in size.

    Raises
    ------
    DtypeError
        If x is not float32.

    Examples
    --------
    >>> import numpy
    >>> round_operand(numpy.array([1 + 1 / 256, 1e-40, -1e-40], dtype="float32"))
    array([ 1.,  0., -0.], dtype=float32)
    """
    rounded = round_to_bfloat16(x)
    bits = x.astype("float32", copy=False).view("uint32")
    is_normal = (bits & 0x7F800000) != 0  # or inf or nan: those with an exponent
    return namespace(x).where(is_normal, rounded, (bits & 0x80000000).view("float32"))


def product(a: Array, b: Array, dtype: Any = None) -> Array:
    """Return a b in the precision asked for; every product of the formulas goes through here.

    float64 and float16 are multiplied as they are, whatever was asked for.

    Parameters
    ----------
    a : array, shape (..., m, k)
    b : array, shape (..., k, n)
    dtype : dtype, optional
        The dtype in which the operands came, if the formula has widened them since.

    Returns
    -------
    y : array, shape (..., m, n)

    Examples
    --------
    >>> import numpy
    >>> a = numpy.full((1, 1), 1 + 1 / 512, dtype="float32")
    >>> with matmul_precision("bfloat16"):
    ...     print(product(a, a), product(a.astype("float64"), a.astype("float64")))
    [[1.]] [[1.00391006]]
    """
    if rounds_operands.get() and (a.dtype if dtype is None else dtype).itemsize == 4:
        a, b = round_operand(a), round_operand(b)
    return namespace(a).matmul(a, b)


def get_matmul_precision() -> str:
    """Return the precision of products in this context, one of :data:`PRECISIONS`."""
    return PRECISIONS[rounds_operands.get()]


def set_matmul_precision(precision: str) -> None:
    """Choose how products of float32 are computed in this context.

    It applies to matmul, linear layers, convolutions, recurrent networks and attention, forward and backward, on every engine.
    Products of float64 and float16 are not affected.

    Parameters
    ----------
    precision : {"highest", "bfloat16"}
        ``"highest"``, which is the default, multiplies the numbers as they are. ``"bfloat16"`` rounds the operands to nearest, and
        adds the products up in float32.

    Raises
    ------
    UnknownNameError
        If there is no such precision.

    Notes
    -----
    The choice belongs to the context (``contextvars``), as that of ``minidl.use``: a new thread starts with ``"highest"``, unless it
    runs in a copy of this context. Call backward in the same precision as forward; it is the current one that counts.

    Examples
    --------
    >>> set_matmul_precision("bfloat16")
    >>> get_matmul_precision()
    'bfloat16'
    >>> set_matmul_precision("highest")
    """
    rounds_operands.set(_index_of(precision))


def _index_of(precision: str) -> bool:
    if precision not in PRECISIONS:
        raise UnknownNameError.among("matmul precision", precision, PRECISIONS)
    return precision == "bfloat16"


class matmul_precision:
    """Choose how products of float32 are computed inside a ``with`` block; see :func:`set_matmul_precision`.

    Parameters
    ----------
    precision : {"highest", "bfloat16"}

    Raises
    ------
    UnknownNameError
        If there is no such precision.

    Examples
    --------
    >>> with matmul_precision("bfloat16"):
    ...     get_matmul_precision()
    'bfloat16'
    >>> get_matmul_precision()
    'highest'
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._rounds = _index_of(precision)
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> matmul_precision:
        self._tokens.append(rounds_operands.set(self._rounds))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        rounds_operands.reset(self._tokens.pop())

    def __repr__(self) -> str:
        return f"minidl.matmul_precision({self.precision!r})"
