"""The files of checkpoints: a folder for each, written as a whole or not at all, and proof against a killed process.

::

    FOLDER/
        epoch-00002-step-00000350/     after 2 epochs and 350 batches of the third
            model.safetensors          the weights, as Model.save writes them
            training.safetensors       all other arrays: the optimiser's state, best weights, pending metrics
            checkpoint.json            everything else; format, version, and the sizes and CRC-32 of all parts

A checkpoint is written into a folder with a temporary name. Its files, and the folder, are flushed to disk before it is
renamed, and the folder around it afterwards. So what has the name of a checkpoint is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from minidl import weights
from minidl.errors import FileFormatError, ParameterError
from minidl.weights.files import lock, sync_folder, write_atomically
from minidl.weights.safetensors_file import parse_json

__all__ = ["FORMAT", "VERSION", "CheckpointFolder", "find_checkpoint", "read_checkpoint"]

FORMAT, VERSION = "minidl training checkpoint", 1
_NAME = re.compile(r"epoch-(\d{5,})-step-(\d{8,})")
_TEMPORARY = re.compile(r"\.minidl-[0-9a-f]{16}\.tmp")
MODEL, TRAINING, ABOUT = "model.safetensors", "training.safetensors", "checkpoint.json"


def find_checkpoint(path: str | os.PathLike[str]) -> Path | None:
    """Return the newest checkpoint in a folder, or the one that the path itself is; None if there is none."""
    folder = Path(path)
    if (folder / ABOUT).exists():
        return folder
    found = _checkpoints_in(folder) if folder.is_dir() else []
    return found[-1] if found else None


def _checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the oldest first."""
    named = [(match, entry) for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name)) and entry.is_dir()]
    return [entry for _, entry in sorted((tuple(map(int, match.groups())), entry) for match, entry in named)]


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, numpy.ndarray], Path]:
    """Return what a checkpoint says, its arrays, and the file of the weights.

    Raises
    ------
    FileFormatError
        If it is damaged, of a newer version, or of another program; the message names the file.
    """
    about = path / ABOUT
    try:
        head = parse_json(about.read_bytes())
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise FileFormatError(f"fit, resume: {about} is not that of a checkpoint of a training with minidl")
        if head["version"] != VERSION:
            raise FileFormatError(
                f"fit, resume: {about} has version {head['version']}, but this minidl reads {VERSION}; install the one that wrote it"
            )
        content, parts = head["content"], head["parts"]
        if zlib.crc32(content.encode()) != head["crc32"]:
            raise FileFormatError(f"fit, resume: {about} is damaged: its sum differs. {_advice(path)}")
        for name in (MODEL, TRAINING):
            if [(path / name).stat().st_size, _crc32(path / name)] != parts[name]:
                raise FileFormatError(f"fit, resume: {path / name} is damaged: size or sum differs. {_advice(path)}")
        return parse_json(content.encode()), weights.load_file(path / TRAINING), path / MODEL
    except FileNotFoundError as error:
        raise FileFormatError(f"fit, resume: {path} is no whole checkpoint: {error}. {_advice(path)}") from error
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"fit, resume: {about} is damaged: {error}. {_advice(path)}") from error


def _advice(path: Path) -> str:
    return f"Delete {path} to go on from the checkpoint before it"


class CheckpointFolder:
    """A folder to which one training at a time writes checkpoints.

    Parameters
    ----------
    path : path
        Made if it does not exist.
    keep : int
        How many checkpoints stay; older ones are deleted once a new one is on the disk.

    Raises
    ------
    FileFormatError
        If something else is there.
    ParameterError
        If another process or thread writes to it.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int) -> None:
        self.path, self.keep = Path(path), keep
        if self.path.exists() and not self.path.is_dir():
            raise FileFormatError(f"fit, checkpoint: {self.path} is a file, not a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        sync_folder(self.path.parent)
        self._held: int | None = None
        with contextlib.suppress(OSError):  # a system without locks, or one that opens no folders
            self._held = os.open(self.path, os.O_RDONLY)
            if not lock(self._held):
                os.close(self._held)
                raise ParameterError(f"fit, checkpoint: another training writes to {self.path}; give another folder")
        for entry in list(self.path.iterdir()):
            if _TEMPORARY.fullmatch(entry.name) and entry.is_dir():  # a process was killed before it was complete
                shutil.rmtree(entry)

    def close(self) -> None:
        """Let others write to the folder."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, the oldest first."""
        return _checkpoints_in(self.path)

    def write(
        self,
        epoch: int,
        step: int,
        save_model: Callable[[Path], None],
        arrays: dict[str, numpy.ndarray],
        content: dict[str, Any],
    ) -> Path:
        """Write one checkpoint and delete those that are too old; return its path.

        Parameters
        ----------
        epoch, step : int
            How many epochs were completed, and how many batches after them.
        save_model : callable
            Called with the path of the file of the weights.
        arrays : dict
        content : dict
            As JSON has it.
        """
        new = self._temporary()
        new.mkdir()
        try:
            save_model(new / MODEL)
            weights.save_file(arrays, new / TRAINING)
            text = json.dumps(content, separators=(",", ":"), allow_nan=False)
            parts = {name: [(new / name).stat().st_size, _crc32(new / name)] for name in (MODEL, TRAINING)}
            head = {
                "format": FORMAT,
                "version": VERSION,
                "parts": parts,
                "crc32": zlib.crc32(text.encode()),
                "content": text,
            }
            write_atomically(new / ABOUT, json.dumps(head).encode())  # which flushes the folder, too
            target = self.path / f"epoch-{epoch:05d}-step-{step:08d}"
            if target.exists():
                self._delete(target)
            new.rename(target)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        sync_folder(self.path)
        for old in self.checkpoints()[: -self.keep]:
            self._delete(old)
        return target

    def _delete(self, path: Path) -> None:
        """Delete a checkpoint, under another name, so that half of one never has the name of a whole one."""
        doomed = self._temporary()
        path.rename(doomed)
        sync_folder(self.path)
        shutil.rmtree(doomed)

    def _temporary(self) -> Path:
        return self.path / f".minidl-{os.urandom(8).hex()}.tmp"


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    return found
