"""Products: numbers worked by hand, shapes, what out and accumulate do, half precision, errors."""

import itertools

import numpy
import pytest

from minidl import errors


def test_the_single_neuron_worked_by_hand(host_engine):
    """x = 2, w = 1, b = 0.5 predicts 2.5; with the target 3 and half the square, delta = -0.5."""
    y, cache = host_engine.linear(numpy.array([[2.0]]), numpy.array([[1.0]]), numpy.array([0.5]))
    assert y == 2.5
    dx, dweight, dbias = host_engine.linear_backward(y - 3.0, cache)
    assert (dx, dweight, dbias) == (-0.5, -1.0, -0.5)


def test_each_gradient_by_loops(host_engine):
    rng = numpy.random.default_rng(0)
    x, weight, bias, dy = rng.normal(size=(5, 3)), rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=(5, 2))
    y, cache = host_engine.linear(x, weight, bias)
    dx, dweight, dbias = host_engine.linear_backward(dy, cache)
    for n, o in itertools.product(range(5), range(2)):
        assert y[n, o] == pytest.approx(sum(x[n, i] * weight[o, i] for i in range(3)) + bias[o])
    for n, i in itertools.product(range(5), range(3)):
        assert dx[n, i] == pytest.approx(sum(dy[n, o] * weight[o, i] for o in range(2)))
    for o, i in itertools.product(range(2), range(3)):
        assert dweight[o, i] == pytest.approx(sum(dy[n, o] * x[n, i] for n in range(5)))
    for o in range(2):
        assert dbias[o] == pytest.approx(sum(dy[n, o] for n in range(5)))


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (2, 0, 3)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_leading_axes_pass_through(host_engine, leading, with_bias):
    rng = numpy.random.default_rng(0)
    x, weight, dy = rng.normal(size=(*leading, 4)), rng.normal(size=(3, 4)), rng.normal(size=(*leading, 3))
    bias = rng.normal(size=3) if with_bias else None
    y, cache = host_engine.linear(x, weight, bias)
    assert y.shape == (*leading, 3)
    numpy.testing.assert_allclose(y, numpy.einsum("...i,oi->...o", x, weight) + (bias if with_bias else 0), atol=1e-14)
    dx, dweight, dbias = host_engine.linear_backward(dy, cache)
    numpy.testing.assert_allclose(dx, numpy.einsum("...o,oi->...i", dy, weight), atol=1e-14)
    numpy.testing.assert_allclose(dweight, numpy.einsum("no,ni->oi", dy.reshape(-1, 3), x.reshape(-1, 4)), atol=1e-14)
    assert (dbias is None) != with_bias
    if with_bias:
        numpy.testing.assert_allclose(dbias, dy.reshape(-1, 3).sum(axis=0), atol=1e-14)


def test_an_input_or_output_of_no_features(host_engine):
    y, cache = host_engine.linear(numpy.ones((2, 0)), numpy.ones((3, 0)), numpy.arange(3.0))
    numpy.testing.assert_array_equal(y, [[0, 1, 2], [0, 1, 2]])
    assert [g.shape for g in host_engine.linear_backward(numpy.ones((2, 3)), cache)] == [(2, 0), (3, 0), (3,)]


def test_the_bias_and_the_input_are_left_alone(host_engine):
    x, weight, bias = numpy.ones((2, 3)), numpy.ones((2, 3)), numpy.full(2, 5.0)
    y, _ = host_engine.linear(x, weight, bias)
    y[...] = 0
    numpy.testing.assert_array_equal(bias, [5, 5])
    numpy.testing.assert_array_equal(x, 1)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(
    "batches", [((), ()), ((2,), (2,)), ((), (2,)), ((3, 1), (2,)), ((1, 2), (3, 1)), ((0,), (1,))]
)
def test_matmul_and_its_gradients_by_einsum(host_engine, transpose_a, transpose_b, batches):
    rng = numpy.random.default_rng(0)
    a = rng.normal(size=(*batches[0], *((4, 3) if transpose_a else (3, 4))))
    b = rng.normal(size=(*batches[1], *((5, 4) if transpose_b else (4, 5))))
    terms = f"...{'ki' if transpose_a else 'ik'},...{'jk' if transpose_b else 'kj'}"
    y, cache = host_engine.matmul(a, b, transpose_a, transpose_b)
    expected = numpy.einsum(f"{terms}->...ij", a, b)
    assert y.shape == expected.shape
    numpy.testing.assert_allclose(y, expected, atol=1e-13)
    dy = rng.normal(size=y.shape)
    da, db = host_engine.matmul_backward(dy, cache)
    of_a, of_b = terms.split(",")
    for gradient, operand, expected in [
        (da, a, numpy.einsum(f"...ij,{of_b}->{of_a}", dy, b)),
        (db, b, numpy.einsum(f"...ij,{of_a}->{of_b}", dy, a)),
    ]:
        added = expected.ndim - operand.ndim
        expected = expected.sum(axis=tuple(range(added)))
        stretched = tuple(i for i in range(operand.ndim) if operand.shape[i] == 1 and expected.shape[i] != 1)
        assert gradient.shape == operand.shape
        numpy.testing.assert_allclose(gradient, expected.sum(axis=stretched, keepdims=True), atol=1e-13)


def test_out_is_written_and_accumulate_adds(host_engine):
    a, b = numpy.array([[1.0, 2.0]]), numpy.array([[3.0], [4.0]])
    out = numpy.full((1, 1), 100.0)
    y, _ = host_engine.matmul(a, b, out=out)
    assert y is out
    assert out == 11
    host_engine.matmul(a, b, out=out, accumulate=True)
    assert out == 22


