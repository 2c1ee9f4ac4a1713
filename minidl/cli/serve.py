"""``minidl serve``: answer requests over HTTP with a model, by the Open Inference Protocol."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from minidl.cli.arguments import add_engine, use_chosen_engine, whole
from minidl.cli.export import open_model
from minidl.errors import ParameterError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a file of model.save or of training, or a folder of Hugging Face"
    )
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen at (default: 127.0.0.1, this machine alone)"
    )
    parser.add_argument("--name", help="of the model, in the addresses (default: the file's name)")
    parser.add_argument(
        "--shape",
        metavar="N,N",
        help="of one example, such as 3,224,224, for a model that takes inputs of many shapes; -1 is an axis of any length, "
        "as in --shape=-1,8",
    )
    parser.add_argument(
        "--max-batch", type=whole, default=64, help="examples in a batch, and in a request, at most (default: 64)"
    )
    parser.add_argument(
        "--max-wait-ms",
        type=float,
        default=1.0,
        metavar="MS",
        help="how long a request waits for others to share its batch (default: 1)",
    )
    parser.add_argument("--max-body-mb", type=whole, default=16, metavar="MB", help="of a request (default: 16)")
    parser.add_argument("--queue", type=whole, default=256, help="requests at a time; more are refused (default: 256)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds for a request, and for its answer (default: 30)",
    )
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    from minidl.interop.serving import serve  # it takes modules that other commands do not need

    with use_chosen_engine(args):
        serve(
            open_model(args.model),
            args.name or (args.model.absolute().name if args.model.is_dir() else args.model.stem),
            None if args.shape is None else _shape(args.shape),
            host=args.host,
            port=args.port,
            started=_tell,
            timeout=args.timeout,
            max_batch=args.max_batch,
            max_wait=args.max_wait_ms / 1000,
            max_body=args.max_body_mb << 20,
            queue=args.queue,
        )
    print("stopped")
    return 0


def _tell(address: str, signature: Any) -> None:
    print(f"listening at {address}; Ctrl-C or SIGTERM stops it")
    for part in ("inputs", "outputs"):
        print(f"{part}: {', '.join(map(str, getattr(signature, part)))}", flush=True)


def _shape(text: str) -> tuple[int, ...]:
    """Return the integers of a shape, of which -1 is any length."""
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = (0,)
    if not all(n == -1 or n >= 1 for n in found):
        raise ParameterError(f"--shape: expected integers of at least 1, or -1, such as 3,224,224, got {text!r}")
    return found
