"""A training that goes on from a checkpoint ends with the bits of one that never stopped, wherever it was stopped."""

import functools
import json
import os
import random as python_random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from array_double import DoubleEngine

import minidl as dl
from minidl import optim, text, training
from minidl.cli import main
from minidl.errors import FileFormatError, ParameterError
from minidl.training import Callback
from minidl.training.plain_state import Sources

pytest.importorskip("safetensors")

G = numpy.random.default_rng(0)
X = G.normal(size=(26, 4)).astype("float32")
Y = numpy.arange(26) % 3


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """A disk takes milliseconds to confirm what a test of bits need not wait for; one test below looks at who asks it to."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def model_of(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=("accuracy",), last=3):
    dl.seed(0)
    own = dl.Dropout(0.3, generator=numpy.random.default_rng(5))
    model = dl.Sequential(
        [dl.Dense(6, activation="relu"), dl.BatchNorm1d(6), dl.Dropout(0.2), dl.Dense(6), own, dl.Dense(last)]
    )
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


class Averaged(Callback):
    """Averages of the weights, kept by a callback that knows nothing of checkpoints."""

    def __init__(self):
        self.average, self.seen, self.largest = {}, [], (0.0, "nothing")
        self.noise = numpy.random.default_rng(7)

    def on_batch_end(self, step, logs):
        self.seen.append(step)
        self.largest = max(self.largest, (logs["loss"], f"step {step}"))
        for name, value in self.model.state_dict().items():
            self.average[name] = 0.9 * self.average.get(name, value) + 0.1 * value + 1e-3 * self.noise.normal()


class Counts(Callback):
    """A callback with a state of its own, and something in it that is no plain data."""

    def __init__(self):
        self.inner, self.calls = object(), 0

    def on_epoch_end(self, epoch, logs):
        self.calls += 1
        self.model[2].p = 0.2 / (1 + self.calls)  # which the next step depends on
        if self.calls == 2:
            self.model[0].weight.trainable = False

    def state_dict(self):
        return {"calls": self.calls, "best": float("-inf")}

    def load_state_dict(self, state):
        assert state["best"] == float("-inf")
        self.calls = state["calls"]


OTHER = numpy.random.default_rng(9)


def jitter(x, generator, other=OTHER):
    shift = generator.normal() + other.normal() + python_random.gauss(0, 1) + numpy.random.normal()  # noqa: NPY002
    return x + 0.01 * shift


def result(model, history, callbacks=()):
    """Everything that must not differ, as one dict."""
    state = model.state_dict() | {f"optimizer.{k}": v for k, v in model.optimizer.state_dict().items()}
    state["history"] = json.dumps([history.history, history.epoch])
    state["generators"] = repr([dl.random.generator().bit_generator.state, python_random.random(), numpy.random.rand()])  # noqa: NPY002
    for i, callback in enumerate(callbacks):
        if isinstance(callback, Averaged):
            state |= {f"average.{name}": value for name, value in callback.average.items()}
            state["seen"] = repr((callback.seen, callback.largest, callback.noise.normal()))
        elif hasattr(callback, "state_dict"):
            state[f"callback {i}"] = repr(callback.state_dict())
    return state


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        numpy.testing.assert_array_equal(one[name], other[name], err_msg=name)


def everything(folder):
    """Callbacks of every kind, made anew."""
    schedule = training.LearningRateScheduler(lambda epoch, rate: rate * 0.9)
    plateau = training.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1.0)
    stopping = training.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    best = training.ModelCheckpoint(folder / "best.safetensors", save_best_only=True)
    return [schedule, plateau, stopping, best, Averaged(), Counts(), training.CSVLogger(folder / "log.csv")]


def on_disk(tmp_path):
    numpy.save(tmp_path / "x.npy", X)
    return numpy.load(tmp_path / "x.npy", mmap_mode="r"), Y


class Own:
    """Batches by index, whose order its own numbers decide."""

    def __init__(self):
        self.epoch, self.generator = 0, numpy.random.default_rng(4)

    def __len__(self):
        return 5

    def __getitem__(self, i):
        rows = (numpy.arange(6) + i + self.epoch) % 26
        return X[rows] + 1e-3 * self.generator.normal(), Y[rows]

    def on_epoch_end(self):
        self.epoch += 1


def endless():
    generator = numpy.random.default_rng(3)
    while True:
        rows = generator.integers(0, 26, 6)
        yield X[rows], Y[rows]


def sentences():
    return text.PaddedBatches([numpy.arange(3, 6 + i % 4) for i in range(12)], Y[:12], batch_size=4)


KINDS = {
    "everything": {"validation_data": (X[:9], Y[:9]), "augment": jitter, "seed": 1, "data": lambda p: (X, Y)},
    "accumulation": {"gradient_accumulation_steps": 3, "batch_size": 4, "data": lambda p: (X, Y)},
    "an order of its own": {
        "seed": 3,
        "validation_split": 0.2,
        "sample_weight": numpy.ones(26),
        "data": lambda p: (X, Y),
    },
    "no shuffling": {"shuffle": False, "data": lambda p: (X, Y)},
    "an array on disk": {"data": on_disk},
    "epochs of some steps": {"steps_per_epoch": 3, "batch_size": 8, "data": lambda p: (X, Y)},
    "batches by index": {"data": lambda p: (Own(),), "validation_data": "own", "validation_steps": 2},
    "an iterator": {"data": lambda p: (endless(),), "steps_per_epoch": 4},
    "a list of batches": {"data": lambda p: ([(X[i : i + 6], Y[i : i + 6]) for i in range(0, 24, 6)],)},
}


def fit(kind, folder, **more):
    """Train one of the kinds from the beginning or from a checkpoint; return the result."""
    settings = {"epochs": 3, **KINDS[kind]}
    data = settings.pop("data")(folder)
    if settings.get("validation_data") == "own":
        settings["validation_data"] = Own()
    if len(data) == 2 and "batch_size" not in settings:
        settings["batch_size"] = 7
    OTHER.bit_generator.state = numpy.random.default_rng(9).bit_generator.state
    python_random.seed(1)
    numpy.random.seed(1)  # noqa: NPY002
    model = model_of()
    callbacks = everything(folder) if kind == "everything" else []
    dl.seed(1)
    history = model.fit(*data, callbacks=callbacks, **settings, **more)
    found = result(model, history, callbacks)
    if kind == "everything":
        found["csv"] = (folder / "log.csv").read_text()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_every_step_gives_the_same_bits(kind, tmp_path):
    expected = fit(kind, tmp_path)
    kept = tmp_path / "checkpoints"
    assert_same(fit(kind, tmp_path, checkpoint=kept, every=1, keep=100), expected)
    found = sorted(kept.iterdir())
    assert len(found) > 6
    for place in found[1 :: 3 if kind == "everything" else 5]:
        dl.seed(99)  # another process would be in another state
        assert_same(fit(kind, tmp_path, resume=place), expected)


def test_a_schedule_by_batch_and_one_of_the_plateau(tmp_path):
    class Plateau(Callback):
        """PyTorch's habit: a schedule in an attribute."""

        def on_train_begin(self):
            self.schedule = optim.ReduceLROnPlateau(self.model.optimizer, patience=0, threshold=0.5)

        def on_epoch_end(self, epoch, logs):
            self.schedule.step(logs["loss"])

    def run(**more):
        model = model_of(optimizer="sgd")
        model.build((4,))
        schedule = optim.OneCycleLR(model.optimizer, max_lr=0.1, total_steps=30)
        chosen = [Plateau(), training.LearningRateScheduler(schedule, "batch"), training.GradientClipping(0.1)]
        dl.seed(2)
        history = model.fit(X, Y, 7, 4, callbacks=chosen, **more)
        return result(model, history) | {"t": schedule.last_epoch, "rates": repr(schedule.get_last_lr())}

    python_random.seed(1)
    numpy.random.seed(1)  # noqa: NPY002
    expected = run(checkpoint=tmp_path, every=2, keep=100)
    del expected["generators"]
    for place in sorted(tmp_path.iterdir()):
        found = run(resume=place)
        del found["generators"]
        assert_same(found, expected)


