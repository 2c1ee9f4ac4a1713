"""WHO REMEMBERS: layers hold parameters and the cache of the last forward, and call ops through the engine."""

from minidl.layers.activation import (
    ELU,
    GELU,
    Activation,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    activation,
)
from minidl.layers.base import Layer
from minidl.layers.branches import Parallel
from minidl.layers.chain import Chain, plan_with
from minidl.layers.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from minidl.layers.dropout import Dropout, Dropout2d
from minidl.layers.fusion import plan_steps
from minidl.layers.inference import inference
from minidl.layers.linear import Dense, Linear
from minidl.layers.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    Loss,
    MSELoss,
    NLLLoss,
)
from minidl.layers.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from minidl.layers.parameter import Parameter, ParameterBuffer, flatten
from minidl.layers.pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool1d,
    GlobalAvgPool2d,
    GlobalMaxPool1d,
    GlobalMaxPool2d,
    MaxPool1d,
    MaxPool2d,
)
from minidl.layers.resample import ReflectionPad2d, ReplicationPad2d, Upsample, ZeroPad2d
from minidl.layers.residual import Residual
from minidl.layers.shape import Flatten, Identity, Permute, Reshape, Unflatten
from minidl.layers.table import TableParameter

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Chain",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dense",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GlobalMaxPool1d",
    "GlobalMaxPool2d",
    "GroupNorm",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "NLLLoss",
    "Parallel",
    "Parameter",
    "ParameterBuffer",
    "Permute",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Reshape",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "TableParameter",
    "Tanh",
    "Unflatten",
    "Upsample",
    "ZeroPad2d",
    "activation",
    "flatten",
    "inference",
]

plan_with(plan_steps)  # chains know nothing of fusion; here they get it
