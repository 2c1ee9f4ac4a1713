"""Graphs as models: what they refuse, and that they train, copy, convert and fit into other models."""

import copy
import pickle

import numpy
import pytest

onnx = pytest.importorskip("onnx")

import minidl as dl  # noqa: E402
from minidl import models  # noqa: E402
from minidl.errors import DtypeError, EngineError, FileFormatError, ShapeError  # noqa: E402
from minidl.interop.onnx import OnnxModel, Unsupported, export, load  # noqa: E402
from minidl.interop.onnx.reading import read_graph  # noqa: E402

pytestmark = pytest.mark.peers

RANDOM = numpy.random.default_rng(0)
X = RANDOM.standard_normal((4, 1, 28, 28)).astype("float32")
FLOAT = onnx.TensorProto.FLOAT


def build(nodes, inputs=("x",), outputs=("y",), weights=None, opset=18, kind=FLOAT):
    """Return the message of a small graph."""
    values = [[onnx.helper.make_tensor_value_info(name, kind, None) for name in names] for names in (inputs, outputs)]
    arrays = [onnx.numpy_helper.from_array(numpy.asarray(a), name) for name, a in (weights or {}).items()]
    graph = onnx.helper.make_graph(nodes, "g", *values, arrays)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def node(kind, *inputs, name="", outputs=("y",), **attributes):
    return onnx.helper.make_node(kind, list(inputs), list(outputs), name=name, **attributes)


@pytest.fixture
def lenet(tmp_path):
    dl.seed(0)
    model = models.lenet()
    export(model, tmp_path / "m.onnx", X)
    return model, load(tmp_path / "m.onnx")


class TestModel:
    def test_it_trains(self, lenet):
        _, model = lenet
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        history = model.fit(X, numpy.array([3, 1, 4, 1]), epochs=30, verbose=0)
        assert history.history["loss"][-1] < 0.2 * history.history["loss"][0]

    def test_one_flat_buffer(self, lenet):
        _, model = lenet
        (buffer,) = model.flat_buffers()
        assert buffer.values.size == sum(parameter.value.size for parameter in model.parameters())

    def test_a_frozen_weight_gets_no_gradient(self, lenet):
        _, model = lenet
        names = [name for name, _ in model.named_parameters()]
        model.freeze(names[0])
        model.backward(model.forward(X))
        assert [name for name, p in model.named_parameters() if p.has_grad] == names[1:]

    def test_inside_a_chain(self, lenet):
        _, model = lenet
        whole = dl.Sequential({"body": model, "head": dl.Linear(10, 2)})
        assert whole.forward(X).shape == (4, 2)
        assert whole.backward(numpy.ones((4, 2), "float32")).shape == X.shape

    def test_copies(self, lenet, tmp_path):
        _, model = lenet
        y = model.forward(X)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            twin.parameters()[0].value[...] = 0
            assert (model.forward(X) == y).all()
            model.save(tmp_path / "w.safetensors")
            twin.load(tmp_path / "w.safetensors")
            assert (twin.forward(X) == y).all()

    def test_inference_runs_other_steps_and_gives_the_same(self, host_engine):
        bn = {name: RANDOM.uniform(0.5, 2, 3).astype("float32") for name in ("g", "b", "m", "v")}
        w = {"w": RANDOM.standard_normal((3, 1, 3, 3)).astype("float32"), **bn, "half": numpy.float32([0.5])}
        nodes = [
            node("Conv", "x", "w", outputs=("c",), auto_pad="SAME_UPPER", strides=[2, 2]),
            node("BatchNormalization", "c", "g", "b", "m", "v", outputs=("n",)),
            node("Mul", "half", "n", outputs=("s",)),
            node("Relu", "s", outputs=("r",)),
            node("Add", "r", "half", outputs=("y",)),
        ]
        with dl.use(host_engine):
            model = OnnxModel(read_graph(build(nodes, weights=w)))
            assert len(model._plan) == 1
            y = model.forward(X)
            with dl.inference():
                numpy.testing.assert_allclose(model.forward(X), y, rtol=1e-5, atol=1e-6)
            model.to(dtype="float64")
            assert dl.gradcheck(model, X[:1, :, :6, :5].astype("float64")).ok

    @pytest.mark.parametrize(
        ("nodes", "kind"),
        [
            ([node("Add", "x", "three", outputs=("a",)), node("Clip", "a", "zero", "six", outputs=("c",)),
              node("Mul", "x", "c", outputs=("m",)), node("Div", "m", "six")], "HardSwish"),
            ([node("Div", "x", "root", outputs=("d",)), node("Erf", "d", outputs=("e",)),
              node("Add", "e", "one", outputs=("a",)), node("Mul", "x", "a", outputs=("m",)),
              node("Mul", "m", "half")], "Gelu"),
            ([node("Mul", "x", "half", outputs=("h",)), node("Div", "x", "root", outputs=("d",)),
              node("Erf", "d", outputs=("e",)), node("Add", "one", "e", outputs=("a",)), node("Mul", "a", "h")], "Gelu"),
            ([node("Sigmoid", "x", outputs=("s",)), node("Mul", "s", "x")], "Swish"),
        ],
    )  # fmt: skip
    def test_what_exporters_take_apart_is_put_together(self, nodes, kind):
        constants = {"three": 3.0, "zero": 0.0, "six": 6.0, "root": 2**0.5, "one": 1.0, "half": 0.5}
        proto = build(nodes, weights={name: numpy.float32(value) for name, value in constants.items()})
        model = OnnxModel(read_graph(proto))
        assert [n.kind for n in model.graph.nodes] == [kind]
        x = RANDOM.standard_normal((3, 5)).astype("float32")
        from onnx.reference import ReferenceEvaluator

        numpy.testing.assert_allclose(model.forward(x), ReferenceEvaluator(proto).run(None, {"x": x})[0], atol=1e-6)

    def test_another_number_is_not_put_together(self):
        nodes = [
            node("Add", "x", "n", outputs=("a",)),
            node("Clip", "a", "zero", "six", outputs=("c",)),
            node("Mul", "x", "c"),
        ]
        model = OnnxModel(
            read_graph(
                build(nodes, weights={"n": numpy.float32(2.9), "zero": numpy.float32(0), "six": numpy.float32(6)})
            )
        )
        assert [n.kind for n in model.graph.nodes] == ["Add", "Clip", "Mul"]

    def test_a_value_read_twice_gets_the_sum(self):
        model = OnnxModel(read_graph(build([node("Exp", "x", outputs=("e",)), node("Mul", "e", "e")])))
        assert dl.gradcheck(model.to(dtype="float64"), RANDOM.standard_normal((2, 3))).ok

    def test_known_and_unused_nodes_are_left_out(self):
        nodes = [
            node("Add", "one", "one", outputs=("two",)),
            node("Exp", "x", outputs=("nobody",)),
            node("Mul", "x", "two"),
        ]
        model = OnnxModel(read_graph(build(nodes, weights={"one": numpy.float32(1)})))
        assert [n.kind for n in model.graph.nodes] == ["Mul"]
        assert model.forward(numpy.float32([3])) == 6

    def test_old_opsets_mean_what_they_meant(self):
        """Softmax over all axes from the given one on, and axes as attributes."""
        x = RANDOM.standard_normal((2, 3, 4)).astype("float32")
        y = OnnxModel(read_graph(build([node("Softmax", "x", axis=1)], opset=11))).forward(x)
        numpy.testing.assert_allclose(y.sum(axis=(1, 2)), 1, rtol=1e-6)
        y = OnnxModel(read_graph(build([node("ReduceSum", "x", axes=[1], keepdims=0)], opset=11))).forward(x)
        numpy.testing.assert_allclose(y, x.sum(axis=1), rtol=1e-5)


