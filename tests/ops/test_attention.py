"""Attention beyond the catalogue: rows that see nothing, dropout from a generator, long rows, and what is refused."""

import numpy
import pytest

import minidl as dl
from minidl import ops
from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops.attention import attention_weights
from minidl.ops.precision import round_to_bfloat16


def draw(*shape, dtype="float64", keys=None):
    """Return query, key and value for (N, H, T, D)."""
    random = numpy.random.default_rng(0)
    batch, heads, queries, size = shape
    others = (batch, heads, queries if keys is None else keys, size)
    return [random.normal(size=s).astype(dtype) for s in (shape, others, others)]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("mask", ["boolean", "additive"])
def test_rows_that_see_nothing_are_zero_with_zero_gradients(host_engine, mask, dtype):
    query, key, value = draw(2, 2, 3, 4, dtype=dtype)
    seen = numpy.ones((3, 3), bool)
    seen[1] = False
    given = seen if mask == "boolean" else numpy.where(seen, 0, -numpy.inf).astype(dtype)
    y, cache = host_engine.scaled_dot_product_attention(query, key, value, given)
    assert not y[:, :, 1].any()
    whole = host_engine.scaled_dot_product_attention(query, key, value)[0]
    numpy.testing.assert_array_equal(y[:, :, [0, 2]], whole[:, :, [0, 2]])
    dquery, dkey, dvalue = host_engine.scaled_dot_product_attention_backward(numpy.ones_like(y), cache)
    assert not dquery[:, :, 1].any()
    assert all(numpy.isfinite(g).all() and g.any() for g in (dquery, dkey, dvalue))
    nothing = numpy.zeros((3, 3), bool)
    y, cache = host_engine.scaled_dot_product_attention(query, key, value, nothing)
    for result in (y, *host_engine.scaled_dot_product_attention_backward(numpy.ones_like(y), cache)):
        assert not result.any()


def test_products_in_bfloat16_round_their_operands():
    query, key, value = draw(2, 3, 5, 8, dtype="float32")
    r, scale = round_to_bfloat16, numpy.float32(8**-0.5)
    formula, back = (ops.FORMULAS[f"scaled_dot_product_attention{end}"] for end in ("", "_backward"))
    with dl.matmul_precision("bfloat16"):
        y, cache = formula(query, key, value)
        dy = numpy.random.default_rng(1).normal(size=y.shape).astype("float32")
        dquery, dkey, dvalue = back(dy, cache)
        wide = formula(*(a.astype("float64") for a in (query, key, value)))[0]
    q, k, v, g = (r(a).astype("float64") for a in (query, key, value, dy))
    z = scale * (q @ k.swapaxes(2, 3))
    p = numpy.exp(z - z.max(axis=3, keepdims=True))
    p /= p.sum(axis=3, keepdims=True)
    rounded = r(p.astype("float32")).astype("float64")
    dz = p * (g @ v.swapaxes(2, 3) - (dy * y).sum(axis=3, keepdims=True))
    dz = r(dz.astype("float32")).astype("float64")
    # a last digit of p or dz may round the other way here: one step of one of the terms
    near = {"rtol": 0, "atol": 2.0**-9}
    numpy.testing.assert_allclose(y, rounded @ v, **near)
    numpy.testing.assert_allclose(dquery, scale * (dz @ k), **near)
    numpy.testing.assert_allclose(dkey, scale * (dz.swapaxes(2, 3) @ q), **near)
    numpy.testing.assert_allclose(dvalue, rounded.swapaxes(2, 3) @ g, **near)
    assert numpy.median(abs(y - rounded @ v)) < 1e-6
    assert numpy.median(abs(y - wide)) > 1e-4


def test_dropout_draws_from_the_generator(host_engine):
    query, key, value = draw(2, 3, 50, 4, dtype="float32")
    value[...] = 1
    results = [
        host_engine.scaled_dot_product_attention(query, key, value, None, 0.25, random=numpy.random.default_rng(seed))[
            0
        ]
        for seed in (5, 5, 6)
    ]
    numpy.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
    assert abs(float(results[0].mean()) - 1) < 0.05
    keep = numpy.random.default_rng(5).random((2, 3, 50, 50), dtype="float32") >= 0.25
    given = host_engine.scaled_dot_product_attention(query, key, value, None, 0.25, random=keep)[0]
    numpy.testing.assert_array_equal(given, results[0])
    with pytest.raises(ParameterError, match=r"random must be a numpy.random.Generator or a boolean mask"):
        host_engine.scaled_dot_product_attention(query, key, value, None, 0.25)


