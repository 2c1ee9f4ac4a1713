"""``minidl export``: write a model as an ONNX graph, with its weights in a safetensors file beside it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy

from minidl import models, text, weights
from minidl.cli.arguments import sizes
from minidl.cli.language_models import create_model
from minidl.errors import FileFormatError, ParameterError
from minidl.interop.onnx import export
from minidl.interop.onnx.writing import describe, read_header

__all__ = ["add_arguments", "open_model", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a file of model.save or of training, or a folder of Hugging Face",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.onnx", help="where to write the graph")
    parser.add_argument(
        "--shape", metavar="N,N", help="of one example, such as 3,224,224, for a model that takes inputs of many shapes"
    )
    parser.add_argument("--inside", action="store_true", help="put the weights into the graph, if it is below 2 GB")


def run(args: argparse.Namespace) -> int:
    """Write the graph and say what it takes and gives."""
    model = open_model(args.model)
    inputs = (
        [] if args.shape is None else [numpy.zeros((2, *sizes(args.shape, "--shape")), model.parameters()[0].dtype)]
    )
    export(model, args.output, *inputs, weights="inside" if args.inside else None)
    print("\n".join(describe(args.output)))
    return 0


def open_model(path: Path) -> Any:
    """Return the model of a file or a folder."""
    if path.is_dir():
        return models.from_pretrained(path)
    state = weights.load_file(path)
    about = read_header(path)[0].get("__metadata__", {})
    if "minidl.config" in about:  # model.save wrote how the model is made
        return models.load_model(path)
    if "features" in about:
        return _perceptron(path, state, about)
    checkpoint = text.load_checkpoint(path)
    model = create_model(checkpoint.settings)
    model.load_state_dict(checkpoint.weights)
    return model


def _perceptron(path: Path, state: dict[str, numpy.ndarray], about: dict[str, str]) -> Any:
    """Return the perceptron of a file that ``minidl train --save`` wrote."""
    if "activation" not in about:
        raise FileFormatError(f"{path} does not say its activation; train it anew, or build the model and call export")
    matrices = sorted((name for name in state if name.endswith(".weight")), key=lambda name: int(name.split(".")[0]))
    plan = [state[matrices[0]].shape[1], *(state[name].shape[0] for name in matrices)]
    steps = [int(name.split(".")[0]) for name in matrices]
    dropout = 0.5 if len(steps) > 1 and steps[1] - steps[0] == 3 else 0.0
    model = models.mlp(plan, json.loads(about["activation"]) or "linear", dropout, dtype=state[matrices[0]].dtype)
    try:
        model.load_state_dict(state)
    except ParameterError as error:
        raise FileFormatError(f"{path} is no perceptron of minidl train: {error}") from error
    return model
