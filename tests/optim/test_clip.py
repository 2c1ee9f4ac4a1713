"""Gradient clipping."""

import math
from typing import ClassVar

import numpy
import pytest

from minidl import layers
from minidl.errors import NonFiniteError, ParameterError
from minidl.layers import Parameter, flatten
from minidl.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, clip_grad_norm, clip_grad_value


def with_gradients(*gradients, dtype="float64", flat=True):
    made = [Parameter(numpy.zeros(numpy.shape(g), dtype=dtype)) for g in gradients]
    if flat:
        flatten(made)
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = numpy.array(gradient, dtype=dtype)
    return made


@pytest.mark.parametrize("flat", [True, False])
def test_norm_is_over_all_parameters(flat):
    a, b = with_gradients([3.0, 0.0], [[4.0]], flat=flat)
    assert clip_grad_norm([a, b], 2.5) == 5.0
    numpy.testing.assert_allclose(a.grad, [1.5, 0.0], rtol=1e-6)
    numpy.testing.assert_allclose(b.grad, [[2.0]], rtol=1e-6)


def test_small_gradients_stay_exactly():
    [a] = with_gradients([0.3, 0.4])
    assert clip_grad_norm([a], 1.0) == pytest.approx(0.5)
    numpy.testing.assert_array_equal(a.grad, [0.3, 0.4])


@pytest.mark.parametrize(("norm_type", "norm"), [(1, 7.0), (2, 5.0), (3, 91 ** (1 / 3)), (math.inf, 4.0)])
@pytest.mark.parametrize("flat", [True, False])
def test_norms(norm_type, norm, flat):
    assert clip_grad_norm(with_gradients([3.0], [-4.0], flat=flat), 100.0, norm_type) == pytest.approx(norm)


def test_others_in_the_buffer_stay():
    a, b, c = with_gradients([3.0], [100.0], [4.0])
    assert clip_grad_norm([a, c], 1.0) == 5.0
    assert b.grad == 100.0


