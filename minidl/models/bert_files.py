"""BERT in the files of Hugging Face: what a config.json says, and the names of the weights."""

from __future__ import annotations

from minidl.errors import ParameterError
from minidl.models.bert_parts import ACTIVATIONS, HEADS, BERTConfig
from minidl.models.pretrained import Settings, require

__all__ = ["names_for", "read_bert", "read_distilbert"]


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


def read_bert(settings: Settings) -> BERTConfig:
    """Return the sizes that a config.json of BERT or RoBERTa says; raise ParameterError for what is not here."""
    allowed = {
        "hidden_act": tuple(ACTIVATIONS),
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


def read_distilbert(settings: Settings) -> BERTConfig:
    """Return the sizes that a config.json of DistilBERT says; raise ParameterError for what is not here."""
    require(settings, {"activation": tuple(ACTIVATIONS)}, "DistilBERT")
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
    "encoder.layer.*.attention.self.query.*": "layers.*.attention.qkv.*[0/3]",
    "encoder.layer.*.attention.self.key.*": "layers.*.attention.qkv.*[1/3]",
    "encoder.layer.*.attention.self.value.*": "layers.*.attention.qkv.*[2/3]",
    "encoder.layer.*.attention.output.dense.*": "layers.*.attention.out.*",
    "encoder.layer.*.attention.output.LayerNorm.*": "layers.*.norm1.*",
    "encoder.layer.*.intermediate.dense.*": "layers.*.feed_forward.linear1.*",
    "encoder.layer.*.output.dense.*": "layers.*.feed_forward.linear2.*",
    "encoder.layer.*.output.LayerNorm.*": "layers.*.norm2.*",
}
_DISTILBERT_BLOCKS = {
    "transformer.layer.*.attention.q_lin.*": "layers.*.attention.qkv.*[0/3]",
    "transformer.layer.*.attention.k_lin.*": "layers.*.attention.qkv.*[1/3]",
    "transformer.layer.*.attention.v_lin.*": "layers.*.attention.qkv.*[2/3]",
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


def names_for(foreign: str, head: str) -> dict[str, str | None]:
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
