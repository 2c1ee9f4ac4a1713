"""Broken on purpose: the checks must catch what is planted in every op. A check that cannot fail is a defect."""

import importlib
import inspect

import numpy
import pytest

from minidl import ops
from minidl.testing import SPECS, UPDATES, gradcheck, oracle_agreement, update_agreement
from minidl.testing.agreement import upstream_like
from minidl.testing.mutants import WRAPPERS, source_mutants, wrapped
from minidl.testing.spec import joined, split

ALL = [pytest.param(spec, id=spec.name) for spec in SPECS.values()]

MASK = "random.random(shape, dtype=numpy.float32) >= p -> random.random(shape, dtype=numpy.float32) < p"
EQUIVALENT = {  # out, accumulate and the generator are checked in test_catalogue_engines, windows that see nothing in ops/test_pool
    "matmul": {"out + y -> out", "out + y -> y", "out + y -> out - y"},
    "_draw_mask": {MASK},
    # corners that are equal are kinks, which ops/test_box_geometry checks
    "_share": {"2 * yes + 1 * equal -> 2 * yes", "2 * yes + 1 * equal -> 2 * yes - 1 * equal", "1 * equal -> equal"},
    "_max_pool": {"-math.inf -> math.inf", "nobody < 256 -> nobody > 256"},
    # rounding reaches beyond the last pixel only from 8 million pixels on
    "_nearest": {"scale.before - 1 -> scale.before", "scale.before - 1 -> scale.before + 1"},
    # what only runs on a device is checked in gpu/test_double
    "_check_indices": {f"pixels - 1 -> {other}" for other in ("pixels", "pixels + 1", "1")},
    "_scale_and_decay": {
        f"grad * grad_scale.astype(grad.dtype) -> {other}"
        for other in ("grad", "grad_scale.astype(grad.dtype)", "grad / grad_scale.astype(grad.dtype)")
    },
    "_in_float32": {"dtype.itemsize >= 4 -> dtype.itemsize < 4"},  # float16 is checked in ops/test_update
}
"""Mutants that these checks cannot tell from the original, with the place that does. A stale entry fails too."""


def broken(check):
    """Whether a check notices: by its verdict, or because the mutant cannot even run."""
    try:
        with numpy.errstate(all="ignore"):
            return not check()
    except Exception:
        return True


def caught(spec, forward, backward):
    """Whether any of the catalogue's checks notices that the pair is not what it should be."""
    if spec.several:
        forward, backward = joined(forward), split(backward)

    def gradient(case):
        arguments = spec.arguments(case)
        differentiable = spec.present(arguments)
        return gradcheck(
            (forward, backward),
            *arguments,
            options=case.options,
            differentiable=differentiable,
            method="complex",
            raise_exception=False,
        ).ok

    def sound():
        arguments = spec.arguments(spec.cases[0])
        x = spec.first(arguments)
        x.flat = numpy.resize([1e4, -1e4], x.size).clip(*spec.domain)
        y, cache = forward(*arguments)
        gradients = backward(y * 0 + 1, cache)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return all(numpy.isfinite(array).all() for array in (y, *gradients) if array is not None)

    def blind_to_size():
        """An example may be as large as it likes, beside others that are not."""
        x, *others = spec.arguments(spec.cases[0])
        x[0] *= 1e100
        y, _ = forward(x, *others)
        x[0] *= 1e70
        return numpy.allclose(forward(x, *others)[0], y, rtol=1e-12, atol=0)

    return (
        any(broken(lambda case=case: gradient(case)) for case in spec.cases)
        or any(broken(lambda case=case: oracle_agreement(spec, case, forward).ok) for case in spec.cases)
        or broken(sound)
        or (spec.name in {"layer_norm", "group_norm", "rms_norm"} and broken(blind_to_size))
    )


def caught_update(spec, update):
    """The same for an optimiser's update."""
    return any(
        broken(lambda case=case: all(row.ok for row in update_agreement(update, spec, case, "float64", 5)))
        for case in spec.cases
    )


@pytest.mark.parametrize("spec", ALL)
def test_the_original_passes(spec):
    assert not caught(spec, ops.FORMULAS[spec.name], ops.FORMULAS[f"{spec.name}_backward"])


