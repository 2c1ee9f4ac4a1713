"""What happened during ``fit``: every epoch's loss and metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from minidl.errors import MissingDependencyError, OrderError, UnknownNameError
from minidl.training.checks import whole_number

__all__ = ["History"]


class History:
    """The loss and metrics of every epoch, as returned by ``fit``.

    Attributes
    ----------
    history : dict of str to list of float
        ``"loss"``, the metrics by name, and with validation data ``"val_loss"`` and so on.
    epoch : list of int
        The numbers of the epochs, counted from 0.

    Examples
    --------
    >>> history = History()
    >>> history.append(0, {"loss": 2.0})
    >>> history.append(1, {"loss": 1.0})
    >>> history.history
    {'loss': [2.0, 1.0]}
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        """Add the numbers of one epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def plot(self, *names: str) -> Any:
        """Plot the loss and metrics over the epochs, training and validation together; return the matplotlib figure.

        Parameters
        ----------
        *names : str
            Which to plot, such as ``"loss"``; all by default.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        OrderError
            If there are no epochs yet.
        UnknownNameError
            If there is no loss or metric of that name; the message lists those there are.
        """
        if not self.epoch:
            raise OrderError("History.plot: there are no epochs yet; call fit first")
        wanted = names or tuple(name for name in self.history if not name.startswith("val_"))
        for name in wanted:
            if name not in self.history:
                raise UnknownNameError.among("number to plot", name, self.history)
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise MissingDependencyError.needs("History.plot", "matplotlib", "plot") from error
        figure, panels = pyplot.subplots(1, len(wanted), figsize=(5 * len(wanted), 3.5), squeeze=False)
        epochs = [epoch + 1 for epoch in self.epoch]
        for panel, name in zip(panels[0], wanted, strict=True):
            panel.plot(epochs, self.history[name], label="training")
            if f"val_{name}" in self.history:
                panel.plot(epochs, self.history[f"val_{name}"], label="validation")
                panel.legend()
            panel.set_xlabel("epoch")
            panel.set_ylabel(name)
        figure.tight_layout()
        return figure

    def report(
        self,
        path: str | os.PathLike[str],
        model: Any = None,
        x: Any = None,
        y: Any = None,
        classes: Sequence[str] | None = None,
        title: str = "Training report",
        mistakes: int = 24,
    ) -> None:
        """Write a page about the training as one HTML file, which opens in any browser and needs no network.

        It shows the curves of the loss and the metrics. With the model it shows its table, and with examples what the model
        makes of them: the confusion matrix and the worst mistakes of a classifier, or the largest errors of a regression.
        Images are shown as pictures.

        Parameters
        ----------
        path : path
            An existing file is replaced.
        model : layer, optional
        x, y : array, optional
            Examples that the model was not trained on. Integers of shape (N,) are classes.
        classes : sequence of str, optional
            The names of the classes; numbers by default.
        title : str, default "Training report"
        mistakes : int, default 24
            How many mistakes to show.

        Raises
        ------
        OrderError
            If there are no epochs yet, and no model.
        ParameterError, ShapeError
            If the model, x and y are not given together, or do not fit.

        Examples
        --------
        >>> import os, tempfile
        >>> history = History()
        >>> history.append(0, {"loss": 2.0, "val_loss": 2.5})
        >>> history.append(1, {"loss": 1.0, "val_loss": 2.0})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     history.report(os.path.join(folder, "report.html"))
        ...     os.listdir(folder)
        ['report.html']
        """
        from minidl.training.page import write_page

        write_page(path, self, model, x, y, classes, title, whole_number(mistakes, "mistakes", "History.report", 1))

    def __repr__(self) -> str:
        last = {name: round(values[-1], 6) for name, values in self.history.items()}
        return f"<History of {len(self.epoch)} epochs, last {last}>"
