"""The error function and the normal distribution."""

import math
from decimal import Decimal, localcontext

import numpy
import pytest

from minidl import errors
from minidl.ops import special


def scaled_tail(z):
    """Return (1 + 2z) exp(z^2) erfc(z) to more than 40 digits: by erf's series, or far out by Laplace's continued fraction."""
    pi = Decimal(
        "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"
    )
    with localcontext() as context:
        context.prec = 90  # the series' terms grow like exp(z^2), and 1 - erf cancels as much
        if z < 6:
            term, total, n = z, z, 0
            while abs(term) > Decimal(10) ** -context.prec:
                n += 1
                term *= 2 * z * z / (2 * n + 1)
                total += term
            erfcx = (z * z).exp() - 2 / pi.sqrt() * total  # exp(z^2) erf(z) = 2 / sqrt(pi) sum 2^n z^(2n+1) / (2n+1)!!
        else:
            fraction = Decimal(0)
            for n in range(400, 0, -1):
                fraction = Decimal(n) / 2 / (z + fraction)
            erfcx = 1 / (pi.sqrt() * (z + fraction))
        return (1 + 2 * z) * erfcx


@pytest.mark.parametrize("z", ["0", "0.1", "0.5", "1", "2", "3.75", "5", "7", "15", "40", "1000", "1e9"])
def test_the_constants_are_those_of_the_scaled_tail(z):
    """Evaluated exactly, the polynomial with its rounded coefficients is right to two roundings."""
    z = Decimal(z)
    t = (z - Decimal("3.75")) / (z + Decimal("3.75"))
    value = Decimal(0)
    for coefficient in reversed(special._TAIL):
        value = value * t + Decimal(coefficient)
    assert abs(value / scaled_tail(z) - 1) < Decimal("2e-16")


def test_erf_is_right_to_two_units_in_the_last_place():
    x = numpy.concatenate([numpy.linspace(-7, 7, 2001), 10.0 ** numpy.arange(-300, 1, 7)])
    expected = numpy.array([math.erf(v) for v in x])
    numpy.testing.assert_array_less(numpy.abs(special.erf(x) - expected), 2.1 * numpy.spacing(numpy.abs(expected)))


def test_erf_at_the_ends():
    x = numpy.array([-numpy.inf, -0.0, 0.0, numpy.inf, numpy.nan, 1e300, -1e300])
    found = special.erf(x)
    numpy.testing.assert_array_equal(found, [-1, 0, 0, 1, numpy.nan, 1, -1])
    assert numpy.signbit(found[1])
    assert not numpy.signbit(found[2])


@pytest.mark.parametrize(
    ("x", "phi"),  # computed to 18 digits and rounded
    [
        (0.0, 0.5),
        (1.0, 0.8413447460685429),
        (-1.0, 0.15865525393145705),
        (-5.0, 2.8665157187919391e-07),
        (-10.0, 7.619853024160526e-24),
        (-20.0, 2.7536241186062337e-89),
        (-30.0, 4.906713927148187e-198),
        (-37.5, 4.605353009581955e-308),
        (-60.0, 0.0),
        (10.0, 1.0),
    ],
)
def test_the_left_tail_keeps_its_digits(x, phi):
    distribution, _ = special.normal(numpy.array([x]))
    assert distribution[0] == pytest.approx(phi, rel=6e-16, abs=0)


def test_distribution_and_its_mirror_image_sum_to_one():
    x = numpy.linspace(0, 12, 241)
    right, left = special.normal(x)[0], special.normal(-x)[0]
    numpy.testing.assert_allclose(right + left, 1, rtol=2e-16)


def test_the_density_is_the_distributions_derivative():
    x, h = numpy.linspace(-4, 4, 41), 1e-5
    slope = (special.normal(x + h)[0] - special.normal(x - h)[0]) / (2 * h)
    numpy.testing.assert_allclose(special.normal(x)[1], slope, atol=1e-10)


def test_the_density_keeps_its_digits():
    for x in (0.0, 1.0, -3.0, 8.0, 30.0):
        exact = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # x * x / 2 is exact here
        assert special.normal(numpy.array([x]))[1][0] == pytest.approx(exact, rel=4e-16)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (2, 3)])
def test_dtype_and_shape_are_kept(dtype, shape):
    x = numpy.full(shape, 0.7, dtype)
    for y in (special.erf(x), *special.normal(x)):
        assert y.dtype == dtype
        assert y.shape == shape


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_smaller_dtypes_are_right_to_their_last_place(dtype):
    x = numpy.linspace(-6, 6, 997).astype(dtype)
    eps = numpy.finfo(dtype).eps
    smallest = numpy.finfo(dtype).smallest_subnormal
    wide = x.astype("float64")
    numpy.testing.assert_allclose(special.erf(x), special.erf(wide), rtol=2 * eps, atol=smallest)
    numpy.testing.assert_allclose(special.normal(x)[0], special.normal(wide)[0], rtol=4 * eps, atol=smallest)


def test_erf_wants_floats():
    with pytest.raises(errors.DtypeError, match=r"erf: x must be a floating-point array, got dtype int64"):
        special.erf(numpy.arange(3))
