"""Positions: what makes rotary products relative, and the tables."""

import numpy
import pytest

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops.position_tables import alibi_bias, alibi_slopes, rotary_tables, sinusoidal_table


@pytest.mark.parametrize("interleaved", [False, True])
def test_products_of_turned_vectors_depend_on_their_distance_alone(host_engine, interleaved):
    query, key = numpy.random.default_rng(0).normal(size=(2, 8))
    tables = rotary_tables(40, 8, dtype="float64")

    def product(t, u):
        both = [
            host_engine.rotary_embedding(x[None], *(table[at : at + 1] for table in tables), interleaved)[0]
            for x, at in ((query, t), (key, u))
        ]
        return float((both[0] * both[1]).sum())

    assert product(7, 3) == pytest.approx(product(34, 30), rel=1e-12)
    assert product(7, 3) != pytest.approx(product(7, 4), rel=1e-3)


def test_the_two_pairings_are_one_after_a_permutation(host_engine):
    x = numpy.random.default_rng(0).normal(size=(3, 5, 6))
    tables = rotary_tables(5, 6, dtype="float64")
    order = [0, 2, 4, 1, 3, 5]
    halves = host_engine.rotary_embedding(x[..., order], *tables)[0]
    numpy.testing.assert_allclose(host_engine.rotary_embedding(x, *tables, True)[0][..., order], halves, rtol=1e-14)


def test_rotary_tables_that_do_not_fit(host_engine):
    x, (cos, sin) = numpy.zeros((2, 3, 4)), rotary_tables(3, 4, dtype="float64")
    for wrong in (rotary_tables(4, 4, dtype="float64"), rotary_tables(3, 6, dtype="float64"), (cos, sin[:, :1])):
        with pytest.raises(ShapeError, match=r"cos and sin must broadcast to \(..., T, R\)"):
            host_engine.rotary_embedding(x, *wrong)
    with pytest.raises(ShapeError, match="must broadcast"):
        host_engine.rotary_embedding(x[0, 0], cos, sin)
    with pytest.raises(DtypeError, match="cos must have the dtype of x"):
        host_engine.rotary_embedding(x, cos.astype("float32"), sin)
    _, cache = host_engine.rotary_embedding(x, cos, sin)
    with pytest.raises(ShapeError, match="dy must have the shape of y"):
        host_engine.rotary_embedding_backward(x[0], cache)
    with pytest.raises(ParameterError, match="dim must be even"):
        rotary_tables(3, 5)


def test_sinusoidal_table_is_the_papers():
    table = sinusoidal_table(50, 6, dtype="float64")
    for t, c in [(0, 0), (7, 2), (49, 5), (13, 1)]:
        angle = t / 10000 ** (2 * (c // 2) / 6)
        assert table[t, c] == pytest.approx(numpy.cos(angle) if c % 2 else numpy.sin(angle))
    assert sinusoidal_table(4, 5).shape == (4, 5)


def test_alibi_is_the_papers():
    numpy.testing.assert_allclose(alibi_slopes(8), [2.0**-i for i in range(1, 9)])
    numpy.testing.assert_allclose(alibi_slopes(12)[8:], [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5])
    whole = alibi_bias(4, 6, 6)
    numpy.testing.assert_array_equal(alibi_bias(4, 2, 6, offset=4), whole[:, 4:])
