"""An array that wraps NumPy and allows only what CuPy allows.

It proves without a GPU that code written for "the array's namespace" would run on CuPy: a function, method or keyword
that CuPy lacks is an error, a host array among device arrays is an error, and nothing moves to the host unless
somebody says so. Where CuPy is lenient in a way that costs (a NumPy function handed a device array, a transfer hidden
in ``float(x)``), the double does it too but counts it in `transfers`; where CuPy would quietly compute on the host,
the double refuses.

What CuPy has is read from ../cupy_surface.json, so CuPy need not be installed. Its arrays do not name their namespace
(``__array_namespace__``); the double's do, because that is how ``minidl.ops.namespace`` finds it.
"""

import inspect
import json
from pathlib import Path

import cuda_double
import numpy
from cuda_double import note, transfers

from minidl.engines.cupy import CupyEngine

__all__ = ["SURFACE", "DoubleEngine", "bare", "ndarray", "transfers", "xp"]

SURFACE = json.loads((Path(__file__).parents[1] / "cupy_surface.json").read_text())

NO_IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
TAKES_HOST = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "asnumpy"}
TAKES_LISTS = {"array", "asarray", "asanyarray", "concatenate", "stack", "vstack", "hstack", "einsum", "block"}
ARRAY_NAMES = {"a", "arr", "ary", "array", "m"}  # what CuPy calls a parameter whose methods it uses
WAITS = {"nonzero", "flatnonzero", "argwhere", "unique", "array_equal", "allclose"}


def bare(value):
    """Return the host arrays inside, which must all be on the current device."""
    if isinstance(value, ndarray):
        if value._device != cuda_double.current_device():
            raise ValueError(
                f"Array device must be same as the current device: array device = {value._device} while current = "
                f"{cuda_double.current_device()}"
            )
        return value._values
    if isinstance(value, (tuple, list)):
        return type(value)(map(bare, value))
    return value


