"""Inference: forwards that keep nothing for a backward."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from types import TracebackType

__all__ = ["inference", "is_evaluating", "keeps_caches"]

_keeps: ContextVar[bool] = ContextVar("minidl_keeps_caches", default=True)
_evaluating: ContextVar[bool] = ContextVar("minidl_evaluating", default=False)

keeps_caches = _keeps.get
"""Whether layers remember what their backward needs: False inside ``inference``."""

is_evaluating = _evaluating.get
"""Whether every layer behaves as in evaluation, whatever its own mode is."""


class inference(ContextDecorator):
    """Run forwards that keep no caches, in a ``with`` block or a decorated function.

    Memory then holds the weights and what passes between two layers, however deep the model is. A backward goes back
    through the last forward outside such a block. The choice belongs to the context (``contextvars``), so several threads
    may predict with one model.

    Parameters
    ----------
    evaluate : bool, default False
        Let every layer behave as in evaluation too: dropout passes everything on, and batch normalisation takes its
        running statistics. No layer's own mode changes. ``predict`` and ``evaluate`` do this.

    Examples
    --------
    >>> import numpy, minidl as dl
    >>> layer = dl.ReLU()
    >>> with dl.inference():
    ...     y = layer.forward(numpy.array([-1.0, 2.0]))
    >>> layer.backward(y)
    Traceback (most recent call last):
    ...
    minidl.errors.OrderError: ReLU(): backward was called before forward; call forward(x) first, outside dl.inference()
    """

    def __init__(self, evaluate: bool = False) -> None:
        self.evaluate = evaluate
        self._tokens: list[tuple[Token[bool], Token[bool] | None]] = []

    def __enter__(self) -> inference:
        self._tokens.append((_keeps.set(False), _evaluating.set(True) if self.evaluate else None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        keeps, evaluating = self._tokens.pop()
        _keeps.reset(keeps)
        if evaluating is not None:
            _evaluating.reset(evaluating)

    def _recreate_cm(self) -> inference:
        """Give every call of a decorated function a block of its own: tokens belong to one context."""
        return inference(self.evaluate)
