"""A model from a folder of config.json and weights."""

import json

import numpy
import pytest

from minidl.errors import FileFormatError, ParameterError, UnknownNameError
from minidl.models import GPT2, from_pretrained

SMALL = {"model_type": "gpt2", "vocab_size": 7, "n_positions": 12, "n_layer": 2, "n_head": 2, "n_embd": 8}
TURNED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")


@pytest.fixture
def folder(tmp_path):
    """A folder as it is downloaded, with a small GPT-2."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    tensors = GPT2.from_settings(SMALL).state_dict()
    tensors.pop("lm_head.weight", None)
    save_file({name: numpy.array(v.T if name.endswith(TURNED) else v, order="C") for name, v in tensors.items()},
              tmp_path / "model.safetensors")  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    return tmp_path


def write_settings(folder, **changes):
    (folder / "config.json").write_text(json.dumps(SMALL | changes))


def test_the_model_is_built_and_read(folder):
    model = from_pretrained(folder, dtype="float64")
    assert not model.training
    assert model.lm_head.weight.dtype == "float64"
    ids = numpy.arange(6).reshape(2, 3)
    same = GPT2.from_settings(SMALL, dtype="float64").eval()
    same.load_hugging_face(folder / "model.safetensors")
    numpy.testing.assert_array_equal(model.forward(ids), same.forward(ids))


def test_what_the_model_does_not_do_is_refused(folder):
    write_settings(folder, activation_function="relu")
    with pytest.raises(
        ParameterError, match="GPT2: config.json has activation_function = 'relu'; minidl has 'gelu_new'"
    ):
        from_pretrained(folder)


def test_an_unknown_model_is_named(folder):
    write_settings(folder, model_type="gpt5")
    with pytest.raises(UnknownNameError, match="'gpt5'; known: .*gpt2"):
        from_pretrained(folder)


def test_weights_of_another_size_are_refused(folder):
    write_settings(folder, n_embd=16)
    with pytest.raises(ValueError, match="wte.weight"):
        from_pretrained(folder)


@pytest.mark.parametrize(("text", "message"), [("[1]", "expected an object"), ("{", "is not JSON")])
def test_a_damaged_config(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        from_pretrained(folder)


def test_an_empty_folder_and_a_pickle(tmp_path):
    with pytest.raises(FileFormatError, match="give the folder that holds config.json"):
        from_pretrained(tmp_path)
    write_settings(tmp_path)
    with pytest.raises(FileFormatError, match=r"holds neither model\.safetensors"):
        from_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(FileFormatError, match=r"pytorch_model\.bin.*never reads it. Convert it with PyTorch"):
        from_pretrained(tmp_path)
