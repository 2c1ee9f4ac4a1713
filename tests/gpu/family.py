"""What an entry for a CUDA source is, and how it is compared with the formulas; the entries are in entries_*.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minidl.engines import Engine, get
from minidl.engines.cuda import OVERRIDES
from minidl.testing import SPECS, UPDATES, agreement, update_agreement
from minidl.testing.layouts import LAYOUTS

EMULATED = Engine("emulated", kernels=OVERRIDES)
FORMULAS = get("numpy")

Change = tuple[str, str]
"""A text of the source, which is there once, and what stands in its place."""


Calls = Callable[[Engine, str], Iterator[tuple[str, Any]]]
"""``calls(engine, dtype)`` yields what is computed and the array."""


@dataclass(frozen=True)
class Family:
    """One CUDA source.

    Attributes
    ----------
    file : str
    ops : tuple of str
        Of the catalogue; their cases, sizes and layouts exercise the kernels.
    few : callable
        Calls that are enough to find the planted bugs: sizes of 1, odd ones, and several blocks.
    planted : mapping of str to sequence of changes
        Bugs, each of which the checks must catch.
    more : callable, optional
        Calls beyond the catalogue and ``few``.
    kernels : sequence of changes
        What leaves only the kernels that ``few`` needs, so that they compile quickly.
    """

    file: str
    ops: tuple[str, ...]
    few: Calls
    planted: Mapping[str, Sequence[Change]]
    more: Calls | None = None
    kernels: Sequence[Change] = ()


def catalogue_rows(family: Family, dtype: str, sizes: Sequence[str]) -> Iterator[Any]:
    """Compare the cases, sizes and layouts of the catalogue with the formulas."""
    for name in family.ops:
        if name in UPDATES:
            for case in UPDATES[name].cases:
                for size in (0, 1, 7, 5000):
                    yield from update_agreement(getattr(EMULATED, name), UPDATES[name], case, dtype, size, EMULATED)
            continue
        spec = SPECS[name]
        for case in (*spec.cases, *(spec.sized(size) for size in sizes)):
            yield from agreement(EMULATED, spec, case, dtype)
        for layout in LAYOUTS.values():
            yield from agreement(EMULATED, spec, spec.sized("odd"), dtype, layout=layout)


def disagreements(
    family: Family, dtype: str, sizes: Sequence[str] = ("empty", "one", "odd", "large"), few: bool = False
) -> list[str]:
    """Return a sentence for each result that is not the formula's; with ``few``, of those calls only."""
    found = [] if few else [row.sentence() for row in catalogue_rows(family, dtype, sizes) if not row.ok]
    tolerance = 200 * float(numpy.finfo(dtype).eps)
    for calls in (family.few, None if few else family.more):
        if calls is None:
            continue
        with numpy.errstate(all="ignore"):  # a planted bug may make anything
            for (what, one), (_, other) in zip(calls(EMULATED, dtype), calls(FORMULAS, dtype), strict=True):
                scale = float(numpy.nan_to_num(numpy.abs(other), posinf=0).max(initial=0))
                if one.shape != other.shape or one.dtype != other.dtype:
                    found.append(f"{what}: {one.dtype} {one.shape} instead of {other.dtype} {other.shape}")
                elif not numpy.allclose(one, other, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
                    found.append(f"{what}: differs by {numpy.abs(one - other).max()}")
    return found


# What exercises the kernels beyond the catalogue -----------------------------------------------------------------------------


def random(shape, dtype, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape).astype(dtype)


def unaligned(x):
    """Return x one element off the alignment of a pack."""
    wide = numpy.empty(x.size + 17, x.dtype)
    start = (-wide.ctypes.data % 16) // x.itemsize + 1
    view = wide[start : start + x.size].reshape(x.shape)
    view[...] = x
    return view


def backward(name, engine, dtype, *arguments, **options):
    """Yield the output of an op and all of its gradients."""
    y, cache = getattr(engine, name)(*arguments, **options)
    yield f"y of {name}", y
    dy = random(numpy.shape(y), dtype, 9)
    gradients = getattr(engine, f"{name}_backward")(dy, cache)
    for position, gradient in enumerate(gradients if isinstance(gradients, tuple) else (gradients,)):
        if gradient is not None:
            yield f"gradient {position} of {name}", gradient
