"""The array double: as strict as CuPy, and the whole catalogue runs on it without a hidden transfer."""

import inspect
import json
from collections import Counter

import make_cupy_surface
import numpy
import pytest
from array_double import SURFACE, DoubleEngine, bare, ndarray, parsed, transfers, xp

import minidl
from minidl import layers, ops
from minidl.ops import namespace
from minidl.testing import SPECS, UPDATES
from minidl.testing.agreement import as_dtype, to_engine, upstream_like

pytestmark = pytest.mark.gpu_double

ENGINE = DoubleEngine()
HOST = numpy.array([[1.0, -2.0, 3.0]])


def device(*shape):
    return xp.asarray(numpy.random.default_rng(0).standard_normal(shape))


# it refuses what CuPy refuses ---------------------------------------------------------------------------------------

REFUSED = {
    "implicit conversion": lambda x: numpy.asarray(x),
    "conversion inside a NumPy function": lambda x: numpy.linalg.norm(x),
    "host array on the left": lambda x: HOST + x,
    "host array on the right": lambda x: x * HOST,
    "host array in place": lambda x: x.__iadd__(HOST),
    "list in an operation": lambda x: x * [1.0, 2.0, 3.0],
    "host array in a function": lambda x: xp.maximum(x, HOST),
    "host array alone in a function": lambda x: xp.sum(HOST),
    "host array in a list": lambda x: xp.concatenate([x, HOST]),
    "host array assigned": lambda x: x.__setitem__(slice(None), HOST),
    "host array as an index": lambda x: x[numpy.array([0])],
    "host array in a method": lambda x: x.dot(HOST.T),
    "host mask in where": lambda x: xp.where(numpy.array([True, False, True]), x, 0),
    "a list where an array is meant": lambda x: xp.exp([1.0, 2.0]),
    "a number where an array is meant": lambda x: xp.sum(3.0),
    "unknown function": lambda x: xp.nanargsort(x),
    "a function of NumPy's that CuPy lacks": lambda x: xp.busday_count(x),
    "unknown method": lambda x: x.to_device("cpu"),
    "a method of NumPy's that CuPy lacks": lambda x: x.setflags(write=False),
    "keyword that CuPy lacks": lambda x: xp.sum(x, where=x > 0),
    "keyword that CuPy's ufuncs lack": lambda x: xp.exp(x, where=x > 0),
    "keyword that a method lacks": lambda x: x.sum(where=x > 0),
    "too many positions": lambda x: xp.take_along_axis(x, x, 0, 1),
    "missing argument": lambda x: xp.take_along_axis(x, xp.zeros((1, 1), dtype=int)),
    "objects": lambda x: xp.asarray(numpy.array([None])),
    "making an array by its type": lambda x: ndarray((2, 2)),
    "hashing": hash,
}


@pytest.mark.parametrize("what", REFUSED)
def test_double_refuses(what):
    with pytest.raises((TypeError, ValueError, AttributeError)):
        REFUSED[what](device(1, 3))


def test_double_allows_what_cupy_allows():
    x = device(2, 3)
    host = bare(x).copy()
    assert isinstance(x.sum(), ndarray), "reductions give 0-d arrays, never scalars"
    numpy.testing.assert_array_equal((2.0 * x - 1).get(), 2 * host - 1)
    numpy.testing.assert_array_equal(xp.asnumpy(xp.where(x > 0, x, 0)), numpy.where(host > 0, host, 0))
    numpy.testing.assert_array_equal(numpy.exp(x).get(), numpy.exp(host))
    numpy.testing.assert_array_equal(numpy.zeros_like(x).get(), host * 0)
    numpy.testing.assert_array_equal((x @ x.T).get(), host @ host.T)
    out = xp.empty((2, 3))
    assert xp.multiply(x, x, out=out) is out
    numpy.testing.assert_array_equal(out.get(), host * host)
    x[0] = 7.0
    x[1] += 1
    assert float(x[0, 0]) == 7.0
    assert x[x > 6.9].shape == (3,)
    assert (len(x), x.ndim, x.size, x.dtype) == (2, 2, 6, numpy.float64)


def test_device_memory_is_its_own():
    host = numpy.zeros(3)
    x = xp.asarray(host)
    x += 1
    assert not host.any()
    x.get()[0] = 5
    assert float(x[0]) == 1


def test_transfers_are_counted():
    transfers.clear()
    x = xp.asarray(HOST)
    bool((x > 0).any())
    float(x[0, 0])
    x[x > 0]
    x.get()
    assert transfers == {"to device": 1, "to host": 1, "wait": 3}


def test_unsupported_names_say_so():
    with pytest.raises(NotImplementedError, match=r"cupy\.fuse exists"):
        xp.fuse  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'reduceby'"):
        xp.add.reduceby  # noqa: B018


