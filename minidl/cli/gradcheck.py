"""``minidl gradcheck``: check the gradients of the ops, or of a layer of your own."""

from __future__ import annotations

import argparse
import math

from minidl import testing
from minidl.cli.arguments import add_engine, seed, sizes, use_chosen_engine
from minidl.errors import ParameterError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "what", nargs="*", help="ops by name (default: all), or path/to/file.py:MyLayer, or 'file.py:MyLayer(3, 2)'"
    )
    add_engine(parser)
    parser.add_argument(
        "--torch",
        action="append",
        default=[],
        metavar="PLACE:NAME",
        help="a module of PyTorch: torch.nn:GELU, 'torch.nn:Linear(3, 2)', package.module:function, path/to/file.py:MyModule",
    )
    parser.add_argument("--shape", help="input shape for a layer of your own, batch axis first, such as 4,3")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the input for a layer of your own")
    parser.add_argument("--short", action="store_true", help="one small case of each op")
    parser.add_argument("--all", action="store_true", help="show every comparison, not only each op's worst")


def run(args: argparse.Namespace) -> int:
    """Print a table of comparisons for each subject; return 1 if a gradient is wrong."""
    if args.torch:
        from minidl.interop.torch import check_module
    own = [what for what in args.what if ".py" in what]
    ops = [what for what in args.what if ".py" not in what]
    shape = None if args.shape is None else sizes(args.shape, "--shape")
    if shape is not None and math.prod(shape) >= 2**60:  # more bytes than an address can count
        raise ParameterError(f"--shape: an array of shape {tuple(shape)} is too large")
    fine = True
    with use_chosen_engine(args) as engine:
        for what in own:
            report = testing.check_object(what, shape, seed=args.seed)
            print(report)
            fine = fine and report.ok
        for what in args.torch:
            report = check_module(what, shape, seed=args.seed)
            print(report)
            fine = fine and report.ok
        if ops or not (own or args.torch):
            report = testing.check_catalogue(engine, ops or None, short=args.short)
            print(report if args.all else report.worst())
            print(f"{len(report.table)} comparisons on the {engine.name} engine")
            fine = fine and report.ok
    return 0 if fine else 1
