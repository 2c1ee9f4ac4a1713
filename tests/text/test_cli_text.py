"""``minidl train --text`` and ``minidl generate``, as a person uses them: checkpoints, Ctrl-C, and going on."""

import io
import json
import re
import signal

import numpy
import pytest
from language_models import Trained

import minidl as dl
from minidl import text, weights
from minidl.cli import language_models, main, train_text
from minidl.errors import DataError, FileFormatError, MinidlError, NonFiniteError

pytest.importorskip("safetensors")

WORDS = "the cat sat on the mat and the dog ran to the cat. " * 30
SMALL = ["--width", "8", "--context", "16", "--batch-size", "4", "--dropout", "0.2", "--threads", "1"]


@pytest.fixture(autouse=True)
def _own_threads():
    before = dl.get_num_threads()
    yield
    dl.set_num_threads(before)


@pytest.fixture(autouse=True)
def _small_model(monkeypatch):
    monkeypatch.setitem(language_models.KINDS, "gpt", Trained)
    monkeypatch.setattr(train_text, "SAMPLE", 30)


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(WORDS, encoding="utf-8")
    return path


def train(book, save, *more):
    return main(["train", "--text", str(book), "--save", str(save), *SMALL, *more])


def tensors_and_description(path):
    return weights.load_file(path), text.load_checkpoint(path).training


def assert_same_bits(one, other):
    (a, about_a), (b, about_b) = map(tensors_and_description, (one, other))
    assert a.keys() == b.keys()
    for name in a:
        numpy.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert about_a == about_b


