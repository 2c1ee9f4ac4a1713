"""LSTM and GRU."""

import numpy
from family import Family, random

GATES = {"lstm": 4, "gru": 3}


def run(engine, dtype, op, shape, hidden, upstream=(True, True), into=None, **options):
    """Yield the outputs and the gradients of all that was given; ``upstream`` says whether dy and the others are given."""
    batch, _, features = shape
    states = [random((batch, hidden), dtype, seed) for seed in range(1, 3 if op == "lstm" else 2)]
    rows = GATES[op] * hidden
    weights = (
        (random((rows, features), dtype, 4) / 2).astype(dtype),
        (random((rows, hidden), dtype, 5) / 2).astype(dtype),
    )
    biases = random(rows, dtype, 6), random(rows, dtype, 7)
    outputs, cache = getattr(engine, op)(random(shape, dtype), *states, *weights, *biases, **options)
    yield from ((f"output {i} of {op} {shape}", output) for i, output in enumerate(outputs))
    dy = tuple(random(o.shape, dtype, 8 + i) if upstream[min(i, 1)] else None for i, o in enumerate(outputs))
    gradients = getattr(engine, f"{op}_backward")(dy, cache, into=into, add=into is not None)
    yield from ((f"gradient {i} of {op} {shape}", gradient.copy()) for i, gradient in enumerate(gradients))


def few_networks(engine, dtype):
    for op in GATES:
        yield from run(engine, dtype, op, (1, 1, 1), 1)
        yield from run(engine, dtype, op, (5, 3, 4), 67, lengths=numpy.array([1, 3, 2, 3, 1]))
        yield from run(engine, dtype, op, (13, 2, 5), 70, upstream=(True, False), reverse=True)
        yield from run(
            engine, dtype, op, (3, 4, 2), 6, upstream=(False, True), lengths=numpy.array([2, 4, 1]), reverse=True
        )


def more_networks(engine, dtype):
    """Gradients added to storage that is handed in."""
    for op, gates in GATES.items():
        rows = gates * 5
        into = [random(shape, dtype, 3) for shape in ((rows, 2), (rows, 5), (rows,), (rows,))]
        yield from run(engine, dtype, op, (3, 4, 2), 5, into=into)


GATES_FAMILY = Family(
    "recurrent/gates.cu",
    ops=tuple(GATES),
    few=few_networks,
    more=more_networks,
    planted={
        "one unit too many": [
            (
                "i < n; i += threads_of_grid()) {\n        const size sequence = i / hidden;\n        const int unit = (int)(i % hidden);\n        const size at = sequence * 4",
                "i <= n; i += threads_of_grid()) {\n        const size sequence = i / hidden;\n        const int unit = (int)(i % hidden);\n        const size at = sequence * 4",
            )
        ],
        "the gates of three for those of four": [
            (
                "(int)(i % hidden);\n        const size at = sequence * 4 * hidden",
                "(int)(i % hidden);\n        const size at = sequence * 3 * hidden",
            )
        ],
        "a sequence runs one step too long": [("t < lengths[sequence]", "t <= lengths[sequence]")],
        "the cell goes on where the sequence has ended": [("c[i] = running ? cell : c_before[i];", "c[i] = cell;")],
        "the bias of the first gate for all": [
            (
                "q[at + gate * hidden] + or_zero(bias, gate * hidden + unit)); };",
                "q[at + gate * hidden] + or_zero(bias, unit)); };",
            )
        ],
        "the bias of the row": [
            (
                "return q[at + gate * hidden] + or_zero(bias, gate * hidden + unit); };",
                "return q[at + gate * hidden] + or_zero(bias, at); };",
            )
        ],
        "the slope at the cell before": [("REAL(hyperbolic_tangent)(c[i]);", "REAL(hyperbolic_tangent)(c_before[i]);")],
        "the gradient of the cell is overwritten": [("dc[i] = dcell * forget;", "dc[i] = dcell;")],
        "no gradient for padding": [
            ("            for (int gate = 0; gate < 4; gate++) da[at + gate * hidden] = 0;\n", "")
        ],
        "what the step after says is added where it did not run": [
            ("(after && runs(lengths, sequence, t + 1) ? after[i] : dh[i])", "(after ? after[i] : dh[i])")
        ],
        "the update gate lets all through": [("dh[i] = dstate * update;", "dh[i] = dstate;")],
        "the reset gate is left out": [
            ("dq[at + 2 * hidden] = of_candidate * reset;", "dq[at + 2 * hidden] = of_candidate;")
        ],
        "only one round of the grid": [
            (
                "i < n; i += threads_of_grid()) {\n        const size sequence = i / hidden, at = sequence * 3",
                "i < n; i += n) {\n        const size sequence = i / hidden, at = sequence * 3",
            )
        ],
    },
)
