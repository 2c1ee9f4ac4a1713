"""The contract for gradients of parameters, for every op that has some, on every engine: overwrite, add, and leave out."""

import inspect
import itertools

import numpy
import pytest

from minidl import ops
from minidl.engines import compositions
from minidl.errors import ParameterError, ShapeError
from minidl.testing import SPECS
from minidl.testing.agreement import as_dtype, to_engine, upstream_like

OPS = [pytest.param(SPECS[name], id=name) for name in ops.PARAMETERS]
EVERY = (None, *itertools.product((False, True), repeat=3))


def test_every_op_with_parameters_is_in_the_catalogue():
    assert set(ops.PARAMETERS) <= set(SPECS)
    for name, parameters in ops.PARAMETERS.items():
        assert SPECS[name].differentiable[-len(parameters) :] == parameters


def recorded(engine, spec, case, dtype="float32"):
    """Return the backward, and dy and the cache of one forward."""
    arguments = to_engine(engine, as_dtype(spec.arguments(case), dtype))
    y, cache = spec.forward(engine)(*arguments, **case.options)
    dy = engine.asarray(upstream_like(y, dtype))
    return spec.backward(engine), dy, cache


def storage_like(engine, gradients, count, value=numpy.nan):
    """Return an array for each parameter's gradient, in the middle of a larger one, and the larger ones."""
    wholes = []
    for gradient in gradients[-count:]:
        wholes.append(
            None if gradient is None else engine.asarray(numpy.full(gradient.size + 6, value, gradient.dtype))
        )
    parts = [
        None if whole is None else whole[3:-3].reshape(gradient.shape)
        for whole, gradient in zip(wholes, gradients[-count:], strict=True)
    ]
    return tuple(parts), wholes


def assert_neighbours_kept(engine, wholes, value):
    for whole in wholes:
        if whole is not None:
            outside = engine.to_host(whole)[[0, 1, 2, -3, -2, -1]]
            numpy.testing.assert_array_equal(outside, numpy.full(6, value, outside.dtype))


def same(engine, one, other, dtype="float32"):
    if other is None:
        assert one is None
        return
    tolerance = 50 * numpy.finfo(dtype).eps
    other = engine.to_host(other)
    scale = float(numpy.max(numpy.abs(other), initial=0.0))
    numpy.testing.assert_allclose(engine.to_host(one), other, rtol=tolerance, atol=tolerance * scale)


def cases_of(spec):
    return [*spec.cases, spec.sized("empty"), spec.sized("odd")] if not spec.empty_options else [*spec.cases]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", OPS)
def test_overwrite_and_add(engine, spec, dtype):
    count = len(ops.PARAMETERS[spec.name])
    for case in cases_of(spec):
        backward, dy, cache = recorded(engine, spec, case, dtype)
        plain = backward(dy, cache)
        for add, before in ((False, numpy.nan), (True, 0.5)):
            into, wholes = storage_like(engine, plain, count, before)
            gradients = backward(dy, cache, into=into, add=add)
            for gradient, storage, expected in zip(gradients[-count:], into, plain[-count:], strict=True):
                assert gradient is storage
                if add and expected is not None:
                    expected = expected + expected.dtype.type(before)
                same(engine, storage, expected, dtype)
            same(engine, gradients[0], plain[0], dtype)
            assert_neighbours_kept(engine, wholes, before)


