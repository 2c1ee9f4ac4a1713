"""GPT-2: a language model of Transformer blocks that see only what came before.

ids -> wte + wpe -> [ x + attn(ln_1(x)) -> x + mlp(ln_2(x)) ] times layers -> ln_f -> lm_head -> logits
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy

from minidl import init, random
from minidl.engines import current
from minidl.errors import ParameterError, ShapeError, UnknownNameError
from minidl.layers import GELU, Chain, Dropout, Embedding, Layer, LayerNorm, LearnedPositions, Linear
from minidl.layers.attention import join_heads, merge_heads, split_heads, split_joint
from minidl.layers.base import Shape
from minidl.layers.freezing import FirstTrained
from minidl.layers.fusion import BlockParts, run_block, step_block
from minidl.layers.key_values import KeyValues
from minidl.models.initial import redraw
from minidl.models.pretrained import Settings, change_settings, require
from minidl.ops import Array
from minidl.ops._scalars import depth
from minidl.training import Trainable

__all__ = ["GPT2", "GPT2Config"]

SIZES = {
    "nano": (4, 4, 128),
    "baby": (6, 6, 384),
    "124M": (12, 12, 768),
    "355M": (24, 16, 1024),
    "774M": (36, 20, 1280),
    "1558M": (48, 25, 1600),
}
"""Layers, heads and width by name; those from 124M on are OpenAI's."""


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """The sizes of a GPT-2; the defaults are those of the published model of 124 million parameters.

    Attributes
    ----------
    vocab_size : int, default 50257
        V, the number of tokens.
    context : int, default 1024
        The longest sequence.
    layers : int, default 12
    heads : int, default 12
    width : int, default 768
        C, the features of each position.
    dropout : float, default 0.1
        After the embeddings, in attention, and after each part.
    tied : bool, default True
        Whether the last map is the table of the first.

    Examples
    --------
    >>> GPT2Config.named("nano", vocab_size=65)
    GPT2Config(vocab_size=65, context=1024, layers=4, heads=4, width=128, dropout=0.1, tied=True)
    """

    vocab_size: int = 50257
    context: int = 1024
    layers: int = 12
    heads: int = 12
    width: int = 768
    dropout: float = 0.1
    tied: bool = True

    @classmethod
    def named(cls, name: str, **changes: Any) -> GPT2Config:
        """Return the configuration of a size: nano, baby, 124M, 355M, 774M or 1558M; with some settings changed."""
        if name not in SIZES:
            raise UnknownNameError.among("size of GPT-2", name, SIZES)
        layers, heads, width = SIZES[name]
        return cls(**{"layers": layers, "heads": heads, "width": width, **changes})


class CausalSelfAttention(Layer):
    """Each position looks at itself and those before it: one map makes queries, keys and values of all heads."""

    _live = ()

    def __init__(self, width: int, heads: int, dropout: float, dtype: Any, generator: Any) -> None:
        super().__init__()
        self.width, self.heads, self.attn_dropout, self.generator = width, heads, dropout, generator
        self.c_attn = Linear(width, 3 * width, dtype=dtype, generator=generator)
        self.c_proj = Linear(width, width, dtype=dtype, generator=generator)

    def _attend(self, x: Array, before: KeyValues | None) -> tuple[Array, KeyValues | None]:
        if before is not None:
            before.check(x.shape[0], self.heads, self.width // self.heads, self)
        q, k, v = split_joint(self.c_attn.forward(x), self.heads)  # each (N, H, T, D)
        after, offset = None, 0
        if before is not None:
            after, offset = before.append(k, v), before.length
            k, v = after.keys, after.values
        p = self.attn_dropout if self.training else 0.0
        source = (self.generator or random.generator()) if p else None
        y, cache = current().scaled_dot_product_attention(q, k, v, None, p, True, offset=offset, random=source)
        self._remember(cache if offset == 0 else None)
        return self.c_proj.forward(merge_heads(y)), after  # (N, T, C)

    def forward(self, x: Array) -> Array:
        """Return y for x, (N, T, C)."""
        return self._attend(x, None)[0]

    def backward(self, dy: Array) -> Array:
        """Return dx, through queries, keys and values at once."""
        d = split_heads(self.c_proj.backward(dy), self.heads)  # (N, H, T, D)
        parts = current().scaled_dot_product_attention_backward(d, self._remembered())
        return self.c_attn.backward(join_heads(list(parts)))

    def forward_with_state(self, x: Array, state: KeyValues | None = None) -> tuple[Array, KeyValues | None]:
        """Return y for further positions, and the state with their keys and values."""
        return self._attend(x, KeyValues() if state is None else state)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.width}, heads={self.heads}"


