"""Batches that are read one at a time and checked as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minidl import random
from minidl.data.passes import Passes
from minidl.errors import DataError
from minidl.training.plain_state import Sources, object_state, put_object_state

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
    noting : bool, default False
        Whether to note the state of the data when a pass begins, which :meth:`position` then contains.
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
        noting: bool = False,
        deliver: Callable[[Iterator[Any]], Iterator[Any]] | None = None,
    ) -> None:
        self.deliver = deliver
        self.passes, self.check, self.where = passes, check, where
        self.limit, self.restart = steps, (restart or steps is None) and not passes.once
        self.epoch = epoch
        self._pass: Iterator[Any] | None = None
        self._ahead: list[Any] = []  # the first batch, if it was read before its epoch
        self._data = DataState(passes) if noting else None
        self._began: Any = None  # the state of the data before this pass
        self._taken = self._total = self._first_step = 0  # batches of this pass, and of all; where the epoch begins
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
        done, self._first_step = self._first_step, 0
        if self.restart and not self._ahead and not done:
            self._pass = None
        while done != self.limit:
            batch = self._ahead.pop() if self._ahead else self._next(done)
            if batch is not _END:
                self._taken, self._total = self._taken + 1, self._total + 1
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
        current = self._start(0, done) if self._pass is None else self._pass
        batch = self._guarded(lambda: next(current, _END), done)
        self._pass = None if batch is _END else current
        return batch

    def _start(self, count: int, done: int) -> Iterator[Any]:
        """Start a pass, without its first ``count`` batches."""
        self._began = None if self._data is None else self._data.read()
        self._taken = count
        return self._guarded(lambda: self.passes.after(count) if count else iter(self.passes), done)

    def position(self) -> dict[str, Any]:
        """Return what :meth:`go_on` needs beside the number of steps: how far data and generators are."""
        assert self._data is not None
        taken = self._taken if self._pass is not None else 0
        ahead = len(self._ahead)
        return {
            "total": self._total,
            "taken": taken,
            "ahead": ahead,
            "began": self._began,
            "now": self._data.read(),
        }

    def go_on(self, position: dict[str, Any], step: int) -> None:
        """Let the next epoch be the rest of the one that has this position, after so many steps.

        An iterator is read from where it is now: so many batches are left out.
        """
        assert self._data is not None
        self._first_step, done, self._total = step, self._total, position["total"]
        if self.passes.once:
            for _ in range(position["total"] - done):
                if (self._ahead.pop() if self._ahead else self._next(step)) is _END:
                    raise DataError(f"{self._place(step)}: the data end before the place where the training stopped")
            return
        self._ahead, self._pass = [], None
        if position["ahead"] or (position["taken"] and (step or not self.restart)):
            self._data.put(position["began"])
            self._pass = self._start(position["taken"], step)
            self._ahead = [self._next(step) for _ in range(position["ahead"])]
        self._data.put(position["now"])

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


class DataState:
    """What the batches of a source depend on: random generators, and the source's own state.

    That is what its ``state_dict`` returns, or else its attributes that are numbers and texts, such as the number of an epoch.
    """

    def __init__(self, passes: Passes) -> None:
        self.data = getattr(passes, "data", None)
        self._sources = Sources({"passes": passes, "minidl.seed": random.generator()})

    def read(self) -> tuple[Any, Any, dict[str, Any]]:
        """Return the state, for :meth:`put`."""
        arrays: dict[str, Any] = {}
        state = None if self.data is None else object_state(self.data, arrays, "data", _large(self.data))
        return self._sources.state(arrays, "generators"), state, arrays

    def put(self, state: tuple[Any, Any, dict[str, Any]]) -> None:
        """Put everything into a state that :meth:`read` returned."""
        generators, own, arrays = state
        if own is not None:
            put_object_state(self.data, own, arrays)
        self._sources.put(generators, arrays)


def _large(data: Any) -> list[str]:
    """Return the names of attributes that are the data themselves, rather than how far they were read."""
    return [name for name, value in getattr(data, "__dict__", {}).items() if not isinstance(value, (int, float, str))]


_END = object()
