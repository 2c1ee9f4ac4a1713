"""Initialisers: their distributions, fans and gains."""

import functools
import math

import numpy
import pytest

import minidl as dl
from minidl import init, random
from minidl.errors import DtypeError, ParameterError, ShapeError, UnknownNameError

SCALED = {
    "xavier_uniform": math.sqrt(2 / (300 + 200)),
    "xavier_normal": math.sqrt(2 / (300 + 200)),
    "kaiming_uniform": math.sqrt(2 / 300),
    "kaiming_normal": math.sqrt(2 / 300),
    "lecun_uniform": math.sqrt(1 / 300),
    "lecun_normal": math.sqrt(1 / 300),
}
RANDOM = ["uniform", "normal", "orthogonal", *SCALED]


def rng(n=0):
    return numpy.random.default_rng(n)


@pytest.mark.parametrize("name", SCALED)
def test_standard_deviation_follows_the_fans(name):
    x = init.get(name)((200, 300), dtype="float64", generator=rng())
    # 60,000 draws: mean and standard deviation are known to about 0.4 % and 0.3 % of sigma; five times that is certain
    assert abs(x.mean()) < 0.02 * SCALED[name]
    assert x.std() == pytest.approx(SCALED[name], rel=0.015)


@pytest.mark.parametrize("name", ["xavier_uniform", "kaiming_uniform", "lecun_uniform"])
def test_uniform_ones_stay_in_and_reach_their_bound(name):
    bound = math.sqrt(3) * SCALED[name]
    x = init.get(name)((200, 300), dtype="float64", generator=rng())
    assert abs(x).max() <= bound
    assert abs(x).max() > 0.999 * bound


@pytest.mark.parametrize("name", [name for name in SCALED if "kaiming" not in name and "lecun" not in name])
def test_gain_multiplies(name):
    plain = init.get(name)((5, 4), dtype="float64", generator=rng())
    numpy.testing.assert_allclose(init.get(name)((5, 4), gain=3.0, dtype="float64", generator=rng()), 3 * plain)


def test_kaiming_fan_out_and_slope():
    x = init.kaiming_normal((200, 300), a=0.5, mode="fan_out", dtype="float64", generator=rng())
    assert x.std() == pytest.approx(math.sqrt(2 / (1 + 0.25) / 200), rel=0.015)
    with pytest.raises(ParameterError, match="fan_in"):
        init.kaiming_normal((2, 3), mode="fan_avg")


@pytest.mark.parametrize(
    ("shape", "fans"), [((10, 64), (64, 10)), ((16, 3, 5, 5), (75, 400)), ((8, 4, 3), (12, 24)), ((0, 3), (3, 0))]
)
def test_fans(shape, fans):
    assert init.fans(shape) == fans


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("name", [*SCALED, "orthogonal"])
def test_a_shape_without_fans_is_refused(name, shape):
    with pytest.raises(ShapeError, match=r"\(out, in\)"):
        init.get(name)(shape)


@pytest.mark.parametrize("shape", [(7, 7), (3, 8), (8, 3), (6, 2, 3), (4, 5, 3, 3)])
def test_orthogonal_rows_or_columns(shape):
    q = init.orthogonal(shape, gain=2.0, dtype="float64", generator=rng()).reshape(shape[0], -1) / 2
    product = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    numpy.testing.assert_allclose(product, numpy.eye(len(product)), atol=1e-14)


def test_orthogonal_is_not_always_a_rotation():
    signs = {
        round(float(numpy.linalg.det(init.orthogonal((3, 3), dtype="float64", generator=rng(n))))) for n in range(20)
    }
    assert signs == {-1, 1}


def test_constants():
    numpy.testing.assert_array_equal(init.zeros((2, 1)), [[0], [0]])
    numpy.testing.assert_array_equal(init.ones((2,)), [1, 1])
    numpy.testing.assert_array_equal(init.constant((2,), 0.25, dtype="float64"), [0.25, 0.25])


@pytest.mark.parametrize("name", RANDOM)
def test_same_weights_in_every_precision(name):
    double = init.get(name)((30, 20), dtype="float64", generator=rng(3))
    for dtype in ("float32", "float16"):
        x = init.get(name)((30, 20), dtype=dtype, generator=rng(3))
        assert x.dtype == dtype
        assert x.flags.c_contiguous
        numpy.testing.assert_array_equal(x, double.astype(dtype))


