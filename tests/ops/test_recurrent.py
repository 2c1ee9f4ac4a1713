"""Recurrent ops beyond the catalogue: padding, gradients that are left out, errors, a network worked out by hand."""

import numpy
import pytest

import minidl as dl
from minidl import ops
from minidl.errors import DtypeError, MinidlError, ParameterError, ShapeError, UnknownNameError

N, T, C, H = 3, 4, 2, 3
OPS = {"rnn": (1, 1), "lstm": (4, 2), "gru": (3, 1)}  # gates and states


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


def draw(rng, op, dtype="float64"):
    gates, states = OPS[op]
    shapes = [(N, T, C), *[(N, H)] * states, (gates * H, C), (gates * H, H), (gates * H,), (gates * H,)]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def upstream(rng, op, dtype="float64"):
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in [(N, T, H), *[(N, H)] * OPS[op][1]])


@pytest.mark.parametrize("op", OPS)
class TestPadding:
    LENGTHS = numpy.array([2, 4, 1])

    def run(self, engine, rng, op, x_beyond, dy_beyond, reverse):
        arguments, dy = draw(rng, op), list(upstream(rng, op))
        beyond = numpy.arange(T) >= self.LENGTHS[:, None]  # (N, T)
        arguments[0][beyond], dy[0][beyond] = x_beyond, dy_beyond
        outputs, cache = getattr(engine, op)(*arguments, self.LENGTHS, reverse)
        return outputs, getattr(engine, f"{op}_backward")(tuple(dy), cache), beyond

    @pytest.mark.parametrize("reverse", [False, True])
    def test_nothing_is_read_from_it_and_no_gradient_flows(self, host_engine, op, reverse):
        plain, gradients, beyond = self.run(host_engine, numpy.random.default_rng(0), op, 0.0, 0.0, reverse)
        other, others, _ = self.run(host_engine, numpy.random.default_rng(0), op, numpy.nan, numpy.nan, reverse)
        for one, two in zip((*plain, *gradients), (*other, *others), strict=True):
            numpy.testing.assert_array_equal(one, two)
        assert (plain[0][beyond] == 0).all()
        assert (gradients[0][beyond] == 0).all()
        assert (gradients[0][~beyond] != 0).all()

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_sequence_is_as_if_it_were_alone(self, host_engine, rng, op, reverse):
        arguments, dy = draw(rng, op), upstream(rng, op)
        states = OPS[op][1]
        outputs, cache = getattr(host_engine, op)(*arguments, self.LENGTHS, reverse)
        dx, *dstates = getattr(host_engine, f"{op}_backward")(dy, cache)[: 1 + states]
        for n, length in enumerate(self.LENGTHS):
            alone = [arguments[0][n : n + 1, :length], *(s[n : n + 1] for s in arguments[1 : 1 + states])]
            own, own_cache = getattr(host_engine, op)(*alone, *arguments[1 + states :], None, reverse)
            own_dy = (dy[0][n : n + 1, :length], *(d[n : n + 1] for d in dy[1:]))
            found = getattr(host_engine, f"{op}_backward")(own_dy, own_cache)[: 1 + states]
            pairs = [(outputs[0][n : n + 1, :length], own[0]), (dx[n : n + 1, :length], found[0])]
            finals = zip((*outputs[1:], *dstates), (*own[1:], *found[1:]), strict=True)
            pairs += [(whole[n : n + 1], part) for whole, part in finals]
            for whole, part in pairs:
                numpy.testing.assert_allclose(whole, part, rtol=1e-12, atol=1e-14)

    def test_full_lengths_change_nothing(self, host_engine, rng, op):
        arguments = draw(rng, op)
        whole, _ = getattr(host_engine, op)(*arguments)
        given, _ = getattr(host_engine, op)(*arguments, numpy.full(N, T, "int32"))
        for one, two in zip(whole, given, strict=True):
            numpy.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("op", OPS)
class TestUpstream:
    def test_none_is_zero(self, host_engine, rng, op):
        arguments, dy = draw(rng, op), upstream(rng, op)
        _, cache = getattr(host_engine, op)(*arguments)
        backward = getattr(host_engine, f"{op}_backward")
        total = None
        for place in range(len(dy)):
            only = tuple(d if i == place else None for i, d in enumerate(dy))
            zeros = tuple(d if i == place else d * 0 for i, d in enumerate(dy))
            found = backward(only, cache)
            for one, two in zip(found, backward(zeros, cache), strict=True):
                numpy.testing.assert_array_equal(one, two)
            total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
        for one, two in zip(total, backward(dy, cache), strict=True):
            numpy.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-12)
        assert not any(gradient.any() for gradient in backward((None,) * len(dy), cache))

    def test_what_was_not_given_has_no_gradient(self, host_engine, rng, op):
        arguments = draw(rng, op)
        states = OPS[op][1]
        arguments[1 : 1 + states] = [None] * states
        arguments[-1] = None
        _, cache = getattr(host_engine, op)(*arguments)
        gradients = getattr(host_engine, f"{op}_backward")(upstream(rng, op), cache)
        assert [gradient is None for gradient in gradients] == [argument is None for argument in arguments]

    def test_errors(self, host_engine, rng, op):
        _, cache = getattr(host_engine, op)(*draw(rng, op))
        backward, dy = getattr(host_engine, f"{op}_backward"), upstream(rng, op)
        with pytest.raises(
            ParameterError, match=rf"{op}_backward: expected a tuple of the upstream gradients \(dy, dh_n"
        ):
            backward(dy[0], cache)
        with pytest.raises(ShapeError, match=rf"{op}_backward: dh_n must have shape \(3, 3\), got \(3, 4, 3\)"):
            backward((dy[0], dy[0], *dy[2:]), cache)
        with pytest.raises(DtypeError, match="dy must have the dtype of y"):
            backward((dy[0].astype("float32"), *dy[1:]), cache)


