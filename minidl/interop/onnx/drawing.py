"""The graph that is being drawn, and the symbols that stand for its arrays while a model's own forward runs on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from minidl.errors import DtypeError, OrderError, ParameterError
from minidl.interop.onnx.lengths import Length

__all__ = ["Drawing", "Symbol"]

FLOOR = 13
"""The lowest opset that is written: from here on, axes and shapes are inputs of nodes."""
LONGEST = 2**63 - 1
"""The end of a slice that goes to the end of an axis."""


def example_of(length: Any) -> int:
    """Return a length as a number: that of the example if it may vary."""
    return length.example if isinstance(length, Length) else int(length)


def broadcast(*shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the shape to which shapes are broadcast."""
    rank = max(map(len, shapes))
    result = []
    for axis in range(-rank, 0):
        lengths = [shape[axis] for shape in shapes if len(shape) >= -axis]
        varying = [n for n in lengths if isinstance(n, Length)]
        numbers = [n for n in lengths if not isinstance(n, Length) and n != 1]
        result.append(numbers[0] if numbers else varying[0] if varying else 1)
    return tuple(result)


class Drawing:
    """Nodes, constants and weights of a graph that is not finished.

    Attributes
    ----------
    nodes : list of tuple
        (operator, inputs, outputs, attributes), in the order in which they run.
    constants : dict of str to numpy.ndarray
    weights : dict of str to numpy.ndarray
        Those of ``constants`` that are parameters or buffers of the model, by their paths.
    opset : int
        The lowest that has all nodes.
    fixed : set of (str, int)
        The axes of inputs, by name, that turned out to have one length.
    missing : list of str
        What there is no rule for.
    bfloat16 : set of str
        The constants that hold the bits of bfloat16, which NumPy lacks.
    """

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        self.constants: dict[str, numpy.ndarray] = {}
        self.weights: dict[str, numpy.ndarray] = {}
        self.opset = FLOOR
        self.fixed: set[tuple[str, int]] = set()
        self.missing: list[str] = []
        self.bfloat16: set[str] = set()
        self._known: dict[Any, str] = {}
        self._lengths: dict[str, str] = {}

    def fix(self, axes: Iterable[tuple[str, int]]) -> None:
        """Note that these axes of inputs have one length."""
        self.fixed |= set(axes)

    # making nodes ----------------------------------------------------------------------------------------------------

    def add(
        self,
        kind: str,
        inputs: Sequence[Any],
        outputs: Sequence[tuple[tuple[Any, ...], Any]],
        since: int = 1,
        **how: Any,
    ) -> list[Symbol]:
        """Add a node and return its outputs, given the shape and the dtype of each; None is an input that is left out."""
        self.opset = max(self.opset, since)
        names = [self.name_of(x) for x in inputs]
        while names and not names[-1]:
            names.pop()
        made = [f"{kind.lower()}_{len(self.nodes)}{f'_{i}' if i else ''}" for i in range(len(outputs))]
        self.nodes.append((kind, names, made, how))
        return [Symbol(self, shape, dtype, name) for name, (shape, dtype) in zip(made, outputs, strict=True)]

    def one(self, kind: str, *inputs: Any, shape: Any = None, dtype: Any = None, since: int = 1, **how: Any) -> Symbol:
        """Add a node with one output, by default of the first input's shape and dtype; symbols come first."""
        shape = inputs[0].shape if shape is None else shape
        dtype = inputs[0].dtype if dtype is None else dtype
        return self.add(kind, inputs, [(tuple(shape), numpy.dtype(dtype))], since, **how)[0]

    def name_of(self, x: Any) -> str:
        """Return the name of an input of a node: that of a symbol, or of a constant that is made."""
        if x is None:
            return ""
        if isinstance(x, Symbol):
            if x.name is None:
                x.name = self.constant(x.value, x.path)
                if x.bits:
                    self.bfloat16.add(x.name)
            return x.name
        return self.constant(numpy.asarray(x))

    def constant(self, array: Any, path: str | None = None) -> str:
        """Return the name of a constant; one that is a weight has its path as its name."""
        array = numpy.ascontiguousarray(array).reshape(numpy.shape(array))
        if path is not None:
            self.constants[path] = self.weights[path] = array
            return path
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= 4096 else id(array)
        name = self._known.setdefault(key, f"constant_{len(self.constants)}")
        self.constants.setdefault(name, array)
        return name

    def symbol(self, array: Any) -> Symbol:
        """Return a symbol for an array that is known."""
        array = numpy.asarray(array)
        return Symbol(self, array.shape, array.dtype, None, array)

    # lengths ---------------------------------------------------------------------------------------------------------

    def length(self, n: Any) -> Any:
        """Return a length as an input of nodes: an int64 array of shape (1,)."""
        if not isinstance(n, Length):
            return numpy.array([n], "int64")
        if n.text not in self._lengths:
            kind, left, right = n.key
            if kind == "input":
                whole = self.one("Shape", Symbol(self, (), "int64", left), shape=(None,), dtype="int64")
                made = self.one("Gather", whole, numpy.array([right], "int64"), shape=(1,), axis=0)
            else:
                parts = [self.length(part) for part in (left, right)]
                made = self.add(kind, parts, [((1,), numpy.dtype("int64"))])[0]
            self._lengths[n.text] = self.name_of(made)
        return Symbol(self, (1,), "int64", self._lengths[n.text])

    def shape(self, lengths: Sequence[Any]) -> Any:
        """Return lengths as one int64 array, the input that Reshape and others take."""
        if not any(isinstance(n, Length) for n in lengths):
            return numpy.array([int(n) for n in lengths], "int64")
        parts = [self.length(n) for n in lengths]
        if len(parts) == 1:
            return parts[0]
        return self.add("Concat", parts, [((len(parts),), numpy.dtype("int64"))], axis=0)[0]

    def number(self, n: Any, dtype: Any) -> Any:
        """Return a length as a scalar of another dtype."""
        if not isinstance(n, Length):
            return numpy.asarray(n, dtype)
        single = self.one("Squeeze", self.length(n), numpy.array([0], "int64"), shape=())
        return single.astype(dtype)


