"""What dropout costs, and how much of that its random numbers cost.

    python benchmarks/dropout.py                     # beside the formula
    python benchmarks/dropout.py --against torch     # and PyTorch (the extra 'peers')

The contenders take turns. Printed is the best of all rounds in microseconds: NumPy's numbers alone, forward, forward
with backward ("both"), and forward with a mask that is already made.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy
from activations import measure

import minidl as dl

SHAPES = ((32, 512), (128, 512), (1024, 1024))


def steps(shape: tuple[int, ...], against: str | None) -> dict[str, Any]:
    """Return the contenders for x of this shape, by name."""
    random = numpy.random.default_rng(0)
    x, dy = (random.normal(size=shape).astype("float32") for _ in range(2))
    found: dict[str, Any] = {"NumPy's numbers": lambda: random.random(shape, dtype="float32")}
    for name in ("numpy", "native"):
        engine = dl.engines.get(name)
        found[name] = lambda engine=engine: engine.dropout(x, 0.5, random)
        found[f"{name} both"] = lambda engine=engine: engine.dropout_backward(dy, engine.dropout(x, 0.5, random)[1])
    keep = random.random(shape) >= 0.5
    found["native given a mask"] = lambda: dl.engines.get("native").dropout(x, 0.5, keep)
    if against == "torch":
        import torch

        input, upstream = torch.tensor(x, requires_grad=True), torch.tensor(dy)

        def forward() -> Any:
            with torch.no_grad():
                return torch.nn.functional.dropout(input, 0.5)

        def both() -> None:
            input.grad = None
            torch.nn.functional.dropout(input, 0.5).backward(upstream)

        found |= {"PyTorch": forward, "PyTorch both": both}
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", choices=["torch"])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    if args.against == "torch":
        import torch

        torch.set_num_threads(dl.get_num_threads())
    for shape in sorted(SHAPES, key=math.prod):
        best = {name: min(times) for name, times in measure(steps(shape, args.against), args.rounds).items()}
        if shape == SHAPES[0]:
            print("| x | " + " | ".join(best) + " |\n|---|" + "---:|" * len(best))
        print(
            "| " + " | ".join([" x ".join(map(str, shape)), *(f"{1000 * time:.1f}" for time in best.values())]) + " |"
        )


if __name__ == "__main__":
    main()
