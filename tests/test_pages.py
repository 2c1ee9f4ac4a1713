"""The pages whose every block runs, and prints what its comments say."""

from pathlib import Path

import pytest
from pages import blocks, output, promised

DOCS = Path(__file__).parents[1] / "docs"
LEAST = {
    "attention": 6,
    "checkpoints": 3,
    "decisions": 4,
    "fine_tuning": 12,
    "frames": 2,
    "layers": 10,
    "recurrent": 7,
    "scikit_learn": 2,
    "text": 8,
    "torch": 2,
    "tuning": 1,
    "watching": 2,
}
"""How many blocks a page has at least: a page in which none is found proves nothing."""


@pytest.mark.skipif(not DOCS.exists(), reason="the docs are not beside the tests")
@pytest.mark.parametrize("page", LEAST)
def test_every_block_prints_what_it_promises(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page in ("checkpoints", "fine_tuning"):
        pytest.importorskip("safetensors")
    if page == "scikit_learn":
        pytest.importorskip("sklearn", minversion="1.6")
    for package in {"torch": ["torch"], "tuning": ["optuna"], "frames": ["narwhals", "pyarrow", "pandas"]}.get(
        page, ()
    ):
        pytest.importorskip(package)
    found, names = blocks(DOCS / f"{page}.md"), {"__name__": "page"}
    assert len(found) >= LEAST[page]
    for block in found:
        assert output(block, names) == promised(block)
    if "folder" in names:
        names["folder"].cleanup()
