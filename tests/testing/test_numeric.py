"""Numeric derivatives: how exact, and how well they know it."""

import math

import numpy
import pytest

from minidl.testing.complex_step import STEP, StepArray, imaginary
from minidl.testing.numeric import default_tolerance, differentiate, relative_step, scale_of

SMOOTH = {
    "exp": (math.exp, math.exp),
    "sin": (math.sin, math.cos),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "tanh": (math.tanh, lambda x: 1 - math.tanh(x) ** 2),
    "large offset": (lambda x: 1e3 + x**2, lambda x: 2 * x),
    "steep": (lambda x: math.sin(200 * x), lambda x: 200 * math.cos(200 * x)),
}


def derivative(f, x, scale=1.0, **options):
    return differentiate(lambda t: numpy.array([f(x + t)]), numpy.array([f(x)]), scale, **options)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions(name):
    f, slope = SMOOTH[name]
    for x in (-1.3, 0.2, 1.0, 2.7):
        found = derivative(f, x)
        allowed = max(default_tolerance("float64") * abs(slope(x)) / 10, float(found.noise[0]))
        assert abs(found.value[0] - slope(x)) <= allowed
        assert abs(found.value[0] - slope(x)) <= found.doubt[0] + found.noise[0], "the doubt is an upper estimate"


def test_the_order_is_four():
    """Halving a long step divides the error by sixteen."""
    errors = [abs(derivative(math.exp, 0.5, step=step).value[0] - math.exp(0.5)) for step in (0.2, 0.1, 0.05)]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.1)


def test_the_step_is_near_the_best():
    """No other step by a power of two gives an error smaller by much, on average over some functions and points."""
    points = [(f, slope, x) for f, slope in (SMOOTH["exp"], SMOOTH["sin"], SMOOTH["tanh"]) for x in (-1.1, 0.3, 0.9)]

    def mean_error(step):
        return numpy.mean([abs(derivative(f, x, step=step).value[0] - slope(x)) for f, slope, x in points])

    own = mean_error(relative_step("float64"))
    assert own < 1e-12
    assert own < 10 * min(mean_error(2.0**-k) for k in range(4, 20))


@pytest.mark.parametrize("at", [0.0, 1e-4, 5e-4, 1.5e-3, -1.9e-3])
def test_a_kink_inside_the_stencil_is_seen(at):
    found = derivative(lambda x: abs(x - at), 0.0, step=2.0**-10)
    assert found.doubt[0] > 0.01
    escaped = derivative(lambda x: abs(x - at), 0.0)  # a shorter step gets past it, unless the kink is at the point
    assert (escaped.doubt[0] < 1e-9) == (at != 0)
    assert at == 0 or escaped.value[0] == pytest.approx(-math.copysign(1, at))


def test_leaving_the_domain_shortens_the_step():
    found = derivative(lambda x: math.log(x) if x > 0 else math.nan, 1e-3)
    assert found.value[0] == pytest.approx(1e3, rel=1e-8)
    nowhere = derivative(lambda x: math.nan, 1.0)
    assert numpy.isinf(nowhere.doubt[0])


def test_constants_and_float32():
    assert derivative(lambda x: 3.0, 1.0).value[0] == 0
    single = derivative(lambda x: float(numpy.exp(numpy.float32(x))), 0.3, dtype="float32")
    assert single.value[0] == pytest.approx(math.exp(0.3), rel=default_tolerance("float32"))
    assert derivative(lambda x: float(numpy.exp(numpy.float32(x))), 0.3).doubt[0] > 1e-5, "looked at as float64: noise"


def test_scale():
    assert scale_of(numpy.zeros(3)).tolist() == [1, 1, 1]
    assert scale_of(numpy.zeros((0, 2))).shape == (0, 2)
    assert scale_of(numpy.array([1e-9, 1e3]))[1] == 1e3
    assert scale_of(numpy.array([numpy.inf, 2.0])).tolist() == [math.sqrt(2), 2]


# the complex step ---------------------------------------------------------------------------------------------------


def stepped(f, x, direction=1.0):
    return imaginary(f(StepArray(x + 1j * STEP * direction))) / STEP


X = numpy.array([[-1.5, 0.3], [0.9, 2.0]])


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda x: x.__array_namespace__().exp(x) / x, numpy.exp(X) * (X - 1) / X**2),
        (lambda x: 2 / (1 + x * x) - 3 + x, 1 - 4 * X / (1 + X * X) ** 2),
        (lambda x: x.__array_namespace__().abs(x), numpy.sign(X)),
        (lambda x: x.__array_namespace__().maximum(x, 0.5), (X > 0.5) * 1.0),
        (lambda x: x.__array_namespace__().minimum(0.5, x), (X < 0.5) * 1.0),
        (lambda x: x.__array_namespace__().clip(x, -1, 1), (abs(X) < 1) * 1.0),
        (lambda x: x.__array_namespace__().where(x > 0.5, x**3, -x), numpy.where(X > 0.5, 3 * X**2, -1)),
        (lambda x: x.__array_namespace__().trunc(x) * x, numpy.trunc(X)),
        (lambda x: -(+x.T).T, -numpy.ones_like(X)),
    ],
)
def test_functions_made_of_analytic_pieces(f, slope):
    numpy.testing.assert_allclose(stepped(f, X), slope, rtol=1e-15, atol=1e-300)


def test_reductions_products_and_indices():
    v = numpy.array([[0.1, 0.2], [0.3, -0.4]])
    close = numpy.testing.assert_allclose
    close(stepped(lambda x: x.sum(axis=0), X, v), v.sum(axis=0))
    close(stepped(lambda x: x.max(axis=1, keepdims=True), X, v), [[0.2], [-0.4]])
    close(stepped(lambda x: x.max(), X, v), -0.4)
    close(stepped(lambda x: x @ X, X, v), v @ X)
    close(stepped(lambda x: X @ x, X, v), X @ v)
    close(stepped(lambda x: x[0] * x.reshape(4)[3], X, v), v[0] * X[1, 1] + X[0] * v[1, 1])


def test_what_is_not_analytic_is_refused():
    x = StepArray(X)
    xp = x.__array_namespace__()
    with pytest.raises(AttributeError, match=r"does not go through numpy\.angle"):
        xp.angle  # noqa: B018
    with pytest.raises(AttributeError, match="array attribute 'tolist'"):
        x.tolist  # noqa: B018
    with pytest.raises(TypeError, match="works only in float64"):
        x.astype("float32")
    with pytest.raises(TypeError, match="cannot be converted to a float during a complex step"):
        float(x[0, 0])
    with pytest.raises(TypeError):
        hash(x)
    assert x.astype("float64") is x
    assert len(x) == 2
    assert not imaginary(X).any()
