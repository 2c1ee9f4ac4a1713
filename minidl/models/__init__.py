"""Named architectures, each readable from top to bottom, and Sequential, which they are made with."""

from minidl.models.mlp import mlp
from minidl.models.sequential import Sequential
from minidl.models.summary import Summary

__all__ = ["Sequential", "Summary", "mlp"]
