"""Dropout's own generator of masks: the numbers, and afterwards the state, are those of NumPy's."""

import threading

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl as dl
from minidl import engines

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

native, formulas = engines.get("native"), engines.get("numpy")


@pytest.fixture(autouse=True)
def threads():
    before = dl.get_num_threads()
    yield
    dl.set_num_threads(before)


def both(x, p, random, twin):
    """Drop by the kernel and by the formula, each with its generator; return the two y."""
    results = []
    for engine, generator in ((native, random), (formulas, twin)):
        y, (scale,) = engine.dropout(x, p, generator)
        numpy.testing.assert_array_equal(y, x * scale)
        results.append(y)
    return results


@given(
    n=st.one_of(st.integers(4080, 5200), st.sampled_from([16384, 32768, 32769, 65535, 100_003])),
    before=st.integers(0, 3),
    p=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**64 - 1),
)
def test_the_mask_and_the_state_are_numpys(n, before, p, dtype, threads, seed):
    dl.set_num_threads(threads)
    random, twin = numpy.random.default_rng(seed), numpy.random.default_rng(seed)
    x = numpy.arange(1.0, n + 1, dtype=dtype)
    for generator in (random, twin):
        generator.random(before, dtype="float32")  # an odd number leaves half a word waiting
    for _ in range(2):
        numpy.testing.assert_array_equal(*both(x, p, random, twin))
        assert random.bit_generator.state == twin.bit_generator.state
    assert random.random() == twin.random()


@pytest.mark.parametrize("kind", ["MT19937", "PCG64DXSM", "Philox", "SFC64"])
def test_other_generators_give_their_own_numbers(kind):
    random, twin = (numpy.random.Generator(getattr(numpy.random, kind)(5)) for _ in range(2))
    numpy.testing.assert_array_equal(*both(numpy.ones((100, 101), "float32"), 0.4, random, twin))
    assert random.random() == twin.random()


def test_threads_that_share_a_generator_take_turns():
    random, twin = numpy.random.default_rng(3), numpy.random.default_rng(3)
    x, found = numpy.ones(5001, "float32"), []

    def work():
        for _ in range(20):
            found.append(native.dropout(x, 0.5, random)[0])

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = [formulas.dropout(x, 0.5, twin)[0] for _ in found]
    assert {y.tobytes() for y in found} == {y.tobytes() for y in expected}  # each mask once, in whatever order
    assert random.bit_generator.state == twin.bit_generator.state
