"""Convolution and pooling of volumes as layers."""

import numpy
import pytest

import minidl as dl
from minidl.errors import ShapeError
from minidl.testing.layer_checks import check_layer

LAYERS = [
    dl.Conv3d(2, 3, (2, 1, 3), stride=(1, 2, 1), padding=(1, 0, 1)),
    dl.MaxPool3d(2, (1, 2, 2)),
    dl.AvgPool3d((2, 3, 1)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_every_layer_keeps_the_rules(layer):
    x = numpy.random.default_rng(0).normal(size=(2, 2, 3, 4, 3)).astype("float32")
    check_layer(layer, x)
    assert layer.output_shape((2, 3, 4, 3)) == layer.forward(x).shape[1:]
    assert repr(eval(repr(layer), vars(dl))) == repr(layer)


def test_a_model_of_volumes():
    model = dl.Sequential(dl.Conv3d(1, 2, 3, padding=1), dl.ReLU(), dl.MaxPool3d(2), dl.Flatten(), dl.Linear(8, 3))
    x = numpy.random.default_rng(0).normal(size=(3, 1, 4, 2, 4))
    dl.gradcheck(model.to(dtype="float64"), x)
    assert "(N, 2, 2, 1, 2)" in str(model.summary((1, 4, 2, 4)))
    with pytest.raises(ShapeError, match=r"x must have shape \(N, C, D, H, W\), got"):
        dl.MaxPool3d(2).forward(x[0])