def test_metrics_go_on_in_the_middle_of_an_epoch(tmp_path):
    names = ["mae", "r2_score", "root_mean_squared_error"]

    def run(**more):
        model = model_of("mse", "sgd", names, last=1)
        dl.seed(2)
        return result(model, model.fit(X, X[:, 0], 2, 2, **more))["history"]

    expected = run(checkpoint=tmp_path, every=5, keep=100)
    assert {run(resume=place) for place in tmp_path.iterdir()} == {expected}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with one whole checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    model_of().fit(X, Y, 7, 2, checkpoint=folder, keep=1)
    return folder


class TestFolders:
    def fit(self, model=None, epochs=2, **more):
        model = model_of() if model is None else model
        model.fit(X, Y, 7, epochs, **more)
        return model

    def test_the_last_ones_are_kept_and_hold_whole_weights(self, tmp_path):
        model = self.fit(checkpoint=tmp_path, keep=2, epochs=5)
        assert [path.name for path in sorted(tmp_path.iterdir())] == [
            "epoch-00004-step-00000000",
            "epoch-00005-step-00000000",
        ]
        twin = model_of()
        twin.build((4,))
        twin.load(tmp_path / "epoch-00005-step-00000000")
        numpy.testing.assert_array_equal(twin.predict(X), model.predict(X))

    def test_files_and_folders_are_on_the_disk_before_and_after_the_name_is_given(self, tmp_path, monkeypatch):
        events = []
        rename = Path.rename

        def renaming(path, target):
            events.append(("name", path.name if path.is_dir() else "", Path(target).name))
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", lambda d: events.append(("disk", os.fstat(d).st_ino)))
        monkeypatch.setattr(Path, "rename", renaming)
        self.fit(checkpoint=tmp_path, keep=1, epochs=1)
        [place] = tmp_path.iterdir()
        at = next(i for i, event in enumerate(events) if event[0] == "name" and event[2] == place.name)
        before = {event[1] for event in events[:at]}
        assert {path.stat().st_ino for path in [place, *place.iterdir()]} <= before
        assert ("disk", tmp_path.stat().st_ino) in events[at:]

    def test_the_same_call_begins_and_goes_on(self, tmp_path):
        folder = tmp_path / "new" / "folder"
        self.fit(checkpoint=folder, resume=folder, epochs=2)
        model = self.fit(checkpoint=folder, resume=folder, epochs=4)
        assert model.history.epoch == [0, 1, 2, 3]
        before = model.state_dict()
        again = self.fit(checkpoint=folder, resume=folder, epochs=4)  # nothing is left to do
        assert_same(again.state_dict(), before)

    def test_a_training_that_had_stopped_early_stays_stopped(self, tmp_path):
        def run():
            stopping = training.EarlyStopping("loss", patience=0, min_delta=100.0)
            return self.fit(checkpoint=tmp_path, resume=tmp_path, epochs=9, callbacks=stopping).history.epoch

        assert run() == run() == [0, 1]

    def test_other_things_and_files_of_killed_writers(self, tmp_path):
        half = tmp_path / ".minidl-0123456789abcdef.tmp"
        half.mkdir()
        (half / "model.safetensors").write_bytes(b"half")
        (tmp_path / "notes.txt").write_text("mine")
        self.fit(checkpoint=tmp_path, resume=tmp_path, keep=1)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00002-step-00000000", "notes.txt"]

    def test_a_folder_in_use_and_one_of_an_earlier_training(self, tmp_path):
        class Nested(Callback):
            def on_train_begin(inner):
                with pytest.raises(ParameterError, match="another training writes to"):
                    self.fit(checkpoint=tmp_path)

        self.fit(checkpoint=tmp_path, callbacks=Nested())
        with pytest.raises(ParameterError, match="holds checkpoints of an earlier training"):
            self.fit(checkpoint=tmp_path)
        oldest = min(tmp_path.iterdir())
        with pytest.raises(ParameterError, match="holds checkpoints of an earlier training, the newest epoch-00002"):
            self.fit(checkpoint=tmp_path, resume=oldest)

    def test_nothing_to_go_on_from(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            self.fit(resume=tmp_path / "missing")
        with pytest.raises(FileFormatError, match="holds no checkpoint"):
            self.fit(resume=tmp_path)
        (tmp_path / "file").write_text("")
        for more in ({"checkpoint": tmp_path / "file"}, {"resume": tmp_path / "file"}):
            with pytest.raises(FileFormatError):
                self.fit(**more)
        with pytest.raises(ParameterError, match="no folder for checkpoints"):
            self.fit(every=3)
        with pytest.raises(ParameterError, match="every must be a whole number"):
            self.fit(checkpoint=tmp_path, every=0)

    @pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "checkpoint.json"])
    @pytest.mark.parametrize("damage", ["cut", "missing", "flipped", "empty"])
    def test_damage_is_found_and_named(self, name, damage, whole, tmp_path):
        [place] = shutil.copytree(whole, tmp_path / "c").iterdir()
        content = (place / name).read_bytes()
        half = len(content) // 2
        if damage == "missing":
            (place / name).unlink()
        else:
            changed = {
                "cut": content[:-3],
                "empty": b"",
                "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
            }
            (place / name).write_bytes(changed[damage])
        with pytest.raises(FileFormatError) as caught:
            self.fit(resume=tmp_path / "c")
        assert place.name in str(caught.value)

    def test_a_newer_version_and_another_program(self, whole, tmp_path):
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
        [place] = tmp_path.iterdir()
        about = json.loads((place / "checkpoint.json").read_text())
        for change, message in (
            ({"version": 2}, "has version 2"),
            ({"format": "other"}, "is not that of a checkpoint"),
        ):
            (place / "checkpoint.json").write_text(json.dumps(about | change))
            with pytest.raises(FileFormatError, match=message):
                self.fit(resume=tmp_path)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (
                lambda: dl.Sequential([dl.Dense(6, activation="tanh"), dl.Dense(3)]),
                r"model has 0: Dense\(6, activation=ReLU\(\)\), but here",
            ),
            (lambda: dl.Sequential([dl.Dense(6, activation="relu"), dl.Dense(4), dl.Dense(3)]), "model has 1: Dense"),
            (lambda: dl.Sequential([dl.Dense(6, activation="relu")]), "here it is nothing"),
        ],
    )
    def test_another_model(self, other, message, tmp_path):
        first = dl.Sequential([dl.Dense(6, activation="relu"), dl.Dense(3)])
        first.compile("adam", "sparse_categorical_crossentropy")
        self.fit(first, checkpoint=tmp_path)
        model = other()
        model.compile("adam", "sparse_categorical_crossentropy")
        with pytest.raises(ParameterError, match=message):
            self.fit(model, resume=tmp_path)
        assert model.history is None or not model.history.epoch

    def test_another_optimizer_callback_batch_size_or_metric(self, tmp_path):
        self.fit(checkpoint=tmp_path)
        for model, more, message in (
            (model_of(optimizer="sgd"), {}, "optimizer has Adam, but here it is SGD"),
            (model_of(metrics=()), {}, "list of metrics has accuracy"),
            (model_of(), {"callbacks": Averaged()}, "list of callbacks has nothing, but here it is Averaged"),
            (model_of(), {"gradient_accumulation_steps": 2}, "call of fit has gradient_accumulation_steps=1"),
        ):
            with pytest.raises(ParameterError, match=message):
                self.fit(model, resume=tmp_path, **more)
        with pytest.raises(ParameterError, match="call of fit has batch_size=7, but here it is batch_size=8"):
            model_of().fit(X, Y, 8, resume=tmp_path)

    def test_a_metric_whose_state_cannot_be_written(self, tmp_path):
        model = model_of()

        class Odd:
            name = "odd"

            def __init__(self):
                self.inner = object()

            def update(self, prediction, target): ...
            def reset(self): ...
            def result(self):
                return 0.0

        model.metrics = [Odd()]
        with pytest.raises(ParameterError, match=r"metrics\.0\.inner is a object, not plain data"):
            self.fit(model, checkpoint=tmp_path)


