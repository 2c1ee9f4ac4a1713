"""What `import minidl` loads, and what it offers."""

import inspect
import sys

import pytest
from fresh_python import run

import minidl as dl
from minidl import layers, optim
from minidl.errors import MissingDependencyError


def test_importing_loads_no_room_and_no_library():
    code = "import sys; before = set(sys.modules); import minidl; print(*sorted(set(sys.modules) - before))"
    loaded = run(code).split()
    assert [name for name in loaded if name.startswith("minidl")] == ["minidl"]
    assert not {"numpy", "tqdm", "urllib", "cupy", "safetensors"} & set(loaded)


def test_a_layer_needs_neither_data_nor_training_nor_a_progress_bar():
    code = "import sys, minidl; minidl.Linear(2, 1); minidl.SGD; print(*sorted(sys.modules))"
    loaded = set(run(code).split())
    assert "minidl.layers.linear" in loaded
    assert not {"minidl.data", "minidl.training", "minidl.testing", "minidl.cli", "tqdm", "urllib.request"} & loaded


def test_the_first_operation_already_runs_on_the_default_engine():
    code = """
import sys, numpy, minidl
minidl.ops.relu(numpy.ones(3))
print("minidl.engines" in sys.modules, minidl.engines.current().name)
"""
    assert run(code).split() == ["True", dl.engines.current().name]


def test_every_layer_loss_and_optimiser_is_reachable_by_name():
    for name in layers.__all__:
        if name[0].isupper():
            assert getattr(dl, name) is getattr(layers, name)
    for name in ("SGD", "Adam", "AdamW", "Adagrad", "RMSprop"):
        assert getattr(dl, name) is getattr(optim, name)
    assert {"Linear", "CrossEntropyLoss", "Adam", "Sequential", "gradcheck", "inference", "ops", "use"} <= set(dir(dl))
    assert set(dl.__all__) <= set(dir(dl))
    assert all(hasattr(dl, name) for name in dl.__all__)


def test_every_layer_class_is_exported():
    """A layer that is written and not exported would be found by nobody."""
    found = set()
    for module in vars(layers).values():
        if inspect.ismodule(module) and module.__name__.startswith("minidl.layers."):
            found |= {name for name in getattr(module, "__all__", ()) if name[0].isupper()}
    internal = {
        "Affine",
        "AffineOfDense",
        "Branches",
        "FirstTrained",
        "KeyValues",
        "OpLayer",
        "Shape",
        "Steps",
        "Storage",
    }
    fusion = set(layers.fusion.__all__)
    assert found - internal - fusion <= set(layers.__all__)


def test_what_does_not_exist_is_an_attribute_error():
    for name in ("Linaer", "linear", "flatten", "Steps"):
        assert not hasattr(dl, name)


def test_neighbours_that_are_missing_are_named_with_the_extra_that_installs_them():
    code = """
import importlib, sys
for name in ("sklearn", "torch", "optuna", "arrow", "frames"):
    sys.modules[{"arrow": "pyarrow", "frames": "narwhals"}.get(name, name)] = None
    try:
        importlib.import_module(f"minidl.interop.{name}")
    except ImportError as error:
        print(type(error).__name__, error)
"""
    assert run(code).splitlines() == [
        "MissingDependencyError minidl.interop.sklearn needs the package scikit-learn>=1.6; install it with: "
        "pip install 'minidl[sklearn]'",
        "MissingDependencyError minidl.interop.torch needs the package torch; install it with: "
        "pip install 'minidl[torch]'",
        "MissingDependencyError minidl.interop.optuna needs the package optuna>=4; install it with: "
        "pip install 'minidl[tune]'",
        "MissingDependencyError minidl.interop.arrow needs the package pyarrow>=14; install it with: "
        "pip install 'minidl[frames]'",
        "MissingDependencyError minidl.interop.frames needs the package narwhals>=1.30; install it with: "
        "pip install 'minidl[frames]'",
    ]


def test_a_server_without_its_packages_names_the_extra(monkeypatch):
    for package in ("starlette", "uvicorn"):
        monkeypatch.setitem(sys.modules, package, None)
    model = dl.Linear(2, 1)
    for start, package in ((dl.interop.serving.make_app, "starlette"), (dl.interop.serving.serve, "uvicorn")):
        with pytest.raises(MissingDependencyError, match=rf"needs the package {package}; .* 'minidl\[serve\]'"):
            start(model)
