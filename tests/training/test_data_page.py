"""What docs/training_data.md shows runs, and its claims hold."""

from pathlib import Path

import pytest
from pages import blocks

PAGE = Path(__file__).parents[2] / "docs" / "training_data.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the docs are not beside the tests")
def test_every_block_runs():
    found, names = blocks(PAGE), {"__name__": "page"}
    assert len(found) == 6
    for block in found:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["model"].history.epoch == [0, 1]
