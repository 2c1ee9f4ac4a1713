"""Names of earlier versions work in this version, and warn."""

import numpy
import pytest

import minidl as dl
from minidl.engines import compositions, fused
from minidl.layers import _renamed, fusion

NAMES = {
    "ActivatedResidual": fusion.SummedResidual,
    "FusedConv": fusion.FusedConv,
    "FusedLinear": fusion.FusedLinear,
    "NormalizedConv": fusion.NormalizedConv,
}


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_the_room_fusion(name):
    with pytest.warns(
        DeprecationWarning, match=rf"minidl.layers.{name} is deprecated .* use minidl.layers.fusion"
    ) as seen:
        assert _renamed.look_up(name) is NAMES[name]
    assert seen[0].filename == __file__  # the line to change is the user's


def test_a_layer_that_never_was():
    with pytest.raises(AttributeError, match="module 'minidl.layers' has no attribute 'FusedPool'"):
        _renamed.look_up("FusedPool")


@pytest.mark.parametrize("name", [name for name in compositions.__all__ if not name.endswith("_backward")])
def test_compositions_by_the_old_name_of_their_module(name):
    with pytest.warns(DeprecationWarning, match=f"use minidl.engines.compositions.{name}"):
        assert getattr(fused, name) is getattr(compositions, name)


def test_a_composition_that_never_was():
    with pytest.raises(AttributeError, match=r"module 'minidl.engines.fused' has no attribute 'nothing'"):
        _ = fused.nothing


# the backwards that wrote into storage: the arguments after the cache were dweight, dbias, accumulate and input_gradient


def cases(engine, random):
    """Return for each old name what comes before dweight, and the gradients that the new backward returns."""
    x, w, b = random.normal(size=(5, 3)), random.normal(size=(2, 3)), random.normal(size=2)
    image, kernel = random.normal(size=(2, 1, 4, 4)), random.normal(size=(2, 1, 3, 3))
    windows = 1, 0, 1, 1
    y, plain = engine.linear(x, w, b)
    _, activated = engine.linear_activation(x, w, b, "tanh")
    z, conv = engine.conv2d(image, kernel, b, *windows)
    _, conv_activated = engine.conv_activation("conv2d", image, kernel, b, windows, "tanh")
    dy, dz = random.normal(size=y.shape), random.normal(size=z.shape)
    return {
        "linear_backward_into": ((dy, plain), engine.linear_backward(dy, plain)),
        "linear_activation_backward_into": (
            (dy, activated, "tanh"),
            engine.linear_activation_backward(dy, activated, "tanh"),
        ),
        "conv_backward_into": (("conv2d", dz, conv), engine.conv2d_backward(dz, conv)),
        "conv_activation_backward_into": (
            ("conv2d", dz, conv_activated, "tanh"),
            engine.conv_activation_backward("conv2d", dz, conv_activated, "tanh"),
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "linear_backward_into",
        "linear_activation_backward_into",
        "conv_backward_into",
        "conv_activation_backward_into",
    ],
)
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("input_gradient", [False, True])
def test_backwards_into_storage(host_engine, name, accumulate, input_gradient):
    arguments, (dx, dweight, dbias) = cases(host_engine, numpy.random.default_rng(0))[name]
    into = numpy.full_like(dweight, 7.0), numpy.full_like(dbias, 7.0)
    with pytest.warns(DeprecationWarning, match=f"engine.{name} is deprecated"):
        found = getattr(host_engine, name)(*arguments, *into, accumulate, input_gradient)
    for storage, gradient in zip(into, (dweight, dbias), strict=True):
        numpy.testing.assert_allclose(storage, gradient + 7.0 * accumulate, rtol=1e-12)
    if input_gradient:
        numpy.testing.assert_allclose(found, dx, rtol=1e-12)
    else:
        assert found is None
    with pytest.warns(DeprecationWarning, match=f"minidl.engines.fused.{name}"):
        function = getattr(fused, name)
    function(host_engine, *arguments, into[0], None, False, True)  # without a bias
    numpy.testing.assert_allclose(into[0], dweight, rtol=1e-12)


def test_the_backward_of_a_stack_into_storage(host_engine):
    random = numpy.random.default_rng(0)
    layers = [(random.normal(size=(4, 3)), None, "tanh", ()), (random.normal(size=(2, 4)), numpy.ones(2), None, ())]
    x, dy = random.normal(size=(5, 3)), random.normal(size=(5, 2))
    _, caches = host_engine.linear_stack(x, layers)
    into = [(numpy.empty((4, 3)), None, False), (numpy.empty((2, 4)), numpy.zeros(2), True)]
    with pytest.warns(DeprecationWarning, match="engine.linear_stack_backward_into is deprecated"):
        dx = host_engine.linear_stack_backward_into(dy, caches, layers, into)
    hidden = numpy.tanh(x @ layers[0][0].T)
    dhidden = (dy @ layers[1][0]) * (1 - hidden**2)
    numpy.testing.assert_allclose(dx, dhidden @ layers[0][0], rtol=1e-10)
    numpy.testing.assert_allclose(into[0][0], dhidden.T @ x, rtol=1e-10)
    numpy.testing.assert_allclose(into[1][1], dy.sum(axis=0), rtol=1e-10)
    with pytest.warns(DeprecationWarning, match="into, add, wanted"):
        assert (
            host_engine.linear_stack_backward_into(dy, caches, layers, [(*one[:2], False) for one in into], False)
            is None
        )


def test_the_warning_is_about_the_users_line(engine):
    with pytest.warns(DeprecationWarning, match="linear_backward_into") as seen:
        _ = engine.linear_backward_into, fused.linear_backward_into
    assert [warning.filename for warning in seen] == [__file__] * 2


def test_an_engine_has_no_other_names(engine):
    assert not hasattr(engine, "softmax_backward_into")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        engine.nothing()


def test_the_module_of_layers_finds_them():

    with pytest.warns(DeprecationWarning, match="use minidl.layers.fusion.FusedLinear"):
        assert dl.layers.FusedLinear is fusion.FusedLinear


def test_the_cast_of_a_convolutions_input():
    layer, x = dl.Conv2d(1, 2, 3), numpy.ones((1, 1, 3, 3))
    with pytest.warns(DeprecationWarning, match="Conv2d.admitted is deprecated .* use cast_input"):
        assert layer.admitted(x).dtype == "float32"
