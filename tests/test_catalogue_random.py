"""The catalogue on inputs that Hypothesis draws: any size, any option, dtype and layout."""

import numpy
import pytest

strategies = pytest.importorskip("minidl.testing.strategies")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given  # noqa: E402

from minidl import engines, ops  # noqa: E402
from minidl.testing import SPECS, UPDATES, agreement, update_agreement  # noqa: E402
from minidl.testing.layouts import LAYOUTS  # noqa: E402
from minidl.testing.strategies import calls  # noqa: E402


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda s: s.name)
def test_engine_agrees_with_the_formula(engine, spec, agree):
    @given(calls(spec.name))
    def check(call):
        layout = LAYOUTS.get(call.layout)
        agree(agreement(engine, call.spec, call.case, call.dtype, call.arguments, layout))

    check()


@pytest.mark.parametrize("spec", UPDATES.values(), ids=lambda s: s.name)
def test_update_agrees_with_the_formula(engine, spec, agree):
    @given(strategies.shapes((1, 1), (0, 300)), strategies.dtypes())
    def check(shape, dtype):
        for case in spec.cases:
            agree(update_agreement(getattr(engine, spec.name), spec, case, dtype, shape[0], engine))

    check()


@given(strategies.arrays(shape=strategies.shapes((1, 3), (1, 6))))
def test_softmax_sums_to_one_and_ignores_a_constant(x):
    for axis in range(x.ndim):
        y, _ = ops.FORMULAS["softmax"](x, axis)
        numpy.testing.assert_allclose(y.sum(axis=axis), 1, rtol=1e-12)
        numpy.testing.assert_allclose(ops.FORMULAS["softmax"](x + 100, axis)[0], y, rtol=1e-10)
        numpy.testing.assert_allclose(numpy.exp(ops.FORMULAS["log_softmax"](x, axis)[0]), y, rtol=1e-12)


@given(strategies.arrays())
def test_activations_are_related_as_the_textbook_says(x):
    f = {name: lambda x, name=name, **options: ops.FORMULAS[name](x, **options)[0] for name in SPECS}
    close = numpy.testing.assert_allclose
    close(f["tanh"](x), 2 * f["sigmoid"](2 * x) - 1, rtol=1e-12, atol=1e-12)
    close(f["sigmoid"](x) + f["sigmoid"](-x), numpy.ones_like(x), rtol=1e-12)
    close(f["silu"](x), x * f["sigmoid"](x), rtol=1e-12)
    close(f["softplus"](x) - f["softplus"](-x), x, rtol=1e-12, atol=1e-12)
    close(f["relu"](x) - f["relu"](-x), x)
    close(f["gelu"](x) - f["gelu"](-x), x, rtol=1e-12, atol=1e-12)
    close(f["gelu"](x, approximate="tanh"), f["gelu"](x), atol=3e-3)
    close(f["leaky_relu"](x, negative_slope=0.0), f["relu"](x))


@pytest.mark.nightly
@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda s: s.name)
def test_gradients_of_random_calls(spec):
    from minidl.testing.catalogue import check_case

    @given(calls(spec.name))
    def check(call):
        if 0 not in call.case.shape:
            check_case(engines.get("numpy"), spec, call.case).check()

    check()