def changed(arguments, place, value):
    return [value if i == place else a for i, a in enumerate(arguments)]


@pytest.mark.parametrize("op", OPS)
class TestErrors:
    @pytest.mark.parametrize(
        ("lengths", "error", "message"),
        [
            ([0, 4, 4], ParameterError, r"lengths\[0\] is 0, but a length must be from 1 to the 4 steps"),
            ([1, 5, 4], ParameterError, r"lengths\[1\] is 5, but"),
            ([1, -1, 4], ParameterError, r"lengths\[1\] is -1, but"),
            ([1, 2], ShapeError, r"lengths must have shape \(3,\), one for each sequence, got \(2,\)"),
            ([1.0, 2.0, 3.0], DtypeError, "lengths must be integers, got dtype float64"),
            (numpy.zeros((3, 3)), DtypeError, ".*an initial state goes into an argument of its own"),
        ],
    )
    def test_lengths(self, host_engine, rng, op, lengths, error, message):
        with pytest.raises(error, match=f"{op}: {message}"):
            getattr(host_engine, op)(*draw(rng, op), numpy.array(lengths))

    def test_shapes_and_dtypes(self, host_engine, rng, op):
        run, arguments = getattr(host_engine, op), draw(rng, op)
        weight = 1 + OPS[op][1]
        wrong = [
            (0, arguments[0][0], ShapeError, r"x must have shape \(N, T, C\), batch first, got \(4, 2\)"),
            (0, arguments[0][:, :0], ShapeError, "x must have at least one step"),
            (0, arguments[0][..., :1], ShapeError, "weight_ih must have shape .* for x of shape"),
            (0, arguments[0].astype(int), DtypeError, "x must be a floating-point array"),
            (1, arguments[1].T[:2], ShapeError, r"h0 must have shape \(3, 3\), got \(2, 3\)"),
            (1, arguments[1].astype("float32"), DtypeError, "h0 must have the dtype of x"),
            (weight + 1, arguments[weight + 1][:-1], ShapeError, "weight_hh must have shape"),
            (weight + 2, arguments[weight + 2][:-1], ShapeError, "bias_ih must have shape"),
            (weight + 3, arguments[weight + 3][None], ShapeError, "bias_hh must have shape"),
        ]
        for place, value, error, message in wrong:
            with pytest.raises(error, match=f"{op}: {message}"):
                run(*changed(arguments, place, value))


def test_no_other_nonlinearity(host_engine, rng):
    with pytest.raises(UnknownNameError, match="unknown nonlinearity 'elu'; known: .*relu.*tanh"):
        host_engine.rnn(*draw(rng, "rnn"), nonlinearity="elu")


def test_errors_are_errors_of_minidl():
    assert issubclass(ParameterError, MinidlError)


def test_the_state_of_one_call_continues_the_next(host_engine, rng):
    for op, (_, states) in OPS.items():
        x, *rest = draw(rng, op)
        (y, *final), _ = getattr(host_engine, op)(x, *rest)
        (first, *between), _ = getattr(host_engine, op)(x[:, :1], *rest)  # one step, which has a way of its own
        (second, *after), _ = getattr(host_engine, op)(x[:, 1:], *between, *rest[states:])
        numpy.testing.assert_allclose(numpy.concatenate([first, second], axis=1), y, rtol=1e-12, atol=1e-14)
        for one, two in zip(final, after, strict=True):
            numpy.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-14)


def test_float16_rounds_once(rng):
    for op in OPS:
        arguments = draw(rng, op, "float16")
        outputs, cache = ops.FORMULAS[op](*arguments)
        exact, _ = ops.FORMULAS[op](*[a.astype("float32") for a in arguments])
        for one, two in zip(outputs, exact, strict=True):
            numpy.testing.assert_array_equal(one, two.astype("float16"))
        gradients = ops.FORMULAS[f"{op}_backward"](upstream(rng, op, "float16"), cache)
        assert all(gradient.dtype == "float16" for gradient in gradients)


def test_they_run_on_the_current_engine(rng):
    (y, _), _ = dl.ops.gru(*draw(rng, "gru"))
    assert y.shape == (N, T, H)
