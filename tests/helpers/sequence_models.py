"""Small models of sequences, written as a user would write them: ids in, logits (N, T, K) out, the embedding tied."""

import numpy

import minidl as dl
from minidl.layers import Layer, Parameter
from minidl.ops import namespace
from minidl.training import Trainable


class LanguageModel(Trainable, Layer):
    """logits = tanh(E[ids] W^T + b) E^T, for every position alone; the last product shares the table."""

    integer_inputs = True

    def __init__(self, classes=5, width=4, dtype="float32", seed=0):
        super().__init__()
        table = numpy.random.default_rng(seed).normal(size=(classes, width)).astype(dtype)
        self.table = Parameter(dl.engines.current().asarray(table), name="table")
        self.mix, self.tanh = dl.Linear(width, width, dtype=dtype), dl.Tanh()
        self.seen = []

    def forward(self, ids):
        self.seen.append(ids.dtype)
        table = self.table.value  # (K, D)
        self.ids = ids.reshape(-1).astype("int64")  # (N T,)
        self.hidden = self.tanh.forward(self.mix.forward(table[self.ids]))  # (N T, D)
        return (self.hidden @ table.T).reshape(*ids.shape, -1)  # (N, T, K)

    def backward(self, dy):
        table = self.table.value
        rows = dy.reshape(-1, dy.shape[-1])  # (N T, K)
        dhidden = self.mix.backward(self.tanh.backward(rows @ table))  # (N T, D)
        one_hot = (self.ids[:, None] == namespace(dy).arange(len(table))).astype(table.dtype)  # (N T, K)
        self.table.accumulate(rows.T @ self.hidden + one_hot.T @ dhidden)


class Masked(Trainable, Layer):
    """The mean of the embeddings of the positions that a mask keeps, through an affine map: one label for a sequence."""

    def __init__(self, ids=6, width=4, classes=3, dtype="float32"):
        super().__init__()
        table = numpy.random.default_rng(1).normal(size=(ids, width)).astype(dtype)
        self.table = Parameter(table, name="table")
        self.head = dl.Linear(width, classes, dtype=dtype)
        self.seen = []

    def forward(self, ids, mask, scale=None):
        self.seen.append((ids.dtype.name, mask.dtype.name, None if scale is None else scale.dtype.name))
        scale = numpy.ones(len(ids), self.table.dtype) if scale is None else scale
        share = mask / numpy.maximum(mask.sum(axis=1, keepdims=True), 1) * scale[:, None]  # (N, T)
        self.ids, self.share = ids, share.astype(self.table.dtype)
        return self.head.forward((self.table.value[ids] * self.share[..., None]).sum(axis=1))  # (N, K)

    def backward(self, dy):
        d = self.head.backward(dy)  # (N, D)
        grad = numpy.zeros_like(self.table.value)
        numpy.add.at(grad, self.ids, d[:, None] * self.share[..., None])
        self.table.accumulate(grad)
