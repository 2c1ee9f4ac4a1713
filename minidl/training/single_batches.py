"""Keras's methods for loops of one's own: one batch at a time, and the weights as a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from minidl.errors import ParameterError, ShapeError
from minidl.layers import Layer
from minidl.training.array_group import group_arrays

__all__ = ["SingleBatches", "as_result"]

if TYPE_CHECKING:
    _Base = Layer
else:
    _Base = object


class SingleBatches(_Base):
    """One batch at a time, and the weights as a list; mixed into ``Trainable``."""

    if TYPE_CHECKING:  # what Trainable has
        history: Any
        fit: Any
        evaluate: Any
        predict: Any

    def train_on_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Take one step on one batch; return its loss, and the metrics if there are any, from before the step.

        The data are checked as by :meth:`fit`, which takes about as long as the step of a small model. Afterwards the model
        is in evaluation mode, and ``history`` is that of the last ``fit``.

        Parameters
        ----------
        x, y, sample_weight : array
            As for :meth:`fit`.
        class_weight : dict of int to float, optional
            As for :meth:`fit`.
        return_dict : bool, default False
            Return a dict by name; otherwise a float, or with metrics a list that starts with the loss.

        Examples
        --------
        >>> import numpy, minidl as dl
        >>> model = dl.Sequential([dl.Linear(1, 1)])
        >>> model.compile("sgd", "mse")
        >>> x = numpy.linspace(-1, 1, 8).reshape(-1, 1)
        >>> model.train_on_batch(x, 2 * x) > model.train_on_batch(x, 2 * x)
        True
        """
        before = self.history
        try:
            found = self.fit(
                x,
                y,
                batch_size=_length(x),
                verbose=0,
                shuffle=False,
                sample_weight=sample_weight,
                class_weight=class_weight,
            ).history
        finally:
            self.history = before
        logs = {name: values[0] for name, values in found.items()}
        return as_result(logs, return_dict)

    def test_on_batch(self, x: Any, y: Any, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Return what :meth:`evaluate` does, for one batch."""
        return self.evaluate(x, y, _length(x), 0, sample_weight, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Return what :meth:`predict` does, for one batch."""
        return self.predict(x, _length(x))

    def get_weights(self) -> list[numpy.ndarray]:
        """Return copies of all parameters and buffers, in the order of ``state_dict``.

        Matrices are (out, in), as in PyTorch; Keras's are (in, out).
        """
        return list(self.state_dict().values())

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Copy the result of :meth:`get_weights` into the parameters and buffers.

        Raises
        ------
        ParameterError
            If there are not as many arrays.
        ShapeError
            If one has another shape.
        """
        own = self.state_dict()
        if len(weights) != len(own):
            raise ParameterError(
                f"set_weights: expected {len(own)} arrays, for {', '.join(own) or 'nothing'}, got {len(weights)}"
            )
        for (name, value), new in zip(own.items(), weights, strict=True):
            if numpy.shape(new) != value.shape:
                turned = numpy.shape(new) == value.shape[::-1]
                hint = "; Keras's matrices are (in, out), so give array.T" if turned else ""
                raise ShapeError(
                    f"set_weights: expected shape {value.shape} for {name!r}, got {numpy.shape(new)}{hint}"
                )
        self.load_state_dict(dict(zip(own, weights, strict=True)))


def as_result(logs: dict[str, float], return_dict: bool) -> Any:
    """Return the dict itself, or as in Keras the loss alone, or a list of the loss and the metrics."""
    if return_dict:
        return logs
    return logs["loss"] if len(logs) == 1 else list(logs.values())


def _length(x: Any) -> int:
    """Return the number of examples in one array or several."""
    data = group_arrays(x, "x", "x")
    return max(len(data), 1)
