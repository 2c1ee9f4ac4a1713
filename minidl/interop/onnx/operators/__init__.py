"""The operators that graphs may have: one rule for each, in tables by family."""

from minidl.interop.onnx.operators import (  # noqa: F401 - imported, they fill the table
    arranging,
    elementwise,
    losses,
    normalizing,
    recurrent,
    reducing,
    resizing,
    sequences,
    windows,
)
from minidl.interop.onnx.operators.table import OPERATORS, Node, Unsupported

__all__ = ["OPERATORS", "Node", "Unsupported"]
