"""What one does with an encoder such as BERT: embeddings of sentences and search, words for gaps, classes, answers.

A model is anything with these, such as ``minidl.models.BERT``:

- ``forward(ids, attention_mask, token_type_ids)``, all (N, T); the last only if ``config.token_types`` is at least 2.
- ``config`` with ``padding_idx``, ``token_types`` and ``head``; ``context``, the most tokens of a text.

A tokenizer is a :class:`minidl.text.WordPieceTokenizer` or a :class:`minidl.text.HuggingFaceTokenizer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy

from minidl import engines
from minidl.arrays import to_host
from minidl.errors import DataError, ParameterError, ShapeError
from minidl.layers import inference
from minidl.text.hugging_face import Encoded, HuggingFaceTokenizer
from minidl.text.wordpiece import WordPieceTokenizer

EncoderTokenizer = WordPieceTokenizer | HuggingFaceTokenizer

__all__ = ["Answer", "Filled", "answer", "classify", "embed", "fill_mask", "search"]


class Filled(NamedTuple):
    """A token for a gap, with its probability.

    Attributes
    ----------
    token : str
    id : int
    probability : float
    """

    token: str
    id: int
    probability: float


class Answer(NamedTuple):
    """A part of a text that answers a question.

    Attributes
    ----------
    text : str
        ``context[start:end]``.
    start, end : int
        Characters of the context.
    score : float
        The sum of the logits of the first and the last token.
    """

    text: str
    start: int
    end: int
    score: float


def embed(
    model: Any,
    tokenizer: EncoderTokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    normalize: bool = True,
) -> numpy.ndarray:
    """Return a vector for each text: the mean of the model's output over the text's tokens.

    With h_t the output at token t, and m_t 1 for tokens and 0 for padding::

        e = sum_t m_t h_t / sum_t m_t,   and then e / |e|

    Texts of similar length go into one batch, so that there is little padding.

    Parameters
    ----------
    model : BERT
        With the head "features".
    tokenizer : WordPieceTokenizer or HuggingFaceTokenizer
    texts : sequence of str
    batch_size : int, default 32
    max_length : int, default the model's context
        Longer texts are cut to so many tokens.
    normalize : bool, default True
        Whether vectors have length 1, so that their products are cosines.

    Returns
    -------
    embeddings : numpy.ndarray, shape (number of texts, C)
        In the order of the texts.

    Raises
    ------
    ParameterError
        If the model has another head, a setting is out of range, or ``texts`` is one text.

    References
    ----------
    N. Reimers, I. Gurevych, "Sentence-BERT: Sentence embeddings using Siamese BERT-networks", EMNLP 2019, section 3.
    """
    _check_head("embed", model, "features")
    rows = _encode_all("embed", model, tokenizer, texts, max_length)
    result = None
    for chosen, h, mask in _batches("embed", model, rows, batch_size):
        weight = mask[..., None].astype(h.dtype)  # (N, T, 1)
        e = (h * weight).sum(axis=1) / weight.sum(axis=1)  # (N, C)
        if normalize:
            e = e / numpy.maximum(numpy.linalg.norm(e, axis=1, keepdims=True), 1e-12)
        if result is None:
            result = numpy.empty((len(rows), e.shape[1]), e.dtype)
        result[chosen] = e
    return numpy.empty((0, model.config.width), "float32") if result is None else result


def search(queries: Any, corpus: Any, k: int = 10) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the k vectors of a corpus that are most similar to each query, by the cosine of their angle.

    Parameters
    ----------
    queries : array, shape (Q, C)
    corpus : array, shape (M, C)
    k : int, default 10
        All of them if there are fewer.

    Returns
    -------
    scores : numpy.ndarray, shape (Q, k)
        Cosines, the largest first.
    indices : numpy.ndarray of int, shape (Q, k)
        Rows of the corpus; the first of equals comes first.

    Raises
    ------
    ShapeError
        If the vectors do not fit.
    ParameterError
        If k is not positive.

    Examples
    --------
    >>> scores, indices = search([[1.0, 0.1]], [[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]], k=2)
    >>> indices
    array([[1, 2]])
    """
    queries, corpus = numpy.asarray(queries), numpy.asarray(corpus)
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise ShapeError(f"search: expected shapes (Q, C) and (M, C), got {queries.shape} and {corpus.shape}")
    if k < 1:
        raise ParameterError(f"search: k must be positive, got {k}")
    cosines = _to_length_1(queries) @ _to_length_1(corpus).T  # (Q, M)
    indices = numpy.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return numpy.take_along_axis(cosines, indices, axis=1), indices


