"""Trained networks of others through ``minidl.interop.onnx.load``: onnxruntime's answers, and right gradients."""

import warnings

import numpy
import pytest

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from foreign_networks import NETWORKS  # noqa: E402

import minidl as dl  # noqa: E402
from minidl.interop.onnx import load  # noqa: E402

pytestmark = pytest.mark.peers

STEPS = {"basic-pitch": 1e-8}
"""A smaller step for the difference where kinks are everywhere: rectifiers, and the least and largest of all elements."""


def as_tuple(y):
    return y if isinstance(y, tuple) else (y,)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    path = NETWORKS[request.param].path()
    return request.param, path, load(path)


def draw(name, seed):
    return numpy.random.default_rng(seed).standard_normal(NETWORKS[name].shape)


def test_answers_of_onnxruntime(network):
    name, path, model = network
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = draw(name, 0).astype("float32")
    wanted = session.run(None, {session.get_inputs()[0].name: x})
    with dl.inference():  # convolutions run with what follows them
        found = as_tuple(model.forward(x))
    if name != "DINOv2-S, a head":  # also node by node, as in training
        for y, other in zip(found, as_tuple(model.forward(x)), strict=True):
            numpy.testing.assert_allclose(y, other, rtol=1e-4, atol=1e-5)
    for y, other in zip(found, wanted, strict=True):
        numpy.testing.assert_allclose(y, other, rtol=1e-4, atol=2e-5)


def test_gradient_by_a_difference(network):
    """In float64, along one direction; this converts the model, so it comes last."""
    name, _, model = network
    model.to(dtype="float64")
    x, direction = draw(name, 1), draw(name, 2)
    outputs = as_tuple(model.forward(x))
    upstream = tuple(numpy.random.default_rng(3).standard_normal(y.shape) for y in outputs)
    dx = model.backward(upstream if len(upstream) > 1 else upstream[0])
    values = []
    size = STEPS.get(name, 1e-6)
    for step in (size, -size):
        with dl.inference():
            ys = as_tuple(model.forward(x + step * direction))
        values.append(sum((y * d).sum() for y, d in zip(ys, upstream, strict=True)))
    numeric = (values[0] - values[1]) / (2 * size)
    assert (dx * direction).sum() == pytest.approx(numeric, rel=1e-5)


def test_a_graph_of_pytorch(tmp_path, host_engine):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.SiLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 32),
        torch.nn.LayerNorm(32),
        torch.nn.GELU(),
        torch.nn.Linear(32, 5),
    ).eval()
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x.detach(),), str(tmp_path / "net.onnx"), dynamo=False, opset_version=17)
    y = net(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    with dl.use(host_engine):
        model = load(tmp_path / "net.onnx")
        assert {node.kind for node in model.graph.nodes} >= {"Conv", "Swish", "LayerNormalization", "Gelu", "Gemm"}
        numpy.testing.assert_allclose(model.forward(x.detach().numpy()), y.detach().numpy(), rtol=1e-4, atol=1e-6)
        numpy.testing.assert_allclose(model.backward(dy.numpy()), x.grad.numpy(), rtol=1e-3, atol=1e-6)
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        numpy.testing.assert_allclose(gradients["5.weight"], net[5].weight.grad.numpy(), rtol=1e-3, atol=1e-6)
