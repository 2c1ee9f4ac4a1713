"""What padding and upsampling cost: the formula, the native engine and PyTorch, in turns.

    python benchmarks/resampling.py     # needs the extra 'peers'

Printed are milliseconds of forward, and of forward with backward: the best call of all rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy
import torch
from activations import measure
from torch.nn import functional

import minidl as dl
from minidl import ops

SHAPE = (16, 64, 32, 32)
STEPS: dict[str, tuple[str, tuple[Any, ...], Callable[..., Any]]] = {
    "zeros around": ("pad", (1,), lambda x: functional.pad(x, (1, 1, 1, 1))),
    "reflection": ("pad", (1, "reflect"), lambda x: functional.pad(x, (1, 1, 1, 1), "reflect")),
    "replication": ("pad", (1, "replicate"), lambda x: functional.pad(x, (1, 1, 1, 1), "replicate")),
    "nearest to 64": ("upsample_nearest", (64,), lambda x: functional.interpolate(x, 64)),
    "nearest to 48": ("upsample_nearest", (48,), lambda x: functional.interpolate(x, 48)),
    "bilinear to 64": ("upsample_bilinear", (64,), lambda x: functional.interpolate(x, 64, mode="bilinear")),
    "bilinear to 48": ("upsample_bilinear", (48,), lambda x: functional.interpolate(x, 48, mode="bilinear")),
}


def contenders(label: str) -> dict[str, Callable[[], Any]]:
    """Return every step to time."""
    name, settings, peer = STEPS[label]
    random = numpy.random.default_rng(0)
    x = random.normal(size=SHAPE).astype("float32")
    dy = random.normal(size=ops.FORMULAS[name](x, *settings)[0].shape).astype("float32")
    input, upstream = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def both(forward: Any, backward: Any) -> None:
        backward(dy, forward(x, *settings)[1])

    def torch_forward() -> None:
        with torch.no_grad():
            peer(input)

    def torch_both() -> None:
        input.grad = None
        peer(input).backward(upstream)

    found: dict[str, Callable[[], Any]] = {}
    for who, engine in (("formula", ops.FORMULAS), ("native", vars(dl.engines.get("native")))):
        forward, backward = engine[name], engine[f"{name}_backward"]
        found[f"{who} forward"] = lambda forward=forward: forward(x, *settings)
        found[f"{who} both"] = lambda forward=forward, backward=backward: both(forward, backward)
    return found | {"torch forward": torch_forward, "torch both": torch_both}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=dl.get_num_threads())
    args = parser.parse_args()
    dl.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    kinds = ("forward", "both")
    head = [f"{who}{' with backward' * (kind == 'both')}" for kind in kinds for who in ("formula", "native", "PyTorch")]
    print(f"| {' x '.join(map(str, SHAPE))} | {' | '.join(head)} |\n|---|" + "---:|" * len(head))
    for label in STEPS:
        times = {step: min(found) for step, found in measure(contenders(label), args.rounds).items()}
        cells = [label, *(f"{times[f'{who} {kind}']:.2f}" for kind in kinds for who in ("formula", "native", "torch"))]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