def test_blocks_do_not_change_the_numbers(monkeypatch):
    whole = init.normal((7, 5), generator=rng(1))
    monkeypatch.setattr(init, "_BLOCK", 4)
    numpy.testing.assert_array_equal(init.normal((7, 5), generator=rng(1)), whole)


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_rules_without_a_generator(name):
    random.seed(5)
    first = init.get(name)((4, 3))
    second = init.get(name)((4, 3))
    random.seed(5)
    numpy.testing.assert_array_equal(init.get(name)((4, 3)), first)
    assert not numpy.array_equal(first, second)


@pytest.mark.parametrize("name", [*RANDOM, "zeros"])
def test_empty_shapes(name):
    assert init.get(name)((0, 3)).shape == (0, 3)


def test_gains():
    assert init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / 1.0001))
    assert init.calculate_gain("leaky_relu", 1.0) == 1.0
    assert init.calculate_gain("tanh") == pytest.approx(5 / 3)
    with pytest.raises(UnknownNameError, match=r"gelu.*leaky_relu.*relu"):
        init.calculate_gain("rellu")


def test_the_measured_gain_is_hes_for_relu():
    assert init._second_moment_gain("relu") == pytest.approx(math.sqrt(2), rel=1e-6)


@pytest.mark.parametrize("name", [*init._MEASURED, "relu"])
def test_gain_keeps_a_mean_square_of_one_through_a_layer(name):
    x = rng().normal(size=(500, 300))
    std = init.calculate_gain(name) / math.sqrt(300)
    weight = init.normal((300, 300), std=std, dtype="float64", generator=rng(1))
    # units before the activation have unit variance, so after it gain^2 E f(z)^2 = 1
    y = init.FORMULAS[name](x @ weight.T / init.calculate_gain(name))[0] * init.calculate_gain(name)
    assert numpy.mean(y * y) == pytest.approx(1.0, rel=0.03)


def test_get():
    assert init.get("he_uniform") is init.kaiming_uniform
    custom = functools.partial(init.constant, value=2.0)
    assert init.get(custom) is custom
    with pytest.raises(UnknownNameError, match=r"unknown initializer 'he_norm'; known: .*he_normal.*zeros"):
        init.get("he_norm")


@pytest.mark.parametrize("shape", [(-1, 2), (2.0, 3), "ab", (True, 2)])
def test_bad_shapes(shape):
    with pytest.raises(ShapeError):
        init.uniform(shape)


@pytest.mark.parametrize("dtype", ["int64", "complex64", "object", "bool"])
def test_only_floating_dtypes(dtype):
    with pytest.raises(DtypeError, match="floating"):
        init.normal((2, 2), dtype=dtype)


def test_impossible_distributions():
    with pytest.raises(ParameterError, match="low"):
        init.uniform((2,), low=1.0, high=0.0)
    with pytest.raises(ParameterError, match="std"):
        init.normal((2,), std=-1.0)
    with pytest.raises(ParameterError, match="finite"):
        init.normal((2,), mean=math.nan)


def test_undrawn_draws_nothing():
    before = random.generator().bit_generator.state
    with init.undrawn():
        drawn = init.normal((2, 3), dtype="float64")
        layers = [dl.Linear(3, 2), dl.Embedding(4, 2, padding_idx=1), dl.LayerNorm(2)]
    assert random.generator().bit_generator.state == before
    numpy.testing.assert_array_equal(drawn, numpy.zeros((2, 3)))
    with pytest.raises(ValueError, match="read-only"):  # a layer that changed what it drew would change all numbers
        drawn[0] = 1
    for parameter in (p for layer in layers for p in layer.parameters()):
        assert parameter._undrawn
        assert not parameter.value.any()
        parameter.value[...] = 1


def test_undrawn_ends_with_an_error_too():
    with pytest.raises(ShapeError), init.undrawn():
        init.normal((-1,))
    assert init.normal((2, 3)).any()
    assert not any(p._undrawn for p in dl.Linear(3, 2).parameters())
