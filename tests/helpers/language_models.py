"""Small language models with random weights, for the protocol of ``minidl.text.generation`` and ``minidl.text.beam``."""

import numpy

import minidl as dl
from minidl.layers import Chain


def rows_of(state, rows):
    """Return these rows of all arrays of a state."""
    return None if state is None else tuple(part[rows] for part in state)


class Recurrent:
    """h = tanh(table[id] + h U), logits = h V."""

    context = None

    def __init__(self, vocabulary, width=6, seed=0):
        random = numpy.random.default_rng(seed)
        self.table = random.normal(size=(vocabulary, width))
        self.recurrent = random.normal(size=(width, width)) / width**0.5
        self.head = random.normal(size=(width, vocabulary)) * 2
        self.seen = 0  # tokens that were computed, in all calls

    def forward_with_state(self, ids, state=None):
        h = numpy.zeros((len(ids), len(self.recurrent))) if state is None else state[0]
        assert len(h) == len(ids), "a state of another batch"
        self.seen += ids.size
        logits = []
        for column in ids.T:
            h = numpy.tanh(self.table[column] + h @ self.recurrent)
            logits.append(h @ self.head)
        return numpy.stack(logits, axis=1), (h,)

    select_state = staticmethod(rows_of)


class Attention:
    """One head of causal attention with learned positions; the state is the keys and values so far."""

    def __init__(self, vocabulary, context, width=5, seed=0):
        random = numpy.random.default_rng(seed)
        self.context = context
        self.table = random.normal(size=(vocabulary, width))
        self.positions = random.normal(size=(context, width))
        self.maps = random.normal(size=(3, width, width))
        self.head = random.normal(size=(width, vocabulary)) * 2
        self.seen = 0

    def forward_with_state(self, ids, state=None):
        before = 0 if state is None else state[0].shape[1]
        assert before + ids.shape[1] <= self.context, "longer than the context"
        self.seen += ids.size
        x = self.table[ids] + self.positions[before : before + ids.shape[1]]
        q, k, v = (x @ part for part in self.maps)
        if state is not None:
            assert len(state[0]) == len(ids), "a state of another batch"
            k, v = (numpy.concatenate(pair, axis=1) for pair in zip(state, (k, v), strict=True))
        scores = q @ k.transpose(0, 2, 1)
        scores[:, ~numpy.tri(ids.shape[1], k.shape[1], before, dtype=bool)] = -numpy.inf
        weights = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
        y = x + weights / weights.sum(axis=-1, keepdims=True) @ v
        return y @ self.head, (k, v)

    select_state = staticmethod(rows_of)


class Translator:
    """An encoder-decoder: the sum of the source's embeddings begins the state of a recurrent decoder."""

    def __init__(self, vocabulary, width=6, seed=0):
        random = numpy.random.default_rng(seed)
        self.source = random.normal(size=(vocabulary, width))
        self.decoder = Recurrent(vocabulary, width, seed + 1)

    def encode(self, source_ids, source_mask=None):
        mask = numpy.ones(source_ids.shape) if source_mask is None else source_mask
        return {"sum": (self.source[source_ids] * mask[..., None]).sum(axis=1), "other": (source_ids, None)}

    def decode_with_state(self, target_ids, memory, state=None):
        assert len(memory["sum"]) == len(target_ids) == len(memory["other"][0])
        return self.decoder.forward_with_state(target_ids, (memory["sum"],) if state is None else state)

    select_state = staticmethod(rows_of)


class Trained(Chain):
    """A language model of layers, to be trained: an embedding, dropout, a recurrent layer and an affine map."""

    def __init__(self, vocab_size, context, width=8, dropout=0.0, **others):
        super().__init__(
            dl.Embedding(vocab_size, width), dl.Dropout(dropout), dl.GRU(width, width), dl.Linear(width, vocab_size)
        )
        self.context = context

    def select_state(self, state, rows):
        return {name: self[int(name)].select_state(part, rows) for name, part in state.items()}
