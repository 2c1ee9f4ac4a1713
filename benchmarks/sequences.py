"""Workloads of the board on sequences: recurrent networks, attention, large vocabularies, and those of language models.

python -m benchmarks.board --against all --only Sequences     # all of them; their parts are "Sequences: ..."
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import text_models
from generation import generation, prompt
from images import numbers
from training_steps import jax_step, minidl_step, torch_step
from workload import Step, Workload, on_engine

VOCABULARY = 50257  # GPT-2's


# recurrent networks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recurrent:
    """A character model, embedding -> LSTM or GRU -> linear, trained by Adam on sequences of T ids."""

    cell: str
    vocabulary: int = 76
    embedding: int = 128
    hidden: int = 256
    length: int = 64  # T
    batch: int = 32

    @property
    def gates(self) -> int:
        """How many vectors of the hidden size a step computes."""
        return {"lstm": 4, "gru": 3}[self.cell]

    def data(self) -> tuple[numpy.ndarray, numpy.ndarray, dict[str, numpy.ndarray]]:
        """Return ids, the ids that follow, and the first weights by their names in both libraries; the same each time."""
        random = numpy.random.default_rng(0)
        rows, bound = self.gates * self.hidden, self.hidden**-0.5
        shapes = {
            "rnn.weight_ih_l0": (rows, self.embedding),
            "rnn.weight_hh_l0": (rows, self.hidden),
            "rnn.bias_ih_l0": (rows,),
            "rnn.bias_hh_l0": (rows,),
            "head.weight": (self.vocabulary, self.hidden),
            "head.bias": (self.vocabulary,),
        }
        weights = {"embedding.weight": random.normal(size=(self.vocabulary, self.embedding)).astype("float32")}
        weights |= {name: random.uniform(-bound, bound, shape).astype("float32") for name, shape in shapes.items()}
        return *text_models.windows(random, self.vocabulary, self.batch, self.length), weights

    @property
    def flops(self) -> float:
        """Count the operations of the products: forward, and twice as many backward."""
        weights = self.gates * self.hidden * (self.embedding + self.hidden) + self.hidden * self.vocabulary
        return 6.0 * self.batch * self.length * weights


def recurrent(cell: str) -> Workload:
    """Describe one training step of a character model."""
    spec = Recurrent(cell)
    makers: dict[str, Callable[..., Step]] = {
        "minidl": _minidl_recurrent, "torch": _torch_recurrent, "jax": _jax_recurrent,
        "torch compile": partial(_torch_recurrent, compiled=True),
    }  # fmt: skip
    name = (
        f"{cell.upper()}, T={spec.length}, batch {spec.batch}, embedding {spec.embedding}, hidden {spec.hidden}, Adam"
    )
    return Workload(
        "Sequences: training", name, {kind: partial(make, spec) for kind, make in makers.items()}, spec.flops
    )


def _minidl_recurrent(spec: Recurrent) -> Step:
    import minidl as dl
    from minidl.models import CharRNN

    ids, target, weights = spec.data()
    model = CharRNN(spec.vocabulary, spec.embedding, spec.hidden, cell=spec.cell)
    model.load_state_dict(weights)
    rows = text_models.Rows(model)
    return minidl_step(rows, dl.CrossEntropyLoss(), ids, target.reshape(-1), "adam", {"lr": 1e-3})


def _torch_recurrent(spec: Recurrent, compiled: bool = False) -> Step:
    import torch

    ids, target, weights = spec.data()
    x, labels = torch.tensor(ids), torch.tensor(target).flatten()
    parts = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(spec.vocabulary, spec.embedding),
            "rnn": getattr(torch.nn, spec.cell.upper())(spec.embedding, spec.hidden, batch_first=True),
            "head": torch.nn.Linear(spec.hidden, spec.vocabulary),
        }
    )
    parts.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})

    def value_of() -> Any:
        y, _ = parts["rnn"](parts["embedding"](x))
        return torch.nn.functional.cross_entropy(parts["head"](y).flatten(0, 1), labels)

    compute = torch.compile(value_of) if compiled else value_of
    return torch_step(compute, parts.parameters(), "adam", {"lr": 1e-3})


def _jax_recurrent(spec: Recurrent) -> Step:
    import jax
    from jax import numpy as jnp

    ids, target, weights = spec.data()

    def lstm(p: Any, carry: Any, a: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(a + h @ p["rnn.weight_hh_l0"].T + p["rnn.bias_hh_l0"], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(p: Any, carry: Any, a: Any) -> Any:
        h, c = carry
        p_r, p_z, p_n = jnp.split(a, 3, axis=1)
        q_r, q_z, q_n = jnp.split(h @ p["rnn.weight_hh_l0"].T + p["rnn.bias_hh_l0"], 3, axis=1)
        r, z = jax.nn.sigmoid(p_r + q_r), jax.nn.sigmoid(p_z + q_z)
        h = (1 - z) * jnp.tanh(p_n + r * q_n) + z * h
        return (h, c), h

    def loss_of(p: Any) -> Any:
        x = p["embedding.weight"][ids].swapaxes(0, 1)  # (T, N, C)
        a = x @ p["rnn.weight_ih_l0"].T + p["rnn.bias_ih_l0"]
        zero = jnp.zeros((spec.batch, spec.hidden))
        _, h = jax.lax.scan(partial({"lstm": lstm, "gru": gru}[spec.cell], p), (zero, zero), a)
        logits = h.swapaxes(0, 1) @ p["head.weight"].T + p["head.bias"]  # (N, T, V)
        return text_models.jax_cross_entropy(logits, target)

    return jax_step(loss_of, {name: jnp.asarray(value) for name, value in weights.items()}, "adam", {"lr": 1e-3})


# attention -----------------------------------------------------------------------------------------------------------


def attention(length: int, batch: int, kind: str, heads: int = 6, size: int = 64) -> Workload:
    """Describe causal attention alone, from the joint projection (N, T, 3 H D); "both" goes back to its gradient."""
    made: dict[str, Callable[..., Step]] = {
        "minidl native": _minidl_attention, "minidl cupy": _minidl_attention, "torch": _torch_attention, "jax": _jax_attention,
        "torch compile": partial(_torch_attention, compiled=True),
    }  # fmt: skip
    name = f"causal, T={length}, batch {batch}, {heads} heads of {size}, forward{' and backward' * (kind == 'both')}"
    flops = batch * heads * length * (length + 1) * size * (2.0 if kind == "forward" else 7.0)  # backward: 5 products
    makers = {contender: partial(make, length, batch, kind, heads, size) for contender, make in made.items()}
    return Workload("Sequences: attention", name, makers, flops)


def _projection(length: int, batch: int, width: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    return numbers(0, batch, length, 3 * width), numbers(1, batch, length, width)


def _minidl_attention(length: int, batch: int, kind: str, heads: int, size: int) -> Step:
    import minidl as dl
    from minidl.layers.attention import join_heads, merge_heads, split_heads

    width = heads * size
    qkv, dy = on_engine(*_projection(length, batch, width))

    def step() -> Any:
        q, k, v = (split_heads(qkv[..., i * width : (i + 1) * width], heads) for i in range(3))
        y, cache = dl.ops.scaled_dot_product_attention(q, k, v, is_causal=True)
        if kind == "forward":
            return merge_heads(y)
        return join_heads(list(dl.ops.scaled_dot_product_attention_backward(split_heads(dy, heads), cache)))

    return step


def _torch_attention(length: int, batch: int, kind: str, heads: int, size: int, compiled: bool = False) -> Step:
    import torch

    arrays = _projection(length, batch, heads * size)
    qkv, dy = torch.from_numpy(arrays[0]).requires_grad_(kind == "both"), torch.from_numpy(arrays[1])

    def attend(qkv: Any) -> Any:
        q, k, v = (part.unflatten(-1, (heads, size)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).flatten(-2)

    function = torch.compile(attend) if compiled else attend
    if kind == "both":
        return lambda: torch.autograd.grad(function(qkv), qkv, dy)[0]
    return lambda: function(qkv)


def _jax_attention(length: int, batch: int, kind: str, heads: int, size: int) -> Step:
    import jax
    from jax import numpy as jnp

    qkv, dy = map(jnp.asarray, _projection(length, batch, heads * size))

    def attend(qkv: Any) -> Any:
        q, k, v = (part.reshape(batch, length, heads, size) for part in jnp.split(qkv, 3, axis=-1))
        return jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(batch, length, heads * size)

    forward, both = jax.jit(attend), jax.jit(lambda qkv, dy: jax.vjp(attend, qkv)[1](dy)[0])
    return lambda: jax.block_until_ready(forward(qkv) if kind == "forward" else both(qkv, dy))


# large vocabularies --------------------------------------------------------------------------------------------------


def embedding(count: int, width: int) -> Workload:
    """Describe looking up so many rows of a table, and the gradients of these rows."""
    made = {"minidl": _minidl_embedding, "torch": _torch_embedding, "jax": _jax_embedding}
    makers = {contender: partial(make, count, width) for contender, make in made.items()}
    name = f"embedding, {count} rows of {VOCABULARY} of {width}, forward and backward"
    return Workload("Sequences: large vocabulary", name, makers, bytes=4 * 4 * count * width)  # row, y; dy, its row


def _looked_up(count: int, width: int) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    ids = numpy.random.default_rng(0).integers(0, VOCABULARY, count)
    return ids, numbers(1, VOCABULARY, width), numbers(2, count, width)


def _minidl_embedding(count: int, width: int) -> Step:
    import minidl as dl

    ids, table, dy = on_engine(*_looked_up(count, width))
    layer = dl.Embedding(VOCABULARY, width)
    layer.weight.value = table

    def step() -> Any:
        y = layer.forward(ids)
        layer.weight.zero_grad()
        layer.backward(dy)
        return y

    return step


def _torch_embedding(count: int, width: int) -> Step:
    import torch

    ids, table, dy = map(torch.from_numpy, _looked_up(count, width))
    table.requires_grad_()

    def step() -> Any:
        y = torch.nn.functional.embedding(ids, table, sparse=True)  # as here, only the rows that are used
        torch.autograd.grad(y, table, dy)
        return y

    return step


def _jax_embedding(count: int, width: int) -> Step:
    import jax
    from jax import numpy as jnp

    ids, table, dy = map(jnp.asarray, _looked_up(count, width))

    def look_up(table: Any, ids: Any, dy: Any) -> Any:
        y, back = jax.vjp(lambda table: table[ids], table)
        return y, back(dy)

    function = jax.jit(look_up)
    return lambda: jax.block_until_ready(function(table, ids, dy))[0]


def cross_entropy(rows: int) -> Workload:
    """Describe the mean cross-entropy of so many rows of logits, and their gradient."""
    made = {
        "minidl": _minidl_cross_entropy, "torch": _torch_cross_entropy, "jax": _jax_cross_entropy,
        "torch compile": partial(_torch_cross_entropy, compiled=True),
    }  # fmt: skip
    makers = {contender: partial(make, rows) for contender, make in made.items()}
    name = f"cross-entropy, {rows} rows of {VOCABULARY} classes, forward and backward"
    return Workload("Sequences: large vocabulary", name, makers, bytes=3 * 4 * rows * VOCABULARY)  # logits twice; dx


def _logits(rows: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    return numbers(0, rows, VOCABULARY), numpy.random.default_rng(1).integers(0, VOCABULARY, rows)


def _minidl_cross_entropy(rows: int) -> Step:
    import minidl as dl

    (logits, target), loss = on_engine(*_logits(rows)), dl.CrossEntropyLoss()
    return lambda: (loss.forward(logits, target), loss.backward())


def _torch_cross_entropy(rows: int, compiled: bool = False) -> Step:
    import torch

    logits, target = map(torch.from_numpy, _logits(rows))
    logits.requires_grad_()
    function = torch.compile(torch.nn.functional.cross_entropy) if compiled else torch.nn.functional.cross_entropy

    def step() -> Any:
        value = function(logits, target)
        return value, torch.autograd.grad(value, logits)[0]

    return step


def _jax_cross_entropy(rows: int) -> Step:
    import jax
    from jax import numpy as jnp

    logits, target = map(jnp.asarray, _logits(rows))
    function = jax.jit(jax.value_and_grad(lambda logits: text_models.jax_cross_entropy(logits, target)))
    return lambda: jax.block_until_ready(function(logits))


NANO = text_models.GPT(layers=4, heads=4, width=128, context=64, vocabulary=65)
BABY = text_models.GPT(layers=6, heads=6, width=384, context=256, vocabulary=65)
SMALL = text_models.GPT(layers=12, heads=12, width=768, context=1024, vocabulary=VOCABULARY)
ALL = [
    recurrent("lstm"),
    recurrent("gru"),
    text_models.training("GPT nano", NANO, batch=12),
    text_models.training("GPT baby", BABY, batch=4),
    *(attention(length, batch, kind) for length, batch in ((256, 4), (1024, 4), (4096, 1)) for kind in ("forward", "both")),
    embedding(1024, 384),
    cross_entropy(256),
    *(
        generation(name, gpt, count, stored)
        for name, gpt, count in (("GPT nano", NANO, 48), ("GPT baby", BABY, 48), ("GPT-2 124M", SMALL, 16))
        for stored in ("float32", "bfloat16", "int8")
    ),
    *(generation("GPT-2 124M", SMALL, 16, stored, batch=8) for stored in ("float32", "bfloat16", "int8")),
    *(
        prompt(name, gpt, length, stored, batch)
        for name, gpt, length, batch in (("GPT nano", NANO, 48, 1), ("GPT-2 124M", SMALL, 128, 1), ("GPT-2 124M", SMALL, 128, 8))
        for stored in ("float32", "bfloat16", "int8")
    ),
    *(text_models.encoding(text_models.Encoder(), batch) for batch in (1, 8)),
]  # fmt: skip
