"""What the tests of training share: a straight line, and a neuron to learn it."""

import numpy
import pytest

import minidl as dl


@pytest.fixture
def line():
    """Sixty-four points of y = 2 x + 1, y of shape (64,)."""
    x = numpy.linspace(-1, 1, 64, dtype="float32").reshape(-1, 1)
    return x, 2 * x[:, 0] + 1


@pytest.fixture
def neuron():
    """Make a compiled model of one neuron."""

    def make(optimizer="sgd", loss="mse", metrics=(), **settings):
        model = dl.Sequential([dl.Dense(units=1, input_shape=(1,), **settings)])
        model.compile(optimizer, loss, metrics)
        return model

    return make


@pytest.fixture
def twins():
    """Give several models the same weights."""

    def alike(*models):
        first = [p.value.copy() for p in models[0].parameters()]
        for model in models[1:]:
            for parameter, value in zip(model.parameters(), first, strict=True):
                parameter.value = value
        return models

    return alike
