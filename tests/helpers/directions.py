"""The gradients of a whole model at once, along one direction: a thousand times cheaper than one element after another."""

import numpy
import pytest


def check_direction(model, *inputs, seed=0):
    """Compare the gradients of all parameters with a difference of the loss sum(c y) along a random direction."""
    random = numpy.random.default_rng(seed)
    y = model.forward(*inputs)
    c = random.normal(size=y.shape)
    model.zero_grad()
    model.backward(c)
    parameters = model.parameters()
    directions = [random.normal(size=p.shape) * numpy.maximum(numpy.abs(p.value), 0.1) for p in parameters]
    expected = sum(float((p.grad * v).sum()) for p, v in zip(parameters, directions, strict=True))
    begin = [p.value.copy() for p in parameters]

    def loss(step):
        for p, start, v in zip(parameters, begin, directions, strict=True):
            p.value[...] = start + step * v
        return float((model.forward(*inputs) * c).sum())

    h = 1e-5
    found = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    loss(0.0)
    assert found == pytest.approx(expected, rel=1e-7)
