"""What docs/fine_tuning.md shows runs, and prints what its comments say."""

from pathlib import Path

import pytest
from pages import blocks, output, promised

PAGE = Path(__file__).parents[2] / "docs" / "fine_tuning.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the docs are not beside the tests")
def test_every_block_prints_what_it_promises():
    pytest.importorskip("safetensors")
    found, names = blocks(PAGE), {"__name__": "page"}
    assert len(found) >= 12
    for block in found:
        assert output(block, names) == promised(block)