def test_signatures_are_parsed():
    def sample(a, /, b, c=1, *args, d, e=2, **others): ...

    wanted = inspect.signature(sample)
    found = parsed("a, /, b, c=, *args, d, e=, **others")
    assert [(p.name, p.kind) for p in found.parameters.values()] == [
        (p.name, p.kind) for p in wanted.parameters.values()
    ]
    assert make_cupy_surface.spelled(list(wanted.parameters.values())) == "a, /, b, c=, *args, d, e=, **others"
    documented = r"sum(self, int axis=-1, dtype=None, order=(1, 2), \*, out) -> ndarray"
    assert make_cupy_surface.from_documentation(documented) == "self, axis=, dtype=, order=, *, out"


# the snapshot -------------------------------------------------------------------------------------------------------


@pytest.mark.gpu_surface
def test_snapshot_is_of_the_installed_cupy():
    cupy = pytest.importorskip(
        "cupy", reason="cupy is not installed; the snapshot is taken as it is", exc_type=ImportError
    )
    if cupy.__version__ != SURFACE["version"]:
        pytest.skip(f"the snapshot is of cupy {SURFACE['version']}, this is {cupy.__version__}")
    assert make_cupy_surface.surface() == SURFACE


@pytest.mark.gpu_surface
def test_snapshot_is_written_as_it_is_read():
    assert json.loads(make_cupy_surface.dumped(SURFACE)) == SURFACE
    assert make_cupy_surface.TARGET.read_text() == make_cupy_surface.dumped(SURFACE)


def test_namespace_of_cupy_arrays():
    """CuPy's arrays do not name their namespace, so it is found by their type; no GPU is needed to see that."""
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    assert "__array_namespace__" not in SURFACE["ndarray_special"]
    assert cupy.ndarray.__module__ == "cupy"
    assert namespace(type("ndarray", (), {"__module__": "cupy"})()) is cupy
    assert namespace(device(2)) is xp


# the catalogue on it ------------------------------------------------------------------------------------------------

WAITS = {
    "cross_entropy",
    "ctc_loss",
    "embedding",
    "gru",
    "lstm",
    "max_unpool1d",
    "max_unpool2d",
    "nll_loss",
    "rnn",
}
"""Ops whose forward brings numbers to the host, once: whether indices, ids or lengths are in range, and how many count."""


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda s: s.name)
def test_op_moves_nothing_and_does_not_wait(spec):
    for case in spec.cases:
        arguments = to_engine(ENGINE, as_dtype(spec.arguments(case), "float32"))
        transfers.clear()
        y, cache = spec.forward().__call__(*arguments, **case.options)
        forward = +transfers
        dy = upstream_like(y, "float32", reduced=arguments[0].ndim > 0)
        dy = ENGINE.asarray(dy) if isinstance(dy, numpy.ndarray) else dy
        transfers.clear()
        gradients = spec.backward()(dy, cache)
        assert +transfers == {}
        assert forward <= Counter({"to host": 1} if spec.name in WAITS else {})
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        assert all(isinstance(array, ndarray) for array in (y, *gradients) if array is not None)


@pytest.mark.parametrize("spec", UPDATES.values(), ids=lambda s: s.name)
def test_update_moves_nothing_and_does_not_wait(spec):
    for case in spec.cases:
        value, grad = device(20), device(20)
        states = [device(20) ** 2 if name in case.states else None for name in spec.states]
        transfers.clear()
        ops.FORMULAS[spec.name](value, grad, *states, **case.options, **spec.counter(2))
        assert +transfers == {}


def test_a_model_trains_on_it():
    """Layers, losses and a step of an optimiser's formula, with nothing from the host but the data."""
    with minidl.use(ENGINE):
        model = layers.Chain(layers.Linear(4, 8), layers.GELU(), layers.Dropout(0.2), layers.Linear(8, 3))
        loss = layers.MSELoss()
        x, target = (ENGINE.asarray(numpy.ones(shape, dtype="float32")) for shape in ((5, 4), (5, 3)))
        values = []
        for _ in range(20):
            values.append(float(loss.forward(model.forward(x), target)))
            model.zero_grad()
            model.backward(loss.backward())
            [buffer] = model.flat_buffers()
            assert isinstance(buffer.values, ndarray)
            ENGINE.sgd_update(buffer.values, buffer.gradients(), None, lr=0.1)
    assert values[-1] < values[0] / 2


def test_gradcheck_takes_device_arrays():
    assert minidl.gradcheck("softmax", device(3, 4)).ok
    with minidl.use(ENGINE):
        layer = layers.Linear(4, 2)
        assert minidl.gradcheck(layer, device(3, 4).astype("float32")).ok
        assert minidl.gradcheck(layers.CrossEntropyLoss(), device(3, 4), ENGINE.asarray(numpy.array([0, 3, 1]))).ok
