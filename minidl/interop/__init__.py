"""The neighbours: each module speaks to one library or format, and needs the extra that its page names.

``minidl.interop.sklearn`` has estimators for scikit-learn, ``minidl.interop.torch`` bridges to PyTorch in both directions,
``minidl.interop.onnx`` writes and reads graphs, ``minidl.interop.optuna`` has what a search with Optuna needs,
``minidl.interop.arrow`` streams Parquet files, ``minidl.interop.frames`` makes tables of data frames, and
``minidl.interop.serving`` answers requests over HTTP. Nothing else in minidl needs these libraries.
"""

from __future__ import annotations

import importlib
from typing import Any

_NEIGHBOURS = ("arrow", "frames", "onnx", "optuna", "serving", "sklearn", "torch")


def __getattr__(name: str) -> Any:
    """Load the module of a neighbour when it is first used."""
    if name in _NEIGHBOURS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
