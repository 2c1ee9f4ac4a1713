"""Batches that come one after another from outside, each checked as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minidl.data.passes import Passes
from minidl.errors import DataError

__all__ = ["Stream"]


class Stream:
    """The batches of an epoch, or of an evaluation, out of data that are read batch by batch.

    Without ``steps`` an epoch is one pass over the data. With it, an epoch is so many batches: the next one goes on where
    it ended, and data that can be gone through again begin again when they end.

    Parameters
    ----------
    passes : Passes
    admit : callable
        Called with each batch and where it is, for messages; returns what the loop takes.
    where : str
        Whose data they are, for messages.
    steps : int, optional
        Batches in an epoch.
    anew : bool, default False
        Begin every epoch with the first batch, if the data can be gone through again: for validation.

    Attributes
    ----------
    steps : int or None
        Batches in an epoch, as far as is known beforehand.
    epoch : int or None
        Which epoch it is, counted from 0; set by the loop, for messages.
    """

    def __init__(
        self,
        passes: Passes,
        admit: Callable[[Any, str], Any],
        where: str,
        steps: int | None = None,
        anew: bool = False,
        epoch: int | None = None,
    ) -> None:
        self.passes, self.admit, self.where = passes, admit, where
        self.limit, self.anew = steps, (anew or steps is None) and not passes.once
        self.epoch = epoch
        self._pass: Iterator[Any] | None = None
        self._ahead: list[Any] = []  # a batch that was looked at before its epoch
        self.steps = steps if steps is not None else self._guarded(passes.length, 0)

    def first(self) -> tuple[Any, str]:
        """Return the first batch as it comes, and its place for messages; the next epoch begins with it all the same."""
        if not self._ahead:
            batch = self._next(0)
            if batch is _END:
                raise DataError(f"{self._place(0)}: the data hold no batches")
            self._ahead.append(batch)
        return self._ahead[0], self._place(0)

    def __iter__(self) -> Iterator[Any]:
        if self.anew and not self._ahead:
            self._pass = None
        done = 0
        while done != self.limit:
            batch = self._ahead.pop() if self._ahead else self._next(done)
            if batch is not _END:
                yield self.admit(batch, self._place(done))
                done += 1
            elif self.limit is None and done:
                break
            else:
                self._ahead.append(self._of_another_pass(done))
        if self.limit is None:
            self.steps = done  # the best guess for the next epoch

    def _of_another_pass(self, done: int) -> Any:
        """Return the first batch of another pass, or say why there is none."""
        place = self._place(done)
        if self.passes.once:
            raise DataError(
                f"{place}: the data have run dry. They are an iterator, which can be gone through once: give one that "
                "yields enough batches for all steps of all epochs, or an object that can be iterated over again"
            )
        if self.anew and done:
            raise DataError(
                f"{place}: the data have run dry after {done} batches, but {self.limit} steps were asked for"
            )
        batch = _END if self.limit is None else self._next(done)
        if batch is _END:
            raise DataError(f"{place}: the data hold no batches")
        return batch

    def _next(self, done: int) -> Any:
        """Return the next batch of this pass, of a new one if there is none, or the mark of its end."""
        current = self._guarded(lambda: iter(self.passes), done) if self._pass is None else self._pass
        batch = self._guarded(lambda: next(current, _END), done)
        self._pass = None if batch is _END else current
        return batch

    def _guarded(self, read: Callable[[], Any], done: int) -> Any:
        try:
            return read()
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(f"{self._place(done)}: the data raised {type(error).__name__}: {error}") from error

    def _place(self, done: int) -> str:
        epoch = "" if self.epoch is None else f"epoch {self.epoch + 1}, "
        return f"{self.where}: {epoch}step {done + 1}"


_END = object()
