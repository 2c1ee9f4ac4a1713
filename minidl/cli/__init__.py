"""The command line: ``minidl info | demo | train | generate | embed | search | export | serve | tune | gradcheck | bench``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import minidl
from minidl.cli import bench, demo, embed, export, generate, gradcheck, info, search, serve, train, tune
from minidl.errors import GradcheckError, MinidlError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 if a gradient is wrong, or 2 if the command failed."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except BrokenPipeError:  # the reader of our output has stopped, as in `minidl info | head`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - or the interpreter complains when it flushes
        return 0
    except (MinidlError, OSError) as error:
        print(f"minidl: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, GradcheckError) else 2
    except MemoryError as error:
        print(f"minidl: not enough memory: {' '.join(str(error).split())}".removesuffix(": "), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minidl: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minidl", description="A deep-learning engine from scratch.")
    parser.add_argument("--version", action="version", version=f"minidl {minidl.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (info, demo, train, generate, embed, search, export, serve, tune, gradcheck, bench):
        name = command.__name__.rpartition(".")[2]
        described = (command.__doc__ or "").partition("\n")[0].removesuffix(".")
        summary = described.partition(": ")[2]
        own = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser
