"""What docs/training_data.md shows runs, and its claims hold."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "training_data.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the docs are not beside the tests")
def test_every_block_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert len(blocks) == 6
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["model"].history.epoch == [0, 1]
