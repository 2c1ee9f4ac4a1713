"""The catalogue: one entry for every op, from which all of its tests follow.

An entry defines how to draw inputs of any size, the named cases to check, the arguments that have a gradient, the kinks of
the op, and an independent oracle. To have a new op tested on every engine and in every dtype, layout and size, add its entry
to a room in ``minidl.testing.entries``. A public op without an entry fails the suite.
"""

from __future__ import annotations

from minidl.testing.entries import (
    attention,
    boxes,
    conv,
    ctc,
    elementwise,
    embedding,
    gated,
    linear,
    loss,
    norm,
    pool,
    position,
    recurrent,
    resample,
    softmax,
)
from minidl.testing.spec import Case, OpSpec

__all__ = ["SPECS", "Case", "OpSpec"]

ROOMS = (
    elementwise,
    gated,
    softmax,
    embedding,
    attention,
    position,
    linear,
    conv,
    pool,
    resample,
    norm,
    loss,
    ctc,
    boxes,
    recurrent,
)

SPECS: dict[str, OpSpec] = {spec.name: spec for room in ROOMS for spec in room.SPECS}
"""Every op with a backward, by name."""
