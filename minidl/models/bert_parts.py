"""The parts of BERT: its sizes, the embeddings, the attention and the block."""

from __future__ import annotations

import dataclasses
from typing import Any

from minidl import random
from minidl.engines import current
from minidl.layers import GELU, Chain, Dropout, Embedding, Layer, LayerNorm, Linear, ReLU
from minidl.layers.attention import join_heads, merge_heads, split_heads
from minidl.layers.fusion import BlockParts
from minidl.ops import Array, namespace
from minidl.ops.attention import attention_weights

__all__ = ["ACTIVATIONS", "HEADS", "BERTConfig", "Block", "Embeddings", "SelfAttention"]

HEADS = {
    "Model": "features",
    "ForMaskedLM": "masked_lm",
    "ForSequenceClassification": "sequence_classification",
    "ForTokenClassification": "token_classification",
    "ForQuestionAnswering": "question_answering",
}
"""The head of each architecture, by the end of its name in config.json."""
ACTIVATIONS: dict[str, Any] = {
    "gelu": GELU,
    "gelu_new": lambda: GELU("tanh"),
    "gelu_pytorch_tanh": lambda: GELU("tanh"),
    "relu": ReLU,
}
"""The activation for each ``hidden_act`` of a config.json."""


@dataclasses.dataclass(frozen=True)
class BERTConfig:
    """The sizes and the head of a BERT; the defaults are those of BERT-base.

    Attributes
    ----------
    vocab_size : int, default 30522
        V, the number of tokens.
    context : int, default 512
        The longest sequence.
    layers : int, default 12
    heads : int, default 12
    width : int, default 768
        C, the features of each position.
    hidden : int, default 3072
        The width between the two maps of the feed-forward part.
    token_types : int, default 2
        How many kinds of segments there are; 0 for none, as in DistilBERT.
    activation : str, default "gelu"
        Of the feed-forward part; also "gelu_new" (the tanh approximation) and "relu".
    layer_norm_eps : float, default 1e-12
    dropout, attention_dropout, head_dropout : float, default 0.1
        After embeddings and parts, in attention, and in the head.
    padding_idx : int or None, default 0
        The id that fills up short sequences.
    positions_skip_padding : bool, default False
        Whether positions count the tokens that are not ``padding_idx``, from ``padding_idx + 1`` on, as in RoBERTa.
    head : str, default "features"
        Or "masked_lm", "sequence_classification", "token_classification" or "question_answering".
    labels : int, default 2
        K, the classes of a classification.
    head_activation : str, default "tanh"
        Of the map before a classification: "tanh" or "relu".
    masked_lm_activation : str, default "gelu"
        Of the map before the vocabulary.
    tied : bool, default True
        Whether the last map of "masked_lm" is the table of the words.
    """

    vocab_size: int = 30522
    context: int = 512
    layers: int = 12
    heads: int = 12
    width: int = 768
    hidden: int = 3072
    token_types: int = 2
    activation: str = "gelu"
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float = 0.1
    padding_idx: int | None = 0
    positions_skip_padding: bool = False
    head: str = "features"
    labels: int = 2
    head_activation: str = "tanh"
    masked_lm_activation: str = "gelu"
    tied: bool = True


class Embeddings(Layer):
    """The sum of three vectors, of the word, its position and its segment's type; then a norm and dropout."""

    _live = ()
    integer_inputs = True

    def __init__(self, config: BERTConfig, dtype: Any, generator: Any) -> None:
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "generator": generator}
        first = config.padding_idx + 1 if config.positions_skip_padding and config.padding_idx is not None else 0
        self.first = first
        self.words = Embedding(config.vocab_size, config.width, config.padding_idx, **options)
        self.positions = Embedding(config.context + first, config.width, first - 1 if first else None, **options)
        self.types = Embedding(config.token_types, config.width, **options) if config.token_types else None
        self.norm = LayerNorm(config.width, config.layer_norm_eps, dtype=dtype)
        self.dropout = Dropout(config.dropout, generator=generator)

    def forward(self, ids: Array, types: Array | None = None) -> Array:  # type: ignore[override]
        """Return x, (N, T, C), for ids and the types of their segments, (N, T); all types are 0 by default."""
        xp = namespace(ids)
        x = self.words.forward(ids)  # (N, T, C)
        x = x + self.positions.forward(self._positions(ids))
        if self.types is not None:
            x = x + self.types.forward(xp.zeros((1, 1), dtype="int64") if types is None else types)
        return self.dropout.forward(self.norm.forward(x))

    def _positions(self, ids: Array) -> Array:
        """Return the numbers of the positions, (1, T), or (N, T) where padding is not counted."""
        xp = namespace(ids)
        if not self.first:
            return xp.arange(ids.shape[1])[None]
        tokens = (ids != self.first - 1).astype("int64")
        return tokens.cumsum(axis=1) * tokens + self.first - 1

    def backward(self, dy: Array) -> None:
        """Add to the gradients of the tables; a row that is added to several positions gets the sum over them."""
        dx: Any = self.norm.backward(self.dropout.backward(dy))
        self.words.backward(dx)
        self.positions.backward(dx if self.first else dx.sum(axis=0, keepdims=True))
        if self.types is not None:
            given = self.types._remembered()[0].shape == dx.shape[:2]
            self.types.backward(dx if given else dx.sum(axis=(0, 1), keepdims=True))


