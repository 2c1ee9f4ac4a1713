"""The neighbours: each module speaks to one library, is imported on its own, and needs the extra that its page names.

``minidl.interop.onnx`` writes models as graphs, and makes models of graphs.
Nothing else in minidl needs these libraries.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def __getattr__(name: str) -> Any:
    """Load the module of a neighbour when it is first used."""
    if name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