def fill_mask(model: Any, tokenizer: EncoderTokenizer, text: str, k: int = 5) -> list[list[Filled]]:
    """Return, for each mask token in a text, the k likeliest tokens in its place.

    Parameters
    ----------
    model : BERT
        With the head "masked_lm".
    tokenizer : WordPieceTokenizer or HuggingFaceTokenizer
    text : str
        With the mask token, which is ``[MASK]`` or ``<mask>``.
    k : int, default 5

    Raises
    ------
    ParameterError
        If the model has another head, or the tokenizer has no mask token.
    DataError
        If there is no mask token in the text, or it is longer than the model's context.
    """
    _check_head("fill_mask", model, "masked_lm")
    mask_id = next((i for i in map(tokenizer.id_of, ("[MASK]", "<mask>")) if i is not None), None)
    if mask_id is None:
        raise ParameterError("fill_mask: the tokenizer has neither [MASK] nor <mask>")
    encoded = tokenizer.encode_with_offsets(text)
    places = numpy.flatnonzero(encoded.ids == mask_id)
    if not places.size:
        raise DataError(f"fill_mask: there is no {tokenizer.token_of(mask_id)} in the text")
    if len(encoded.ids) > model.context:
        raise DataError(
            f"fill_mask: the text has {len(encoded.ids)} tokens, and the model's context is {model.context}"
        )
    logits = _run(model, [encoded])[0][0][places]  # (masks, V)
    p = _softmax(logits)
    found = []
    for row in p:
        best = numpy.argsort(-row, kind="stable")[:k]
        found.append([Filled(tokenizer.token_of(int(i)), int(i), float(row[i])) for i in best])
    return found


