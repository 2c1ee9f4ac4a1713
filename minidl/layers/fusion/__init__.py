"""WHAT RUNS TOGETHER: layers that an engine computes faster as one, and how a chain comes to run them so.

Nothing in here changes what is computed. Every step leaves the layers that it stands for with the caches that they would
have alone, and is planned only where the current engine has the kernel; see ``RULES`` for the list.
"""

from minidl.layers.fusion.conv import FusedConv, NormalizedConv
from minidl.layers.fusion.linear import FusedLinear
from minidl.layers.fusion.plan import RULES, Rule, plan_steps
from minidl.layers.fusion.residual import SummedResidual
from minidl.layers.fusion.stack import LinearStack

__all__ = ["RULES", "FusedConv", "FusedLinear", "LinearStack", "NormalizedConv", "Rule", "SummedResidual", "plan_steps"]
