"""The blocks of the Transformer, encoder and decoder, with the norms after or before each part, as PyTorch has them."""

from __future__ import annotations

import copy
from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers.activation import activation as find_activation
from minidl.layers.attention import MultiheadAttention
from minidl.layers.base import Layer
from minidl.layers.chain import Chain
from minidl.layers.dropout import Dropout
from minidl.layers.freezing import FirstTrained
from minidl.layers.linear import Linear
from minidl.layers.norm import LayerNorm
from minidl.ops import Array
from minidl.ops._scalars import depth

__all__ = ["TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer"]


class _Block(Layer):
    """What encoder and decoder layers share: the feed-forward part, and how a part, its dropout and its norm are put together."""

    _live = ()
    _not_parts = ("_feed_forward",)
    attentions: tuple[str, ...]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.batch_first, self.norm_first = batch_first, norm_first
        # The parts are made in PyTorch's order and have its names.
        if not 0.0 <= dropout <= 1.0:
            raise ParameterError(f"{type(self).__name__}: dropout must be from 0 to 1, got {dropout!r}")
        affine: dict[str, Any] = {"bias": bias, "dtype": dtype, "generator": generator}
        for name in self.attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **affine))
        self.linear1 = Linear(d_model, dim_feedforward, **affine)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, **affine)
        for number in range(1, len(self.attentions) + 2):
            setattr(self, f"norm{number}", LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype))
        for number in range(1, len(self.attentions) + 2):
            setattr(self, f"dropout{number}", Dropout(dropout, generator=generator))
        self.activation: Any = find_activation(activation) if isinstance(activation, str) else activation
        self._feed_forward = Chain(self.linear1, self.activation, self.dropout, self.linear2)

    def _add(self, number: int, x: Array, part: Any) -> Array:
        """Return x + dropout(part(norm(x))), or norm(x + dropout(part(x))) with the norm after it."""
        norm, dropout = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
        if self.norm_first:
            return x + dropout.forward(part(norm.forward(x)))
        return norm.forward(x + dropout.forward(part(x)))

    def _back(self, number: int, dy: Array, part: Any) -> Array:
        """Return dx: the residual path hands dy on, and the part adds its own."""
        norm, dropout = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
        if self.norm_first:
            return dy + norm.backward(part(dropout.backward(dy)))
        dsum = norm.backward(dy)
        return dsum + part(dropout.backward(dsum))


class TransformerEncoderLayer(_Block):  # numpydoc ignore=PR02
    """Self-attention and a feed-forward block, each with a residual path and a norm.

    With the norms after the parts, as in the paper::

        h = norm1(x + dropout(self_attn(x)))
        y = norm2(h + dropout(feed_forward(h)))

    and with ``norm_first``, as GPT-2 has it, which trains deep models without warm-up::

        h = x + dropout(self_attn(norm1(x)))
        y = h + dropout(feed_forward(norm2(h)))

    where feed_forward(h) = linear2(dropout(activation(linear1(h)))).

    Parameters
    ----------
    d_model : int
        C.
    nhead : int
        The heads of attention; must divide C.
    dim_feedforward : int, default 2048
    dropout : float, default 0.1
    activation : str or layer, default "relu"
    layer_norm_eps : float, default 1e-5
    batch_first : bool, default True
        Whether inputs have shape (N, T, C); with False (T, N, C).
    norm_first : bool, default False
    bias : bool, default True
        Whether maps and norms have a bias.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, figure 1, left.
    Norms first: R. Xiong et al., "On layer normalization in the Transformer architecture", ICML 2020.

    Examples
    --------
    >>> layer = TransformerEncoderLayer(8, 2, dim_feedforward=16)
    >>> x = numpy.ones((3, 5, 8), "float32")
    >>> layer.forward(x).shape, layer.backward(x).shape
    ((3, 5, 8), (3, 5, 8))
    """

    attentions = ("self_attn",)
    self_attn: MultiheadAttention

    def forward(
        self,
        src: Array,
        src_mask: Array | None = None,
        src_key_padding_mask: Array | None = None,
        is_causal: bool = False,
    ) -> Array:
        """Return y, (N, T, C).

        Parameters
        ----------
        src : array, shape (N, T, C)
        src_mask, src_key_padding_mask : array, optional
            As ``attn_mask`` and ``key_padding_mask`` of ``MultiheadAttention``.
        is_causal : bool, default False
        """

        def attend(x: Array) -> Array:
            return self.self_attn.forward(x, None, None, src_key_padding_mask, False, src_mask, True, is_causal)

        return self._add(2, self._add(1, src, attend), self._feed_forward.forward)

    def backward(self, dy: Array) -> Array:
        """Return the gradient of src."""
        return self._back(1, self._back(2, dy, self._feed_forward.backward), self.self_attn.backward)


