"""Segments: runs of parameters without gaps in a flat buffer, which an optimiser updates in one pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minidl.errors import ParameterError
from minidl.layers.parameter import Parameter, ParameterBuffer, flatten, own_array
from minidl.layers.table import TableParameter
from minidl.ops import Array

__all__ = ["Segment", "put_together", "segments", "unique_parameters"]


@dataclass(eq=False)
class Segment:
    """A run of parameters without gaps; their values, gradients and optimiser state are one array each.

    Attributes
    ----------
    whole : bool
        Whether this is the whole buffer, so that zeroing the buffer zeroes no other gradients.
    updates : int
        The number of updates of these values.
    state : dict of str to array, shape (P,)
        The state of the optimiser, by name.
    own : slice or None
        What of the values this process updates and holds the state of; None for all. See ``minidl.training.parallel``.
    """

    buffer: ParameterBuffer
    start: int
    stop: int
    parameters: list[Parameter]
    updates: int = 0
    state: dict[str, Array] = field(default_factory=dict)
    own: slice | None = None

    def __post_init__(self) -> None:
        self.whole = self.start == 0 and self.stop == self.buffer.values.size
        self.offsets = {parameter: parameter.start - self.start for parameter in self.parameters}
        first = self.parameters[0]
        self.table = first if isinstance(first, TableParameter) else None
        self.plain = self.whole and self.table is None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the state arrays of its own, in case that they are maps of a file."""
        vars(self).update(state, state={name: own_array(array) for name, array in state["state"].items()})

    @property
    def values(self) -> Array:
        """The values, shape (P,)."""
        flat = self.buffer.values
        return flat if self.whole else flat[self.start : self.stop]

    def arrays(self) -> tuple[Array, Array]:
        """Return the values that a step updates, and their gradients."""
        if self.own is not None:
            return self.values[self.own], self.gradients()[self.own]
        if self.plain:
            buffer = self.buffer
            complete = buffer.complete_at == buffer.zeroed and buffer._gradients is not None
            return buffer.values, buffer._gradients if complete else buffer.gradients()
        return self.values, self.gradients()

    def gradients(self) -> Array:
        """Return the gradients, shape (P,), read-only; those not computed since ``zero_grad`` are zero."""
        if self.plain:
            return self.buffer.gradients()
        buffer = self.buffer
        if self.table is None and buffer.complete_at == buffer.zeroed and buffer._gradients is not None:
            return buffer._gradients[self.start : self.stop]
        return buffer.gradients_of(self.parameters, self.start, self.stop)

    def writable_gradients(self) -> Array:
        """Return the gradients, shape (P,), to be changed in place."""
        if self.table is not None:
            _ = self.table.grad  # notes that any row may be written
        return self.gradients()

    def nonzero_gradients(self) -> Array:
        """Return the gradients without the rows of a table that are known to be zero; read-only."""
        rows = None if self.table is None else self.table.touched_rows()
        return self.gradients() if rows is None else self.part(self.gradients(), self.parameters[0])[rows].reshape(-1)

    def part(self, array: Array, parameter: Parameter) -> Array:
        """Return the view of an array of shape (P,) that belongs to one of the parameters, in its shape."""
        offset = self.offsets[parameter]
        return array[offset : offset + parameter.size].reshape(parameter.shape)

    def moved(self) -> bool:
        """Whether a parameter has since moved to another buffer, because its model was put into a larger one."""
        return self.buffer.retired and any(parameter.buffer is not self.buffer for parameter in self.parameters)


def unique_parameters(given: Iterable[Parameter], where: str) -> list[Parameter]:
    """Return the parameters without duplicates.

    Raises
    ------
    ParameterError
        If an item is not a :class:`Parameter`.
    """
    if isinstance(given, Parameter):
        given = [given]
    if hasattr(given, "parameters") or not isinstance(given, Iterable):
        raise ParameterError(f"{where}: expected a list of parameters, got {given!r}; pass model.parameters()")
    found = list(given)
    for parameter in found:
        if not isinstance(parameter, Parameter):
            raise ParameterError(
                f"{where}: expected minidl.Parameter objects, got {type(parameter).__name__}; pass model.parameters()"
            )
    return list(dict.fromkeys(found))


