"""``minidl generate``: write on after a prompt, with a model that ``minidl train --text`` trained, or a GPT-2 from a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from minidl import text
from minidl.cli.arguments import add_engine, seed, use_chosen_engine, whole
from minidl.cli.folders import open_folder
from minidl.cli.language_models import create_model
from minidl.errors import ParameterError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="FILE",
        help="the file that training wrote, or a folder of Hugging Face's GPT-2",
    )
    parser.add_argument("--prompt", help="the text to go on from (default: each line of the input)")
    parser.add_argument("--tokens", type=whole, default=300, help="the most tokens to write (default: 300)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (default: 0.8)")
    parser.add_argument("--top-k", type=whole, help="draw among so many of the likeliest tokens")
    parser.add_argument("--top-p", type=float, help="draw among the likeliest tokens of this probability together")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1, less is repeated (default: 1)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="stop before this text")
    parser.add_argument("--seed", type=seed, help="the same seed writes the same text (default: another each time)")
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Write the prompt and what follows it, as it comes."""
    with use_chosen_engine(args):
        model, tokenizer = _open(args.model)
        for prompt in [args.prompt] if args.prompt is not None else _read_prompts():
            for piece in _write(model, tokenizer, prompt, args):
                print(piece, end="", flush=True)
            print()
    return 0


def _open(path: Path) -> tuple[Any, text.Tokenizer]:
    """Return the model and the tokenizer of a checkpoint or a folder."""
    if path.is_dir():
        model, tokenizer = open_folder(path)
        if not hasattr(model, "select_state"):
            raise ParameterError(f"--model: {path} holds a {type(model).__name__}, which does not write text")
        return model, tokenizer
    checkpoint = text.load_checkpoint(path)
    model = create_model(checkpoint.settings)
    model.load_state_dict(checkpoint.weights)
    return model, checkpoint.tokenizer


def _read_prompts() -> Iterator[str]:
    """Yield the lines of the standard input that are not empty."""
    shown = "> " if sys.stdin.isatty() else ""
    while True:
        print(shown, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip("\n"):
            yield line.strip("\n")


def _write(model: Any, tokenizer: text.Tokenizer, prompt: str, args: argparse.Namespace) -> Iterator[str]:
    """Yield the prompt and the pieces of the text that follows."""
    settings = (args.tokens, args.temperature, args.top_k, args.top_p, args.repetition_penalty, args.stop, args.seed)
    new = text.stream(model, prompt, *settings, tokenizer=tokenizer)
    yield prompt
    yield from _until_stop(text.stream_text(tokenizer, (token for _, token in new)), args.stop)


def _until_stop(pieces: Iterable[str], stop: list[str]) -> Iterator[str]:
    """Yield the pieces up to the first stop, which only the last of them can hold a part of."""
    whole = ""
    for piece in pieces:
        before, whole = len(whole), whole + piece
        places = [place for item in stop if (place := whole.find(item)) >= 0]
        if places:
            yield whole[before : max(min(places), before)]
            return
        yield piece
