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


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [2, 8, 34, 80, 83])
def test_heads_are_turned_where_they_lie(host_engine, size, dtype, interleaved):
    """In a joint projection, forward and back; what lies beside them stays."""
    random = numpy.random.default_rng(0)
    joint = random.normal(size=(2, 5, 3, 4, size)).astype(dtype)  # (N, T, of q, k, v, H, D)
    tables = rotary_tables(5, size // 2 * 2, dtype=dtype)
    for which in (0, 1):
        whole = joint.copy()
        x = whole[:, :, which].transpose(0, 2, 1, 3)  # (N, H, T, D)
        expected, _ = host_engine.rotary_embedding(x.copy(), *tables, interleaved)
        again, _ = host_engine.rotary_embedding(x, *tables, interleaved)
        y, cache = host_engine.rotary_embedding(x, *tables, interleaved, x)
        assert y is x
        for found in (again, y):
            numpy.testing.assert_array_equal(found, expected)
        numpy.testing.assert_array_equal(numpy.delete(whole, which, 2), numpy.delete(joint, which, 2))
        dx = host_engine.rotary_embedding_backward(y, cache, y)
        assert dx is x
        numpy.testing.assert_allclose(whole, joint, atol=20 * numpy.finfo(dtype).eps)


def test_an_array_to_turn_into(host_engine):
    x, tables = numpy.random.default_rng(0).normal(size=(2, 6, 8)), rotary_tables(6, 8, dtype="float64")
    expected, cache = host_engine.rotary_embedding(x, *tables)
    room = numpy.zeros((3, 6, 8))
    assert host_engine.rotary_embedding(x, *tables, out=room[:2])[0] is not None
    numpy.testing.assert_array_equal(room[:2], expected)
    room[:2] = x
    host_engine.rotary_embedding(room[:2], *tables, out=room[1:])  # shares memory, but is not the same array
    numpy.testing.assert_array_equal(room[1:], expected)
    for wrong, error in ((room, ShapeError), (room[:2].astype("float32"), DtypeError)):
        with pytest.raises(error, match="rotary_embedding: out must have"):
            host_engine.rotary_embedding(x, *tables, out=wrong)
        with pytest.raises(error, match="rotary_embedding_backward: out must have"):
            host_engine.rotary_embedding_backward(x, cache, wrong)


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
