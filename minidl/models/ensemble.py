"""Several models as one: the average of what they predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.errors import ParameterError, UnknownNameError
from minidl.layers import Layer, activation
from minidl.layers.base import Shape
from minidl.ops import Array
from minidl.training import Trainable

__all__ = ["Ensemble"]

_LINKS = ("linear", "sigmoid", "softmax")


class Ensemble(Trainable, Layer):
    """The average of what several models predict for the same input: of probabilities, or of numbers.

    ::

        y = 1/M sum_m link(member_m(x))

    Models that err differently err less together. Probabilities are averaged, not logits: one member that is sure of the wrong
    class has logits that outvote the others. ``predict``, ``save`` and ``load`` are those of any model.

    Parameters
    ----------
    members : sequence of layer
        Each takes the same input, and gives logits, or numbers, of the same shape.
    link : {"softmax", "sigmoid", "linear"}, default "softmax"
        What makes probabilities of a member's logits; ``"linear"`` takes the outputs as they are, for regression.

    Raises
    ------
    ParameterError
        If there are no members, or one is there twice.
    UnknownNameError
        If there is no link of that name.

    References
    ----------
    B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and scalable predictive uncertainty estimation using deep
    ensembles" (2017).

    Examples
    --------
    >>> import numpy, minidl as dl
    >>> model = Ensemble([dl.Linear(3, 2), dl.Linear(3, 2)])
    >>> model.forward(numpy.ones((4, 3), "float32")).sum(axis=1)
    array([1., 1., 1., 1.], dtype=float32)
    """

    def __init__(self, members: Sequence[Any], link: str = "softmax") -> None:
        super().__init__()
        self.members = list(members)
        if not self.members or len({id(member) for member in self.members}) < len(self.members):
            raise ParameterError("Ensemble: members must be at least one model, each there once")
        if link not in _LINKS:
            raise UnknownNameError.among("link", link, _LINKS)
        self.link = link
        self.links: list[Any] = [] if link == "linear" else [activation(link) for _ in self.members]

    def forward(self, x: Array) -> Array:
        """Return the average, (N, K), for x, (N, ...)."""
        outputs = [member.forward(x) for member in self.members]  # each (N, K)
        if self.links:
            outputs = [link.forward(output) for link, output in zip(self.links, outputs, strict=True)]
        total = outputs[0] * (1 / len(outputs))
        for output in outputs[1:]:
            total += output * (1 / len(outputs))
        return total

    def backward(self, dy: Array) -> Array:
        """Return dx, and add to the gradients of every member: each has dy / M at its link."""
        share = dy * (1 / len(self.members))  # dlink_m = dy / M
        dx = None
        for index, member in enumerate(self.members):
            own = member.backward(self.links[index].backward(share) if self.links else share)
            dx = own if dx is None else dx + own
        return dx

    def build(self, input_shape: Shape) -> None:
        """Make the parameters of the members for examples of this shape."""
        for member in self.members:
            member.build(input_shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the output shape of the members."""
        return self.members[0].output_shape(input_shape)
