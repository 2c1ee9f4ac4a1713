"""A setting that is assigned to a layer or an optimiser either takes effect at the next step or is refused."""

import copy
import inspect
import pickle

import numpy
import pytest
from layer_samples import LAYERS, made

import minidl as dl
from minidl import optim
from minidl.errors import MinidlError, ParameterError


def arguments_of(kind):
    parameters = inspect.signature(kind.__init__).parameters.values()
    return [p.name for p in parameters if p.name != "self" and p.kind is not p.VAR_POSITIONAL]


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_an_argument_of_a_constructor_is_read_by_every_forward_or_refused(kind):
    for name in arguments_of(kind):
        for layer in (made(kind), copy.deepcopy(made(kind)), pickle.loads(pickle.dumps(made(kind)))):
            try:
                setattr(layer, name, None if name == "bias" else 0.25)
            except (MinidlError, AttributeError):
                continue
            assert name in kind._live, f"{kind.__name__}.{name} is assigned, and nobody reads it"


def test_live_settings_take_effect():
    x = numpy.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    drop, norm, line = dl.Dropout(0.1), dl.BatchNorm1d(4), dl.Linear(4, 2)
    drop.p = 0.9
    assert (drop.forward(x) == 0).mean() > 0.7
    norm.momentum, norm.eps = 1.0, 1e3
    assert abs(norm.forward(x)).max() < 0.5
    numpy.testing.assert_allclose(norm.running_mean, x.mean(axis=0), rtol=1e-4, atol=1e-6)
    bias = line.bias.value.copy()
    y = line.forward(x)
    line.bias = None
    numpy.testing.assert_allclose(line.forward(x), y - bias, rtol=1e-5, atol=1e-6)
    drop.p = 2.0
    with pytest.raises(ParameterError):
        drop.forward(x)


def test_a_parameter_is_not_replaced_by_an_array():
    layer = dl.Linear(4, 2)
    with pytest.raises(ParameterError, match=r"weight is a Parameter, got ndarray; assign to weight\.value"):
        layer.weight = numpy.zeros((2, 4))

    class Own(dl.Layer):
        def __init__(self):
            super().__init__()
            self.gain = dl.Parameter(numpy.ones(1))
            self.anything = 1

    own = Own()
    own.anything = own.more = 2  # a layer of somebody's own may have what it likes
    with pytest.raises(ParameterError, match="gain is a Parameter"):
        own.gain = 3.0
    own.gain = dl.Parameter(numpy.zeros(1))


def test_a_subclass_of_ours_may_set_what_it_inherits():
    class Wider(dl.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.out_features = 3

    Wider().in_features = 4


OPTIMIZERS = [dl.SGD, dl.Adam, dl.AdamW, dl.Adagrad, dl.RMSprop]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_settings_of_optimisers_take_effect_for_every_group(kind):
    parameters = dl.Linear(4, 3).parameters()
    optimizer = kind([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}])
    for name, old in list(optimizer.defaults.items()):
        new = not old if isinstance(old, bool) else tuple(b / 2 for b in old) if isinstance(old, tuple) else 0.125
        try:
            setattr(optimizer, name, new)
        except ParameterError:  # two settings that do not go together
            assert getattr(optimizer, name) == old
            continue
        assert [group[name] for group in optimizer.param_groups] == [new, new]
        assert getattr(optimizer, name) == new
    with pytest.raises(ParameterError, match="lr"):
        optimizer.lr = -1.0
    with pytest.raises(AttributeError, match="no attribute 'learnign_rate'"):
        optimizer.learnign_rate  # noqa: B018
    pickle.loads(pickle.dumps(optimizer)).learning_rate = 0.25


def test_the_learning_rate_by_keras_name():
    layer = dl.Linear(2, 1, bias=False)
    optimizer = optim.SGD(layer.parameters(), lr=1.0)
    optimizer.learning_rate = 0.5
    before = layer.weight.value.copy()
    layer.weight.grad = 1.0
    optimizer.step()
    numpy.testing.assert_allclose(layer.weight.value, before - 0.5, rtol=1e-6)
    assert (optimizer.lr, optimizer.learning_rate) == (0.5, 0.5)


def test_a_mode_that_is_assigned_goes_to_all_layers_inside():
    """As `model.eval()`: only the outermost layer in evaluation mode would leave dropout on without a word."""
    model = dl.Sequential(dl.Linear(4, 4), dl.Residual(dl.Linear(4, 4), dl.Dropout(0.5)), dl.BatchNorm1d(4))
    model.training = False
    assert not any(layer.training for layer in (model, *model.layers, *model[1].children().values()))
    model.training = True
    assert all(layer.training for layer in (model, *model.layers, *model[1].children().values()))


def test_the_other_librarys_way_to_freeze_is_refused():
    for layer in (dl.Linear(2, 2), dl.Sequential(dl.Linear(2, 2))):
        with pytest.raises(dl.errors.ParameterError, match="assign to trainable"):
            layer.requires_grad = False
