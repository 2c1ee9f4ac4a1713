"""The progress line that a person expects: epoch, bar, loss, metrics, time per step, time left."""

from __future__ import annotations

import sys
import time
from typing import Any

from minidl.errors import ParameterError

__all__ = ["Progress", "resolve_verbose", "say"]

INTERVAL = 0.1
"""Seconds between two looks at the line; in between, a step costs one comparison of times."""


def resolve_verbose(verbose: Any) -> int:
    """Return 0 (silent), 1 (a line that moves) or 2 (a line an epoch); ``"auto"`` is 1 on a terminal, else 0."""
    if verbose == "auto":
        return 1 if sys.stderr.isatty() else 0
    if verbose not in (0, 1, 2):
        raise ParameterError(f"verbose must be 'auto', 0, 1 or 2, got {verbose!r}")
    return int(verbose)


def say(text: str) -> None:
    """Print a finished line; only asked for with ``verbose``."""
    print(text, file=sys.stdout, flush=True)


def shown(logs: dict[str, float]) -> str:
    """Return numbers as people read them: ``loss: 0.1234 - accuracy: 0.9700``."""
    return " - ".join(f"{name}: {value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{name}: {value:.3e}"
                      for name, value in logs.items())  # fmt: skip


class Progress:
    """One epoch's line."""

    def __init__(self, verbose: int, epoch: int, epochs: int, steps: int) -> None:
        self.verbose, self.title, self.steps = verbose, f"epoch {epoch + 1}/{epochs}", steps
        self.started = time.perf_counter()
        self.next_look = self.started + INTERVAL if verbose == 1 else float("inf")
        self.bar = self._made() if verbose == 1 else None

    def _made(self) -> Any:
        """Make the bar; tqdm is imported only where it is seen, since it takes as long as half of minidl."""
        from tqdm import tqdm

        return tqdm(total=self.steps, desc=self.title, unit="step", file=sys.stderr, leave=True, dynamic_ncols=True)

    def due(self) -> bool:
        """Whether enough time has passed to show something new."""
        return time.perf_counter() >= self.next_look

    def show(self, step: int, logs: dict[str, float]) -> None:
        """Show the numbers after this many steps."""
        if self.bar is not None:
            self.bar.set_postfix_str(shown(logs), refresh=False)
            self.bar.update(step - self.bar.n)
            self.next_look = time.perf_counter() + INTERVAL

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *problem: Any) -> None:
        """Leave the terminal in order, whatever happened."""
        if self.bar is not None:
            self.bar.close()

    def finish(self, logs: dict[str, float]) -> None:
        """Finish the line with the epoch's numbers."""
        seconds = time.perf_counter() - self.started
        per_step = f"{seconds / max(self.steps, 1) * 1e3:.3g} ms/step"
        if self.bar is not None:
            self.bar.set_postfix_str(f"{per_step} - {shown(logs)}", refresh=False)
            self.bar.update(self.steps - self.bar.n)
        elif self.verbose == 2:
            say(f"{self.title} - {seconds:.2f} s - {per_step} - {shown(logs)}")
