"""What the commands share: kinds of arguments, and the engine that was asked for."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager

from minidl import engines
from minidl.errors import ParameterError

__all__ = ["add_engine", "chosen_engine", "share", "sizes", "whole"]


def whole(text: str) -> int:
    """Return a whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 on")
    return value


def share(text: str) -> float:
    """Return a number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def sizes(text: str, argument: str) -> list[int]:
    """Return the numbers of a list such as ``64,32``.

    Raises
    ------
    ParameterError
        If they are no whole numbers from 1 on.
    """
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [0]
    if any(size < 1 for size in found):
        raise ParameterError(f"{argument}: expected whole numbers from 1 on, such as 64,32, got {text!r}")
    return found


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say who computes."""
    parser.add_argument("--engine", help=f"{', '.join(engines.NAMES)} (the one of `minidl info` unless given)")
    parser.add_argument("--threads", type=whole, help="threads of the native engine (all processors unless given)")


def chosen_engine(args: argparse.Namespace) -> AbstractContextManager[engines.Engine]:
    """Return the engine that was asked for, as a context."""
    if args.threads is not None:
        engines.set_num_threads(args.threads)
    return engines.use(args.engine or engines.current())
