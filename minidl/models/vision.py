"""What the Transformers for images share: the picture as a sequence of patches, and the block that they repeat."""

from __future__ import annotations

from typing import Any

import numpy

from minidl import init
from minidl.engines import current
from minidl.errors import ParameterError, ShapeError
from minidl.layers import (
    GELU,
    Chain,
    Conv2d,
    Dropout,
    Layer,
    LayerNorm,
    LayerScale,
    Linear,
    MultiheadAttention,
    Parameter,
    QuickGELU,
    ReLU,
    SiLU,
)
from minidl.layers.fusion import BlockParts
from minidl.models.initial import start_transformer
from minidl.models.pretrained import Settings
from minidl.ops import Array, namespace

__all__ = ["ACTIVATIONS", "Block", "PatchEmbedding", "read_side", "start_transformer"]

ACTIVATIONS: dict[str, Any] = {
    "gelu": GELU,
    "gelu_new": lambda: GELU("tanh"),
    "gelu_pytorch_tanh": lambda: GELU("tanh"),
    "quick_gelu": QuickGELU,
    "relu": ReLU,
    "silu": SiLU,
}
"""The activation for each ``hidden_act`` of a config.json."""


class PatchEmbedding(Layer):
    r"""Cut an image into patches, map each linearly, put a class token before them and add positions.

    Figure 1 of the paper, from below::

        image -> patches -> projection -> (+) -> class token, registers, patches
                                           |
                                       positions

    The map of a patch is a convolution whose stride is its size. The positions of the patches are a grid, which is interpolated
    to the grid of another image size; the class token has a position of its own, and registers have none.

    Parameters
    ----------
    image_size : int
        The side for which there are positions, in pixels.
    patch_size : int
        The side of a patch; divides the image size.
    channels : int
        Of the image.
    width : int
        C, the features of each token.
    registers : int, default 0
        R, tokens without a place in the image, which the blocks may use as they like.
    bias : bool, default True
        Whether the projection has a bias.
    antialias : bool, default False
        Whether positions are averaged where the grid shrinks.
    flat : bool, default False
        Whether class token and positions have no leading axes of size 1, as in CLIP's files.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    projection : Conv2d
    cls_token : Parameter, shape (1, 1, C)
    positions : Parameter, shape (1, 1 + patches, C)
    register_tokens : Parameter, shape (1, R, C), or None

    References
    ----------
    A. Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, equation 1.
    Registers: T. Darcet et al., "Vision Transformers need registers", ICLR 2024.
    """

    _live = ()
    input_gradient_optional = True

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        channels: int,
        width: int,
        registers: int = 0,
        bias: bool = True,
        antialias: bool = False,
        flat: bool = False,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if patch_size < 1 or image_size < 1 or image_size % patch_size or registers < 0:
            raise ParameterError(
                f"PatchEmbedding: patch_size must divide image_size, and registers be 0 or more, got {patch_size}, "
                f"{image_size} and {registers}"
            )
        self.patch_size, self.channels, self.width, self.registers = patch_size, channels, width, registers
        self.antialias, self.side = antialias, image_size // patch_size
        options: dict[str, Any] = {"bias": bias, "dtype": dtype, "generator": generator}
        self.projection = Conv2d(channels, width, patch_size, stride=patch_size, **options)
        lead = () if flat else (1,)

        def draw(name: str, *shape: int) -> Parameter:
            return Parameter(current().asarray(init.normal(shape, std=0.02, dtype=dtype, generator=generator)), name)

        self.cls_token = draw("cls_token", *lead, *lead, width)
        self.positions = draw("positions", *lead, 1 + self.side**2, width)
        self.register_tokens = draw("register_tokens", 1, registers, width) if registers else None

    def forward(self, x: Array) -> Array:
        """Return the tokens, (N, 1 + R + h w, C), of images (N, channels, H, W)."""
        rows, columns = self.grid(getattr(x, "shape", ()))
        z = self.projection.forward(x)  # (N, C, h, w)
        places, cache = self._positions(rows, columns)  # (1 + h w, C)
        patches, first = z.reshape((len(z), self.width, rows * columns)).transpose((0, 2, 1)), 1 + self.registers
        y = namespace(z).empty((len(z), first + rows * columns, self.width), dtype=z.dtype)  # (N, T, C)
        y[:, 0] = self.cls_token.value.reshape(self.width) + places[0]
        if self.register_tokens is not None:
            y[:, 1:first] = self.register_tokens.value
        namespace(z).add(patches, places[1:], out=y[:, first:])
        self._remember((rows, columns, cache))
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return the gradient of the images; that of positions and tokens is the sum over the batch."""
        rows, columns, cache = self._remembered()
        first = 1 + self.registers
        total = dy.sum(axis=0)  # (T, C)
        if self.cls_token.trainable:
            self.cls_token.accumulate(total[0].reshape(self.cls_token.shape))
        if self.register_tokens is not None:
            self.register_tokens.accumulate(total[None, 1:first])
        self._positions_backward(total[0], total[first:], cache)
        dz = dy[:, first:].transpose((0, 2, 1)).reshape((len(dy), self.width, rows, columns))  # (N, C, h, w)
        return self.projection.backward(namespace(dz).ascontiguousarray(dz), input_gradient)

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return h and w, the rows and columns of patches in images of this shape.

        Raises
        ------
        ShapeError
            If they are not images that consist of whole patches.
        """
        size = self.patch_size
        if len(shape) != 4 or shape[1] != self.channels or any(n < size or n % size for n in shape[2:]):
            raise ShapeError(
                f"PatchEmbedding: expected images of shape (N, {self.channels}, H, W) with H and W multiples of {size}, the side "
                f"of a patch, got {shape}"
            )
        return shape[2] // size, shape[3] // size

    def _positions(self, rows: int, columns: int) -> tuple[Array, Any]:
        """Return the positions for a grid, (1 + h w, C), and the cache of the interpolation, None if there was none."""
        table, side = self.positions.value.reshape((-1, self.width)), self.side
        if rows == columns == side:
            return table, None
        grid = table[1:].T.reshape((1, self.width, side, side))
        places, cache = current().upsample_bicubic(grid, (rows, columns), None, False, self.antialias)  # (1, C, h, w)
        patches = places.reshape((self.width, rows * columns)).T
        return namespace(table).concatenate([table[:1], patches]), cache

    def _positions_backward(self, dclass: Array, dpatches: Array, cache: Any) -> None:
        if not self.positions.trainable:
            return
        if cache is not None:
            shape = (1, self.width, *(scale.after for scale in cache[2]))
            dplaces = namespace(dpatches).ascontiguousarray(dpatches.T).reshape(shape)  # (1, C, h, w)
            dpatches = current().upsample_bicubic_backward(dplaces, cache).reshape((self.width, -1)).T
        gradient = namespace(dclass).concatenate([dclass[None], dpatches])  # (1 + h w, C)
        self.positions.accumulate(gradient.reshape(self.positions.shape))

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.side * self.patch_size}, {self.patch_size}, {self.channels}, {self.width}"


