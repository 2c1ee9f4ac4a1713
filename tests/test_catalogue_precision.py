"""Products in bfloat16: every op that has some, on every engine, against the formula of rounded operands, and broken on purpose."""

import contextvars
import importlib
import itertools
import math
import re
import threading
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
from pages import blocks, output, promised

import minidl
from minidl import engines, ops
from minidl.engines import compositions
from minidl.errors import DtypeError, UnknownNameError
from minidl.ops import precision
from minidl.ops.precision import round_operand, round_to_bfloat16
from minidl.testing import SPECS, agreement
from minidl.testing.agreement import as_dtype, to_engine, upstream_like
from minidl.testing.layouts import LAYOUTS

PRODUCTS = [pytest.param(spec, id=spec.name) for spec in SPECS.values() if spec.operands]
NUMPY = engines.get("numpy")
linear_room, conv_room = (importlib.import_module(f"minidl.ops.{room}") for room in ("linear", "conv"))


def in_bfloat16(engine, spec, case, **options):
    return agreement(engine, spec, case, "float32", precision="bfloat16", **options)


# the rounding -------------------------------------------------------------------------------------------------------


def nearest(x):
    """Round by exact fractions: to 8 digits, or to multiples of 2^-133 below the smallest normal number."""
    if not math.isfinite(x) or x == 0:
        return x
    exponent = max(math.frexp(x)[1] - 8, -133)
    scaled = Fraction(x) / Fraction(2) ** exponent
    y = float(round(scaled) * Fraction(2) ** exponent)  # round() of a fraction takes ties to the even one
    return math.copysign(math.inf, x) if abs(y) >= 2.0**128 else math.copysign(y, x)


def test_rounding_is_to_nearest_even():
    bits = numpy.random.default_rng(0).integers(0, 2**32, 2000, dtype=numpy.uint32)
    ends = [0, 1, 0x7FFF, 0x8000, 0x8001, 0x18000, 0x7F7F7FFF, 0x7F7F8000, 0x7F800000, 0x007FFFFF, 0x00800000]
    bits = numpy.concatenate([bits, bits & 0xFFFF8000, numpy.array(ends, numpy.uint32)])
    x = numpy.concatenate([bits, bits | 0x80000000]).view("float32")
    x = x[~numpy.isnan(x)]
    expected = numpy.array([nearest(float(value)) for value in x], dtype="float64")
    y = round_to_bfloat16(x)
    numpy.testing.assert_array_equal(y, expected)
    numpy.testing.assert_array_equal(numpy.signbit(y), numpy.signbit(x))
    assert not (y.view("uint32") & 0xFFFF).any()


def test_nan_stays_nan():
    bits = numpy.array([0x7F800001, 0x7F80FFFF, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000], dtype=numpy.uint32)
    y = round_to_bfloat16(bits.view("float32"))
    assert numpy.isnan(y).all()
    numpy.testing.assert_array_equal(y.view("uint32") >> 31, bits >> 31)


def test_subnormal_operands_are_zero_with_their_sign():
    bits = numpy.array(
        [0, 1, 0x7FFF, 0x8000, 0x400000, 0x7FFFFF, 0x800000, 0x3F808000, 0x7F800000, 0x7F800001], "uint32"
    )
    x = numpy.concatenate([bits, bits | 0x80000000]).view("float32")
    y, expected = round_operand(x), round_to_bfloat16(x)
    expected[abs(x) < numpy.finfo("float32").tiny] = 0
    numpy.testing.assert_array_equal(y, expected)
    numpy.testing.assert_array_equal(numpy.signbit(y), numpy.signbit(x))
    big, tiny = numpy.array([[numpy.inf]], "float32"), numpy.array([[1e-40]], "float32")
    with minidl.matmul_precision("bfloat16"), numpy.errstate(invalid="ignore"):
        assert numpy.isnan(precision.product(big, tiny)).all()


