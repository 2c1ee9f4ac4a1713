"""Copies between the host and a GPU that nobody waits for.

A copy runs beside the computation only if the memory on the host is pinned, so that the system does not move it, and the copy is
in a stream of its own. An event marks its end. The stream that computes waits for the event; the host does not.

This module works on the namespace that it is given and imports no CuPy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.ops import Array

__all__ = ["Arrival", "Copies", "Reading"]


class Arrival:
    """An array on its way to the GPU.

    Parameters
    ----------
    array : array
        Where it arrives.
    event : any
        What marks its arrival.
    xp : module
        CuPy.
    """

    def __init__(self, array: Array, event: Any, xp: Any) -> None:
        self._array, self._event, self._xp = array, event, xp

    def take(self) -> Array:
        """Return the array. What is computed from now on waits for it; the host does not."""
        self._xp.cuda.get_current_stream().wait_event(self._event)
        return self._array


class Reading:
    """Arrays on their way to the host.

    Parameters
    ----------
    arrays : list of numpy.ndarray
        Where they arrive.
    event : any, optional
        What marks their arrival; without it they are here.
    """

    def __init__(self, arrays: list[numpy.ndarray], event: Any = None) -> None:
        self._arrays, self._event = arrays, event

    @property
    def ready(self) -> bool:
        """Whether they are here."""
        return self._event is None or bool(self._event.done)

    def get(self) -> list[numpy.ndarray]:
        """Return the arrays; wait for them if they are not here yet."""
        if not self.ready:
            self._event.synchronize()
        return self._arrays


class Copies:
    """The copies of one GPU, to it in a stream of their own, from it in the stream that computes.

    Parameters
    ----------
    xp : module
        CuPy.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self.stream = xp.cuda.Stream(non_blocking=True)
        self._under_way: deque[tuple[Any, numpy.ndarray]] = deque()

    def send(self, array: numpy.ndarray) -> Arrival:
        """Begin to copy an array of the host to the GPU.

        The copy waits for all that was handed to the current stream before. The memory that it writes to may have belonged to
        an array that is still read there. So send a batch before the step on the batch before it is handed over: the two then
        run side by side.

        Parameters
        ----------
        array : numpy.ndarray
        """
        xp, now = self._xp, self._xp.cuda.get_current_stream()
        pinned = self._pinned(array.shape, array.dtype)
        pinned[...] = array
        placed = xp.empty(array.shape, dtype=array.dtype)
        self.stream.wait_event(now.record())
        placed.set(pinned, stream=self.stream)
        event = self.stream.record()
        while self._under_way and self._under_way[0][0].done:
            self._under_way.popleft()
        self._under_way.append((event, pinned))  # until it is copied
        return Arrival(placed, event, xp)

    def read_later(self, arrays: Sequence[Array]) -> Reading:
        """Begin to copy arrays to the host, in the stream that computes: behind what is computed, and before what will be.

        Parameters
        ----------
        arrays : sequence of array
        """
        pinned = [self._pinned(array.shape, array.dtype) for array in arrays]
        for array, place in zip(arrays, pinned, strict=True):
            array.get(out=place, blocking=False)
        return Reading(pinned, self._xp.cuda.get_current_stream().record())

    def _pinned(self, shape: tuple[int, ...], dtype: Any) -> numpy.ndarray:
        """Return an array of the host in pinned memory, from CuPy's pool."""
        count = int(numpy.prod(shape, dtype=int))
        memory = self._xp.cuda.alloc_pinned_memory(max(count * numpy.dtype(dtype).itemsize, 1))
        return numpy.frombuffer(memory, dtype, count).reshape(shape)
