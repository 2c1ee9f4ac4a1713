"""CLIP: images and texts in one space, trained so that a picture is closest to its own caption.

image -> patches -> norm -> blocks -> norm, class token -> projection -> length 1 -+
                                                                                   +-> products times a scale -> logits
ids -> tokens + positions -> causal blocks -> norm, end token -> projection -> length 1 -+
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy

from minidl import init
from minidl.engines import current
from minidl.errors import DataError, DtypeError, OrderError, ParameterError, ShapeError, UnknownNameError
from minidl.layers import CrossEntropyLoss, Embedding, Layer, LayerNorm, LearnedPositions, Linear, Parameter, inference
from minidl.layers.fusion import run_block
from minidl.models.pretrained import Settings, change_settings, require
from minidl.models.vision import ACTIVATIONS, Block, PatchEmbedding, read_side, start_transformer
from minidl.ops import Array, namespace
from minidl.ops._scalars import depth

__all__ = ["CLIP", "CLIPConfig", "ContrastiveLoss", "Tower", "classify_zero_shot"]

NAMES = {
    "logit_scale": "logit_scale",
    "*.embeddings.position_ids": None,  # 0, 1, 2, ...
    "vision_model.embeddings.class_embedding": "vision.embeddings.cls_token",
    "vision_model.embeddings.position_embedding.weight": "vision.embeddings.positions",
    "vision_model.embeddings.patch_embedding.*": "vision.embeddings.projection.*",
    "vision_model.pre_layrnorm.*": "vision.pre_norm.*",
    "vision_model.post_layernorm.*": "vision.norm.*",
    "visual_projection.*": "vision.projection.*",
    "text_model.embeddings.token_embedding.*": "text.token_embedding.*",
    "text_model.embeddings.position_embedding.*": "text.position_embedding.*",
    "text_model.final_layer_norm.*": "text.norm.*",
    "text_projection.*": "text.projection.*",
    "*_model.encoder.layers.*.self_attn.q_proj.*": "*.layers.*.attention.in_proj_*[0/3]",
    "*_model.encoder.layers.*.self_attn.k_proj.*": "*.layers.*.attention.in_proj_*[1/3]",
    "*_model.encoder.layers.*.self_attn.v_proj.*": "*.layers.*.attention.in_proj_*[2/3]",
    "*_model.encoder.layers.*.self_attn.out_proj.*": "*.layers.*.attention.out_proj.*",
    "*_model.encoder.layers.*.layer_norm1.*": "*.layers.*.norm1.*",
    "*_model.encoder.layers.*.layer_norm2.*": "*.layers.*.norm2.*",
    "*_model.encoder.layers.*.mlp.*": "*.layers.*.mlp.*",
}
"""The names in Hugging Face's files, and those here."""


@dataclasses.dataclass(frozen=True)
class Tower:
    """The sizes of one of CLIP's two encoders; the defaults are those of the text encoder of ViT-B/32.

    Attributes
    ----------
    layers : int, default 12
    heads : int, default 8
    width : int, default 512
        C, the features of each token.
    hidden : int, default 2048
        The features between the two maps of a block.
    activation : str, default "quick_gelu"
    eps : float, default 1e-5
        Of the norms.
    dropout : float, default 0.0
        Of the weights of attention.
    """

    layers: int = 12
    heads: int = 8
    width: int = 512
    hidden: int = 2048
    activation: str = "quick_gelu"
    eps: float = 1e-5
    dropout: float = 0.0

    def blocks(self, causal: bool, dtype: Any, generator: Any) -> list[Block]:
        """Build the blocks."""
        sizes = (self.width, self.heads, self.hidden, self.activation, self.eps, 0.0, self.dropout)
        options: dict[str, Any] = {"causal": causal, "dtype": dtype, "generator": generator}
        return [Block(*sizes, **options) for _ in range(depth(self.layers, "CLIP", "layers"))]


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """The sizes of a CLIP; the defaults are those of CLIP ViT-B/32.

    Attributes
    ----------
    vision : Tower
    text : Tower
    image_size : int, default 224
    patch_size : int, default 32
    channels : int, default 3
    vocab_size : int, default 49408
        V, the number of tokens.
    context : int, default 77
        The longest text.
    end : int, default 49407
        The id of the token that ends a text, whose features stand for all of it. With None it is the largest id of each text.
    projection : int, default 512
        E, the features of the space that both share.
    logit_scale : float, default 2.6592
        The initial logarithm of the scale of the logits.
    """

    vision: Tower = Tower(heads=12, width=768, hidden=3072)
    text: Tower = Tower()
    image_size: int = 224
    patch_size: int = 32
    channels: int = 3
    vocab_size: int = 49408
    context: int = 77
    end: int | None = 49407
    projection: int = 512
    logit_scale: float = 2.6592


