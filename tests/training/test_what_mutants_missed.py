"""What no other test of training noticed when tests/mutation.py changed it."""

import numpy

import minidl as dl
from minidl.layers import Layer
from minidl.training import Trainable
from minidl.training.progress import format_logs


class Sum(Trainable, Layer):
    """One affine map of the sum of two inputs, built when it sees the first; remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.head = dl.Dense(1, dtype="float64")
        self.seen = []

    def forward(self, a, b):
        self.seen.append((len(a), a.dtype.name, b.dtype.name))
        return self.head.forward(a + b)

    def backward(self, dy):
        d = self.head.backward(dy)
        return d, d


def test_several_inputs_have_the_dtype_of_a_model_that_they_build():
    """Which dtype that is shows only once it is built, so one example goes first."""
    model, x = Sum(), numpy.array([[0.1], [0.2], [0.3]])
    model.compile("sgd", "mse")
    model.fit((x, x), numpy.zeros(3), batch_size=3, epochs=2, verbose=0)
    batches = [dtypes for length, *dtypes in model.seen if length == 3]
    assert batches == [["float64", "float64"]] * 2


def test_numbers_are_shown_with_four_decimals_from_a_thousandth_to_ten_thousand():
    text = format_logs({"a": 1e-3, "b": 9.99e-4, "c": -1e-3, "d": 9999.0, "e": 1e4})
    assert text == "a: 0.0010 - b: 9.990e-04 - c: -0.0010 - d: 9999.0000 - e: 1.000e+04"
