"""The trackers themselves read back what ``Report`` handed to them. Weights & Biases and MLflow are tested where they are installed."""

import json
import struct

import numpy
import pytest

import minidl as dl
from minidl.training import Report

pytestmark = pytest.mark.peers

G = numpy.random.default_rng(0)
X, Y = G.normal(size=(24, 4)).astype("float32"), numpy.arange(24) % 3


def train(report):
    dl.seed(0)
    model = dl.Sequential([dl.Dense(5, activation="tanh", input_shape=(4,)), dl.Dense(3)])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.fit(X, Y, 8, 3, callbacks=report, validation_data=(X, Y), seed=0).history


def events_of(folder):
    """Read TensorBoard's records: the length, its sum, an event, its sum."""
    from tensorboardX.proto.event_pb2 import Event

    [path] = folder.iterdir()
    content, at = path.read_bytes(), 0
    while at < len(content):
        length = struct.unpack_from("<Q", content, at)[0]
        event = Event()
        event.ParseFromString(content[at + 12 : at + 12 + length])
        yield event
        at += 16 + length


def test_tensorboard(tmp_path):
    tensorboard = pytest.importorskip("tensorboardX")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:

        def log(numbers, step):
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        history = train(Report(log, every=2, histograms=writer.add_histogram))
    scalars, histograms = {}, {}
    for event in events_of(tmp_path):
        for value in event.summary.value:
            kept = histograms if value.HasField("histo") else scalars
            kept.setdefault(value.tag, {})[event.step] = value.histo.num if kept is histograms else value.simple_value
    for name, values in history.items():
        tag = f"validation/{name[4:]}" if name.startswith("val_") else f"train/{name}"
        assert list(scalars[tag]) == [3, 6, 9]
        numpy.testing.assert_allclose(list(scalars[tag].values()), values, rtol=1e-6)
    assert list(scalars["step/loss"]) == [2, 4, 6, 8]
    assert histograms["weights/0.weight"] == dict.fromkeys([2, 4, 6, 8], 20)
    assert "gradients/1.bias" in histograms


@pytest.mark.filterwarnings("default::DeprecationWarning")  # inside MLflow's own store
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    with mlflow.start_run() as run:
        history = train(Report(mlflow.log_metrics))
    client = mlflow.MlflowClient()
    for name, tag in (("loss", "train/loss"), ("val_accuracy", "validation/accuracy")):
        found = client.get_metric_history(run.info.run_id, tag)
        assert [(m.step, m.value) for m in found] == list(zip([3, 6, 9], history[name], strict=True))


def records_of(content):
    """Read LevelDB's log format after a head of 7 bytes: blocks of 32 KiB of (sum, length, first/middle/last, part of a record)."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if at % 32768 > 32768 - 7:  # too little room for a head is padding
            at += -at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_weights_and_biases(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.chdir(tmp_path)
    with wandb.init(project="digits", mode="offline", dir=str(tmp_path), settings=wandb.Settings(silent=True)) as run:
        history = train(Report(run.log))
    wandb.teardown()  # waits until its process has written everything
    [stored] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    told = []
    for content in records_of(stored.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        if record.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            told.append((items["_step"], items["train/loss"], items["validation/accuracy"]))
    assert told == list(zip([3, 6, 9], history["loss"], history["val_accuracy"], strict=True))