class Press(Callback):
    """Press Ctrl-C somewhere, once."""

    def __init__(self, hook, count):
        self.left = count
        setattr(self, hook, self.press)

    def press(self, step, logs=None):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("hook", "count"), [("on_gradients", 6), ("on_test_batch_end", 2), ("on_epoch_end", 2)])
def test_ctrl_c_writes_a_checkpoint_and_keeps_the_history(hook, count, tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def run(press, **more):
        model = model_of()
        dl.seed(1)
        try:
            model.fit(X, Y, 7, 3, validation_data=(X, Y), callbacks=Press(hook, press), **more)
        except KeyboardInterrupt:
            assert press
        return model

    expected = run(0)
    stopped = run(count, checkpoint=tmp_path, every=1000)
    assert 0 < len(stopped.history.epoch) < 3
    assert stopped.history.history["loss"] == expected.history.history["loss"][: len(stopped.history.epoch)]
    assert len(list(tmp_path.iterdir())) == 1
    assert signal.getsignal(signal.SIGINT) is before
    found = run(0, checkpoint=tmp_path, resume=tmp_path)
    assert_same(found.state_dict(), expected.state_dict())
    assert found.history.history == expected.history.history


def test_the_command_goes_on(tmp_path, capsys, monkeypatch):
    def run(epochs, *more):
        assert (
            main(["train", "--data", "digits", "--layers", "8", "--batch-size", "256", "--epochs", str(epochs), *more])
            == 0
        )
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("test accuracy")]

    folder = str(tmp_path / "run")
    expected = run(2)
    run(1, "--checkpoint", folder)
    assert run(2, "--resume", folder) == expected

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Trainable, "fit", interrupted)
    assert main(["train", "--data", "digits", "--checkpoint", folder]) == 130
    assert f"--resume {folder}" in capsys.readouterr().out


