"""The encoder-decoder of "Attention is all you need".

source ids -> embedding + positions -> encoder -> memory
target ids -> embedding + positions -> decoder, which looks at the memory -> linear -> logits
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy

from minidl import init
from minidl.arrays import take_rows
from minidl.errors import DataError, DtypeError, ParameterError, ShapeError
from minidl.layers import (
    Dropout,
    Embedding,
    Layer,
    LayerNorm,
    Linear,
    SinusoidalPositions,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from minidl.models.initial import redraw
from minidl.ops import Array
from minidl.ops._later import refuse_any
from minidl.training import Trainable

__all__ = ["Transformer"]


class Transformer(Trainable, Layer):
    """The Transformer of the paper, for pairs of sequences, such as a sentence and its translation.

    ``forward(source_ids, target_ids)`` returns the logits of the next target token at each position: position t of the target
    sees positions up to t, and the whole source. In training, the target begins with a token for the beginning, and what the
    loss compares with is the target one place further on. Label smoothing is an argument of ``CrossEntropyLoss``; the paper's
    learning rate is ``minidl.optim.TransformerLR``.

    Parameters
    ----------
    source_vocabulary, target_vocabulary : int
        The numbers of tokens.
    d_model : int, default 512
        C, the features of each position.
    nhead : int, default 8
    num_encoder_layers, num_decoder_layers : int, default 6
    dim_feedforward : int, default 2048
    dropout : float, default 0.1
        Of the sums of embeddings and positions, in attention, and after each part.
    context : int, default 512
        The longest sequence.
    norm_first : bool, default False
        Whether each part begins with its norm, instead of ending with it. Then there is a norm after the last layer, too.
    tied : bool, default False
        Whether one table is the embedding of source and target and the last map, as in section 3.4 of the paper; both
        vocabularies must be the same.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    source_embedding, target_embedding : Embedding
        What they give is multiplied by sqrt(C), as in the paper.
    encoder : TransformerEncoder
    decoder : TransformerDecoder
    generator_map : Linear
        From C to the target's vocabulary.

    Raises
    ------
    ParameterError
        If sizes do not fit together, or one is not positive.
    DataError
        From ``forward``, if an id is not in its vocabulary.
    ShapeError
        From ``forward``, if a sequence is longer than the context, or a mask or state does not fit.

    Notes
    -----
    Matrices are Xavier-uniform at first, as in PyTorch's ``Transformer``, and embeddings normal with standard deviation
    1 / sqrt(C).

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, figure 1.

    Examples
    --------
    >>> model = Transformer(11, 12, d_model=16, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=32)
    >>> source, target = numpy.ones((2, 5), "int64"), numpy.ones((2, 4), "int64")
    >>> model.forward(source, target).shape
    (2, 4, 12)
    >>> memory = model.encode(source)
    >>> logits, state = model.decode_with_state(target[:, :1], memory)
    >>> logits, state = model.decode_with_state(target[:, 1:2], memory, state)
    >>> logits.shape
    (2, 1, 12)
    """

    integer_inputs = True
    _live = ()

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        context: int = 512,
        norm_first: bool = False,
        tied: bool = False,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if tied and source_vocabulary != target_vocabulary:
            raise ParameterError(
                f"Transformer: tied tables need one vocabulary, got {source_vocabulary} and {target_vocabulary} tokens"
            )
        if context < 1:
            raise ParameterError(f"Transformer: context must be positive, got {context}")
        options: dict[str, Any] = {"dtype": dtype, "generator": generator}
        block: dict[str, Any] = {"dropout": dropout, "norm_first": norm_first, **options}

        def norm() -> LayerNorm | None:
            return LayerNorm(d_model, dtype=dtype) if norm_first else None

        self.d_model, self.context = d_model, context
        self.source_vocabulary, self.target_vocabulary = source_vocabulary, target_vocabulary
        self.source_embedding = Embedding(source_vocabulary, d_model, **options)
        self.target_embedding = Embedding(target_vocabulary, d_model, **options)
        self.positions = [SinusoidalPositions(d_model, context) for _ in range(2)]
        self.dropouts = [Dropout(dropout, generator=generator) for _ in range(2)]
        encoder_layer = TransformerEncoderLayer(d_model, nhead, dim_feedforward, **block)
        self.encoder = TransformerEncoder(encoder_layer, num_encoder_layers, norm())
        decoder_layer = TransformerDecoderLayer(d_model, nhead, dim_feedforward, **block)
        self.decoder = TransformerDecoder(decoder_layer, num_decoder_layers, norm())
        self.generator_map = Linear(d_model, target_vocabulary, bias=not tied, **options)
        if tied:
            self.target_embedding.weight = self.generator_map.weight = self.source_embedding.weight
        self._initialise(generator)

    def _initialise(self, generator: Any) -> None:
        tables = self.source_embedding.weight, self.target_embedding.weight
        for parameter in self.parameters():
            if parameter.value.ndim == 2:
                if any(parameter is table for table in tables):
                    redraw(parameter, init.normal, generator, std=1 / math.sqrt(self.d_model))
                else:
                    redraw(parameter, init.xavier_uniform, generator)

    # training --------------------------------------------------------------------------------------------------------

    def forward(  # type: ignore[override]
        self, source_ids: Array, target_ids: Array, source_mask: Array | None = None
    ) -> Array:
        """Return logits, (N, T, V).

        Parameters
        ----------
        source_ids : integer array, shape (N, S)
        target_ids : integer array, shape (N, T)
        source_mask : boolean array, shape (N, S), optional
            True for tokens, False for padding.
        """
        padding = self._check_source(source_ids, source_mask)
        self._check("target", target_ids, self.target_vocabulary, 0)
        if target_ids.shape[0] != source_ids.shape[0]:
            raise ShapeError(
                f"Transformer: source and target must have one batch size, got {source_ids.shape} and {target_ids.shape}"
            )
        self._remember((source_mask is not None,))
        memory = self.encoder.forward(self._embed(0, source_ids), None, padding)  # (N, S, C)
        x = self._embed(1, target_ids)  # (N, T, C)
        x = self.decoder.forward(x, memory, None, None, None, padding, tgt_is_causal=True)
        return self.generator_map.forward(x)

    def backward(self, dy: Array, input_gradient: bool = True) -> Any:
        """Add to all gradients; ids and masks have none, so None is returned for each."""
        (masked,) = self._remembered()
        dx, dmemory = self.decoder.backward(self.generator_map.backward(dy))
        self._embed_backward(1, dx)
        self._embed_backward(0, self.encoder.backward(dmemory))
        return (None,) * (3 if masked else 2)

    def _embed(self, which: int, ids: Array, offset: int = 0) -> Array:
        table = (self.source_embedding, self.target_embedding)[which]
        x = table.forward(ids) * math.sqrt(self.d_model)  # (N, T, C)
        return self.dropouts[which].forward(self.positions[which].forward(x, offset))

    def _embed_backward(self, which: int, dy: Array) -> None:
        table = (self.source_embedding, self.target_embedding)[which]
        dx = self.positions[which].backward(self.dropouts[which].backward(dy))
        table.backward(dx * math.sqrt(self.d_model))

    # generation ------------------------------------------------------------------------------------------------------

    def encode(self, source_ids: Array, source_mask: Array | None = None) -> Any:
        """Return the memory: the encoder's output, (N, S, C), with a mask the tuple of it and the mask."""
        padding = self._check_source(source_ids, source_mask)
        memory = self.encoder.forward(self._embed(0, source_ids), None, padding)
        return memory if source_mask is None else (memory, source_mask)

    def decode_with_state(self, target_ids: Array, memory: Any, state: Any = None) -> tuple[Array, Any]:
        """Return the logits of further target tokens, and the state after them; nothing is kept for backward.

        Parameters
        ----------
        target_ids : integer array, shape (N, T)
            The ids after those that the state knows.
        memory : array or tuple
            From :meth:`encode`.
        state : tuple, optional
            From the last call; None at the beginning.

        Returns
        -------
        logits : array, shape (N, T, V)
        state : tuple
            How many tokens it knows, and the keys and values of each layer.
        """
        values, mask = memory if isinstance(memory, tuple) else (memory, None)
        known = 0 if state is None else self._length_of(state, target_ids)
        self._check("target", target_ids, self.target_vocabulary, known)
        if values.ndim != 3 or values.shape[0] != target_ids.shape[0]:
            raise ShapeError(
                f"Transformer: the memory has shape {values.shape}, (N, S, C), which is that of another batch than ids of shape "
                f"{target_ids.shape}"
            )
        layers = self.decoder.state_of(values, None if mask is None else ~mask) if state is None else state[1]
        x, layers = self.decoder.forward_with_state(self._embed(1, target_ids, known), layers)
        return self.generator_map.forward(x), (known + target_ids.shape[1], layers)

    def select_state(self, state: Any, rows: Any) -> Any:
        """Return the state of some rows of the batch, which may repeat."""
        if state is None:
            return None
        length, layers = state
        chosen = [
            (own.select(rows), memory.select(rows), None if padding is None else take_rows(padding, rows))
            for own, memory, padding in layers
        ]
        return length, chosen

    def attention_maps(self) -> list[Array]:
        """Return, for each decoder layer, what the last forward looked at in the source: weights of shape (N, H, T, S)."""
        return [layer.multihead_attn.weights() for layer in self.decoder.layers]

    # checks ----------------------------------------------------------------------------------------------------------

    def _check(self, which: str, ids: Any, vocabulary: int, known: int) -> None:
        """Raise unless ids have shape (N, T), are in the vocabulary, and fit the context after so many."""
        shape = getattr(ids, "shape", None)
        if shape is None or len(shape) != 2 or shape[1] < 1:
            raise ShapeError(
                f"Transformer: expected {which} ids of shape (N, T) with at least one token, got {shape or ids!r}"
            )
        if known + shape[1] > self.context:
            before = f" after {known} that the state knows" if known else ""
            raise ShapeError(
                f"Transformer: the context is {self.context} tokens, got {which} ids of {shape[1]}{before}"
            )
        if ids.dtype.kind not in "iu":
            raise DtypeError(f"Transformer: {which} ids must be integers, got dtype {ids.dtype}")
        wrong = (ids < 0) | (ids >= vocabulary)

        def complain() -> NoReturn:
            raise DataError(
                f"Transformer: {which} id {int(ids[wrong][0])} is not in the vocabulary of {vocabulary} tokens, 0 to "
                f"{vocabulary - 1}"
            )

        refuse_any(wrong, complain)

    def _check_source(self, ids: Any, mask: Any) -> Array | None:
        """Check source ids and their mask; return where they are padding, or None."""
        self._check("source", ids, self.source_vocabulary, 0)
        if mask is None:
            return None
        if getattr(getattr(mask, "dtype", None), "kind", None) != "b":
            came = getattr(mask, "dtype", type(mask).__name__)
            raise DtypeError(
                f"Transformer: source_mask must be boolean, True for tokens and False for padding, got {came}"
            )
        if mask.shape != ids.shape:
            raise ShapeError(f"Transformer: source_mask must have the shape of the ids, {ids.shape}, got {mask.shape}")
        return ~mask

    def _length_of(self, state: Any, ids: Any) -> int:
        """Return how many tokens a state knows; raise unless it is one of this model and batch."""
        layers = state[1] if isinstance(state, tuple) and len(state) == 2 else None
        if not isinstance(layers, list) or len(layers) != len(self.decoder.layers):
            raise ShapeError("Transformer: the state is not one that this model returned")
        if layers[0][0].batch != ids.shape[0]:
            raise ShapeError(
                f"Transformer: the state is that of a batch of {layers[0][0].batch}, got ids of shape {ids.shape}; select_state "
                "picks rows"
            )
        return int(state[0])
