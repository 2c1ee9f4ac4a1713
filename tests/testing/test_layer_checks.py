"""Checking a layer that lives in a file, and the rules that a layer keeps besides a right gradient."""

import numpy
import pytest

import minidl as dl
from minidl.engines.compositions import FUSIBLE
from minidl.errors import DataError, GradcheckError, ParameterError, ShapeError, UnknownNameError
from minidl.testing import check_layer, check_object

SOURCE = """
import numpy
from minidl import Parameter
import neighbour

class Twice:
    def forward(self, x):
        return neighbour.FACTOR * x
    def backward(self, dy):
        return 2 * dy

class Wrong(Twice):
    def backward(self, dy):
        return dy

class Gain:
    def __init__(self, size, bias=False):
        self.weight = Parameter(numpy.linspace(1.0, 2.0, size), name="weight")
        self.bias = bias
    def parameters(self):
        return [self.weight]
    def forward(self, x):
        if x.ndim != 2:
            raise ValueError("wants a matrix")
        self.x = x
        return x * self.weight.value + self.bias
    def backward(self, dy):
        self.weight.accumulate((dy * self.x).sum(axis=0))
        return dy * self.weight.value

class Huge(Twice):
    def forward(self, x):
        raise ValueError("no shape pleases me")

class Squares:
    def forward(self, prediction, target):
        self.difference = prediction - target
        return (self.difference ** 2).sum()
    def backward(self):
        return 2 * self.difference

class Picky(Squares):
    def forward(self, prediction, target):
        if target.dtype.kind != "i":
            raise TypeError("targets are classes")
        return super().forward(prediction, target[:, None])

class Half:
    def forward(self, x):
        return x

ready = Gain(5)

def cube(x):
    return x ** 3, x

def cube_backward(dy, x):
    return 3 * x ** 2 * dy

def product(a, b, scale=1.0):
    return scale * a * b, (a, b)

def product_backward(dy, cache):
    a, b = cache
    return dy * b, dy * a
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "neighbour.py").write_text("FACTOR = 2")
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    "name", ["Twice", "Gain(3)", "Gain(4, bias=True)", "ready", "cube", "product", "Squares", "Picky"]
)
def test_what_is_right_passes(file, name):
    report = check_object(f"{file}:{name}")
    assert report.ok
    assert report.table[0].op == name


def test_what_is_wrong_is_said(file):
    report = check_object(f"{file}:Wrong")
    assert not report.ok
    assert "0.5 times" in report.problems[0]
    with pytest.raises(GradcheckError):
        check_object(f"{file}:Wrong", raise_exception=True)


def test_the_shape_can_be_given(file):
    report = check_object(f"{file}:Twice", (2, 3, 4, 5))
    assert report.table[0].shape == (2, 3, 4, 5)
    assert check_object(f"{file}:Gain(3)", (7, 3)).table[0].shape == (7, 3)
    assert check_object(f"{file}:ready").table[0].shape == (4, 5), "found from its parameters"
    with pytest.raises(ValueError, match="wants a matrix"):
        check_object(f"{file}:Gain(3)", (3,))


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("nothing.py:Layer", DataError, "there is no file"),
        ("{file}", ParameterError, "expected path/to/file.py:NAME"),
        ("{file}:Missing", UnknownNameError, "unknown name in .*; known: .*Gain.*cube"),
        (
            "{file}:Gain",
            ParameterError,
            r"Gain\(size, bias\) cannot be created with these arguments .*'.*:Gain\(3, 2\)'",
        ),
        ("{file}:Gain(1, 2, 3)", ParameterError, "cannot be created"),
        ("{file}:Gain(__import__('os'))", ParameterError, "expected NAME or NAME"),
        ("{file}:Gain(", ParameterError, "expected NAME or NAME"),
        ("{file}:ready(3)", ParameterError, "is not a class"),
        ("{file}:Half", ParameterError, "Half has no backward"),
        (
            "{file}:numpy",
            ParameterError,
            "must be a function or an object with forward and backward, got type module",
        ),
        ("{file}:Huge", ShapeError, "none of the input shapes tried; give its shape .*no shape pleases me"),
    ],
)
def test_errors(file, target, error, message):
    with pytest.raises(error, match=message):
        check_object(target.format(file=file))


def test_a_file_that_cannot_be_imported(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name")
    with pytest.raises(DataError, match=r"cannot be imported: ModuleNotFoundError: .*nothing_of_this_name"):
        check_object(f"{path}:Layer")
    text = tmp_path / "notes.txt"
    text.write_text("no code")
    with pytest.raises(DataError, match="is not a Python file"):
        check_object(f"{text}:Layer")


# check_layer --------------------------------------------------------------------------------------------------------

LAYERS = [
    dl.Linear(4, 2),
    dl.Linear(4, 2, bias=False),
    dl.Dense(3, activation="gelu", input_shape=(4,)),
    *map(dl.layers.activation, FUSIBLE),
    dl.LeakyReLU(0.2),
    dl.Softplus(2.0),
    dl.GELU("tanh"),
    dl.Softmax(),
    dl.LogSoftmax(dim=0),
    dl.Dropout(0.3),
    dl.Dropout(0.3).eval(),
    dl.Flatten(),
    dl.Identity(),
    dl.Sequential([dl.Linear(4, 5), dl.Tanh(), dl.Linear(5, 2)]),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_every_layer_keeps_the_rules(layer, dtype):
    x = numpy.random.default_rng(0).standard_normal((6, 4)).astype(dtype)
    check_layer(layer.to(dtype=dtype), x)


class Identity(dl.Layer):
    def forward(self, x):
        return x

    def backward(self, dy):
        return dy


class Promotes(Identity):
    def forward(self, x):
        return x.astype("float64")


class Promises(Identity):
    def output_shape(self, input_shape):
        return (*input_shape, 1)


class Straight(Identity):
    def forward(self, x):
        return numpy.frombuffer(x.T.base.tobytes() if x.base is not None else x.tobytes(), x.dtype).reshape(x.shape)


class Forgets(Identity):
    def __init__(self):
        super().__init__()
        self.gain = dl.Parameter(numpy.ones(4, "float32"), name="gain")

    def forward(self, x):
        self.x = x
        return x * self.gain.value

    def backward(self, dy):
        self.gain.accumulate((dy * self.x).sum(axis=0))
        return dy * self.gain.value

    def load_state_dict(self, state_dict):
        self.gain.value = self.gain.value * 2


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (Promotes(), "has dtype float64, the input float32"),
        (Promises(), r"has shape \(6, 4\); output_shape promises \(6, 4, 1\)"),
        (Straight(), "depends on the memory layout"),
        (Forgets(), "Saving and loading it changes it"),
    ],
)
def test_what_a_layer_gets_wrong_is_seen(layer, problem):
    x = numpy.random.default_rng(0).standard_normal((6, 4)).astype("float32")
    with pytest.raises(GradcheckError, match=problem):
        check_layer(layer, x)