class TestSources:
    """Random generators are found wherever somebody may keep one."""

    def test_all_places(self):
        made = [numpy.random.default_rng(i) for i in range(5)]
        kept = python_random.Random(3)

        class Owner:
            def __init__(self):
                self.inside = {"a": [made[0]], "b": (made[1], made[1])}

            def augment(self, x):
                return x

        def closure(x):
            return made[2].normal() + kept.random()

        roots = {
            "method": Owner().augment,
            "closure": closure,
            "partial": functools.partial(closure, other=made[3]),
            "old": numpy.random.RandomState(1),
            "generator": (made[4].normal() for _ in range(3)),
        }
        sources = Sources(roots)
        assert len(sources.found) == 7
        arrays = {}
        before = json.loads(json.dumps(sources.state(arrays, "s")))
        first = [g.random() if hasattr(g, "random") else g.rand() for g in sources.found.values()]
        sources.put(before, arrays)
        assert [g.random() if hasattr(g, "random") else g.rand() for g in sources.found.values()] == first

    def test_another_place_or_another_kind_is_an_error(self):
        arrays = {}
        state = Sources({"a": numpy.random.default_rng(0)}).state(arrays, "s")
        with pytest.raises(ParameterError, match="the random generators differ: a had one"):
            Sources({"b": numpy.random.default_rng(0)}).put(state, arrays)
        other = numpy.random.Generator(numpy.random.MT19937(0))
        with pytest.raises(ParameterError, match="is of another kind"):
            Sources({"a": other}).put(state, arrays)


