"""What a training step of a character model costs: embedding, LSTM or GRU, head, cross-entropy and Adam.

    python benchmarks/recurrent.py                          # the native engine
    python benchmarks/recurrent.py --against torch jax      # the extra 'peers'
    python benchmarks/recurrent.py --parts                  # and the recurrent op alone, forward and backward

All contenders begin with the same weights and read the same ids. They take turns, round after round; the best of all rounds
counts, and the median stands beside it. ``MAKERS`` are the functions of the board's workloads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy

VOCABULARY, EMBEDDING, HIDDEN, STEPS, BATCH = 76, 128, 256, 64, 32
RATE = 1e-3
GATES = {"lstm": 4, "gru": 3}

Step = Callable[[], Any]


def data(cell: str) -> tuple[numpy.ndarray, numpy.ndarray, dict[str, numpy.ndarray]]:
    """Return ids, the ids that follow, and the first weights by their names in both libraries; the same each time."""
    random = numpy.random.default_rng(0)
    rows, bound = GATES[cell] * HIDDEN, HIDDEN**-0.5
    shapes = {
        "rnn.weight_ih_l0": (rows, EMBEDDING),
        "rnn.weight_hh_l0": (rows, HIDDEN),
        "rnn.bias_ih_l0": (rows,),
        "rnn.bias_hh_l0": (rows,),
        "head.weight": (VOCABULARY, HIDDEN),
        "head.bias": (VOCABULARY,),
    }
    weights = {"embedding.weight": random.normal(size=(VOCABULARY, EMBEDDING)).astype("float32")}
    weights |= {name: random.uniform(-bound, bound, shape).astype("float32") for name, shape in shapes.items()}
    ids = random.integers(0, VOCABULARY, (BATCH, STEPS + 1))
    return ids[:, :-1].copy(), ids[:, 1:].copy(), weights


def flops(cell: str) -> float:
    """Return the operations of the products of one step: forward, and twice as many backward."""
    weights = GATES[cell] * HIDDEN * (EMBEDDING + HIDDEN) + HIDDEN * VOCABULARY
    return 6.0 * BATCH * STEPS * weights


def minidl_step(cell: str) -> Step:
    """Return minidl's training step."""
    import minidl as dl
    from minidl.models import CharRNN

    ids, target, weights = data(cell)
    model = CharRNN(VOCABULARY, EMBEDDING, HIDDEN, cell=cell)
    model.load_state_dict(weights)
    loss, optimizer = dl.CrossEntropyLoss(), dl.Adam(model.parameters(), lr=RATE)

    def step() -> Any:
        logits = model.forward(ids)
        value = loss.forward(logits.reshape(-1, VOCABULARY), target.reshape(-1))
        model.backward(loss.backward().reshape(logits.shape), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()
        return value

    return step


def torch_step(cell: str, compiled: bool = False) -> Step:
    """Return PyTorch's."""
    import torch

    ids, target, weights = data(cell)
    x, labels = torch.tensor(ids), torch.tensor(target).flatten()
    parts = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(VOCABULARY, EMBEDDING),
            "rnn": getattr(torch.nn, cell.upper())(EMBEDDING, HIDDEN, batch_first=True),
            "head": torch.nn.Linear(HIDDEN, VOCABULARY),
        }
    )
    parts.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    optimizer = torch.optim.Adam(parts.parameters(), lr=RATE, fused=True)

    def value_of() -> Any:
        y, _ = parts["rnn"](parts["embedding"](x))
        return torch.nn.functional.cross_entropy(parts["head"](y).flatten(0, 1), labels)

    compute = torch.compile(value_of) if compiled else value_of

    def step() -> Any:
        value = compute()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value

    return step


def jax_step(cell: str) -> Step:
    """Return JAX's, compiled as a whole, with a scan over time."""
    import jax
    from jax import numpy as jnp

    ids, target, weights = data(cell)

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
        zero = jnp.zeros((BATCH, HIDDEN))
        _, h = jax.lax.scan(partial({"lstm": lstm, "gru": gru}[cell], p), (zero, zero), a)
        logits = h.swapaxes(0, 1) @ p["head.weight"].T + p["head.bias"]  # (N, T, V)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1).mean()

    def updated(p: Any, m: Any, v: Any, t: Any) -> Any:
        value, gradients = jax.value_and_grad(loss_of)(p)
        tree = jax.tree_util.tree_map
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
        scale, second = RATE / (1 - 0.9**t), 1 - 0.999**t
        new = tree(lambda p, m, v: p - scale * m / (jnp.sqrt(v / second) + 1e-8), p, m, v)
        return (new, m, v, t + 1), value

    p = {name: jnp.asarray(value) for name, value in weights.items()}
    zeros = jax.tree_util.tree_map(jnp.zeros_like, p)
    compiled = jax.jit(updated, donate_argnums=(0, 1, 2))
    state = [p, zeros, jax.tree_util.tree_map(jnp.zeros_like, p), jnp.asarray(1.0)]

    def step() -> Any:
        state[:], value = compiled(*state)
        jax.block_until_ready(state[0])
        return value

    return step


MAKERS: dict[str, Callable[[str], Step]] = {"minidl": minidl_step, "torch": torch_step, "jax": jax_step}


def op_steps(cell: str) -> dict[str, Step]:
    """Return the recurrent op alone: forward, and forward with backward."""
    import minidl as dl

    _, _, weights = data(cell)
    random = numpy.random.default_rng(1)
    x, dy = (random.normal(size=(BATCH, STEPS, n)).astype("float32") for n in (EMBEDDING, HIDDEN))
    arguments = [weights[f"rnn.{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    first = [None] * (2 if cell == "lstm" else 1)
    engine = dl.engines.get("native")
    forward, backward = getattr(engine, cell), getattr(engine, f"{cell}_backward")

    def both() -> None:
        _, cache = forward(x, *first, *arguments)
        backward((dy, *first), cache)

    return {"op forward": lambda: forward(x, *first, *arguments), "op both": both}


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each round, in turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", nargs="*", choices=["torch", "jax"], default=[])
    parser.add_argument("--cell", nargs="*", choices=list(GATES), default=list(GATES))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--parts", action="store_true")
    args = parser.parse_args()
    import minidl as dl

    if args.threads:
        dl.set_num_threads(args.threads)
    if "torch" in args.against:
        import torch

        torch.set_num_threads(dl.get_num_threads())
    print(f"T={STEPS}, batch {BATCH}, embedding {EMBEDDING}, hidden {HIDDEN}, {dl.get_num_threads()} threads\n")
    print("| cell | step | best ms | median ms | GFLOP/s | x minidl |\n|---|---|--:|--:|--:|--:|")
    for cell in args.cell:
        steps = {name: MAKERS[name](cell) for name in ["minidl", *args.against]}
        times = measure(steps | (op_steps(cell) if args.parts else {}), args.rounds)
        for name, found in times.items():
            best, rate = min(found), "" if name.startswith("op") else f"{flops(cell) / min(found) / 1e6:.0f}"
            median = sorted(found)[len(found) // 2]
            print(f"| {cell} | {name} | {best:.2f} | {median:.2f} | {rate} | {best / min(times['minidl']):.2f} |")


if __name__ == "__main__":
    main()
