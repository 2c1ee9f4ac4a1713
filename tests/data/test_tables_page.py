"""What docs/tables.md shows runs and prints what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the docs are not beside the tests")
def test_every_block_runs():
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    assert len(blocks) == 7
    names, printed = {"__name__": "page"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    shown = re.search(r"^```text\n(.*?)^```", text, flags=re.M | re.S)[1]
    assert printed.getvalue().startswith(shown)
    assert "pass decimal=','" in printed.getvalue()
    assert "-1.22474" in printed.getvalue()
