"""Layers that only rearrange, and the poolings of whole images: shapes, gradients, what is refused."""

import numpy
import pytest

import minidl as dl
from minidl.errors import ParameterError, ShapeError

X = numpy.arange(120.0).reshape(5, 2, 3, 4)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (dl.Reshape(4, 6), X.reshape(5, 4, 6)),
        (dl.Reshape((-1, 12)), X.reshape(5, 2, 12)),
        (dl.Reshape(-1), X.reshape(5, 24)),
        (dl.Unflatten(3, (2, 2)), X.reshape(5, 2, 3, 2, 2)),
        (dl.Unflatten(-1, (-1, 2)), X.reshape(5, 2, 3, 2, 2)),
        (dl.Unflatten(1, [2, 1]), X.reshape(5, 2, 1, 3, 4)),
        (dl.Permute(3, 1, 2), X.transpose(0, 3, 1, 2)),
        (dl.Permute((2, 3, 1)), X.transpose(0, 2, 3, 1)),
        (dl.GlobalMaxPool2d(), X.max(axis=(2, 3))),
        (dl.GlobalAvgPool2d(), X.mean(axis=(2, 3))),
        (dl.AdaptiveMaxPool2d((1, None)), X.max(axis=2, keepdims=True)),
        (dl.Upsample(size=(3, 2), mode="nearest-exact"), X[..., [1, 3]]),
    ],
    ids=repr,
)
def test_result_shape_and_gradient(layer, expected):
    numpy.testing.assert_array_equal(layer(X), expected)
    assert layer.output_shape(X.shape[1:]) == expected.shape[1:]
    assert layer.backward(numpy.ones(expected.shape)).shape == X.shape
    assert layer.flops(X.shape[1:]) >= 0
    assert repr(eval(f"dl.{layer!r}")) == repr(layer)
    x = numpy.random.default_rng(0).permutation(X.ravel()).reshape(X.shape)
    dl.gradcheck(layer, x[:2])


@pytest.mark.parametrize("name", ["GlobalMaxPool1d", "GlobalAvgPool1d", "AdaptiveMaxPool1d"])
def test_sequences(name):
    layer = getattr(dl, name)(*[2] * name.startswith("Adaptive"))
    x = numpy.random.default_rng(0).permutation(numpy.arange(60.0)).reshape(3, 4, 5)
    assert layer(x).shape[1:] == layer.output_shape((4, 5))
    dl.gradcheck(layer, x)


def test_an_empty_batch_keeps_its_shape():
    x = X[:0]
    assert dl.Reshape(4, -1)(x).shape == (0, 4, 6)
    assert dl.Unflatten(1, (1, -1))(x).shape == (0, 1, 2, 3, 4)
    assert dl.Permute(3, 1, 2)(x).shape == (0, 4, 2, 3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dl.Reshape(5, 5)(X), ShapeError, r"Reshape\(5, 5\): 24 elements cannot be arranged as \(5, 5\)"),
        (lambda: dl.Reshape(5, -1)(X), ShapeError, "24 elements cannot be arranged"),
        (lambda: dl.Reshape(-1, -1), ParameterError, "at most one of them -1"),
        (lambda: dl.Reshape(2.0, 3), ParameterError, "shape must be lengths of axes"),
        (lambda: dl.Reshape(), ParameterError, "shape must be lengths of axes"),
        (lambda: dl.Unflatten(0, (1, 5)), ParameterError, "dim must be an axis behind that of the batch"),
        (lambda: dl.Unflatten(5, (1, 5))(X), ShapeError, "have no such axis"),
        (lambda: dl.Unflatten(-4, (1, 5))(X), ShapeError, "have no such axis"),
        (lambda: dl.Unflatten(1, (3, -1))(X), ShapeError, "2 elements cannot be arranged as"),
        (lambda: dl.Permute(0, 1, 2), ParameterError, "dims must be the axes 1 to 3 behind the batch, each once"),
        (lambda: dl.Permute(2, 1)(X), ShapeError, "expected examples with 2 axes"),
        (lambda: dl.GlobalMaxPool2d()(X[0]), ShapeError, "x must have shape"),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
