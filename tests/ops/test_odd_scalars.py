"""Numbers, switches and names that make no sense, or are too large, in every argument of every op: an error of ours, or the right call."""

import inspect
import signal
from pathlib import Path

import numpy
import pytest
from fresh_python import run

from minidl import engines, ops
from minidl.errors import MinidlError
from minidl.testing import SPECS, UPDATES

ODD = {
    "2**62": 2**62,
    "2**63": 2**63,
    "2**70": 2**70,
    "10**400": 10**400,
    "10**5000": 10**5000,
    "-1": -1,
    "-2**70": -(2**70),
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": -float("inf"),
    "1e300": 1e300,
    "1.5": 1.5,
    "0": 0,
    "True": True,
    "1j": 1j,
    "'x'": "x",
    "b'x'": b"x",
    "None": None,
    "int64": numpy.int64(2**62),
    "float32": numpy.float32("nan"),
    "array": numpy.array(2.0),
    "arrays": numpy.array([1.5, 2]),
    "[]": [],
    "[1, 'a']": [1, "a"],
    "{}": {},
    "object": object(),
}
HUGE = {"2**31": 2**31, "2**33": 2**33, "1e12": 1e12}
"""Of which memory that no test should touch would be asked."""
ARRAYS = {"weight", "bias", "running_mean", "running_var", "pos_weight", "random", "out"}


def calls():
    """Yield (what it is, op, arguments by name, argument) for everything that takes no array."""
    for spec in SPECS.values():
        case = max(spec.cases, key=lambda case: len(case.options))
        names = list(inspect.signature(ops.FORMULAS[spec.name]).parameters)
        arguments = dict(zip(names, spec.arguments(case), strict=False)) | dict(case.options)
        arguments = {
            n: a.astype("float32") if getattr(a, "dtype", None) == "float64" else a for n, a in arguments.items()
        }
        for name in names:
            if name not in ARRAYS and not isinstance(arguments.get(name), numpy.ndarray):
                yield spec.name, arguments, name
    for spec in UPDATES.values():
        for case in spec.cases:
            options = {**case.options, **spec.counter(1)}
            for name in options:
                states = {state: numpy.ones(3) if state in case.states else None for state in spec.states}
                yield spec.name, {"value": numpy.ones(3), "grad": numpy.ones(3), **states, **options}, name


def attempt(engine, op, arguments, name, value):
    """Call forward and backward; return the error that is not ours, if there is one."""
    arguments = {n: a.copy() if isinstance(a, numpy.ndarray) else a for n, a in arguments.items()} | {name: value}
    try:
        with numpy.errstate(all="ignore"):
            result = getattr(engine, op)(**arguments)
            if result is not None:
                y, cache = result
                dy = tuple(map(numpy.ones_like, y)) if isinstance(y, tuple) else numpy.ones_like(y) if y.ndim else 1.0
                getattr(engine, f"{op}_backward")(dy, cache)
    except (MinidlError, MemoryError):
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def problems(engine, odd):
    for op, arguments, name in calls():
        for shown, value in odd.items():
            error = attempt(engine, op, arguments, name, value)
            if error is not None:
                yield f"{op}, {name}={shown}: {error}"


def test_errors_are_ours(host_engine):
    assert list(problems(host_engine, ODD)) == []


def main(engine):
    """Ask for huge sizes where memory ends at 4 GiB, so that nothing is filled for long."""
    resource = pytest.importorskip("resource")
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    signal.alarm(60)
    found = list(problems(engines.get(engine), HUGE))
    assert found == [], found


def test_huge_sizes_end_in_bounded_time_and_memory(host_engine):
    pytest.importorskip("resource")
    run(f"import test_odd_scalars; test_odd_scalars.main({host_engine.name!r})", Path(__file__).parent)


@pytest.mark.parametrize("number", [numpy.float64(0.5), numpy.array(0.5), numpy.float32(0.5), numpy.int64(1), True])
def test_numbers_of_numpy_keep_the_dtype(host_engine, number):
    """A float64 scalar would promote float32 arrays."""
    x = numpy.linspace(-2, 2, 12, dtype="float32").reshape(3, 4)
    plain = float(number)
    for op, arguments in {
        "leaky_relu": {"negative_slope": number},
        "elu": {"alpha": number},
        "celu": {"alpha": number},
        "softplus": {"beta": number},
        "huber_loss": {"target": x * 0, "delta": number},
        "layer_norm": {"normalized_shape": numpy.int64(4), "eps": number},
        "batch_norm": {"eps": number},
        "pad": {"padding": 1, "value": number},
    }.items():
        y, cache = getattr(host_engine, op)(x, **arguments)
        expected, _ = getattr(host_engine, op)(x, **{n: plain if a is number else a for n, a in arguments.items()})
        assert y.dtype == "float32", op
        numpy.testing.assert_allclose(
            y, expected, rtol=1e-6, atol=1e-6
        )  # a kernel may leave such numbers to the formula
        dx = getattr(host_engine, f"{op}_backward")(numpy.ones_like(y) if y.ndim else 1.0, cache)
        assert (dx[0] if isinstance(dx, tuple) else dx).dtype == "float32", op


@pytest.mark.parametrize("stride", [2.0, (2, 2.0), numpy.float64(2), [2, "2"]])
def test_what_equals_a_whole_number_is_none(host_engine, stride):
    """Also where the same window was asked for with whole numbers before."""
    x, weight = numpy.ones((1, 1, 6, 6)), numpy.ones((1, 1, 2, 2))
    host_engine.conv2d(x, weight, None, 2)
    host_engine.max_pool2d(x, 2, (2, 2))
    for call in (
        lambda: host_engine.conv2d(x, weight, None, stride),
        lambda: host_engine.conv_transpose2d(x, weight, None, stride),
        lambda: host_engine.max_pool2d(x, 2, stride),
        lambda: host_engine.avg_pool2d(x, stride),
        lambda: host_engine.adaptive_avg_pool2d(x, stride),
    ):
        with pytest.raises(MinidlError, match="whole number"):
            call()
