"""Models from folders that transformers writes: outputs, hidden states and every gradient are its own."""

import re

import numpy
import pytest

from minidl.errors import FileFormatError
from minidl.models import from_pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("safetensors")
pytestmark = pytest.mark.peers

BERT_SIZES = {"vocab_size": 23, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
              "intermediate_size": 20, "max_position_embeddings": 16, "num_labels": 4}  # fmt: skip
DISTIL_SIZES = {"vocab_size": 23, "dim": 12, "n_layers": 2, "n_heads": 3, "hidden_dim": 20,
                "max_position_embeddings": 16, "num_labels": 4}  # fmt: skip
GPT2_SIZES = {"vocab_size": 23, "n_embd": 12, "n_layer": 2, "n_head": 3, "n_positions": 16}
TASKS = ["MaskedLM", "SequenceClassification", "QuestionAnswering", "TokenClassification"]


def create(name, seed=0, **changes):
    """A random model of transformers in float64; norms and biases are random too, so that none of them can be left out."""
    family = re.match("Bert|Roberta|DistilBert|GPT2", name)[0]
    sizes = {"Bert": BERT_SIZES, "Roberta": BERT_SIZES, "DistilBert": DISTIL_SIZES, "GPT2": GPT2_SIZES}[family]
    config = getattr(transformers, f"{family}Config")(**(sizes | changes))
    torch.manual_seed(seed)
    twin = getattr(transformers, name)(config).double().eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return twin


def batch(padding, seed=0):
    """Ids, mask and types of three texts of 7, 4 and 1 tokens."""
    random = numpy.random.default_rng(seed)
    ids = random.integers(5, 23, (3, 7))
    mask = numpy.arange(7) < numpy.array([[7], [4], [1]])
    ids[~mask] = padding
    return ids, mask.astype("int64"), random.integers(0, 2, ids.shape) * mask


def theirs(twin, ids, mask, types):
    inputs = {"input_ids": ids, "attention_mask": mask}
    if twin.config.model_type == "bert":
        inputs["token_type_ids"] = types
    found = twin(**{k: torch.tensor(v) for k, v in inputs.items()}, output_hidden_states=True)
    if hasattr(found, "start_logits"):
        return torch.stack([found.start_logits, found.end_logits], dim=-1), found.hidden_states
    return (found.logits if hasattr(found, "logits") else found.last_hidden_state), found.hidden_states


def inputs_of(twin, ids, mask, types):
    return (ids, mask, types) if twin.config.model_type == "bert" else (ids, mask)


def gradients_by_foreign_name(model, twin):
    """Our gradients, under the names of transformers: those of queries, keys and values are rows of one."""
    from minidl.models.bert_files import names_for
    from minidl.weights.matching import _compile_names

    translate = _compile_names(names_for(twin.config.model_type, model.config.head))
    own = {}
    for name, parameter in model.named_parameters():
        if ".qkv." in name:
            own |= {f"{name}[{i}/3]": part for i, part in enumerate(numpy.split(parameter.grad, 3))}
        else:
            own[name] = parameter.grad
    return {name: own[translate(name)] for name, _ in twin.named_parameters() if translate(name) is not None}


def changes_for(name):
    return {"num_labels": 2} if name.endswith("QuestionAnswering") else {}


