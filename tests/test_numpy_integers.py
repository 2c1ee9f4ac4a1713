"""Sizes and counts computed with NumPy are ``numpy.int64``: whatever is public and takes an int takes them too.

Numbers that make no sense, or are too large, end in one of our errors. Those of the ops are in tests/ops/test_odd_scalars.py.
"""

import inspect
import re

import numpy
import pytest

import minidl as dl
from minidl.data import augment

ROOMS = [dl.layers, dl.models, dl.optim, dl.metrics, dl.training, dl.data, augment]
X, LABELS = numpy.linspace(0, 1, 24).reshape(8, 3), numpy.arange(8) % 3
VALUES = {  # what an argument is given that has no default, or whose default is no int
    "T_0": 3,
    "T_max": 3,
    "alpha": 0.5,
    "arrays": X,
    "axis": 1,
    "blocks": [1, 1],
    "classes": 3,
    "dilation": 2,
    "categories": {1: 3},
    "columns": 3,
    "data": X,
    "dim": 1,
    "function": print,
    "epochs": 3,
    "expand_ratio": 2,
    "groups": 2,
    "head_dim": 2,
    "hidden_features": 6,
    "in_channels": 4,
    "hidden_size": 3,
    "in_features": 4,
    "input_shape": 4,
    "input_size": 3,
    "items": 9,
    "k": 2,
    "kernel_size": 3,
    "labels": LABELS,
    "kdim": 3,
    "lr": 0.1,
    "max_len": 6,
    "max_lr": 0.1,
    "milestones": [2, 3],
    "n_informative": 2,
    "nhead": 2,
    "normalized_shape": 4,
    "d_model": 4,
    "embed_dim": 4,
    "embedding_dim": 4,
    "num_channels": 4,
    "num_classes": 3,
    "num_embeddings": 5,
    "num_features": 4,
    "num_groups": 2,
    "num_heads": 2,
    "num_kv_heads": 1,
    "out_channels": 8,
    "out_features": 3,
    "padding": 1,
    "patience": 2,
    "shape": (3, 4),
    "size": 3,
    "sizes": [4, 3, 2],
    "step_size": 2,
    "steps_per_epoch": 2,
    "source_vocabulary": 9,
    "stride": 2,
    "target_vocabulary": 8,
    "test_size": 2,
    "train_size": 3,
    "unflattened_size": [1, 3],
    "units": 3,
    "users": 4,
    "vdim": 5,
    "vocabulary_size": 9,
    "widths": [8, 16],
    "y_pred": LABELS,
    "y_score": X,
    "y_true": LABELS,
}
SIZES = {"kernel_size", "stride", "padding", "dilation", "groups", "input_shape", "axis", "patience"}
ELSEWHERE = {  # tested with the room's own tests, or no int of the caller's
    "LoRALinear",
    "add_lora",
    "LambdaLR",
    "LearningRateScheduler",
    "NegativeSampling",
    "Parallel",
    "RotaryPositions",
    "SequentialLR",
    "TransformerDecoder",
    "TransformerEncoder",
    "Summary",
    "Table",
    "calibration_error",
    "draw_worst_mistakes",
    "ndcg",
    "make_shapes",
    "mean_average_precision",
    "read_csv",
    "read_idx",
    "recall_at_k",
    "small_vgg",
    "vgg",
    "mobilenet_v2",
    "resnet18",
}


def takers():
    """Yield everything public that takes an int, with the names of its arguments that may be given."""
    for room in ROOMS:
        for name in room.__all__:
            found = getattr(room, name)
            if name in ELSEWHERE or not callable(found):
                continue
            parameters = inspect.signature(found).parameters.values()
            wanted = [p for p in parameters if "int" in str(p.annotation).replace("integer", "") or p.name in SIZES]
            needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
            if wanted:
                yield pytest.param(found, wanted, needed, id=f"{room.__name__}.{name}")


def value_of(parameter, default):
    if parameter.name == "optimizer":
        return dl.SGD(dl.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)
    value = VALUES.get(parameter.name, default)
    return default if isinstance(value, list) and str(parameter.annotation) == "int" else value


def in_numpy(value):
    """Return the value with numpy.int64 for every int."""
    if isinstance(value, list):
        return [in_numpy(item) for item in value]
    return numpy.int64(value) if type(value) is int else value


def shown(found):
    """Return what is shown of an object, without the type of its integers and how its lines are broken."""
    return re.sub(r"\s|,(?=\s*\))", "", re.sub(r"np\.int64\((-?\d+)\)", r"\1", repr(found)))


