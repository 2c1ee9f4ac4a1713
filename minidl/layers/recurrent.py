"""Recurrent networks as layers: stacked, in both directions, with their state as an argument and a result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl import init, random
from minidl.engines import current
from minidl.errors import ParameterError, ShapeError, UnknownNameError, warn
from minidl.layers.base import Layer, Shape, cast_input
from minidl.layers.parameter import Parameter, claim_gradients, release_gradients
from minidl.ops import Array, namespace
from minidl.ops._scalars import depth

__all__ = ["GRU", "LSTM", "RNN"]


class _Recurrent(Layer):
    """What the three share: parameters by PyTorch's names, the order of layers and directions, and the state."""

    input_gradient_optional = True
    op: str
    gates: int
    states: tuple[str, ...] = ("h",)
    settings: tuple[Any, ...] = ()
    """The arguments of the op after ``reverse``."""
    _live = ("dropout", "generator")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        title = type(self).__name__
        num_layers = depth(num_layers, title, "num_layers")
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if isinstance(size, bool) or not isinstance(size, (int, numpy.integer)) or size < 1:
                raise ParameterError(f"{title}: {name} must be a positive integer, got {size!r}")
        if not 0.0 <= dropout <= 1.0:
            raise ParameterError(f"{title}: dropout must be from 0 to 1, got {dropout!r}")
        if dropout and num_layers == 1:
            warn(f"{title}: dropout acts between layers, and there is only one")
        self.input_size, self.hidden_size, self.num_layers = int(input_size), int(hidden_size), num_layers
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout, self.generator = dropout, generator
        self.dtype = numpy.dtype(dtype)
        self._passes = [(layer, way) for layer in range(self.num_layers) for way in range(self.directions)]
        for layer, way in self._passes:
            self._make_parameters(layer, way)

    @property
    def directions(self) -> int:
        """In how many directions the sequences are read."""
        return 2 if self.bidirectional else 1

    def _make_parameters(self, layer: int, way: int) -> None:
        bound, rows = 1.0 / math.sqrt(self.hidden_size), self.gates * self.hidden_size
        features = self.input_size if layer == 0 else self.directions * self.hidden_size
        shapes: list[Shape] = [(rows, features), (rows, self.hidden_size), (rows,), (rows,)]
        for name, shape in zip(self._names(layer, way), shapes, strict=False):
            value = init.uniform(shape, low=-bound, high=bound, dtype=self.dtype, generator=self.generator)
            setattr(self, name, Parameter(current().asarray(value), name=name))

    def _names(self, layer: int, way: int) -> list[str]:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")
        return [f"{kind}_l{layer}{'_reverse' if way else ''}" for kind in kinds]

    def _parameters_of(self, layer: int, way: int) -> tuple[Parameter | None, ...]:
        """Return weight_ih, weight_hh, bias_ih and bias_hh."""
        found = [getattr(self, name) for name in self._names(layer, way)]
        return (*found, *[None] * (4 - len(found)))

    # computing -------------------------------------------------------------------------------------------------------

    def forward(self, x: Array, lengths: Array | None = None) -> Array:
        """Return the outputs of the last layer, from an initial state of zeros.

        Parameters
        ----------
        x : array, shape (N, T, input_size)
            Or (T, N, input_size) with ``batch_first=False``.
        lengths : array of int, shape (N,), optional
            How many steps of each sequence count, from 1 to T. The others are padding: y is 0 there.

        Returns
        -------
        y : array, shape (N, T, directions * hidden_size)
            Or (T, N, ...) as x.
        """
        return self._run(x, None, lengths)[0]

    def forward_with_state(self, x: Array, state: Any = None, lengths: Array | None = None) -> tuple[Array, Any]:
        """Return the outputs of the last layer and the final state, as ``forward`` of PyTorch does.

        Parameters
        ----------
        x : array, shape (N, T, input_size)
        state : array, shape (num_layers * directions, N, hidden_size), or a tuple (h, c) of two for LSTM, optional
            What the last call returned; zeros by default.
        lengths : array of int, shape (N,), optional

        Returns
        -------
        y : array, shape (N, T, directions * hidden_size)
        state : array, or a tuple (h, c) of two
            After the last step that counts; after the first one where a direction goes backwards.
        """
        x = self._checked(x)
        batch = x.shape[0] if self.batch_first else x.shape[1]
        shape = (len(self._passes), batch, self.hidden_size)
        if state is None:
            given = [namespace(x).zeros(shape, dtype=x.dtype) for _ in self.states]
        else:
            given = self._check_state(state, shape)
        y, finals = self._run(x, given, lengths)
        return y, finals if len(self.states) > 1 else finals[0]

    def backward(self, dy: Array, input_gradient: bool = True) -> Any:
        """Add to the gradients of the parameters, and return dx; (dx, None) if ``forward`` was given lengths."""
        dx, _, with_lengths = self._run_back(dy, None, input_gradient)
        return (dx, None) if with_lengths else dx

    def backward_with_state(self, dy: Array | None, dstate: Any = None) -> tuple[Array, Any]:
        """Add to the gradients of the parameters, and return the gradients of x and of the initial state.

        Parameters
        ----------
        dy : array or None
            None is zero.
        dstate : array, or a tuple of two for LSTM, optional
            The gradient of the final state. None is zero, as in truncated backpropagation through time.
        """
        dx, dstates, _ = self._run_back(dy, dstate, True)
        return dx, dstates if len(self.states) > 1 or dstates is None else dstates[0]

    def select_state(self, state: Any, rows: Any) -> Any:
        """Return the state of some sequences of the batch, in this order; one may come several times.

        Parameters
        ----------
        state : array, or a tuple of two
        rows : array of int
        """
        if isinstance(state, tuple):
            return tuple(self.select_state(part, rows) for part in state)
        return state[:, rows if isinstance(rows, slice) else namespace(state).asarray(rows)]

    def _run(self, x: Array, state: Sequence[Array] | None, lengths: Array | None) -> tuple[Array, tuple[Array, ...]]:
        x = self._checked(x)
        y = x if self.batch_first else x.swapaxes(0, 1)  # (N, T, C)
        run = getattr(current(), self.op)
        caches: list[Any] = []
        masks: list[Any] = []
        finals: list[tuple[Array, ...]] = []
        for layer in range(self.num_layers):
            y, mask = self._drop(y) if layer else (y, None)
            outputs = []
            for way in range(self.directions):
                first = [None] * len(self.states) if state is None else [part[len(caches)] for part in state]
                values = [None if p is None else p.value for p in self._parameters_of(layer, way)]
                (output, *final), cache = run(y, *first, *values, lengths, bool(way), *self.settings)
                outputs.append(output)
                finals.append(tuple(final))
                caches.append(cache)
            y = outputs[0] if len(outputs) == 1 else namespace(y).concatenate(outputs, axis=-1)  # (N, T, directions H)
            masks.append(mask)
        self._remember((caches, masks, lengths is not None, state is not None))
        states = () if state is None else tuple(namespace(y).stack(part) for part in zip(*finals, strict=True))
        return y if self.batch_first else y.swapaxes(0, 1), states

    def _run_back(self, dy: Array | None, dstate: Any, input_gradient: bool) -> tuple[Array | None, Any, bool]:
        caches, masks, with_lengths, with_state = self._remembered()
        dfinal = None if dstate is None else dstate if isinstance(dstate, tuple) else (dstate,)
        dinitial: list[list[Array]] = [[] for _ in self.states]
        if dy is not None and not self.batch_first:
            dy = dy.swapaxes(0, 1)
        for layer in reversed(range(self.num_layers)):
            dx: Array | None = None
            for way in reversed(range(self.directions)):
                place = layer * self.directions + way
                part = dy if dy is None else dy[..., way * self.hidden_size :][..., : self.hidden_size]
                upstream = (part, *((None,) * len(self.states) if dfinal is None else (d[place] for d in dfinal)))
                own, *before = self._backward_of(layer, way, upstream, caches[place], input_gradient or layer > 0)
                dx = own if dx is None else dx + own
                for kept, gradient in zip(dinitial, before, strict=True):
                    kept.append(gradient)
            dy = dx if masks[layer] is None else current().dropout_backward(dx, masks[layer])
        if dy is not None and not self.batch_first:
            dy = dy.swapaxes(0, 1)
        states = tuple(namespace(part[0]).stack(part[::-1]) for part in dinitial) if with_state else None
        return dy, states, with_lengths

    def _backward_of(
        self, layer: int, way: int, upstream: tuple[Array | None, ...], cache: Any, input_gradient: bool
    ) -> Any:
        """Run the op's backward; return the gradients of its input and of its initial states."""
        parameters = self._parameters_of(layer, way)
        storage = into, add, wanted = claim_gradients(parameters, input_gradient)
        wanted = (wanted[0], *(True for _ in self.states), *wanted[1:])
        try:
            return getattr(current(), f"{self.op}_backward")(upstream, cache, into, add, wanted)[: 1 + len(self.states)]
        except BaseException:
            release_gradients(parameters, storage)
            raise

    def _drop(self, x: Array) -> tuple[Array, Any]:
        if not self.training or self.dropout == 0.0:
            return x, None
        return current().dropout(x, self.dropout, self.generator or random.generator())

    # checks and shapes -----------------------------------------------------------------------------------------------

    def _checked(self, x: Array) -> Array:
        """Return x in the precision of the weights.

        Raises
        ------
        ShapeError
            If it is no batch of sequences of this many features.
        """
        x = cast_input(self, x, self._parameters_of(0, 0)[0].value)  # type: ignore[union-attr]
        if x.ndim != 3 or x.shape[2] != self.input_size:
            axes = "N, T" if self.batch_first else "T, N"
            raise ShapeError(f"{self!r}: expected a batch of shape ({axes}, {self.input_size}), got shape {x.shape}")
        return x

    def _check_state(self, state: Any, shape: Shape) -> list[Array]:
        parts = state if isinstance(state, tuple) else (state,)
        if len(parts) != len(self.states):
            kind = f"a tuple ({', '.join(self.states)})" if len(self.states) > 1 else "one array"
            raise ShapeError(f"{self!r}: the state must be {kind} of shape {shape}, got {len(parts)} of them")
        checked = []
        for part in parts:
            part = cast_input(self, part, self._parameters_of(0, 0)[0].value)  # type: ignore[union-attr]
            if part.shape != shape:
                raise ShapeError(
                    f"{self!r}: the state must have shape {shape}, (num_layers * directions, N, hidden_size), got "
                    f"{part.shape}"
                )
            checked.append(part)
        return checked

    @property
    def input_shape(self) -> Shape | None:
        """One step of an example: (input_size,)."""
        return (self.input_size,)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., directions * hidden_size)."""
        if not input_shape or input_shape[-1] != self.input_size:
            raise ShapeError(
                f"expected an input with {self.input_size} features on the last axis, got examples of shape {input_shape}"
            )
        return (*input_shape[:-1], self.directions * self.hidden_size)

    def flops(self, input_shape: Shape) -> int:
        """Count the products: 2 for each weight at each step."""
        weights = (p.value.size for at in self._passes for p in self._parameters_of(*at)[:2] if p is not None)
        return 2 * sum(weights) * math.prod(input_shape[:-1])

    def extra_repr(self) -> str:
        """Return the sizes, and the arguments that differ from their defaults."""
        shown = [f"{self.input_size}, {self.hidden_size}"]
        plain = {"num_layers": 1, "bias": True, "batch_first": True, "dropout": 0.0, "bidirectional": False}
        shown += [f"{name}={getattr(self, name)}" for name, default in plain.items() if getattr(self, name) != default]
        return ", ".join(shown)


class RNN(_Recurrent):
    """A simple recurrent network, in one or several layers; ``minidl.ops.rnn`` derives its gradients.

    ``forward`` takes sequences and returns the outputs of the last layer. ``forward_with_state`` also takes and returns a
    state, as PyTorch's ``forward`` does; see docs/recurrent.md.

    Parameters
    ----------
    input_size : int
        The number of features of a step.
    hidden_size : int
        The size H of the hidden state.
    num_layers : int, default 1
        Each layer after the first reads the outputs of the one before.
    nonlinearity : {"tanh", "relu"}, default "tanh"
    bias : bool, default True
    batch_first : bool, default True
        Whether inputs and outputs are (N, T, features), as elsewhere in minidl, or (T, N, features).
    dropout : float, default 0.0
        In training, the probability of dropping an output of a layer before the next.
    bidirectional : bool, default False
        Whether each layer also reads the sequences from the end. Its outputs are then those of both directions side by side.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights and the dropout; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight_ih_l0 : Parameter, shape (H, input_size)
        And so on for each layer; with ``_reverse`` at the end for the other direction.
    weight_hh_l0 : Parameter, shape (H, H)
    bias_ih_l0, bias_hh_l0 : Parameter, shape (H,), if ``bias``

    Raises
    ------
    ParameterError
        If a size is not a positive integer, or dropout is not from 0 to 1.
    UnknownNameError
        If the nonlinearity is neither of the two.

    Notes
    -----
    All initial parameters are uniform in +-1 / sqrt(hidden_size), as in PyTorch.

    Examples
    --------
    >>> layer = RNN(3, 4)
    >>> layer.forward(numpy.ones((2, 5, 3), dtype="float32")).shape
    (2, 5, 4)
    """

    op = "rnn"
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise UnknownNameError.among("nonlinearity", nonlinearity, ["tanh", "relu"])
        options: dict[str, Any] = {"dtype": dtype, "generator": generator}
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options)
        self.nonlinearity = nonlinearity

    @property
    def settings(self) -> tuple[Any, ...]:  # type: ignore[override]
        """The nonlinearity."""
        return (self.nonlinearity,)

    def extra_repr(self) -> str:
        """Return the sizes, and the arguments that differ from their defaults."""
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}")


class LSTM(_Recurrent):  # numpydoc ignore=PR02
    """A long short-term memory, in one or several layers; ``minidl.ops.lstm`` derives its gradients.

    ``forward`` takes sequences and returns the outputs of the last layer. ``forward_with_state`` also takes and returns a
    state (h, c), as PyTorch's ``forward`` does; see docs/recurrent.md.

    Parameters
    ----------
    input_size : int
        The number of features of a step.
    hidden_size : int
        The size H of the hidden state.
    num_layers : int, default 1
        Each layer after the first reads the outputs of the one before.
    bias : bool, default True
    batch_first : bool, default True
        Whether inputs and outputs are (N, T, features), as elsewhere in minidl, or (T, N, features).
    dropout : float, default 0.0
        In training, the probability of dropping an output of a layer before the next.
    bidirectional : bool, default False
        Whether each layer also reads the sequences from the end. Its outputs are then those of both directions side by side.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights and the dropout; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight_ih_l0 : Parameter, shape (4 H, input_size)
        The rows of the gates in the order i, f, g, o. And so on for each layer; with ``_reverse`` at the end for the other
        direction.
    weight_hh_l0 : Parameter, shape (4 H, H)
    bias_ih_l0, bias_hh_l0 : Parameter, shape (4 H,), if ``bias``

    Raises
    ------
    ParameterError
        If a size is not a positive integer, or dropout is not from 0 to 1.

    Notes
    -----
    All initial parameters are uniform in +-1 / sqrt(hidden_size), as in PyTorch.

    Examples
    --------
    >>> layer = LSTM(3, 4, num_layers=2)
    >>> y, (h, c) = layer.forward_with_state(numpy.ones((2, 5, 3), dtype="float32"))
    >>> y.shape, h.shape, c.shape
    ((2, 5, 4), (2, 2, 4), (2, 2, 4))
    """

    op = "lstm"
    gates = 4
    states = ("h", "c")


class GRU(_Recurrent):  # numpydoc ignore=PR02
    """A gated recurrent unit, in one or several layers; ``minidl.ops.gru`` derives its gradients.

    ``forward`` takes sequences and returns the outputs of the last layer. ``forward_with_state`` also takes and returns a
    state, as PyTorch's ``forward`` does; see docs/recurrent.md.

    Parameters
    ----------
    input_size : int
        The number of features of a step.
    hidden_size : int
        The size H of the hidden state.
    num_layers : int, default 1
        Each layer after the first reads the outputs of the one before.
    bias : bool, default True
    batch_first : bool, default True
        Whether inputs and outputs are (N, T, features), as elsewhere in minidl, or (T, N, features).
    dropout : float, default 0.0
        In training, the probability of dropping an output of a layer before the next.
    bidirectional : bool, default False
        Whether each layer also reads the sequences from the end. Its outputs are then those of both directions side by side.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights and the dropout; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight_ih_l0 : Parameter, shape (3 H, input_size)
        The rows of the gates in the order r, z, n. And so on for each layer; with ``_reverse`` at the end for the other
        direction.
    weight_hh_l0 : Parameter, shape (3 H, H)
    bias_ih_l0, bias_hh_l0 : Parameter, shape (3 H,), if ``bias``

    Raises
    ------
    ParameterError
        If a size is not a positive integer, or dropout is not from 0 to 1.

    Notes
    -----
    All initial parameters are uniform in +-1 / sqrt(hidden_size), as in PyTorch.

    Examples
    --------
    >>> layer = GRU(3, 4, bidirectional=True)
    >>> layer.forward(numpy.ones((2, 5, 3), dtype="float32")).shape
    (2, 5, 8)
    """

    op = "gru"
    gates = 3
