"""The CUDA kernels of the cupy engine, by the ops that they compute.

:data:`OVERRIDES` has a function for each op or composition with kernels, with its signature and its cache. The kernels are
in ``csrc``, beside those of the CPU. docs/gpu_kernels.md says how one is written and checked.
"""

from __future__ import annotations

from minidl.engines.cuda import (  # noqa: F401 - each registers its ops
    attention,
    channels,
    dropout,
    elementwise,
    embedding,
    image,
    loss,
    norm,
    pointwise,
    recurrent,
    update,
)
from minidl.engines.cuda.dispatch import OVERRIDES

__all__ = ["FUSED_ACTIVATIONS", "OVERRIDES"]

FUSED_ACTIVATIONS = {"linear_activation": tuple(elementwise.KERNELS)}
"""For each composition with an activation, those that its kernel applies itself."""