# a killed process -----------------------------------------------------------------------------------------------------

CHILD = """
import os, sys
import numpy
import minidl as dl
dl.set_num_threads(1)
folder = sys.argv[1]
if sys.argv[3] == "hurry":  # what is on the disk after a power failure is another question
    os.fsync = lambda descriptor: None
x = numpy.random.default_rng(0).normal(size=(64, 8)).astype("float32")

def train(folder):
    dl.seed(0)
    model = dl.Sequential([dl.Dense(16, activation="relu"), dl.Dropout(0.2), dl.BatchNorm1d(16), dl.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    log = dl.training.CSVLogger(folder + ".csv")
    model.fit(x, x[:, :1], 16, int(sys.argv[2]), checkpoint=folder, resume=folder, every=1, keep=2, callbacks=log, verbose=0)
    weights = b"".join(value.tobytes() for value in [*model.state_dict().values(), *model.optimizer.state_dict().values()])
    with open(folder + ".end", "wb") as file:
        file.write(weights + repr(model.history.history).encode())

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        print(os.getpid(), flush=True)
        train(line.strip())
        os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.nightly)])
def test_a_process_killed_at_any_moment(kills, tmp_path):
    epochs = 2 + kills
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(epochs), "hurry" if kills < 10 else "wait"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def attempt(name, delay):
        """Train in a process that is killed after a delay; return whether it came to the end."""
        child.stdin.write(f"{tmp_path / name}\n")
        child.stdin.flush()
        pid = int(child.stdout.readline())
        if delay is not None:
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
        return child.stdout.readline().strip() == "0"

    try:
        assert attempt("whole", None)
        generator, done, killed = numpy.random.default_rng(kills), False, 0
        while not done and killed < kills:
            done = attempt("broken", generator.uniform(0, 0.05))
            killed += not done
            for place in (tmp_path / "broken").glob("epoch-*"):
                assert len(list(place.iterdir())) == 3
        assert killed == kills
        assert attempt("broken", None)
    finally:
        child.communicate()
    assert (tmp_path / "broken.end").read_bytes() == (tmp_path / "whole.end").read_bytes()
    assert (tmp_path / "broken.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_nothing_in_the_files_is_a_pickle(tmp_path):
    model_of().fit(X, Y, 7, checkpoint=tmp_path)
    files = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}


@pytest.mark.parametrize("kind", ["arrays", "augmented", "batches"])
def test_on_a_device(kind, tmp_path):
    """With the array double in a GPU's place, whose data, outputs and weights are not on the host."""
    engine = DoubleEngine()

    def run(**more):
        with dl.use(engine):
            model = model_of()
            model.build((4,))
            model.to(engine)
            dl.seed(1)
            data = (Own(),) if kind == "batches" else (X, Y, 7)
            augment = (lambda x, generator: x + generator.normal()) if kind == "augmented" else None
            model.fit(*data, epochs=2, augment=augment, **more)
            return model.state_dict() | {"history": json.dumps(model.history.history)}

    expected = run(checkpoint=tmp_path, every=1, keep=99)
    for place in sorted(tmp_path.iterdir())[1::4]:
        assert_same(run(resume=place), expected)
