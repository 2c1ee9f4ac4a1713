"""Shared by the commands: types of arguments, and the choice of the engine."""

from __future__ import annotations

import argparse
import importlib.util
from contextlib import AbstractContextManager
from pathlib import Path

from minidl import engines
from minidl.errors import MissingDependencyError, ParameterError
from minidl.weights.files import check_writable

LARGEST = 2**31 - 1
"""What a C int holds."""

__all__ = ["add_engine", "check_place", "seed", "share", "sizes", "use_chosen_engine", "whole"]


def whole(text: str) -> int:
    """Return an integer from 1 to 2**31 - 1."""
    value = int(text)
    if not 1 <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"must be from 1 to {LARGEST}, got {text}")
    return value


def seed(text: str) -> int:
    """Return an integer that is not negative."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def share(text: str) -> float:
    """Return a number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text}")
    return value


def sizes(text: str, argument: str) -> list[int]:
    """Return the integers in a list such as ``64,32``.

    Raises
    ------
    ParameterError
        If they are not integers from 1 to 2**31 - 1.
    """
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [0]
    if not all(1 <= size <= LARGEST for size in found):
        raise ParameterError(f"{argument}: expected integers of at least 1, such as 64,32, got {text!r}")
    return found


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the engine."""
    parser.add_argument("--engine", help=f"{', '.join(engines.NAMES)} (default: the one that `minidl info` names)")
    parser.add_argument("--threads", type=whole, help="threads of the native engine (default: one for each core)")


def use_chosen_engine(args: argparse.Namespace) -> AbstractContextManager[engines.Engine]:
    """Return the chosen engine as a context manager."""
    if args.threads is not None:
        engines.set_num_threads(args.threads)
    return engines.use(args.engine or engines.current())


def check_place(path: Path) -> None:
    """Check before a training that its result can be written.

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    FileNotFoundError, FileFormatError, OSError
        If nothing can be written there.
    """
    if importlib.util.find_spec("safetensors") is None:
        raise MissingDependencyError.needs("--save", "safetensors", "weights")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--save: there is no folder {path.parent}")
    check_writable(path)