def test_a_shared_parameter_counts_once():
    [a] = with_gradients([3.0, 4.0])
    assert clip_grad_norm([a, a], 1.0) == 5.0
    numpy.testing.assert_allclose(a.grad, [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("norm_type", [1, 2, 3, math.inf])
def test_powers_that_overflow_do_not_matter(dtype, norm_type):
    large = float(numpy.finfo(dtype).max) / 8
    [a] = with_gradients([large, -large], dtype=dtype)
    expected = large * (1 if norm_type == math.inf else 2 ** (1 / norm_type))
    assert clip_grad_norm([a], 1.0, norm_type) == pytest.approx(expected, rel=1e-3)
    assert numpy.isfinite(a.grad).all()
    assert a.grad.dtype == dtype


def test_powers_that_underflow_do_not_matter():
    [a] = with_gradients([3e-30, 4e-30], dtype="float32")
    assert clip_grad_norm([a], 1.0) == pytest.approx(5e-30)


def test_zero_and_nothing():
    assert clip_grad_norm(with_gradients([0.0, 0.0]), 1.0) == 0.0
    assert clip_grad_norm([], 1.0) == 0.0
    assert clip_grad_norm(with_gradients(numpy.zeros((0, 2))), 1.0) == 0.0


def test_gradients_that_nobody_computed_are_zero():
    a, b = with_gradients([3.0], [4.0])
    a.buffer.zero_grad()
    a.grad = 3.0
    assert clip_grad_norm([a, b], 10.0) == 3.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_raised_or_shown(bad):
    [a] = with_gradients([1.0, bad])
    with pytest.raises(NonFiniteError, match=str(bad)):
        clip_grad_norm([a], 1.0, error_if_nonfinite=True)
    assert a.grad[0] == 1.0
    with numpy.errstate(invalid="ignore"):
        assert not math.isfinite(clip_grad_norm([a], 1.0))
    assert not numpy.isfinite(a.grad).all()


def test_value():
    a, b, c = with_gradients([3.0, -0.5], [-7.0], [[-2.0]])
    clip_grad_value([a, c], 1.0)
    numpy.testing.assert_array_equal(a.grad, [1.0, -0.5])
    numpy.testing.assert_array_equal(b.grad, [-7.0])
    numpy.testing.assert_array_equal(c.grad, [[-1.0]])


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_limits_must_be_positive(bad):
    with pytest.raises(ParameterError, match="max_norm must be positive"):
        clip_grad_norm(with_gradients([1.0]), bad)
    with pytest.raises(ParameterError, match="clip_value must be positive"):
        clip_grad_value(with_gradients([1.0]), bad)
    with pytest.raises(ParameterError, match="norm_type must be positive"):
        clip_grad_norm(with_gradients([1.0]), 1.0, norm_type=bad)


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_only_parameters(clip):
    with pytest.raises(ParameterError, match="ndarray"):
        clip([numpy.zeros(3)], 1.0)
    with pytest.raises(ParameterError, match=r"model\.parameters\(\)"):
        clip(layers.Linear(2, 3), 1.0)


# inside the step's own pass -----------------------------------------------------------------------------------------------

OPTIMIZERS = [
    (SGD, {}),
    (SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (Adagrad, {}),
    (RMSprop, {"centered": True, "momentum": 0.5}),
    (Adam, {"weight_decay": 0.1}),
    (AdamW, {}),
]


class Doubled(Optimizer):
    """An optimiser of somebody who has not heard of grad_scale."""

    checks: ClassVar = {"lr": float}

    def update(self, engine, values, gradients, state, settings):
        values -= 2 * settings["lr"] * gradients


def two_steps(made, optimizer, clip):
    rng = numpy.random.default_rng(0)
    for scale in (10.0, 0.01):  # the second is short enough
        for parameter in made:
            parameter.grad = scale * rng.standard_normal(parameter.shape)
        clip(optimizer)
        optimizer.step()
        optimizer.zero_grad()
    return numpy.concatenate([parameter.value.ravel() for parameter in made])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "settings"), [*OPTIMIZERS, (Doubled, {})])
def test_a_step_that_clips_is_a_step_after_clipping(kind, settings, dtype):
    results = []
    for clip in (lambda o: o.clip_grad_norm(1.0), lambda o: clip_grad_norm(o.parameters, 1.0)):
        made = with_gradients(numpy.ones((3, 5)), numpy.ones(40), numpy.ones(2), dtype=dtype)
        groups = [{"params": made[:1], "lr": 0.5}, {"params": made[2:]}]  # what lies between is left alone
        results.append(two_steps(made, kind(groups, lr=0.1, **settings), clip))
    numpy.testing.assert_allclose(*results, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_the_gradients_stay():
    [a] = with_gradients([3.0, 4.0])
    optimizer = SGD([a], lr=1.0)
    assert optimizer.clip_grad_norm(2.5) == 5.0
    assert optimizer.clip_grad_norm(0.5) == pytest.approx(2.5)  # what the first left, as if it had been written
    optimizer.step()
    numpy.testing.assert_array_equal(a.grad, [3.0, 4.0])
    numpy.testing.assert_allclose(a.value, [-0.3, -0.4], rtol=1e-5)


@pytest.mark.parametrize("end", ["step", "zero_grad"])
def test_one_step_is_clipped_and_no_other(end):
    [a] = with_gradients([3.0, 4.0])
    optimizer = SGD([a], lr=1.0)
    optimizer.clip_grad_norm(1.0)
    getattr(optimizer, end)()
    a.value, a.grad = numpy.zeros(2), numpy.array([3.0, 4.0])
    optimizer.step()
    numpy.testing.assert_array_equal(a.value, [-3.0, -4.0])


def test_a_norm_that_is_not_finite_is_raised_or_shown_in_the_values():
    [a] = with_gradients([1.0, math.nan])
    optimizer = SGD([a], lr=1.0)
    with pytest.raises(NonFiniteError, match="nan"):
        optimizer.clip_grad_norm(1.0, error_if_nonfinite=True)
    assert optimizer.grad_scale == 1.0
    optimizer.clip_grad_norm(1.0)
    with numpy.errstate(invalid="ignore"):
        optimizer.step()
    assert numpy.isnan(a.value).all()


@pytest.mark.parametrize("bad", [{"max_norm": 0.0}, {"max_norm": math.nan}, {"max_norm": 1.0, "norm_type": 0}])
def test_a_step_cannot_clip_to_nothing(bad):
    optimizer = SGD(with_gradients([1.0]), lr=1.0)
    with pytest.raises(ParameterError, match="clip_grad_norm"):
        optimizer.clip_grad_norm(**bad)
