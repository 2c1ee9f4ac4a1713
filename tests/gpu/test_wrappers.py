"""The wrappers of the CUDA kernels, with nothing that runs kernels: what they launch, hand on, and refuse."""

import re

import numpy
import pytest

from minidl.engines import Engine
from minidl.engines.cuda import FUSED_ACTIVATIONS, OVERRIDES, later, source
from minidl.engines.cuda.dispatch import is_taken, team
from minidl.errors import DtypeError, EngineError, ShapeError
from minidl.ops import FORMULAS
from minidl.ops._later import checks_later

FILE = "elementwise/activations.cu"


@pytest.fixture
def launched():
    """Record launches in the place of a GPU."""
    calls = []
    token = source.launcher.set(lambda *call: calls.append(call))
    yield calls
    source.launcher.reset(token)


def test_every_override_is_an_op_or_a_composition():
    engine = Engine("kernels", kernels=OVERRIDES, activations=FUSED_ACTIVATIONS)
    assert {"softmax", "layer_norm_backward", "adam_update", "linear_activation"} <= set(OVERRIDES)
    assert all(engine.has_kernel(name) for name in OVERRIDES)
    assert engine.applies("linear_activation", "gelu")


def test_a_source_has_all_that_it_includes_in_it():
    for file in source.files():
        left = set(re.findall(r'#\s*include "([^"]+)"', source.read(file)))
        assert left <= {f"vector/simd_{name}.h" for name in ("avx512", "avx2", "sse2", "neon")}
        assert "__global__" in source.read(file)


def test_arguments_are_passed_in_the_types_of_the_kernel(launched):
    x = numpy.zeros(3, "float32")
    source.launch(FILE, "kernel", x.dtype, 2, (32, 2), x, None, 7, 0.5, True, numpy.int32(3))
    ((file, kernel, dtype, grid, block, arguments, shared),) = launched
    assert (file, kernel, dtype, grid, block, shared) == (FILE, "kernel", "float32", (2,), (32, 2), 0)
    assert arguments[0] is x
    assert [type(a) for a in arguments[1:]] == [numpy.uint64, numpy.int64, numpy.float32, numpy.bool, numpy.int32]
    source.launch(FILE, "kernel", "float64", 1, 32, 0.5)
    assert type(launched[1][5][0]) is numpy.float64


@pytest.mark.parametrize(
    ("grid", "block", "said"),
    [
        (1, 33, "multiple of 32"),
        (1, 1024, "at most 512"),
        (1, 0, "multiple of 32"),
        (0, 32, "no device runs"),
        ((1, 2**16), 32, "no device runs"),
    ],
)
def test_what_no_device_can_run_is_refused(launched, grid, block, said):
    with pytest.raises(EngineError, match=said):
        source.launch(FILE, "kernel", "float32", grid, block)
    assert launched == []


def test_an_array_with_gaps_is_refused(launched):
    with pytest.raises(EngineError, match="has gaps"):
        source.launch(FILE, "kernel", "float32", 1, 32, numpy.zeros((4, 4))[:, 1])
    assert launched == []


def test_wrappers_give_kernels_arrays_without_gaps(launched):
    x = numpy.zeros((6, 8), "float32")
    for view in (x.T, x[::2], x[:, ::-1]):
        OVERRIDES["relu"](view)
        OVERRIDES["layer_norm"](view, view.shape[-1])
        OVERRIDES["softmax"](view)
    assert len(launched) == 9
    assert all(a.flags.c_contiguous for call in launched for a in call[5] if isinstance(a, numpy.ndarray))


