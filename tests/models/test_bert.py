"""BERT, RoBERTa and DistilBERT by themselves; tests/peers/test_pretrained.py has them beside transformers."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError, UnknownNameError
from minidl.models import BERT
from minidl.testing import gradcheck

SIZES = {"vocab_size": 11, "context": 8, "layers": 2, "heads": 2, "width": 4, "hidden": 6, "labels": 3}
SETTINGS = {"model_type": "bert", "vocab_size": 11, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 6, "max_position_embeddings": 8}  # fmt: skip
IDS = numpy.array([[2, 5, 6, 3], [2, 4, 3, 0]])
MASK = IDS != 0
SHAPES = {"features": (2, 4, 4), "masked_lm": (2, 4, 11), "sequence_classification": (2, 3),
          "token_classification": (2, 4, 3), "question_answering": (2, 4, 2)}  # fmt: skip


def small(**changes):
    dl.seed(0)
    return BERT(**{**SIZES, "dtype": "float64", **changes})


@pytest.mark.parametrize("head", SHAPES)
def test_shapes(head):
    model = small(head=head).eval()
    assert model.forward(IDS, MASK).shape == SHAPES[head]
    assert model.output_shape((4,)) == SHAPES[head][1:]


def test_padding_changes_nothing_for_the_tokens():
    model = small().eval()
    alone = model.forward(IDS[1:, :3])
    numpy.testing.assert_allclose(model.forward(IDS, MASK)[1:, :3], alone, rtol=1e-12, atol=1e-14)
    numpy.testing.assert_array_equal(model.forward(IDS, MASK.astype("int64")), model.forward(IDS, MASK))
    assert abs(model.forward(IDS)[1, :3] - alone[0]).max() > 1e-6


def test_positions_that_skip_padding():
    """A text that begins with padding is the same text."""
    model = small(positions_skip_padding=True).eval()
    left = numpy.array([[0, 0, 2, 4, 3]])
    y = model.forward(left, left != 0)
    numpy.testing.assert_allclose(y[:, 2:], model.forward(left[:, 2:]), rtol=1e-12, atol=1e-14)
    assert model.embeddings.positions.num_embeddings == SIZES["context"] + 1


def test_gradients_of_the_blocks():
    block = small().eval().layers[0]
    for parameter in block.parameters():
        parameter.value[...] += numpy.random.default_rng(1).normal(size=parameter.shape) * 0.5
    gradcheck(block, numpy.random.default_rng(0).normal(size=(2, 3, 4)))


def test_dropout_is_drawn_in_training_only():
    model = small(dropout=0.5, attention_dropout=0.5)
    assert not numpy.array_equal(model.forward(IDS), model.forward(IDS))
    model.eval()
    numpy.testing.assert_array_equal(model.forward(IDS), model.forward(IDS))


def test_it_learns_to_classify():
    model = small(head="sequence_classification", dropout=0.0, attention_dropout=0.0, head_dropout=0.0, labels=2)
    x = numpy.random.default_rng(0).integers(1, 11, (64, 5))
    y = (x == 7).any(axis=1).astype("int64")
    model.compile(dl.Adam(model.parameters(), lr=1e-2), dl.CrossEntropyLoss(), metrics=["accuracy"])
    model.fit(x, y, epochs=30, batch_size=16, verbose=0, seed=0)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ({"hidden_act": "swish"}, "hidden_act = 'swish'"),
        ({"is_decoder": True}, "is_decoder = True"),
        ({"architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice.*minidl has those that end in Model"),
        ({"architectures": ["BertForPreTraining"]}, "BertForPreTraining"),
    ],
)
def test_what_is_not_here_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        BERT.from_settings(SETTINGS | changes)


def test_what_does_not_fit_is_refused():
    model = small(token_types=0)
    with pytest.raises(ShapeError, match=r"the context is 8 tokens, got 9"):
        model.forward(numpy.zeros((1, 9), "int64"))
    with pytest.raises(ShapeError, match=r"attention_mask must have the shape of the ids, \(2, 4\), got \(2, 3\)"):
        model.forward(IDS, MASK[:, :3])
    with pytest.raises(DtypeError, match=r"attention_mask must be .*got float64"):
        model.forward(IDS, MASK * 1.0)
    with pytest.raises(ParameterError, match="has no token types"):
        model.forward(IDS, MASK, IDS * 0)
    with pytest.raises(OrderError, match="there is no pooler"):
        small(head="masked_lm").pooled(numpy.zeros((2, 4, 4)))
    with pytest.raises(UnknownNameError, match="head of BERT"):
        small(head="poetry")
    with pytest.raises(ParameterError, match="heads must divide"):
        small(heads=3)
    with pytest.raises(ParameterError, match="no setting 'depth'"):
        small(depth=3)


def test_its_own_files(tmp_path):
    pytest.importorskip("safetensors")
    model = small(head="masked_lm").eval()
    model.save(tmp_path / "own.safetensors")
    other = small(head="masked_lm", generator=numpy.random.default_rng(9)).eval()
    other.load(tmp_path / "own.safetensors")
    numpy.testing.assert_array_equal(other.forward(IDS, MASK), model.forward(IDS, MASK))
