"""``minidl train --text``: train a language model on a text file of your own, with checkpoints on the way."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import minidl
from minidl import text
from minidl.cli.arguments import check_place, use_chosen_engine, whole
from minidl.cli.language_models import KINDS, create_model
from minidl.data.files import read_text
from minidl.errors import DataError, ParameterError
from minidl.training.interruption import noted_interrupt

__all__ = ["add_arguments", "given", "run"]

SAMPLE = 200
"""Tokens of the sample that is shown now and then."""
DEFAULTS: dict[str, Any] = {
    "model": "gpt",
    "tokenizer": "char",
    "vocab_size": 1024,
    "context": 64,
    "layers": "4",
    "heads": 4,
    "width": 128,
    "dropout": 0.0,
    "steps": 2000,
    "batch_size": 12,
    "lr": 1e-3,
    "test_size": 0.1,
    "seed": 0,
}
"""What holds where nothing else is given."""
RECURRENT = {"layers": "2", "width": 256, "lr": 2e-3}
"""What holds instead for recurrent networks."""
CHANGEABLE = ("steps",)
"""What may be given with ``--resume``, beside where to write and how often."""
OWN = ("model", "tokenizer", "vocab_size", "context", "heads", "width", "steps", "every", "resume")
"""The arguments of this file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for text."""
    group = parser.add_argument_group("text", "These arguments go with --text, which trains a language model.")
    group.add_argument("--model", choices=sorted(KINDS), help="the kind of model (default: gpt)")
    group.add_argument("--tokenizer", help="char, byte, bpe, or the file of a tokenizer (default: char)")
    group.add_argument("--vocab-size", type=whole, help="tokens that bpe learns (default: 1024)")
    group.add_argument("--context", type=whole, help="tokens that the model sees at once (default: 64)")
    group.add_argument("--heads", type=whole, help="attention heads of a gpt (default: 4)")
    group.add_argument("--width", type=whole, help="features of a token (default: 128; recurrent: 256)")
    group.add_argument("--steps", type=whole, help="steps of training (default: 2000)")
    group.add_argument(
        "--every",
        type=whole,
        help="steps between two checkpoints (default: 250 for text, with a sample; else an epoch)",
    )
    group.add_argument(
        "--resume", type=Path, metavar="PATH", help="go on from this checkpoint, or the newest in this folder"
    )


def given(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Return the arguments among these that were given, as they are written."""
    return ["--" + name.replace("_", "-") for name in names if getattr(args, name) not in (None, [])]


def run(args: argparse.Namespace) -> int:
    """Train, with checkpoints, until all steps are done or Ctrl-C is pressed; return 130 in that case."""
    wrong = given(
        args, ("target", "ignore", "task", "activation", "epochs", "optimizer", "checkpoint", "parallel", "sharded")
    )
    if wrong:
        raise ParameterError(f"{', '.join(wrong)} goes with --data, not with --text")
    path = _choose_path(args)
    with use_chosen_engine(args):
        if args.resume is not None:
            checkpoint = text.load_checkpoint(args.resume)
            settings, tokenizer = _merge(args, checkpoint.training), checkpoint.tokenizer
            content = _read(args.text)
        else:
            settings, content = _resolve(args), _read(args.text)
            tokenizer = _choose_tokenizer(settings, content)
        tokens = tokenizer.encode(content).astype(text.token_dtype(tokenizer.vocab_size))
        training, validation = text.split_tokens(tokens, settings["test_size"])
        minidl.seed(settings["seed"])
        described = _describe_model(settings, tokenizer) if args.resume is None else checkpoint.settings
        model = create_model(described)
        trainer = text.Trainer(
            model,
            training,
            validation,
            length=settings["context"],
            batch_size=settings["batch_size"],
            steps=settings["steps"],
            lr=settings["lr"],
            seed=settings["seed"],
        )
        if args.resume is not None:
            model.load_state_dict(checkpoint.weights)
            trainer.load_state(checkpoint.optimizer, checkpoint.training)
        count = sum(p.value.size for p in model.parameters())
        print(
            f"{len(content):,} characters, {len(tokens):,} tokens of {tokenizer.vocab_size:,}, the last {len(validation):,} "
            f"for validation; {described['kind']} with {count:,} parameters"
        )
        return _Session(args, path, settings, described, tokenizer, trainer).train()


def _choose_path(args: argparse.Namespace) -> Path:
    """Return where checkpoints are written; raise now if that cannot be."""
    path = args.save or args.resume
    if path is None:
        path = Path(args.text.name.split(".")[0] + ".safetensors")
        if path.exists():
            raise ParameterError(
                f"{path} exists: pass --resume {path} to go on with it, or --save FILE to write somewhere else or over it"
            )
    check_place(path)
    return path