def test_rounding_any_array():
    x = numpy.random.default_rng(0).standard_normal((6, 4)).astype("float32")
    expected = round_to_bfloat16(x)
    numpy.testing.assert_array_equal(round_to_bfloat16(x[::2, ::-1]), expected[::2, ::-1])
    numpy.testing.assert_array_equal(round_to_bfloat16(x.astype(">f4")), expected)
    assert round_to_bfloat16(numpy.float32(1.001).reshape(())).shape == ()
    assert round_to_bfloat16(x[:0]).shape == (0, 4)
    for wrong in (x.astype("float64"), x.astype("int32"), [1.0]):
        with pytest.raises(DtypeError, match="must be an array of float32"):
            round_to_bfloat16(wrong)


# the catalogue ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", PRODUCTS)
def test_cases(engine, spec, agree):
    for case in spec.cases:
        agree(in_bfloat16(engine, spec, case))


@pytest.mark.parametrize("size", ["empty", "one", "odd", "large"])
@pytest.mark.parametrize("spec", PRODUCTS)
def test_sizes(engine, spec, size, agree):
    agree(in_bfloat16(engine, spec, spec.sized(size)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", PRODUCTS)
def test_layouts(engine, spec, layout, agree):
    agree(in_bfloat16(engine, spec, spec.sized("odd"), layout=LAYOUTS[layout]))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("spec", PRODUCTS)
def test_other_precisions_are_left_alone(engine, spec, dtype):
    for case in spec.cases:
        host = as_dtype(spec.arguments(case), dtype)
        results = []
        for name in precision.PRECISIONS:
            with minidl.matmul_precision(name):
                y, cache = getattr(engine, spec.name)(*to_engine(engine, host), **case.options)
                dy = engine.asarray(upstream_like(y, dtype))
                results.append([y, *getattr(engine, f"{spec.name}_backward")(dy, cache)])
        for one, other in zip(*results, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                numpy.testing.assert_array_equal(engine.to_host(one), engine.to_host(other))


CHAINED = ("recurrent", "_recurrent", "attention")
"""Rooms whose products feed one another, so that a last digit may round by a whole step: compared by their own tests."""


def test_every_op_with_a_product_is_checked(monkeypatch):
    """An op whose formula multiplies, and no other one, names its operands in the catalogue."""
    called = []

    def recording(*operands):
        called.append(1)
        return precision.product(*operands)

    for module in map(importlib.import_module, (f"minidl.ops.{room}" for room in ops.ROOMS)):
        if hasattr(module, "product"):
            monkeypatch.setattr(module, "product", recording)
    for spec in SPECS.values():
        called.clear()
        ops.FORMULAS[spec.name](*spec.arguments(spec.cases[0]), **spec.cases[0].options)
        chained = ops.FORMULAS[spec.name].__module__.split(".")[-1] in CHAINED
        assert chained or bool(called) == bool(spec.operands), spec.name
    for path in Path(ops.__file__).parent.glob("*.py"):  # and nobody multiplies past it, sums of integers excepted
        others = re.findall(r"\.matmul\(|einsum|\.dot\(|\w @ \w|tensordot", path.read_text())
        known = [".matmul("] if path.stem in ("precision", "stored") else []
        assert others == known, path


@pytest.mark.parametrize("spec", [p for p in PRODUCTS if "weight" in p.values[0].operands])
def test_gradients_are_written_added_and_left_out(engine, spec):
    for case in spec.cases:
        host = as_dtype(spec.arguments(case), "float32")
        with minidl.matmul_precision("bfloat16"):
            y, cache = getattr(engine, spec.name)(*to_engine(engine, host), **case.options)
            dy, backward = engine.asarray(upstream_like(y, "float32")), getattr(engine, f"{spec.name}_backward")
            plain = backward(dy, cache)
            into = tuple(None if g is None else engine.asarray(numpy.full(g.shape, 0.5, "float32")) for g in plain[1:])
            backward(dy, cache, into, True)
            for storage, expected in zip(into, plain[1:], strict=True):
                if storage is not None:
                    tolerance = 1e-5 * float(abs(engine.to_host(expected)).max()) + 1e-6
                    found = engine.to_host(storage) - numpy.float32(0.5)
                    numpy.testing.assert_allclose(found, engine.to_host(expected), rtol=0, atol=tolerance)
            for wanted in itertools.product((False, True), repeat=3):
                for gradient, expected, asked in zip(backward(dy, cache, wanted=wanted), plain, wanted, strict=True):
                    assert (gradient is None) == (not asked or expected is None)
                    if gradient is not None:
                        numpy.testing.assert_array_equal(engine.to_host(gradient), engine.to_host(expected))


def test_compositions_follow_it(engine):
    """Fused or step by step, a composition gives what its ops give one by one, and that is not what float32 gives."""
    random = numpy.random.default_rng(3)
    x, weight, bias = (random.normal(size=shape).astype("float32") for shape in ((9, 21), (17, 21), (17,)))
    image, kernel, shift = (random.normal(size=s).astype("float32") for s in ((2, 3, 8, 9), (5, 3, 3, 3), (5,)))
    x, weight, bias, image, kernel, shift = to_engine(engine, (x, weight, bias, image, kernel, shift))
    layers = [(weight, bias, "relu", ()), (weight.T.copy(), None, "gelu", ()), (weight, bias, None, ())]

    def runs(compute, name):
        y, cache = compute("linear_activation", x, weight, bias, "tanh")
        yield y
        yield from compute("linear_activation_backward", y, cache, "tanh")
        y, caches = compute("linear_stack", x, layers)
        yield y
        yield compute("linear_stack_backward", y, caches, layers, [(None, False, None)] * 3)
        y, cache = compute("conv_activation", "conv2d", image, kernel, shift, (1, 1), "relu")
        yield y
        yield from compute("conv_activation_backward", "conv2d", y, cache, "relu")
        yield compute("conv_affine", "conv2d", image, kernel, (1, 1), shift, shift, "relu", (), y)

    def fused(name, *arguments):
        return getattr(engine, name)(*arguments)

    def by_formulas(name, *arguments):
        return getattr(compositions, name)(NUMPY if engine.xp is numpy else engine, *arguments)

    with minidl.matmul_precision("bfloat16"):
        found = [engine.to_host(y) for y in runs(fused, "")]
        expected = [engine.to_host(y) for y in runs(by_formulas, "")]
    exact = [engine.to_host(y) for y in runs(fused, "")]
    for one, other, third in zip(found, expected, exact, strict=True):
        scale = float(abs(other).max())
        # a sum in another order may move a number that the next product rounds by a whole step, 2^-8 of it
        numpy.testing.assert_allclose(one, other, rtol=0, atol=3e-3 * scale)
        assert numpy.median(abs(one - other)) < 1e-5 * scale
        assert float(abs(one - third).max()) > 1e-4 * scale


# broken on purpose --------------------------------------------------------------------------------------------------


def truncated(x):
    return (x.view("uint32") & 0xFFFF0000).view("float32")


def ties_away(x):
    return ((x.view("uint32") + 0x8000) & 0xFFFF0000).view("float32")


def by_digits(digits):
    def rounded(x):
        mantissa, exponent = numpy.frexp(x)
        return numpy.ldexp(numpy.round(mantissa * 2**digits) / 2**digits, exponent).astype("float32")

    return rounded


R = round_to_bfloat16
PLANTED = {
    "truncated": lambda a, b: numpy.matmul(truncated(a), truncated(b)),
    "ties away from zero": lambda a, b: numpy.matmul(ties_away(a), ties_away(b)),
    "7 digits": lambda a, b: numpy.matmul(by_digits(7)(a), by_digits(7)(b)),
    "11 digits, as float16": lambda a, b: numpy.matmul(by_digits(11)(a), by_digits(11)(b)),
    "left operand as it is": lambda a, b: numpy.matmul(a, R(b)),
    "right operand as it is": lambda a, b: numpy.matmul(R(a), b),
    "nothing rounded": numpy.matmul,
    "result rounded": lambda a, b: R(numpy.matmul(R(a), R(b))),
    "result rounded, operands not": lambda a, b: R(numpy.matmul(a, b)),
    "a term left out": lambda a, b: numpy.matmul(R(a)[..., :-1], R(b)[..., :-1, :]),
}


class Spoilt:
    """The formulas, with something planted in the products of forwards or of backwards."""

    name, xp = "numpy", numpy
    asarray, to_host = staticmethod(numpy.asarray), staticmethod(numpy.asarray)

    def __init__(self, planted, where):
        self.planted, self.where, self.inside = planted, where, ""

    def __getattr__(self, op):
        def call(*arguments, **options):
            self.inside = "backward" if op.endswith("backward") else "forward"
            return ops.FORMULAS[op](*arguments, **options)

        return call

    def product(self, a, b, dtype=None):
        spoilt = a.dtype == "float32" and self.inside == self.where
        return (self.planted if spoilt else precision.product)(a, b)


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("spec", PRODUCTS)
def test_what_is_planted_is_caught(spec, name, monkeypatch):
    """In the forward alone and in the backward alone."""
    for where in ("forward", "backward"):
        spoilt = Spoilt(PLANTED[name], where)
        for room in (linear_room, conv_room):
            monkeypatch.setattr(room, "product", spoilt.product)
        rows = [row for case in spec.cases for row in in_bfloat16(spoilt, spec, case)]
        assert not all(row.ok for row in rows if (row.argument == "y") == (where == "forward")), where
        assert all(row.ok for row in rows if (row.argument == "y") != (where == "forward")), where


# the mode -----------------------------------------------------------------------------------------------------------


def test_the_mode_and_its_blocks():
    assert minidl.get_matmul_precision() == "highest"
    with minidl.matmul_precision("bfloat16") as block:
        assert repr(block) == "minidl.matmul_precision('bfloat16')"
        assert minidl.get_matmul_precision() == "bfloat16"
        with minidl.matmul_precision("highest"):
            assert minidl.get_matmul_precision() == "highest"
        with block:  # the same block again, inside itself
            assert minidl.get_matmul_precision() == "bfloat16"
        assert minidl.get_matmul_precision() == "bfloat16"
        with pytest.raises(ZeroDivisionError), minidl.matmul_precision("highest"):
            raise ZeroDivisionError
        assert minidl.get_matmul_precision() == "bfloat16"
    assert minidl.get_matmul_precision() == "highest"
    minidl.matmul_precision("bfloat16")  # changes nothing before it is entered
    assert minidl.get_matmul_precision() == "highest"
    try:
        minidl.set_matmul_precision("bfloat16")
        assert minidl.get_matmul_precision() == "bfloat16"
    finally:
        minidl.set_matmul_precision("highest")


@pytest.mark.parametrize("choose", [minidl.set_matmul_precision, minidl.matmul_precision])
def test_unknown_precisions_are_refused(choose):
    with pytest.raises(UnknownNameError, match="bfloat16"):
        choose("bfloat8")
    with pytest.raises(UnknownNameError):
        choose(["highest"])
    assert minidl.get_matmul_precision() == "highest"


def test_the_mode_belongs_to_the_context(host_engine):
    """A thread begins with the default; one that runs in a copy of the context has what that had; neither changes the caller's."""
    a = numpy.full((64, 64), 1 + 2**-9, dtype="float32")
    seen = {}

    def look(name):
        seen[name] = minidl.get_matmul_precision(), float(host_engine.matmul(a, a)[0][0, 0])
        minidl.set_matmul_precision("highest")

    with minidl.matmul_precision("bfloat16"):
        copied = contextvars.copy_context()
        threads = [
            threading.Thread(target=look, args=("new",)),
            threading.Thread(target=copied.run, args=(look, "copied")),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        look("own")
    exact = 64 * (1 + 2.0**-9) ** 2
    assert seen["copied"] == seen["own"] == ("bfloat16", 64.0)
    assert seen["new"][0] == "highest"
    assert seen["new"][1] == pytest.approx(exact, rel=1e-6)


PAGE = Path(__file__).parents[1] / "docs" / "precision.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the docs are not beside the tests")
def test_every_block_of_the_page_prints_what_it_promises():
    found = blocks(PAGE)
    assert len(found) == 2
    for block in found:
        assert output(block, {"__name__": "page"}) == promised(block)
