"""Rows of a table, and rotary positions."""

import numpy
from family import Family, backward, random, unaligned

from minidl.errors import DataError


def few_embeddings(engine, dtype):
    """Runs of equal ids within a chunk of 32 places, over its edges, and over several chunks."""
    generator = numpy.random.default_rng(0)
    for places, vocabulary, width in ((1, 1, 1), (32, 3, 5), (33, 2, 300), (200, 3, 33), (200, 300, 7)):
        ids, weight = generator.integers(0, vocabulary, places), random((vocabulary, width), dtype)
        yield from backward("embedding", engine, dtype, ids, weight)
        yield from backward("embedding", engine, dtype, ids, unaligned(weight), padding_idx=-1)
    ids = numpy.repeat([4, 1, 3, 0], (64, 96, 1, 31))  # runs that end where chunks do
    yield from backward("embedding", engine, dtype, ids, random((6, 4), dtype), padding_idx=3)


def more_embeddings(engine, dtype):
    """A gradient added to storage that is handed in, one that nobody wants, and ids that are no rows."""
    ids, weight = numpy.array([[1, 4, 1], [0, 1, 1]]), random((5, 3), dtype)
    y, cache = engine.embedding(ids, weight)
    storage, dy = random(weight.shape, dtype, 1), random(y.shape, dtype, 2)
    for add in (True, False):
        _, dweight = engine.embedding_backward(dy, cache, into=(storage,), add=add)
        yield "dweight in storage", dweight.copy()
    assert engine.embedding_backward(dy, cache, wanted=(False, False)) == (None, None)
    for wrong in (5, -1):
        try:
            engine.embedding(numpy.array([[0, 1], [wrong, 7]]), weight)
        except DataError as error:
            yield "what is said of a wrong id", numpy.frombuffer(str(error).encode(), "uint8")


def few_turns(engine, dtype):
    for shape, table, interleaved in (
        ((1, 2), (1, 1), False),
        ((3, 5, 7), (5, 2), True),
        ((2, 3, 67, 10), (67, 5), False),
        ((2, 3, 5, 10), (2, 1, 5, 4), True),
        ((2, 3, 5, 10), (3, 1, 4), False),
    ):
        arguments = random(shape, dtype), random(table, dtype, 1), random(table, dtype, 2), interleaved
        yield from backward("rotary_embedding", engine, dtype, *arguments)
        x = random(shape, dtype)
        engine.rotary_embedding(x, *arguments[1:], out=x)
        yield "turned in place", x


EMBEDDING = Family(
    "embedding/embedding.cu",
    ops=("embedding",),
    few=few_embeddings,
    more=more_embeddings,
    planted={
        "one place too many": [("n < places; n += rows_at_once()", "n <= places; n += rows_at_once()")],
        "the last chunk goes beyond the last place": [
            ("from + CHUNK < places ? from + CHUNK : places", "from + CHUNK")
        ],
        "a run over an edge is taken for a whole one": [("i + 1 == places || rows[i + 1] != row;", "true;")],
        "the run that began before is forgotten": [
            ("begun_before = from > 0 && rows[from - 1] == rows[from]", "begun_before = false")
        ],
        "every chunk of a run adds it up": [("from == 0 || rows[from - 1] != row;", "true;")],
        "a run is joined with one chunk only": [
            ("other * CHUNK < places && rows[other * CHUNK] == row", "other < chunk + 2")
        ],
        "the padding's row gets a gradient": [(" && row != skipped", "")],
        "the sum goes on into the next run": [("                sum = 0;\n", "")],
        "the place in the order, not that of the id": [("dy[order[i] * width + c]", "dy[i * width + c]")],
        "the last row of the table": [("there = id >= 0 && id < vocabulary", "there = id >= 0 && id < vocabulary - 1")],
        "only one round of the grid": [
            ("chunk * CHUNK < places; chunk += gridDim.x", "chunk * CHUNK < places; chunk += places")
        ],
    },
)

ROTARY = Family(
    "embedding/rotary.cu",
    ops=("rotary_embedding",),
    few=few_turns,
    planted={
        "one pair too many": [("i < rows * of_row;", "i <= rows * of_row;")],
        "the features beyond are not copied": [("to[unit + pairs] = from[unit + pairs];", "")],
        "the first of a pair is overwritten before it is read": [
            (
                "second = widen(from[b]);\n        to[a] = narrow(c * first - s * second);\n        to[b] = narrow(s * first",
                "second = widen(from[b]);\n        to[a] = narrow(c * first - s * second);\n        to[b] = narrow(s * widen(from[a])",
            )
        ],
        "the head's table for the batch": [("batch * table_batch +", "head * table_batch +")],
        "neighbours are a pair, whatever is asked for": [("interleaved ? 2 * unit : unit", "2 * unit")],
        "backward turns as forward does": [("s = direction * widen", "s = widen")],
    },
)
