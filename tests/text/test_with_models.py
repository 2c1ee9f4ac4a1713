"""Generation, training and going on with the models of ``minidl.models``."""

import numpy
import pytest

import minidl as dl
from minidl import models, text, weights
from minidl.cli import main, train_text

PROMPTS = [numpy.array(ids) for ids in ([3, 1, 4, 1, 5], [9], [2, 6, 5])]
MODELS = {
    "gpt": lambda: models.GPT2("nano", vocab_size=11, context=12, layers=2, heads=2, width=8, dtype="float64"),
    "lstm": lambda: models.CharRNN(11, 6, 8, 2, "lstm", dropout=0.5, dtype="float64"),
    "gru": lambda: models.CharRNN(11, 6, 8, 1, "gru", dtype="float64"),
    "rnn": lambda: models.CharRNN(11, 6, 8, 2, "rnn", dtype="float64"),
}


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 5, "seed": 1}, {"seed": 2, "stop": [4]}], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_cache_changes_nothing(name, settings):
    """Longer than the context, with rows that stop, and prompts of different lengths."""
    dl.seed(1)
    model = MODELS[name]()
    for p in model.parameters():
        p.value[...] *= 5 if name == "gpt" else 1
    cached, plain = (text.generate(model, PROMPTS, 25, use_cache=c, **settings) for c in (True, False))
    assert [ids.tolist() for ids in cached] == [ids.tolist() for ids in plain]
    assert len({token for ids in cached for token in ids.tolist()}) > 2 or settings.get("temperature") == 0


def test_only_the_last_token_has_logits_in_generation():
    dl.seed(1)
    model = MODELS["gpt"]().eval()
    ids = numpy.array([[3, 1, 4], [2, 6, 5]])
    every, state = model.forward_with_state(ids)
    last, other = model.next_logits(ids)
    assert last.shape == (2, 11)
    numpy.testing.assert_allclose(last, every[:, -1], rtol=1e-12)
    assert other[0].length == state[0].length == 3
    shapes = []
    forward = model.lm_head.forward
    model.lm_head.forward = lambda x: shapes.append(x.shape) or forward(x)
    text.generate(model, list(ids), 3, temperature=0)
    assert shapes == [(2, 8)] * 3


def test_beam_search_with_the_transformer():
    dl.seed(3)
    model = models.Transformer(9, 7, 16, 2, 1, 1, 32, dtype="float64")
    sources = numpy.array([[1, 2, 3, 4], [5, 6, 0, 0]])
    mask = numpy.array([[True] * 4, [True, True, False, False]])
    settings = {"bos_id": 0, "eos_id": 1, "max_length": 5, "length_penalty": 0.0}
    found = text.beam_search(model, sources, mask, beam_size=4, **settings)
    model.eval()
    for n, hypotheses in enumerate(found):
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for ids, score in hypotheses:  # each score is that of the whole target, computed at once
            target = [0, *ids.tolist()] if len(ids) == 5 else [0, *ids.tolist(), 1]
            part = sources[n : n + 1, : mask[n].sum()]
            logits = model.forward(part, numpy.array([target[:-1]]))
            log_p, _ = dl.ops.log_softmax(logits)
            numpy.testing.assert_allclose(log_p[0, numpy.arange(len(target) - 1), target[1:]].sum(), score)


SMALL = ["--width", "16", "--context", "16", "--batch-size", "4", "--dropout", "0.2", "--threads", "1", "--layers", "2"]


@pytest.mark.parametrize("kind", MODELS)
def test_training_goes_on_with_the_same_bits(kind, tmp_path, capsys, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setattr(train_text, "SAMPLE", 20)
    before = dl.get_num_threads()
    book, whole, part = tmp_path / "book.txt", tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    book.write_text("the cat sat on the mat and the dog ran to the cat. " * 30)
    heads = ["--heads", "2"] if kind == "gpt" else []
    command = ["train", "--text", str(book), "--model", kind, *SMALL, *heads, "--steps", "8"]
    assert main([*command, "--save", str(whole), "--every", "4"]) == 0

    class Stopped(Exception):
        pass

    advance = text.Trainer.advance

    def stopping(trainer):
        if trainer.step == 4:
            raise Stopped
        return advance(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(text.Trainer, "advance", stopping)
        with pytest.raises(Stopped):
            main([*command, "--save", str(part), "--every", "2"])
    assert main(["train", "--text", str(book), "--resume", str(part), "--threads", "1"]) == 0
    one, other = map(weights.load_file, (whole, part))
    assert one.keys() == other.keys()
    for name in one:
        numpy.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert main(["generate", "--model", str(part), "--prompt", "the ", "--tokens", "30", "--seed", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("the ")
    dl.set_num_threads(before)