class GatedFeedForward(Layer):
    """The feed-forward part of large DINOv2 models: weights_out(silu(a) b), with (a, b) = weights_in(x) in halves.

    It is :class:`minidl.layers.SwiGLU` with its first two maps in one matrix, as the published files hold them.
    """

    _live = ()

    def __init__(self, width: int, hidden: int, dtype: Any, generator: Any) -> None:
        super().__init__()
        self.hidden = hidden
        self.weights_in = Linear(width, 2 * hidden, dtype=dtype, generator=generator)
        self.act = SiLU()
        self.weights_out = Linear(hidden, width, dtype=dtype, generator=generator)

    def forward(self, x: Array) -> Array:
        """Return y for x, (N, T, C)."""
        z = self.weights_in.forward(x)  # (N, T, 2 F)
        gate, other = self.act.forward(z[..., : self.hidden]), z[..., self.hidden :]
        self._remember((gate, other))
        return self.weights_out.forward(gate * other)

    def backward(self, dy: Array) -> Array:
        """Return dx, through the gate and the other half at once."""
        gate, other = self._remembered()
        dh = self.weights_out.backward(dy)  # (N, T, F)
        dgate = self.act.backward(dh * other)
        return self.weights_in.backward(namespace(dh).concatenate([dgate, dh * gate], axis=-1))  # type: ignore[return-value]


