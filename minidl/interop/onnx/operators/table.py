"""The table of operators that graphs may have, and what a rule is.

A rule computes one node: it takes the :class:`Node` and the arrays that come in (None for one that is left out), and returns the
outputs and a function from the gradients of the outputs to those of the inputs. Gradients that are not there are None: those of
integers, of shapes and of settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl.errors import ParameterError

__all__ = ["OPERATORS", "Node", "Operator", "Unsupported", "fits", "operator", "unbroadcast"]

Rule = Callable[..., tuple[Any, Callable[..., Any]]]


class Unsupported(ParameterError):
    """A graph asks for something that minidl does not compute; the message says which nodes, and what of them."""


@dataclass(frozen=True)
class Node:
    """One node of a graph.

    Attributes
    ----------
    kind : str
        The operator.
    name : str
        For messages.
    inputs, outputs : tuple of str
        Names of arrays; "" is one that is left out.
    attributes : dict
    opset : int
        The version of the operators that the graph is written in.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 23

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default."""
        return self.attributes.get(name, default)

    def wants(self, output: int) -> bool:
        """Whether somebody asks for this output."""
        return len(self.outputs) > output and self.outputs[output] != ""

    def refuse(self, why: str) -> Unsupported:
        """Return the error for what cannot be computed."""
        return Unsupported(f"node {self.name} ({self.kind}): {why}")


@dataclass(frozen=True)
class Operator:
    """How an operator is computed.

    Attributes
    ----------
    rule : callable
    attributes : frozenset of str
        Those that the rule reads. A node with another one is refused.
    only : dict of str to tuple
        The values of attributes that the rule knows, if not all.
    settings : frozenset of int
        The inputs that have no gradient, such as a shape; weights there are constants.
    """

    rule: Rule
    attributes: frozenset[str]
    only: Mapping[str, tuple[Any, ...]]
    settings: frozenset[int]


OPERATORS: dict[str, Operator] = {}
"""The operators by name."""


def operator(
    names: str, attributes: str = "", only: Mapping[str, tuple[Any, ...]] | None = None, settings: tuple[int, ...] = ()
) -> Callable[[Rule], Rule]:
    """Make a function the rule of operators; names and attributes are separated by spaces."""

    def keep(rule: Rule) -> Rule:
        known = frozenset(attributes.split()) | frozenset(only or {})
        for name in names.split():
            OPERATORS[name] = Operator(rule, known, dict(only or {}), frozenset(settings))
        return rule

    return keep


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Return the sum of a gradient over the axes along which an array of this shape was repeated."""
    if gradient.shape == shape:
        return gradient
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1)
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)


def fits(x: Any, number: float) -> Any:
    """Return a number in the precision of an array."""
    return numpy.asarray(number, x.dtype)
