"""Whole numbers in place of real ones are refused, whichever argument they come in, and fractions in place of whole ones."""

import inspect

import numpy
import pytest

from minidl import ops
from minidl.errors import DtypeError, ParameterError
from minidl.testing import SPECS
from minidl.testing.agreement import upstream_like

MAY_BE_WHOLE = {
    *((loss, "target") for loss in ("mse_loss", "l1_loss", "huber_loss", "kl_div", "generalized_box_iou_loss")),
    *(
        (loss, name)
        for loss in ("binary_cross_entropy", "binary_cross_entropy_with_logits")
        for name in ("target", "weight")
    ),
    ("binary_cross_entropy_with_logits", "pos_weight"),
    ("cross_entropy", "weight"),
    ("nll_loss", "weight"),
}
"""What losses are handed beside the prediction is data, which often consists of integers."""

ARRAYS = [
    pytest.param(spec, case, i, id=f"{spec.name}-{name}")
    for spec in SPECS.values()
    for case in [max(spec.cases, key=lambda case, spec=spec: len(spec.arguments(case)))]
    for i, (name, array) in enumerate(
        zip(inspect.signature(ops.FORMULAS[spec.name]).parameters, spec.arguments(case), strict=False)
    )
    if isinstance(array, numpy.ndarray) and array.dtype.kind == "f" and (spec.name, name) not in MAY_BE_WHOLE
]


@pytest.mark.parametrize(("spec", "case", "place"), ARRAYS)
def test_integers_are_refused_in_each_argument(host_engine, spec, case, place):
    """Of the length of the floating-point numbers beside them: a check that compares only lengths would let them pass."""
    arguments = list(spec.arguments(case))
    arguments[place] = arguments[place].astype("int64")
    with pytest.raises(DtypeError, match=spec.name):
        getattr(host_engine, spec.name)(*arguments, **case.options)


@pytest.mark.parametrize("spec", [pytest.param(spec, id=spec.name) for spec in SPECS.values()])
def test_integers_are_refused_as_upstream_gradient(host_engine, spec):
    case = spec.cases[0]
    y, cache = getattr(host_engine, spec.name)(*spec.arguments(case), **case.options)
    backward = getattr(host_engine, f"{spec.name}_backward")
    dys = [numpy.asarray(upstream_like(output, "float64")) for output in (y if spec.several else (y,))]
    for place, dy in enumerate(dys):
        if dy.ndim:
            given = (*dys[:place], dy.astype("int64"), *dys[place + 1 :])
            with pytest.raises(DtypeError, match=spec.name):
                backward(given if spec.several else given[0], cache)


@pytest.mark.parametrize("name", ["bias", "running_mean", "running_var", "gamma", "beta"])
def test_integers_are_refused_in_folding(name):
    arguments = {key: numpy.ones(3) for key in ("bias", "running_mean", "running_var", "gamma", "beta")}
    ops.fold_batch_norm(numpy.ones((3, 2)), **arguments)
    with pytest.raises(DtypeError, match=f"fold_batch_norm: {name} must be a floating-point array, got dtype int64"):
        ops.fold_batch_norm(numpy.ones((3, 2)), **{**arguments, name: numpy.ones(3, "int64")})


@pytest.mark.parametrize("axes", [1, 2])
def test_a_number_of_groups_is_whole(host_engine, axes):
    """1.5 groups of 2 channels are 3 channels, and 3 divides by 1.5, so the shapes alone do not tell."""
    x, kernel = numpy.ones((1, 3, *[4] * axes)), [1] * axes
    with pytest.raises(ParameterError, match=rf"conv{axes}d: groups must .*, got 1.5"):
        getattr(host_engine, f"conv{axes}d")(x, numpy.ones((3, 2, *kernel)), groups=1.5)
    transposed = f"conv_transpose{axes}d"
    if hasattr(ops, transposed):
        with pytest.raises(ParameterError, match=rf"{transposed}: groups must .*, got 1.5"):
            getattr(host_engine, transposed)(x, numpy.ones((3, 2, *kernel)), groups=1.5)
