"""Which layers run as one: the rules, and the plan that follows from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minidl.engines import Engine
from minidl.layers.activation import Activation
from minidl.layers.fusion.conv import FusedConv, NormalizedConv
from minidl.layers.fusion.linear import FusedLinear
from minidl.layers.fusion.residual import SummedResidual
from minidl.layers.fusion.stack import LinearStack

__all__ = ["RULES", "Rule", "plan_steps"]

Steps = list[tuple[int, Any]]


@dataclass(frozen=True)
class Rule:
    """When something runs as one.

    Attributes
    ----------
    composition : str
        The composition of ``minidl.engines.compositions`` that must be a kernel of the engine.
    join : callable
        ``join(before, layer)`` returns what runs in the place of both, or None where the rule does not apply. ``before`` is
        the step before the layer. It is None when the layer is looked at by itself.
    keeps_caches : bool, default True
        Whether a backward can follow. If not, the rule is for inference only.
    """

    composition: str
    join: Callable[[Any, Any], Any]
    keeps_caches: bool = True


RULES = (
    Rule("linear_activation", FusedLinear.join),
    Rule("conv_affine", NormalizedConv.join, keeps_caches=False),
    Rule("conv_affine", SummedResidual.join, keeps_caches=False),
    Rule("conv_activation", FusedConv.join),
)
"""In the order in which they are tried."""


def plan_steps(layers: Sequence[Any], engine: Engine, keeping: bool) -> Steps:
    """Return what runs one after another on an engine, each with the position of its first layer.

    Parameters
    ----------
    layers : sequence of layers
    engine : Engine
    keeping : bool
        Whether a backward may follow.
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
    """Return what stands for both by the first rule that applies, or None."""
    for rule in rules:
        activation = layer if before is not None else getattr(layer, "activation", None)
        if isinstance(activation, Activation) and not engine.applies(rule.composition, activation.op):
            continue
        joined = rule.join(before, layer)
        if joined is not None:
            return joined
    return None


def _stack(steps: Steps) -> Steps:
    """Put linear layers that follow one another into one call."""
    stacked: Steps = []
    for fits, group in itertools.groupby(steps, lambda item: LinearStack.fits(item[1])):
        run = list(group)
        stacked += [(run[0][0], LinearStack(run))] if fits and len(run) > 1 else run
    return stacked