class VisionTower(Layer):
    """The image encoder: a Vision Transformer whose class token is projected."""

    _live = ()
    input_gradient_optional = True

    def __init__(self, config: CLIPConfig, dtype: Any, generator: Any) -> None:
        super().__init__()
        sizes, options = config.vision, {"dtype": dtype, "generator": generator}
        self.embeddings = PatchEmbedding(
            config.image_size, config.patch_size, config.channels, sizes.width, bias=False, flat=True, **options
        )
        self.pre_norm = LayerNorm(sizes.width, sizes.eps, dtype=dtype)
        self.layers = sizes.blocks(False, dtype, generator)
        self.norm = LayerNorm(sizes.width, sizes.eps, dtype=dtype)
        self.projection = Linear(sizes.width, config.projection, bias=False, **options)

    def forward(self, x: Array) -> Array:
        """Return the features of images, (N, E)."""
        return self._finish(self.hidden_states(x)[-1])

    def hidden_states(self, x: Array) -> list[Array]:
        """Return the tokens before the first block and after each of them, all (N, T, C)."""
        states = [self.pre_norm.forward(self.embeddings.forward(x))]
        for layer in self.layers:
            states.append(run_block(layer, states[-1]))
        return states

    def _finish(self, x: Array) -> Array:
        self._remember(x.shape)
        return self.projection.forward(self.norm.forward(x[:, 0]))

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return the gradient of the images."""
        shape = self._remembered()
        dclass: Any = self.norm.backward(self.projection.backward(dy))  # (N, C)
        dx = namespace(dy).zeros(shape, dtype=dclass.dtype)  # (N, T, C)
        dx[:, 0] = dclass
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        return self.embeddings.backward(self.pre_norm.backward(dx), input_gradient)


class TextTower(Layer):
    """The text encoder: a causal Transformer whose end token, which has seen all others, is projected."""

    _live = ()
    integer_inputs = True

    def __init__(self, config: CLIPConfig, dtype: Any, generator: Any) -> None:
        super().__init__()
        sizes, options = config.text, {"dtype": dtype, "generator": generator}
        self.end = config.end
        self.token_embedding = Embedding(config.vocab_size, sizes.width, **options)
        self.position_embedding = LearnedPositions(config.context, sizes.width, **options)
        self.layers = sizes.blocks(True, dtype, generator)
        self.norm = LayerNorm(sizes.width, sizes.eps, dtype=dtype)
        self.projection = Linear(sizes.width, config.projection, bias=False, **options)

    def forward(self, x: Array) -> Array:
        """Return the features of texts, (N, E), for ids, (N, T)."""
        ends = self.find_ends(x)
        y = self.hidden_states(x)[-1]
        self._remember((ends, y.shape))
        return self.projection.forward(self.norm.forward(y[namespace(y).arange(len(y)), ends]))

    def hidden_states(self, x: Array) -> list[Array]:
        """Return the tokens before the first block and after each of them, all (N, T, C)."""
        states = [self.position_embedding.forward(self.token_embedding.forward(x))]
        for layer in self.layers:
            states.append(run_block(layer, states[-1]))
        return states

    def backward(self, dy: Array) -> None:
        """Add to all gradients; ids have none."""
        ends, shape = self._remembered()
        dend: Any = self.norm.backward(self.projection.backward(dy))  # (N, C)
        dx = namespace(dy).zeros(shape, dtype=dend.dtype)  # (N, T, C)
        dx[namespace(dx).arange(len(dx)), ends] = dend
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        self.token_embedding.backward(self.position_embedding.backward(dx))

    def find_ends(self, ids: Any) -> Array:
        """Return the position of the first end token of each text, (N,).

        Raises
        ------
        ShapeError, DtypeError
            If the ids are not an integer array of shape (N, T).
        DataError
            If a text has no end token.
        """
        if len(getattr(ids, "shape", ())) != 2 or not ids.shape[1]:
            raise ShapeError(f"CLIP: expected ids of shape (N, T), got {getattr(ids, 'shape', ids)}")
        if ids.dtype.kind not in "iu":
            raise DtypeError(f"CLIP: ids must be integers, got dtype {ids.dtype}")
        if self.end is None:
            return ids.argmax(axis=1)
        found = ids == self.end  # (N, T)
        without = ~found.any(axis=1)
        if bool(without.any()):
            raise DataError(
                f"CLIP: text {int(without.argmax())} has no end token, {self.end}, whose features stand for a text"
            )
        return found.argmax(axis=1)


class CLIP(Layer):
    """CLIP: an image encoder and a text encoder whose features can be compared.

    ``forward(images, ids)`` returns the logits of N images against M texts, (N, M): with i and t the features of length 1::

        logits_nm = exp(logit_scale) i_n . t_m

    ``backward(dlogits)`` returns the gradient of the images, and None for the ids. :class:`ContrastiveLoss` compares image n with
    text n. Texts may be filled up after their end token with any tokens, because no token sees those after it.

    Parameters
    ----------
    config : CLIPConfig, optional
        That of ViT-B/32 by default.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.
    **changes
        Settings of the configuration that differ.

    Attributes
    ----------
    config : CLIPConfig
    vision : VisionTower
    text : TextTower
    logit_scale : Parameter, shape ()

    Raises
    ------
    ParameterError
        If sizes do not fit together, or a setting is unknown.
    DataError
        From ``forward``, if an id is not in the vocabulary, or a text has no end token.
    ShapeError
        From ``forward``, if images do not consist of whole patches, or a text is longer than the context.

    Notes
    -----
    Initial matrices are normal with standard deviation 0.02.

    References
    ----------
    A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, figures 1 and 3.

    Examples
    --------
    >>> tower = Tower(layers=1, heads=2, width=8, hidden=16)
    >>> model = CLIP(vision=tower, text=tower, image_size=8, patch_size=4, vocab_size=10, context=6, end=9, projection=4)
    >>> images, ids = numpy.ones((3, 3, 8, 8), "float32"), numpy.array([[1, 2, 9, 0], [3, 9, 0, 0]])
    >>> model.forward(images, ids).shape
    (3, 2)
    """

    _live = ()
    integer_inputs = True

    def __init__(
        self,
        config: CLIPConfig | None = None,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        self.config = config = _read_config(config, changes)
        self.vision = VisionTower(config, dtype, generator)
        self.text = TextTower(config, dtype, generator)
        scale = init.constant((), config.logit_scale, dtype=dtype)
        self.logit_scale = Parameter(current().asarray(scale), "logit_scale")
        start_transformer(self, generator)

    @classmethod
    def from_settings(cls, settings: Settings, *, dtype: Any = "float32") -> CLIP:
        """Build the model that a config.json of Hugging Face describes.

        Raises
        ------
        ParameterError
            If it asks for something else than what is here.
        """
        require(settings, {"architectures": [None, ["CLIPModel"]]}, "CLIP")
        image, text = ((settings.get(f"{part}_config") or {}) for part in ("vision", "text"))
        end = text.get("eos_token_id", 49407)
        config = CLIPConfig(
            vision=_read_tower(image, 12, 768, 3072),
            text=_read_tower(text, 8, 512, 2048),
            image_size=read_side(image, "image_size", 224, "CLIP"),
            patch_size=read_side(image, "patch_size", 32, "CLIP"),
            channels=image.get("num_channels", 3),
            vocab_size=text.get("vocab_size", 49408),
            context=text.get("max_position_embeddings", 77),
            end=None
            if end == 2
            else end,  # files from before the id was right say 2; the end token is the largest id there
            projection=settings.get("projection_dim", 512),
            logit_scale=settings.get("logit_scale_init_value", 2.6592),
        )
        return cls(config, dtype=dtype)

    def load_hugging_face(self, path: str | os.PathLike[str]) -> None:
        """Read the weights of a folder or safetensors file of Hugging Face's CLIP."""
        self.load(path, names=NAMES)

    # computing -------------------------------------------------------------------------------------------------------

    def encode_image(self, images: Array) -> Array:
        """Return the features of images, of length 1: (N, E)."""
        return _normalize(self.vision.forward(images))[0]

    def encode_text(self, ids: Array) -> Array:
        """Return the features of texts, of length 1: (M, E)."""
        return _normalize(self.text.forward(ids))[0]

    def forward(self, images: Array, ids: Array) -> Array:  # type: ignore[override]
        """Return the logits of images against texts.

        Parameters
        ----------
        images : array, shape (N, channels, H, W)
        ids : integer array, shape (M, T)
            Each text with its end token.

        Returns
        -------
        logits : array, shape (N, M)
        """
        image, image_cache = _normalize(self.vision.forward(images))  # (N, E)
        text, text_cache = _normalize(self.text.forward(ids))  # (M, E)
        scale = numpy.exp(float(self.logit_scale.value))
        logits = (image @ text.T) * image.dtype.type(scale)  # (N, M)
        self._remember((image_cache, text_cache, scale, logits))
        return logits

    def backward(self, dy: Array, input_gradient: bool = True) -> tuple[Array | None, None]:
        """Return the gradient of the images, and None for the ids.

        With s = exp(logit_scale) and logits L = s i t^T::

            d logit_scale = sum(dL L),   di = s dL t,   dt = s dL^T i
        """
        image_cache, text_cache, scale, logits = self._remembered()
        self.logit_scale.accumulate((dy * logits).sum())
        d = dy * dy.dtype.type(scale)  # (N, M)
        self.text.backward(_normalize_backward(d.T @ image_cache[0], text_cache))
        return self.vision.backward(_normalize_backward(d @ text_cache[0], image_cache), input_gradient), None