def _resolve(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a new training: those given, else the defaults."""
    defaults = DEFAULTS | (RECURRENT if args.model not in (None, "gpt") else {})
    settings = {
        name: default if getattr(args, name) is None else getattr(args, name) for name, default in defaults.items()
    }
    try:
        settings["layers"] = whole(str(settings["layers"]))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ParameterError(
            f"--layers: for text, expected their number, such as 4, got {settings['layers']!r}"
        ) from error
    if settings["tokenizer"] != "bpe" and args.vocab_size is not None:
        raise ParameterError("--vocab-size goes with --tokenizer bpe")
    return settings


def _merge(args: argparse.Namespace, training: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a training that goes on: those of the checkpoint, but for what may change."""
    stored = training.get("settings")
    if not isinstance(stored, dict) or not DEFAULTS.keys() <= stored.keys():
        raise DataError(f"{args.resume}: the checkpoint does not say how it was trained, so it cannot go on")
    changed = {name: getattr(args, name) for name in DEFAULTS if getattr(args, name) is not None}
    for name, value in changed.items():
        if name not in CHANGEABLE and str(value) != str(stored[name]):
            raise ParameterError(
                f"--{name.replace('_', '-')} {value}: the checkpoint was trained with {stored[name]}; leave it out, or train anew"
            )
    return stored | {name: changed[name] for name in CHANGEABLE if name in changed}


def _read(path: Path) -> str:
    content = read_text(path)
    if not content:
        raise DataError(f"{path}: the file is empty")
    return content


def _choose_tokenizer(settings: dict[str, Any], content: str) -> text.Tokenizer:
    name = settings["tokenizer"]
    if name == "char":
        return text.CharTokenizer.train(content)
    if name == "byte":
        return text.ByteTokenizer()
    if name == "bpe":
        return text.BytePairTokenizer.train(content, settings["vocab_size"])
    if not Path(name).exists():
        raise ParameterError(f"--tokenizer: expected char, byte, bpe or a file; there is no file {name!r}")
    return text.load_tokenizer(name)


def _describe_model(settings: dict[str, Any], tokenizer: text.Tokenizer) -> dict[str, Any]:
    names = ("context", "layers", "heads", "width", "dropout")
    return {"kind": settings["model"], "vocab_size": tokenizer.vocab_size} | {name: settings[name] for name in names}


class _Session:
    """One run of the command: steps, and now and then the losses, a sample and a checkpoint."""

    def __init__(
        self,
        args: argparse.Namespace,
        path: Path,
        settings: dict[str, Any],
        described: dict[str, Any],
        tokenizer: text.Tokenizer,
        trainer: text.Trainer,
    ) -> None:
        self.path, self.settings, self.described = path, settings, described
        self.tokenizer, self.trainer = tokenizer, trainer
        self.every = args.every or 250
        self.again = f"minidl train --text {args.text} --resume {path}"
        self.live = sys.stderr.isatty()
        self.first = trainer.step
        self.seconds = 0.0  # of training alone
        self.losses: list[float] = []  # since the last line

    def train(self) -> int:
        """Take the remaining steps."""
        trainer = self.trainer
        with noted_interrupt() as interrupt:
            while trainer.step < trainer.steps and not interrupt:
                started = time.perf_counter()
                self.losses.append(trainer.advance())
                self.seconds += time.perf_counter() - started
                if trainer.step % self.every == 0 or trainer.step == trainer.steps:
                    self._report()
                elif self.live:
                    print(f"\r{self._line()}\033[K", end="", file=sys.stderr, flush=True)
            if interrupt:
                self._save()
        if self.live:
            print(file=sys.stderr)
        if trainer.step < trainer.steps:
            print(f"stopped after step {trainer.step}; {self.path} holds it. Go on with: {self.again}")
            return 130
        print(f"{self.path} holds the model. Next:")
        print(f'  write with it   minidl generate --model {self.path} --prompt "..."')
        print(f"  train on        {self.again} --steps {2 * trainer.steps}")
        return 0

    def _line(self) -> str:
        done, batch = self.trainer.step - self.first, self.trainer.windows
        speed = done * batch.batch_size * batch.length / max(self.seconds, 1e-9)
        left = self.seconds / max(done, 1) * (self.trainer.steps - self.trainer.step)
        recent = self.losses[-self.every :]
        return (
            f"step {self.trainer.step}/{self.trainer.steps}  loss {sum(recent) / len(recent):.4f}  {speed:,.0f} tokens/s  "
            f"{left // 60:.0f}:{left % 60:02.0f} left"
        )

    def _report(self) -> None:
        """Print the losses and a sample, and write a checkpoint."""
        line, loss = self._line(), self.trainer.evaluate()
        judged = "" if loss is None else f"  validation {loss:.4f} (perplexity {math.exp(min(loss, 700)):.2f})"
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(line + judged)
        print("  | " + self._sample().replace("\n", "\n  | "), flush=True)
        self.losses.clear()
        self._save()

    def _sample(self) -> str:
        """Return what the model writes after the first token of the text; it does not touch the generator of the training."""
        first = self.trainer.windows.tokens[:1].astype("int64")
        new = text.generate(self.trainer.model, first, SAMPLE, temperature=0.8, seed=self.trainer.step)
        return self.tokenizer.decode([*first.tolist(), *new.tolist()])

    def _save(self) -> None:
        optimizer, training = self.trainer.state()
        training["settings"] = self.settings
        weights = self.trainer.model.state_dict()
        text.save_checkpoint(self.path, text.Checkpoint(self.described, self.tokenizer, weights, optimizer, training))
