"""Inference: forward passes that keep no caches."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from types import TracebackType

__all__ = ["inference", "is_evaluating", "keeps_caches"]

_keeps: ContextVar[bool] = ContextVar("minidl_keeps_caches", default=True)
_evaluating: ContextVar[bool] = ContextVar("minidl_evaluating", default=False)

keeps_caches = _keeps.get
"""Whether layers remember what backward needs: False inside ``inference``."""

is_evaluating = _evaluating.get
"""Whether every layer behaves as in evaluation: True inside ``inference(evaluate=True)``."""


class inference(ContextDecorator):
    """Run forward passes that keep no caches, in a ``with`` block or a decorated function.

    Memory then holds the weights and the arrays between two layers, whatever the depth of the model. A backward uses the
    last forward outside such a block. Where the engine has the kernel, convolution, batch normalisation and activation run
    as one inside the block, and residual layers add in their last convolution. The setting belongs to the context
    (``contextvars``), so several threads can predict with one model.

    Parameters
    ----------
    evaluate : bool, default False
        Also let every layer behave as in evaluation: dropout passes its input on, and batch normalisation uses its running
        statistics. The modes of the layers do not change. ``predict`` and ``evaluate`` do this.

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
        """Give each call of a decorated function its own block, because tokens belong to one context."""
        return inference(self.evaluate)
