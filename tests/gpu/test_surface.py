"""Rung a: every name of CuPy that the package spells, and every keyword it is given, exists in the pinned CuPy.

The array double finds this too, where a test runs the line. This reads the text of every line.
"""

import ast
from pathlib import Path

import pytest
from array_double import SURFACE, parsed

import minidl

pytestmark = pytest.mark.gpu_surface

FOLDER = Path(minidl.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
NAMES = {"xp", "cupy", "cp"}
"""What a namespace that may be CuPy's is called."""
NOT_CUPY = {"engines/base.py"}
"""Where xp may be the namespace of the host alone."""


def chain(node):
    """Return the names of an attribute such as self.xp.linalg.norm, or None."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return [node.id, *names[::-1]]
    call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "namespace"
    return ["xp", *names[::-1]] if call else None


def of_cupy(names):
    """Return the part behind the namespace, or None if there is no such namespace."""
    for place in range(min(2, len(names) - 1)):
        if names[place].lstrip("_") in NAMES:
            return names[place + 1 :]
    return None


def uses(tree):
    """Yield (line, names behind the namespace, the call or None) for everything that is asked of CuPy."""
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            names = of_cupy(chain(node) or [])
            if names and not names[0].startswith("_"):
                yield node.lineno, names, called.get(id(node))


def complaint(names, call):
    """Return what is wrong with a use, or an empty string."""
    module = "cupy"
    while names and f"{module}.{names[0]}" in SURFACE and len(names) > 1:
        module, names = f"{module}.{names[0]}", names[1:]
    entries = SURFACE[module]
    if names[0] not in entries:
        return f"{module} has no {names[0]}"
    _, *signature = entries[names[0]]
    if len(names) > 1 or call is None or not signature or signature[0] is None:
        return ""
    known = parsed(signature[0]).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in known):
        return ""
    named = {p.name for p in known}
    odd = [k.arg for k in call.keywords if k.arg is not None and k.arg not in named]
    many = not any(p.kind is p.VAR_POSITIONAL for p in known) and len(call.args) > len(known)
    starred = any(isinstance(a, ast.Starred) for a in call.args)
    return f"{module}.{names[0]}({signature[0]}) is given {odd or 'too much'}" if odd or (many and not starred) else ""


def test_every_name_and_keyword_exists():
    found, count = [], 0
    for path in FILES:
        for line, names, call in uses(ast.parse(path.read_text())):
            count += 1
            problem = complaint(names, call)
            if problem:
                found.append(f"{path.relative_to(FOLDER)}:{line}: {problem}")
    assert found == []
    assert count > 400, "the search for names found too little to be right"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("xp.nanargsort(x)", "cupy has no nanargsort"),
        ("namespace(x).linalg.cholesky_inverse(x)", "cupy.linalg has no cholesky_inverse"),
        ("self.xp.sum(x, where=m)", "given ['where']"),
        ("self._xp.cuda.Strom()", "cupy.cuda has no Strom"),
        ("xp.sum(x, axis=0)", ""),
        ("xp.cuda.runtime.getDeviceCount()", ""),
    ],
)
def test_it_finds_what_is_wrong(text, problem):
    [(_, names, call)] = list(uses(ast.parse(text)))
    assert (problem in complaint(names, call)) if problem else complaint(names, call) == ""
