"""ONNX, both ways: ``export`` writes a model as a graph, and ``load`` makes a model of a graph."""

from minidl.interop.onnx.exporting import export

__all__ = ["export"]