@pytest.mark.parametrize(("taker", "wanted", "needed"), list(takers()))
def test_sizes_may_be_numpy_integers(taker, wanted, needed):
    arguments = {p.name: value_of(p, None) for p in needed}
    assert not any(value is None for value in arguments.values()), f"give VALUES a value for one of {list(arguments)}"
    for parameter in wanted:
        value = value_of(parameter, parameter.default)
        if value is not parameter.empty and value is not None:
            arguments.setdefault(parameter.name, value)
    if "test_size" in arguments:
        arguments = {"test_size": 2}
    more = (X,) if arguments.keys() & {"test_size", "batch_size"} else ()
    dl.seed(0)
    try:
        plain = taker(*more, **arguments)
    except dl.errors.MissingDependencyError as error:  # an extra's, such as that of MPI
        pytest.skip(str(error))
    dl.seed(0)
    found = taker(*more, **{name: in_numpy(value) for name, value in arguments.items()})
    if isinstance(plain, (dl.layers.Layer, float)):
        assert shown(found) == shown(plain)
    assert type(found) is type(plain)


def test_other_places():
    n = numpy.int64
    model = dl.Sequential(dl.Linear(n(4), n(3)))
    model.compile("sgd", "mse")
    x, y = numpy.ones((8, 4)), numpy.ones((8, 3))
    model.fit(x, y, n(4), n(2), n(0), initial_epoch=n(1), seed=n(3), validation_data=(x, y), steps_per_epoch=n(2))
    assert model.evaluate(x, y, n(4), n(0)) >= 0
    assert model.predict(x, n(3)).shape == (8, 3)
    assert model[n(0)] is model.layers[0]
    dl.seed(n(1))
    before = dl.get_num_threads()
    dl.set_num_threads(n(before))
    assert dl.get_num_threads() == before
    lazy = dl.Sequential(dl.Dense(n(2)))
    lazy.build(n(4))
    assert lazy.input_shape == (4,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: dl.Dense(True),
        lambda: dl.Dense(numpy.float64(3)),
        lambda: dl.Conv2d(1, True, 3),
        lambda: dl.Conv2d(1, 2.0, 3),
        lambda: dl.metrics.TopKAccuracy(numpy.bool_(True)),
        lambda: dl.training.EarlyStopping(patience=numpy.float32(2)),
        lambda: dl.Dense(3, input_shape=4.0),
        lambda: dl.Dense(3, input_shape="4"),
        lambda: dl.Sequential(dl.Dense(3)).build(None),
        lambda: dl.Sequential(dl.Dense(3)).build((3, None)),
    ],
)
def test_what_is_no_integer(make):
    with pytest.raises(dl.MinidlError):
        make()


# numbers that make no sense ---------------------------------------------------------------------------------------------

ODD = [
    2**62,
    2**63,
    10**400,
    -1,
    -(2**70),
    float("nan"),
    float("inf"),
    1e300,
    1.5,
    1j,
    "x",
    numpy.int64(2**62),
    numpy.float32("nan"),
    [1, "a"],
    numpy.array([1.5, 2]),
    {},
    object(),
]
SLOW = {"vgg", "mobilenet_v2", "resnet18"}
"""Whose parameters are made before the argument is looked at; the same checks are made by their parts."""


def values_of(parameters):
    """Return a value for each argument that has no default, or None where one is not known."""
    given = {}
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            if parameter.name == "optimizer":
                given[parameter.name] = dl.SGD(dl.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)
            elif parameter.name in ("parameters", "params"):
                given[parameter.name] = dl.Linear(2, 2).parameters()
            elif parameter.name in VALUES:
                given[parameter.name] = VALUES[parameter.name]
            else:
                return None
    return given


def takers_of_numbers():
    for room in (*ROOMS, dl.init, dl.engines, dl.engines.native):
        for name in room.__all__:
            found = getattr(room, name)
            if not callable(found) or name in SLOW or isinstance(found, type(numpy)):
                continue
            try:
                parameters = list(inspect.signature(found).parameters.values())
            except ValueError:
                continue
            wanted = [p.name for p in parameters if re.search(r"\b(int|float)\b", str(p.annotation)) or p.name in SIZES]
            if wanted and values_of(parameters) is not None:
                yield pytest.param(found, parameters, wanted, id=f"{room.__name__}.{name}")


TAKERS = list(takers_of_numbers())


def test_most_takers_are_found():
    assert len(TAKERS) > 80
    assert not SLOW - ELSEWHERE


@pytest.mark.parametrize(("taker", "parameters", "wanted"), TAKERS)
def test_errors_of_odd_numbers_are_ours(taker, parameters, wanted):
    before = dl.get_num_threads()
    problems = []
    for name in wanted:
        for odd in ODD:
            try:
                with numpy.errstate(all="ignore"):  # 1e300 in float32 is inf, which NumPy says
                    taker(**{**values_of(parameters), name: odd})
            except (dl.MinidlError, MemoryError):
                pass
            except Exception as error:
                problems.append(f"{name}={odd!r:.20}: {type(error).__name__}: {error}")
    dl.set_num_threads(before)
    if dl.engines.engines()["native"].available:
        dl.engines.native.set_memory_limit(1 << 30)
    assert problems == []
