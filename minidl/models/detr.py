"""DETR: object detection as the prediction of a set.

images -> backbone -> 1x1 convolution -> + positions -> encoder -> memory
queries -> decoder, which looks at the memory -> a class and a box for each query
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import numpy

from minidl import init
from minidl.arrays import to_host
from minidl.engines import current
from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.layers import Conv2d, Embedding, Layer, Linear, inference
from minidl.models.detr_backbone import DEPTHS, detr_backbone
from minidl.models.detr_parts import BoxHead, Decoder, DETRConfig, Encoder
from minidl.models.initial import redraw
from minidl.models.pretrained import Settings, change_settings, require
from minidl.ops import Array
from minidl.ops.box_geometry import cxcywh_to_xyxy
from minidl.ops.position_tables import image_positions
from minidl.training import Trainable

__all__ = ["DETR", "DETRConfig", "Detections"]


class Detections(NamedTuple):
    """What was found in one image, the most certain first.

    Attributes
    ----------
    boxes : numpy.ndarray, shape (Q, 4)
        x1, y1, x2, y2 as shares of the image's width and height.
    scores : numpy.ndarray, shape (Q,)
        Probabilities.
    classes : integer numpy.ndarray, shape (Q,)
    """

    boxes: numpy.ndarray
    scores: numpy.ndarray
    classes: numpy.ndarray


class DETR(Trainable, Layer):
    """A detector that predicts all objects of an image at once, as a set, with a Transformer.

    ``forward(images)`` returns, for each of Q queries, the logits of the classes and of "no object", and a box. ``SetLoss`` finds
    which query answers for which object. The names of the weights are those of Hugging Face's ``DetrForObjectDetection``, but for
    the backbone, which has torchvision's.

    Parameters
    ----------
    config : DETRConfig, optional
        The sizes; by default those of the paper's model with a ResNet-50.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.
    **changes
        Settings of the configuration that differ, such as ``num_classes=3``.

    Attributes
    ----------
    config : DETRConfig
    backbone : Chain
        A ResNet without its classifier.
    input_projection : Conv2d
        1x1, from the backbone's channels to C.
    query_position_embeddings : Embedding
        The queries' vectors, (Q, C).
    encoder : Encoder
    decoder : Decoder
    class_labels_classifier : Linear
        From C to K + 1; the last class is "no object".
    bbox_predictor : BoxHead

    Raises
    ------
    ParameterError
        If sizes do not fit together, or a setting is unknown.
    ShapeError, DtypeError
        From ``forward``, if images or mask do not fit.

    Notes
    -----
    Images are usually standardised: from each channel the mean of the training images is subtracted, and the rest divided by their
    standard deviation.

    Matrices of the Transformer are Xavier-uniform at first, the queries' vectors standard normal, and convolutions of the backbone
    as in :func:`resnet`.

    References
    ----------
    N. Carion et al., "End-to-end object detection with transformers", ECCV 2020, figures 2 and 10.

    Examples
    --------
    >>> small = {"depths": (1, 1), "channels": (8, 16), "stem": 8, "block": "basic", "width": 16, "heads": 2}
    >>> model = DETR(num_classes=3, num_queries=5, encoder_layers=1, decoder_layers=2, feed_forward=32, **small)
    >>> images = numpy.zeros((2, 3, 32, 32), "float32")
    >>> logits, boxes = model.forward(images)
    >>> logits.shape, boxes.shape
    ((2, 5, 4), (2, 5, 4))
    >>> logits, boxes = model.forward(images, each_layer=True)  # for auxiliary losses
    >>> logits.shape
    (2, 2, 5, 4)
    """

    _live = ()

    def __init__(
        self,
        config: DETRConfig | None = None,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        self.config = config = _read_config(config or DETRConfig(), changes)
        options: dict[str, Any] = {"dtype": dtype, "generator": generator}
        self.dtype = numpy.dtype(dtype)
        self.backbone = detr_backbone(
            config.depths, config.channels, config.stem, config.block, config.norm, config.small_images, **options
        )
        self.input_projection = Conv2d(config.channels[-1], config.width, 1, **options)
        self.query_position_embeddings = Embedding(config.num_queries, config.width, **options)
        self.encoder = Encoder(config, options)
        self.decoder = Decoder(config, options)
        self.class_labels_classifier = Linear(config.width, config.num_classes + 1, **options)
        self.bbox_predictor = BoxHead(config.width, options)
        self._initialise(generator)

    def _initialise(self, generator: Any) -> None:
        for part in (self.encoder, self.decoder):
            for parameter in part.parameters():
                if parameter.value.ndim == 2:
                    redraw(parameter, init.xavier_uniform, generator)

    def forward(  # type: ignore[override]
        self, images: Array, pixel_mask: Array | None = None, each_layer: bool = False
    ) -> tuple[Array, Array]:
        """Return the classes and boxes of all queries.

        Parameters
        ----------
        images : array, shape (N, 3, H, W)
        pixel_mask : boolean or integer array, shape (N, H, W), optional
            True for real pixels, False for padding.
        each_layer : bool, default False
            Whether to apply the heads to each of the L decoder layers, for auxiliary losses. The last is the result.

        Returns
        -------
        logits : array, shape (N, Q, K + 1), or (L, N, Q, K + 1)
        boxes : array, shape (N, Q, 4), or (L, N, Q, 4)
            The centre, width and height, cx, cy, w, h, as shares of the image's width and height.
        """
        self._check(images, pixel_mask)
        features = self.backbone.forward(images)  # (N, channels, h, w)
        batch, _, *size = features.shape
        x = self.input_projection.forward(features)  # (N, C, h, w)
        x = x.reshape((batch, self.config.width, -1)).transpose((0, 2, 1))  # (N, S, C), with S = h w
        positions, mask = self._places(batch, size, pixel_mask)
        memory = self.encoder.forward(x, positions, mask)
        queries = self.query_position_embeddings.forward(
            current().asarray(numpy.arange(self.config.num_queries))
        )  # (Q, C)
        h = self.decoder.forward(queries, memory, positions, mask, each_layer)  # (L or 1, N, Q, C)
        self._remember((each_layer, size))
        logits, boxes = self.class_labels_classifier.forward(h), self.bbox_predictor.forward(h)
        return (logits, boxes) if each_layer else (logits[0], boxes[0])

    def backward(self, dy: tuple[Array, Array], input_gradient: bool = True) -> Array | None:
        """Add to all gradients and return that of the images, or None with ``input_gradient=False``.

        Parameters
        ----------
        dy : tuple of two arrays
            The gradients of logits and boxes, in the shapes that forward gave.
        input_gradient : bool, default True
        """
        each_layer, size = self._remembered()
        dlogits, dboxes = dy if each_layer else (dy[0][None], dy[1][None])  # (L or 1, N, Q, ...)
        dh = self.class_labels_classifier.backward(dlogits) + self.bbox_predictor.backward(dboxes)
        dqueries, dmemory = self.decoder.backward(dh)
        self.query_position_embeddings.backward(dqueries)
        dx = self.encoder.backward(dmemory)  # (N, S, C)
        dx = dx.transpose((0, 2, 1)).reshape((dx.shape[0], self.config.width, *size))
        return self.backbone.backward(self.input_projection.backward(dx), input_gradient)

    def _places(self, batch: int, size: list[int], pixel_mask: Array | None) -> tuple[Array, Array | None]:
        """Return the positions, (N or 1, S, C), and which places are no padding, (N, 1, 1, S) or None."""
        mask = numpy.ones((1, *size), bool)
        if pixel_mask is not None:
            whole = to_host(pixel_mask).astype(bool)  # (N, H, W)
            rows, columns = (numpy.arange(n) * of // n for n, of in zip(size, whole.shape[1:], strict=True))
            mask = whole[:, rows][:, :, columns]  # (N, h, w), the nearest pixel of each place
        table = image_positions(mask, self.config.width, dtype=self.dtype)
        positions = current().asarray(table.reshape((len(mask), -1, self.config.width)))
        return positions, None if pixel_mask is None else current().asarray(mask.reshape((batch, 1, 1, -1)))

    def detect(self, images: Array, pixel_mask: Array | None = None) -> list[Detections]:
        """Return, for each image, the box, the probability and the class of each query, the most certain first.

        "No object" is left out: the class is the most likely of the others. Boxes are shares of the padded image's sides where
        there is a mask. The model is as it is; call ``eval()`` before.
        """
        with inference():
            logits, boxes = self.forward(images, pixel_mask)
        probabilities = to_host(current().softmax(logits)[0])[..., :-1]  # (N, Q, K)
        corners = to_host(cxcywh_to_xyxy(boxes))  # (N, Q, 4)
        found = []
        for p, corner in zip(probabilities, corners, strict=True):
            order = numpy.argsort(-p.max(axis=-1), kind="stable")
            found.append(Detections(corner[order], p.max(axis=-1)[order], p.argmax(axis=-1)[order]))
        return found

    @classmethod
    def from_settings(cls, settings: Settings, *, dtype: Any = "float32") -> DETR:
        """Build the model that a config.json of Hugging Face describes; its first convolution and stage are frozen, as in the paper.

        Raises
        ------
        ParameterError
            If it asks for another backbone than a ResNet, for dilation, learned positions, or layers of different sizes.
        """
        get = settings.get
        width, heads, hidden = get("d_model", 256), get("encoder_attention_heads", 8), get("encoder_ffn_dim", 2048)
        allowed: dict[str, list[Any]] = {
            "activation_function": ["relu"],
            "position_embedding_type": ["sine"],
            "dilation": [False, None],
            "decoder_attention_heads": [heads],
            "decoder_ffn_dim": [hidden],
            "num_channels": [3],
            "scale_embedding": [False],
        }
        require(settings, allowed, "DETR")
        model = cls(
            DETRConfig(
                num_classes=len(settings["id2label"]) if "id2label" in settings else get("num_labels", 2),
                num_queries=get("num_queries", 100),
                width=width,
                heads=heads,
                encoder_layers=get("encoder_layers", 6),
                decoder_layers=get("decoder_layers", 6),
                feed_forward=hidden,
                dropout=get("dropout", 0.1),
                attention_dropout=get("attention_dropout", 0.0),
                activation_dropout=get("activation_dropout", 0.0),
                **_read_backbone(settings),
            ),
            dtype=dtype,
        )
        model.backbone["conv1"].trainable = model.backbone["layer1"].trainable = False
        return model

    def load_hugging_face(self, path: str | os.PathLike[str]) -> None:
        """Read the weights of a folder or safetensors file of Hugging Face's DETR, with a backbone of timm's or of its own."""
        self.load(path, names=_translate)

    def _check(self, images: Any, pixel_mask: Any) -> None:
        shape: tuple[int, ...] = getattr(images, "shape", ())
        if len(shape) != 4 or shape[1] != 3:
            raise ShapeError(
                f"{self._name()}: expected images of shape (N, 3, H, W), got {shape or type(images).__name__}"
            )
        if pixel_mask is None:
            return
        kind = getattr(getattr(pixel_mask, "dtype", None), "kind", None)
        if kind not in ("b", "i", "u"):
            raise DtypeError(
                f"{self._name()}: pixel_mask must hold booleans, True for real pixels, or integers, got {kind!r}"
            )
        if pixel_mask.shape != (shape[0], *shape[2:]):
            raise ShapeError(
                f"{self._name()}: pixel_mask must have shape {(shape[0], *shape[2:])} beside images of shape {shape}, got "
                f"{pixel_mask.shape}"
            )

    def _name(self) -> str:
        config = self.config
        return f"DETR({config.encoder_layers} + {config.decoder_layers} layers, {config.num_queries} queries)"


def _read_backbone(settings: Settings) -> dict[str, Any]:
    """Return the settings of the backbone: one of timm, by its name, or Hugging Face's ResNet."""
    own = settings.get("backbone_config") or {}
    if own.get("model_type") == "resnet":
        allowed: dict[str, list[Any]] = {
            "hidden_act": ["relu"],
            "downsample_in_first_stage": [False],
            "downsample_in_bottleneck": [False],
            "layer_type": ["basic", "bottleneck"],
        }
        require(own, allowed, "DETR's backbone")
        return {
            "depths": tuple(own.get("depths", (3, 4, 6, 3))),
            "channels": tuple(own.get("hidden_sizes", (256, 512, 1024, 2048))),
            "stem": own.get("embedding_size", 64),
            "block": own.get("layer_type", "bottleneck"),
        }
    name = own.get("backbone") or settings.get("backbone") or "resnet50"
    if own.get("model_type", "timm_backbone") != "timm_backbone" or name not in DEPTHS:
        raise ParameterError(
            f"DETR: config.json has the backbone {own.get('model_type', name)!r}, {name!r}; minidl has {', '.join(DEPTHS)}"
        )
    block, depths = DEPTHS[name]
    factor = 4 if block == "bottleneck" else 1
    return {"depths": depths, "channels": tuple(factor * c for c in (64, 128, 256, 512)), "block": block}


