"""WHAT RUNS TOGETHER: layers that an engine computes faster as one.

A fused step computes what its layers compute, and leaves each of them with the cache that its own forward would keep. A
chain plans such a step only if the current engine has the kernel. ``RULES`` lists them. Some are for inference only: they
keep no caches.
"""

from minidl.layers.fusion.block import BlockParts, run_block, step_block
from minidl.layers.fusion.conv import FusedConv, NormalizedConv
from minidl.layers.fusion.linear import FusedLinear, FusedStored
from minidl.layers.fusion.plan import RULES, Rule, plan_steps
from minidl.layers.fusion.residual import SummedResidual
from minidl.layers.fusion.stack import LinearStack

__all__ = [
    "RULES",
    "BlockParts",
    "FusedConv",
    "FusedLinear",
    "FusedStored",
    "LinearStack",
    "NormalizedConv",
    "Rule",
    "SummedResidual",
    "plan_steps",
    "run_block",
    "step_block",
]
