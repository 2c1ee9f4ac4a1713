"""The formulas: every op against its oracle, and every gradient against numeric derivatives."""

import inspect
import itertools

import numpy
import pytest

from minidl import engines, ops
from minidl.errors import ShapeError, UnknownNameError
from minidl.testing import SPECS, UPDATES, gradcheck, oracle_agreement, update_agreement
from minidl.testing.agreement import upstream_like
from minidl.testing.catalogue import check_case, check_catalogue, missing
from minidl.testing.spec import MARGIN, joined, split

CASES = [pytest.param(spec, case, id=f"{spec.name}-{case.name}") for spec in SPECS.values() for case in spec.cases]
ALL = [pytest.param(spec, id=spec.name) for spec in SPECS.values()]
UPDATE_CASES = [pytest.param(s, case, id=f"{s.name}-{case.name}") for s in UPDATES.values() for case in s.cases]


def formulas(spec):
    return spec.forward(), spec.backward()


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


# the catalogue itself -----------------------------------------------------------------------------------------------


def test_every_public_op_has_an_entry():
    assert missing() == []


def test_a_new_op_without_an_entry_is_noticed(monkeypatch):
    monkeypatch.setitem(ops.FORMULAS, "convolve", lambda x: (x, ()))
    assert missing() == ["convolve"]


def test_no_entry_is_left_over():
    assert {*SPECS, *UPDATES} <= set(ops.FORMULAS)


@pytest.mark.parametrize("spec", ALL)
def test_entry_is_complete(spec):
    forward, backward = ops.FORMULAS[spec.name], ops.FORMULAS[f"{spec.name}_backward"]
    names = list(inspect.signature(forward).parameters)
    assert set(spec.differentiable) <= set(names)
    assert list(inspect.signature(backward).parameters)[1] == "cache"
    assert set(spec.sizes) == {"empty", "one", "odd", "large"}
    assert 0 in spec.sizes["empty"]
    assert len({case.name for case in spec.cases}) == len(spec.cases)
    options = {option for case in spec.cases for option in case.options}
    defaults = {p.name for p in inspect.signature(forward).parameters.values() if p.default is not p.empty}
    arguments = max(len(spec.arguments(case)) for case in spec.cases)
    special = {"out", "accumulate", "random", "return_indices"}  # tests of their own, below and in ops/test_pool
    assert defaults - set(names[:arguments]) - special <= options, "an option that no case tries"


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s.kinks], ids=lambda s: s.name)
def test_drawn_inputs_stay_clear_of_the_declared_kinks(spec):
    for case, seed in itertools.product(spec.cases, range(20)):
        distance = spec.kinks(*spec.arguments(case, seed), **case.options)
        assert numpy.min(numpy.abs(distance)) >= MARGIN


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s.kinks], ids=lambda s: s.name)
def test_at_a_declared_kink_the_numeric_derivative_is_not_trusted(spec):
    """A kink, a jump (softplus) and a kink in the first derivative (elu, huber) are told from a wrong gradient."""
    case = spec.cases[-1] if spec.name == "softplus" else spec.cases[0]  # its usual jump is too small to matter
    x, *others = spec.arguments(case)
    distance = spec.kinks(x, *others, **case.options).reshape(x.shape)
    if spec.name == "huber_loss":  # measured from the nearer of two kinks
        distance = distance * numpy.sign(x - others[0])
    x = x - distance
    report = gradcheck(spec.name, x, *others, options=case.options, max_resamples=0, raise_exception=False)
    assert "kink" in report.table[0].problem
    gradcheck(spec.name, x, *others, options=case.options)  # and moving off it settles the matter


# values and gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_forward_agrees_with_the_oracle(spec, case, agree):
    agree([oracle_agreement(spec, case)])


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_gradient_by_differences(spec, case):
    check_case(engines.get("numpy"), spec, case).check()


@pytest.mark.parametrize(("spec", "case"), [c for c in CASES if c.values[0].analytic])
def test_gradient_by_complex_step(spec, case):
    check_case(engines.get("numpy"), spec, case, method="complex").check()


@pytest.mark.parametrize("size", ["one", "odd", "large"])
@pytest.mark.parametrize("spec", ALL)
def test_gradient_at_other_sizes(spec, size):
    report = check_case(engines.get("numpy"), spec, spec.sized(size)).check()
    assert size != "large" or "directional" in report.table[0].method


