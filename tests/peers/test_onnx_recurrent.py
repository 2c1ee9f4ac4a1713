"""The ONNX project's own node tests for RNN, LSTM and GRU, through an adapter to the ops of minidl."""

import warnings

import numpy
import pytest

onnx = pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # from arrays that the cases are made of
    from onnx.backend.test.case import node as nodes
    from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401 - imported, they list their cases

import minidl as dl  # noqa: E402

pytestmark = pytest.mark.peers

OPS = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
ORDERS = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}
"""Where our gates are in ONNX's order: i, f, g, o in i, o, f, c; r, z, n in z, r, h."""
LEFT_OUT = {
    "test_lstm_with_peepholes": "PyTorch's LSTM, and so minidl's, has no peepholes",
    "test_gru_seq_length": "resets the state before the product with W_hn; PyTorch's GRU, and so minidl's, after it",
}
CASES = {case.name: case for case in nodes._NodeTestCases if case.model.graph.node[-1].op_type in OPS}


def run_node(model, arrays):
    """Return Y, Y_h and Y_c of the one node of a model."""
    node = model.graph.node[-1]
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given = dict(zip(filter(None, node.input), arrays, strict=True))
    kind, batch_first = node.op_type, settings.get("layout", 0) == 1
    x = given["X"] if batch_first else given["X"].swapaxes(0, 1)  # (N, T, C)
    direction = settings.get("direction", b"forward").decode()
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    outputs, finals = [], []
    for place, reverse in enumerate(ways):
        weights = [reorder(given[name][place], ORDERS[kind]) for name in ("W", "R")]
        biases = [None, None]
        if "B" in given:
            biases = [reorder(half, ORDERS[kind]) for half in numpy.split(given["B"][place], 2)]
        names = ["initial_h", "initial_c"] if kind == "LSTM" else ["initial_h"]
        first = [given[name][place] if name in given else None for name in names]
        (y, *final), _ = getattr(dl.ops, OPS[kind])(
            x, *first, *weights, *biases, given.get("sequence_lens"), reverse=reverse
        )
        outputs.append(y)
        finals.append(final)
    y = numpy.stack(outputs, axis=1 if not batch_first else 2)  # (N, directions, T, H) or (N, T, directions, H)
    states = [numpy.stack(part) for part in zip(*finals, strict=True)]  # (directions, N, H)
    if batch_first:
        return y, *[state.swapaxes(0, 1) for state in states]
    return y.transpose(2, 1, 0, 3), *states  # (T, directions, N, H)


def reorder(rows, order):
    """Return the rows of the gates in another order."""
    return numpy.concatenate([numpy.split(rows, len(order))[place] for place in order])


def test_the_cases_are_there():
    assert len(CASES) >= 18
    assert set(LEFT_OUT) <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_node(host_engine, name):
    if name in LEFT_OUT:
        pytest.skip(LEFT_OUT[name])
    case = CASES[name]
    names = case.model.graph.node[-1].output
    with dl.use(host_engine):
        for arrays, expected in case.data_sets:
            found = dict(zip(["Y", "Y_h", "Y_c"], run_node(case.model, arrays), strict=False))
            for output, array in zip(filter(None, names), expected, strict=True):
                numpy.testing.assert_allclose(found[output], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_gru_that_resets_after_the_product(host_engine, direction):
    """The form that no node test has, against ONNX's reference implementation."""
    rng = numpy.random.default_rng(0)
    ways = 2 if direction == "bidirectional" else 1
    shapes = {"X": (4, 3, 2), "W": (ways, 15, 2), "R": (ways, 15, 5), "B": (ways, 30)}
    arrays = {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    node = onnx.helper.make_node(
        "GRU", list(shapes), ["Y", "Y_h"], hidden_size=5, linear_before_reset=1, direction=direction
    )
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in (*shapes, "Y", "Y_h")]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:4], values[4:]))
    with dl.use(host_engine):
        found = run_node(model, list(arrays.values()))
    for one, other in zip(found, ReferenceEvaluator(model).run(None, arrays), strict=True):
        numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
