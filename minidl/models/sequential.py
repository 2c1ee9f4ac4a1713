"""Sequential: layers one after another, with training."""

from __future__ import annotations

from typing import Any

from minidl.layers.base import Shape
from minidl.layers.chain import Chain
from minidl.models.picture import to_mermaid
from minidl.models.summary import Summary, summarize
from minidl.training import Trainable

__all__ = ["Sequential"]


class Sequential(Trainable, Chain):  # numpydoc ignore=PR02
    """Layers one after another, with ``compile``, ``fit``, ``evaluate``, ``predict`` and ``summary``.

    It is not for models in which data take more than one path: write a :class:`minidl.layers.Layer` for these, and mix
    :class:`minidl.training.Trainable` into it.

    Parameters
    ----------
    *layers : Layer, or one list or dict of them
        As in :class:`minidl.layers.Chain`.

    Examples
    --------
    As in PyTorch:

    >>> import numpy, minidl as dl
    >>> dl.seed(0)
    >>> model = dl.Sequential([dl.Linear(2, 16), dl.Tanh(), dl.Linear(16, 1)])
    >>> loss, optimizer = dl.MSELoss(), dl.SGD(model.parameters(), lr=0.1)
    >>> x = numpy.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=numpy.float32)
    >>> target = numpy.array([[0], [1], [1], [0]], dtype=numpy.float32)
    >>> for step in range(2000):
    ...     value = loss.forward(model.forward(x), target)
    ...     dx = model.backward(loss.backward())
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    >>> bool(value < 0.01)
    True

    As in Keras:

    >>> model = dl.Sequential([dl.Dense(16, activation="tanh", input_shape=(2,)), dl.Dense(1)])
    >>> model.compile(optimizer="adam", loss="mse")
    >>> history = model.fit(x, target, epochs=2, verbose=0)
    """

    def add(self, layer: Any) -> None:
        """Add a layer at the end, as Keras's ``add`` does; compile afterwards."""
        self.append(layer)

    def _model_of(self, layers: dict[str, Any]) -> Sequential:
        return Sequential(layers)

    def summary(self, input_shape: Shape | None = None) -> Summary:
        """Return a table of the layers: output shapes, parameters, FLOPs and bytes, for one example.

        It marks the layers that run as one with the layer before them on the current engine: ``+`` in training, ``*`` only
        inside ``minidl.inference()``, as in ``predict`` and ``evaluate``.

        Parameters
        ----------
        input_shape : tuple of int, optional
            The shape of one example, for models that take several, such as images of any size. If it is needed and
            missing, columns contain "?".
        """
        return summarize(self, input_shape)

    def to_mermaid(self) -> str:
        """Return a picture of the model as text of Mermaid, which GitHub and many editors draw."""
        return to_mermaid(self)
