"""Layers of somebody's own, as a Transformer has them, that several tests share."""

import numpy

import minidl as dl
from minidl.layers import TableParameter


class Embedding(dl.Layer):
    """Rows of a table, by integers."""

    integer_inputs = True

    def __init__(self, rows, width, dtype="float32"):
        super().__init__()
        random = numpy.random.default_rng(1)
        self.weight = TableParameter(random.normal(size=(rows, width)).astype(dtype), name="weight")

    def forward(self, ids):
        self._remember(ids)
        return self.weight.value[ids]

    def backward(self, dy):
        self.weight.add_rows(self._remembered(), dy)


class Block(dl.Layer):
    """x + mlp(ln(x)), forward and backward written out, with what it is made of in a dict and a list."""

    def __init__(self, width=4, dtype="float32"):
        super().__init__()
        self.parts = {"ln_1": dl.LayerNorm(width, dtype=dtype)}
        self.mlp = dl.layers.Chain(
            [dl.Linear(width, 2 * width, dtype=dtype), dl.Tanh(), dl.Linear(2 * width, width, dtype=dtype)]
        )

    def forward(self, x):
        return x + self.mlp.forward(self.parts["ln_1"].forward(x))

    def backward(self, dy):
        return dy + self.parts["ln_1"].backward(self.mlp.backward(dy))


class Trunk(dl.Layer):
    """Blocks in a list."""

    def __init__(self, depth=2, width=4, dtype="float32"):
        super().__init__()
        self.blocks = [Block(width, dtype) for _ in range(depth)]

    def forward(self, x):
        for block in self.blocks:
            x = block.forward(x)
        return x

    def backward(self, dy):
        for block in reversed(self.blocks):
            dy = block.backward(dy)
        return dy


class Recurrent(dl.Layer):
    """h_t = tanh(x_t + a h_{t-1}) with a trained number a; x has shape (N, T, C)."""

    def __init__(self, dtype="float64"):
        super().__init__()
        self.a = dl.Parameter(numpy.full(1, 0.5, dtype), name="a")

    def forward(self, x):
        return self.forward_with_state(x)[0]

    def backward(self, dy):
        return self.backward_with_state(dy)[0]

    def forward_with_state(self, x, state=None):
        before = numpy.zeros_like(x[:, 0]) if state is None else state
        states = [before]
        for t in range(x.shape[1]):
            states.append(numpy.tanh(x[:, t] + self.a.value * states[-1]))
        self._remember(states)
        return numpy.stack(states[1:], axis=1), states[-1]

    def backward_with_state(self, dy, dstate=None):
        states = self._remembered()
        dh = numpy.zeros_like(states[0]) if dstate is None else dstate
        dx, da = numpy.empty_like(dy), 0.0
        for t in reversed(range(dy.shape[1])):
            dx[:, t] = (dh + dy[:, t]) * (1 - states[t + 1] ** 2)
            da += float((dx[:, t] * states[t]).sum())
            dh = self.a.value * dx[:, t]
        self.a.accumulate(numpy.array([da], self.a.dtype))
        return dx, dh