class Block(Layer):
    """One block: x + attn(ln_1(x)), and then x + mlp(ln_2(x))."""

    _live = ()

    def __init__(self, config: GPT2Config, dtype: Any, generator: Any) -> None:
        super().__init__()
        width = config.width
        self.ln_1 = LayerNorm(width, dtype=dtype)
        self.attn = CausalSelfAttention(width, config.heads, config.dropout, dtype, generator)
        self.ln_2 = LayerNorm(width, dtype=dtype)
        self.mlp = Chain(
            {
                "c_fc": Linear(width, 4 * width, dtype=dtype, generator=generator),
                "act": GELU("tanh"),
                "c_proj": Linear(4 * width, width, dtype=dtype, generator=generator),
            }
        )
        self.dropouts = [Dropout(config.dropout, generator=generator) for _ in range(2)]

    def forward(self, x: Array) -> Array:
        """Return y for x, (N, T, C)."""
        x = x + self.dropouts[0].forward(self.attn.forward(self.ln_1.forward(x)))
        return x + self.dropouts[1].forward(self.mlp.forward(self.ln_2.forward(x)))

    def backward(self, dy: Array) -> Array:
        """Return dx: each residual path hands its gradient on, and its part adds its own."""
        dy = dy + self.ln_2.backward(self.mlp.backward(self.dropouts[1].backward(dy)))
        return dy + self.ln_1.backward(self.attn.backward(self.dropouts[0].backward(dy)))

    def forward_with_state(self, x: Array, state: KeyValues | None = None) -> tuple[Array, KeyValues | None]:
        """Return y for further positions, and the state of the attention."""
        y, after = self.attn.forward_with_state(self.ln_1.forward(x), state)
        x = x + self.dropouts[0].forward(y)
        return x + self.dropouts[1].forward(self.mlp.forward(self.ln_2.forward(x))), after

    def parts(self) -> BlockParts:
        """Return what the block is made of."""
        attn, (drop, again) = self.attn, self.dropouts
        dropouts = ((attn, attn.attn_dropout), (drop, drop.p), (again, again.p))
        return BlockParts(
            (self.ln_1, self.ln_2), (attn.c_attn, attn.c_proj), self.mlp, attn.heads, True, True, dropouts
        )


class Trunk(Layer):
    """All but the last map: embeddings, blocks and a norm."""

    _live = ()
    integer_inputs = True

    def __init__(self, config: GPT2Config, dtype: Any, generator: Any) -> None:
        super().__init__()
        self.wte = Embedding(config.vocab_size, config.width, dtype=dtype, generator=generator)
        self.wpe = LearnedPositions(config.context, config.width, dtype=dtype, generator=generator)
        self.drop = Dropout(config.dropout, generator=generator)
        self.h = [Block(config, dtype, generator) for _ in range(depth(config.layers, "GPT2", "layers"))]
        self.ln_f = LayerNorm(config.width, dtype=dtype)
        self._first = FirstTrained()

    def forward(self, x: Array) -> Array:
        """Return the features of each position, (N, T, C), for ids, (N, T)."""
        x = self.drop.forward(self.wpe.forward(self.wte.forward(x)))  # (N, T, C)
        for block in self.h:
            x = run_block(block, x)
        return self.ln_f.forward(x)

    def backward(self, dy: Array) -> None:
        """Add to all gradients, down to the first part that is trained; ids have none."""
        parts = [self.wte, self.wpe, *self.h, self.ln_f]
        for part in reversed(parts[max(self._first.among(parts), 2) :]):
            dy = part.backward(dy)
        if self._first.among(parts) < 2:
            self.wte.backward(self.wpe.backward(self.drop.backward(dy)))

    def forward_with_state(self, x: Array, state: Any = None) -> tuple[Array, tuple[KeyValues, ...]]:
        """Return the features of further positions, and the states of all blocks."""
        state = (None,) * len(self.h) if state is None else state
        offset = 0 if state[0] is None else state[0].length
        x = self.drop.forward(self.wpe.forward(self.wte.forward(x), offset))  # (N, T, C)
        after = []
        for block, before in zip(self.h, state, strict=True):
            x, kept = step_block(block, x, before)
            assert kept is not None
            after.append(kept)
        return self.ln_f.forward(x), tuple(after)


