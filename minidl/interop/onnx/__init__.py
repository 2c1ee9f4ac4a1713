"""ONNX, both ways: ``export`` writes a model as a graph, and ``load`` makes a model of a graph."""

from minidl.interop.onnx.exporting import export
from minidl.interop.onnx.importing import OnnxModel, load
from minidl.interop.onnx.operators.table import Unsupported

__all__ = ["OnnxModel", "Unsupported", "export", "load"]
