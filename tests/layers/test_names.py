"""Names of layers in a Chain: given by a dict or by position, used by state_dict, errors, paths and cuts."""

from collections import OrderedDict

import numpy
import pytest

import minidl as dl
from minidl.errors import ParameterError, ShapeError


def test_a_dict_names_the_layers():
    layers = OrderedDict(fc1=dl.Linear(4, 3), relu=dl.ReLU(), head=dl.Sequential(dl.Linear(3, 2)))
    model = dl.Sequential(layers)
    assert list(model.state_dict()) == ["fc1.weight", "fc1.bias", "head.0.weight", "head.0.bias"]
    assert model["fc1"] is model[0] is layers["fc1"]
    assert model["head.0"] is layers["head"][0]
    assert model.fused_into() == ({1: 0} if dl.engines.current().has_kernel("linear_activation") else {})


def test_append_names_by_position_or_as_told():
    model = dl.Sequential({"fc1": dl.Linear(4, 3)}).append(dl.ReLU()).append(dl.Linear(3, 2), name="fc2")
    assert list(model.children()) == ["fc1", "1", "fc2"]


@pytest.mark.parametrize("name", ["", "a.b", 3, None])
def test_what_is_no_name(name):
    with pytest.raises(ParameterError, match="name must be a string without dots"):
        dl.Sequential({name: dl.ReLU()})


def test_a_name_is_given_once():
    with pytest.raises(ParameterError, match="that no other has, got 'fc'"):
        dl.Sequential({"fc": dl.ReLU()}).append(dl.ReLU(), name="fc")


def test_errors_say_the_name():
    model = dl.Sequential({"fc1": dl.Linear(4, 3)})
    with pytest.raises(ShapeError, match=r"in layer fc1 of Sequential, Linear\(4, 3\)"):
        model.forward(numpy.ones((2, 5), dtype="float32"))


@pytest.mark.parametrize("end", [dl.Softmax(), dl.Dense(2, "softmax"), dl.Sequential(dl.Linear(3, 2), dl.Softmax())])
def test_a_model_cut_before_its_last_activation_keeps_the_names(end):
    model = dl.Sequential({"fc1": dl.Linear(4, 3), "end": end})
    trunk, activation = model.without_last_activation()
    assert isinstance(activation, dl.Softmax)
    assert list(trunk.state_dict())[:2] == ["fc1.weight", "fc1.bias"]
    assert trunk.parameters() == model.parameters()


def test_repr_shows_names_and_breaks_long_lines():
    model = dl.Sequential({"act": dl.ReLU(), "inner": dl.Sequential(dl.Tanh())})
    assert repr(model) == "Sequential(act=ReLU(), inner=Sequential(Tanh()))"
    long = repr(dl.Sequential({f"layer{i}": dl.Linear(10, 10) for i in range(8)}))
    assert long.splitlines()[:2] == ["Sequential(", "  layer0=Linear(10, 10),"]