@pytest.mark.parametrize("spec", OPS)
def test_storage_may_share_memory_with_the_parameter(host_engine, spec):
    """As if it were written when everything has been read: here each gradient begins one element after its parameter."""
    names = list(inspect.signature(ops.FORMULAS[spec.name]).parameters)
    parameters = ops.PARAMETERS[spec.name]
    for case, (place, name) in itertools.product(spec.cases, enumerate(parameters)):
        arguments = as_dtype(spec.arguments(case), "float32")
        at = names.index(name)
        if at >= len(arguments) or not getattr(arguments[at], "size", 0):
            continue
        size, shape = arguments[at].size, arguments[at].shape
        whole = numpy.append(arguments[at].ravel(), numpy.float32(0.0))
        arguments[at] = whole[:size].reshape(shape)
        y, cache = spec.forward(host_engine)(*arguments, **case.options)
        dy = upstream_like(y, "float32")
        plain = spec.backward(host_engine)(dy, cache)
        into = tuple(whole[1:].reshape(shape) if i == place else None for i in range(len(parameters)))
        for gradient, expected in zip(spec.backward(host_engine)(dy, cache, into=into), plain, strict=True):
            same(host_engine, gradient, expected)


def choices(count):
    """Return which gradients are wanted: in every combination, or of many each one alone, all others, all and none."""
    if count <= 4:
        return itertools.product((False, True), repeat=count)
    alone = [tuple(i == j for i in range(count)) for j in range(count)]
    return [*alone, *(tuple(not asked for asked in one) for one in alone), (True,) * count, (False,) * count]


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("spec", OPS)
def test_what_is_not_wanted_is_left_out(engine, spec, add):
    count = len(ops.PARAMETERS[spec.name])
    for case in spec.cases:
        backward, dy, cache = recorded(engine, spec, case)
        plain = backward(dy, cache)
        for wanted in choices(len(plain)):
            into, _ = storage_like(engine, plain, count, 0.5)
            for gradients in (backward(dy, cache, wanted=wanted), backward(dy, cache, into, add, wanted)):
                for gradient, expected, asked in zip(gradients, plain, wanted, strict=True):
                    assert asked or gradient is None
                    assert gradient is not None or not asked or expected is None
            for storage, expected, asked in zip(into, plain[-count:], wanted[-count:], strict=True):
                if storage is not None and asked:
                    same(engine, storage, expected + expected.dtype.type(0.5) if add else expected)
                elif storage is not None:
                    assert (engine.to_host(storage) == 0.5).all(), (
                        "storage of a gradient that nobody wanted was written"
                    )
            same(engine, gradients[0], plain[0] if wanted[0] else None)


@pytest.mark.parametrize("spec", OPS)
def test_a_storage_that_is_missing_gets_a_new_array(engine, spec):
    count = len(ops.PARAMETERS[spec.name])
    backward, dy, cache = recorded(engine, spec, spec.cases[0])
    plain = backward(dy, cache)
    for add in (False, True):
        for gradient, expected in zip(backward(dy, cache, into=(None,) * count, add=add), plain, strict=True):
            same(engine, gradient, expected)


@pytest.mark.parametrize("spec", OPS)
def test_storage_that_is_strided_is_written_all_the_same(engine, spec):
    count = len(ops.PARAMETERS[spec.name])
    backward, dy, cache = recorded(engine, spec, spec.cases[0])
    plain = backward(dy, cache)
    into = tuple(
        None if g is None else engine.asarray(numpy.zeros((*g.shape[:-1], 2 * g.shape[-1]), g.dtype))[..., ::2]
        for g in plain[-count:]
    )
    backward(dy, cache, into=into)
    backward(dy, cache, into=into, add=True)
    for storage, expected in zip(into, plain[-count:], strict=True):
        if storage is not None:
            same(engine, storage, 2 * expected)


@pytest.mark.parametrize("spec", OPS)
def test_wrong_storage_is_refused(engine, spec):
    count = len(ops.PARAMETERS[spec.name])
    backward, dy, cache = recorded(engine, spec, spec.cases[0])
    plain = backward(dy, cache)
    with pytest.raises(ParameterError, match="into must have"):
        backward(dy, cache, into=(None,) * (count + 1))
    with pytest.raises(ParameterError, match="wanted must have"):
        backward(dy, cache, wanted=(True,))
    wrong = engine.asarray(numpy.zeros((7, 7, 7), "float32"))
    with pytest.raises(ShapeError, match=r"into\[0\] must have shape"):
        backward(dy, cache, into=(wrong, *[None] * (count - 1)))
    other_dtype = engine.asarray(numpy.zeros(plain[1].shape, "float64"))
    with pytest.raises(ShapeError, match="dtype float32"):
        backward(dy, cache, into=(other_dtype, *[None] * (count - 1)))


