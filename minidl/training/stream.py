"""Batches that are read one at a time and checked as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minidl.data.passes import Passes
from minidl.errors import DataError

__all__ = ["Stream"]


class Stream:
    """Iterate over the batches of an epoch, read from a source that may be large, slow or endless.

    Without ``steps`` an epoch is one pass over the data. With ``steps`` each epoch takes that many batches and the next
    one continues from there; a source that can be iterated again starts over when it ends.

    Parameters
    ----------
    passes : Passes
    check : callable
        Called with each batch and its place (epoch and step) for messages; returns x, y and weights for the loop.
    where : str
        The beginning of that place, such as ``"fit"``.
    steps : int, optional
        Batches per epoch.
    restart : bool, default False
        Start every epoch with the first batch, if the source can be iterated again. For validation.
    epoch : int, optional
        The epoch before the loop sets it, for messages.
    deliver : callable, optional
        Wraps the batches of an epoch, such as to send each to a GPU before the step on the one before it. It may read a batch
        ahead, but no more than the epoch has.

    Attributes
    ----------
    steps : int or None
        Batches per epoch, if known.
    epoch : int or None
        The current epoch, counted from 0; set by the loop, for messages.
    """

    def __init__(
        self,
        passes: Passes,
        check: Callable[[Any, str], Any],
        where: str,
        steps: int | None = None,
        restart: bool = False,
        epoch: int | None = None,
        deliver: Callable[[Iterator[Any]], Iterator[Any]] | None = None,
    ) -> None:
        self.deliver = deliver
        self.passes, self.check, self.where = passes, check, where
        self.limit, self.restart = steps, (restart or steps is None) and not passes.once
        self.epoch = epoch
        self._pass: Iterator[Any] | None = None
        self._ahead: list[Any] = []  # the first batch, if it was read before its epoch
        self.steps = steps if steps is not None else self._guarded(passes.length, 0)

    def first(self) -> tuple[Any, str]:
        """Read the first batch and return it, unchecked, with its place; the next epoch still starts with it."""
        if not self._ahead:
            batch = self._next(0)
            if batch is _END:
                raise DataError(f"{self._place(0)}: the data contain no batches")
            self._ahead.append(batch)
        return self._ahead[0], self._place(0)

    def __iter__(self) -> Iterator[Any]:
        return self._batches() if self.deliver is None else self.deliver(self._batches())

    def _batches(self) -> Iterator[Any]:
        if self.restart and not self._ahead:
            self._pass = None
        done = 0
        while done != self.limit:
            batch = self._ahead.pop() if self._ahead else self._next(done)
            if batch is not _END:
                yield self.check(batch, self._place(done))
                done += 1
            elif self.limit is None and done:
                break
            else:
                self._ahead.append(self._of_another_pass(done))
        if self.limit is None:
            self.steps = done  # the best estimate for the next epoch

    def _of_another_pass(self, done: int) -> Any:
        """Start another pass and return its first batch, or raise an error that says why that is impossible."""
        place = self._place(done)
        if self.passes.once:
            raise DataError(
                f"{place}: the data ran out. They are an iterator, which can be used only once: give one that yields "
                "enough batches for every step of every epoch, or an object that can be iterated again"
            )
        if self.restart and done:
            raise DataError(f"{place}: the data ran out after {done} batches, but {self.limit} steps were requested")
        batch = _END if self.limit is None else self._next(done)
        if batch is _END:
            raise DataError(f"{place}: the data contain no batches")
        return batch

    def _next(self, done: int) -> Any:
        """Return the next batch of the current pass, starting one if necessary; ``_END`` at its end."""
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
