"""The Vision Transformer, and DINOv2, which has the same figure.

image -> patches -> linear map + positions, class token -> [ x + attention(norm1(x)) -> x + mlp(norm2(x)) ] times layers -> norm -> head
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy

from minidl.errors import OrderError, ParameterError, UnknownNameError
from minidl.layers import Chain, Dropout, Layer, LayerNorm, Linear, Tanh
from minidl.layers.base import Shape
from minidl.layers.fusion import run_block
from minidl.models.pretrained import Settings, change_settings, require
from minidl.models.vision import ACTIVATIONS, Block, PatchEmbedding, read_side, start_transformer
from minidl.ops import Array, namespace
from minidl.ops._scalars import depth
from minidl.training import Trainable
from minidl.weights import open_weights

__all__ = ["ViT", "ViTConfig"]

SIZES = {"Ti": (12, 3, 192), "S": (12, 6, 384), "B": (12, 12, 768), "L": (24, 16, 1024), "H": (32, 16, 1280)}
"""Layers, heads and width by name."""

NAMES = {
    "embeddings.cls_token": "embeddings.cls_token",
    "embeddings.register_tokens": "embeddings.register_tokens",
    "embeddings.mask_token": None,  # stands for hidden patches in pre-training
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.patch_embeddings.projection.*": "embeddings.projection.*",
    "encoder.layer.*.attention.attention.query.*": "layers.*.attention.in_proj_*[0/3]",
    "encoder.layer.*.attention.attention.key.*": "layers.*.attention.in_proj_*[1/3]",
    "encoder.layer.*.attention.attention.value.*": "layers.*.attention.in_proj_*[2/3]",
    "encoder.layer.*.attention.output.dense.*": "layers.*.attention.out_proj.*",
    # ViT's block
    "encoder.layer.*.layernorm_before.*": "layers.*.norm1.*",
    "encoder.layer.*.layernorm_after.*": "layers.*.norm2.*",
    "encoder.layer.*.intermediate.dense.*": "layers.*.mlp.fc1.*",
    "encoder.layer.*.output.dense.*": "layers.*.mlp.fc2.*",
    # DINOv2's block
    "encoder.layer.*.layer_scale1.lambda1": "layers.*.scale1.weight",
    "encoder.layer.*.layer_scale2.lambda1": "layers.*.scale2.weight",
    "encoder.layer.*": "layers.*",
    "layernorm.*": "norm.*",
    "pooler.dense.*": "pooler.dense.*",
}
"""The names in Hugging Face's files, after a prefix such as ``vit.``, and those here."""


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """The sizes of a Vision Transformer; the defaults are those of ViT-B/16.

    Attributes
    ----------
    image_size : int, default 224
        The side of the images for which there are positions, in pixels.
    patch_size : int, default 16
    channels : int, default 3
    layers : int, default 12
    heads : int, default 12
    width : int, default 768
        C, the features of each token.
    hidden : int, optional
        The features between the two maps of a block; 4 C by default.
    classes : int, default 0
        K, the outputs of the head; 0 leaves it out.
    mean_head : bool, default False
        Whether the head reads the class token and the mean of the patches side by side, as DINOv2's does.
    pooler : bool, default False
        Whether there is the map of :meth:`ViT.pooled`, which is not in the paper.
    activation : str, default "gelu"
    eps : float, default 1e-12
        Of the norms.
    dropout : float, default 0.0
        After the embeddings and after each part.
    attention_dropout : float, default 0.0
        Of the weights of attention.
    layer_scale : float, optional
        The initial scale of each part of a block; none by default.
    gated : bool, default False
        Whether the blocks have gated maps (SwiGLU).
    registers : int, default 0
    antialias : bool, default False
        Whether positions are averaged where their grid shrinks.

    Examples
    --------
    >>> config = ViTConfig.named("S/16", classes=10)
    >>> config.layers, config.heads, config.width
    (12, 6, 384)
    """

    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    layers: int = 12
    heads: int = 12
    width: int = 768
    hidden: int | None = None
    classes: int = 0
    mean_head: bool = False
    pooler: bool = False
    activation: str = "gelu"
    eps: float = 1e-12
    dropout: float = 0.0
    attention_dropout: float = 0.0
    layer_scale: float | None = None
    gated: bool = False
    registers: int = 0
    antialias: bool = False

    @classmethod
    def named(cls, name: str, **changes: Any) -> ViTConfig:
        """Return the configuration of a size and patch, such as "S/16"; with some settings changed."""
        size, slash, patch = name.partition("/")
        if size not in SIZES or not slash or not patch.isdecimal():
            raise UnknownNameError.among("ViT, as in 'S/16':", name, [f"{size}/16" for size in SIZES])
        layers, heads, width = SIZES[size]
        return cls(**{"patch_size": int(patch), "layers": layers, "heads": heads, "width": width, **changes})


