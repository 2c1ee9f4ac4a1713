"""The tests of the tests: mutants that are what they say."""

import numpy
import pytest

from minidl import ops
from minidl.testing.mutants import WRAPPERS, source_mutants, wrapped

X = numpy.array([[-1.0, 2.0], [0.5, -3.0]])
DY = numpy.array([[1.0, -2.0], [3.0, 4.0]])


def gradient(pair):
    x, dy = X.copy(), DY.copy()
    _, cache = pair[0](x)
    return pair[1](dy, cache), x, dy, cache


@pytest.mark.parametrize("name", WRAPPERS)
def test_each_way_to_break_changes_something(name):
    right = gradient((ops.FORMULAS["tanh"], ops.FORMULAS["tanh_backward"]))
    pair = wrapped(name, ops.FORMULAS["tanh"], ops.FORMULAS["tanh_backward"])
    first, second = gradient(pair), gradient(pair)

    def differs(found):
        pairs = [(found[0], right[0]), (found[1], X), (found[2], DY), (found[3][0], right[3][0])]
        return any(one.shape != other.shape or one.dtype != other.dtype or (one != other).any() for one, other in pairs)

    assert differs(first) or differs(second)


def sample(x, y):
    """Do some arithmetic.

    >>> sample(1, 2)
    5
    """
    if x < 0:
        raise ValueError(f"{x - 1} is negative")
    z = -x if x > y else x
    z += 2 * y
    return z


def test_source_mutants():
    found = dict(source_mutants(sample))
    assert list(found) == [
        "x > y -> x < y",
        "-x -> x",
        "z += 2 * y -> z -= 2 * y",
        "2 * y -> 2",
        "2 * y -> y",
        "2 * y -> 2 / y",
    ]
    assert sample(1, 2) == 5
    assert [mutant(1, 2) for mutant in found.values()] == [3, 5, -3, 3, 3, 2]
    assert found["-x -> x"](3, 2) == 7


def test_mutants_live_among_the_globals_of_the_original():
    for description, mutant in source_mutants(ops.FORMULAS["gelu_backward"]):
        _, cache = ops.FORMULAS["gelu"](X)
        assert mutant(DY, cache).shape == X.shape, description
