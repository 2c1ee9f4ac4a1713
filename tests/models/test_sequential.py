"""What Sequential shows of itself, and its files."""

import struct

import numpy
import pytest

import minidl as dl
from minidl.errors import FileFormatError, ParameterError
from minidl.models import mlp


def test_summary_counts():
    summary = dl.Sequential(dl.Flatten(), dl.Linear(784, 10), dl.ReLU(), dl.Dense(5)).summary()
    assert [row.output_shape for row in summary.rows] == [None] * 4

    summary = dl.Sequential(dl.Linear(784, 10), dl.ReLU(), dl.Dense(5)).summary()
    assert [row.output_shape for row in summary.rows] == [(10,), (10,), (5,)]
    assert [row.parameters for row in summary.rows] == [7850, 0, 55]
    assert summary.rows[0].flops == 2 * 784 * 10 + 10
    assert summary.rows[1].output_bytes == 40
    assert summary.parameters == 7905
    assert summary.parameter_bytes == 4 * 7905
    assert "7,905 parameters" in str(summary)


def test_summary_of_a_lazy_model_says_what_is_not_known():
    rows = dl.Sequential(dl.Dense(3)).summary().rows
    assert (rows[0].parameters, rows[0].output_shape) == (None, None)


def test_summary_tries_layers_that_do_not_say_their_shape():
    class Double:
        def forward(self, x):
            self.called = True
            return numpy.concatenate([x, x], axis=1)

        def backward(self, dy):
            return dy[:, :3] + dy[:, 3:]

    own = Double()
    rows = dl.Sequential(dl.Linear(2, 3), own, dl.ReLU()).summary().rows
    assert [row.output_shape for row in rows] == [(3,), (6,), (6,)]
    assert not hasattr(own, "called"), "the layer itself is not disturbed"


def test_summary_does_not_disturb_a_step_under_way():
    model = dl.Sequential(dl.Linear(2, 3), dl.Tanh())
    model.forward(numpy.ones((4, 2), dtype="float32"))
    model.summary()
    assert model.backward(numpy.ones((4, 3), dtype="float32")).shape == (4, 2)


def test_mermaid_has_every_layer():
    text = dl.Sequential(dl.Sequential(dl.Linear(2, 3), dl.ReLU()), dl.Linear(3, 1)).to_mermaid()
    assert text.startswith("flowchart TD")
    assert text.count("-->") == 4
    assert "0.0: Linear(2, 3)" in text


def test_mlp_sizes():
    model = mlp([4, 8, 3], "tanh", dropout=0.1)
    assert [type(layer).__name__ for layer in model.layers] == ["Linear", "Tanh", "Dropout", "Linear"]
    with pytest.raises(ParameterError, match="sizes"):
        mlp([4])


class TestFiles:
    safetensors = pytest.importorskip("safetensors")

    @pytest.fixture
    def model(self):
        return mlp([4, 8, 3])

    def test_round_trip(self, model, tmp_path):
        model.save(tmp_path / "m.safetensors")
        other = mlp([4, 8, 3])
        other.load(tmp_path / "m.safetensors")
        numpy.testing.assert_array_equal(other.flat_buffers()[0].values, model.flat_buffers()[0].values)
        assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]

    def test_a_file_cut_short(self, model, tmp_path):
        path = tmp_path / "m.safetensors"
        model.save(path)
        content = path.read_bytes()
        for length in (0, 4, 20, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(FileFormatError, match="not a whole safetensors file"):
                model.load(path)

    @pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", struct.pack("<Q", 2**40) + b"{}", b"\x80\x04pickle"])
    def test_a_file_of_another_kind(self, model, tmp_path, content):
        path = tmp_path / "m.safetensors"
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="not a whole safetensors file"):
            model.load(path)

    def test_a_failed_write_leaves_the_old_file(self, model, tmp_path, monkeypatch):
        path = tmp_path / "m.safetensors"
        model.save(path)
        before = path.read_bytes()

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            model.save(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]

    def test_the_missing_package_is_named(self, model, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
        with pytest.raises(dl.errors.MissingDependencyError, match=r"pip install 'minidl\[weights\]'"):
            model.save(tmp_path / "m.safetensors")
