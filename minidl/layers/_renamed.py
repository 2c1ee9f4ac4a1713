"""Names of earlier versions, which work in this version and warn."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

__all__ = ["look_up"]

_RENAMED = {
    "ActivatedResidual": "SummedResidual",
    "FusedConv": "FusedConv",
    "FusedLinear": "FusedLinear",
    "NormalizedConv": "NormalizedConv",
}
"""Old names in ``minidl.layers``, and the names in ``minidl.layers.fusion``."""


def look_up(name: str) -> Any:
    """Return what ``minidl.layers`` had by this name in an earlier version, with a DeprecationWarning.

    This is the ``__getattr__`` of ``minidl.layers``.

    Raises
    ------
    AttributeError
        If it had nothing by this name.
    """
    if name not in _RENAMED:
        raise AttributeError(f"module 'minidl.layers' has no attribute {name!r}")
    new = _RENAMED[name]
    warnings.warn(
        f"minidl.layers.{name} is deprecated and will go with the next version; use minidl.layers.fusion.{new}",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(importlib.import_module("minidl.layers.fusion"), new)
