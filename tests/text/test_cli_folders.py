"""``minidl embed``, ``minidl search`` and ``minidl generate`` with folders of Hugging Face, as a person uses them."""

import json

import numpy
import pytest

import minidl as dl
from minidl import models
from minidl.cli import main
from minidl.text import BytePairTokenizer, generate, stream_text
from minidl.text.bpe import gpt2_characters

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "mat", "dog", "ran", "to", "rome"]
LINES = "the cat sat on the mat\n\nthe dog ran\nthe dog ran to rome\n"
BERT = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 12}  # fmt: skip
GPT2 = {"model_type": "gpt2", "vocab_size": 270, "n_positions": 12, "n_layer": 1, "n_head": 2, "n_embd": 8}
TURNED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")


@pytest.fixture(autouse=True)
def _needs_safetensors():
    pytest.importorskip("safetensors")


@pytest.fixture
def bert(tmp_path):
    """A folder with a BERT, its norms, and a vocabulary of words."""
    folder = tmp_path / "bert"
    folder.mkdir()
    dl.seed(0)
    tensors = {}
    for name, array in models.BERT.from_settings(BERT).state_dict().items():
        if name.startswith("head."):
            continue
        for ours, theirs in [("layers.0.attention.out", "encoder.layer.0.attention.output.dense"),
                             ("layers.0.norm1", "encoder.layer.0.attention.output.LayerNorm"),
                             ("layers.0.norm2", "encoder.layer.0.output.LayerNorm"),
                             ("layers.0.feed_forward.linear1", "encoder.layer.0.intermediate.dense"),
                             ("layers.0.feed_forward.linear2", "encoder.layer.0.output.dense"),
                             ("embeddings.norm", "embeddings.LayerNorm"),
                             ("words", "word_embeddings"), ("positions", "position_embeddings"),
                             ("types", "token_type_embeddings")]:  # fmt: skip
            name = name.replace(ours, theirs)
        if ".qkv." in name:
            for part, rows in zip(("query", "key", "value"), numpy.split(array, 3), strict=True):
                tensors[name.replace("layers.0.attention.qkv", f"encoder.layer.0.attention.self.{part}")] = rows
        else:
            tensors[name] = array
    dl.weights.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "lines.txt").write_text(LINES)
    return folder


def write_words(folder):
    """Replace the vocabulary by a tokenizer.json that only the package tokenizers reads."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").unlink()


@pytest.mark.parametrize("form", ["vocab.txt", "tokenizer.json"])
def test_search(form, bert, tmp_path, capsys):
    if form == "tokenizer.json":
        write_words(bert)
    assert main(["search", "the dog ran", str(tmp_path / "lines.txt"), "--model", str(bert), "--top-k", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "1.000  the dog ran"
    assert float(second.split()[0]) < 1


def test_embed(bert, tmp_path, capsys):
    (bert / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    path = tmp_path / "vectors.npy"
    assert main(["embed", str(tmp_path / "lines.txt"), "--model", str(bert), "--save", str(path)]) == 0
    assert capsys.readouterr().out == f"3 vectors of 8 numbers in {path}\n"
    vectors = numpy.load(path)
    assert vectors.shape == (3, 8)
    numpy.testing.assert_allclose(vectors[1], vectors[2], atol=1e-6)  # both are cut after "the dog ran"
    assert abs(vectors[0] - vectors[1]).max() > 1e-3


def test_generate_with_gpt2(tmp_path, capsys):
    tokenizer = BytePairTokenizer.train("the cat sat on the mat and the dog ran " * 9, 270)
    characters = gpt2_characters()
    names = {i: "".join(characters[byte] for byte in token) for i, token in tokenizer.tokens.items()}
    (tmp_path / "vocab.json").write_text(json.dumps({name: i for i, name in names.items()}))
    pairs = [f"{names[left]} {names[right]}" for left, right, _ in tokenizer.merges]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs, ""]), "utf-8")
    dl.seed(0)
    model = models.GPT2.from_settings(GPT2)
    tensors = {k: numpy.array(v.T if k.endswith(TURNED) else v, order="C") for k, v in model.state_dict().items()}
    dl.weights.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(GPT2))
    command = ["generate", "--model", str(tmp_path), "--prompt", "the cat", "--tokens", "4", "--temperature", "0"]
    assert main(command) == 0
    ids = generate(model.eval(), tokenizer.encode("the cat"), 4, temperature=0)
    assert capsys.readouterr().out == f"the cat{''.join(stream_text(tokenizer, ids))}\n"


def test_what_is_refused(bert, tmp_path, capsys):
    assert main(["generate", "--model", str(bert), "--prompt", "the"]) == 2
    assert "holds a BERT, which does not write text" in capsys.readouterr().err
    (tmp_path / "lines.txt").write_text(" \n")
    assert main(["search", "the", str(tmp_path / "lines.txt"), "--model", str(bert)]) == 2
    assert "there is no text in it" in capsys.readouterr().err
    (tmp_path / "lines.txt").write_text("the\n")
    (bert / "vocab.txt").unlink()
    assert main(["search", "the", str(tmp_path / "lines.txt"), "--model", str(bert)]) == 2
    assert "there is no tokenizer in" in capsys.readouterr().err