def classify(
    model: Any,
    tokenizer: EncoderTokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> list[tuple[str, float]]:
    """Return the likeliest class of each text, by its name, and its probability.

    Parameters
    ----------
    model : BERT
        With the head "sequence_classification" and more than one class.
    tokenizer : WordPieceTokenizer or HuggingFaceTokenizer
    texts : sequence of str
    batch_size : int, default 32
    max_length : int, default the model's context
        Longer texts are cut to so many tokens.

    Raises
    ------
    ParameterError
        If the model has another head, a setting is out of range, or ``texts`` is one text.
    """
    _check_head("classify", model, "sequence_classification")
    if model.config.labels < 2:
        raise ParameterError("classify: the model has one output, which is a number and no class")
    rows = _encode_all("classify", model, tokenizer, texts, max_length)
    found: list[Any] = [None] * len(rows)
    for chosen, logits, _ in _batches("classify", model, rows, batch_size):
        for place, p in zip(chosen, _softmax(logits), strict=True):
            best = int(p.argmax())
            found[place] = (model.label_names[best], float(p[best]))
    return found


def answer(
    model: Any,
    tokenizer: EncoderTokenizer,
    question: str,
    context: str,
    *,
    max_answer: int = 30,
    stride: int = 128,
    batch_size: int = 8,
) -> Answer:
    """Return the part of a context that answers a question best.

    The score of the part from token i to token j >= i is start_i + end_j, the sum of two logits. A context that is too long
    for the model is read in windows that overlap by ``stride`` tokens; the best part of all windows is the answer.

    Parameters
    ----------
    model : BERT
        With the head "question_answering".
    tokenizer : WordPieceTokenizer or HuggingFaceTokenizer
    question, context : str
    max_answer : int, default 30
        The most tokens of an answer.
    stride : int, default 128
        The tokens that two windows share; at most half a window.
    batch_size : int, default 8
        Windows at a time.

    Raises
    ------
    ParameterError
        If the model has another head, or a setting is out of range.
    DataError
        If the context is empty, or the question leaves no room for it.

    References
    ----------
    J. Devlin et al., "BERT: Pre-training of deep bidirectional Transformers for language understanding", NAACL 2019, section 4.2.
    """
    _check_head("answer", model, "question_answering")
    if max_answer < 1 or stride < 0 or batch_size < 1:
        raise ParameterError(
            f"answer: max_answer and batch_size must be positive and stride not negative, got {max_answer}, {batch_size} "
            f"and {stride}"
        )
    windows = _windows(tokenizer.encode_with_offsets(question, context), model.context, stride)
    best = Answer("", 0, 0, -numpy.inf)
    for first in range(0, len(windows), batch_size):
        some = windows[first : first + batch_size]
        logits, _ = _run(model, some)  # (N, T, 2)
        for window, row in zip(some, logits, strict=True):
            i, j, score = _best_span(row, window.parts == 1, max_answer)
            if score > best.score:
                start, end = int(window.offsets[i, 0]), int(window.offsets[j, 1])
                best = Answer(context[start:end], start, end, score)
    return best


def _windows(whole: Encoded, longest: int, stride: int) -> list[Encoded]:
    """Return question and context, with the context cut into windows that fit the model."""
    inside = numpy.flatnonzero(whole.parts == 1)
    if not inside.size:
        raise DataError("answer: the context is empty")
    first, end = int(inside[0]), int(inside[-1]) + 1
    room = longest - first - (len(whole.ids) - end)
    if room < 1:
        raise DataError(f"answer: the question is too long; the model's context is {longest} tokens")
    step = room - min(stride, room // 2)
    windows = []
    for start in range(first, end, step):
        stop = min(start + room, end)
        windows.append(Encoded(*(numpy.concatenate([a[:first], a[start:stop], a[end:]]) for a in whole)))
        if stop == end:
            break
    return windows


def _best_span(logits: numpy.ndarray, inside: numpy.ndarray, longest: int) -> tuple[int, int, float]:
    """Return the first and last token of the best span inside, and its score."""
    places = numpy.flatnonzero(inside)
    start, end = logits[places, 0].astype("float64"), logits[places, 1].astype("float64")
    scores = start[:, None] + end  # (L, L)
    i, j = numpy.arange(len(places))[:, None], numpy.arange(len(places))
    scores[(j < i) | (j - i >= longest)] = -numpy.inf
    best = int(scores.argmax())
    i0, j0 = divmod(best, len(places))
    return int(places[i0]), int(places[j0]), float(scores[i0, j0])


# batches -------------------------------------------------------------------------------------------------------------


def _encode_all(
    where: str, model: Any, tokenizer: EncoderTokenizer, texts: Sequence[str], max_length: int | None
) -> list[Encoded]:
    """Return the tokens of each text; one that is too long loses tokens before the special ones at its end."""
    if isinstance(texts, str):
        raise ParameterError(f"{where}: expected a list of texts, got one; give [text]")
    longest = model.context if max_length is None else max_length
    if not 3 <= longest <= model.context:
        raise ParameterError(
            f"{where}: max_length must be from 3 to the model's context, {model.context}, got {longest}"
        )
    rows = []
    for encoded in map(tokenizer.encode_with_offsets, texts):
        inside = numpy.flatnonzero(encoded.parts == 0)
        over = len(encoded.ids) - longest
        if over > 0:
            end = int(inside[-1]) + 1
            encoded = Encoded(*(numpy.concatenate([a[: end - over], a[end:]]) for a in encoded))
        rows.append(encoded)
    return rows


def _batches(
    where: str, model: Any, rows: list[Encoded], batch_size: int
) -> Iterator[tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]]:
    """Yield places, outputs and masks of batches of rows, from the longest rows to the shortest."""
    if batch_size < 1:
        raise ParameterError(f"{where}: batch_size must be positive, got {batch_size}")
    order = numpy.argsort([-len(row.ids) for row in rows], kind="stable")
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        yield chosen, *_run(model, [rows[i] for i in chosen])


def _run(model: Any, rows: Sequence[Encoded]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the model's output for rows filled up to one length, and the mask, (N, T)."""
    lengths = numpy.array([len(row.ids) for row in rows])
    mask = numpy.arange(lengths.max()) < lengths[:, None]  # (N, T)
    ids = numpy.full(mask.shape, model.config.padding_idx or 0, dtype="int64")
    ids[mask] = numpy.concatenate([row.ids for row in rows])
    arrays = [ids, mask]
    if model.config.token_types > 1:
        types = numpy.zeros(mask.shape, dtype="int64")
        types[mask] = numpy.concatenate([row.types for row in rows])
        if types.any():  # all 0 is what the model takes without them, and looks up faster
            arrays.append(types)
    with inference(evaluate=True):
        return to_host(model.forward(*(engines.current().asarray(a) for a in arrays))), mask


def _softmax(logits: numpy.ndarray) -> numpy.ndarray:
    p = numpy.exp(logits.astype("float64") - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def _to_length_1(x: numpy.ndarray) -> numpy.ndarray:
    return x / numpy.maximum(numpy.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _check_head(where: str, model: Any, head: str) -> None:
    has = getattr(getattr(model, "config", None), "head", None)
    if has != head:
        raise ParameterError(f"{where}: expected a model with the head {head!r}, got {has!r} of {type(model).__name__}")