_PATTERNS = (
    (r"(.*\.)?num_batches_tracked", None),
    (r"model\.backbone\.(?:conv_encoder\.)?model\.(.*)", r"backbone.\1"),
    (r"model\.(.*)", r"\1"),
    (r"backbone\.embedder\.embedder\.convolution\.(.*)", r"backbone.conv1.\1"),
    (r"backbone\.embedder\.embedder\.normalization\.(.*)", r"backbone.bn1.\1"),
    (
        r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution\.(.*)",
        r"backbone.layer<1>.\2.downsample.0.\3",
    ),
    (
        r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization\.(.*)",
        r"backbone.layer<1>.\2.downsample.1.\3",
    ),
    (
        r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution\.(.*)",
        r"backbone.layer<1>.\2.conv<3>.\4",
    ),
    (
        r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.normalization\.(.*)",
        r"backbone.layer<1>.\2.bn<3>.\4",
    ),
    (r"(encoder|decoder)(.*)\.o_proj\.(.*)", r"\1\2.out_proj.\3"),
    (r"(encoder|decoder)(.*)\.mlp\.(.*)", r"\1\2.\3"),
)
"""Names in files of Hugging Face and here, applied from top to bottom; ``<1>`` is the number of group 1, plus 1, because stages and
convolutions are counted from 1 here.
"""


def _translate(name: str) -> str | None:
    """Return the name here of a tensor of a file, or None for one that is passed over."""
    for pattern, here in _PATTERNS:
        match = re.fullmatch(pattern, name)
        if match and here is None:
            return None
        if match:
            groups = match.groups()
            plain = {f"\\{i}": part for i, part in enumerate(groups, start=1)}
            counted = {f"<{i}>": str(int(part) + 1) for i, part in enumerate(groups, start=1) if part.isdigit()}
            name = re.sub(r"\\\d|<\d>", lambda found, parts=plain | counted: parts[found[0]], str(here))  # type: ignore[misc]
    return name


def _read_config(config: DETRConfig, changes: dict[str, Any]) -> DETRConfig:
    """Return the configuration with the changes; raise unless it can be built."""
    found = change_settings(config, changes, "DETR")
    for name in ("num_classes", "num_queries", "width", "heads", "encoder_layers", "decoder_layers", "feed_forward"):
        if getattr(found, name) < 1:
            raise ParameterError(f"DETR: {name} must be positive, got {getattr(found, name)!r}")
    if found.width % found.heads or found.width % 4:
        raise ParameterError(
            f"DETR: heads, and 4, must divide the width, got {found.heads} heads and a width of {found.width}"
        )
    return found