def wrapped(value):
    """Return device arrays; reductions give 0-d arrays, never scalars."""
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        if value.dtype.kind not in "biufc":
            raise ValueError(f"Unsupported dtype {value.dtype}")
        return ndarray._of(numpy.asarray(value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(wrapped, value))
    return value


def refuse_host(values, where):
    for value in values:
        if isinstance(value, numpy.ndarray):
            raise TypeError(f"Unsupported type {type(value)} ({where})")
        if isinstance(value, (tuple, list)):
            refuse_host(value, where)


def parsed(text):
    """Return an ``inspect.Signature`` from the surface's spelling of it."""
    kind, parameters = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
    for word in filter(None, text.split(", ")):
        if word == "/":
            parameters = [p.replace(kind=p.POSITIONAL_ONLY) for p in parameters]
        elif word == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif word.startswith("**"):
            parameters.append(inspect.Parameter(word[2:], inspect.Parameter.VAR_KEYWORD))
        elif word.startswith("*"):
            parameters.append(inspect.Parameter(word[1:], inspect.Parameter.VAR_POSITIONAL))
            kind = inspect.Parameter.KEYWORD_ONLY
        else:
            default = None if word.endswith("=") else inspect.Parameter.empty
            parameters.append(inspect.Parameter(word.rstrip("="), kind, default=default))
    return inspect.Signature(parameters)


def bound(text, name, args, kwargs):
    """Bind as CuPy would; TypeError on a keyword or a position that CuPy lacks."""
    try:
        return parsed(text).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{name}({text}): {error}") from None


class Function:
    """A function of the namespace, checked on each call."""

    def __init__(self, path, kind, signature, host):
        self.path, self.kind, self.signature, self.host = path, kind, signature, host
        self.name = path.rpartition(".")[2]

    def __call__(self, *args, **kwargs):
        arguments = bound(self.signature, self.path, args, kwargs)
        self._refuse(arguments)
        if self.name in TAKES_HOST:
            return self._make(*args, **kwargs)
        note("wait", self.name in WAITS)
        out = kwargs.get("out")
        result = self.host(*bare(args), **{key: bare(value) for key, value in kwargs.items()})
        return wrapped(result) if out is None else out

    def _refuse(self, arguments):
        if self.name not in TAKES_HOST:
            refuse_host(arguments.values(), self.path)
        for name, value in arguments.items():
            operand = name in ARRAY_NAMES if self.kind == "function" else name in ("x", "x1", "x2", "args")
            numbers = isinstance(value, (int, float, bool)) and self.kind == "function" and name in ARRAY_NAMES
            listed = isinstance(value, list) and self.name not in TAKES_LISTS
            if operand and (listed or numbers) and self.name not in TAKES_HOST:
                raise TypeError(f"Unsupported type {type(value)} ({self.path})")

    def _make(self, array, *args, **kwargs):
        if self.name == "asnumpy":
            note("to host")
            return numpy.array(array._values if isinstance(array, ndarray) else array)
        note("to device", not isinstance(array, ndarray))
        if isinstance(array, ndarray) and array._device != cuda_double.current_device():
            array = ndarray._of(array._values.copy())  # from one device to the other
        kwargs.pop("blocking", None)
        if not isinstance(array, ndarray) and isinstance(array, numpy.ndarray):
            array = array.copy()  # the device's memory is its own
        return wrapped(self.host(bare(array), *args, **kwargs))

    def __getattr__(self, name):
        if self.kind != "ufunc" or name not in SURFACE["ufunc"]:
            raise AttributeError(f"{self.path} has no attribute {name!r}")
        return getattr(self.host, name)

    def __repr__(self):
        return f"<{self.path} of the array double>"


class Namespace:
    """What ``import cupy`` gives, as far as NumPy can stand in for it."""

    def __init__(self, path, host):
        self.__name__, self._host = path, host

    def __getattr__(self, name):
        entries = SURFACE[self.__name__]
        if name not in entries:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name == "ndarray":
            return ndarray
        if name == "cuda":
            return cuda
        if name == "asnumpy":
            return Function("cupy.asnumpy", *entries[name], None)
        kind, *signature = entries[name]
        host = getattr(self._host, name, None)
        if host is None:
            raise NotImplementedError(f"{self.__name__}.{name} exists, but NumPy has nothing to stand in for it")
        if kind == "module":
            return Namespace(f"{self.__name__}.{name}", host)
        return Function(f"{self.__name__}.{name}", kind, *signature, host) if signature else host

    def __repr__(self):
        return f"<{self.__name__} of the array double>"


class ndarray:
    """A device array."""

    __slots__ = ("_device", "_values")
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, *args, **kwargs):
        raise TypeError("make arrays with empty, zeros or asarray")

    @classmethod
    def _of(cls, values, device=None):
        array = object.__new__(cls)
        array._values, array._device = values, cuda_double.current_device() if device is None else device
        return array

    def reshape(self, *shape, order="C"):
        return ndarray._of(self._values.reshape(*shape, order=order), self._device)

    @property
    def device(self):
        return cuda_double.Device(self._device)

    def __array_namespace__(self, api_version=None):
        return xp

    def __array__(self, *args, **kwargs):
        raise TypeError(NO_IMPLICIT)

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if method != "__call__":
            return NotImplemented
        return getattr(xp, ufunc.__name__)(*args, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        try:
            own = getattr(xp, function.__name__)
        except AttributeError:
            return NotImplemented
        return own(*args, **kwargs)

    def __getattr__(self, name):
        if name not in SURFACE["ndarray"]:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        kind, *signature = SURFACE["ndarray"][name]
        if kind == "property":
            return (
                wrapped(getattr(self._values, name))
                if name in ("T", "mT", "real", "imag")
                else getattr(self._values, name)
            )

        def method(*args, **kwargs):
            bound(*signature, f"ndarray.{name}", args, kwargs)
            refuse_host([*args, *kwargs.values()], f"ndarray.{name}")
            note("wait", name in WAITS)
            result = getattr(bare(self), name)(*bare(args), **{key: bare(value) for key, value in kwargs.items()})
            return wrapped(result) if kwargs.get("out") is None else kwargs["out"]

        return method

    def get(self, stream=None, order="C", out=None, blocking=True):
        if blocking:
            note("to host")
            return numpy.array(self._values, order=order)
        note("read later")
        values = self._values.copy()  # what the stream computes later does not change what it copies now
        (stream or cuda_double.get_current_stream()).put(lambda: numpy.copyto(out, values))
        return out

    def set(self, arr, stream=None):
        if type(arr) is not numpy.ndarray or arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError("expected a numpy.ndarray of the same shape and dtype")
        if stream is None:
            note("to device")
            numpy.copyto(self._values, arr)
        else:
            note("sent")
            stream.put(lambda: numpy.copyto(self._values, arr))

    def item(self):
        note("wait")
        return self._values.item()

    def tolist(self):
        note("to host")
        return self._values.tolist()

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        refuse_host(parts, "an index")
        note("wait", any(isinstance(part, ndarray) and part.dtype == bool for part in parts))
        note("to device", any(isinstance(part, list) for part in parts))
        if any(isinstance(part, (ndarray, list)) for part in parts):
            return wrapped(bare(self)[bare(index)])
        return ndarray._of(numpy.asarray(self._values[index]), self._device)  # a view, for which nothing is computed

    def __setitem__(self, index, new):
        refuse_host(index if isinstance(index, tuple) else (index,), "an index")
        if isinstance(new, (numpy.ndarray, list, tuple)):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        bare(self)
        self._values[bare(index)] = bare(new)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (wrapped(row) for row in self._values)

    def __copy__(self):
        return ndarray._of(self._values.copy())

    def __deepcopy__(self, memo):
        return ndarray._of(self._values.copy())

    def __repr__(self):
        return f"device {self._values!r}"


def operator(name):
    def apply(self, *others):
        for other in others:
            if isinstance(other, (numpy.ndarray, list, tuple)):
                raise TypeError(f"Unsupported type {type(other)}")
        result = getattr(bare(self), name)(*bare(others))
        if result is NotImplemented:
            return result
        return self if name.startswith("__i") and name != "__invert__" else wrapped(result)

    return apply


def waiting(name):
    def apply(self):
        note("wait")
        return getattr(self._values, name)()

    return apply


BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"]
OPERATORS = [f"__{side}{name}__" for name in BINARY for side in ("", "r", "i")]
OPERATORS += ["__neg__", "__pos__", "__abs__", "__invert__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"]
for _name in OPERATORS:
    setattr(ndarray, _name, operator(_name))
for _name in ("__bool__", "__float__", "__int__", "__index__"):
    setattr(ndarray, _name, waiting(_name))


class Cuda:
    """What ``cupy.cuda`` gives, as far as the double stands in for it."""

    def __getattr__(self, name):
        if name not in SURFACE["cupy.cuda"]:
            raise AttributeError(f"module 'cupy.cuda' has no attribute {name!r}")
        try:
            return getattr(cuda_double, name)
        except AttributeError:
            raise NotImplementedError(f"cupy.cuda.{name} exists, but nothing stands in for it") from None


cuda = Cuda()
xp = Namespace("cupy", numpy)


class DoubleEngine(CupyEngine):
    """The cupy engine on the array double, without kernels."""

    def __init__(self, device=0):
        super().__init__(device, xp=xp, kernels={})
        self.name = self.name.replace("cupy", "double")
