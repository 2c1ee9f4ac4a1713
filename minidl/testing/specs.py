"""The catalogue: one entry for every op, from which all of its tests follow.

An entry says how to draw inputs of any size, in which named cases to check, which arguments have a gradient, where
the op has kinks, and what independent oracle knows the right answer. A new op (a convolution, a recurrence, an
attention) becomes tested on every engine, in every dtype, layout and size, by adding its entry to a room in
``minidl.testing.entries``; a public op without one fails the suite.
"""

from __future__ import annotations

from minidl.testing.entries import conv, elementwise, linear, loss, norm, pool, resample, softmax
from minidl.testing.spec import Case, OpSpec

__all__ = ["SPECS", "Case", "OpSpec"]

ROOMS = (elementwise, softmax, linear, conv, pool, resample, norm, loss)

SPECS: dict[str, OpSpec] = {spec.name: spec for room in ROOMS for spec in room.SPECS}
"""Every op with a backward, by name."""
