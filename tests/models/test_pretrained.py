"""A model from a folder of config.json and weights."""

import json
import tracemalloc

import numpy
import pytest

import minidl as dl
from minidl import init
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


def write_weights(folder, tensors):
    turned = {n: numpy.array(v.T if n.endswith(TURNED) else v, order="C") for n, v in tensors.items()}
    dl.weights.save_file(turned, folder / "model.safetensors")


def test_nothing_is_drawn_that_the_file_replaces(folder):
    """The generator stays where it was, and every parameter has the file's numbers."""
    before = dl.random.generator().bit_generator.state
    model = from_pretrained(folder)
    assert dl.random.generator().bit_generator.state == before
    same = GPT2.from_settings(SMALL)
    assert dl.random.generator().bit_generator.state != before
    same.load_hugging_face(folder)
    for ours, wanted in zip(model.parameters(), same.parameters(), strict=True):
        numpy.testing.assert_array_equal(ours.value, wanted.value)


def test_no_parameter_is_left_without_numbers(folder, monkeypatch):
    """Even by a model that would take a file in which some are missing."""
    tensors = GPT2.from_settings(SMALL).state_dict()
    del tensors["transformer.ln_f.bias"], tensors["lm_head.weight"]
    write_weights(folder, tensors)
    with pytest.raises(ParameterError, match=r"missing: transformer\.ln_f\.bias; unexpected: none"):
        from_pretrained(folder)
    monkeypatch.setattr(
        GPT2, "load_hugging_face", lambda self, path: self.load(path, strict=False, transpose=["*.c_*.weight"])
    )
    with pytest.raises(ParameterError, match=r"the weights lack transformer\.ln_f\.bias$"):
        from_pretrained(folder)
    write_weights(folder, GPT2.from_settings(SMALL).state_dict())
    from_pretrained(folder)
    monkeypatch.setattr(GPT2, "load_hugging_face", lambda self, path: None)
    with pytest.raises(ParameterError, match=r"the weights lack transformer\.wte\.weight, .*, lm_head\.weight$"):
        from_pretrained(folder)


def test_a_share_that_is_missing_is_noticed():
    """Of a map of which the file holds the queries and the values, but not the keys."""
    with init.undrawn():
        layer = dl.MultiheadAttention(4, 2)
    whole = dl.MultiheadAttention(4, 2).state_dict()
    given = {f"in_proj_weight[{i}/3]": whole["in_proj_weight"][4 * i : 4 * i + 4] for i in (0, 2)}
    rest = {name: array for name, array in whole.items() if name != "in_proj_weight"}
    assert layer.load_state_dict(given | rest, strict=False).missing_keys == ["in_proj_weight[1/3]"]
    assert [p.name for p in layer.parameters() if p._undrawn] == ["in_proj_weight"]
    layer.load_state_dict(whole)
    assert not any(p._undrawn for p in layer.parameters())


def test_memory_while_a_model_is_read(tmp_path):
    """The weights themselves, and little more: no initial values beside them, no gradients, no copy of the file."""
    settings = SMALL | {"vocab_size": 20_000, "n_embd": 64, "tie_word_embeddings": False}
    write_settings(tmp_path, **settings)
    write_weights(tmp_path, GPT2.from_settings(settings).state_dict())
    size = (tmp_path / "model.safetensors").stat().st_size
    from_pretrained(tmp_path)  # once before, so that modules are no part of it
    tracemalloc.start()
    try:
        model = from_pretrained(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(p.value.nbytes for p in model.parameters()) <= size < 1.001 * peak
    assert peak < 1.1 * size


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
