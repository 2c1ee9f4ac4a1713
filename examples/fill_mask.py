"""Train the published weights of MiniLM to guess hidden words, on Shakespeare's sonnets, and let it fill gaps in others of them.

    python examples/fill_mask.py FOLDER       # some minutes

FOLDER holds config.json, model.safetensors and tokenizer.json of all-MiniLM-L6-v2; needs the extras weights and text. MiniLM
comes without a head for this, so it gets a new one, which scores each word of the vocabulary by the table of embeddings. A tenth
of the sonnets, the last ones, is kept to test on. 86 KB of text make no good language model; the example shows how it is done.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy
from fine_tune_minilm import fine_tune, load_minilm

import minidl as dl
from minidl import text

LENGTH, IGNORED = 64, -100


class Masked:
    """Batches for ``fit``: ids, (N, T), some of them hidden, and as targets the hidden ones, (N, T).

    As for BERT, 15 % of the tokens are to be guessed. Of these 80 % become [MASK], 10 % another token, and 10 % stay.
    """

    def __init__(self, tokenizer: Any, written: str, size: int, seed: int) -> None:
        begin, *inside, end = tokenizer.encode(written, special=True)
        room = LENGTH - 2
        windows = [inside[i : i + room] for i in range(0, len(inside) - room + 1, room)]
        self.windows = numpy.array([[begin, *window, end] for window in windows])  # (M, T)
        self.mask, self.known = tokenizer.id_of("[MASK]"), numpy.unique(inside)
        self.size, self.seed, self.epoch = size, seed, 0

    def __len__(self) -> int:
        return len(self.windows) // self.size

    def __getitem__(self, index: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        order = numpy.random.default_rng([self.seed, self.epoch]).permutation(len(self.windows))
        return self.hide(self.windows[order[index * self.size : (index + 1) * self.size]], index)

    def hide(self, ids: numpy.ndarray, index: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return ids with some of them hidden, and which these were."""
        generator = numpy.random.default_rng([self.seed, self.epoch, index])
        chosen, drawn = generator.random(ids.shape) < 0.15, generator.random(ids.shape)
        chosen[:, [0, -1]] = False
        target = numpy.where(chosen, ids, IGNORED)
        hidden = numpy.where(chosen & (drawn < 0.8), self.mask, ids)
        swapped = chosen & (drawn >= 0.9)
        hidden[swapped] = generator.choice(self.known, swapped.sum())
        return hidden, target

    def on_epoch_end(self) -> None:
        """Go on to the next epoch."""
        self.epoch += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of MiniLM")
    parser.add_argument("--characters", type=int, default=86_000, help="of the sonnets to train on, from the beginning")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    dl.seed(args.seed)
    sonnets, tokenizer = text.sonnets(), text.load_tokenizer(args.folder / "tokenizer.json")
    training = Masked(tokenizer, sonnets[: args.characters], 8, args.seed)
    model = load_minilm(args.folder, "masked_lm")
    model.freeze("embeddings")  # the last map is the table of the words, and stays too
    fine_tune(model, training, args.epochs, lr=5e-4, loss=dl.CrossEntropyLoss(class_axis=-1))

    unseen = Masked(tokenizer, sonnets[86_000:], 1, args.seed)
    right = total = commonest = 0
    ids, counts = numpy.unique(training.windows[:, 1:-1], return_counts=True)
    for i in range(len(unseen)):
        hidden, target = unseen[i]
        gaps = target != IGNORED
        with dl.inference():
            best = model.forward(hidden).argmax(axis=-1)  # (1, T)
        right, total = right + (best[gaps] == target[gaps]).sum(), total + gaps.sum()
        commonest += (target[gaps] == ids[counts.argmax()]).sum()
    print(f"{right / total:.1%} of {total} hidden tokens of other sonnets are guessed; "
          f"{commonest / total:.1%} are the most frequent token")  # fmt: skip
    lines = [line for line in sonnets[86_000:].splitlines() if len(line.split()) > 6]
    for line in lines[:60:10]:
        words = line.split()
        words[4] = "[MASK]"
        [best] = text.fill_mask(model, tokenizer, " ".join(words), k=3)
        print(
            f"{' '.join(words)}  ({line.split()[4]}): {', '.join(f'{each.token} {each.probability:.2f}' for each in best)}"
        )


if __name__ == "__main__":
    main()