class TestRefusals:
    def test_all_that_is_not_supported_is_listed(self, tmp_path):
        nodes = [
            node("Det", "x", name="first", outputs=("d",)),
            node("GridSample", "x", "d", name="second", outputs=("e",), mode="cubic"),
            node("BatchNormalization", "e", *"gbmv", name="third", outputs=("f",), spatial=0),
            node("Relu", "f", name="fourth", outputs=("h",), slope=2.0),
            node("Own", "h", name="fifth", domain="com.example"),
        ]
        with pytest.raises(Unsupported) as error:
            read_graph(build(nodes, weights={name: numpy.ones(2, "float32") for name in "gbmv"}))
        lines = [line.strip() for line in str(error.value).splitlines()]
        assert lines == [
            "load: minidl does not compute 5 parts of this graph:",
            "first: Det()",
            "second: GridSample(mode='cubic')",
            "third: BatchNormalization with spatial=0",
            "fourth: Relu with slope=2.0",
            "fifth: com.example.Own()",
        ]

    def test_old(self):
        with pytest.raises(Unsupported, match="opset 6 is older than 7"):
            read_graph(build([node("Relu", "x")], opset=6))

    def test_files_that_are_none(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(b"nonsense")
        with pytest.raises(FileFormatError, match="not a valid ONNX file"):
            load(tmp_path / "m.onnx")
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none.onnx")

    def test_inputs_that_do_not_fit(self, lenet):
        _, model = lenet
        with pytest.raises(ShapeError, match=r"must have shape \(any, 1, 28, 28\), got"):
            model.forward(X[:, :, :20])
        with pytest.raises(DtypeError, match="must be float32, got int64"):
            model.forward(X.astype("int64"))
        with pytest.raises(ShapeError, match="expected 1 inputs"):
            model.forward(X, X)

    def test_shapes_that_do_not_fit_name_the_node(self):
        model = OnnxModel(
            read_graph(build([node("MatMul", "x", "w", name="product")], weights={"w": numpy.ones((3, 2), "float32")}))
        )
        with pytest.raises(ShapeError, match="node product of the graph, MatMul"):
            model.forward(numpy.ones((2, 4), "float32"))

    def test_constants_that_do_not_fit(self):
        with pytest.raises(FileFormatError, match="constants of node #0, Add, do not fit"):
            read_graph(
                build(
                    [node("Add", "a", "b", outputs=("c",)), node("Mul", "x", "c")],
                    weights={"a": numpy.ones(2, "int64"), "b": numpy.ones(3, "int64")},
                )
            )

    def test_no_gradient(self):
        scale = {"s": numpy.float32(0.1), "z": numpy.uint8(0)}
        nodes = [node("QuantizeLinear", "x", "s", "z", outputs=("q",)), node("DequantizeLinear", "q", "s", "z")]
        model = OnnxModel(read_graph(build(nodes, weights=scale)))
        assert model.forward(numpy.float32([0.33])) == pytest.approx(0.3)
        training = OnnxModel(
            read_graph(
                build([node("Dropout", "x", "r", "t")], weights={"r": numpy.float32(0.5), "t": numpy.bool_(True)})
            )
        )
        with pytest.raises(Unsupported, match="not defined by the graph"):
            training.forward(numpy.float32([1]))

    def test_a_gpu(self, lenet):
        class Elsewhere:
            xp = None

        with pytest.raises(EngineError, match="computed on the host"):
            lenet[1].to(Elsewhere())
