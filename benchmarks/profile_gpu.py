"""Where the time of a training step goes on a GPU, op by op, by events of the device.

    python benchmarks/profile_gpu.py                  # three models
    python benchmarks/profile_gpu.py --only gpt --steps 50

Each op of the cupy engine is bracketed by two events, and so is the whole step. What no op accounts for is the rest of the step:
the optimiser's bookkeeping, copies, and waiting for Python to hand over the next kernel. Brackets cost a few microseconds each, so the
step is timed without them too. Without a GPU it says so and exits with code 3.
"""

from __future__ import annotations

import argparse
import collections
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import board_gpu
import numpy


def models() -> dict[str, tuple[Callable[[], Any], tuple[int, ...], int, bool]]:
    """Return models by name: how to make each, the shape of its inputs, its classes, and whether inputs are ids."""
    import minidl as dl
    from minidl.models import GPT2, GPT2Config, small_resnet

    gpt = GPT2Config(vocab_size=4096, context=256, layers=6, heads=6, width=384, dropout=0.0)
    return {
        "mlp": (lambda: dl.models.mlp([784, 512, 256, 10]), (128, 784), 10, False),
        "resnet": (lambda: small_resnet(10, 3, (32, 64, 128)), (64, 3, 32, 32), 10, False),
        "gpt": (lambda: GPT2(gpt), (8, 256), 4096, True),
    }


def steps_of(name: str) -> Callable[[], None]:
    """Return a training step of a model, as ``fit`` takes it."""
    import minidl as dl

    make, shape, classes, ids = models()[name]
    random, place = numpy.random.default_rng(0), dl.engines.current().asarray
    model = make()
    x = random.integers(0, classes, shape) if ids else random.standard_normal(shape, dtype="float32")
    y = random.integers(0, classes, shape if ids else shape[:1])
    x, y = place(x), place(y)
    loss = dl.CrossEntropyLoss(class_axis=-1 if ids else 1)
    optimizer = dl.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        loss.forward(model.forward(x), y)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()

    return step


class Brackets:
    """The ops of an engine, each between two events, for as long as it is entered."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.calls = engine, collections.defaultdict(list)
        self._before: dict[str, Any] = {}
        self._inside = False

    def __enter__(self) -> Brackets:
        for op in self.engine.coverage():
            self._before[op] = getattr(self.engine, op)
            setattr(self.engine, op, functools.partial(self._call, op, self._before[op]))
        return self

    def __exit__(self, *exc: object) -> None:
        for op, function in self._before.items():
            setattr(self.engine, op, function)

    def _call(self, op: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._inside:  # of a composition, which is counted as a whole
            return function(*args, **kwargs)
        start, end = self.engine.xp.cuda.Event(), self.engine.xp.cuda.Event()
        self._inside = True
        try:
            start.record()
            result = function(*args, **kwargs)
            end.record()
        finally:
            self._inside = False
        self.calls[op].append((start, end))
        return result

    def table(self, steps: int, whole: float) -> Iterator[str]:
        """Yield the lines of a table, the most expensive op first."""
        self.engine.synchronize()
        elapsed = self.engine.xp.cuda.get_elapsed_time
        rows = [
            (sum(elapsed(*pair) for pair in pairs) / steps, len(pairs) / steps, op) for op, pairs in self.calls.items()
        ]
        coverage = self.engine.coverage()
        yield "| op | by | calls a step | ms a step | share |"
        yield "|---|---|---:|---:|---:|"
        for spent, count, op in sorted(rows, reverse=True):
            yield f"| {op} | {coverage[op]} | {count:.0f} | {spent:.4f} | {spent / whole:.0%} |"
        rest = whole - sum(spent for spent, _, _ in rows)
        yield f"| the rest | | | {rest:.4f} | {rest / whole:.0%} |"


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="models, by parts of their names")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    missing = board_gpu.reason()
    if missing:
        print(f"profile: GPU: not run: {missing}")
        sys.exit(board_gpu.NO_GPU)
    import minidl as dl
    from minidl.ops._later import checks_later

    measured = board_gpu.timer("minidl cupy")
    with dl.use("cupy") as engine, checks_later():
        for name in models():
            if not any(part in name for part in args.only.split(",")):
                continue
            step = steps_of(name)
            for _ in range(3):
                step()
            whole = measured(step, 1.0)
            with Brackets(engine) as brackets:
                for _ in range(args.steps):
                    step()
            print(f"\n## {name}: {whole:.3f} ms a step\n")
            print("\n".join(brackets.table(args.steps, whole)), flush=True)


if __name__ == "__main__":
    main()
