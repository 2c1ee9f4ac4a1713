"""One seeded generator for each context."""

import contextvars
import threading

import numpy
import pytest

from minidl import random
from minidl.errors import ParameterError


def test_the_same_seed_gives_the_same_numbers():
    random.seed(11)
    first = random.generator().normal(size=5)
    random.seed(11)
    numpy.testing.assert_array_equal(random.generator().normal(size=5), first)
    random.seed(12)
    assert not numpy.array_equal(random.generator().normal(size=5), first)


def test_numpy_integers_are_seeds():
    random.seed(numpy.int32(11))
    first = random.generator().normal()
    random.seed(11)
    assert random.generator().normal() == first


@pytest.mark.parametrize("wrong", [-1, 1.0, "1", None, True])
def test_what_is_no_seed_is_refused(wrong):
    with pytest.raises(ParameterError, match="non-negative integer"):
        random.seed(wrong)


def test_a_context_does_not_disturb_another():
    random.seed(1)
    expected = random.as_generator(1).normal()
    contextvars.copy_context().run(random.seed, 2)
    assert random.generator().normal() == expected


def test_a_thread_has_a_generator_of_its_own():
    found = []
    thread = threading.Thread(target=lambda: found.append(random.generator()), daemon=True)
    thread.start()
    thread.join()
    assert found[0] is not random.generator()


def test_as_generator_takes_seeds_generators_and_none():
    own = numpy.random.default_rng(0)
    assert random.as_generator(own) is own
    assert random.as_generator(None) is random.generator()
    assert random.as_generator(5).normal() == numpy.random.default_rng(5).normal()


@pytest.mark.parametrize("wrong", [1.5, "x", -2, numpy.random.RandomState(0)])
def test_as_generator_names_the_argument(wrong):
    with pytest.raises(ParameterError, match="shuffle_seed"):
        random.as_generator(wrong, "shuffle_seed")
