"""Checkpoints of ``fit``: when they are written, and how a training goes on from one."""

from __future__ import annotations

import importlib.util
import os
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from minidl.errors import FileFormatError, MissingDependencyError, ParameterError
from minidl.training import checks
from minidl.training.checkpoint_files import CheckpointFolder, find_checkpoint, read_checkpoint
from minidl.training.history import History
from minidl.training.interruption import noted_interrupt
from minidl.training.recorder import Place, Recorder

__all__ = ["Checkpoints", "Run"]

StrPath = str | os.PathLike[str]


class Checkpoints:
    """Where and when ``fit`` writes checkpoints, and what it goes on from.

    Parameters
    ----------
    folder : path or None
    every : int or None
        Steps of the optimiser between two checkpoints; None for one after each epoch.
    keep : int
    resume : path or None

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    ParameterError
        If a setting is out of range, or the folder holds the checkpoints of another training.
    """

    def __init__(self, folder: StrPath | None, every: Any, keep: Any, resume: StrPath | None) -> None:
        if importlib.util.find_spec("safetensors") is None:
            raise MissingDependencyError.needs("fit, checkpoint", "safetensors", "weights")
        self.every = None if every is None else checks.whole_number(every, "every", "fit", 1)
        if folder is None and self.every is not None:
            raise ParameterError("fit: every is given, but no folder for checkpoints; give checkpoint=...")
        self.folder, self.keep = folder, checks.whole_number(keep, "keep", "fit", 1)
        self.found = None if resume is None else find_checkpoint(resume)
        same = resume is not None and folder is not None and Path(folder).resolve() == Path(resume).resolve()
        if resume is not None and self.found is None and not (same and not Path(resume).is_file()):
            if not Path(resume).exists():
                raise FileNotFoundError(f"fit, resume: there is no folder {os.fspath(resume)}")
            raise FileFormatError(f"fit, resume: {os.fspath(resume)} holds no checkpoint of a training with minidl")
        if folder is None:
            return
        newest = find_checkpoint(folder)
        if newest is not None and (self.found is None or newest.resolve() != self.found.resolve()):
            raise ParameterError(
                f"fit, checkpoint: {os.fspath(folder)} holds checkpoints of an earlier training, the newest {newest.name}; go on "
                "with it by resume=..., or give another folder"
            )


class Run:
    """One training with checkpoints: a context that holds the folder and lets Ctrl-C wait for the end of a step.

    Parameters
    ----------
    plan : Checkpoints or None
        None for a training without.
    recorder : Recorder or None
    history : History
    parallel : DataParallel, optional
        With it every rank reads, and rank 0 writes.
    """

    def __init__(
        self, plan: Checkpoints | None, recorder: Recorder | None, history: History, parallel: Any = None
    ) -> None:
        self.parallel = parallel
        self.plan, self.recorder, self.history = plan, recorder, history
        self._folder: CheckpointFolder | None = None
        self._interrupted: list[int] = []
        self._stack = ExitStack()
        self._last: Place | None = None  # what the newest checkpoint holds
        self._resumed: Any = None
        self.resumes = plan is not None and plan.found is not None

    def __enter__(self) -> Run:
        if self.plan is None or self.recorder is None:
            return self
        if self.parallel is not None:
            self.plan.found = self.parallel.comm.bcast(self.plan.found, root=0)
        if self.plan.found is not None:
            self._resumed = read_checkpoint(self.plan.found)
            self.recorder.check(self._resumed[0], self.plan.found)
        if self.parallel is not None:
            self.parallel.barrier()  # nobody writes before all have read
        if self.plan.folder is not None:
            if self.parallel is None or self.parallel.is_root:
                self._folder = CheckpointFolder(self.plan.folder, self.plan.keep)
                self._stack.callback(self._folder.close)
            self._interrupted = self._stack.enter_context(noted_interrupt())
        return self

    @property
    def writes(self) -> bool:
        """Whether checkpoints are written."""
        return self.plan is not None and self.plan.folder is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether Ctrl-C was pressed in this process."""
        return bool(self._interrupted)

    def _must_stop(self) -> bool:
        """Whether Ctrl-C was pressed; of several processes, in any of them by their last step."""
        return bool(self._interrupted) if self.parallel is None else self.parallel.interrupted

    def __exit__(self, problem: Any, *details: Any) -> None:
        self._stack.close()
        if self._interrupted and problem is None:
            raise KeyboardInterrupt

    def put_back(self, first_epoch: int, callbacks: bool = True) -> Place:
        """Put everything back, if the training goes on; return where it begins."""
        if self._resumed is None:
            return Place(first_epoch)
        assert self.recorder is not None
        content, arrays, model = self._resumed
        self._last = self.recorder.put(content, arrays, model, self.history, callbacks)
        return self._last

    def begin_epoch(self, place: Place) -> Place:
        """Put the metrics back at the beginning of an epoch that goes on; return the place."""
        if place.step and self._resumed is not None:
            assert self.recorder is not None
            content, arrays, _ = self._resumed
            self.recorder.loop.meter.put(content["meter"], arrays)
            if self.parallel is not None and not (self.parallel.is_root or self.parallel.gathers):
                self.recorder.loop.meter.reset()  # the sums of all ranks are with rank 0
        self._resumed = None
        return place

    def is_due(self) -> bool:
        """Whether a checkpoint is to be written after this step: it is time, or Ctrl-C was pressed."""
        if not self.writes:
            return False
        assert self.plan is not None
        assert self.recorder is not None
        due = self.plan.every is not None and self.recorder.model.optimizer.step_count % self.plan.every == 0
        return due or self._must_stop()

    def after_epoch(self, place: Place, last: bool) -> None:
        """Write a checkpoint after an epoch, unless they are written every so many steps."""
        if self.writes:
            assert self.plan is not None
            if self.plan.every is None or last or self._must_stop():
                self.write(place)

    def write(self, place: Place) -> None:
        """Write a checkpoint; raise KeyboardInterrupt if Ctrl-C was pressed."""
        assert self.plan is not None
        assert self.recorder is not None
        if place != self._last:
            whole = nullcontext() if self.parallel is None else self.parallel.written(self.recorder.loop.meter)
            with whole:
                if self._folder is not None:
                    arrays, content = self.recorder.state(place, self.history)
                    self._folder.write(place.epoch, place.step, self.recorder.model.save, arrays, content)
            self._last = place
        if self._must_stop():
            raise KeyboardInterrupt(f"a checkpoint is in {self.plan.folder}; go on with fit(..., resume=...)")
