"""The arrows between the rooms point one way."""

import ast
from pathlib import Path

import pytest

import minidl

ROOT = Path(minidl.__file__).parent
# Each room may import itself, those before it, and `errors`. Rooms in one set do not know each other.
LEVELS = [
    {"errors"},
    {"random", "ops"},
    {"init", "engines", "arrays"},
    {"weights"},
    {"layers"},
    {"optim", "metrics", "data", "attribution"},
    {"training"},
    {"models", "text"},
    {"testing", "inspection"},
    {"interop"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path):
    """All rooms that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "minidl":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minidl."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import"
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("minidl."))


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_imports_upward(path):
    room = room_of(path)
    assert room in LEVEL, f"{room} is a new room: give it its level"
    for other in imported_rooms(path):
        if other == room:
            continue
        assert other in LEVEL, f"{path} imports {other}"
        assert LEVEL[other] < LEVEL[room], f"{room} must not import {other}"


def test_ops_knows_only_errors():
    for path in (ROOT / "ops").rglob("*.py"):
        assert set(imported_rooms(path)) <= {"ops", "errors"}


def test_only_the_native_engine_knows_the_extension():
    users = [path for path in FILES if "minidl._native" in path.read_text()]
    assert users == [ROOT / "engines" / "native.py"]
