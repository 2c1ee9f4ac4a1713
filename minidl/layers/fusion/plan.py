"""The rules for layers that run as one, and the plan of a chain's steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minidl.engines import Engine
from minidl.layers.activation import Activation
from minidl.layers.fusion.conv import FusedConv, NormalizedConv
from minidl.layers.fusion.linear import FusedLinear, FusedStored
from minidl.layers.fusion.residual import SummedResidual
from minidl.layers.fusion.stack import LinearStack

__all__ = ["RULES", "Rule", "plan_steps"]

Steps = list[tuple[int, Any]]


@dataclass(frozen=True)
class Rule:
    """A rule for layers that run as one.

    Attributes
    ----------
    composition : str
        The composition of ``minidl.engines.compositions`` that the engine must have a kernel for.
    join : callable
        ``join(before, layer)`` returns the step that replaces both, or None if the rule does not apply. ``before`` is the
        step before the layer, or None to ask for a step that replaces the layer alone.
    keeps_caches : bool, default True
        Whether a backward can follow. If not, the rule is for inference only.
    """

    composition: str
    join: Callable[[Any, Any], Any]
    keeps_caches: bool = True


RULES = (
    Rule("linear_activation", FusedLinear.join),
    Rule("stored_linear", FusedStored.join, keeps_caches=False),
    Rule("conv_affine", NormalizedConv.join, keeps_caches=False),
    Rule("conv_affine", SummedResidual.join, keeps_caches=False),
    Rule("conv_activation", FusedConv.join),
)
"""All rules, in the order in which they are tried."""


def plan_steps(layers: Sequence[Any], engine: Engine, keeping: bool) -> Steps:
    """Return the steps of a forward pass on an engine, each with the position of its first layer.

    Parameters
    ----------
    layers : sequence of layer
    engine : Engine
    keeping : bool
        Whether the layers must keep caches, because a backward may follow.
    """
    rules = [rule for rule in RULES if engine.has_kernel(rule.composition) and (rule.keeps_caches or not keeping)]
    steps: Steps = []
    for index, layer in enumerate(layers):
        alone = _join(rules, engine, None, layer)
        step = layer if alone is None else alone
        joined = _join(rules, engine, steps[-1][1], layer) if steps else None
        if joined is None:
            steps.append((index, step))
        else:
            steps[-1] = (steps[-1][0], joined)
    return _stack(steps) if engine.has_kernel("linear_stack") else steps


def _join(rules: list[Rule], engine: Engine, before: Any, layer: Any) -> Any:
    """Return the step of the first rule that applies, or None."""
    for rule in rules:
        activation = layer if before is not None else getattr(layer, "activation", None)
        if isinstance(activation, Activation) and not engine.applies(rule.composition, activation.op):
            continue
        joined = rule.join(before, layer)
        if joined is not None:
            return joined
    return None


def _stack(steps: Steps) -> Steps:
    """Replace linear layers one after another by a stack, which the engine computes in one call."""
    stacked: Steps = []
    for fits, group in itertools.groupby(steps, lambda item: LinearStack.fits(item[1])):
        run = list(group)
        stacked += [(run[0][0], LinearStack(run))] if fits and len(run) > 1 else run
    return stacked
