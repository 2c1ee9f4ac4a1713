"""Nan, infinities and the like in the arguments of an op: an engine must give what the formula gives."""

import numpy

from minidl.testing.agreement import as_dtype, to_engine, upstream_like


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


SPECIAL = [numpy.nan, numpy.inf, -numpy.inf, 0.0, -0.0, 1e-40, -1e-40]


def with_specials(rng, array):
    """Return a copy with special values in the first places, or in a few random ones."""
    array = array.copy()
    places = numpy.arange(len(SPECIAL)) if rng is None else rng.permutation(array.size)[: rng.integers(1, 5)]
    values = SPECIAL if rng is None else rng.choice(SPECIAL, size=len(places))
    for place, value in zip(places[: array.size], values, strict=False):
        array.flat[place] = value
    return array


def assert_as_the_formula(engine, found, expected, dtype):
    tolerance = 100 * float(numpy.finfo(dtype).eps)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            scale = float(numpy.nan_to_num(numpy.abs(other), nan=0, posinf=0).max(initial=1))
            numpy.testing.assert_allclose(engine.to_host(one), other, rtol=tolerance, atol=tolerance * 100 * scale)


def check_special_values(engine, spec, case, dtype, which, rng):
    """Compare the engine with the formula, special values in the arguments of these positions, -1 being dy."""
    plain = as_dtype(spec.arguments(case), dtype)
    arguments = [with_specials(rng, a) if i in which else a for i, a in enumerate(plain)]
    with numpy.errstate(all="ignore"):
        y, cache = spec.forward()(*arguments, **case.options)
        dy = upstream_like(y, dtype, reduced=arguments[0].ndim > 0)
        if -1 in which and numpy.ndim(dy):
            dy = with_specials(rng, dy)
        expected = [y, *as_tuple(spec.backward()(dy, cache))]
        y, cache = spec.forward(engine)(*to_engine(engine, arguments), **case.options)
        dy = engine.asarray(dy) if isinstance(dy, numpy.ndarray) else dy
        found = [y, *as_tuple(spec.backward(engine)(dy, cache))]
    assert_as_the_formula(engine, found, expected, dtype)


def check_special_values_everywhere(engine, spec, dtype, cases=None):
    """Special values in each argument and in dy in turn, then in all of them; the engine must give the formula's nans and infinities."""
    for case in (spec.sized("odd"), *(spec.cases if cases is None else cases)):
        plain = as_dtype(spec.arguments(case), dtype)
        floating = [i for i, a in enumerate(plain) if isinstance(a, numpy.ndarray) and a.dtype == dtype]
        for special in (*floating, -1):
            check_special_values(engine, spec, case, dtype, [special], None)
        for seed in range(3):
            check_special_values(engine, spec, case, dtype, [*floating, -1], numpy.random.default_rng(seed))
