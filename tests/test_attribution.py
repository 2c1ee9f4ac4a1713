"""Integrated gradients."""

import numpy
import pytest

import minidl as dl
from minidl.attribution import integrated_gradients
from minidl.errors import ParameterError, ShapeError

X = numpy.random.default_rng(0).normal(size=(5, 3))


class Square(dl.layers.Layer):
    """y = (x_0^2 x_1, x_2)."""

    def forward(self, x):
        self._remember(x)
        return numpy.stack([x[:, 0] ** 2 * x[:, 1], x[:, 2]], axis=1)

    def backward(self, dy):
        x = self._remembered()
        zero = 0 * x[:, 0]
        return dy[:, :1] * numpy.stack([2 * x[:, 0] * x[:, 1], x[:, 0] ** 2, zero], axis=1) + dy[:, 1:] * [0, 0, 1]


def test_a_polynomial_by_hand():
    """From 0 to x, the integral of 2 t^2 x_0 x_1 is 2/3 x_0 x_1, and that of t^2 x_0^2 is x_0^2 / 3."""
    whole = X[:, 0] ** 2 * X[:, 1]
    expected = numpy.stack([2 / 3 * whole, whole / 3, 0 * whole], axis=1)
    numpy.testing.assert_allclose(integrated_gradients(Square(), X, steps=2), expected, rtol=1e-13, atol=1e-15)


def test_they_add_up_and_leave_the_model_alone(host_engine):
    with dl.use(host_engine):
        dl.seed(0)
        model = dl.Sequential(
            dl.Linear(3, 8, dtype="float64"), dl.Tanh(), dl.Dropout(0.5), dl.Linear(8, 2, dtype="float64")
        )
        model.train()
        baseline = numpy.ones(3)
        added = integrated_gradients(model, X, baseline, target=1)
        assert model.training
        assert not any(numpy.any(parameter.grad) for parameter in model.parameters())
        model.eval()
        difference = model.forward(X)[:, 1] - model.forward(baseline[None])[0, 1]
        numpy.testing.assert_allclose(added.sum(axis=1), difference, rtol=1e-10)
        each = integrated_gradients(model, X, numpy.ones((5, 3)), target=1)
        numpy.testing.assert_array_equal(each, added)


def test_wrong_arguments():
    model = dl.Sequential(dl.Linear(3, 2, dtype="float64"))
    with pytest.raises(ParameterError, match="target must be from 0 to 1, got 2"):
        integrated_gradients(model, X, target=2)
    with pytest.raises(ParameterError, match="steps must be at least 1"):
        integrated_gradients(model, X, steps=0)
    with pytest.raises(ShapeError, match=r"the baseline must have shape \(3,\)"):
        integrated_gradients(model, X, numpy.zeros(4))
    with pytest.raises(ShapeError, match=r"expected outputs of shape \(N, K\)"):
        integrated_gradients(model, X[None])
