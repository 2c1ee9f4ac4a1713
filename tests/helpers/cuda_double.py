"""The devices, streams and events of the array double.

Two devices, so that code which assumes the first is found out. An asynchronous copy happens as late as it may: when somebody
waits for an event behind it, or a few events later. So whoever forgets to wait computes with what was there before, and whoever
uses pinned memory again too early copies the wrong numbers.
"""

import collections
import contextlib

COUNT = 2
LAG = 3
"""How many later events of its stream must have been recorded before an event nobody waits for is done."""

transfers = collections.Counter()
"""How often something crossed the bus, and who waited.

"to host", "to device": a copy that the host waits for. "wait": the host needs a number to go on, or synchronises. "sent", "read
later": a copy that nobody waits for.
"""

_device = 0
_streams = {}  # the current stream of each device


def note(kind, count=1):
    """Count a transfer or a wait; neither is allowed while a stream is captured."""
    if count:
        if kind in ("wait", "to host", "to device") and get_current_stream().capturing:
            raise RuntimeError(
                f"cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing ({kind})"
            )
        transfers[kind] += count


class Device:
    def __init__(self, device=None):
        self.id = _device if device is None else int(device)
        if not 0 <= self.id < COUNT:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self._before = []

    def use(self):
        global _device
        _device = self.id

    def __enter__(self):
        self._before.append(_device)
        self.use()
        return self

    def __exit__(self, *exc):
        global _device
        _device = self._before.pop()

    def __eq__(self, other):
        return self.id == other.id if isinstance(other, Device) else NotImplemented

    __hash__ = None

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def synchronize(self):
        note("wait")
        for stream in _all_streams:
            stream.run()


_all_streams = []


class Stream:
    """Work in order. What is computed is done at once; what is copied waits in the queue."""

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.queue, self.begun, self.events = collections.deque(), 0, 0
        self.device_id, self.capturing = _device, False
        _all_streams.append(self)

    def put(self, work):
        self.queue.append(work)
        self.begun += 1

    def run(self, until=None):
        """Do the work up to this number, or all."""
        while self.queue and (until is None or self.begun - len(self.queue) < until):
            self.queue.popleft()()

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        event.happen()

    def synchronize(self):
        note("wait")
        self.run()

    @property
    def done(self):
        return not self.queue

    def __enter__(self):
        self._outer = get_current_stream()
        _streams[_device] = self
        return self

    def __exit__(self, *exc):
        _streams[_device] = self._outer

    def use(self):
        _streams[_device] = self
        return self


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self._stream = None

    def record(self, stream=None):
        self._stream = get_current_stream() if stream is None else stream
        self._until = self._stream.begun
        self._stream.events += 1
        self._number = self._stream.events

    def happen(self):
        if self._stream is not None:
            self._stream.run(self._until)

    @property
    def done(self):
        if self._stream.events - self._number >= LAG:
            self.happen()
        return self._stream.begun - len(self._stream.queue) >= self._until

    def synchronize(self):
        note("wait")
        self.happen()


def get_current_stream(device_id=None):
    device = _device if device_id is None else device_id
    if device not in _streams:
        with Device(device):
            _streams[device] = Stream(null=True)
    return _streams[device]


def alloc_pinned_memory(size):
    return bytearray(b"\xa5" * size)


class runtime:
    @staticmethod
    def getDeviceCount():
        return COUNT

    @staticmethod
    def getDeviceProperties(device):
        return {"name": b"the array double"}


def current_device():
    return _device


@contextlib.contextmanager
def first_device():
    """Go back to the first device afterwards, whatever happens."""
    try:
        yield
    finally:
        Device(0).use()
