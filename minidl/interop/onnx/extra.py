"""The package onnx, which is imported when it is used."""

from __future__ import annotations

from typing import Any

from minidl.errors import MissingDependencyError

__all__ = ["import_onnx"]


def import_onnx(feature: str) -> Any:
    """Return the package onnx.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError.needs(feature, "onnx", "onnx") from error
    return onnx