class Block(Layer):
    """One block of the encoder, figure 1, right: x + attention(norm1(x)), and then x + mlp(norm2(x)).

    Parameters
    ----------
    width, heads, hidden : int
        C, H and the features between the maps of ``mlp``.
    activation : str, default "gelu"
        Of ``mlp``: one of :data:`ACTIVATIONS`.
    eps : float, default 1e-6
        Of the norms.
    dropout : float, default 0.0
        After each part.
    attention_dropout : float, default 0.0
        Of the weights of attention.
    layer_scale : float, optional
        The initial scale of each part; without it there is none.
    gated : bool, default False
        Whether ``mlp`` is a gated pair of maps, with SiLU.
    causal : bool, default False
        Whether a token sees only those before it, as in CLIP's text.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
    """

    _live = ()

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        activation: str = "gelu",
        eps: float = 1e-6,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_scale: float | None = None,
        gated: bool = False,
        causal: bool = False,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "generator": generator}
        self.causal = causal
        self.norm1 = LayerNorm(width, eps, dtype=dtype)
        self.attention = MultiheadAttention(width, heads, attention_dropout, **options)
        self.scale1 = None if layer_scale is None else LayerScale(width, layer_scale, dtype=dtype)
        self.norm2 = LayerNorm(width, eps, dtype=dtype)
        self.mlp: Layer
        if gated:
            self.mlp = GatedFeedForward(width, hidden, dtype, generator)
        else:
            fc1, fc2 = Linear(width, hidden, **options), Linear(hidden, width, **options)
            self.mlp = Chain({"fc1": fc1, "act": ACTIVATIONS[activation](), "fc2": fc2})
        self.scale2 = None if layer_scale is None else LayerScale(width, layer_scale, dtype=dtype)
        self.dropouts = [Dropout(dropout, generator=generator) for _ in range(2)]

    def forward(self, x: Array) -> Array:
        """Return y for x, (N, T, C)."""
        x = x + self._end(0, self.attention.forward(self.norm1.forward(x), is_causal=self.causal))
        return x + self._end(1, self.mlp.forward(self.norm2.forward(x)))

    def backward(self, dy: Array) -> Array:
        """Return dx: each residual path hands its gradient on, and its part adds its own."""
        dy = dy + self.norm2.backward(self.mlp.backward(self._end_backward(1, dy)))
        return dy + self.norm1.backward(self.attention.backward(self._end_backward(0, dy)))

    def parts(self) -> BlockParts | None:
        """Return what the block is made of; None if it has a scale or a gate."""
        if self.scale1 is not None or not isinstance(self.mlp, Chain):
            return None
        attention, (drop, again) = self.attention, self.dropouts
        dropouts = ((attention, attention.dropout), (drop, drop.p), (again, again.p))
        maps = ((attention.in_proj_weight, attention.in_proj_bias), attention.out_proj)
        return BlockParts((self.norm1, self.norm2), maps, self.mlp, attention.num_heads, True, self.causal, dropouts)

    def _end(self, part: int, y: Array) -> Array:
        """Return what a part adds: its output scaled, some of it dropped."""
        scale = (self.scale1, self.scale2)[part]
        return self.dropouts[part].forward(y if scale is None else scale.forward(y))

    def _end_backward(self, part: int, dy: Array) -> Array:
        scale, dy = (self.scale1, self.scale2)[part], self.dropouts[part].backward(dy)
        return dy if scale is None else scale.backward(dy)


def read_side(settings: Settings, name: str, default: int, model: str) -> int:
    """Return a side in pixels from config.json, where it may be a number or two equal ones.

    Raises
    ------
    ParameterError
        If it is something else, such as the sides of an oblong.
    """
    value = settings.get(name, default)
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ParameterError(f"{model}: config.json has {name} = {value!r}; minidl has squares, such as {default}")
    return value
