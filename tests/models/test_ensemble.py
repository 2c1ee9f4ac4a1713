"""Ensemble: the average of what several models predict."""

import numpy
import pytest

import minidl as dl
from minidl.errors import ParameterError, UnknownNameError
from minidl.models import Ensemble, mlp

X = numpy.random.default_rng(0).normal(size=(6, 3)).astype("float32")


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "linear"])
def test_it_averages_and_its_gradient_is_right(link):
    members = [mlp([3, 4, 2], "tanh"), mlp([3, 5, 2], "tanh"), dl.Linear(3, 2)]
    model = Ensemble(members, link)
    apply = {
        "softmax": lambda z: dl.ops.softmax(z)[0],
        "sigmoid": lambda z: dl.ops.sigmoid(z)[0],
        "linear": lambda z: z,
    }
    each = [apply[link](member.forward(X)) for member in members]
    numpy.testing.assert_allclose(model.predict(X), sum(each) / 3, rtol=1e-5)
    assert dl.gradcheck(model, X[:2]).ok
    assert model.output_shape((3,)) == (2,)


def test_the_members_are_not_changed_by_a_prediction():
    one = dl.Linear(3, 2)
    model = Ensemble([one, dl.Linear(3, 2)], "linear")
    before = model.predict(X)
    assert (model.predict(X) == before).all()
    assert (one.forward(X) == one.forward(X)).all()


def test_it_is_saved_and_loaded_as_one_model(tmp_path):
    pytest.importorskip("safetensors")
    model, other = (Ensemble([mlp([3, 4, 2]), mlp([3, 8, 2])]) for _ in range(2))
    assert next(iter(model.state_dict())) == "members.0.0.weight"
    model.save(tmp_path / "m.safetensors")
    other.load(tmp_path / "m.safetensors")
    assert (other.predict(X) == model.predict(X)).all()


def test_members_that_make_no_ensemble():
    layer = dl.Linear(3, 2)
    for members in ([], [layer, layer]):
        with pytest.raises(ParameterError, match="at least one model, each there once"):
            Ensemble(members)
    with pytest.raises(UnknownNameError, match="unknown link 'tanh'"):
        Ensemble([layer], "tanh")
