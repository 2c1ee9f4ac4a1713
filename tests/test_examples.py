"""Every example runs, and says what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PROMISES = {
    "check_your_layer.py": "gradcheck ok",
    "linear_regression.py": "mean squared error on data never seen: 0.01",
    "one_neuron_by_hand.py": "the article's gradient: half_square",
    "read_an_op.py": "softmax",
    "train_digits.py": "accuracy on 360 digits never seen: 9",
}


def test_all_are_listed():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PROMISES)


@pytest.mark.parametrize("name", PROMISES)
def test_example(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert PROMISES[name] in done.stdout
