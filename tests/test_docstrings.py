"""Docstrings that neither ruff nor numpydoc looks at: swallowed headings, summaries, and the equations of the ops."""

import ast
import inspect
import itertools
import re
from pathlib import Path

import pytest

import minidl
from minidl.ops import FORMULAS
from minidl.testing import SPECS

ROOT = Path(minidl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
HEADINGS = (
    "Parameters", "Attributes", "Methods", "Returns", "Yields", "Other Parameters", "Raises", "Warns", "Warnings", "See Also",
    "Notes", "References", "Examples",
)  # fmt: skip


def docstrings(source):
    """Yield (name, whether it is a function, docstring) of everything in a module that has one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            yield getattr(node, "name", "the module"), isinstance(node, ast.FunctionDef), ast.get_docstring(node)


def problems(source):
    """Return what is wrong with the docstrings of a module."""
    found = []
    for name, function, text in docstrings(source):
        lines = ["", *text.splitlines()]
        for before, line in itertools.pairwise(lines):
            underline = set(line) == {"-"}
            in_place = before in HEADINGS and len(before) == len(line)
            if (underline and not in_place) or re.search(rf"({'|'.join(HEADINGS)}) ---", line):
                found.append(f"{name}: a heading is lost in {line!r}")
            if before in HEADINGS and not underline:
                found.append(f"{name}: {before!r} is not underlined")
        if function and not re.match(r"[A-Z][A-Za-z-]+[ ,:.]", text):
            found.append(f"{name}: the summary should begin with a verb: {lines[1]!r}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_headings_and_summaries(path):
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Check.\n\n    Notes ----- A layer is checked.", "a heading is lost in 'Notes ----- A layer is checked.'"),
        ("Check.\n\n    Notes\n    A layer is checked.", "'Notes' is not underlined"),
        ("Check.\n\n    Note\n    ----\n    A layer is checked.", "a heading is lost in '----'"),
        ("Max(x, 0).", "the summary should begin with a verb: 'Max(x, 0).'"),
        ("X times the normal.", "the summary should begin with a verb: 'X times the normal.'"),
        ("(p - t)^2.", "the summary should begin with a verb: '(p - t)^2.'"),
    ],
)
def test_what_was_found_broken_once_would_be_found_again(text, problem):
    assert problems(f'def f():\n    """{text}\n    """\n') == [f"f: {problem}"]


def equations(function):
    """Return the lines of the first literal block of a docstring: what follows ``::``, indented."""
    _, found, rest = inspect.getdoc(function).partition("::\n\n")
    lines = re.match(r"(?:    .*\n?)*", rest)[0].splitlines() if found else []
    return [line.strip() for line in lines]


@pytest.mark.parametrize("name", SPECS)
def test_docstrings_of_ops_open_with_their_equations(name):
    forward, backward = equations(FORMULAS[name]), equations(FORMULAS[f"{name}_backward"])
    assert re.match(r"(y|l)(_\w+)? = ", forward[0])
    for argument, line in zip(SPECS[name].differentiable, backward, strict=True):
        assert re.match(rf"d{argument}(_[a-z]+)? = ", line)


def documented(cls):
    """Return the parameters that a class's own docstring lists, in order, or None if it lists none."""
    _, found, rest = inspect.cleandoc(cls.__doc__).partition("Parameters\n----------\n")
    if not found:
        return None
    section = re.split(r"\n\n(?=\w[\w ]*\n-+\n)", rest)[0]
    return [
        name
        for line in re.findall(r"^(\*?\*?\w[\w, *]*?)(?: :.*)?$", section, re.MULTILINE)
        for name in line.split(", ")
    ]


def test_classes_document_the_parameters_that_they_have():
    """So that numpydoc, which reads the text of a class only, may be told to overlook a constructor that is inherited."""
    checked = 0
    for room in (minidl.layers, minidl.models, minidl.optim, minidl.training, minidl.data, minidl.metrics, minidl.text):
        for name in room.__all__:
            cls = getattr(room, name)
            if isinstance(cls, type) and cls.__doc__ and (found := documented(cls)) is not None:
                signature = inspect.signature(cls).parameters.values()
                stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
                assert found == [stars.get(p.kind, "") + p.name for p in signature], name
                checked += 1
    assert checked > 30
