"""What pooling costs on batches of images, beside PyTorch and beside copying the same bytes.

    python benchmarks/pooling.py                     # the native engine
    python benchmarks/pooling.py --against torch     # the extra 'peers'

The contenders take turns, round after round, with pauses in which the spinning threads of the previous one go to
sleep. In its turn each makes a few calls, and the fastest counts. Printed are the best of all rounds, how much longer
that is than copying as many bytes as the step must read and write, and PyTorch's best as a multiple of minidl's.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy
from activations import copying, measure

import minidl as dl

SHAPES = ((64, 64, 32, 32), (64, 32, 28, 28))
POOLINGS = {
    "max 2x2": ("max_pool2d", (2,)),
    "max 3x3, stride 2": ("max_pool2d", (3, 2, 1)),
    "max 3x3, stride 1": ("max_pool2d", (3, 1, 1)),
    "average 2x2": ("avg_pool2d", (2,)),
    "average 3x3, stride 1": ("avg_pool2d", (3, 1, 1)),
    "global average": ("adaptive_avg_pool2d", (1,)),
}

Steps = dict[str, Callable[[], Any]]


def steps(name: str, settings: tuple[Any, ...], x: numpy.ndarray, dy: numpy.ndarray) -> Steps:
    """Return minidl's forward, and its forward with backward."""
    engine = dl.engines.get("native")
    forward, backward = getattr(engine, name), getattr(engine, f"{name}_backward")

    def both() -> None:
        _, cache = forward(x, *settings)
        backward(dy, cache)

    return {"minidl forward": lambda: forward(x, *settings), "minidl both": both}


def torch_steps(name: str, settings: tuple[Any, ...], x: numpy.ndarray, dy: numpy.ndarray) -> Steps:
    """Return the same of PyTorch."""
    import torch

    function = getattr(torch.nn.functional, name)
    input, upstream = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def both() -> None:
        input.grad = None
        function(input, *settings).backward(upstream)

    def forward() -> None:
        with torch.no_grad():
            function(input, *settings)

    return {"torch forward": forward, "torch both": both}


def row(label: str, shape: tuple[int, ...], args: argparse.Namespace) -> str:
    """Time one pooling of one shape."""
    name, settings = POOLINGS[label]
    random = numpy.random.default_rng(0)
    x = random.normal(size=shape).astype(args.dtype)
    y = getattr(dl.engines.get("native"), name)(x, *settings)[0]
    dy = random.normal(size=y.shape).astype(args.dtype)
    contenders = steps(name, settings, x, dy)
    if args.against == "torch":
        contenders |= torch_steps(name, settings, x, dy)
    times = {kind: min(found) for kind, found in measure(contenders, args.rounds).items()}
    least = {"forward": x.size + y.size, "both": 2 * (x.size + y.size)}
    cells = [label, " x ".join(map(str, shape))]
    for kind, numbers in least.items():
        best = times[f"minidl {kind}"]
        cells += [f"{best:.2f}", f"{best / copying(1, numbers, args.dtype):.1f}"]
    if args.against == "torch":
        cells += [f"{times[f'torch {kind}']:.2f}" for kind in least]
        cells += [f"{times[f'torch {kind}'] / times[f'minidl {kind}']:.2f}" for kind in least]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", choices=["torch"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=dl.get_num_threads())
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    args = parser.parse_args()
    dl.set_num_threads(args.threads)
    head = ["pooling", args.dtype, "forward ms", "x copy", "with backward ms", "x copy"]
    if args.against == "torch":
        import torch

        torch.set_num_threads(args.threads)
        head += ["PyTorch", "with backward", "ratio", "ratio"]
    print("| " + " | ".join(head) + " |\n|---|---|" + "---:|" * (len(head) - 2))
    for shape in sorted(SHAPES, key=math.prod, reverse=True):
        for label in POOLINGS:
            print(row(label, shape, args), flush=True)


if __name__ == "__main__":
    main()
