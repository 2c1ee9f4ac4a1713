"""Fine-tune the published weights of MiniLM to find the answer to a question in a text about a person who is made up.

    python examples/answer_questions.py FOLDER       # one or two minutes

FOLDER holds config.json, model.safetensors and tokenizer.json of all-MiniLM-L6-v2; needs the extras weights and text. Texts and
questions are generated from lists. The names and the answers of the test are in no text that was trained on, and half of its
questions are put in words that were not. The model has only learnt about texts of this kind: it is no reader of others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from fine_tune_minilm import fine_tune, load_minilm

import minidl as dl
from minidl import text

TRAINING = {
    "name": "Anna, Boris, Carla, David, Elena, Frank, Greta, Hugo, Irene, Jakob, Karin, Lucas, Maria, Nikolai, Olga, Peter",
    "town": "Rome, Paris, Vienna, Lisbon, Madrid, Dublin, Athens, Oslo, Prague, Warsaw, Berlin, Moscow, Geneva, Cairo",
    "trade": "baker, teacher, sailor, doctor, painter, farmer, lawyer, singer, tailor, soldier, writer, miner",
    "year": ", ".join(map(str, range(1900, 1950))),
    "instrument": "piano, violin, guitar, drum, trumpet, flute, cello, harp",
    "animal": "dog, cat, horse, parrot, rabbit, donkey, goat, snake",
}
TEST = {
    "name": "Martin, Bella, Conrad, Diana, Emil, Flora, Gustav, Helen, Isaac, Julia, Leo, Martha, Oscar, Rosa",
    "town": "London, Budapest, Helsinki, Stockholm, Tokyo, Boston, Chicago, Toronto, Sydney, Naples",
    "trade": "carpenter, nurse, pilot, judge, gardener, butcher, printer, surgeon, waiter, barber",
    "year": ", ".join(map(str, range(1950, 2000))),
    "instrument": "organ, clarinet, banjo, saxophone, oboe, accordion",
    "animal": "hamster, turtle, pig, sheep, canary, monkey",
}
SENTENCES = {
    "town": ["{name} was born in {town}.", "{name} came from {town}."],
    "trade": ["{name} worked as a {trade}.", "{name} became a {trade}."],
    "year": ["{name} died in {year}.", "The death of {name} was in {year}."],
    "instrument": ["{name} played the {instrument}.", "{name} had learnt the {instrument}."],
    "animal": ["{name} had a {animal}.", "With {name} lived a {animal}."],
}
QUESTIONS = {
    "town": ["Where was {name} born?", "Where did {name} come from?"],
    "trade": ["What did {name} work as?", "What was the trade of {name}?"],
    "year": ["When did {name} die?", "In which year did {name} die?"],
    "instrument": ["What did {name} play?", "Which instrument did {name} play?"],
    "animal": ["Which animal did {name} have?", "What animal lived with {name}?"],
}
OTHER_WORDS = {
    "town": ["What is the birthplace of {name}?", "In which city did the life of {name} begin?"],
    "trade": ["How did {name} earn a living?", "What was the profession of {name}?"],
    "year": ["Until when did {name} live?", "What was the last year in the life of {name}?"],
    "instrument": ["On what did {name} make music?", "What would {name} take to an orchestra?"],
    "animal": ["Which pet did {name} keep?", "Who was the companion with a tail?"],
}


class Question(NamedTuple):
    """A text, a question about it, and the answer, which is in the text once."""

    context: str
    question: str
    answer: str


def draw(generator: numpy.random.Generator, words: dict[str, str], questions: dict[str, list[str]]) -> Question:
    """Draw a text about a person, and a question about it."""
    facts = {kind: str(generator.choice(words[kind].split(", "))) for kind in words}
    sentences = [str(generator.choice(SENTENCES[kind])).format(**facts) for kind in SENTENCES]
    kind = str(generator.choice(list(SENTENCES)))
    question = str(generator.choice(questions[kind])).format(**facts)
    return Question(" ".join(generator.permutation(sentences)), question, facts[kind])


class Batches:
    """Batches for ``fit``: ids, mask and types, (N, T), and the first and the last token of the answer, (N, 2)."""

    def __init__(self, tokenizer: Any, questions: list[Question], size: int) -> None:
        self.size, self.rows = size, [self.encode(tokenizer, each) for each in questions]

    @staticmethod
    def encode(tokenizer: Any, each: Question) -> tuple[Any, tuple[int, int]]:
        """Return the tokens, and the places of those that begin and end where the answer does."""
        encoded = tokenizer.encode_with_offsets(each.question, each.context)
        start = each.context.index(f"{each.answer}.")
        inside = numpy.flatnonzero(encoded.parts == 1)
        first = inside[encoded.offsets[inside, 0] == start][0]
        last = inside[encoded.offsets[inside, 1] == start + len(each.answer)][0]
        return encoded, (first, last)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __getitem__(self, index: int) -> Any:
        rows = self.rows[index * self.size : (index + 1) * self.size]
        ids, mask, types = numpy.zeros((3, len(rows), max(len(encoded.ids) for encoded, _ in rows)), "int64")
        for i, (encoded, _) in enumerate(rows):
            length = len(encoded.ids)
            ids[i, :length], mask[i, :length], types[i, :length] = encoded.ids, 1, encoded.types
        return (ids, mask, types), numpy.array([target for _, target in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of MiniLM")
    parser.add_argument("--count", type=int, default=1600, help="questions to train on, each once")
    parser.add_argument("--test", type=int, default=200, help="questions to test on, of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    dl.seed(args.seed)
    train, test = numpy.random.default_rng([args.seed, 0]), numpy.random.default_rng([args.seed, 1])
    tokenizer = text.load_tokenizer(args.folder / "tokenizer.json")
    model = load_minilm(args.folder, "question_answering")
    model.freeze("embeddings")
    batches = Batches(tokenizer, [draw(train, TRAINING, QUESTIONS) for _ in range(args.count)], 8)
    # logits (N, T, 2): the classes are the places in the text, once for the first token and once for the last
    fine_tune(model, batches, epochs=1, lr=2e-4, loss=dl.CrossEntropyLoss())

    for kind, words in (("in words that were trained on", QUESTIONS), ("in other words", OTHER_WORDS)):
        asked = [draw(test, TEST, words) for _ in range(args.test)]
        found = [text.answer(model, tokenizer, each.question, each.context) for each in asked]
        right = numpy.mean([answer.text == each.answer for answer, each in zip(found, asked, strict=True)])
        print(f"questions {kind}: {right:.1%} of {len(asked)} answers are right in every letter")
    print(f"\n{asked[0].context}")
    who = next(name for name in TEST["name"].split(", ") if name in asked[0].context)
    for questions in OTHER_WORDS.values():
        question = questions[0].format(name=who)
        print(f"{question} {text.answer(model, tokenizer, question, asked[0].context).text}")


if __name__ == "__main__":
    main()