class Symbol:
    """Stands for an array in a drawing: operators and methods add nodes instead of computing.

    Attributes
    ----------
    shape : tuple
        Of ints, and of a ``Length`` where an axis may vary.
    dtype : numpy.dtype
    name : str or None
        The name in the graph; None for a constant that no node has used.
    value : numpy.ndarray or None
        Of a constant.
    path : str or None
        Of a constant that is a weight of the model: its name there.
    bits : bool
        Whether the constant holds the bits of bfloat16.
    """

    bits = False

    __array_priority__ = 1000.0
    __hash__ = object.__hash__

    def __init__(
        self,
        drawing: Drawing,
        shape: Iterable[Any],
        dtype: Any,
        name: str | None,
        value: numpy.ndarray | None = None,
        path: str | None = None,
    ) -> None:
        self.drawing, self.shape, self.dtype = drawing, tuple(shape), numpy.dtype(dtype)
        self.name, self.value, self.path = name, value, path

    def __array_namespace__(self, **how: Any) -> Any:
        return self.drawing.__dict__["namespace"]

    def __array__(self, *args: Any, **how: Any) -> numpy.ndarray:
        raise OrderError(
            "export: an array's numbers are asked for, which are not known before the graph runs; compute with operators, with "
            "minidl.ops, or with the functions of minidl.ops.namespace(x)"
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **how: Any) -> Any:
        found = _OPERATORS.get(ufunc.__name__)
        if method != "__call__" or how:
            raise OrderError(
                f"export: numpy.{ufunc.__name__}.{method} with {', '.join(how) or 'these arguments'} has no rule"
            )
        if found is not None:
            return self.binary(found, *inputs)
        return getattr(self.__array_namespace__(), ufunc.__name__)(*inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, how: Any) -> Any:
        return getattr(self.__array_namespace__(), function.__name__)(*args, **how)

    def __bool__(self) -> bool:
        return bool(self.__array__())

    def __float__(self) -> float:
        return float(self.__array__())

    def __index__(self) -> int:
        return int(self.__array__())

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> Any:
        n = self.shape[0]
        return n.fix() if isinstance(n, Length) else n

    def __repr__(self) -> str:
        return f"<symbol of shape {self.shape}, {self.dtype}>"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Any:
        return math.prod(self.shape)

    @property
    def T(self) -> Symbol:
        return self.transpose()

    # elementwise -----------------------------------------------------------------------------------------------------

    def binary(self, kind: str, left: Any, right: Any) -> Symbol:
        """Add a node of two inputs, of which one may be a number."""
        compares = kind in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
        parts = []
        dtype = numpy.result_type(
            *(part.dtype if isinstance(part, Symbol) else part for part in map(_plain, (left, right)))
        )
        for part in (left, right):
            if isinstance(part, Length):
                part = self.drawing.number(part, dtype)
            if isinstance(part, Symbol):
                parts.append(part.astype(dtype))
            else:
                parts.append(self.drawing.symbol(numpy.asarray(part, dtype)))
        shape = broadcast(*(part.shape for part in parts))
        return self.drawing.one(kind, *parts, shape=shape, dtype="bool" if compares else dtype, since=1)

    def __add__(self, other: Any) -> Symbol:
        return self.binary("Add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self.binary("Add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self.binary("Sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.binary("Sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.binary("Mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.binary("Mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.binary("Div", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.binary("Div", other, self)

    def __pow__(self, other: Any) -> Symbol:
        return self.binary("Pow", self, other)

    def __neg__(self) -> Symbol:
        return self.drawing.one("Neg", self)

    def __lt__(self, other: Any) -> Symbol:
        return self.binary("Less", self, other)

    def __le__(self, other: Any) -> Symbol:
        return self.binary("LessOrEqual", self, other)

    def __gt__(self, other: Any) -> Symbol:
        return self.binary("Greater", self, other)

    def __ge__(self, other: Any) -> Symbol:
        return self.binary("GreaterOrEqual", self, other)

    def __eq__(self, other: Any) -> Any:
        return self.binary("Equal", self, other)

    def __ne__(self, other: Any) -> Any:
        return ~self.binary("Equal", self, other)

    def __invert__(self) -> Symbol:
        if self.dtype.kind != "b":
            raise DtypeError(f"export: ~ is for booleans, got {self.dtype}")
        return self.drawing.one("Not", self)

    def __and__(self, other: Any) -> Symbol:
        return self._logical("And", other)

    def __or__(self, other: Any) -> Symbol:
        return self._logical("Or", other)

    __rand__, __ror__ = __and__, __or__

    def _logical(self, kind: str, other: Any) -> Symbol:
        if self.dtype.kind != "b" or numpy.dtype(getattr(other, "dtype", bool)).kind != "b":
            raise DtypeError(f"export: {kind} is for booleans, got {self.dtype} and {getattr(other, 'dtype', other)}")
        return self.drawing.one(
            kind,
            self,
            other,
            shape=broadcast(self.shape, numpy.shape(other) if not isinstance(other, Symbol) else other.shape),
        )

    def __matmul__(self, other: Any) -> Symbol:
        other = other if isinstance(other, Symbol) else self.drawing.symbol(other)
        shape = (
            (*broadcast(self.shape[:-2], other.shape[:-2]), self.shape[-2], other.shape[-1])
            if other.ndim > 2 or self.ndim > 2
            else (self.shape[0], other.shape[1])
        )
        return self.drawing.one("MatMul", self, other, shape=shape)

    def __rmatmul__(self, other: Any) -> Symbol:
        return self.drawing.symbol(other) @ self

    # shapes ----------------------------------------------------------------------------------------------------------

    def astype(self, dtype: Any, copy: bool = True) -> Symbol:
        dtype = numpy.dtype(dtype)
        if dtype == self.dtype:
            return self
        if self.value is not None and self.path is None:
            return self.drawing.symbol(self.value.astype(dtype))
        return self.drawing.one("Cast", self, dtype=dtype, to=dtype)

    def reshape(self, *shape: Any, **how: Any) -> Symbol:
        wanted = list(shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)
        if how and how.get("copy") is not None:
            raise ParameterError("export: reshape takes no copy")
        rest = [i for i, n in enumerate(wanted) if not isinstance(n, Length) and n == -1]
        if rest:
            wanted[rest[0]] = _quotient(self.shape, [n for i, n in enumerate(wanted) if i != rest[0]])
        if tuple(wanted) == self.shape and not any(isinstance(n, Length) for n in wanted):
            return self
        numbers: list[Any] = []
        for axis, n in enumerate(wanted):  # 0 keeps an axis, and -1 stands for one that is left
            same = axis < self.ndim and isinstance(n, Length) and getattr(self.shape[axis], "text", None) == n.text
            numbers.append(0 if same else n)
        if sum(isinstance(n, Length) for n in numbers) == 1 and 0 not in wanted:
            numbers = [-1 if isinstance(n, Length) else n for n in numbers]
        return self.drawing.one("Reshape", self, self.drawing.shape(numbers), shape=wanted)

    def ravel(self) -> Symbol:
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> Symbol:
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        order = [int(axis) % self.ndim for axis in order] if order else list(range(self.ndim))[::-1]
        if order == list(range(self.ndim)):
            return self
        return self.drawing.one("Transpose", self, shape=[self.shape[i] for i in order], perm=order)

    def swapaxes(self, one: int, other: int) -> Symbol:
        order = list(range(self.ndim))
        order[one], order[other] = order[other], order[one]
        return self.transpose(order)

    def unsqueeze(self, *axes: int) -> Symbol:
        """Add axes of length 1, at these places of the result."""
        shape = list(self.shape)
        for axis in sorted(axes):
            shape.insert(axis, 1)
        return self.drawing.one("Unsqueeze", self, numpy.array(sorted(axes), "int64"), shape=shape)

    def copy(self) -> Symbol:
        return self

    def __getitem__(self, index: Any) -> Symbol:
        index = index if isinstance(index, tuple) else (index,)
        if sum(isinstance(i, (Symbol, numpy.ndarray, list)) for i in index) > 1:
            return self._at(index)
        if Ellipsis in [i for i in index if i is Ellipsis]:
            at = next(k for k, i in enumerate(index) if i is Ellipsis)
            used = sum(i is not None and i is not Ellipsis for i in index)
            index = (*index[:at], *[slice(None)] * (self.ndim - used), *index[at + 1 :])
        y, axis = self, 0
        for i in index:
            if i is None:
                y = y.unsqueeze(axis)
            elif isinstance(i, slice):
                y = y.slice(axis, i)
            elif isinstance(i, (Symbol, numpy.ndarray, list)):
                y = y.take(i, axis)
                axis += len(numpy.shape(i) if not isinstance(i, Symbol) else i.shape) - 1
            else:
                y = y.take(numpy.int64(i), axis)
                axis -= 1
            axis += 1
        return y

    def _at(self, index: tuple[Any, ...]) -> Symbol:
        """Return elements by one array for each of the first axes, broadcast against each other."""
        arrays = [i if isinstance(i, Symbol) else self.drawing.symbol(numpy.asarray(i)) for i in index]
        shape = broadcast(*(array.shape for array in arrays))
        xp = self.__array_namespace__()
        parts = [xp.broadcast_to(array.astype("int64"), shape).unsqueeze(len(shape)) for array in arrays]
        where = xp.concatenate(parts, axis=len(shape))
        return self.drawing.one("GatherND", self, where, shape=(*shape, *self.shape[len(arrays) :]))

    def slice(self, axis: int, part: slice) -> Symbol:
        """Return part of an axis."""
        start, stop, step = part.start, part.stop, 1 if part.step is None else part.step
        if (start is None or (not isinstance(start, Length) and start == 0)) and stop is None and step == 1:
            return self
        n = self.shape[axis]
        begin = 0 if start is None else start
        if step < 0:
            raise ParameterError("export: slices go forward")
        end = n if stop is None else stop
        begin, end = ((n + i) if not isinstance(i, Length) and i < 0 else i for i in (begin, end))
        end = n if not isinstance(end, Length) and not isinstance(n, Length) and end > n else end
        length = end - begin
        length = (length + (step - 1)) // step if step > 1 else length
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        ends = numpy.array([LONGEST], "int64") if stop is None else self.drawing.length(end)
        steps = numpy.array([step], "int64") if step != 1 else None
        where = self.drawing.length(begin), ends, numpy.array([axis], "int64"), steps
        return self.drawing.one("Slice", self, *where, shape=shape)

    def take(self, ids: Any, axis: int = 0) -> Symbol:
        """Return elements of an axis, as numpy.take does."""
        ids = ids if isinstance(ids, Symbol) else self.drawing.symbol(numpy.asarray(ids))
        ids = ids if ids.dtype in ("int32", "int64") else ids.astype("int64")
        return self.drawing.one(
            "Gather", self, ids, shape=(*self.shape[:axis], *ids.shape, *self.shape[axis + 1 :]), axis=axis
        )

    # reductions ------------------------------------------------------------------------------------------------------

    def reduce(self, kind: str, axis: Any = None, keepdims: bool = False) -> Symbol:
        """Add a reduction over axes, by default all."""
        axes = range(self.ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
        places = sorted(int(a) % self.ndim for a in axes)
        kept = [1 if i in places else n for i, n in enumerate(self.shape)]
        shape = kept if keepdims else [n for i, n in enumerate(self.shape) if i not in places]
        return self.drawing.one(f"Reduce{kind}", self, shape=shape, axes=places, keepdims=int(keepdims))

    def sum(self, axis: Any = None, keepdims: bool = False, **how: Any) -> Symbol:
        return self.reduce("Sum", axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False, **how: Any) -> Symbol:
        return self.reduce("Mean", axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False, **how: Any) -> Symbol:
        return self.reduce("Max", axis, keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Symbol:
        return self.astype("int32").reduce("Max", axis, keepdims).astype("bool")

    def all(self, axis: Any = None, keepdims: bool = False) -> Symbol:
        return self.astype("int32").reduce("Min", axis, keepdims).astype("bool")

    def argmax(self, axis: int) -> Symbol:
        x = self.astype("int32") if self.dtype.kind == "b" else self
        at = axis % self.ndim
        shape = [n for i, n in enumerate(self.shape) if i != at]
        return x.drawing.one("ArgMax", x, shape=shape, dtype="int64", axis=at, keepdims=0)

    def cumsum(self, axis: int, dtype: Any = None) -> Symbol:
        x = self.astype(dtype or ("int64" if self.dtype.kind in "biu" else self.dtype))
        return x.drawing.one("CumSum", x, numpy.int64(axis % self.ndim), since=14)


_OPERATORS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "equal": "Equal",
}


def _plain(part: Any) -> Any:
    """Return what a number stands for in the rules of dtypes: a length is a Python int."""
    return 0 if isinstance(part, Length) else part


def _quotient(whole: Sequence[Any], parts: Sequence[Any]) -> Any:
    """Return the product of some lengths divided by that of others, of which many are the same."""
    left, right = list(whole), list(parts)
    for n in list(right):
        same = [m for m in left if getattr(m, "text", m) == getattr(n, "text", n)]
        if same:
            at = next(i for i, m in enumerate(left) if m is same[0])
            del left[at]
            del right[next(i for i, m in enumerate(right) if m is n)]
    numbers = math.prod(n for n in left if not isinstance(n, Length))
    varying = math.prod(n for n in left if isinstance(n, Length))
    below = math.prod(right)
    if not isinstance(below, Length) and numbers % below == 0:
        return varying * (numbers // below)
    return (varying * numbers) // below
