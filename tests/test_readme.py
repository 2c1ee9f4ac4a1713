"""Every Python block in the README runs and prints what its comments say."""

from pathlib import Path

import pytest
from pages import blocks, output, promised

BLOCKS = blocks(Path(__file__).parents[1] / "README.md")


def test_there_are_blocks_and_each_promises_something():
    assert len(BLOCKS) >= 3
    assert all(promised(block) for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1])
def test_block(block):
    assert output(block, {"__name__": "readme"}) == promised(block)
