"""The contract of every engine."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minidl.engines import compositions
from minidl.engines.copies import Reading
from minidl.ops import FORMULAS, Array, namespace
from minidl.ops._names import axis_or_dim

__all__ = ["COMPOSITIONS", "Engine", "EngineStatus"]

COMPOSITIONS = tuple(name for name in compositions.__all__ if name.islower())
"""The compositions that an engine may compute in one call."""


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can be used here, and why or why not.

    Attributes
    ----------
    name : str
    available : bool
    reason : str
        A sentence.

    Examples
    --------
    >>> print(EngineStatus("cupy", False, "the package cupy is not installed"))
    cupy: not available, the package cupy is not installed
    """

    name: str
    available: bool
    reason: str

    def __bool__(self) -> bool:
        return self.available

    def __str__(self) -> str:
        return f"{self.name}: {'' if self.available else 'not '}available, {self.reason}"


class Engine:
    """Who computes: one object with every op as a method.

    If the engine has a kernel for an op, the method is that kernel, with the signature and the cache of the formula.
    Otherwise it is the formula itself; :meth:`coverage` says which. The compositions of ``minidl.engines.compositions`` are
    methods too. Without a kernel they run step by step.

    The backward of an op with parameters writes their gradients where it is told to:
    ``NAME_backward(dy, cache, into=None, add=False, wanted=None)`` overwrites the arrays in ``into`` or adds to them, and
    computes only the gradients that are wanted. ``minidl.ops.PARAMETERS`` lists these ops.

    Parameters
    ----------
    name : str
        The name that ``minidl.use`` takes.
    xp : module, default numpy
        The namespace of the engine's arrays, ``numpy`` or ``cupy``.
    kernels : mapping of str to callable, optional
        The ops and compositions that this engine computes itself.
    activations : mapping of str to sequence of str, optional
        For each composition with an activation, the activations that its kernel applies itself.

    Raises
    ------
    KeyError
        If there is a kernel for an op that does not exist.
    """

    def __init__(
        self,
        name: str,
        xp: Any = numpy,
        kernels: Mapping[str, Callable[..., Any]] | None = None,
        activations: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name = name
        self.activations = {composition: frozenset(names) for composition, names in (activations or {}).items()}
        self.xp = xp
        kernels = dict(kernels or {})
        self._kernels = frozenset(kernels)
        for op, formula in FORMULAS.items():
            if op in kernels and hasattr(formula, "other_name"):
                kernels[op] = axis_or_dim(kernels[op])
            setattr(self, op, kernels.pop(op, formula))
        for op in COMPOSITIONS:
            setattr(self, op, kernels.pop(op, None) or functools.partial(getattr(compositions, op), self))
        if kernels:
            raise KeyError(f"engine {name!r} has kernels for ops that do not exist: {sorted(kernels)}")

    def activate(self) -> None:
        """Do what must be done when the engine becomes current: a GPU's makes its device the current one."""

    def here(self) -> Any:
        """Return a context in which new arrays are made on the engine's device."""
        return contextlib.nullcontext()

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """Return the array on the engine's device, copied only if it is elsewhere or has another dtype."""
        if type(array) is not numpy.ndarray and namespace(array) is not self.xp and hasattr(array, "get"):
            array = array.get()  # from a GPU
        return self.xp.asarray(array, dtype=dtype)

    def empty(self, shape: tuple[int, ...], dtype: Any = "float32") -> Array:
        """Return an array of that shape with arbitrary content."""
        return self.xp.empty(shape, dtype=dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any = "float32") -> Array:
        """Return an array of zeros."""
        return self.xp.zeros(shape, dtype=dtype)

    def to_host(self, array: Array) -> numpy.ndarray:
        """Return the array as a ``numpy.ndarray``."""
        return numpy.asarray(array)

    def read_later(self, *arrays: Array) -> Reading:
        """Begin to copy arrays to the host, and do not wait for them. On a CPU they are here already."""
        return Reading(list(map(numpy.asarray, arrays)))

    def synchronize(self) -> None:
        """Wait until everything is computed; call it before reading a clock. On a CPU there is nothing to wait for."""

    def coverage(self) -> dict[str, str]:
        """Return what computes each op and composition: ``"kernel"``, ``"formula"`` or ``"composed"``, which is step by step.

        A kernel hands arrays of a dtype or layout that it does not take to the formula.
        """
        return {op: "kernel" if op in self._kernels else "formula" for op in FORMULAS} | {
            op: "kernel" if op in self._kernels else "composed" for op in COMPOSITIONS
        }

    def has_kernel(self, name: str) -> bool:
        """Whether this engine has a kernel of its own for an op or a composition.

        >>> Engine("numpy").has_kernel("linear_activation")
        False
        """
        return name in self._kernels

    def applies(self, composition: str, activation: str) -> bool:
        """Whether the kernel of a composition applies this activation itself."""
        return activation in self.activations.get(composition, ())

    def __repr__(self) -> str:
        return f"<minidl engine {self.name}>"


def _renamed(name: str) -> property:
    """Return the property that finds a method by the name that it had in earlier versions.

    It is not done by ``__getattr__``: with that in the class, Python looks up every op half as fast.
    """

    def find(self: Engine) -> Callable[..., Any]:
        from minidl.engines import fused

        return fused.method(self, name)

    return property(find, doc=f"Deprecated: {name.removesuffix('_into')}.")


for _op in ("linear", "linear_activation", "linear_stack", "conv", "conv_activation"):
    setattr(Engine, f"{_op}_backward_into", _renamed(f"{_op}_backward_into"))
