"""Rounding to bfloat16, products in it, and weights stored in it, against PyTorch."""

import numpy
import pytest

import minidl as dl
from minidl.ops.precision import round_to_bfloat16
from minidl.ops.stored import restore_weight, store_weight

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


def test_every_kind_of_number_is_rounded_alike():
    random = numpy.random.default_rng(0)
    bits = random.integers(0, 2**32, 200_000, dtype=numpy.uint32)
    bits[::2] &= 0xFFFF8000  # half of these are ties
    x = bits.view("float32")
    theirs = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    ours = round_to_bfloat16(x)
    numpy.testing.assert_array_equal(ours, theirs)
    finite = numpy.isfinite(ours)
    numpy.testing.assert_array_equal(numpy.signbit(ours[finite]), numpy.signbit(theirs[finite]))


def test_a_linear_layer_and_its_gradients():
    """PyTorch rounds results to bfloat16 too, so they differ by that: 2^-8 of each number, and a little of its sum."""
    random = numpy.random.default_rng(0)
    x, weight, dy = (random.standard_normal(shape, dtype="f") for shape in ((64, 100), (30, 100), (64, 30)))
    with dl.matmul_precision("bfloat16"):
        y, cache = dl.ops.linear(x, weight)
        found = [y, *dl.ops.linear_backward(dy, cache)[:2]]
    inputs, weights = (torch.from_numpy(a).requires_grad_() for a in (x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        result = torch.nn.functional.linear(inputs, weights)
    assert result.dtype == torch.bfloat16
    result.backward(torch.from_numpy(dy).to(torch.bfloat16))
    for ours, theirs in zip(found, (result, inputs.grad, weights.grad), strict=True):
        theirs = theirs.detach().float().numpy()
        numpy.testing.assert_allclose(ours, theirs, rtol=2.0**-8, atol=1e-5 * abs(theirs).max())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_stored_weights_are_those_of_pytorch(dtype):
    weight = numpy.random.default_rng(0).standard_normal((30, 100), dtype="f")
    theirs = torch.from_numpy(weight).to(getattr(torch, dtype)).float().numpy()
    numpy.testing.assert_array_equal(restore_weight(*store_weight(weight, dtype)), theirs)