def test_large_scores_neither_overflow_nor_lose_the_others(host_engine):
    query, key, value = draw(1, 1, 2, 3, dtype="float32")
    query *= 1e4
    y, cache = host_engine.scaled_dot_product_attention(query, key, value)
    assert numpy.isfinite(y).all()
    assert all(numpy.isfinite(g).all() for g in host_engine.scaled_dot_product_attention_backward(y, cache))
    numpy.testing.assert_allclose(attention_weights(cache).sum(axis=-1), 1, rtol=1e-2)


@pytest.mark.parametrize("window", [None, 2])
def test_the_cached_answer_equals_the_whole(host_engine, window):
    """Queries one at a time, each over the keys so far."""
    query, key, value = draw(2, 2, 5, 4)
    whole = host_engine.scaled_dot_product_attention(query, key, value, is_causal=True, window=window)[0]
    for t in range(5):
        part = host_engine.scaled_dot_product_attention(
            query[:, :, t : t + 1],
            key[:, :, : t + 1],
            value[:, :, : t + 1],
            is_causal=True,
            window=window,
            offset=t,
        )[0]
        numpy.testing.assert_allclose(part[:, :, 0], whole[:, :, t], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": numpy.zeros((2, 3, 4))}, ShapeError, r"query must have shape \(N, H, T, D\), got \(2, 3, 4\)"),
        ({"key": numpy.zeros((1, 2, 3, 4))}, ShapeError, r"expected query \(N, H, T, D\), key \(N, H, S, D\)"),
        ({"key": numpy.zeros((2, 1, 3, 4)), "value": numpy.zeros((2, 1, 3, 4))}, ShapeError, "enable_gqa=True"),
        ({"key": numpy.zeros((2, 2, 0, 4)), "value": numpy.zeros((2, 2, 0, 4))}, ShapeError, "at least one key"),
        ({"key": numpy.zeros((2, 2, 3, 4), "float32")}, DtypeError, "key must have the dtype of query, float64"),
        ({"attn_mask": numpy.zeros((3, 3), int)}, DtypeError, r"boolean \(True takes part\) or floating-point"),
        ({"attn_mask": numpy.zeros((3, 3), "float32")}, DtypeError, "attn_mask must have the dtype of query"),
        ({"attn_mask": [[True]]}, DtypeError, "got list"),
        ({"attn_mask": numpy.ones((2, 3), bool)}, ShapeError, r"does not broadcast to \(N, H, T, S\) = \(2, 2, 3, 3\)"),
        ({"attn_mask": numpy.ones((1, 1, 1, 3, 3), bool)}, ShapeError, "does not broadcast"),
        ({"scale": float("nan")}, ParameterError, "scale must be a finite number"),
        ({"scale": "auto"}, ParameterError, "attention: scale must be a number .*, got 'auto'"),
        ({"window": 0}, ParameterError, "window must be an integer of at least 1, got 0"),
        ({"window": 1.5}, ParameterError, "attention: window must be a whole number.*, got 1.5"),
        ({"offset": -1}, ParameterError, "offset must be an integer of at least 0, got -1"),
        ({"offset": None}, ParameterError, "attention: offset must be a whole number, got None"),
        ({"dropout_p": 1.5}, ParameterError, "p must be a probability"),
    ],
)
def test_what_is_refused(host_engine, change, error, message):
    query, key, value = draw(2, 2, 3, 4)
    with pytest.raises(error, match=message):
        host_engine.scaled_dot_product_attention(**{"query": query, "key": key, "value": value, **change})


def test_heads_that_cannot_be_shared(host_engine):
    query, key, value = draw(1, 3, 2, 4)
    with pytest.raises(ShapeError, match="3 query heads cannot be shared evenly by 2 heads"):
        host_engine.scaled_dot_product_attention(query, key[:, :2], value[:, :2], enable_gqa=True)