class GPT2(Trainable, Layer):
    """GPT-2, from 4 layers for a laptop to the published sizes.

    ``forward(ids)`` returns the logits of the next token at each position. The names of the weights are those of Hugging Face's
    ``GPT2LMHeadModel``, such as ``transformer.h.0.attn.c_attn.weight``. Their layout is that of ``Linear``, (out, in), while
    Hugging Face's files hold these matrices as (in, out); :meth:`load_hugging_face` turns them.

    Parameters
    ----------
    config : GPT2Config or str, default "124M"
        The sizes, or the name of a size: nano, baby, 124M, 355M, 774M or 1558M.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.
    **changes
        Settings of the configuration that differ, such as ``vocab_size=65``.

    Attributes
    ----------
    config : GPT2Config
    context : int
        The longest sequence.
    transformer : Trunk
        With ``wte``, ``wpe``, ``h`` and ``ln_f``.
    lm_head : Linear
        Its weight is that of ``wte`` if the configuration says ``tied``; their gradients add up, and files hold it once.

    Raises
    ------
    ParameterError
        If the heads do not divide the width, or a setting is unknown.
    DataError
        From ``forward``, if an id is not in the vocabulary.
    ShapeError
        From ``forward``, if the sequence is longer than the context, or a state is that of another model or batch.

    Notes
    -----
    Initial weights are normal with standard deviation 0.02, that of maps before a residual sum 0.02 / sqrt(2 layers), and
    biases are 0.

    References
    ----------
    A. Radford et al., "Language models are unsupervised multitask learners" (2019), section 2.3.

    Examples
    --------
    >>> model = GPT2("nano", vocab_size=65, context=32)
    >>> ids = numpy.zeros((2, 5), dtype="int64")
    >>> model.forward(ids).shape
    (2, 5, 65)
    >>> logits, state = model.forward_with_state(ids)
    >>> logits, state = model.forward_with_state(ids[:, :1], state)  # one more token
    >>> logits.shape, state[0].length
    ((2, 1, 65), 6)
    """

    integer_inputs = True
    _live = ()

    def __init__(
        self,
        config: GPT2Config | str = "124M",
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        self.config = _read_config(config, changes)
        self.context = self.config.context
        self.transformer = Trunk(self.config, dtype, generator)
        width, vocabulary = self.config.width, self.config.vocab_size
        self.lm_head = Linear(width, vocabulary, bias=False, dtype=dtype, generator=generator)
        if self.config.tied:
            self.lm_head.weight = self.transformer.wte.weight
        self._initialise(generator)

    def _initialise(self, generator: Any) -> None:
        residual = 0.02 / math.sqrt(2 * max(self.config.layers, 1))
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.value[...] = 0
            elif parameter.value.ndim == 2:
                std = residual if name.endswith("c_proj.weight") else 0.02
                redraw(parameter, init.normal, generator, std=std)

    @classmethod
    def from_settings(cls, settings: Settings, *, dtype: Any = "float32") -> GPT2:
        """Build the model that a config.json of Hugging Face describes.

        Raises
        ------
        ParameterError
            If it asks for another activation, epsilon or scaling than GPT-2's, or for different dropouts.
        """
        width, rate = settings.get("n_embd", 768), settings.get("resid_pdrop", 0.1)
        allowed: dict[str, list[Any]] = {
            "activation_function": ["gelu_new", "gelu_pytorch_tanh"],
            "layer_norm_epsilon": [1e-5],
            "n_inner": [None, 4 * width],
            "attn_pdrop": [rate],
            "embd_pdrop": [rate],
            "scale_attn_weights": [True],
            "scale_attn_by_inverse_layer_idx": [False],
            "add_cross_attention": [False],
        }
        require(settings, allowed, "GPT2")
        config = GPT2Config(
            vocab_size=settings.get("vocab_size", 50257),
            context=settings.get("n_positions", 1024),
            layers=settings.get("n_layer", 12),
            heads=settings.get("n_head", 12),
            width=width,
            dropout=rate,
            tied=settings.get("tie_word_embeddings", True),
        )
        return cls(config, dtype=dtype)

    def forward(self, x: Array) -> Array:
        """Return logits, (N, T, V), for ids, (N, T)."""
        self._check(x, 0)
        return self.lm_head.forward(self.transformer.forward(x))

    def backward(self, dy: Array, input_gradient: bool = True) -> None:
        """Add to all gradients; ids have none, so None is returned."""
        self.transformer.backward(self.lm_head.backward(dy))

    def forward_with_state(self, x: Array, state: Any = None) -> tuple[Array, tuple[KeyValues, ...]]:
        """Return the logits of further tokens, and the key-value cache after them.

        Parameters
        ----------
        x : integer array, shape (N, T)
            The ids after those that the state knows.
        state : tuple of KeyValues, optional
            From the last call; None at the beginning.

        Returns
        -------
        logits : array, shape (N, T, V)
        state : tuple of KeyValues
            One for each layer. States that were returned before stay as they are.
        """
        self._check(x, 0 if state is None else self._length_of(state, x))
        features, after = self.transformer.forward_with_state(x, state)
        return self.lm_head.forward(features), after

    def next_logits(self, x: Array, state: Any = None) -> tuple[Array, tuple[KeyValues, ...]]:
        """Return what :meth:`forward_with_state` gives at the last position alone, (N, V), and the state.

        A prompt then costs one row of the last map, and not one for each of its tokens.
        """
        self._check(x, 0 if state is None else self._length_of(state, x))
        features, after = self.transformer.forward_with_state(x, state)
        return self.lm_head.forward(features[:, -1]), after

    def select_state(self, state: Any, rows: Any) -> Any:
        """Return the state of some rows of the batch, which may repeat."""
        return None if state is None else tuple(layer.select(rows) for layer in state)

    def load_hugging_face(self, path: str | os.PathLike[str]) -> None:
        """Read the weights of a folder or safetensors file of Hugging Face's GPT-2.

        The matrices of its ``Conv1D`` are turned to (out, in), the constant masks are passed over, and the prefix
        ``transformer.`` may be there or not.
        """
        names = {
            "*.attn.bias": None,
            "*.attn.masked_bias": None,
            "transformer.*": "transformer.*",
            "lm_head.*": "lm_head.*",
        }
        for part in ("wte", "wpe", "h", "ln_f"):
            names[f"{part}.*"] = f"transformer.{part}.*"
        self.load(path, names=names, transpose=["*.c_attn.weight", "*.c_proj.weight", "*.c_fc.weight"])

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (T, V)."""
        return (*input_shape, self.config.vocab_size)

    def _check(self, ids: Any, known: int) -> None:
        """Raise unless ids have shape (N, T) and fit the context after so many."""
        shape = getattr(ids, "shape", None)
        if shape is None or len(shape) != 2 or shape[1] < 1:
            raise ShapeError(
                f"{self._name()}: expected ids of shape (N, T) with at least one token, got {shape or ids!r}"
            )
        if known + shape[1] > self.context:
            before = f" after {known} that the state knows" if known else ""
            raise ShapeError(
                f"{self._name()}: the context is {self.context} tokens, got {shape[1]}{before}; give the last tokens alone, "
                "without a state"
            )

    def _length_of(self, state: Any, ids: Any) -> int:
        """Return how many tokens a state knows; raise unless it is one of this model and batch."""
        mine = isinstance(state, tuple) and len(state) == self.config.layers
        if not (mine and all(isinstance(layer, KeyValues) and layer.length for layer in state)):
            raise ShapeError(
                f"{self._name()}: the state is not one that this model returned; it has {self.config.layers} layers"
            )
        wanted = (self.config.heads, self.config.width // self.config.heads)
        batch, heads, length, size = state[0].keys.shape
        if (heads, size) != wanted:
            raise ShapeError(
                f"{self._name()}: the state is that of a model of {heads} heads of size {size}, not of {wanted[0]} of size "
                f"{wanted[1]}"
            )
        if batch != getattr(ids, "shape", (batch,))[0]:
            raise ShapeError(
                f"{self._name()}: the state is that of a batch of {batch}, got ids of shape {ids.shape}; select_state picks rows"
            )
        return length

    def _name(self) -> str:
        return f"GPT2({self.config.layers} layers, {self.config.heads} heads, {self.config.width} wide)"


def _read_config(config: Any, changes: dict[str, Any]) -> GPT2Config:
    """Return the configuration with the changes; raise unless it can be built."""
    found = change_settings(GPT2Config.named(config) if isinstance(config, str) else config, changes, "GPT2")
    for name in ("vocab_size", "context", "layers", "heads", "width"):
        if getattr(found, name) < 1:
            raise ParameterError(f"GPT2: {name} must be positive, got {getattr(found, name)!r}")
    if found.width % found.heads:
        raise ParameterError(f"GPT2: heads must divide the width, got {found.heads} heads and a width of {found.width}")
    return found
