"""WHO REMEMBERS: layers hold parameters and the cache of the last forward, and call ops through the engine.

A new layer is listed once, in the ``__all__`` of its module. A new module of layers is imported here and added to ``ROOMS``.
"""

import sys
from typing import TYPE_CHECKING

from minidl.layers import _renamed
from minidl.layers.activation import *
from minidl.layers.attention import *
from minidl.layers.base import Layer as Layer
from minidl.layers.branches import Parallel as Parallel
from minidl.layers.causal_conv import *
from minidl.layers.chain import Chain as Chain
from minidl.layers.chain import plan_with as _plan_with
from minidl.layers.conv import *
from minidl.layers.detection import SetLoss as SetLoss
from minidl.layers.dropout import *
from minidl.layers.embedding import *
from minidl.layers.feed_forward import *
from minidl.layers.frozen_norm import *
from minidl.layers.fusion import plan_steps as _plan_steps
from minidl.layers.inference import inference as inference
from minidl.layers.linear import Dense as Dense
from minidl.layers.linear import Linear as Linear
from minidl.layers.lora import LoRALinear as LoRALinear
from minidl.layers.lora import add_lora as add_lora
from minidl.layers.lora import load_lora as load_lora
from minidl.layers.lora import lora_state_dict as lora_state_dict
from minidl.layers.lora import merge_lora as merge_lora
from minidl.layers.lora import save_lora as save_lora
from minidl.layers.loss import *
from minidl.layers.norm import *
from minidl.layers.parameter import Parameter as Parameter
from minidl.layers.parameter import ParameterBuffer as ParameterBuffer
from minidl.layers.parameter import flatten as flatten
from minidl.layers.pool import *
from minidl.layers.position import *
from minidl.layers.recurrent import *
from minidl.layers.resample import *
from minidl.layers.residual import *
from minidl.layers.shape import *
from minidl.layers.stored import StoredLinear as StoredLinear
from minidl.layers.stored import store_weights as store_weights
from minidl.layers.table import *
from minidl.layers.transformer import *

ROOMS = (
    "activation",
    "attention",
    "causal_conv",
    "conv",
    "dropout",
    "embedding",
    "feed_forward",
    "frozen_norm",
    "loss",
    "norm",
    "pool",
    "position",
    "recurrent",
    "resample",
    "residual",
    "shape",
    "table",
    "transformer",
)
"""The modules all of whose public names are layers."""

if not TYPE_CHECKING:  # type checkers take the imports above, and cannot follow this list
    __all__ = [
        *("Chain", "Dense", "Layer", "Linear", "Parallel", "Parameter", "ParameterBuffer", "SetLoss", "StoredLinear"),
        *("flatten", "inference", "store_weights"),
        *("LoRALinear", "add_lora", "load_lora", "lora_state_dict", "merge_lora", "save_lora"),
        *(name for room in ROOMS for name in sys.modules[f"{__name__}.{room}"].__all__),
    ]

_plan_with(_plan_steps)  # chains know nothing of fusion; here they get it
__getattr__ = _renamed.look_up  # names of earlier versions
