"""Every engine against the formulas: forward, backward and update, in every dtype, size and memory layout."""

import numpy
import pytest
from array_double import DoubleEngine
from engine_choice import require
from special_values import SPECIAL, as_tuple, assert_as_the_formula, check_special_values_everywhere, with_specials

from minidl import engines, ops
from minidl.engines import EngineStatus
from minidl.engines.compositions import FUSIBLE
from minidl.errors import ShapeError
from minidl.testing import SPECS, UPDATES, agreement, update_agreement
from minidl.testing.agreement import as_dtype, to_engine, upstream_like
from minidl.testing.catalogue import check_case
from minidl.testing.layouts import HOST_LAYOUTS, LAYOUTS
from minidl.testing.updates import run

ALL = [pytest.param(spec, id=spec.name) for spec in SPECS.values()]
ALL_UPDATES = [pytest.param(spec, id=spec.name) for spec in UPDATES.values()]
DTYPES = ["float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", ALL)
def test_cases(engine, spec, dtype, agree):
    for case in spec.cases:
        agree(agreement(engine, spec, case, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", ["empty", "one", "odd", "large"])
@pytest.mark.parametrize("spec", ALL)
def test_sizes(engine, spec, size, dtype, agree):
    agree(agreement(engine, spec, spec.sized(size), dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", ALL)
def test_layouts(engine, spec, layout, dtype, agree):
    for case in (*spec.cases, spec.sized("odd")):
        agree(agreement(engine, spec, case, dtype, layout=LAYOUTS[layout]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", ALL)
def test_large_layouts(engine, spec, layout, agree):
    agree(agreement(engine, spec, spec.sized("large"), "float32", layout=LAYOUTS[layout]))


@pytest.mark.parametrize("layout", HOST_LAYOUTS)
@pytest.mark.parametrize("spec", ALL)
def test_host_layouts(host_engine, spec, layout, agree):
    for dtype in ("float32", "float64"):
        agree(agreement(host_engine, spec, spec.sized("odd"), dtype, layout=HOST_LAYOUTS[layout]))


@pytest.mark.parametrize("spec", ALL)
def test_gradients(engine, spec, request):
    """The check of the formulas, of the engine itself: in float64, by differences of its own forward.

    The array double runs the text of the formulas, one case of each, and all of them with --nightly.
    """
    few = isinstance(engine, DoubleEngine) and not request.config.getoption("--nightly")
    for case in spec.cases[:1] if few else spec.cases:
        check_case(engine, spec, case).check()


@pytest.mark.parametrize("spec", ALL)
def test_upstream_gradient_made_by_broadcasting(engine, spec, agree):
    """A dy whose elements are all the same place in memory, as the backward of a mean gives it."""
    arguments = to_engine(engine, as_dtype(spec.arguments(spec.sized("odd")), "float32"))
    y, cache = spec.forward(engine)(*arguments)
    if y.ndim == 0:
        y, cache = getattr(engine, spec.name)(*arguments, reduction="none")
    backward = spec.backward(engine)
    broadcast = engine.xp.broadcast_to(engine.asarray(numpy.full((1,) * y.ndim, 0.7, dtype="float32")), y.shape)
    dense = engine.asarray(numpy.full(y.shape, 0.7, dtype="float32"))
    for one, other in zip(as_tuple(backward(broadcast, cache)), as_tuple(backward(dense, cache)), strict=True):
        if other is not None:
            numpy.testing.assert_allclose(engine.to_host(one), engine.to_host(other), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", ALL)
def test_nan_and_inf_as_in_the_formulas(engine, spec, dtype):
    check_special_values_everywhere(engine, spec, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", ALL_UPDATES)
def test_nan_and_inf_in_updates_as_in_the_formulas(engine, spec, dtype):
    for case in spec.cases:
        names = ["value", "grad", *spec.states]
        for special in (*range(len(names)), None):
            rng = numpy.random.default_rng(0)
            host = [
                numpy.abs(rng.standard_normal(37)).astype(dtype) if name in ("value", "grad", *case.states) else None
                for name in names
            ]
            host = [
                with_specials(None if special is not None else rng, a) if a is not None and special in (i, None) else a
                for i, a in enumerate(host)
            ]
            arrays = [None if a is None else engine.asarray(a.copy()) for a in host]
            with numpy.errstate(all="ignore"):
                getattr(engine, spec.name)(*arrays, **case.options, **spec.counter(2))
                ops.FORMULAS[spec.name](*host, **case.options, **spec.counter(2))
            assert_as_the_formula(engine, arrays, host, dtype)


@pytest.mark.parametrize("activation", [*FUSIBLE, None])
def test_nan_and_inf_in_compositions_as_in_the_formulas(host_engine, activation):
    """One special value after another in one argument after another."""
    formulas = engines.get("numpy")
    draw = numpy.random.default_rng(0).standard_normal
    linear = [draw(shape).astype("float32") for shape in ((5, 7), (33, 7), (33,))]
    conv = [draw(shape).astype("float32") for shape in ((2, 3, 6, 7), (17, 3, 3, 3), (17,), (17,), (2, 17, 6, 7))]
    windows = (1, 1)

    def linear_activation(engine, x, weight, bias):
        y, cache = engine.linear_activation(x, weight, bias, activation)
        return [y, *engine.linear_activation_backward(numpy.ones_like(y), cache, activation)]

    def linear_stack(engine, x, weight, bias):
        layers = [(weight, bias, activation, ()), (weight.T.copy(), None, None, ())]
        y, caches = engine.linear_stack(x, layers)
        return [y, engine.linear_stack_backward(numpy.ones_like(y), caches, layers, [(None, False, None)] * 2)]

    def conv_activation(engine, x, weight, bias, scale, residual):
        y, cache = engine.conv_activation("conv2d", x, weight, bias, windows, activation)
        return [y, *engine.conv_activation_backward("conv2d", numpy.ones_like(y), cache, activation)]

    def conv_affine(engine, x, weight, bias, scale, residual):
        return [engine.conv_affine("conv2d", x, weight, windows, scale, bias, activation, (), residual)]

    calls = [(linear_stack, linear), (conv_affine, conv)]
    if activation is not None:
        calls += [(linear_activation, linear), (conv_activation, conv)]
    for call, arguments in calls:
        for position in range(len(arguments)):
            for special in SPECIAL:
                given = [a.copy() for a in arguments]
                given[position].flat[min(9, given[position].size - 1)] = special
                with numpy.errstate(all="ignore"):
                    found, expected = call(host_engine, *given), call(formulas, *given)
                assert_as_the_formula(host_engine, found, expected, "float32")


@pytest.mark.parametrize("spec", ALL)
def test_inputs_dy_and_cache_are_left_alone(engine, spec):
    for case in (spec.cases[0], spec.sized("odd")):
        host = as_dtype(spec.arguments(case), "float32")
        arguments = to_engine(engine, host)
        y, cache = spec.forward(engine)(*arguments, **case.options)
        dy_host = upstream_like(y, "float32", reduced=arguments[0].ndim > 0)
        dy = engine.asarray(dy_host) if isinstance(dy_host, numpy.ndarray) else dy_host
        kept = [part for part in cache if hasattr(part, "dtype")]
        before = [numpy.array(engine.to_host(part)) for part in kept]
        first = as_tuple(spec.backward(engine)(dy, cache))
        first = [numpy.array(engine.to_host(gradient)) for gradient in first]
        second = as_tuple(spec.backward(engine)(dy, cache))
        for one, other in zip(first, second, strict=True):
            numpy.testing.assert_array_equal(one, engine.to_host(other))
        for part, old in zip(kept, before, strict=True):
            numpy.testing.assert_array_equal(engine.to_host(part), old)
        for array, old in zip([*arguments, dy], [*host, dy_host], strict=True):
            if hasattr(array, "dtype"):
                numpy.testing.assert_array_equal(engine.to_host(array), old)


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s.empty_options], ids=lambda s: s.name)
def test_the_mean_of_nothing_is_refused(engine, spec):
    with pytest.raises(ShapeError, match="empty batch"):
        getattr(engine, spec.name)(*to_engine(engine, spec.arguments(spec.sized("empty"))), reduction="mean")


# what the catalogue's cases do not reach ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["contiguous", *LAYOUTS])
def test_matmul_writes_to_and_adds_to_a_given_array(engine, layout, dtype):
    arrange = LAYOUTS.get(layout, lambda array: array)
    rng = numpy.random.default_rng(0)
    for m, k, n in ((3, 4, 2), (65, 70, 33), (0, 2, 3), (2, 0, 3)):
        a, b, old = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (m, n)))
        for accumulate in (False, True):
            out = arrange(engine.asarray(old.copy()))
            y, cache = engine.matmul(engine.asarray(a), engine.asarray(b), out=out, accumulate=accumulate)
            assert y is out
            assert len(cache) == 4
            expected = old * accumulate + a.astype("float64") @ b.astype("float64")
            tolerance = 50 * float(numpy.finfo(dtype).eps)
            numpy.testing.assert_allclose(engine.to_host(out), expected, rtol=tolerance, atol=tolerance)
    with pytest.raises(ShapeError, match="out must have shape"):
        engine.matmul(engine.asarray(a), engine.asarray(b), out=engine.asarray(old[:, :-1]))


def test_dropout_draws_its_mask_from_the_generator(engine):
    x = engine.asarray(numpy.full((200, 50), 3.0, dtype="float32"))
    one, cache = engine.dropout(x, 0.25, numpy.random.default_rng(5))
    other, _ = engine.dropout(x, 0.25, numpy.random.default_rng(5))
    y = engine.to_host(one)
    assert numpy.array_equal(y, engine.to_host(other)), "the same seed must give the same mask"
    assert set(numpy.unique(y)) == {0.0, 4.0}
    dropped = float((y == 0).mean())
    assert abs(dropped - 0.25) < 5 * (0.25 * 0.75 / y.size) ** 0.5  # five standard deviations
    scale = engine.dropout_backward(engine.xp.ones_like(x), cache)
    numpy.testing.assert_array_equal(engine.to_host(scale), y / 3)
    expected = numpy.random.default_rng(5).random(y.shape, dtype="float32") >= 0.25
    assert numpy.array_equal(y != 0, expected), "all engines must drop the same elements"


# updates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 37, 70_001])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", ALL_UPDATES)
def test_updates(engine, spec, dtype, size, agree):
    for case in spec.cases:
        agree(update_agreement(getattr(engine, spec.name), spec, case, dtype, size, engine))


@pytest.mark.parametrize("spec", ALL_UPDATES)
def test_updates_of_views(engine, spec):
    """Parameters are views of one buffer, so neighbours must not be touched."""
    rng = numpy.random.default_rng(0)
    value, grad = (rng.standard_normal(40).astype("float32") for _ in range(2))
    for case in spec.cases:
        whole = engine.asarray(value.copy())
        states = {name: engine.asarray(value * 0 + 9) for name in case.states}
        inner = slice(3, 22)
        part = {name: array[inner] for name, array in states.items()}
        for array in part.values():
            array[...] = 0
        arguments = [part.get(name) for name in spec.states]
        update = getattr(engine, spec.name)
        update(whole[inner], engine.asarray(grad)[inner], *arguments, **case.options, **spec.counter(1))
        expected = run(
            ops.FORMULAS[spec.name], spec, case, value[inner].astype("float64"), [grad[inner].astype("float64")]
        )
        numpy.testing.assert_allclose(engine.to_host(whole)[inner], expected["value"], rtol=1e-5, atol=1e-6)
        outside = numpy.ones(40, dtype=bool)
        outside[inner] = False
        numpy.testing.assert_array_equal(engine.to_host(whole)[outside], value[outside])
        for array in states.values():
            assert (engine.to_host(array)[outside] == 9).all()


# the comparison itself must be able to fail -------------------------------------------------------------------------


class Broken:
    """The formulas on NumPy, but for one function that is replaced."""

    name, xp = "broken", numpy

    def __init__(self, **replaced):
        self.__dict__.update(ops.FORMULAS, **replaced)

    asarray = staticmethod(numpy.asarray)
    to_host = staticmethod(numpy.asarray)


@pytest.mark.parametrize("spec", ALL)
def test_a_wrong_kernel_is_caught(spec):
    forward, backward = ops.FORMULAS[spec.name], ops.FORMULAS[f"{spec.name}_backward"]

    def each(y, change):
        return tuple(map(change, y)) if spec.several else change(y)

    def slightly_off(*args, **kwargs):
        y, cache = forward(*args, **kwargs)
        return each(y, lambda a: a * (1 + 1e-4)), cache  # wrong in the fifth digit

    def promoting(*args, **kwargs):
        y, cache = forward(*args, **kwargs)
        return each(y, lambda a: a.astype("float64")), cache

    def without_last(dy, cache):
        gradients = [None if g is None else g.copy() for g in as_tuple(backward(dy, cache))]
        next(g for g in gradients if g is not None).flat[-1] = 0  # a kernel that stops one element short
        return tuple(gradients) if len(gradients) > 1 else gradients[0]

    broken = [
        Broken(**{spec.name: slightly_off}),
        Broken(**{spec.name: promoting}),
        Broken(**{f"{spec.name}_backward": without_last}),
    ]
    for engine in broken:
        rows = [row for case in spec.cases for row in agreement(engine, spec, case, "float32")]
        assert not all(row.ok for row in rows)


@pytest.mark.parametrize("name", engines.NAMES)
def test_engine_is_available(name, request):
    require(name, request.config.getoption("--require-engine"))


def test_a_missing_engine_is_a_visible_skip_and_a_required_one_a_failure(monkeypatch):
    missing = {name: EngineStatus(name, False, "no compiler") for name in ("native", "cupy")}
    monkeypatch.setattr("minidl.engines.engines", lambda: missing)
    with pytest.raises(pytest.skip.Exception, match="engine native: not available, no compiler"):
        require("native", required=["cupy"])
    with pytest.raises(pytest.fail.Exception, match="--require-engine=native was given"):
        require("native", required=["native"])