class TransformerDecoderLayer(_Block):  # numpydoc ignore=PR02
    """Self-attention, cross-attention to a memory, and a feed-forward block, each with a residual path and a norm.

    With the norms after the parts::

        h = norm1(x + dropout(self_attn(x)))
        g = norm2(h + dropout(multihead_attn(h, memory)))
        y = norm3(g + dropout(feed_forward(g)))

    ``norm_first`` moves them before the parts, as in :class:`TransformerEncoderLayer`, whose arguments these are. ``backward``
    returns the gradients of ``tgt`` and of the memory, which takes part in nothing but cross-attention.

    Parameters
    ----------
    d_model, nhead : int
    dim_feedforward : int, default 2048
    dropout : float, default 0.1
    activation : str or layer, default "relu"
    layer_norm_eps : float, default 1e-5
    batch_first : bool, default True
    norm_first : bool, default False
    bias : bool, default True
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, figure 1, right.

    Examples
    --------
    >>> layer = TransformerDecoderLayer(8, 2, dim_feedforward=16)
    >>> x, memory = numpy.ones((3, 5, 8), "float32"), numpy.ones((3, 4, 8), "float32")
    >>> y = layer.forward(x, memory, tgt_is_causal=True)
    >>> [gradient.shape for gradient in layer.backward(y)]
    [(3, 5, 8), (3, 4, 8)]
    """

    attentions = ("self_attn", "multihead_attn")
    self_attn: MultiheadAttention
    multihead_attn: MultiheadAttention

    def forward(  # type: ignore[override]
        self,
        tgt: Array,
        memory: Array,
        tgt_mask: Array | None = None,
        memory_mask: Array | None = None,
        tgt_key_padding_mask: Array | None = None,
        memory_key_padding_mask: Array | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Array:
        """Return y, (N, T, C).

        Parameters
        ----------
        tgt : array, shape (N, T, C)
        memory : array, shape (N, S, C)
        tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask : array, optional
            As ``attn_mask`` and ``key_padding_mask`` of ``MultiheadAttention``, of either attention.
        tgt_is_causal, memory_is_causal : bool, default False
        """

        def attend(x: Array) -> Array:
            return self.self_attn.forward(x, None, None, tgt_key_padding_mask, False, tgt_mask, True, tgt_is_causal)

        def look(x: Array) -> Array:
            masks = memory_key_padding_mask, False, memory_mask, True, memory_is_causal
            return self.multihead_attn.forward(x, memory, None, *masks)

        return self._add(3, self._add(2, self._add(1, tgt, attend), look), self._feed_forward.forward)

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Return the gradients of tgt and memory."""
        found = []

        def look_back(d: Array) -> Array:
            dx, dmemory = self.multihead_attn.backward(d)
            found.append(dmemory)
            return dx

        dg = self._back(3, dy, self._feed_forward.backward)
        dx = self._back(1, self._back(2, dg, look_back), self.self_attn.backward)
        return dx, found[0]

    def forward_with_state(self, x: Array, state: Any = None) -> tuple[Array, Any]:
        """Return y for further positions of ``tgt``, and the state after them; nothing is kept for backward.

        Parameters
        ----------
        x : array, shape (N, T, C)
        state : tuple
            The keys and values of the positions so far or None, those of the memory, and the padding mask of the memory or
            None.
        """
        own, memory, padding = state
        after = []

        def attend(h: Array) -> Array:
            y, kept = self.self_attn.forward_with_state(h, own)
            after.append(kept)
            return y

        def look(h: Array) -> Array:
            return self.multihead_attn.attend_to(h, memory, padding)

        y = self._add(3, self._add(2, self._add(1, x, attend), look), self._feed_forward.forward)
        return y, (after[0], memory, padding)


class TransformerEncoder(Layer):
    """Encoder layers one after another, and a norm at the end if one is given.

    Parameters
    ----------
    encoder_layer : TransformerEncoderLayer
        Copied ``num_layers`` times. The copies begin with the same weights, as in PyTorch.
    num_layers : int
    norm : LayerNorm, optional
        After the last layer; usual with ``norm_first``.

    Examples
    --------
    >>> encoder = TransformerEncoder(TransformerEncoderLayer(8, 2, 16), num_layers=2)
    >>> encoder.forward(numpy.ones((3, 5, 8), "float32")).shape
    (3, 5, 8)
    >>> list(encoder.state_dict())[:2]
    ['layers.0.self_attn.in_proj_weight', 'layers.0.self_attn.in_proj_bias']
    """

    input_gradient_optional = True

    _told_by_parts = True

    def _made_from(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"encoder_layer": self.layers[0], "num_layers": len(self.layers), "norm": self.norm}

    def __init__(self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Any = None) -> None:
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.norm = norm
        self._first = FirstTrained()

    def forward(
        self,
        src: Array,
        mask: Array | None = None,
        src_key_padding_mask: Array | None = None,
        is_causal: bool = False,
    ) -> Array:
        """Return the output of the last layer, (N, T, C); the masks are those of every layer."""
        for layer in self.layers:
            src = layer.forward(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm.forward(src)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return the gradient of src; with ``input_gradient=False`` end at the first layer that is trained, and return None."""
        parts = [*self.layers, *([] if self.norm is None else [self.norm])]
        for part in reversed(parts if input_gradient else parts[self._first.among(parts) :]):
            dy = part.backward(dy)
        return dy if input_gradient else None


class TransformerDecoder(Layer):
    """Decoder layers one after another, and a norm at the end if one is given.

    Parameters
    ----------
    decoder_layer : TransformerDecoderLayer
        Copied ``num_layers`` times; see :class:`TransformerEncoder`.
    num_layers : int
    norm : LayerNorm, optional

    Examples
    --------
    >>> decoder = TransformerDecoder(TransformerDecoderLayer(8, 2, 16), num_layers=2)
    >>> x, memory = numpy.ones((3, 5, 8), "float32"), numpy.ones((3, 4, 8), "float32")
    >>> decoder.forward(x, memory, tgt_is_causal=True).shape
    (3, 5, 8)
    """

    _told_by_parts = True

    def _made_from(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"decoder_layer": self.layers[0], "num_layers": len(self.layers), "norm": self.norm}

    def __init__(self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: Any = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.norm = norm

    def forward(  # type: ignore[override]
        self,
        tgt: Array,
        memory: Array,
        tgt_mask: Array | None = None,
        memory_mask: Array | None = None,
        tgt_key_padding_mask: Array | None = None,
        memory_key_padding_mask: Array | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Array:
        """Return the output of the last layer, (N, T, C); memory and masks are those of every layer."""
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal, memory_is_causal
        for layer in self.layers:
            tgt = layer.forward(tgt, memory, *masks)
        return tgt if self.norm is None else self.norm.forward(tgt)

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Return the gradients of tgt and memory; that of the memory is the sum over the layers."""
        dy = dy if self.norm is None else self.norm.backward(dy)
        total = None
        for layer in reversed(self.layers):
            dy, dmemory = layer.backward(dy)
            total = dmemory if total is None else total + dmemory
        return dy, total

    def state_of(self, memory: Array, memory_key_padding_mask: Array | None = None) -> list[Any]:
        """Return the state for :meth:`forward_with_state` at the first position: what each layer needs of the memory."""
        return [(None, layer.multihead_attn.keys_and_values(memory), memory_key_padding_mask) for layer in self.layers]

    def forward_with_state(self, x: Array, state: Any = None) -> tuple[Array, list[Any]]:
        """Return the output for further positions, and the state after them; nothing is kept for backward.

        Parameters
        ----------
        x : array, shape (N, T, C)
        state : list
            From :meth:`state_of`, or from the last call.
        """
        after = []
        for layer, own in zip(self.layers, state, strict=True):
            x, kept = layer.forward_with_state(x, own)
            after.append(kept)
        return (x if self.norm is None else self.norm.forward(x)), after


def _copies(layer: Any, count: int) -> list[Any]:
    return [copy.deepcopy(layer) for _ in range(depth(count, type(layer).__name__.removesuffix("Layer"), "num_layers"))]
