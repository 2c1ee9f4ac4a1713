"""The board's networks as ONNX graphs, written by hand, for ONNX Runtime to run."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

Layers = list[tuple[Any, ...]]


class Graph:
    """A graph that grows by one layer after the other, as in ``benchmarks/images.py``."""

    def __init__(self, weights: Iterator[numpy.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: numpy.ndarray) -> str:
        """Add an array; return its name."""
        import onnx

        name = f"constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, more: tuple[str, ...] = (), **attributes: Any) -> str:
        """Add a node; return the name of its first output. ``more`` are the names of the others."""
        import onnx

        name = f"value{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, inputs, [name, *more], **attributes))
        return name

    def add(self, layers: Layers, x: str) -> str:
        """Add layers whose input is x; return the name of their output."""
        for kind, *sizes in layers:
            x = getattr(self, f"_{kind}")(x, *sizes)
        return x

    def _conv(self, x: str, _in: int, out: int, kernel: int, padding: int) -> str:
        weight, bias = self.constant(next(self.weights)), self.constant(numpy.zeros(out, "float32"))
        return self.node("Conv", x, weight, bias, kernel_shape=[kernel] * 2, pads=[padding] * 4)

    def _linear(self, x: str, _in: int, out: int) -> str:
        weight, bias = self.constant(next(self.weights)), self.constant(numpy.zeros(out, "float32"))
        return self.node("Gemm", x, weight, bias, transB=1)

    def _batch_norm(self, x: str, channels: int) -> str:
        one, zero = numpy.ones(channels, "float32"), numpy.zeros(channels, "float32")
        return self.node("BatchNormalization", x, *map(self.constant, (one, zero, zero, one)))

    def _residual(self, x: str, branch: Layers) -> str:
        return self.node("Add", x, self.add(branch, x))

    def _relu(self, x: str) -> str:
        return self.node("Relu", x)

    def _max_pool(self, x: str) -> str:
        return self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def _mean(self, x: str) -> str:
        return self.node("GlobalAveragePool", x)

    def _flatten(self, x: str) -> str:
        return self.node("Flatten", x)


def session(layers: Layers, weights: list[numpy.ndarray], shape: tuple[int, ...]) -> Any:
    """Return a session of ONNX Runtime for the network, for inputs ``x`` of this shape."""
    graph = Graph(iter(weights))
    output = graph.add(layers, "x")
    return _open(graph, {"x": shape}, {output: (shape[0], None)})


def _open(
    graph: Graph, inputs: dict[str, Any], outputs: dict[str, Any], int8: bool = False, integers: tuple[str, ...] = ()
) -> Any:
    """Return a session for a graph, given the shapes of its inputs and outputs; ``int8`` quantises weights of products."""
    import onnx
    import onnxruntime

    def described(name: str, shape: Any) -> Any:
        kind = onnx.TensorProto.INT64 if name in integers else onnx.TensorProto.FLOAT
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    ends = [[described(*item) for item in sides.items()] for sides in (inputs, outputs)]
    body = onnx.helper.make_graph(graph.nodes, "network", *ends, graph.constants)
    sets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(body, opset_imports=sets, ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 1))
    with tempfile.TemporaryDirectory() as folder:
        content = _quantised(model, Path(folder)) if int8 else model.SerializeToString()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _quantised(model: Any, folder: Path) -> str:
    """Return the path of the model with the weights of products in int8, one scale for each column."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it advises a step that knows nothing of ONNX Runtime's own operators
    onnx.save(model, folder / "model.onnx")
    quantize_dynamic(
        folder / "model.onnx", folder / "int8.onnx", op_types_to_quantize=["MatMul"], per_channel=True,
        weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )  # fmt: skip
    return str(folder / "int8.onnx")


# Transformers --------------------------------------------------------------------------------------------------------
#
# With MultiHeadAttention, ONNX Runtime's own operator, which its optimiser puts in the place of exported attention.


