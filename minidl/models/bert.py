"""BERT: a Transformer whose positions see one another in both directions; also RoBERTa, DistilBERT and MiniLM.

ids -> norm(words + positions + types) -> [ norm1(x + attention(x)) -> norm2(x + feed_forward(x)) ] times layers -> head
"""

from __future__ import annotations

import os
from typing import Any

import numpy

from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError, UnknownNameError
from minidl.layers import Chain, Dropout, Layer, LayerNorm, Linear, ReLU, Tanh
from minidl.layers.base import Shape
from minidl.layers.freezing import FirstTrained
from minidl.layers.fusion import run_block
from minidl.models.bert_files import names_for, read_bert, read_distilbert
from minidl.models.bert_parts import ACTIVATIONS, HEADS, BERTConfig, Block, Embeddings, SelfAttention
from minidl.models.initial import start_transformer
from minidl.models.pretrained import Settings, change_settings
from minidl.ops import Array, namespace
from minidl.ops._scalars import depth
from minidl.training import Trainable
from minidl.weights import open_weights

__all__ = ["BERT", "HEADS", "BERTConfig", "Block", "Embeddings", "SelfAttention"]


class BERT(Trainable, Layer):
    """BERT, and what differs from it only in sizes, positions and heads: RoBERTa, DistilBERT, MiniLM.

    ``forward(ids)`` returns what the head makes of the last block's output h:

    ========================  ==========================================  =============
    ``features``              h itself; :meth:`pooled` gives tanh(W h_0)  (N, T, C)
    ``masked_lm``             logits of the token at each position        (N, T, V)
    ``sequence_classification``  logits of the text's class               (N, K)
    ``token_classification``  logits of each token's class                (N, T, K)
    ``question_answering``    logits of the answer's first and last token (N, T, 2)
    ========================  ==========================================  =============

    Parameters
    ----------
    config : BERTConfig, optional
        The sizes and the head.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.
    **changes
        Settings of the configuration that differ, such as ``layers=6``.

    Attributes
    ----------
    config : BERTConfig
    context : int
        The longest sequence.
    embeddings : Embeddings
        With the tables ``words``, ``positions`` and ``types``.
    layers : list of Block
    head : Chain or None
        For ``features``, the pooler.
    label_names : list of str
        Of the classes, if config.json names them.

    Raises
    ------
    ParameterError
        If the heads do not divide the width, or a setting is unknown or not positive.
    DataError
        From ``forward``, if an id is not in the vocabulary.
    ShapeError, DtypeError
        From ``forward``, if ids, mask and types do not fit.

    Notes
    -----
    Initial weights are normal with standard deviation 0.02, and biases are 0.

    References
    ----------
    J. Devlin et al., "BERT: Pre-training of deep bidirectional Transformers for language understanding", NAACL 2019, figure 2.
    Y. Liu et al., "RoBERTa: A robustly optimized BERT pretraining approach" (2019).
    V. Sanh et al., "DistilBERT, a distilled version of BERT" (2019).
    W. Wang et al., "MiniLM: Deep self-attention distillation for task-agnostic compression", NeurIPS 2020.

    Examples
    --------
    >>> model = BERT(vocab_size=11, context=8, layers=2, heads=2, width=4, hidden=8).eval()
    >>> ids = numpy.array([[2, 5, 3], [2, 3, 0]])
    >>> model.forward(ids, attention_mask=ids != 0).shape
    (2, 3, 4)
    >>> [h.shape for h in model.hidden_states(ids)], model.attention_maps()[1].shape
    ([(2, 3, 4), (2, 3, 4), (2, 3, 4)], (2, 2, 3, 3))
    """

    integer_inputs = True
    _live = ()

    def __init__(
        self,
        config: BERTConfig | None = None,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        self.config = _read_config(BERTConfig() if config is None else config, changes)
        self.context = self.config.context
        self.label_names = [f"LABEL_{i}" for i in range(self.config.labels)]
        self.embeddings = Embeddings(self.config, dtype, generator)
        self.layers = [Block(self.config, dtype, generator) for _ in range(depth(self.config.layers, "BERT", "layers"))]
        self.head: Any = _make_head(self.config, dtype, generator)
        self._first = FirstTrained()
        if self.config.head == "masked_lm" and self.config.tied:
            self.head.find("decoder").weight = self.embeddings.words.weight
        start_transformer(self, generator)

    # computing -------------------------------------------------------------------------------------------------------

    def forward(  # type: ignore[override]
        self, input_ids: Array, attention_mask: Array | None = None, token_type_ids: Array | None = None
    ) -> Array:
        """Return what the head gives; the table of the class has its shape.

        Parameters
        ----------
        input_ids : integer array, shape (N, T)
        attention_mask : array of bool or int, shape (N, T), optional
            True or 1 for tokens, False or 0 for padding.
        token_type_ids : integer array, shape (N, T), default 0
            The segment of each token, such as 0 for a question and 1 for the text after it.
        """
        h = self._run(input_ids, attention_mask, token_type_ids)[-1]
        self._remember((h.shape, sum(x is not None for x in (input_ids, attention_mask, token_type_ids))))
        if self.config.head == "features":
            return h
        return self.head.forward(h[:, 0] if self.config.head == "sequence_classification" else h)

    def backward(self, dy: Array, input_gradient: bool = True) -> Any:
        """Add to all gradients, down to the first part that is trained; ids, masks and types have none: None for each."""
        shape, inputs = self._remembered()
        if self.config.head == "sequence_classification":
            dfirst = self.head.backward(dy)  # (N, C)
            dy = namespace(dfirst).zeros(shape, dtype=dfirst.dtype)
            dy[:, 0] = dfirst
        elif self.config.head != "features":
            dy = self.head.backward(dy)  # (N, T, C)
        parts = [self.embeddings, *self.layers]
        first = self._first.among(parts)
        for part in reversed(parts[first:]):
            dy = part.backward(dy)
        return None if inputs == 1 else (None,) * inputs

    def hidden_states(
        self, input_ids: Array, attention_mask: Array | None = None, token_type_ids: Array | None = None
    ) -> list[Array]:
        """Return what the embeddings and each block give, layers + 1 arrays of shape (N, T, C); the arguments are forward's."""
        return self._run(input_ids, attention_mask, token_type_ids, every=True)

    def attention_maps(self) -> list[Array]:
        """Return, for each block, what the last forward looked at: weights of shape (N, H, T, T)."""
        return [block.attention.weights() for block in self.layers]

    def pooled(self, h: Array) -> Array:
        """Return tanh(W h_0 + b), (N, C), for the features h, (N, T, C).

        Raises
        ------
        OrderError
            If the model has another head, or its file had no pooler.
        """
        if self.config.head != "features" or self.head is None:
            raise OrderError(f"{self._name()}: there is no pooler")
        return self.head.forward(h[:, 0])

    def _run(self, ids: Any, attention_mask: Any, types: Any, every: bool = False) -> list[Array]:
        mask = self._check(ids, attention_mask, types)
        x = self.embeddings.forward(ids, types)  # (N, T, C)
        states = [x]
        for block in self.layers:
            x = run_block(block, x, mask)
            states = [*states, x] if every else [x]
        return states

    def _check(self, ids: Any, attention_mask: Any, types: Any) -> Array | None:
        """Raise unless the inputs fit; return the mask of the keys, (N, 1, 1, T), or None if there is no padding."""
        shape = getattr(ids, "shape", None)
        if shape is None or len(shape) != 2 or shape[1] < 1:
            raise ShapeError(
                f"{self._name()}: expected ids of shape (N, T) with at least one token, got {shape or ids!r}"
            )
        if shape[1] > self.context:
            raise ShapeError(
                f"{self._name()}: the context is {self.context} tokens, got {shape[1]}; give shorter texts"
            )
        for name, array, kinds in (("attention_mask", attention_mask, "biu"), ("token_type_ids", types, "iu")):
            if array is None:
                continue
            if getattr(getattr(array, "dtype", None), "kind", "?") not in kinds:
                raise DtypeError(
                    f"{self._name()}: {name} must be an array of integers{' or booleans' if 'b' in kinds else ''}, got "
                    f"{getattr(array, 'dtype', type(array).__name__)}"
                )
            if array.shape != shape:
                raise ShapeError(f"{self._name()}: {name} must have the shape of the ids, {shape}, got {array.shape}")
        if types is not None and self.embeddings.types is None:
            raise ParameterError(f"{self._name()}: this model has no token types; leave token_type_ids out")
        if attention_mask is None:
            return None
        mask = attention_mask != 0
        return None if bool(mask.all()) else mask.reshape((shape[0], 1, 1, shape[1]))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one example of what the head gives."""
        c = self.config
        last = {"features": c.width, "masked_lm": c.vocab_size, "question_answering": 2}.get(c.head, c.labels)
        return (last,) if c.head == "sequence_classification" else (*input_shape, last)

    def _name(self) -> str:
        return f"BERT({self.config.layers} layers, {self.config.heads} heads, {self.config.width} wide)"

    # weights of Hugging Face -----------------------------------------------------------------------------------------

    @classmethod
    def from_settings(cls, settings: Settings, *, dtype: Any = "float32") -> BERT:
        """Build the model that a config.json of Hugging Face describes: a BERT, RoBERTa or DistilBERT.

        Raises
        ------
        ParameterError
            If it asks for relative positions, a decoder, another activation, or a head that is not here.
        """
        distil = settings.get("model_type") == "distilbert"
        model = cls(read_distilbert(settings) if distil else read_bert(settings), dtype=dtype)
        names = settings.get("id2label") or {}
        model.label_names = [str(names.get(str(i), f"LABEL_{i}")) for i in range(model.config.labels)]
        model._foreign = settings.get("model_type", "bert")
        return model

    _foreign: str = "bert"
    _may_be_removed = ("head",)

    def load_hugging_face(self, path: str | os.PathLike[str]) -> None:
        """Read the weights of a folder or safetensors file of Hugging Face.

        The file's three maps of queries, keys and values become the rows of one. The prefix, such as ``bert.``, may be there or
        not. A model of features keeps its pooler only if the file has one.
        """
        with open_weights(path) as tensors:
            given = list(tensors)
        if self.config.head == "features" and not any("pooler.dense" in name for name in given):
            self.head = None
        names = names_for(self._foreign, self.config.head)
        if any(name.endswith("decoder.bias") for name in given):  # then the bias beside it is the same, or unused
            names |= {"cls.predictions.bias": None, "lm_head.bias": None}
        self.load(path, names=names)


def _make_head(config: BERTConfig, dtype: Any, generator: Any) -> Chain:
    """Return the head: for the features the pooler, else the maps to logits."""
    options: dict[str, Any] = {"dtype": dtype, "generator": generator}
    width = config.width
    dense = Linear(width, width, **options)
    activation = {"tanh": Tanh, "relu": ReLU}[config.head_activation]()
    dropout = Dropout(config.head_dropout, generator=generator)
    match config.head:
        case "features":
            return Chain({"dense": dense, "activation": activation})
        case "masked_lm":
            norm = LayerNorm(width, config.layer_norm_eps, dtype=dtype)
            before = {"dense": dense, "activation": ACTIVATIONS[config.masked_lm_activation](), "norm": norm}
            return Chain({**before, "decoder": Linear(width, config.vocab_size, **options)})
        case "sequence_classification":
            classifier = Linear(width, config.labels, **options)
            return Chain({"dense": dense, "activation": activation, "dropout": dropout, "classifier": classifier})
        case _:
            classes = 2 if config.head == "question_answering" else config.labels
            return Chain({"dropout": dropout, "classifier": Linear(width, classes, **options)})


def _read_config(config: BERTConfig, changes: dict[str, Any]) -> BERTConfig:
    """Return the configuration with the changes; raise unless it can be built."""
    found = change_settings(config, changes, "BERT")
    for name in ("vocab_size", "context", "layers", "heads", "width", "hidden", "labels"):
        if getattr(found, name) < 1:
            raise ParameterError(f"BERT: {name} must be positive, got {getattr(found, name)!r}")
    if found.width % found.heads:
        raise ParameterError(f"BERT: heads must divide the width, got {found.heads} heads and a width of {found.width}")
    if found.head not in HEADS.values():
        raise UnknownNameError.among("head of BERT", found.head, HEADS.values())
    for name in ("activation", "masked_lm_activation"):
        if getattr(found, name) not in ACTIVATIONS:
            raise UnknownNameError.among(f"BERT: {name}", getattr(found, name), ACTIVATIONS)
    if found.head_activation not in ("tanh", "relu"):
        raise UnknownNameError.among("BERT: head_activation", found.head_activation, ("tanh", "relu"))
    if found.positions_skip_padding and found.padding_idx is None:
        raise ParameterError("BERT: positions_skip_padding needs a padding_idx")
    return found
