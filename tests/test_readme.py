"""Every Python block in the README runs and prints what its comments say."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def promised(block):
    """Return the output that a block promises: the comments behind its prints, and comments that have lines of their own."""
    found = []
    for line in block.splitlines():
        if line.startswith("print("):
            found.append(line.rpartition("  # ")[2])
        elif line.startswith("# "):
            found.append(line[2:])
    return " ".join(" ".join(found).split())


def output(block):
    """Run a block; return what it prints and the error that it ends with, as one line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(block, str(README), "exec"), {"__name__": "readme"})
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    return " ".join(printed.getvalue().split())


def test_there_are_blocks_and_each_promises_something():
    assert len(BLOCKS) >= 3
    assert all(promised(block) for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1])
def test_block(block):
    assert output(block) == promised(block)