def can_be_wrong(spec, case):
    """Whether there is a gradient to get wrong: that of dropping everything, or of a softmax of one class, is zero."""
    arguments = spec.arguments(case)
    y, cache = spec.forward()(*arguments, **case.options)
    gradients = spec.backward()(upstream_like(y, "float64"), cache)
    first = next(g for g in gradients if g is not None) if isinstance(gradients, tuple) else gradients
    return first.ndim > 0 and first.any()


def keeps_arrays(spec):
    _, cache = ops.FORMULAS[spec.name](*spec.arguments(spec.cases[0]))
    return any(isinstance(part, numpy.ndarray) for part in cache)


PLANTED = [
    pytest.param(spec, name, id=f"{spec.name}-{name}")
    for spec in SPECS.values()
    for name in WRAPPERS
    if name != "mutated cache" or keeps_arrays(spec)
]


FEW = 2
"""Cases in which every way to break a pair is tried in a usual run; the nightly one tries all."""


@pytest.mark.parametrize(("spec", "name"), PLANTED)
def test_gradcheck_catches(spec, name, request):
    """Every way to break a pair, in every op, in several cases."""
    cases = [case for case in spec.cases if can_be_wrong(spec, case)]
    assert cases[0] is spec.cases[0]
    for case in cases if request.config.getoption("--nightly") else cases[:FEW]:
        pair = wrapped(name, spec.forward(), spec.backward())
        arguments = spec.arguments(case)
        differentiable = spec.present(arguments)
        report = gradcheck(pair, *arguments, options=case.options, differentiable=differentiable, raise_exception=False)
        assert not report.ok, case.name


@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("spec", ALL)
def test_slips_of_the_pen_are_caught(spec, which):
    """Each single operation in the text of forward and backward, changed."""
    forward, backward = ops.FORMULAS[spec.name], ops.FORMULAS[f"{spec.name}_backward"]
    original = forward if which == "forward" else backward
    survivors = {
        description
        for description, mutant in source_mutants(original)
        if not (caught(spec, mutant, backward) if which == "forward" else caught(spec, forward, mutant))
    }
    assert survivors == (EQUIVALENT.get(spec.name, set()) if which == "forward" else set())


SLOW = {"_between", "_coefficients", "_gelu_inner", "_mish_gate", "_nearest"}
"""Helpers of many ops, whose mutants take seconds each; they are tried with --nightly."""
HELPERS = [
    pytest.param(room, name, id=f"{room}.{name}", marks=[pytest.mark.nightly] if name in SLOW else [])
    for room in ops.ROOMS
    for name, function in vars(importlib.import_module(f"minidl.ops.{room}")).items()
    if inspect.isfunction(function) and name.startswith("_") and function.__module__ == f"minidl.ops.{room}"
]


@pytest.mark.parametrize(("room", "name"), HELPERS)
def test_slips_of_the_pen_in_shared_lines_are_caught(room, name, monkeypatch):
    """The same in the functions that the formulas of a room share."""
    module = importlib.import_module(f"minidl.ops.{room}")
    specs = [spec for spec in SPECS.values() if spec.name in module.__all__]
    updates = [spec for spec in UPDATES.values() if spec.name in module.__all__]
    survivors = set()
    for description, mutant in source_mutants(getattr(module, name)):
        monkeypatch.setattr(module, name, mutant)
        pairs = [(spec, ops.FORMULAS[spec.name], ops.FORMULAS[f"{spec.name}_backward"]) for spec in specs]
        seen = any(caught(*pair) for pair in pairs)
        if not seen and not any(caught_update(spec, ops.FORMULAS[spec.name]) for spec in updates):
            survivors.add(description)
    assert survivors == EQUIVALENT.get(name, set())


@pytest.mark.parametrize("spec", UPDATES.values(), ids=lambda s: s.name)
def test_slips_of_the_pen_in_updates_are_caught(spec):
    formula = ops.FORMULAS[spec.name]
    assert not caught_update(spec, formula)
    assert {text for text, mutant in source_mutants(formula) if not caught_update(spec, mutant)} == set()