def test_a_person_trains_and_talks_to_the_result(book, tmp_path, capsys):
    model = tmp_path / "book.safetensors"
    assert train(book, model, "--steps", "300", "--every", "150", "--lr", "0.02", "--dropout", "0") == 0
    out = capsys.readouterr().out
    assert "1,530 characters, 1,530 tokens of 14, the last 153 for validation; gpt with " in out
    lines = re.findall(
        r"^step (\d+)/300  loss ([\d.]+)  ([\d,]+) tokens/s  \d+:\d\d left  validation ([\d.]+)", out, re.M
    )
    assert [line[0] for line in lines] == ["150", "300"]
    assert float(lines[-1][1]) < 1.0
    assert float(lines[-1][3]) < float(lines[0][3]) < 2.5
    assert len(re.findall(r"^  \| ", out, re.M)) == 2
    assert main(["generate", "--model", str(model), "--prompt", "the ", "--tokens", "40", "--seed", "1"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("the ")
    assert len(first) == 4 + 40 + 1
    assert {"cat", "dog", "mat", "sat", "ran"} & set(first.split())
    main(["generate", "--model", str(model), "--prompt", "the ", "--tokens", "40", "--seed", "1"])
    assert capsys.readouterr().out == first


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe", "file"])
def test_tokenizers(tokenizer, book, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    more = {"bpe": ["--vocab-size", "270"]}.get(tokenizer, [])
    if tokenizer == "file":
        tokenizer = str(tmp_path / "tokenizer.json")
        text.BytePairTokenizer.train(WORDS, 280).save(tokenizer)
    assert train(book, model, "--steps", "2", "--tokenizer", tokenizer, *more) == 0
    assert main(["generate", "--model", str(model), "--prompt", "the c", "--tokens", "5"]) == 0
    found = text.load_checkpoint(model)
    sizes = {"char": 14, "byte": 256, "bpe": 270}
    assert found.tokenizer.vocab_size == found.settings["vocab_size"] == sizes.get(tokenizer, 277)
    assert found.tokenizer.decode(found.tokenizer.encode(WORDS)) == WORDS


class TestStopping:
    """Training that was stopped goes on with the same bits as training in one go, dropout and all."""

    STEPS = ("--steps", "10", "--every", "4")

    @pytest.fixture
    def whole(self, book, tmp_path):
        assert train(book, tmp_path / "whole.safetensors", *self.STEPS) == 0
        return tmp_path / "whole.safetensors"

    @pytest.mark.parametrize("at", [1, 5, 8])
    def test_by_ctrl_c(self, at, whole, book, tmp_path, capsys, monkeypatch):
        part, advance = tmp_path / "part.safetensors", text.Trainer.advance

        def interrupted(trainer):
            if trainer.step == at - 1:
                signal.raise_signal(signal.SIGINT)  # a step that has begun is finished
            return advance(trainer)

        before = signal.getsignal(signal.SIGINT)
        with monkeypatch.context() as patch:
            patch.setattr(text.Trainer, "advance", interrupted)
            assert train(book, part, *self.STEPS) == 130
        assert signal.getsignal(signal.SIGINT) is before
        out = capsys.readouterr().out
        assert f"stopped after step {at}" in out
        assert f"--resume {part}" in out
        assert text.load_checkpoint(part).training["step"] == at
        assert main(["generate", "--model", str(part), "--prompt", "the", "--tokens", "3"]) == 0
        dl.seed(123)  # another state of the generator than the one that the training left
        assert main(["train", "--text", str(book), "--resume", str(part), "--threads", "1"]) == 0
        assert_same_bits(part, whole)

    def test_by_a_second_ctrl_c(self, book, tmp_path, monkeypatch):
        def interrupted(trainer):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(text.Trainer, "advance", interrupted)
        assert train(book, tmp_path / "m.safetensors", *self.STEPS) == 130
        assert not (tmp_path / "m.safetensors").exists()

    def test_by_an_error(self, whole, book, tmp_path, monkeypatch, capsys):
        part, other, advance = tmp_path / "part.safetensors", tmp_path / "other.safetensors", text.Trainer.advance

        def failing(trainer):
            if trainer.step == 6:
                raise NonFiniteError("the loss became nan")
            return advance(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(text.Trainer, "advance", failing)
            assert train(book, part, *self.STEPS) == 2
        assert text.load_checkpoint(part).training["step"] == 4
        command = ["train", "--text", str(book), "--resume", str(part), "--save", str(other), "--every", "3"]
        assert main([*command, "--threads", "1"]) == 0
        assert_same_bits(other, whole)
        assert text.load_checkpoint(part).training["step"] == 4

    def test_more_steps(self, whole, book, tmp_path, capsys):
        assert main(["train", "--text", str(book), "--resume", str(whole), "--steps", "12"]) == 0
        assert text.load_checkpoint(whole).training["step"] == 12
        assert main(["train", "--text", str(book), "--resume", str(whole)]) == 0
        assert "step 12/12" not in capsys.readouterr().out.split("step 12/12", 1)[1]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--width", "16"], r"--width 16: the checkpoint was trained with 8; leave it out, or train anew"),
            (["--lr", "0.5"], r"--lr 0.5: the checkpoint was trained with 0.001"),
            (["--tokenizer", "byte"], r"--tokenizer byte: the checkpoint was trained with char"),
        ],
    )
    def test_with_other_settings(self, more, message, whole, book, capsys):
        assert main(["train", "--text", str(book), "--resume", str(whole), *more]) == 2
        assert re.search(message, capsys.readouterr().err)
        assert main(["train", "--text", str(book), "--resume", str(whole), "--width", "8"]) == 0

    def test_with_another_text(self, whole, book, capsys):
        book.write_text(WORDS[::-1])
        assert main(["train", "--text", str(book), "--resume", str(whole)]) == 2
        assert "the text, or its part for validation, is not the one" in capsys.readouterr().err
        book.write_text(WORDS + "Ж")
        assert main(["train", "--text", str(book), "--resume", str(whole)]) == 2
        assert "'Ж' at index 1530 is not in the vocabulary" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", "3"], "--epochs goes with --data, not with --text"),
        (["--target", "a", "--activation", "relu"], "--target, --activation goes with --data"),
        (["--layers", "3,4"], "--layers: for text, expected their number, such as 4, got '3,4'"),
        (["--vocab-size", "300"], "--vocab-size goes with --tokenizer bpe"),
        (["--tokenizer", "none.json"], "there is no file 'none.json'"),
        (["--context", "5000"], "need a text of 5001 tokens"),
        (["--resume", "none.safetensors"], "none.safetensors"),
    ],
)
def test_what_is_refused(more, message, book, tmp_path, capsys):
    assert main(["train", "--text", str(book), "--save", str(tmp_path / "m.safetensors"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()


def test_options_of_text_do_not_go_with_data(capsys):
    assert main(["train", "--data", "digits", "--steps", "3", "--model", "gpt"]) == 2
    assert "--model, --steps goes with --text, not with --data" in capsys.readouterr().err


def test_an_empty_file(book, tmp_path, capsys):
    book.write_text("")
    assert train(book, tmp_path / "m.safetensors") == 2
    assert "book.txt: the file is empty" in capsys.readouterr().err


def test_a_model_that_is_there_is_not_written_over_by_chance(book, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train", "--text", str(book), *SMALL, "--steps", "1"]
    assert main(command) == 0
    assert (tmp_path / "book.safetensors").exists()
    assert main(command) == 2
    assert "book.safetensors exists: pass --resume book.safetensors to go on with it" in capsys.readouterr().err
    assert main([*command, "--save", "book.safetensors"]) == 0


def test_prompts_from_the_input(book, tmp_path, capsys, monkeypatch):
    model = tmp_path / "m.safetensors"
    train(book, model, "--steps", "1")
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n\na dog"))
    assert main(["generate", "--model", str(model), "--tokens", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in lines if line.startswith(("the cat", "a dog"))] == ["the cat", lines[-1][:7]]


def test_generation_stops_before_a_text(book, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    train(book, model, "--steps", "1")
    capsys.readouterr()
    main(["generate", "--model", str(model), "--prompt", "the", "--tokens", "300", "--seed", "0", "--stop", " "])
    assert " " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prompt", "żółw"], "is not in the vocabulary of 14 characters"),
        (["--prompt", ""], "prompt 0 is empty"),
        (["--prompt", "the", "--temperature", "-1"], "temperature must not be negative"),
        (["--prompt", "the", "--top-p", "2"], "top_p"),
    ],
)
def test_generation_that_is_refused(more, message, book, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    train(book, model, "--steps", "1")
    assert main(["generate", "--model", str(model), *more]) == 2
    assert message in capsys.readouterr().err


# checkpoints ------------------------------------------------------------------------------------------------------


def test_checkpoints_that_are_damaged(book, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    train(book, model, "--steps", "1")
    whole = model.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    about = json.loads(header["__metadata__"]["minidl"])

    def rewritten(change):
        """Return the file with another description."""
        changed = json.loads(json.dumps(about))
        description = change(changed)
        metadata = {"minidl": description if isinstance(description, str) else json.dumps(changed)}
        head = json.dumps({**header, "__metadata__": metadata}).encode()
        head += b" " * (-len(head) % 8)
        return len(head).to_bytes(8, "little") + head + whole[8 + length :]

    damaged = [
        whole[:-7],
        whole[: length // 2],
        b"",
        rewritten(lambda a: "{"),
        rewritten(lambda a: "[]"),
        rewritten(lambda a: a.update(version=7)),
        rewritten(lambda a: a.update(model=None)),
        rewritten(lambda a: a.update(tokenizer={})),
        rewritten(lambda a: a["model"].update(kind="bert")),
        rewritten(lambda a: a["model"].pop("context")),
        rewritten(lambda a: a["model"].update(vocab_size=17)),
    ]
    for content in damaged:
        model.write_bytes(content)
        capsys.readouterr()
        assert main(["generate", "--model", str(model), "--prompt", "the"]) == 2
        assert capsys.readouterr().err.startswith("minidl: ")
    for change in (
        lambda a: a["training"].pop("settings"),
        lambda a: a["training"].pop("schedule"),
        lambda a: a["training"].update(generator={"bit_generator": "MT19937"}),
    ):
        model.write_bytes(rewritten(change))
        assert main(["train", "--text", str(book), "--resume", str(model)]) == 2


def test_weights_alone_are_no_checkpoint(tmp_path):
    path = tmp_path / "w.safetensors"
    dl.Linear(2, 3).save(path)
    with pytest.raises(
        FileFormatError, match="holds weights, but not the description that `minidl train --text` writes"
    ):
        text.load_checkpoint(path)


def test_tied_weights_are_written_once(tmp_path):
    path, shared = tmp_path / "w.safetensors", numpy.ones((4, 4), "float32")
    saved = text.Checkpoint(
        {"kind": "gpt"}, text.ByteTokenizer(), {"a": shared, "b": shared, "c": shared.copy()}, {}, {}
    )
    text.save_checkpoint(path, saved)
    assert list(text.load_checkpoint(path).weights) == ["a", "c"]


# the trainer ------------------------------------------------------------------------------------------------------


def trainer_of(tokens, **settings):
    dl.seed(0)
    model = Trained(8, 16)
    return text.Trainer(
        model, tokens, tokens[:40], **{"length": 8, "batch_size": 4, "steps": 40, "lr": 0.01, **settings}
    )


TOKENS = numpy.arange(400) % 7


def test_the_rate_rises_and_falls():
    trainer = trainer_of(TOKENS, steps=100)
    rates = [(trainer.optimizer.lr, trainer.advance())[0] for _ in range(100)]
    assert rates[0] < rates[4] < 0.0099
    assert max(rates) == rates[5] == pytest.approx(0.01)
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert 0.001 <= rates[-1] < 0.0011


def test_vectors_do_not_decay():
    trainer = trainer_of(TOKENS)
    decays = {p: group["weight_decay"] for group in trainer.optimizer.param_groups for p in group.parameters}
    assert len(decays) == len(trainer.model.parameters())
    assert all((decay > 0) == (len(p.shape) > 1) for p, decay in decays.items())


def test_the_validation_loss_is_the_mean_over_the_text():
    trainer = trainer_of(TOKENS)
    assert trainer.evaluate() == trainer.evaluate()
    x, y = (part.reshape(1, -1) for part in (TOKENS[:39], TOKENS[1:40]))
    rows = [trainer.model.forward(x[:, i : i + 8]) for i in range(0, 32, 8)]  # windows of 8; the rest is too short
    logits = numpy.concatenate(rows, axis=1)
    expected = float(dl.CrossEntropyLoss(class_axis=-1).forward(logits, y[:, :32]))
    assert abs(trainer.evaluate() - expected) < 1e-5
    assert text.Trainer(Trained(8, 16), TOKENS, TOKENS[:5], 8, 4, 10, 0.1).evaluate() is None


def test_a_loss_that_is_not_finite_changes_nothing():
    trainer = trainer_of(TOKENS)
    trainer.advance()
    bias = trainer.model.parameters()[-1]
    bias.value[0] = numpy.nan
    before = [p.value.copy() for p in trainer.model.parameters()]
    with pytest.raises(NonFiniteError, match="step 2"):
        trainer.advance()
    assert trainer.step == 1
    for p, old in zip(trainer.model.parameters(), before, strict=True):
        numpy.testing.assert_array_equal(p.value, old)


def test_a_state_of_another_text():
    state = trainer_of(TOKENS).state()
    trainer_of(TOKENS).load_state(*state)
    with pytest.raises(DataError, match="the text"):
        trainer_of(TOKENS[::-1]).load_state(*state)
    with pytest.raises(MinidlError):
        trainer_of(TOKENS).load_state({}, state[1])
