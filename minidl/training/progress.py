"""The progress line: epoch, bar, steps, loss, metrics, time per step, time left."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from typing import Any

import numpy

from minidl.errors import ParameterError

__all__ = ["Progress", "resolve_verbose"]

INTERVAL = 0.1
"""Seconds between two updates of the bar; in between, a step costs one comparison of times."""


def resolve_verbose(verbose: Any, where: str) -> int:
    """Return 0 (silent), 1 (a bar that moves) or 2 (a line); ``"auto"`` is 1 on a terminal and in a notebook, else 0.

    Raises
    ------
    ParameterError
        If it is anything else.
    """
    if isinstance(verbose, str) and verbose == "auto":
        return int(sys.stderr.isatty() or _in_notebook())
    if isinstance(verbose, (bool, int, numpy.integer, numpy.bool_)) and int(verbose) in (0, 1, 2):
        return int(verbose)
    raise ParameterError(f"{where}: verbose must be 'auto', 0, 1 or 2, got {verbose!r}")


def format_logs(logs: dict[str, float]) -> str:
    """Format the loss and metrics for the progress line.

    >>> format_logs({"loss": 0.1234, "accuracy": 1.0, "mae": 2e-5})
    'loss: 0.1234 - accuracy: 1.0000 - mae: 2.000e-05'
    """
    return " - ".join(
        f"{name}: {value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{name}: {value:.3e}"
        for name, value in logs.items()
    )


class Progress:
    """Show the progress of one epoch or evaluation: a moving bar on stderr, a line on stdout at the end, or nothing.

    At the end the line replaces the bar, so that numbers for which a narrow terminal had no room are shown too.

    Parameters
    ----------
    verbose : int
        0, 1 for the bar, 2 for the line.
    title : str
        What is in progress, such as ``"epoch 1/5"``; may be empty.
    steps : int or None
        None if the number is unknown until the end.
    """

    def __init__(self, verbose: int, title: str, steps: int | None) -> None:
        self.verbose, self.title, self.steps = verbose, title, steps
        self.started = time.perf_counter()
        self.stepped: float | None = None
        self.next_look = self.started + INTERVAL
        self.bar = self._make_bar() if verbose == 1 else None

    def _make_bar(self) -> Any:
        """Create the bar; tqdm is imported only here because importing it takes half as long as minidl itself."""
        if _in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
            return self._make_widget()
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[type-arg]
            monitor_interval = 0  # no monitoring thread: the loop decides when to draw

        known = _has_known_size()
        counted = "{n_fmt}/? {elapsed}" if self.steps is None else "{n_fmt}/{total_fmt} {bar:10} {remaining} left"
        return Bar(
            total=self.steps,
            desc=f"{self.title} - " if self.title else "",
            bar_format=f"{{desc}}{counted}{{postfix}}",
            file=sys.stderr,
            leave=False,
            mininterval=0,
            dynamic_ncols=known,
            ncols=None if known else 100,
            nrows=None if known else 24,
        )

    def _make_widget(self) -> Any:
        """Create a bar of ipywidgets, for notebooks; it takes the place of the line that is written over and over."""
        from tqdm.notebook import tqdm

        class Widget(tqdm):  # type: ignore[type-arg]
            monitor_interval = 0

        return Widget(total=self.steps, desc=self.title, leave=False, mininterval=0)

    def due(self) -> bool:
        """Whether it is time to update the bar."""
        return self.bar is not None and time.perf_counter() >= self.next_look

    def show(self, step: int, logs: dict[str, float]) -> None:
        """Show the numbers after this many steps."""
        if self.bar is not None:
            self.bar.set_postfix_str(f"{format_logs(logs)} - {self._per_step(step)}", refresh=False)
            self.bar.update(step - self.bar.n)
            self.next_look = time.perf_counter() + INTERVAL

    def all_steps_done(self, steps: int | None = None) -> None:
        """Stop the clock, so that validation does not count as part of the steps; say how many there were, if it was not known."""
        self.stepped, self.steps = time.perf_counter(), self.steps if steps is None else steps

    def finish(self, logs: dict[str, float]) -> None:
        """Show the final numbers."""
        if self.bar is not None:
            self.bar.close()
        if self.verbose:
            seconds = time.perf_counter() - self.started
            line = (
                f"{self.steps}/{self.steps} - {seconds:.2f} s - {self._per_step(self.steps or 0)} - {format_logs(logs)}"
            )
            stream = sys.stderr if self.verbose == 1 else sys.stdout
            print(f"{self.title} - {line}" if self.title else line, file=stream, flush=True)

    def _per_step(self, step: int) -> str:
        seconds = (self.stepped or time.perf_counter()) - self.started
        return f"{seconds / max(step, 1) * 1e3:.3g} ms/step"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, problem: Any, *details: Any) -> None:
        """Close the bar; after an error it stays visible where it was."""
        if self.bar is not None:
            self.bar.leave = problem is not None
            self.bar.close()


def _in_notebook() -> bool:
    """Whether stderr leads to a notebook, whose kernel puts a stream of its own there."""
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"


def _has_known_size() -> bool:
    """Whether stderr is a terminal of known size; in a container the size may be 0 by 0, too small for a bar."""
    try:
        return min(os.get_terminal_size(sys.stderr.fileno())) > 0
    except (OSError, ValueError):  # no terminal, or no file at all
        return False
