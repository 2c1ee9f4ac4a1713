"""The contract that every engine keeps, and the compositions that an engine may replace by one fused kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy

from minidl.engines import compositions
from minidl.ops import FORMULAS, Array

__all__ = ["COMPOSITIONS", "Engine", "EngineStatus"]

COMPOSITIONS = tuple(name for name in compositions.__all__ if name.islower())
"""The compositions of ops that an engine may fuse."""


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can be used here and, in a sentence, why or why not.

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

    An op that the engine has a kernel for runs that kernel, with the formula's signature and the formula's cache; every
    other op *is* the formula, declaredly (:meth:`coverage`). The same holds for the compositions of
    ``minidl.engines.compositions``: without a kernel of its own an engine runs them step by step.

    On every engine the backward of an op with parameters writes their gradients where it is told to, overwriting or
    adding, and leaves out what is not wanted: ``NAME_backward(dy, cache, into=None, add=False, wanted=None)``.
    ``minidl.ops.PARAMETERS`` lists these ops.

    Parameters
    ----------
    name : str
        The name that ``minidl.use`` takes.
    xp : module
        The namespace of the engine's arrays, ``numpy`` or ``cupy``.
    kernels : mapping of str to callable
        The ops and fused compositions that this engine computes itself.
    activations : mapping of str to sequence of str
        For each composition with an activation, the activations that its kernel applies itself.
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
        for op, formula in FORMULAS.items():
            setattr(self, op, kernels.pop(op, formula))
        for op in COMPOSITIONS:
            setattr(self, op, kernels.pop(op, None) or functools.partial(getattr(compositions, op), self))
        if kernels:
            raise KeyError(f"engine {name!r} has kernels for ops that do not exist: {sorted(kernels)}")

    if TYPE_CHECKING:  # ops are attributes, set above

        def __getattr__(self, name: str) -> Callable[..., Any]: ...

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """Return the array where this engine computes, copied there only if it is elsewhere."""
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

    def synchronize(self) -> None:
        """Wait until everything asked for is computed (at once on a CPU); call it before reading a clock."""

    def coverage(self) -> dict[str, str]:
        """Say of each op whether a ``"kernel"`` of this engine computes it or the ``"formula"``.

        A kernel that is handed a dtype or layout that it does not take calls the formula too.
        """
        return {op: "formula" if getattr(self, op) is formula else "kernel" for op, formula in FORMULAS.items()} | {
            op: "composed" if isinstance(getattr(self, op), functools.partial) else "kernel" for op in COMPOSITIONS
        }

    def has_kernel(self, name: str) -> bool:
        """Whether this engine has a kernel of its own for an op or a composition.

        >>> Engine("numpy").has_kernel("linear_activation")
        False
        """
        mine = getattr(self, name)
        return not isinstance(mine, functools.partial) if name in COMPOSITIONS else mine is not FORMULAS[name]

    def applies(self, composition: str, activation: str) -> bool:
        """Whether the kernel of a composition applies this activation itself."""
        return activation in self.activations.get(composition, ())

    def __repr__(self) -> str:
        return f"<minidl engine {self.name}>"
