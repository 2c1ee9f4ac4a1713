"""Recurrent models against others: the loss of PyTorch from the same weights, and a trained GRU that spells words."""

import itertools

import numpy
import pytest
from package_files import find_in_package

torch = pytest.importorskip("torch")

import minidl as dl  # noqa: E402
from minidl.models import CharRNN  # noqa: E402
from minidl.text import CharTokenizer, sonnets  # noqa: E402

pytestmark = pytest.mark.peers


@pytest.fixture(autouse=True)
def _one_thread():
    """Small products, which PyTorch's threads would spend the time waiting for one another in."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TorchCharRNN(torch.nn.Module):
    def __init__(self, vocabulary, embedding_dim, hidden_size, layers, cell):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, embedding_dim)
        self.rnn = getattr(torch.nn, cell.upper())(embedding_dim, hidden_size, layers, batch_first=True)
        self.head = torch.nn.Linear(hidden_size, vocabulary)

    def forward(self, ids, state):
        y, state = self.rnn(self.embedding(ids), state)
        return self.head(y), state


def detached(state):
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 1), ("lstm", 2), ("gru", 1)])
def test_the_loss_follows_pytorchs(host_engine, cell, layers):
    """Fifty steps of Adam on the sonnets, by windows of 32 characters whose state goes on."""
    text = sonnets()
    tokenizer = CharTokenizer.train(text)
    ids = numpy.array(tokenizer.encode(text[:20_000]))
    batch, window, vocabulary = 8, 32, tokenizer.vocab_size
    rows = ids[: batch * (len(ids) // batch)].reshape(batch, -1)
    with dl.use(host_engine):
        dl.seed(0)
        ours, theirs = CharRNN(vocabulary, 24, 48, layers, cell), TorchCharRNN(vocabulary, 24, 48, layers, cell)
        theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
        loss, optimizer = dl.CrossEntropyLoss(), dl.Adam(ours.parameters(), lr=3e-3)
        theirs_optimizer = torch.optim.Adam(theirs.parameters(), lr=3e-3)
        found, expected, state, their_state = [], [], None, None
        for step in range(50):
            start = step * window
            x, target = rows[:, start : start + window], rows[:, start + 1 : start + window + 1]
            logits, state = ours.forward_with_state(x, state)
            found.append(float(loss.forward(logits.reshape(-1, vocabulary), target.reshape(-1))))
            ours.backward_with_state(loss.backward().reshape(logits.shape))
            optimizer.step()
            optimizer.zero_grad()

            their_logits, their_state = theirs(torch.tensor(x), their_state)
            their_state = detached(their_state)
            value = torch.nn.functional.cross_entropy(their_logits.flatten(0, 1), torch.tensor(target).flatten())
            expected.append(value.item())
            theirs_optimizer.zero_grad()
            value.backward()
            theirs_optimizer.step()
    assert found[-1] < found[0] - 0.8
    numpy.testing.assert_allclose(found[:5], expected[:5], rtol=2e-6)
    numpy.testing.assert_allclose(found, expected, rtol=2e-4)  # float32, magnified from step to step


# a trained GRU --------------------------------------------------------------------------------------------------------

VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]
CONSONANTS = [
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "UW",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
]
SOUNDS = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    *sorted([v + stress for v, stress in itertools.product(VOWELS, "012")] + CONSONANTS),
]
LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
WORDS = {
    "activationist": "AE2 K T IH0 V EY1 SH AH0 N IH0 S T",
    "transformer": "T R AE0 N S F AO1 R M ER0",
}


@pytest.fixture(scope="module")
def checkpoint():
    """The arrays of g2p_en's checkpoint, without importing the package, whose dependencies fetch data."""
    path = find_in_package("g2p_en", "checkpoint20.npz", "--no-deps g2p_en==2.1.0")
    with numpy.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def part(checkpoint, prefix):
    """Return the embedding and the GRU of the encoder or the decoder."""
    table = checkpoint[f"{prefix}_emb"]
    embedding, gru = dl.Embedding(*table.shape), dl.GRU(256, 256)
    embedding.load_state_dict({"weight": table})
    gru.load_state_dict({f"{kind}_l0": checkpoint[f"{prefix}_{short}"] for kind, short in KINDS.items()})
    return embedding, gru


KINDS = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}


def test_a_trained_gru_spells_words_as_sounds(host_engine, checkpoint):
    """An encoder reads the letters of both words at once, the shorter one padded; a decoder writes sounds greedily."""
    with dl.use(host_engine), dl.inference(evaluate=True):
        letters, encoder = part(checkpoint, "enc")
        sounds, decoder = part(checkpoint, "dec")
        head = dl.Linear(256, len(SOUNDS))
        head.load_state_dict({"weight": checkpoint["fc_w"], "bias": checkpoint["fc_b"]})
        lengths = numpy.array([len(word) + 1 for word in WORDS])
        ids = numpy.zeros((len(WORDS), max(lengths)), dtype=int)
        for row, word in zip(ids, WORDS, strict=True):
            row[: len(word) + 1] = [*map(LETTERS.index, word), LETTERS.index("</s>")]
        _, state = encoder.forward_with_state(letters.forward(ids), None, lengths)  # (1, N, 256)
        last = numpy.full((len(WORDS), 1), SOUNDS.index("<s>"))
        spelled = [[] for _ in WORDS]
        for _ in range(20):
            y, state = decoder.forward_with_state(sounds.forward(last), state)
            last = head.forward(y)[:, -1].argmax(axis=1)[:, None]
            for written, sound in zip(spelled, last[:, 0], strict=True):
                written.append(SOUNDS[sound])
    assert [" ".join(itertools.takewhile(lambda s: s != "</s>", written)) for written in spelled] == list(
        WORDS.values()
    )