# compositions ---------------------------------------------------------------------------------------------------------


def runs_of(engine, activation):
    """Yield a backward with its first arguments, for each composition with parameters."""
    random = numpy.random.default_rng(3)
    x, weight, bias = (random.normal(size=shape).astype("float32") for shape in ((5, 4), (3, 4), (3,)))
    x, weight, bias = to_engine(engine, (x, weight, bias))
    y, cache = engine.linear_activation(x, weight, bias, activation)
    yield engine.linear_activation_backward, (engine.asarray(upstream_like(y, "float32")), cache, activation)
    image, kernel = (random.normal(size=shape).astype("float32") for shape in ((2, 3, 5, 4), (4, 3, 2, 2)))
    y, cache = engine.conv_activation("conv2d", *to_engine(engine, (image, kernel)), None, (1, 1), activation)
    yield engine.conv_activation_backward, ("conv2d", engine.asarray(upstream_like(y, "float32")), cache, activation)


@pytest.mark.parametrize("activation", compositions.FUSIBLE)
def test_compositions_keep_the_contract(engine, activation):
    for backward, arguments in runs_of(engine, activation):
        plain = backward(*arguments)
        into, wholes = storage_like(engine, plain, 2, 0.5)
        assert backward(*arguments, into, True, (False, True, True))[0] is None
        for storage, expected in zip(into, plain[1:], strict=True):
            same(engine, storage, None if expected is None else expected + numpy.float32(0.5))
        backward(*arguments, into)
        for storage, expected in zip(into, plain[1:], strict=True):
            same(engine, storage, expected)
        assert_neighbours_kept(engine, wholes, 0.5)
        dx, *rest = backward(*arguments, wanted=(True, False, False))
        same(engine, dx, plain[0])
        assert rest == [None, None]


def test_a_stack_goes_back_as_far_as_somebody_wants(engine):
    random = numpy.random.default_rng(3)
    sizes = (6, 5, 4, 3)
    arrays = [
        to_engine(engine, [random.normal(size=shape).astype("float32") for shape in ((out, into), (out,))])
        for into, out in itertools.pairwise(sizes)
    ]
    layers = [(weight, bias, "tanh", ()) for weight, bias in arrays]
    x = engine.asarray(random.normal(size=(7, 6)).astype("float32"))
    y, caches = engine.linear_stack(x, layers)
    dy = engine.asarray(upstream_like(y, "float32"))
    new = [tuple(engine.asarray(numpy.zeros(a.shape, "float32")) for a in pair) for pair in arrays]
    assert (
        engine.linear_stack_backward(dy, caches, layers, [(pair, False, (True, True, True)) for pair in new])
        is not None
    )
    only_last = [(pair, False, (False, True, True)) for pair in new]
    short = [tuple(engine.asarray(numpy.zeros(a.shape, "float32")) for a in pair) for pair in arrays]
    only_last = [(pair, False, (False, True, True)) for pair in short]
    assert engine.linear_stack_backward(dy, caches, layers, only_last) is None
    for pair, expected in zip(short, new, strict=True):
        for one, other in zip(pair, expected, strict=True):
            same(engine, one, other if pair is short[-1] else engine.asarray(numpy.zeros(one.shape, "float32")))


def test_the_checks_notice_a_kernel_that_overwrites_where_it_should_add(engine):
    spec = SPECS["linear"]
    backward, dy, cache = recorded(engine, spec, spec.cases[0])
    into, _ = storage_like(engine, backward(dy, cache), 2, 0.5)
    backward(dy, cache, into=into)  # as if it were add=True
    with pytest.raises(AssertionError):
        same(engine, into[0], backward(dy, cache)[1] + numpy.float32(0.5))
