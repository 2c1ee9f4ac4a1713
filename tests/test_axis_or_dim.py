"""Ops and layers with an axis take it as ``axis`` and as ``dim``."""

import inspect

import numpy
import pytest

import minidl as dl
from minidl import layers, ops
from minidl.errors import ParameterError
from minidl.testing import SPECS

OTHER = {"axis": "dim", "dim": "axis"}
LAYERS = {
    dl.Softmax: (),
    dl.LogSoftmax: (),
    dl.GLU: (),
    dl.Unflatten: ((2, 1),),
    dl.layers.Parallel: (dl.Tanh(), dl.ReLU()),
}
"""With the arguments besides the axis."""


def name_of_axis(function):
    return next((name for name in inspect.signature(function).parameters if name in OTHER), None)


def test_every_op_and_layer_with_an_axis_is_here():
    named = {name for name, formula in ops.FORMULAS.items() if name_of_axis(formula)}
    assert named == {"glu", "log_softmax", "softmax"}
    kinds = {kind for kind in vars(layers).values() if inspect.isclass(kind) and name_of_axis(kind)}
    assert kinds - {layers.RotaryPositions, layers.LayerScale} == set(LAYERS)  # whose dim is a size


@pytest.mark.parametrize("name", ["glu", "log_softmax", "softmax"])
def test_ops(engine, name):
    x = engine.asarray(SPECS[name].arguments(SPECS[name].cases[0])[0][:2].copy())

    def dispatched(*arguments, **named):
        with dl.use(engine):
            return getattr(ops, name)(*arguments, **named)

    for op in (getattr(engine, name), dispatched):
        expected = engine.to_host(op(x, 0)[0])
        for named in ({"axis": 0}, {"dim": 0}):
            numpy.testing.assert_array_equal(engine.to_host(op(x, **named)[0]), expected)
        for arguments, named in (((0,), {"dim": 0}), ((), {"axis": 0, "dim": 0}), ((-1,), {"dim": -1})):
            with pytest.raises(ParameterError, match=f"{name}: axis and dim are two names of one argument"):
                op(x, *arguments, **named)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_layers(kind):
    x = numpy.random.default_rng(0).normal(size=(2, 4, 2, 2))
    own = name_of_axis(kind)
    others = {"unflattened_size": LAYERS[kind][0]} if kind is dl.Unflatten else {}
    arguments = () if others else LAYERS[kind]
    made = [kind(*arguments, **others, **{name: 2}) for name in OTHER]
    assert repr(made[0]) == repr(made[1])
    numpy.testing.assert_array_equal(made[0].forward(x), made[1].forward(x))
    with pytest.raises(ParameterError, match=f"{kind.__name__}: axis and dim are two names of one argument"):
        kind(*arguments, **others, axis=1, dim=1)
    with pytest.raises(ParameterError, match=f"{OTHER[own]} is only read when the layer is made"):
        setattr(made[0], OTHER[own], 1)
