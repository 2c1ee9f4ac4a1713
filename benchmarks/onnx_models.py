"""The board's networks as ONNX graphs, written by hand, for ONNX Runtime to run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy

Layers = list[tuple[Any, ...]]


class Graph:
    """A graph that grows by one layer after the other, as in ``benchmarks/images.py``."""

    def __init__(self, weights: Iterator[numpy.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def _constant(self, array: numpy.ndarray) -> str:
        import onnx

        name = f"constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def _node(self, op: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        name = f"value{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, inputs, [name], **attributes))
        return name

    def add(self, layers: Layers, x: str) -> str:
        """Add layers whose input is x; return the name of their output."""
        for kind, *sizes in layers:
            x = getattr(self, f"_{kind}")(x, *sizes)
        return x

    def _conv(self, x: str, _in: int, out: int, kernel: int, padding: int) -> str:
        weight, bias = self._constant(next(self.weights)), self._constant(numpy.zeros(out, "float32"))
        return self._node("Conv", x, weight, bias, kernel_shape=[kernel] * 2, pads=[padding] * 4)

    def _linear(self, x: str, _in: int, out: int) -> str:
        weight, bias = self._constant(next(self.weights)), self._constant(numpy.zeros(out, "float32"))
        return self._node("Gemm", x, weight, bias, transB=1)

    def _batch_norm(self, x: str, channels: int) -> str:
        one, zero = numpy.ones(channels, "float32"), numpy.zeros(channels, "float32")
        return self._node("BatchNormalization", x, *map(self._constant, (one, zero, zero, one)))

    def _residual(self, x: str, branch: Layers) -> str:
        return self._node("Add", x, self.add(branch, x))

    def _relu(self, x: str) -> str:
        return self._node("Relu", x)

    def _max_pool(self, x: str) -> str:
        return self._node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def _mean(self, x: str) -> str:
        return self._node("GlobalAveragePool", x)

    def _flatten(self, x: str) -> str:
        return self._node("Flatten", x)


def session(layers: Layers, weights: list[numpy.ndarray], shape: tuple[int, ...]) -> Any:
    """Return a session of ONNX Runtime for the network, for inputs ``x`` of this shape."""
    import onnx
    import onnxruntime

    graph = Graph(iter(weights))
    kind = onnx.TensorProto.FLOAT
    output = onnx.helper.make_tensor_value_info(graph.add(layers, "x"), kind, (shape[0], None))
    body = onnx.helper.make_graph(
        graph.nodes, "network", [onnx.helper.make_tensor_value_info("x", kind, shape)], [output], graph.constants
    )
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 1))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
