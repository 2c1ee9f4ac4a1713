"""``minidl search``: find the lines of a text that mean what a query means, with a model from a folder of Hugging Face."""

from __future__ import annotations

import argparse
from pathlib import Path

from minidl import text
from minidl.cli.arguments import whole
from minidl.cli.embed import add_model, embed_texts, read_lines

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("query", help="what to look for")
    parser.add_argument("texts", type=Path, metavar="FILE", help="one text in each line")
    parser.add_argument("--top-k", type=whole, default=5, help="how many lines to show (default: 5)")
    add_model(parser)


def run(args: argparse.Namespace) -> int:
    """Print the most similar lines, each after its cosine."""
    lines = read_lines(args.texts)
    vectors = embed_texts(args, [args.query, *lines])
    scores, indices = text.search(vectors[:1], vectors[1:], args.top_k)
    for score, index in zip(scores[0], indices[0], strict=True):
        print(f"{score:.3f}  {lines[index]}")
    return 0
