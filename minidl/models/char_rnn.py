"""CharRNN: a recurrent network that reads a text and predicts its next character at every step."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError, UnknownNameError
from minidl.layers import GRU, LSTM, RNN, Dropout, Embedding, Linear
from minidl.models.sequential import Sequential

__all__ = ["CharRNN"]

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


class CharRNN(Sequential):
    """Predict the next token of a sequence from those before, by a recurrent network.

    The model, unrolled over time::

        logits     o_1     o_2     o_3        head: the same affine map at every step
                    ^       ^       ^
        state  -> h_1  -> h_2  -> h_3  ->     rnn: num_layers of them, one above the other
                    ^       ^       ^
        ids        x_1     x_2     x_3        embedding: a vector for each token

    ``forward(ids)`` begins with a state of zeros. ``forward_with_state(ids, state)`` continues where an earlier call ended,
    which generation and truncated backpropagation through time do; see docs/recurrent.md.

    Parameters
    ----------
    vocabulary_size : int
        V, the number of tokens.
    embedding_dim : int, default 128
        The length of a token's vector.
    hidden_size : int, default 256
    num_layers : int, default 1
    cell : {"lstm", "gru", "rnn"}, default "lstm"
    dropout : float, default 0.0
        In training, the probability of dropping an output of a recurrent layer.
    tie_weights : bool, default False
        Whether the head's matrix is the embedding's table. Then ``embedding_dim`` must be ``hidden_size``.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights and the dropout; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    context : None
        There is no limit to how far the state reaches back.

    Raises
    ------
    UnknownNameError
        If there is no such cell.
    ParameterError
        If weights are to be tied whose sizes differ, or a size is not positive.

    References
    ----------
    I. Sutskever, J. Martens, G. Hinton, "Generating text with recurrent neural networks", ICML 2011.
    A. Graves, "Generating sequences with recurrent neural networks" (2013), figure 1.
    O. Press, L. Wolf, "Using the output embedding to improve language models", EACL 2017, for tied weights.

    Examples
    --------
    >>> model = CharRNN(30, 8, 16)
    >>> ids = numpy.array([[3, 1, 4, 1, 5]])
    >>> model.forward(ids).shape
    (1, 5, 30)
    >>> logits, state = model.forward_with_state(ids[:, :3])
    >>> rest, state = model.forward_with_state(ids[:, 3:], state)
    >>> numpy.allclose(rest, model.forward(ids)[:, 3:], atol=1e-6)
    True
    >>> list(model.state_dict())
    ['embedding.weight', 'rnn.weight_ih_l0', 'rnn.weight_hh_l0', 'rnn.bias_ih_l0', 'rnn.bias_hh_l0', 'head.weight', 'head.bias']
    """

    context: None = None

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int = 128,
        hidden_size: int = 256,
        num_layers: int = 1,
        cell: str = "lstm",
        dropout: float = 0.0,
        tie_weights: bool = False,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        if cell not in CELLS:
            raise UnknownNameError.among("cell", cell, CELLS)
        if tie_weights and embedding_dim != hidden_size:
            raise ParameterError(
                "CharRNN: tied weights are one matrix (V, embedding_dim) = (V, hidden_size), got embedding_dim="
                f"{embedding_dim} and hidden_size={hidden_size}"
            )
        how: dict[str, Any] = {"dtype": dtype, "generator": generator}
        between = dropout if num_layers > 1 else 0.0
        layers: dict[str, Any] = {
            "embedding": Embedding(vocabulary_size, embedding_dim, **how),  # (N, T, embedding_dim)
            "rnn": CELLS[cell](embedding_dim, hidden_size, num_layers, dropout=between, **how),  # (N, T, hidden_size)
        }
        if dropout:
            layers["dropout"] = Dropout(dropout, generator=generator)
        layers["head"] = Linear(hidden_size, vocabulary_size, **how)  # (N, T, V)
        if tie_weights:
            layers["head"].weight = layers["embedding"].weight
        super().__init__(layers)

    def select_state(self, state: Any, rows: Any) -> Any:
        """Return the state of some sequences of the batch, in this order; one may come several times.

        Parameters
        ----------
        state : dict
            As ``forward_with_state`` returned it.
        rows : array of int
        """
        return {name: self[name].select_state(part, rows) for name, part in state.items()}