# what else a backward must do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_backward_is_linear_in_dy_and_repeats_itself(spec, case):
    forward, backward = formulas(spec)
    y, cache = forward(*spec.arguments(case), **case.options)
    first, second = upstream_like(y, "float64", 1), upstream_like(y, "float64", 2)
    combined = as_tuple(backward(0.3 * first - 1.7 * second, cache))
    for one, other, both, again in zip(
        as_tuple(backward(first, cache)),
        as_tuple(backward(second, cache)),
        combined,
        as_tuple(backward(first, cache)),
        strict=True,
    ):
        if one is not None:
            numpy.testing.assert_allclose(both, 0.3 * one - 1.7 * other, rtol=1e-12, atol=1e-12)
            assert numpy.array_equal(one, again)


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_nothing_is_written_to(spec, case):
    """Arrays that cannot be written to make any attempt an error, wherever it happens."""

    def locked(thing):
        if isinstance(thing, numpy.ndarray):
            thing.flags.writeable = False
        elif isinstance(thing, tuple):
            for part in thing:
                locked(part)
        return thing

    forward, backward = formulas(spec)
    y, cache = forward(*locked(spec.arguments(case)), **case.options)
    backward(locked(upstream_like(y, "float64")), locked(cache))


# where formulas tend to break ---------------------------------------------------------------------------------------

HUGE = {"float32": [88.0, 89.5, 1e3, 1e4], "float64": [709.0, 711.0, 1e3, 1e5]}


@pytest.mark.parametrize("dtype", HUGE)
@pytest.mark.parametrize("spec", ALL)
def test_large_finite_inputs_stay_finite(spec, dtype):
    """No exponential overflows, no logarithm sees zero, and nothing warns (pytest makes warnings errors).

    The formulas silence NumPy's warnings for inputs that are infinite to begin with; here they speak.
    """
    forward, backward = map(inspect.unwrap, (ops.FORMULAS[spec.name], ops.FORMULAS[f"{spec.name}_backward"]))
    forward, backward = (joined(forward), split(backward)) if spec.several else (forward, backward)
    arguments = [a.astype(dtype) if getattr(a, "dtype", "") == "float64" else a for a in spec.arguments(spec.cases[0])]
    x = spec.first(arguments)
    values = numpy.array(HUGE[dtype] + [-v for v in HUGE[dtype]], dtype=dtype)
    x.flat = numpy.resize(values, x.size).clip(*spec.domain)
    y, cache = forward(*arguments)
    assert numpy.isfinite(y).all()
    gradients = [g for g in as_tuple(backward(upstream_like(y, dtype), cache)) if g is not None]
    assert all(numpy.isfinite(g).all() and g.dtype == dtype for g in gradients)


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s.limits], ids=lambda s: s.name)
def test_infinities_give_the_limits(spec):
    forward, _ = formulas(spec)
    with numpy.errstate(invalid="ignore"):
        y, _ = forward(numpy.array([-numpy.inf, numpy.inf, numpy.nan]))
    numpy.testing.assert_array_equal(y, [*spec.limits, numpy.nan])


@pytest.mark.parametrize("spec", ALL)
def test_nan_comes_through(spec):
    forward, backward = formulas(spec)
    arguments = spec.arguments(spec.cases[0])
    spec.first(arguments).flat[0] = numpy.nan
    y, cache = forward(*arguments)
    assert numpy.isnan(y.flat[0] if spec.elementwise else y).any()
    _, cache = forward(*spec.arguments(spec.cases[0]))
    dy = upstream_like(y, "float64") * numpy.nan
    assert all(numpy.isnan(g).any() for g in as_tuple(backward(dy, cache)) if g is not None)


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s.empty_options], ids=lambda s: s.name)
def test_the_mean_of_nothing_is_refused(spec):
    case = spec.sized("empty")
    with pytest.raises(ShapeError, match="empty batch"):
        ops.FORMULAS[spec.name](*spec.arguments(case), reduction="mean")


# updates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "case"), UPDATE_CASES)
def test_update_agrees_with_the_oracle(spec, case, agree):
    agree(update_agreement(ops.FORMULAS[spec.name], spec, case, "float64", 37))


# the whole, as the command line runs it -----------------------------------------------------------------------------


def test_check_catalogue():
    report = check_catalogue("numpy", short=True)
    assert report.ok
    assert {row.op.partition(" ")[0] for row in report.table} == {*SPECS, *UPDATES}
    assert {row.engine for row in report.table} == {"numpy"}


def test_check_catalogue_in_full_for_some_ops():
    report = check_catalogue("numpy", ops=["relu", "adam_update"])
    assert report.ok
    assert {row.method for row in report.table} >= {"against the oracle", "full, complex step", "full, differences"}
    assert len(report.worst().table) < len(report.table)


def test_check_catalogue_names_the_known_ops():
    with pytest.raises(UnknownNameError, match=r"unknown op 'rellu'; known: .*relu"):
        check_catalogue("numpy", ops=["rellu"])