class Transformer(Graph):
    """A graph whose layers find their weights by name."""

    def __init__(self, heads: int, weights: dict[str, numpy.ndarray]) -> None:
        super().__init__(iter(()))
        self.heads, self.by_name = heads, weights

    def norm(self, x: str, name: str) -> str:
        """Add a layer norm."""
        own = [self.constant(self.by_name[f"{name}.{kind}"]) for kind in ("weight", "bias")]
        return self.node("LayerNormalization", x, *own, axis=-1, epsilon=1e-5)

    def linear(self, x: str, name: str) -> str:
        """Add an affine map; its weight lies as (in, out)."""
        weight, bias = self.by_name[f"{name}weight"].T.copy(), self.by_name[f"{name}bias"]
        return self.node("Add", self.node("MatMul", x, self.constant(weight)), self.constant(bias))

    def attention(self, x: str, projection: str, *past: str, present: tuple[str, ...] = (), causal: int = 0) -> str:
        """Add a joint projection and attention, which continues keys and values of the past."""
        parts = [f"{projection}{len(self.nodes)}{part}" for part in "qkv"]
        joint = self.linear(x, projection)
        first = self.node("Split", joint, axis=-1, num_outputs=3, more=tuple(parts[1:]))
        between = ("", "", "") if past else ()
        inputs = (first, *parts[1:], *between, *past)
        return self.node(
            "MultiHeadAttention", *inputs, more=present, domain="com.microsoft", num_heads=self.heads,
            unidirectional=causal,
        )  # fmt: skip

    def feed_forward(self, x: str, first: str, second: str, approximate: str) -> str:
        """Add two affine maps with gelu between them."""
        return self.linear(self.node("Gelu", self.linear(x, first), approximate=approximate), second)


def encoder_session(layers: int, heads: int, weights: dict[str, numpy.ndarray], shape: tuple[int, ...]) -> Any:
    """Return a session for an encoder with its norms after the parts, and inputs ``x`` of this shape."""
    graph, x = Transformer(heads, weights), "x"
    for i in range(layers):
        layer = f"layers.{i}."
        y = graph.linear(graph.attention(x, f"{layer}self_attn.in_proj_"), f"{layer}self_attn.out_proj.")
        x = graph.norm(graph.node("Add", x, y), f"{layer}norm1")
        y = graph.feed_forward(x, f"{layer}linear1.", f"{layer}linear2.", "none")
        x = graph.norm(graph.node("Add", x, y), f"{layer}norm2")
    return _open(graph, {"x": shape}, {x: shape})


def gpt_session(layers: int, heads: int, weights: dict[str, numpy.ndarray], int8: bool, batch: int = 1) -> Any:
    """Return a session that continues a GPT: inputs ids, places and past0, past1, ...; logits of the last token, and presents."""
    weights = {name.removeprefix("transformer."): value for name, value in weights.items()}
    graph, table = Transformer(heads, weights), weights["wte.weight"]
    x = graph.node("Gather", graph.constant(table), "ids")
    x = graph.node("Add", x, graph.node("Gather", graph.constant(weights["wpe.weight"]), "places"))
    past, present = ([f"{name}{i}" for i in range(2 * layers)] for name in ("past", "present"))
    for i in range(layers):
        pair = slice(2 * i, 2 * i + 2)
        h = graph.norm(x, f"h.{i}.ln_1")
        y = graph.attention(h, f"h.{i}.attn.c_attn.", *past[pair], present=tuple(present[pair]), causal=1)
        x = graph.node("Add", x, graph.linear(y, f"h.{i}.attn.c_proj."))
        h = graph.norm(x, f"h.{i}.ln_2")
        x = graph.node("Add", x, graph.feed_forward(h, f"h.{i}.mlp.c_fc.", f"h.{i}.mlp.c_proj.", "tanh"))
    last = graph.node("Gather", x, graph.constant(numpy.array([-1])), axis=1)  # (N, 1, C)
    logits = graph.node("MatMul", graph.norm(last, "ln_f"), graph.constant(table.T.copy()))
    size = table.shape[1] // heads
    inputs = {"ids": (batch, None), "places": (1, None), **dict.fromkeys(past, (batch, heads, None, size))}
    outputs = {logits: (batch, 1, len(table)), **dict.fromkeys(present, (batch, heads, None, size))}
    return _open(graph, inputs, outputs, int8, ("ids", "places"))
