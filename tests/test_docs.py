"""The pages: their links and file names resolve, their lines are short, and the front page leads to all of them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [
    path
    for folder in ("minidl", "csrc", "benchmarks", "examples", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".pxi", ".pyx", ".c", ".h"} and path.name != "native.c"  # Cython's output
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:csrc|minidl|tests|benchmarks|examples|docs)/[\w./]+\.\w+|\.ci/\w+)`")
WIDTH = 120


def name(path):
    return str(path.relative_to(ROOT))


def prose(text):
    """Yield the numbers and texts of the lines outside fenced and indented code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, line


def anchors(path):
    """Return the anchors that GitHub makes of a page's headings."""
    headings = [line.lstrip("#") for _, line in prose(path.read_text(encoding="utf-8")) if re.match("#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def targets(path):
    """Return the places in this repository that a page links to."""
    text = "\n".join(line for _, line in prose(path.read_text(encoding="utf-8")))
    return [target for target in LINK.findall(text) if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    for target in targets(page):
        place, _, anchor = target.partition("#")
        there = (page.parent / place).resolve() if place else page
        assert there.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{name(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_named_exist(page):
    made = {"minidl/native_missing.txt"}  # by an install without a compiler
    named = set(FILE.findall(page.read_text(encoding="utf-8"))) - made
    assert not [file for file in sorted(named) if not (ROOT / file).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_of_prose_are_short(page):
    lines = prose(page.read_text(encoding="utf-8"))
    assert not [number for number, line in lines if len(line) > WIDTH and not line.startswith("|")]


def test_pages_named_in_the_sources_exist():
    for path in [*SOURCES, ROOT / "pyproject.toml"]:
        for page in re.findall(r"\bdocs/[\w/]+\.md\b", path.read_text(encoding="utf-8")):
            assert (ROOT / page).exists(), f"{name(path)} names {page}"


def test_the_front_page_leads_to_every_page():
    front = ROOT / "docs" / "index.md"
    reached = {(front.parent / target.partition("#")[0]).resolve() for target in targets(front)}
    assert not [name(page) for page in PAGES if page != front and page not in reached]


def test_the_readme_opens_with_the_two_commands():
    first, second = re.findall(r"^```sh\n(.*)\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)[:2]
    assert "pip install" in first
    assert first.endswith("minidl demo")
    assert "pip install" in second
    assert second.endswith("pytest -q -n 2")