class ViT(Trainable, Layer):
    """A Vision Transformer: images as sequences of patches. DINOv2 is one with scaled parts.

    ``forward(images)`` returns logits, (N, K), if there is a head, and otherwise the tokens after the last norm, (N, T, C): the
    class token, the registers and the patches row by row. Images of another size than that of training are taken; positions are
    interpolated then.

    Parameters
    ----------
    config : ViTConfig or str, default "B/16"
        The sizes, or a name: Ti, S, B, L or H, and the side of a patch.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.
    **changes
        Settings of the configuration that differ, such as ``classes=10``.

    Attributes
    ----------
    config : ViTConfig
    embeddings : PatchEmbedding
    layers : list of Block
    norm : LayerNorm
    head : Linear or None
    pooler : Chain or None

    Raises
    ------
    ParameterError
        If the heads do not divide the width, the patches not the image, or a setting is unknown.
    ShapeError
        From ``forward``, if the images do not consist of whole patches.

    Notes
    -----
    Initial matrices, tokens and positions are normal with standard deviation 0.02, and biases are 0.

    References
    ----------
    A. Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, figure 1 and equations 1 to 4.
    M. Oquab et al., "DINOv2: learning robust visual features without supervision", TMLR 2024.

    Examples
    --------
    >>> model = ViT("Ti/16", image_size=32, layers=2, classes=10)
    >>> images = numpy.zeros((1, 3, 32, 32), "float32")
    >>> model.forward(images).shape
    (1, 10)
    >>> model.class_attention().shape  # what the class token looks at, by heads
    (1, 3, 2, 2)
    """

    _live = ()
    input_gradient_optional = True

    def __init__(
        self,
        config: ViTConfig | str = "B/16",
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        self.config = c = _read_config(config, changes)
        options: dict[str, Any] = {"dtype": dtype, "generator": generator}
        self.embeddings = PatchEmbedding(
            c.image_size, c.patch_size, c.channels, c.width, c.registers, antialias=c.antialias, **options
        )
        self.drop = Dropout(c.dropout, generator=generator)
        hidden = 4 * c.width if c.hidden is None else c.hidden
        block = (c.width, c.heads, hidden, c.activation, c.eps, c.dropout, c.attention_dropout, c.layer_scale, c.gated)
        self.layers = [Block(*block, **options) for _ in range(depth(c.layers, "ViT", "layers"))]
        self.norm = LayerNorm(c.width, c.eps, dtype=dtype)
        self.head = Linear((1 + c.mean_head) * c.width, c.classes, **options) if c.classes else None
        self.pooler = Chain({"dense": Linear(c.width, c.width, **options), "activation": Tanh()}) if c.pooler else None
        start_transformer(self, generator)

    @classmethod
    def from_settings(cls, settings: Settings, *, dtype: Any = "float32") -> ViT:
        """Build the model that a config.json of ViT or DINOv2 describes.

        There is a head if ``architectures`` names one for classification, and else a pooler, unless it is a DINOv2.

        Raises
        ------
        ParameterError
            If it asks for something else than what is here.
        """
        kind = str(settings.get("model_type", "vit"))
        plain = kind == "vit"
        base = {"vit": "ViT", "dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters"}.get(kind, kind)
        known = [[f"{base}{end}"] for end in ("Model", "ForImageClassification")]
        allowed: dict[str, Any] = {
            "architectures": [None, *known],
            "hidden_act": list(ACTIVATIONS),
            "qkv_bias": [True],
            "drop_path_rate": [0.0],
            "pooler_act": ["tanh"],
            "pooler_output_size": [None, settings.get("hidden_size", 768)],
            "hidden_dropout_prob": [settings.get("hidden_dropout_prob", 0.0)] if plain else [0.0],
        }
        require(settings, allowed, base)
        width = settings.get("hidden_size", 768)
        hidden = settings.get("intermediate_size", 3072) if plain else int(width * settings.get("mlp_ratio", 4))
        gated = not plain and settings.get("use_swiglu_ffn", False)
        if gated:
            hidden = (int(hidden * 2 / 3) + 7) // 8 * 8  # two thirds, because there are three maps instead of two
        registers = settings.get("num_register_tokens", 4) if kind == "dinov2_with_registers" else 0
        config = ViTConfig(
            image_size=read_side(settings, "image_size", 224, base),
            patch_size=read_side(settings, "patch_size", 16 if kind != "dinov2" else 14, base),
            channels=settings.get("num_channels", 3),
            layers=settings.get("num_hidden_layers", 12),
            heads=settings.get("num_attention_heads", 12),
            width=width,
            hidden=hidden,
            classes=_count_classes(settings) if settings.get("architectures") == known[1] else 0,
            mean_head=not plain,
            pooler=plain and settings.get("architectures") != known[1],
            activation=settings.get("hidden_act", "gelu"),
            eps=settings.get("layer_norm_eps", 1e-12 if plain else 1e-6),
            dropout=settings.get("hidden_dropout_prob", 0.0),
            attention_dropout=settings.get("attention_probs_dropout_prob", 0.0),
            layer_scale=None if plain else settings.get("layerscale_value", 1.0),
            gated=gated,
            registers=registers,
            antialias=kind == "dinov2_with_registers",
        )
        return cls(config, dtype=dtype)

    def load_hugging_face(self, path: str | os.PathLike[str]) -> None:
        """Read the weights of a folder or safetensors file of Hugging Face's ViT or DINOv2; a pooler is kept only if the file has one."""
        names = foreign_names()
        if self.pooler is not None:
            with open_weights(path) as tensors:
                if not any("pooler.dense" in name for name in tensors):
                    self.pooler = None
        if self.pooler is None:
            names |= dict.fromkeys([foreign for foreign in names if "pooler" in foreign])
        self.load(path, names=names)

    # computing -------------------------------------------------------------------------------------------------------

    def forward(self, x: Array) -> Array:
        """Return logits, (N, K), or without a head the tokens, (N, T, C), for images (N, channels, H, W)."""
        x = self.drop.forward(self.embeddings.forward(x))  # (N, T, C)
        for layer in self.layers:
            x = run_block(layer, x)
        return self._finish(x)

    def _finish(self, x: Array) -> Array:
        """Return the output for the tokens after the last block."""
        y = self.norm.forward(x)
        first = 1 + self.config.registers
        self._remember(y.shape)
        if self.head is None:
            return y
        z = y[:, 0]  # (N, C)
        if self.config.mean_head:
            z = namespace(y).concatenate([z, y[:, first:].mean(axis=1)], axis=1)  # (N, 2 C)
        return self.head.forward(z)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return the gradient of the images."""
        shape = self._remembered()
        if self.head is not None:
            dz: Any = self.head.backward(dy)
            dy = namespace(dz).zeros(shape, dtype=dz.dtype)  # (N, T, C)
            dy[:, 0] = dz[:, : shape[2]]
            if self.config.mean_head:
                first = 1 + self.config.registers
                dy[:, first:] = dz[:, None, shape[2] :] / (shape[1] - first)
        dy = self.norm.backward(dy)
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return self.embeddings.backward(self.drop.backward(dy), input_gradient)

    def hidden_states(self, x: Array) -> list[Array]:
        """Return the tokens before the first block and after each of them, all (N, T, C)."""
        states = [self.drop.forward(self.embeddings.forward(x))]
        for layer in self.layers:
            states.append(run_block(layer, states[-1]))
        return states

    def pooled(self, y: Array) -> Array:
        """Return tanh(W y_0 + b), (N, C), for the tokens y that forward gave, (N, T, C).

        Raises
        ------
        OrderError
            If the model has no pooler, or its file had none.
        """
        if self.pooler is None:
            raise OrderError("ViT: there is no pooler")
        return self.pooler.forward(y[:, 0])

    # looking inside --------------------------------------------------------------------------------------------------

    def attention_maps(self) -> list[Array]:
        """Return, for each layer, what each token of the last forward looked at: weights of shape (N, H, T, T)."""
        return [layer.attention.weights() for layer in self.layers]

    def class_attention(self, layer: int = -1) -> Array:
        """Return how the class token of the last forward looked at the patches: weights of shape (N, H, h, w).

        ``minidl.inspection.save_images(path, images, over=model.class_attention().mean(axis=1))`` draws them over the images.

        Parameters
        ----------
        layer : int, default -1
            The position of the block; the last by default.

        Raises
        ------
        OrderError
            If there was no forward outside ``minidl.inference()``.
        ParameterError
            If there is no such layer.
        """
        if not -len(self.layers) <= layer < len(self.layers):
            raise ParameterError(f"ViT: there is no layer {layer}; it has {len(self.layers)}")
        if self.embeddings._cache is None:
            raise OrderError("ViT: class_attention was called before forward; call forward(images) first")
        rows, columns, _ = self.embeddings._remembered()
        weights = self.layers[layer].attention.weights()[:, :, 0, 1 + self.config.registers :]  # (N, H, h w)
        return weights.reshape((*weights.shape[:2], rows, columns))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (K,), or (T, C) without a head."""
        if self.head is not None:
            return (self.config.classes,)
        rows, columns = self.embeddings.grid((1, *input_shape))
        return (1 + self.config.registers + rows * columns, self.config.width)


def foreign_names() -> dict[str, str | None]:
    """Return the table of names, with every prefix that the files have."""
    prefixes = ("", "vit.", "dinov2.", "dinov2_with_registers.")
    return {prefix + foreign: own for prefix in prefixes for foreign, own in NAMES.items()} | {"classifier.*": "head.*"}


def _count_classes(settings: Settings) -> int:
    """Return how many classes config.json has: as many as labels, which are two where it names none."""
    labels = settings.get("id2label")
    return len(labels) if labels else settings.get("num_labels", 2)


def _read_config(config: Any, changes: dict[str, Any]) -> ViTConfig:
    """Return the configuration with the changes; raise unless it can be built."""
    if isinstance(config, str):
        config = ViTConfig.named(config)
    if not isinstance(config, ViTConfig):
        raise ParameterError(f"ViT: expected a ViTConfig or a name such as 'S/16', got {config!r}")
    config = change_settings(config, changes, "ViT")
    if config.activation not in ACTIVATIONS:
        raise UnknownNameError.among("activation of ViT", config.activation, ACTIVATIONS)
    if config.classes < 0:
        raise ParameterError(f"ViT: classes must be 0 or more, got {config.classes}")
    return config