class SelfAttention(Layer):
    """Each position looks at all that are no padding: one map makes queries, keys and values of all heads."""

    _live = ()

    def __init__(self, config: BERTConfig, dtype: Any, generator: Any) -> None:
        super().__init__()
        self.heads, self.rate, self.generator = config.heads, config.attention_dropout, generator
        self.qkv = Linear(config.width, 3 * config.width, dtype=dtype, generator=generator)
        self.out = Linear(config.width, config.width, dtype=dtype, generator=generator)

    def forward(self, x: Array, mask: Array | None = None) -> Array:  # type: ignore[override]
        """Return y for x, (N, T, C); the mask, (N, 1, 1, T), is True for keys that may be looked at."""
        width = x.shape[2]
        z = self.qkv.forward(x)  # (N, T, 3 C)
        q, k, v = (split_heads(z[..., i * width : (i + 1) * width], self.heads) for i in range(3))  # (N, H, T, D)
        p = self.rate if self.training else 0.0
        source = (self.generator or random.generator()) if p else None
        y, cache = current().scaled_dot_product_attention(q, k, v, mask, p, False, random=source)
        self._remember(cache)
        return self.out.forward(merge_heads(y))  # (N, T, C)

    def backward(self, dy: Array) -> Array:
        """Return dx, through queries, keys and values at once."""
        d = split_heads(self.out.backward(dy), self.heads)  # (N, H, T, D)
        parts = current().scaled_dot_product_attention_backward(d, self._remembered())
        return self.qkv.backward(join_heads(list(parts)))

    def weights(self) -> Array:
        """Return the weights of the last forward, (N, H, T, T), before dropout; each row sums to 1."""
        return attention_weights(self._remembered())


class Block(Layer):
    """One block: h = norm1(x + attention(x)), and then y = norm2(h + feed_forward(h))."""

    _live = ()

    def __init__(self, config: BERTConfig, dtype: Any, generator: Any) -> None:
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "generator": generator}
        width, hidden = config.width, config.hidden
        self.attention = SelfAttention(config, dtype, generator)
        self.norm1 = LayerNorm(width, config.layer_norm_eps, dtype=dtype)
        self.feed_forward = Chain(
            {
                "linear1": Linear(width, hidden, **options),
                "activation": ACTIVATIONS[config.activation](),
                "linear2": Linear(hidden, width, **options),
            }
        )
        self.norm2 = LayerNorm(width, config.layer_norm_eps, dtype=dtype)
        self.dropouts = [Dropout(config.dropout, generator=generator) for _ in range(2)]

    def forward(self, x: Array, mask: Array | None = None) -> Array:  # type: ignore[override]
        """Return y for x, (N, T, C)."""
        h = self.norm1.forward(x + self.dropouts[0].forward(self.attention.forward(x, mask)))
        return self.norm2.forward(h + self.dropouts[1].forward(self.feed_forward.forward(h)))

    def backward(self, dy: Array) -> Array:
        """Return dx: each residual path hands its gradient on, and its part adds its own."""
        dh = self.norm2.backward(dy)
        dh = dh + self.feed_forward.backward(self.dropouts[1].backward(dh))
        dx = self.norm1.backward(dh)
        return dx + self.attention.backward(self.dropouts[0].backward(dx))

    def parts(self) -> BlockParts:
        """Return what the block is made of."""
        attention, (drop, again) = self.attention, self.dropouts
        dropouts = ((attention, attention.rate), (drop, drop.p), (again, again.p))
        maps = (attention.qkv, attention.out)
        return BlockParts((self.norm1, self.norm2), maps, self.feed_forward, attention.heads, False, False, dropouts)
