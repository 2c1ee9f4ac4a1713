"""Sharing work over the team: which numbers come out never depends on what handing over costs, nor on how many cores there are."""

from pathlib import Path

import numpy
import pytest
from fresh_python import run

import minidl as dl

_native = pytest.importorskip("minidl._native")
native = dl.engines.get("native")

COSTS = (0.0, 300.0, 9_000.0, 1e9)  # nanoseconds; with the last one nothing is shared
THREADS = (2, 3, 7, 16)


@pytest.fixture(autouse=True)
def _restore():
    before = dl.get_num_threads()
    yield
    _native.set_hand_over_cost(-1)
    dl.set_num_threads(before)


def arrays(random, *shape):
    return random.normal(size=shape).astype("float32")


def elementwise(random):
    """Yield what has the same bits however it is split."""
    for size in (40_001, 70_000, 300_003):
        x, dy = arrays(random, size), arrays(random, size)
        for op in ("relu", "tanh", "gelu", "mish"):
            y, cache = getattr(native, op)(x)
            yield y
            yield getattr(native, f"{op}_backward")(dy, cache)
        value, m, v = x.copy(), abs(dy), abs(x)
        native.adam_update(value, dy, m, v, None, lr=0.1, step=3)
        yield from (value, m, v)
        native.sgd_update(value, dy, m, lr=0.1, momentum=0.9)
        yield from (value, m)


def everything(random):
    """Yield that, and results that are added up over the elements."""
    yield from elementwise(random)
    x, dy = arrays(random, 700, 300), arrays(random, 700, 300)
    weight, bias = arrays(random, 300), arrays(random, 300)
    y, cache = native.layer_norm(x, (300,), weight, bias)
    yield y
    yield from native.layer_norm_backward(dy, cache)
    loss, cache = native.mse_loss(x, dy)
    yield numpy.asarray(loss)
    yield native.mse_loss_backward(1.0, cache)
    yield numpy.asarray(native.cross_entropy(x, numpy.arange(700) % 300)[0])
    heads = x.reshape(70, 10, 10, 30).transpose(0, 2, 1, 3)
    yield native.rotary_embedding(heads, arrays(random, 10, 15), arrays(random, 10, 15))[0]
    product, cache = native.linear(x, arrays(random, 128, 300), arrays(random, 128))
    yield product
    yield from native.linear_backward(arrays(random, 700, 128), cache)
    yield native.matmul(arrays(random, 70, 60), arrays(random, 60, 65))[0]  # as small as any that is cut
    yield native.matmul(arrays(random, 40, 20, 30), arrays(random, 40, 30, 17))[0]


def bits(make):
    return [result.tobytes() for result in make(numpy.random.default_rng(0))]


@pytest.mark.parametrize("threads", THREADS)
def test_the_measured_cost_changes_no_bit(threads):
    dl.set_num_threads(threads)
    found = []
    for cost in COSTS:
        _native.set_hand_over_cost(cost)
        found.append(bits(everything))
    assert all(other == found[0] for other in found)


def test_passes_over_single_elements_do_not_depend_on_the_threads():
    _native.set_hand_over_cost(0)
    found = []
    for threads in (1, *THREADS):
        dl.set_num_threads(threads)
        found.append(bits(elementwise))
    assert all(other == found[0] for other in found)


def test_the_cost_is_measured_when_work_is_first_shared():
    if not _native.build_info()["threaded"]:
        pytest.skip("this system's threads are not supported")
    dl.set_num_threads(2)
    assert _native.hand_over_cost() is None or _native.hand_over_cost() > 0
    _native.set_hand_over_cost(-1)
    assert _native.hand_over_cost() is None
    native.relu(numpy.ones(1 << 20, "float32"))
    assert 0 < _native.hand_over_cost() < 1e6
    _native.set_hand_over_cost(123.0)
    native.relu(numpy.ones(1 << 20, "float32"))
    assert _native.hand_over_cost() == 123.0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux lists the threads of a process")
def test_products_are_shared_where_that_pays():
    """No worker is made for them before: the process has as many threads as at first."""
    code = """
import os, numpy, minidl
from minidl import _native
a = numpy.ones((96, 96), "float32")
stack = numpy.ones((40, 30, 30), "float32")
minidl.set_num_threads(2)
counts = []
for cost in (1e9, 0.0):
    _native.set_hand_over_cost(cost)
    minidl.ops.matmul(a, a), minidl.ops.matmul(stack, stack)
    counts.append(len(os.listdir("/proc/self/task")))
print(counts[1] - counts[0])
"""
    if not _native.build_info()["threaded"]:
        pytest.skip("this system's threads are not supported")
    assert run(code, Path(dl.__file__).parents[1]) == "1"