def _normalize(x: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return y = x / |x| for each row, and the cache (y, 1 / |x|)."""
    shrink = 1 / namespace(x).sqrt((x * x).sum(axis=-1, keepdims=True))  # (N, 1)
    y = x * shrink
    return y, (y, shrink)


def _normalize_backward(dy: Array, cache: tuple[Array, Array]) -> Array:
    """Return dx = (dy - y (y . dy)) / |x|: of dy, what changes the length is lost."""
    y, shrink = cache
    return (dy - y * (y * dy).sum(axis=-1, keepdims=True)) * shrink


class ContrastiveLoss:
    """The loss of CLIP: cross-entropy that each image finds its text, and each text its image.

    For logits L, (N, N), with image n and text n belonging together::

        loss = (cross_entropy(L, 0 ... N-1) + cross_entropy(L^T, 0 ... N-1)) / 2

    and dL is the mean of the gradients of both, that of the second transposed back.

    References
    ----------
    A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, figure 3.

    Examples
    --------
    >>> loss = ContrastiveLoss()
    >>> round(float(loss.forward(numpy.log(numpy.array([[3.0, 1.0], [1.0, 3.0]])))), 4)  # log(4 / 3), both ways
    0.2877
    >>> loss.backward()
    array([[-0.125,  0.125],
           [ 0.125, -0.125]])
    """

    def __init__(self) -> None:
        self.images, self.texts = CrossEntropyLoss(), CrossEntropyLoss()
        self._called = False

    def forward(self, logits: Array) -> Any:
        """Return the loss.

        Raises
        ------
        ShapeError
            If the logits are not square.
        """
        if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
            raise ShapeError(
                f"ContrastiveLoss: logits must have shape (N, N), one text for each image, got {logits.shape}"
            )
        own = namespace(logits).arange(len(logits))
        self._called = True
        turned = namespace(logits).ascontiguousarray(logits.T)
        return (self.images.forward(logits, own) + self.texts.forward(turned, own)) / 2

    def backward(self) -> Array:
        """Return the gradient of the logits, (N, N)."""
        if not self._called:
            raise OrderError("ContrastiveLoss: backward was called before forward; call forward(logits) first")
        return (self.images.backward() + self.texts.backward().T) / 2


def classify_zero_shot(model: CLIP, images: Array, prompts: Array) -> Array:
    """Return the probability that each image is of each class, where texts describe the classes.

    The texts of one class are averaged on the sphere: the mean of their features is brought back to length 1.

    Parameters
    ----------
    model : CLIP
    images : array, shape (N, channels, H, W)
    prompts : integer array, shape (K, T) or (K, P, T)
        The ids of a text for each class, such as "a photo of a dog", or of P texts each.

    Returns
    -------
    probabilities : array, shape (N, K)

    Raises
    ------
    ShapeError
        If the prompts have another number of axes.

    Examples
    --------
    >>> tower = Tower(layers=1, heads=2, width=8, hidden=16)
    >>> model = CLIP(vision=tower, text=tower, image_size=8, patch_size=4, vocab_size=10, context=6, end=9, projection=4)
    >>> prompts = numpy.array([[1, 2, 9], [3, 9, 0]])
    >>> classify_zero_shot(model, numpy.ones((3, 3, 8, 8), "float32"), prompts).sum(axis=1).round(6)
    array([1., 1., 1.], dtype=float32)
    """
    shape: tuple[int, ...] = getattr(prompts, "shape", ())
    if len(shape) not in (2, 3):
        raise ShapeError(f"classify_zero_shot: prompts must have shape (K, T) or (K, P, T), got {shape or prompts!r}")
    with inference(evaluate=True):
        image = model.encode_image(images)  # (N, E)
        text = model.encode_text(prompts.reshape((-1, shape[-1])))  # (K P, E)
        if len(shape) == 3:
            text = _normalize(text.reshape((*shape[:2], -1)).mean(axis=1))[0]  # (K, E)
        scale = image.dtype.type(numpy.exp(float(model.logit_scale.value)))
        return current().softmax((image @ text.T) * scale, axis=-1)[0]


def _read_tower(settings: Settings, heads: int, width: int, hidden: int) -> Tower:
    """Return the sizes that one part of config.json says."""
    require(settings, {"hidden_act": list(ACTIVATIONS)}, "CLIP")
    return Tower(
        layers=settings.get("num_hidden_layers", 12),
        heads=settings.get("num_attention_heads", heads),
        width=settings.get("hidden_size", width),
        hidden=settings.get("intermediate_size", hidden),
        activation=settings.get("hidden_act", "quick_gelu"),
        eps=settings.get("layer_norm_eps", 1e-5),
        dropout=settings.get("attention_dropout", 0.0),
    )


def _read_config(config: Any, changes: dict[str, Any]) -> CLIPConfig:
    """Return the configuration with the changes; raise unless it can be built."""
    config = change_settings(CLIPConfig() if config is None else config, changes, "CLIP")
    for tower in (config.vision, config.text):
        if tower.activation not in ACTIVATIONS:
            raise UnknownNameError.among("activation of CLIP", tower.activation, ACTIVATIONS)
    if config.projection < 1:
        raise ParameterError(f"CLIP: projection must be positive, got {config.projection}")
    return config