def test_nothing_is_launched_for_no_elements(launched):
    for name in ("relu", "softmax", "dropout"):
        arguments = (0.5, numpy.random.default_rng(0)) if name == "dropout" else ()
        y, cache = OVERRIDES[name](numpy.zeros((0, 3), "float32"), *arguments)
        assert y.shape == (0, 3)
        assert OVERRIDES[f"{name}_backward"](y, cache).shape == (0, 3)
    assert launched == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("relu", (numpy.zeros(3, "int64"),)),
        ("gelu", (numpy.zeros(3, "float32"), "wrong")),
        ("softmax", (numpy.zeros(3, "float32"), 5)),
        ("hardtanh", (numpy.zeros(3, "float32"), 1.0, 0.0)),
        ("layer_norm", (numpy.zeros((2, 3), "float32"), 4)),
        ("group_norm", (numpy.zeros((2, 3), "float32"), 2)),
        ("batch_norm", (numpy.zeros((2, 3), "float32"), numpy.zeros(2, "float32"))),
        ("cross_entropy", (numpy.zeros((2, 3), "float32"), numpy.zeros(3, "int64"))),
        ("mse_loss", (numpy.zeros(3, "float32"), numpy.zeros(2, "float32"))),
        ("dropout", (numpy.zeros(3, "float32"), 2.0, numpy.random.default_rng(0))),
        ("linear_activation", (numpy.zeros((2, 3), "float32"), numpy.zeros((4, 2), "float32"), None, "relu")),
        ("sgd_update", (numpy.zeros(3, "float32"), numpy.zeros(2, "float32"), None)),
    ],
)
def test_what_kernels_do_not_take_the_formula_refuses(launched, name, arguments):
    options = {"lr": 0.1} if name == "sgd_update" else {}
    engine = Engine("numpy")
    with pytest.raises(Exception) as expected:  # noqa: PT011
        getattr(engine, name)(*arguments, **options)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        OVERRIDES[name](*arguments, **options)
    assert launched == []


def test_gradients_that_do_not_fit_the_storage_are_refused(launched):
    x = numpy.zeros((2, 3), "float32")
    _, cache = FORMULAS["layer_norm"](x, 3, numpy.ones(3, "float32"), numpy.ones(3, "float32"))
    with pytest.raises(ShapeError, match="into"):
        OVERRIDES["layer_norm_backward"](x, cache, into=(numpy.zeros(2, "float32"), None))
    with pytest.raises(DtypeError):
        OVERRIDES["layer_norm_backward"](x.astype("float64"), cache)
    assert launched == []


def test_which_arrays_are_taken():
    assert is_taken(numpy.zeros(3, "float16"), numpy.zeros(2, "float16"))
    assert not is_taken(numpy.zeros(3, "float32"), numpy.zeros(3, "float64"))
    assert not is_taken(numpy.zeros(3, ">f4"))
    assert not is_taken(numpy.zeros((3, 3)).view(numpy.ma.MaskedArray))
    assert not is_taken([1.0])


def test_long_rows_get_more_threads():
    assert [team(1000, columns)[1] for columns in (1, 1024, 1025, 8192, 8193)] == [
        (32, 4),
        (32, 4),
        (256, 1),
        (256, 1),
        (512, 1),
    ]


class OnDevice:
    """A number that is not on the host, and counts how often it is asked for."""

    asked = 0

    def __init__(self, value):
        self.value = value

    def __array_namespace__(self):
        return OnDevice

    def __ne__(self, other):
        return OnDevice(self.value != other)

    __hash__ = None

    def any(self):
        return self

    def tolist(self):
        OnDevice.asked += 1
        return self.value

    def __int__(self):
        OnDevice.asked += 1
        return int(self.value)


def say(found):
    return ValueError(f"found {found}")


def test_what_a_kernel_finds_is_raised_when_somebody_reads_the_checks():
    OnDevice.asked = 0
    with checks_later() as checks:
        later.expect(OnDevice(3), 3, say)
        later.expect(OnDevice(1), 3, say)
    assert OnDevice.asked == 0
    assert [bad.tolist() for bad, _ in checks] == [False, True]
    with pytest.raises(ValueError, match="found 1"):
        checks[1][1]()


def test_what_a_kernel_finds_is_raised_at_once_where_nobody_reads_checks():
    later.expect(OnDevice(3), 3, say)
    with pytest.raises(ValueError, match="found 1"):
        later.expect(OnDevice(1), 3, say)


def test_on_the_host_it_is_raised_at_once():
    with checks_later() as checks, pytest.raises(ValueError, match="found 4"):
        later.expect(numpy.array(4), 3, say)
    assert checks == []
