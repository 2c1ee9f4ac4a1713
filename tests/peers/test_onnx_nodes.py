"""The ONNX project's own node tests, through ``minidl.interop.onnx.load``: those that pass must go on passing, with right gradients.

``python tests/helpers/onnx_nodes.py`` writes the list and the table in docs/onnx.md anew.
"""

import re

import numpy
import pytest

onnx = pytest.importorskip("onnx")

import onnx_nodes  # noqa: E402

import minidl as dl  # noqa: E402
from minidl.interop.onnx import OnnxModel  # noqa: E402
from minidl.interop.onnx.reading import read_graph  # noqa: E402

pytestmark = pytest.mark.peers

LISTED = onnx_nodes.PASSING.read_text().split()
NOT_FINITE = re.compile(
    r"cast|edge_cases|empty_set|nan_robustness|fullymasked|structural_empty"  # nan and infinity are given, or are the result
    r"|(bias_[34]d_mask_causal|window_gqa_rank4_mask)_expanded"  # a softmax over minus infinity alone, whose nan is replaced later
)
"""Cases whose derivative is not a number."""


def test_the_cases_are_there():
    here = set(onnx_nodes.cases())
    if onnx.__version__ != "1.23.2":
        pytest.skip(f"the list is that of onnx 1.23.2, this is {onnx.__version__}")
    assert set(LISTED) <= here
    assert len(LISTED) >= 1000


def test_what_passed_still_passes(host_engine):
    wrong = {}
    with dl.use(host_engine):
        for name in filter(onnx_nodes.cases().__contains__, LISTED):
            try:
                onnx_nodes.check(onnx_nodes.cases()[name])
            except Exception as error:  # each failure is listed below
                wrong[name] = " ".join(str(error).split())[:200]
    assert not wrong


def test_gradients_of_what_passes():
    checked, wrong = 0, {}
    for name in filter(onnx_nodes.cases().__contains__, LISTED):
        try:
            error = onnx_nodes.gradient_error(onnx_nodes.cases()[name])
        except dl.interop.onnx.Unsupported as why:  # such as that rounding has no gradient
            wrong |= {} if "gradient" in str(why) else {name: str(why)}
            continue
        if error is None or NOT_FINITE.search(name):
            continue
        checked += 1
        if not error < 1e-5:
            wrong[name] = error
    assert not wrong
    assert checked >= 900


def test_the_table_is_current():
    if onnx.__version__ != "1.23.2":
        pytest.skip("the table is that of onnx 1.23.2")
    found = onnx_nodes.outcomes()
    assert sorted(name for name, why in found.items() if not why) == LISTED, "python tests/helpers/onnx_nodes.py"
    assert onnx_nodes.between_marks(onnx_nodes.PAGE.read_text("utf-8"))[1].splitlines() == onnx_nodes.table(found)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_gru_with_lengths(host_engine, direction, after):
    """Both forms, which reset the state before or after the product, with lengths, against onnxruntime and differences."""
    ort = pytest.importorskip("onnxruntime")
    rng = numpy.random.default_rng(0)
    ways = 2 if direction == "bidirectional" else 1
    shapes = {"X": (4, 3, 2), "W": (ways, 15, 2), "R": (ways, 15, 5), "B": (ways, 30), "h": (ways, 3, 5)}
    arrays = {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    names = ["X", "W", "R", "B", "lengths", "h"]
    node = onnx.helper.make_node(
        "GRU", names, ["Y", "Y_h"], hidden_size=5, linear_before_reset=after, direction=direction
    )
    float32, int32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    inputs = [onnx.helper.make_tensor_value_info("X", float32, [4, 3, 2])]
    inputs += [onnx.helper.make_tensor_value_info("lengths", int32, [3])]
    outputs = [onnx.helper.make_tensor_value_info(name, float32, None) for name in ("Y", "Y_h")]
    weights = [onnx.numpy_helper.from_array(arrays[name], name) for name in ("W", "R", "B", "h")]
    opset = [onnx.helper.make_opsetid("", 21)]
    graph = onnx.helper.make_graph([node], "g", inputs, outputs, weights)
    proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    lengths = numpy.array([4, 2, 3], "int32")
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"X": arrays["X"], "lengths": lengths})
    with dl.use(host_engine):
        model = OnnxModel(read_graph(proto))
        assert {parameter.name for parameter in model.parameters()} == {"W", "R", "B", "h"}
        for one, other in zip(model.forward(arrays["X"], lengths), wanted, strict=True):
            numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        model.to(dtype="float64")
        assert dl.gradcheck(model, arrays["X"].astype("float64"), lengths).ok
