"""BERT: a Transformer whose positions see one another in both directions; also RoBERTa, DistilBERT and MiniLM.

ids -> norm(words + positions + types) -> [ norm1(x + attention(x)) -> norm2(x + feed_forward(x)) ] times layers -> head
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy

from minidl import init, random
from minidl.engines import current
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError, UnknownNameError
from minidl.layers import GELU, Chain, Dropout, Embedding, Layer, LayerNorm, Linear, ReLU, Tanh
from minidl.layers.attention import join_heads, merge_heads, split_heads
from minidl.layers.base import Shape
from minidl.layers.parameter import Parameter
from minidl.models.pretrained import Settings, change_settings, require
from minidl.ops import Array, namespace
from minidl.ops._scalars import depth
from minidl.ops.attention import attention_weights
from minidl.training import Trainable
from minidl.weights import open_weights
from minidl.weights.matching import Target, load_tensors

__all__ = ["BERT", "BERTConfig"]

HEADS = {
    "Model": "features",
    "ForMaskedLM": "masked_lm",
    "ForSequenceClassification": "sequence_classification",
    "ForTokenClassification": "token_classification",
    "ForQuestionAnswering": "question_answering",
}
"""The head of each architecture, by the end of its name in config.json."""
_ACTIVATIONS: dict[str, Any] = {
    "gelu": GELU,
    "gelu_new": lambda: GELU("tanh"),
    "gelu_pytorch_tanh": lambda: GELU("tanh"),
    "relu": ReLU,
}


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
                "activation": _ACTIVATIONS[config.activation](),
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
        if self.config.head == "masked_lm" and self.config.tied:
            self.head.find("decoder").weight = self.embeddings.words.weight
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.value[...] = 0
            elif parameter.value.ndim == 2:
                drawn = init.normal(parameter.shape, std=0.02, dtype=parameter.dtype, generator=generator)
                parameter.value[...] = current().asarray(drawn)

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
        """Add to all gradients; ids, masks and types have none, so None is returned for each."""
        shape, inputs = self._remembered()
        if self.config.head == "sequence_classification":
            dfirst = self.head.backward(dy)  # (N, C)
            dy = namespace(dfirst).zeros(shape, dtype=dfirst.dtype)
            dy[:, 0] = dfirst
        elif self.config.head != "features":
            dy = self.head.backward(dy)  # (N, T, C)
        for block in reversed(self.layers):
            dy = block.backward(dy)
        self.embeddings.backward(dy)
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
            x = block.forward(x, mask)
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
        model = cls(_distilbert_config(settings) if distil else _bert_config(settings), dtype=dtype)
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
            if self.config.head == "features" and not any("pooler.dense" in name for name in tensors):
                self.head = None
            names = _names_for(self._foreign, self.config.head)
            if any(name.endswith("decoder.bias") for name in tensors):  # then the bias beside it is the same, or unused
                names |= {"cls.predictions.bias": None, "lm_head.bias": None}
            load_tensors(
                self._targets(), tensors, strict=True, names=names, transpose=None, where=f"load({os.fspath(path)!r})"
            )

    def _targets(self) -> list[Target]:
        """Return the arrays to fill, with queries, keys and values as three views of one array."""
        by_parameter: dict[Parameter, list[str]] = {}
        for name, parameter in self.named_parameters():
            by_parameter.setdefault(parameter, []).append(name)
        targets = []
        for parameter, names in by_parameter.items():
            if ".qkv." in names[0]:
                width = self.config.width
                for i, part in enumerate(("query", "key", "value")):
                    rows = parameter.value[i * width : (i + 1) * width]
                    targets.append(Target((names[0].replace(".qkv.", f".{part}."),), rows))
            else:
                targets.append(Target(tuple(names), parameter.value))
        return targets


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
            before = {"dense": dense, "activation": _ACTIVATIONS[config.masked_lm_activation](), "norm": norm}
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
        if getattr(found, name) not in _ACTIVATIONS:
            raise UnknownNameError.among(f"BERT: {name}", getattr(found, name), _ACTIVATIONS)
    if found.head_activation not in ("tanh", "relu"):
        raise UnknownNameError.among("BERT: head_activation", found.head_activation, ("tanh", "relu"))
    if found.positions_skip_padding and found.padding_idx is None:
        raise ParameterError("BERT: positions_skip_padding needs a padding_idx")
    return found


# config.json ---------------------------------------------------------------------------------------------------------


def _head_of(settings: Settings) -> str:
    """Return the head that ``architectures`` names; without it, the features."""
    for name in settings.get("architectures") or ["BertModel"]:
        _, _, end = name.partition("Bert") if "Bert" in name else name.partition("Roberta")
        if end in HEADS:
            return HEADS[end]
    raise ParameterError(
        f"BERT: config.json has architectures = {settings['architectures']!r}; minidl has those that end in "
        f"{', '.join(HEADS)}"
    )


def _labels(settings: Settings) -> int:
    return int(settings.get("num_labels") or len(settings.get("id2label") or "12"))


def _bert_config(settings: Settings) -> BERTConfig:
    allowed = {
        "hidden_act": tuple(_ACTIVATIONS),
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
        "embedding_size": (settings.get("hidden_size", 768),),
    }
    require(settings, allowed, "BERT")
    roberta = settings.get("model_type") == "roberta"
    padding = settings.get("pad_token_id", 1 if roberta else 0)
    dropout, head_dropout = settings.get("hidden_dropout_prob", 0.1), settings.get("classifier_dropout")
    activation = settings.get("hidden_act", "gelu")
    head = _head_of(settings)
    dropped = 0.0 if head == "question_answering" else dropout if head_dropout is None else head_dropout
    return BERTConfig(
        vocab_size=settings.get("vocab_size", 50265 if roberta else 30522),
        context=settings.get("max_position_embeddings", 512) - (padding + 1 if roberta else 0),
        layers=settings.get("num_hidden_layers", 12),
        heads=settings.get("num_attention_heads", 12),
        width=settings.get("hidden_size", 768),
        hidden=settings.get("intermediate_size", 3072),
        token_types=settings.get("type_vocab_size", 2),
        activation=activation,
        layer_norm_eps=settings.get("layer_norm_eps", 1e-12),
        dropout=dropout,
        attention_dropout=settings.get("attention_probs_dropout_prob", 0.1),
        head_dropout=dropped,
        padding_idx=padding,
        positions_skip_padding=roberta,
        head=head,
        labels=_labels(settings),
        masked_lm_activation="gelu" if roberta else activation,
        tied=settings.get("tie_word_embeddings", True),
    )


def _distilbert_config(settings: Settings) -> BERTConfig:
    require(settings, {"activation": tuple(_ACTIVATIONS)}, "DistilBERT")
    head = _head_of(settings)
    rates = {"sequence_classification": "seq_classif_dropout", "question_answering": "qa_dropout"}
    return BERTConfig(
        vocab_size=settings.get("vocab_size", 30522),
        context=settings.get("max_position_embeddings", 512),
        layers=settings.get("n_layers", 6),
        heads=settings.get("n_heads", 12),
        width=settings.get("dim", 768),
        hidden=settings.get("hidden_dim", 3072),
        token_types=0,
        activation=settings.get("activation", "gelu"),
        dropout=settings.get("dropout", 0.1),
        attention_dropout=settings.get("attention_dropout", 0.1),
        head_dropout=settings.get(rates.get(head, "dropout"), 0.1),
        padding_idx=settings.get("pad_token_id", 0),
        head=head,
        labels=_labels(settings),
        head_activation="relu",
        masked_lm_activation=settings.get("activation", "gelu"),
        tied=settings.get("tie_word_embeddings", True),
    )


# names in the files of Hugging Face ----------------------------------------------------------------------------------

_EMBEDDINGS = {
    "embeddings.word_embeddings.*": "embeddings.words.*",
    "embeddings.position_embeddings.*": "embeddings.positions.*",
    "embeddings.token_type_embeddings.*": "embeddings.types.*",
    "embeddings.LayerNorm.*": "embeddings.norm.*",
    "embeddings.position_ids": None,
}
_BLOCKS = {
    "encoder.layer.*.attention.self.*": "layers.*.attention.*",
    "encoder.layer.*.attention.output.dense.*": "layers.*.attention.out.*",
    "encoder.layer.*.attention.output.LayerNorm.*": "layers.*.norm1.*",
    "encoder.layer.*.intermediate.dense.*": "layers.*.feed_forward.linear1.*",
    "encoder.layer.*.output.dense.*": "layers.*.feed_forward.linear2.*",
    "encoder.layer.*.output.LayerNorm.*": "layers.*.norm2.*",
}
_DISTILBERT_BLOCKS = {
    "transformer.layer.*.attention.q_lin.*": "layers.*.attention.query.*",
    "transformer.layer.*.attention.k_lin.*": "layers.*.attention.key.*",
    "transformer.layer.*.attention.v_lin.*": "layers.*.attention.value.*",
    "transformer.layer.*.attention.out_lin.*": "layers.*.attention.out.*",
    "transformer.layer.*.sa_layer_norm.*": "layers.*.norm1.*",
    "transformer.layer.*.ffn.lin1.*": "layers.*.feed_forward.linear1.*",
    "transformer.layer.*.ffn.lin2.*": "layers.*.feed_forward.linear2.*",
    "transformer.layer.*.output_layer_norm.*": "layers.*.norm2.*",
}
_HEAD_NAMES: dict[str, dict[str, str | None]] = {
    "bert": {
        "cls.predictions.transform.dense.*": "head.dense.*",
        "cls.predictions.transform.LayerNorm.*": "head.norm.*",
        "cls.predictions.decoder.*": "head.decoder.*",
        "cls.predictions.bias": "head.decoder.bias",
        "cls.seq_relationship.*": None,
        "classifier.*": "head.classifier.*",
        "qa_outputs.*": "head.classifier.*",
    },
    "roberta": {
        "lm_head.dense.*": "head.dense.*",
        "lm_head.layer_norm.*": "head.norm.*",
        "lm_head.decoder.*": "head.decoder.*",
        "lm_head.bias": "head.decoder.bias",
        "classifier.dense.*": "head.dense.*",
        "classifier.out_proj.*": "head.classifier.*",
        "classifier.*": "head.classifier.*",
        "qa_outputs.*": "head.classifier.*",
    },
    "distilbert": {
        "vocab_transform.*": "head.dense.*",
        "vocab_layer_norm.*": "head.norm.*",
        "vocab_projector.*": "head.decoder.*",
        "pre_classifier.*": "head.dense.*",
        "classifier.*": "head.classifier.*",
        "qa_outputs.*": "head.classifier.*",
    },
}


def _names_for(foreign: str, head: str) -> dict[str, str | None]:
    """Return the names in this model of those in a file: with or without prefix, and with the old names of a norm's parameters."""
    pooled = head == "features" or (foreign == "bert" and head == "sequence_classification")
    table: dict[str, str | None] = {
        **_EMBEDDINGS,
        **(_DISTILBERT_BLOCKS if foreign == "distilbert" else _BLOCKS),
        "pooler.*": "head.*" if pooled else None,
    }
    names: dict[str, str | None] = {}
    for theirs, ours in {**table, **_HEAD_NAMES[foreign]}.items():
        for prefix in ("", f"{foreign}."):
            if theirs.endswith("LayerNorm.*") and ours is not None:
                names[f"{prefix}{theirs[:-1]}gamma"] = f"{ours[:-1]}weight"
                names[f"{prefix}{theirs[:-1]}beta"] = f"{ours[:-1]}bias"
            names[prefix + theirs] = ours
    return names
