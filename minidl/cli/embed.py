"""``minidl embed``: write a vector for each line of text, with a model from a folder of Hugging Face."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy

from minidl import text
from minidl.cli.arguments import add_engine, use_chosen_engine, whole
from minidl.cli.folders import open_folder, read_max_length
from minidl.errors import DataError, ParameterError
from minidl.weights import write_atomically

__all__ = ["add_arguments", "add_model", "embed_texts", "read_lines", "run"]


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the model."""
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="with config.json and weights")
    parser.add_argument("--batch-size", type=whole, default=32, help="texts at a time (default: 32)")
    add_engine(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("texts", type=Path, metavar="FILE", help="one text in each line")
    parser.add_argument("--save", type=Path, required=True, metavar="FILE.npy", help="where to write the vectors")
    add_model(parser)


def run(args: argparse.Namespace) -> int:
    """Embed the lines and write the vectors as a NumPy file."""
    vectors = embed_texts(args, read_lines(args.texts))
    content = io.BytesIO()
    numpy.save(content, vectors)
    write_atomically(args.save, content.getvalue())
    print(f"{len(vectors)} vectors of {vectors.shape[1]} numbers in {args.save}")
    return 0


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file that are not empty.

    Raises
    ------
    DataError
        If there are none, or the file is not UTF-8.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    if not lines:
        raise DataError(f"{path}: there is no text in it")
    return lines


def embed_texts(args: argparse.Namespace, texts: list[str]) -> numpy.ndarray:
    """Return the vectors of texts by the chosen model.

    Raises
    ------
    ParameterError
        If the tokenizer is not that of an encoder.
    """
    with use_chosen_engine(args):
        model, tokenizer = open_folder(args.model)
        if not isinstance(tokenizer, text.WordPieceTokenizer | text.HuggingFaceTokenizer):
            raise ParameterError(
                f"--model: {args.model} has neither tokenizer.json nor vocab.txt, one of which embedding needs"
            )
        length = read_max_length(args.model)
        return text.embed(model, tokenizer, texts, batch_size=args.batch_size, max_length=length)