def test_out_may_be_an_operand(host_engine):
    a = numpy.array([[0.0, 1.0], [2.0, 3.0]])
    host_engine.matmul(a, a, out=a)
    numpy.testing.assert_array_equal(a, [[2, 3], [6, 11]])


def test_half_precision_sums_beyond_its_own_range(host_engine):
    """70,000 ones and 70,000 minus ones: the sum is 0, its first half beyond float16."""
    dy = numpy.repeat(numpy.array([1.0, -1.0], "float16"), 70_000).reshape(-1, 1)
    _, cache = host_engine.linear(
        numpy.ones((140_000, 1), "float16"), numpy.ones((1, 1), "float16"), numpy.zeros(1, "float16")
    )
    _, _, dbias = host_engine.linear_backward(dy, cache)
    assert dbias.dtype == "float16"
    assert dbias == 0


def test_infinity_and_nan_go_through_quietly(host_engine):
    inf, nan = numpy.inf, numpy.nan
    x, weight = numpy.array([[inf, 1.0], [nan, 1.0], [1e308, 1e308]]), numpy.array([[1.0, 1.0], [0.0, 1.0]])
    y, cache = host_engine.linear(x, weight)
    numpy.testing.assert_array_equal(y, [[inf, nan], [nan, nan], [inf, 1e308]])
    dx, _, _ = host_engine.linear_backward(numpy.array([[1.0, inf], [1.0, 1.0], [1.0, 1.0]]), cache)
    numpy.testing.assert_array_equal(dx[0], [nan, inf])


ONES = numpy.ones


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda e: e.linear(ONES((2, 3)), ONES((4, 2))),
            errors.ShapeError,
            r"expected 2 features .* got shape \(2, 3\)",
        ),
        (
            lambda e: e.linear(ONES((2, 3)), ONES(3)),
            errors.ShapeError,
            r"weight must have shape \(out, in\), got \(3,\)",
        ),
        (lambda e: e.linear(numpy.array(1.0), ONES((4, 2))), errors.ShapeError, r"got shape \(\)"),
        (
            lambda e: e.linear(ONES((2, 3)), ONES((4, 3)), ONES(3)),
            errors.ShapeError,
            r"bias must have shape \(4,\), got \(3,\)",
        ),
        (
            lambda e: e.linear(ONES((2, 3)), ONES((4, 3), "f4")),
            errors.DtypeError,
            "linear: weight .*float64, got float32",
        ),
        (
            lambda e: e.linear(ONES((2, 3)), ONES((4, 3)), ONES(4, "f4")),
            errors.DtypeError,
            "bias .*float64, got float32",
        ),
        (lambda e: e.linear(ONES((2, 3), int), ONES((4, 3))), errors.DtypeError, "linear: x must be a floating-point"),
        (
            lambda e: e.linear(ONES((2, 3)), ONES((4, 3), int)),
            errors.DtypeError,
            "linear: weight must be a floating-point",
        ),
        (
            lambda e: e.linear(ONES((2, 3)), ONES((4, 3)), ONES(4, int)),
            errors.DtypeError,
            "linear: bias must be a floating",
        ),
        (lambda e: e.matmul(ONES(3), ONES((3, 2))), errors.ShapeError, "at least 2 axes"),
        (lambda e: e.matmul(ONES((2, 3)), ONES((2, 3))), errors.ShapeError, r"a is \(2, 3\) and b is \(2, 3\)"),
        (
            lambda e: e.matmul(ONES((2, 3)), ONES((2, 3)), True, True),
            errors.ShapeError,
            r"a is \(3, 2\) and b is \(3, 2\) after transposing",
        ),
        (
            lambda e: e.matmul(ONES((2, 1, 1)), ONES((3, 1, 1))),
            errors.ShapeError,
            r"batch axes of \(2, 1, 1\) and \(3, 1, 1\)",
        ),
        (lambda e: e.matmul(ONES((1, 1)), ONES((1, 1), "f4")), errors.DtypeError, "b must have the dtype of a"),
        (
            lambda e: e.matmul(ONES((1, 1)), ONES((1, 1)), out=ONES((1, 2))),
            errors.ShapeError,
            r"out must have shape \(1, 1\)",
        ),
        (
            lambda e: e.matmul(ONES((1, 1)), ONES((1, 1)), out=ONES((1, 1), "f4")),
            errors.DtypeError,
            "out must have the dtype",
        ),
        (lambda e: e.matmul(ONES((1, 1)), ONES((1, 1)), accumulate=True), errors.ParameterError, "pass it as out="),
    ],
)
def test_what_does_not_fit_is_named(host_engine, call, error, message):
    with pytest.raises(error, match=message):
        call(host_engine)


def test_an_upstream_gradient_that_does_not_fit(host_engine):
    _, cache = host_engine.linear(ONES((2, 3)), ONES((4, 3)))
    with pytest.raises(errors.ShapeError, match=r"linear_backward: dy must have shape \(2, 4\), got \(2, 3\)"):
        host_engine.linear_backward(ONES((2, 3)), cache)
    with pytest.raises(errors.DtypeError, match=r"linear_backward: dy .*float64, got float32"):
        host_engine.linear_backward(ONES((2, 4), "f4"), cache)
    _, cache = host_engine.matmul(ONES((2, 3)), ONES((3, 4)))
    with pytest.raises(errors.ShapeError, match=r"matmul_backward: dy must have the shape of y, \(2, 4\), got \(4,\)"):
        host_engine.matmul_backward(ONES(4), cache)
    with pytest.raises(errors.DtypeError, match=r"matmul_backward: dy .*float64, got float16"):
        host_engine.matmul_backward(ONES((2, 4), "f2"), cache)
