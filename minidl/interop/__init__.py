"""THE NEIGHBOURS: other libraries and formats, each an extra that is imported when it is used."""

from __future__ import annotations

import importlib
from typing import Any

_NEIGHBOURS = ("onnx",)


def __getattr__(name: str) -> Any:
    """Load the module of a neighbour when it is first used."""
    if name in _NEIGHBOURS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
