"""Teach the encoder-decoder of "Attention is all you need" to sort digits, or to write them backwards.

    python examples/sort_and_reverse.py sort       # a few minutes
    python examples/sort_and_reverse.py reverse

Each step draws new sequences of 4 to 12 digits. The test sequences are drawn with another seed, and a sequence counts as right
if every digit of it is.
"""

from __future__ import annotations

import argparse

import numpy

import minidl as dl
from minidl.models import Transformer
from minidl.text import beam_search

PAD, BEGIN, END, DIGITS = 0, 1, 2, 3  # token 3 is the digit 0
SHORTEST, LONGEST = 4, 12
WIDTH = 64


def draw(
    task: str, count: int, generator: numpy.random.Generator
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Return padded sources (N, S), which of their tokens count (N, S), and targets (N, S + 1), which have an end."""
    source = generator.integers(DIGITS, DIGITS + 10, (count, LONGEST))
    lengths = generator.integers(SHORTEST, LONGEST + 1, count)
    target = numpy.full((count, LONGEST + 1), PAD)
    mask = numpy.arange(LONGEST) < lengths[:, None]
    for row, wanted, length in zip(source, target, lengths, strict=True):
        wanted[:length] = sorted(row[:length]) if task == "sort" else row[:length][::-1]
        wanted[length] = END
    return numpy.where(mask, source, PAD), mask, target


def written(tokens: numpy.ndarray) -> str:
    """Return the digits of tokens."""
    return "".join(str(token - DIGITS) for token in tokens if token >= DIGITS)


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("task", choices=["sort", "reverse"])
parser.add_argument("--steps", type=int, default=4500)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

dl.seed(args.seed)
train, test = numpy.random.default_rng([args.seed, 0]), numpy.random.default_rng([args.seed, 1])
vocabulary = DIGITS + 10
model = Transformer(
    vocabulary, vocabulary, WIDTH, 4, 2, 2, 4 * WIDTH, dropout=0.0, context=LONGEST + 1, norm_first=True
)
loss = dl.CrossEntropyLoss(label_smoothing=0.1, ignore_index=PAD, class_axis=-1)
optimizer = dl.Adam(model.parameters(), lr=0.5, betas=(0.9, 0.98), eps=1e-9)
schedule = dl.optim.TransformerLR(optimizer, WIDTH, warmup_steps=300)
for step in range(1, args.steps + 1):
    source, mask, target = draw(args.task, 64, train)
    begun = numpy.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=BEGIN)  # what the decoder has written so far
    value = loss.forward(model.forward(source, begun, mask), target)
    model.backward(loss.backward())
    optimizer.step()
    optimizer.zero_grad()
    schedule.step()
    if step % 100 == 0 or step == args.steps:
        print(f"step {step}: loss {float(value):.3f}", flush=True)

source, mask, target = draw(args.task, 1000, test)
found = beam_search(model, source, mask, bos_id=BEGIN, eos_id=END, max_length=LONGEST + 1, beam_size=1)
answers = [written(best.ids) for best, *_ in found]
right = sum(answer == written(wanted) for answer, wanted in zip(answers, target, strict=True))
for given, answer in zip(source[:4], answers, strict=False):
    print(f"{written(given):>12} -> {answer}")
print(f"{args.task}: {right / len(answers):.1%} of {len(answers)} test sequences are right in every digit")