NAMES = [
    family + task for family in ("Bert", "Roberta", "DistilBert") for task in ["Model", *("For" + t for t in TASKS)]
]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_hidden_states_and_every_gradient(name, tmp_path):
    twin = create(name, **changes_for(name))
    twin.save_pretrained(tmp_path)
    model = from_pretrained(tmp_path, dtype="float64")
    inputs = batch(twin.config.pad_token_id)
    y, states = theirs(twin, *inputs)
    own = inputs_of(twin, *inputs)
    for ours, wanted in zip(model.hidden_states(*own), states, strict=True):
        numpy.testing.assert_allclose(ours, wanted.detach(), rtol=1e-12, atol=1e-13)
    result = model.forward(*own)
    numpy.testing.assert_allclose(result, y.detach(), rtol=1e-12, atol=1e-13)
    dy = numpy.random.default_rng(1).normal(size=result.shape)
    (y * torch.tensor(dy)).sum().backward()
    assert model.backward(dy) == (None,) * len(own)
    gradients = gradients_by_foreign_name(model, twin)
    assert len(gradients) > 30
    for name, parameter in twin.named_parameters():
        if name in gradients and parameter.grad is not None:
            numpy.testing.assert_allclose(gradients[name], parameter.grad, rtol=1e-9, atol=1e-12, err_msg=name)
    untouched = [name for name, parameter in twin.named_parameters() if parameter.grad is None]
    assert all("pooler" in name for name in untouched)


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "RobertaForMaskedLM", "DistilBertModel"])
def test_in_float32(name, tmp_path):
    twin = create(name).float()
    twin.save_pretrained(tmp_path)
    model = from_pretrained(tmp_path)
    inputs = batch(twin.config.pad_token_id)
    y, _ = theirs(twin, *inputs)
    numpy.testing.assert_allclose(model.forward(*inputs_of(twin, *inputs)), y.detach(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["BertModel", "RobertaModel"])
def test_the_pooler_and_the_attention_maps(name, tmp_path):
    twin = create(name, attn_implementation="eager")
    twin.save_pretrained(tmp_path)
    model = from_pretrained(tmp_path, dtype="float64")
    ids, mask, _ = batch(twin.config.pad_token_id)
    found = twin(torch.tensor(ids), torch.tensor(mask), output_attentions=True)
    pooled = model.pooled(model.forward(ids, mask))
    numpy.testing.assert_allclose(pooled, found.pooler_output.detach(), rtol=1e-12, atol=1e-13)
    for ours, wanted in zip(model.attention_maps(), found.attentions, strict=True):
        numpy.testing.assert_allclose(ours, wanted.detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_a_masked_language_model_tied_or_not(family, tied, tmp_path):
    twin = create(f"{family}ForMaskedLM", tie_word_embeddings=tied)
    twin.save_pretrained(tmp_path)
    model = from_pretrained(tmp_path, dtype="float64")
    assert (model.head["decoder"].weight is model.embeddings.words.weight) == tied
    inputs = batch(twin.config.pad_token_id)
    y, _ = theirs(twin, *inputs)
    numpy.testing.assert_allclose(model.forward(*inputs_of(twin, *inputs)), y.detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("tied", [True, False])
def test_gpt2(tied, tmp_path):
    twin = create("GPT2LMHeadModel", tie_word_embeddings=tied)
    twin.save_pretrained(tmp_path)
    model = from_pretrained(tmp_path, dtype="float64")
    assert (model.lm_head.weight is model.transformer.wte.weight) == tied
    ids, *_ = batch(5)
    y = twin(torch.tensor(ids)).logits
    result = model.forward(ids)
    numpy.testing.assert_allclose(result, y.detach(), rtol=1e-12, atol=1e-13)
    dy = numpy.random.default_rng(1).normal(size=result.shape)
    (y * torch.tensor(dy)).sum().backward()
    model.backward(dy)
    own = dict(model.named_parameters())
    for name, parameter in twin.named_parameters():
        conv = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        ours = own[name].grad.T if conv else own[name].grad
        numpy.testing.assert_allclose(ours, parameter.grad, rtol=1e-9, atol=1e-12, err_msg=name)


def test_sharded_folder(tmp_path):
    twin = create("BertForMaskedLM")
    twin.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    inputs = batch(0)
    y, _ = theirs(twin, *inputs)
    model = from_pretrained(tmp_path, dtype="float64")
    numpy.testing.assert_allclose(model.forward(*inputs), y.detach(), rtol=1e-12, atol=1e-13)


def test_a_folder_of_pickles_is_refused(tmp_path):
    twin = create("BertModel")
    twin.config.save_pretrained(tmp_path)
    torch.save(twin.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace("{", '{"architectures": ["BertModel"],', 1)
    )
    with pytest.raises(FileFormatError, match=r"pytorch_model\.bin.*never reads it"):
        from_pretrained(tmp_path)
