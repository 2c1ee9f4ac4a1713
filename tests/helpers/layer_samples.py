"""One layer of every kind."""

import inspect

import minidl as dl
from minidl import layers

SAMPLES = {
    "AdaptiveAvgPool1d": (2,),
    "AdaptiveAvgPool2d": (2,),
    "AdaptiveMaxPool1d": (2,),
    "AdaptiveMaxPool2d": (2,),
    "AvgPool1d": (2,),
    "AvgPool2d": (2,),
    "AvgPool3d": (2,),
    "BatchNorm1d": (4,),
    "BatchNorm2d": (4,),
    "CausalConv1d": (2, 4, 3),
    "Conv1d": (2, 4, 3),
    "Conv2d": (2, 4, 3),
    "Conv3d": (2, 4, 3),
    "ConvTranspose1d": (2, 4, 3),
    "ConvTranspose2d": (2, 4, 3),
    "Dense": (4,),
    "Embedding": (4, 3),
    "FrozenBatchNorm2d": (4,),
    "GRU": (4, 3),
    "GeGLU": (4, 8),
    "GroupNorm": (2, 4),
    "GroupedQueryAttention": (8, 2),
    "LSTM": (4, 3),
    "LayerNorm": (4,),
    "LayerScale": (4,),
    "LearnedPositions": (6, 4),
    "Linear": (4, 3),
    "LoRALinear": (dl.Linear(4, 3), 2),
    "MaxPool1d": (2,),
    "MaxPool2d": (2,),
    "MaxPool3d": (2,),
    "MaxUnpool1d": (2,),
    "MaxUnpool2d": (2,),
    "MultiheadAttention": (8, 2),
    "Permute": (2, 1),
    "RMSNorm": (4,),
    "RNN": (4, 3),
    "ReflectionPad2d": (1,),
    "ReplicationPad2d": (1,),
    "Reshape": (2, 2),
    "RotaryPositions": (4,),
    "SinusoidalPositions": (4,),
    "StoredLinear": (dl.Linear(4, 3), "int8"),
    "SwiGLU": (4, 8),
    "TransformerDecoder": (layers.TransformerDecoderLayer(4, 2, 8), 2),
    "TransformerDecoderLayer": (8, 2),
    "TransformerEncoder": (layers.TransformerEncoderLayer(4, 2, 8), 2),
    "TransformerEncoderLayer": (8, 2),
    "Unflatten": (1, (2, 2)),
    "Upsample": (4,),
    "ZeroPad2d": (1,),
}
"""Arguments for the layers that need some."""
LAYERS = [
    kind
    for name, kind in vars(layers).items()
    if inspect.isclass(kind)
    and issubclass(kind, layers.Layer)
    and name in layers.__all__
    and name not in ("Layer", "Activation")
]


def made(kind):
    if kind in (layers.Residual, layers.Parallel, layers.Chain):
        return kind(dl.Linear(4, 4))
    return kind(*SAMPLES.get(kind.__name__, ()))
