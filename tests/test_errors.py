"""Bad input gets a clear error from minidl.errors at the call that caused it."""

import numpy
import pytest

import minidl as dl
from minidl import errors
from minidl.engines.compositions import FUSIBLE

ENGINES = [name for name, status in dl.engines().items() if status and name != "cupy"]


@pytest.fixture(params=ENGINES)
def engine(request):
    with dl.use(request.param) as engine:
        yield engine


def test_each_error_is_also_what_a_caller_would_expect():
    expected = {
        errors.ShapeError: ValueError,
        errors.DtypeError: TypeError,
        errors.TargetError: ValueError,
        errors.DataError: ValueError,
        errors.OrderError: RuntimeError,
        errors.NotBuiltError: RuntimeError,
        errors.ParameterError: ValueError,
        errors.UnknownNameError: ValueError,
        errors.EngineError: RuntimeError,
        errors.MissingDependencyError: ImportError,
        errors.FileFormatError: OSError,
        errors.NonFiniteError: ArithmeticError,
        errors.GradcheckError: AssertionError,
    }
    assert {getattr(errors, name) for name in errors.__all__} == {dl.MinidlError, *expected}
    for error, base in expected.items():
        assert issubclass(error, dl.MinidlError)
        assert issubclass(error, base)


@pytest.mark.parametrize("op", [*FUSIBLE, "softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128", "object"])
def test_activations_want_floats(engine, op, dtype):
    with pytest.raises(errors.DtypeError, match=op):
        getattr(dl.ops, op)(numpy.ones(3).astype(dtype))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dl.ops.softmax(numpy.ones((2, 0))), errors.ShapeError, "empty|nothing"),
        (lambda: dl.ops.softmax(numpy.ones(3), axis=2), errors.ShapeError, "axis"),
        (lambda: dl.ops.linear(numpy.ones((2, 3)), numpy.ones((4, 5))), errors.ShapeError, r"5.*\(2, 3\)|\(2, 3\).*5"),
        (lambda: dl.ops.matmul(numpy.ones((2, 3)), numpy.ones((2, 3))), errors.ShapeError, "matmul"),
        (lambda: dl.ops.mse_loss(numpy.ones((3, 1)), numpy.ones((1, 3))), errors.ShapeError, r"\(3, 1\).*\(1, 3\)"),
        (lambda: dl.ops.mse_loss(numpy.ones(0), numpy.ones(0)), errors.ShapeError, "empty"),
        (lambda: dl.ops.mse_loss(numpy.ones(2), numpy.ones(2), "average"), errors.ParameterError, "mean, sum, none"),
        (lambda: dl.ops.cross_entropy(numpy.ones((2, 3)), numpy.array([0, 3])), errors.TargetError, "3.*0 to 2"),
        (lambda: dl.ops.cross_entropy(numpy.ones((2, 3)), numpy.array([0.0, 1.0])), errors.TargetError, "int"),
        (lambda: dl.ops.cross_entropy(numpy.ones((0, 3)), numpy.zeros(0, int)), errors.ShapeError, "empty"),
        (lambda: dl.ops.dropout(numpy.ones(3), 1.5, numpy.ones(3, bool)), errors.ParameterError, "probability|0 to 1"),
        (lambda: dl.ops.dropout(numpy.ones(3), 0.5), errors.MinidlError, "random|mask"),
        (lambda: dl.ops.gelu(numpy.ones(3), "fast"), errors.ParameterError, "none.*tanh"),
    ],
)
def test_ops_say_what_is_wrong(engine, call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_engines_that_cannot_be_used():
    with pytest.raises(errors.UnknownNameError, match="known: cupy, native, numpy"):
        dl.use("abacus")
    if not dl.engines()["cupy"]:
        with pytest.raises(errors.EngineError, match="cannot be used here: .+"):
            dl.use("cupy")


def test_a_with_block_gives_the_engine_back():
    before = dl.engines.current()
    with dl.use("numpy") as engine:
        assert dl.engines.current() is engine
        with pytest.raises(ZeroDivisionError), dl.use("numpy"):
            _ = 1 / 0
        assert dl.engines.current() is engine
    assert dl.engines.current() is before


def test_importing_minidl_imports_no_optional_package():
    import subprocess
    import sys

    code = "import sys, minidl; print([m for m in ('cupy', 'torch', 'safetensors', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"
