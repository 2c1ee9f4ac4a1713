"""Strategies for Hypothesis: shapes, arrays, and calls of the ops in the catalogue.

Hypothesis is imported when a strategy is created, so the rest of ``minidl.testing`` works without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy

from minidl.errors import MissingDependencyError
from minidl.testing.agreement import as_dtype
from minidl.testing.layouts import LAYOUTS
from minidl.testing.specs import SPECS, Case, OpSpec

__all__ = ["Call", "arrays", "calls", "dtypes", "shapes"]


def _hypothesis() -> Any:
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise MissingDependencyError.needs("minidl.testing.strategies", "hypothesis", "test") from error
    return strategies


@dataclass(frozen=True)
class Call:
    """One call of an op: the entry, the case, the arguments in some dtype, and the layout to convert them to."""

    spec: OpSpec
    case: Case
    dtype: str
    layout: str
    arguments: tuple[Any, ...]


def dtypes() -> Any:
    """Draw one of the dtypes that the kernels support."""
    return _hypothesis().sampled_from(["float32", "float64"])


def shapes(rank: tuple[int, int] = (0, 4), sides: tuple[int, int] = (0, 9)) -> Any:
    """Draw shapes with numbers of axes and lengths in the given ranges, both ends included."""
    st = _hypothesis()
    return st.lists(st.integers(*sides), min_size=rank[0], max_size=rank[1]).map(tuple)


def arrays(shape: Any = None, dtype: str = "float64", scale: float = 3.0) -> Any:
    """Draw arrays of normal numbers; Hypothesis shrinks their shape, not their values.

    Parameters
    ----------
    shape : tuple of int or strategy, optional
    dtype : str, default "float64"
    scale : float, default 3.0
    """
    st = _hypothesis()
    shape = st.just(shape) if isinstance(shape, tuple) else shapes() if shape is None else shape
    return st.builds(
        lambda shape, seed: numpy.asarray(scale * numpy.random.default_rng(seed).standard_normal(shape), dtype=dtype),
        shape,
        st.integers(0, 2**16),
    )


def calls(name: str) -> Any:
    """Draw calls of an op, of any size, options, dtype and layout that it accepts.

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, database=None, deadline=None)
    ... @given(calls("relu"))
    ... def test(call):
    ...     assert call.spec.name == "relu"
    >>> test()
    """
    st = _hypothesis()
    spec = SPECS[name]
    plain = [case for case in spec.cases if case.draw is None]

    def made(case: Case, shape: tuple[int, ...], dtype: str, layout: str, seed: int) -> Call:
        axis = case.options.get("axis", 0)
        options = {**case.options, "axis": axis % len(shape)} if "axis" in case.options else case.options
        case = replace(case, shape=shape, options={**options, **(spec.empty_options if 0 in shape else {})})
        return Call(spec, case, dtype, layout, tuple(as_dtype(spec.arguments(case, seed), dtype)))

    return st.builds(
        made,
        st.sampled_from(plain),
        shapes(spec.rank, (spec.shortest, 9)),
        dtypes(),
        st.sampled_from(["contiguous", *LAYOUTS]),
        st.integers(0, 2**16),
    )
