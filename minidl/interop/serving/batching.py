"""One thread owns the model; requests that wait together are computed together."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl.errors import MinidlError
from minidl.interop.serving.tensors import Refusal

__all__ = ["Batcher"]

Results = dict[str, numpy.ndarray]


@dataclass(eq=False)
class _Waiting:
    """A request in the queue, and the future of its results in the loop that asked."""

    inputs: tuple[numpy.ndarray, ...]
    future: asyncio.Future[Results]
    arrived: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> list[tuple[int, ...]]:
        """What requests must share to be one batch: the shapes of an example."""
        return [x.shape[1:] for x in self.inputs]

    @property
    def rows(self) -> int:
        return len(self.inputs[0])


class Batcher:
    """Compute requests in batches, in one thread.

    The oldest request decides the shape of the batch. It waits for company until the batch is full, or ``max_wait`` seconds
    since it arrived; what arrives while a batch is computed waits anyhow.

    Parameters
    ----------
    run : callable
        Takes the inputs of a batch, and returns its outputs by name.
    max_batch : int
        The most examples of a batch.
    max_wait : float
        In seconds.
    """

    def __init__(self, run: Callable[[Sequence[numpy.ndarray]], Results], max_batch: int, max_wait: float) -> None:
        self._run, self._max_batch, self._max_wait = run, max_batch, max_wait
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def ready(self) -> bool:
        """Whether requests are computed."""
        return self._thread is not None and self._thread.is_alive() and not self._closed

    def start(self) -> None:
        """Start the thread. The engine is the one that is chosen here."""
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="minidl-serve", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Compute what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    async def compute(self, inputs: tuple[numpy.ndarray, ...]) -> Results:
        """Return the outputs for the inputs of a request; whoever cancels this leaves the queue."""
        item = _Waiting(inputs, asyncio.get_running_loop().create_future())
        with self._changed:
            if not self.ready:
                raise Refusal(503, "the server is stopping")
            self._waiting.append(item)
            self._changed.notify()
        return await item.future

    def _work(self) -> None:
        while batch := self._take():
            outcomes = self._compute(batch)
            loop = batch[0].future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, batch, outcomes)

    def _take(self) -> list[_Waiting]:
        """Wait for a batch and take it out of the queue; an empty one says that the server stops."""
        with self._changed:
            while True:
                batch, full = self._gather()
                if not batch:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                left = batch[0].arrived + self._max_wait - time.monotonic()
                if full or left <= 0 or self._closed:
                    taken = set(map(id, batch))
                    self._waiting = deque(item for item in self._waiting if id(item) not in taken)
                    return batch
                self._changed.wait(left)

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """Return the oldest request and those that fit it, and whether no further one would."""
        while self._waiting and self._waiting[0].future.cancelled():  # its client waits no longer
            self._waiting.popleft()
        batch: list[_Waiting] = []
        rows = 0
        for item in self._waiting:
            if item.future.cancelled() or (batch and item.kind != batch[0].kind):
                continue
            if batch and rows + item.rows > self._max_batch:
                return batch, True
            batch.append(item)
            rows += item.rows
        return batch, rows >= self._max_batch

    def _compute(self, batch: list[_Waiting]) -> list[Results | Refusal]:
        """Return the results of each request. Where the batch fails, each is computed alone, so that only the guilty one fails."""
        try:
            joined = [
                numpy.concatenate(parts) if len(parts) > 1 else parts[0]
                for parts in zip(*(i.inputs for i in batch), strict=True)
            ]
            results = self._run(joined)
        except Exception as error:
            if len(batch) > 1:
                return [outcome for item in batch for outcome in self._compute([item])]
            if isinstance(error, MinidlError):
                return [Refusal(400, f"the model refuses the request: {' '.join(str(error).split())}")]
            print(f"minidl serve: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return [Refusal(500, f"the model failed: {type(error).__name__}")]
        outcomes: list[Results | Refusal] = []
        at = 0
        for item in batch:
            outcomes.append({name: y[at : at + item.rows] for name, y in results.items()})
            at += item.rows
        return outcomes


def _deliver(batch: list[_Waiting], outcomes: list[Any]) -> None:
    """Hand out results, in the thread of the loop."""
    for item, outcome in zip(batch, outcomes, strict=True):
        if item.future.done():
            continue
        if isinstance(outcome, Exception):
            item.future.set_exception(outcome)
        else:
            item.future.set_result(outcome)
