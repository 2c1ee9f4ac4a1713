"""Teach the encoder-decoder to read dates that are written in words, and to write them as ISO 8601 has them.

    python examples/translate_dates.py                  # some minutes on two cores
    python examples/translate_dates.py --pictures DIR   # and draws what it looks at; needs matplotlib

"friday, the third of may, nineteen hundred and four" becomes 1904-05-03. All pairs are generated; a tenth of them is held out
from training, and counts as right if every character is. Sources and targets are read and written character by character.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy

import minidl as dl
from minidl import inspection
from minidl.models import Transformer
from minidl.text import CharTokenizer, beam_search
from minidl.training import LearningRateScheduler

PAD, BEGIN, END = "_", "<", ">"
LENGTH = len("1904-05-03") + 1  # with the end
WIDTH = 64

ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
FIRST = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth"
MONTHS = "january february march april may june july august september october november december"
DAYS = "monday tuesday wednesday thursday friday saturday sunday"


def in_words(number: int) -> str:
    """Return a number from 1 to 99 in words."""
    if number < 20:
        return ONES.split()[number - 1]
    tens = TENS.split()[number // 10 - 2]
    return tens if number % 10 == 0 else f"{tens}-{in_words(number % 10)}"


def ordinal(number: int) -> str:
    """Return the ordinal of a number from 1 to 31 in words."""
    if number <= 16:
        return FIRST.split()[number - 1]
    if number in (20, 30):
        return in_words(number)[:-1] + "ieth"
    return f"{in_words(number // 10 * 10)}-{ordinal(number % 10)}" if number > 20 else in_words(number) + "th"


def year_in_words(year: int, style: int) -> str:
    """Return a year from 1800 to 2099 in words, in one of two styles."""
    century, rest = divmod(year, 100)
    if century == 20 and (style or rest < 10):
        return "two thousand" + (f" and {in_words(rest)}" if rest else "")
    if not rest:
        return f"{in_words(century)} hundred"
    if style:
        return f"{in_words(century)} hundred and {in_words(rest)}"
    return f"{in_words(century)} {'oh ' if rest < 10 else ''}{in_words(rest)}"


def write_date(date: datetime.date, generator: numpy.random.Generator) -> str:
    """Return a date in words, in one of many ways."""
    day, month = ordinal(date.day), MONTHS.split()[date.month - 1]
    year = year_in_words(date.year, generator.integers(2))
    forms = [
        f"the {day} of {month}, {year}",
        f"{month} the {day}, {year}",
        f"{month} {day} {year}",
        f"{day} of {month} {year}",
    ]
    weekday = f"{DAYS.split()[date.weekday()]}, " if generator.integers(2) else ""
    return weekday + forms[generator.integers(len(forms))]


def make_pairs(count: int, generator: numpy.random.Generator) -> list[tuple[str, str]]:
    """Return pairs of dates in words and in ISO 8601, all dates different."""
    first, last = datetime.date(1800, 1, 1).toordinal(), datetime.date(2099, 12, 31).toordinal()
    chosen = generator.choice(numpy.arange(first, last + 1), count, replace=False)
    dates = [datetime.date.fromordinal(int(number)) for number in chosen]
    return [(write_date(date, generator), date.isoformat()) for date in dates]


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--pairs", type=int, default=10_000)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--pictures", type=Path, metavar="DIR")
args = parser.parse_args()

dl.seed(args.seed)
pairs = make_pairs(args.pairs, numpy.random.default_rng(args.seed))
words, iso = (
    CharTokenizer.train("".join(a for a, _ in pairs) + PAD),
    CharTokenizer.train("0123456789-" + PAD + BEGIN + END),
)
longest = max(len(a) for a, _ in pairs)
source = numpy.array([words.encode(a.ljust(longest, PAD)) for a, _ in pairs])  # (N, S)
mask = source != words.encode(PAD)[0]
target = numpy.array([iso.encode(b + END) for _, b in pairs])  # (N, T)
begun = numpy.array([iso.encode(BEGIN + b) for _, b in pairs])  # (N, T): what the decoder has written so far
inputs, held_out = (source, begun, mask), slice(len(pairs) - len(pairs) // 10, None)
train = slice(0, held_out.start)

model = Transformer(
    words.vocab_size, iso.vocab_size, WIDTH, 4, 2, 2, 4 * WIDTH, dropout=0.0, context=longest, norm_first=True
)
optimizer = dl.Adam(model.parameters(), lr=0.5, betas=(0.9, 0.98), eps=1e-9)
model.compile(optimizer, dl.CrossEntropyLoss(label_smoothing=0.1, class_axis=-1), metrics=["accuracy"])
schedule = LearningRateScheduler(dl.optim.TransformerLR(optimizer, WIDTH, warmup_steps=300))
model.fit(
    tuple(x[train] for x in inputs), target[train], batch_size=64, epochs=args.epochs, verbose=2, callbacks=schedule,
    validation_data=(tuple(x[held_out] for x in inputs), target[held_out]), seed=args.seed,
)  # fmt: skip

ends = {"bos_id": iso.encode(BEGIN)[0], "eos_id": iso.encode(END)[0]}
found = beam_search(model, source[held_out], mask[held_out], **ends, max_length=LENGTH, beam_size=1)
answers = [iso.decode(best.ids) for best, *_ in found]
right = [answer == wanted for answer, (_, wanted) in zip(answers, pairs[held_out], strict=True)]
for (text, _), answer in zip(pairs[held_out][:5], answers, strict=False):
    print(f"{text} -> {answer}")
print(f"{numpy.mean(right):.1%} of {len(right)} dates that it had not seen are right in every character")

if args.pictures is not None:
    args.pictures.mkdir(parents=True, exist_ok=True)
    chosen = range(held_out.start, held_out.start + 4)
    model.forward(*(x[chosen] for x in inputs))
    maps = model.attention_maps()[-1]  # (N, H, T, S) of the last layer
    for row, of_heads in zip(chosen, maps, strict=True):
        text, answer = pairs[row]
        inspection.save_attention(
            args.pictures / f"{answer}.png", of_heads[:, :, : len(text)], answer + END, text, columns=1
        )
    print(f"pictures are in {args.pictures}")
