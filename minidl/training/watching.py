"""A callback that hands the numbers of a training to anything that keeps them: TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers import Parameter
from minidl.training.callbacks import Callback, Logs
from minidl.training.checks import whole_number
from minidl.weights import to_host

__all__ = ["Report"]

Function = Callable[[dict[str, float], int], Any]


class Report(Callback):
    """Call a function with the numbers of every epoch, and if wanted of every so many steps.

    All trackers take such a call; docs/watching.md shows each. The numbers are named ``train/loss``, ``train/accuracy``,
    ``validation/loss``, ``learning_rate``, and ``epoch``, counted from 1.

    Parameters
    ----------
    function : callable
        ``function(numbers, step)`` takes a dict of str to float, and the number of batches trained on so far. It may be
        ``mlflow.log_metrics`` or the ``log`` of a run of Weights & Biases.
    every : int, optional
        Steps of the optimiser between two reports of single steps: ``step/loss``, ``step/gradient_norm`` and
        ``step/weight_norm``. None by default.
    histograms : callable, optional
        ``histograms(name, values, step)``, such as TensorBoard's ``add_histogram``, is called with the values of each
        parameter, ``weights/0.weight``, and with its gradient, ``gradients/0.weight``: in the first step of each epoch or,
        with ``every``, in the steps that are reported.

    Attributes
    ----------
    step : int
        Batches trained on so far. A checkpoint holds it, so that a training that goes on reports under the right numbers.

    Raises
    ------
    ParameterError
        If a function is none, or ``every`` is not positive.

    Examples
    --------
    >>> import minidl as dl, numpy
    >>> dl.seed(0)
    >>> model = dl.Sequential([dl.Dense(1, input_shape=(2,))])
    >>> model.compile("sgd", "mse")
    >>> report = dl.training.Report(lambda numbers, step: print(step, sorted(numbers)))
    >>> history = model.fit(numpy.ones((8, 2)), numpy.ones(8), batch_size=4, callbacks=report)
    2 ['epoch', 'learning_rate', 'train/loss']
    """

    def __init__(
        self, function: Function, every: int | None = None, histograms: Callable[[str, Any, int], Any] | None = None
    ) -> None:
        for name, given in (("function", function), ("histograms", histograms)):
            if not callable(given) and (name == "function" or given is not None):
                raise ParameterError(f"Report: {name} must be a function, got {given!r}")
        self.function, self.histograms = function, histograms
        self.every = None if every is None else whole_number(every, "every", "Report", 1)
        self.step = self._steps = 0
        self._first = True  # no step of this epoch was taken yet
        self._norm: float | None = None  # of the gradients, if this step is to be reported

    def state_dict(self) -> dict[str, int]:
        """Return the numbers of batches and steps, for a checkpoint."""
        return {"step": self.step, "steps": self._steps, "first": self._first}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from the result of :meth:`state_dict`."""
        self.step, self._steps, self._first = state_dict["step"], state_dict["steps"], bool(state_dict["first"])

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._first = True

    def on_gradients(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        due, self._first = self._steps % self.every == 0 if self.every else self._first, False
        if due and self.every:
            self._norm = _norm(buffer.gradients() for buffer in self.model.flat_buffers())
        if due and self.histograms is not None:
            for name, parameter in self.model.named_parameters():
                if isinstance(parameter, Parameter):
                    self.histograms(f"weights/{name}", to_host(parameter.value).copy(), self.step + 1)
                    if parameter.trainable:
                        self.histograms(f"gradients/{name}", to_host(parameter.grad).copy(), self.step + 1)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.step += 1
        if self._norm is not None:
            weights = _norm(buffer.values for buffer in self.model.flat_buffers())
            numbers = {"step/loss": (logs or {})["loss"], "step/gradient_norm": self._norm, "step/weight_norm": weights}
            self._norm = None
            self.function(numbers, self.step)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        numbers = {
            f"validation/{name[4:]}" if name.startswith("val_") else f"train/{name}": float(value)
            for name, value in (logs or {}).items()
        }
        numbers |= {"learning_rate": float(self.model.optimizer.lr), "epoch": epoch + 1}
        self.function(numbers, self.step)


def _norm(arrays: Any) -> float:
    """Return the Euclidean norm of all numbers together."""
    return math.sqrt(sum(float(numpy.square(to_host(array), dtype=numpy.float64).sum()) for array in arrays))