def segments(parameters: Iterable[Parameter], updates: Mapping[Parameter, int] | None = None) -> list[Segment]:
    """Group parameters into as few segments as possible: one for a whole model.

    A table is a segment of its own. Parameters that were changed a different number of times are not put together.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import flatten
    >>> a, b, c = (Parameter(numpy.zeros(n)) for n in (2, 3, 4))
    >>> buffers = flatten([a, b, c])
    >>> [(s.start, s.stop, s.whole) for s in segments([b, a, c])]
    [(0, 9, True)]
    >>> [(s.start, s.stop, s.whole) for s in segments([a, c])]
    [(0, 2, False), (5, 9, False)]
    """
    by_buffer: dict[ParameterBuffer, list[Parameter]] = {}
    for parameter in parameters:
        by_buffer.setdefault(parameter.buffer, []).append(parameter)
    found = []
    for buffer, members in by_buffer.items():
        members.sort(key=lambda parameter: (parameter.start, parameter.size))
        run = [members[0]]
        for parameter in members[1:]:
            if _continues(run[-1], parameter, updates or {}):
                run.append(parameter)
            else:
                found.append(_segment(buffer, run, updates))
                run = [parameter]
        found.append(_segment(buffer, run, updates))
    return found


def put_together(groups: Iterable[Iterable[Parameter]]) -> None:
    """Move the trained parameters of each group next to one another in their buffer, so that a group is one segment.

    Parameters that are alone in their buffers, of a model that nobody has put into one, come into one buffer. A buffer that
    cannot be in fewer segments stays as it is.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import flatten
    >>> w1, b1, w2, b2 = (Parameter(numpy.full(1, float(i))) for i in range(4))
    >>> buffers = flatten([w1, b1, w2, b2])
    >>> put_together([[w1, w2], [b1, b2]])
    >>> w1.buffer.values, [(s.start, s.stop) for s in segments([w1, w2])]
    (array([0., 2., 1., 3.]), [(0, 2)])
    """
    groups = [list(group) for group in groups]
    alone = [p for p in itertools.chain(*groups) if p.trainable and len(p.buffer.parameters) == 1]
    flatten(p for p in alone if not isinstance(p, TableParameter))
    place: dict[Parameter, tuple[float, bool]] = {}
    runs: dict[ParameterBuffer, int] = {}
    for index, group in enumerate(groups):
        trained = [parameter for parameter in group if parameter.trainable]
        place |= {parameter: (index, isinstance(parameter, TableParameter)) for parameter in trained}
        for segment in segments(trained):
            runs[segment.buffer] = runs.get(segment.buffer, 0) + 1
    for buffer, now in runs.items():
        members = [parameter for parameter in buffer.parameters if parameter.buffer is buffer]
        own = [place[parameter] for parameter in members if parameter in place]
        fewest = sum(is_table for _, is_table in own) + len({index for index, is_table in own if not is_table})
        if now > fewest:
            last = math.inf, False  # of others, and of what is frozen
            ParameterBuffer(sorted(members, key=lambda parameter: place.get(parameter, last)))


def _continues(last: Parameter, parameter: Parameter, updates: Mapping[Parameter, int]) -> bool:
    """Whether a parameter can be in one segment with the one before it."""
    return (
        parameter.start == last.start + last.size
        and not isinstance(last, TableParameter)
        and not isinstance(parameter, TableParameter)
        and updates.get(last, 0) == updates.get(parameter, 0)
    )


def _segment(buffer: ParameterBuffer, run: list[Parameter], updates: Mapping[Parameter, int] | None) -> Segment:
    return Segment(buffer, run[0].start, run[-1].start + run[-1].size, run, (updates or {}).get(run[0], 0))
