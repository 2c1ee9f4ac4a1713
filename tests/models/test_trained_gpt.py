"""A GPT that somebody else trained to sort six digits, with all of its intermediate activations.

The folder gpt-nano-sort is looked for in ../shared/data, or in the folder that MINIDL_SHARED_DATA names. It is no part of
this repository.
"""

import base64
import itertools
import json
import os
from pathlib import Path

import numpy
import pytest

import minidl as dl
from minidl.layers.attention import merge_heads
from minidl.models import GPT2, GPT2Config
from minidl.ops.attention import attention_weights

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("MINIDL_SHARED_DATA", ROOT.parent / "shared" / "data")) / "gpt-nano-sort"
if not (FOLDER / "model.json").exists():
    pytest.skip(f"the trained GPT is not at {FOLDER}", allow_module_level=True)


def tensors(name):
    """Return the arrays of a file by name, and its configuration."""
    content = json.loads((FOLDER / name).read_text())
    config = content.pop("config")
    arrays = {
        key: numpy.frombuffer(base64.b64decode(t["data"]), "float32").reshape(t["shape"]) for key, t in content.items()
    }
    return arrays, config


@pytest.fixture(scope="module")
def model():
    weights, c = tensors("model.json")
    config = GPT2Config(
        vocab_size=c["vocab_size"],
        context=c["block_size"],
        layers=c["n_layer"],
        heads=c["n_head"],
        width=c["n_embd"],
        tied=False,
    )
    gpt = GPT2(config)
    gpt.load_state_dict({name: w for name, w in weights.items() if not name.endswith(".attn.bias")})
    return gpt.eval()


def test_every_activation(model, host_engine):
    """Those of the first block one by one, then the outputs of all blocks and the last maps."""
    expected, _ = tensors("partials.json")
    with dl.use(host_engine):
        ids = expected["idx"].astype("int64")
        found = {"tok_emb": model.transformer.wte.forward(ids)}
        found["x"] = model.transformer.wpe.forward(found["tok_emb"])
        found["pos_emb"] = model.transformer.wpe.weight.value[None, : ids.shape[1]]
        block = model.transformer.h[0]
        found["ln1"] = block.ln_1.forward(found["x"])
        found["qkv"] = block.attn.c_attn.forward(found["ln1"])
        found["attnResid"] = found["x"] + block.attn.forward(found["ln1"])
        q, k, v, *_, y, _ = cache = block.attn._remembered()
        found |= {"q": q, "k": k, "v": v, "attSm": attention_weights(cache), "y": merge_heads(y)}
        found["yProj"] = found["attnResid"] - found["x"]
        found["ln2"] = block.ln_2.forward(found["attnResid"])
        found["fc"] = block.mlp["c_fc"].forward(found["ln2"])
        found["gelu"] = block.mlp["act"].forward(found["fc"])
        found["mlp"] = block.mlp["c_proj"].forward(found["gelu"])
        found["mlpResid"] = found["attnResid"] + found["mlp"]
        x = found["x"]
        for i, each in enumerate(model.transformer.h):
            x = found[f"block{i}"] = each.forward(x)
        found["ln_f"] = model.transformer.ln_f.forward(x)
        found["lm_head"] = model.forward(ids)
        found["probs"] = dl.ops.softmax(found["lm_head"])[0]
        scores = dl.ops.matmul(q, k, transpose_b=True)[0] / 4  # D is 16
        found["att"] = numpy.where(numpy.tri(11, dtype=bool), scores, -numpy.inf)
    assert set(expected) == {*found, "idx"}
    for name, array in found.items():
        numpy.testing.assert_allclose(array, expected[name], rtol=2e-4, atol=2e-5, err_msg=name)


def test_last_logits(model):
    logits = model.forward(numpy.array([[2, 1, 0, 1, 1, 2]]))[0]
    numpy.testing.assert_allclose(logits[-1], [8.246231, -3.039727, -3.941651], rtol=1e-5)
    numpy.testing.assert_allclose(logits[0], [-2.907104, -3.327977, 7.604276], rtol=1e-5)


@pytest.mark.parametrize("cached", [True, False])
def test_it_sorts_every_input(model, cached, host_engine):
    """All 3^6 inputs, greedily, with the key-value cache and without."""
    inputs = numpy.array(list(itertools.product(range(3), repeat=6)))  # (729, 6)
    with dl.use(host_engine), dl.inference(evaluate=True):
        ids, new, state = inputs, inputs, None
        for _ in range(6):
            logits, state = model.forward_with_state(new if cached else ids, state if cached else None)
            new = logits[:, -1].argmax(axis=-1)[:, None]
            ids = numpy.concatenate([ids, new], axis=1)
    sorted_right = (ids[:, 6:] == numpy.sort(inputs, axis=1)).all(axis=1)
    assert sorted_right.sum() == 729
