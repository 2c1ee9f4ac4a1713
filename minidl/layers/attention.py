"""Attention as layers: of several heads as PyTorch has it, and with shared heads and rotary positions as Llama has it."""

from __future__ import annotations

from typing import Any

import numpy

from minidl import init, random
from minidl.engines import current
from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.layers.base import Layer, Shape, cast_input
from minidl.layers.key_values import KeyValues
from minidl.layers.linear import Linear
from minidl.layers.parameter import Parameter, claim_gradients, release_gradients
from minidl.layers.position import RotaryPositions
from minidl.ops import Array, namespace
from minidl.ops.attention import attention_weights
from minidl.ops.position_tables import alibi_bias

__all__ = ["GroupedQueryAttention", "MultiheadAttention"]


def split_heads(x: Array, heads: int) -> Array:
    """Return (N, T, H D) as (N, H, T, D), a view where x allows it."""
    batch, length, size = x.shape
    return x.reshape((batch, length, heads, size // heads)).transpose((0, 2, 1, 3))


def split_joint(x: Array, heads: int, parts: int = 3) -> tuple[Array, ...]:
    """Return the parts of a joint projection, (N, T, parts H D), each as (N, H, T, D), views where x allows it."""
    batch, length, size = x.shape
    return tuple(x.reshape((batch, length, parts, heads, size // (parts * heads))).transpose((2, 0, 3, 1, 4)))


def merge_heads(x: Array) -> Array:
    """Return (N, H, T, D) as (N, T, H D)."""
    batch, heads, length, size = x.shape
    return x.transpose((0, 2, 1, 3)).reshape((batch, length, heads * size))


def join_heads(parts: list[Array]) -> Array:
    """Return arrays of shape (N, H, T, D) side by side in one of shape (N, T, sum of H D)."""
    if len(parts) == 1:
        return merge_heads(parts[0])
    batch, _, length, _ = parts[0].shape
    widths = [part.shape[1] * part.shape[3] for part in parts]
    whole = namespace(parts[0]).empty((batch, length, sum(widths)), dtype=parts[0].dtype)
    start = 0
    for part, width in zip(parts, widths, strict=True):
        view = whole[..., start : start + width].reshape((batch, length, part.shape[1], part.shape[3]))
        view[...] = part.transpose((0, 2, 1, 3))
        start += width
    return whole


def combine_masks(
    layer: Layer, attn_mask: Any, key_padding_mask: Any, shape: tuple[int, int, int, int], like: Array
) -> Array | None:
    """Return the two masks of PyTorch's modules as the one of ``minidl.ops.scaled_dot_product_attention``.

    Parameters
    ----------
    layer : Layer
        For messages.
    attn_mask : array, shape (T, S) or (N H, T, S), optional
        Booleans are True where a query may not look; numbers are added to the scores.
    key_padding_mask : array, shape (N, S), optional
        The same for keys.
    shape : tuple of int
        (N, H, T, S).
    like : array
        Whose dtype an additive mask gets.
    """
    batch, heads, queries, keys = shape
    masks = []
    if attn_mask is not None:
        allowed = ((queries, keys), (batch * heads, queries, keys))
        _check_mask(layer, "attn_mask", attn_mask, allowed)
        masks.append(attn_mask if attn_mask.ndim == 2 else attn_mask.reshape(shape))
    if key_padding_mask is not None:
        _check_mask(layer, "key_padding_mask", key_padding_mask, ((batch, keys),))
        masks.append(key_padding_mask.reshape((batch, 1, 1, keys)))
    if not masks:
        return None
    if all(mask.dtype.kind == "b" for mask in masks):
        forbidden = masks[0] if len(masks) == 1 else masks[0] | masks[1]
        return ~forbidden  # (N, H, T, S), some of them 1
    xp = namespace(like)
    added = [
        xp.where(mask, -numpy.inf, 0.0).astype(like.dtype) if mask.dtype.kind == "b" else mask.astype(like.dtype)
        for mask in masks
    ]
    return added[0] if len(added) == 1 else added[0] + added[1]


def _check_mask(layer: Layer, name: str, mask: Any, shapes: tuple[Shape, ...]) -> None:
    kind = getattr(getattr(mask, "dtype", None), "kind", None)
    if kind not in ("b", "f"):
        came = type(mask).__name__ if kind is None else f"dtype {mask.dtype}"
        raise DtypeError(
            f"{layer!r}: {name} must be boolean (True is left out) or floating-point (added to the scores), got {came}"
        )
    if mask.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ShapeError(f"{layer!r}: {name} must have shape {wanted}, got {mask.shape}")


class MultiheadAttention(Layer):
    """Attention of several heads, with the names, arguments and masks of PyTorch's module.

    With heads h of size D = C / H::

        y = concat_h(attention(q_h, k_h, v_h)) W_out^T + b_out,   (q, k, v) = (query, key, value) W_in^T + b_in

    ``forward(x)`` is self-attention: one product makes queries, keys and values. ``forward(x, memory)`` is cross-attention, with
    keys and values from the memory. ``forward(query, key, value)`` has three inputs. ``backward`` returns one gradient for each
    of them.

    Parameters
    ----------
    embed_dim : int
        C, the features of query and output.
    num_heads : int
        H, which must divide C.
    dropout : float, default 0.0
        The probability of dropping a weight in training.
    bias : bool, default True
        Whether the maps have a bias.
    kdim, vdim : int, default embed_dim
        The features of keys and values.
    batch_first : bool, default True
        Whether inputs have shape (N, T, C), as everywhere in minidl; with False (T, N, C).
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    in_proj_weight : Parameter, shape (3 C, C)
        Those of queries, keys and values below one another. If ``kdim`` or ``vdim`` is another size, there are
        ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight`` instead.
    in_proj_bias : Parameter, shape (3 C,), or None
    out_proj : Linear

    Raises
    ------
    ParameterError
        If the heads do not divide the features, or the dropout is no probability.
    ShapeError
        From ``forward``, if inputs or masks do not fit together.
    DtypeError
        From ``forward``, if a mask is neither boolean nor floating-point.

    Notes
    -----
    The weights are initially Xavier-uniform, and the biases zero, as in PyTorch. Unlike there, only the output is returned
    unless the weights are asked for, and a row whose mask forbids every key gives zeros instead of nan. After a forward,
    :meth:`weights` returns the maps.

    Examples
    --------
    >>> layer = MultiheadAttention(8, 2)
    >>> x, memory = numpy.ones((3, 5, 8), "float32"), numpy.ones((3, 4, 8), "float32")
    >>> layer.forward(x, memory).shape, layer.weights().shape
    ((3, 5, 8), (3, 2, 5, 4))
    >>> dx, dmemory = layer.backward(x)
    >>> dx.shape, dmemory.shape
    ((3, 5, 8), (3, 4, 8))
    """

    _live = ("dropout", "generator")
    in_proj_weight: Parameter
    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_heads("MultiheadAttention", embed_dim, num_heads, dropout)
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first, self.dtype, self.generator = batch_first, numpy.dtype(dtype), generator
        self._joint = self.kdim == self.vdim == embed_dim

        def draw(name: str, rows: int, columns: int) -> Parameter:
            weight = init.xavier_uniform((rows, columns), dtype=self.dtype, generator=generator)
            return Parameter(current().asarray(weight), name=name)

        if self._joint:
            self.in_proj_weight = draw("in_proj_weight", 3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = draw("q_proj_weight", embed_dim, embed_dim)
            self.k_proj_weight = draw("k_proj_weight", embed_dim, self.kdim)
            self.v_proj_weight = draw("v_proj_weight", embed_dim, self.vdim)
        zeros = numpy.zeros(3 * embed_dim, self.dtype)
        self.in_proj_bias = Parameter(current().asarray(zeros), name="in_proj_bias") if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype, generator=generator)
        if self.out_proj.bias is not None:
            self.out_proj.bias.value[...] = 0

    # projections -----------------------------------------------------------------------------------------------------

    def _own_weights(self) -> tuple[Parameter, ...]:
        return (self.in_proj_weight,) if self._joint else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)

    def _projections(self, inputs: int) -> list[tuple[int, int, int]]:
        """Return the products to compute: which input, and which of queries, keys and values it gives, from the first to the last."""
        if not self._joint:
            return [(0, 0, 1), (min(1, inputs - 1), 1, 2), (inputs - 1, 2, 3)]
        return {1: [(0, 0, 3)], 2: [(0, 0, 1), (1, 1, 3)], 3: [(0, 0, 1), (1, 1, 2), (2, 2, 3)]}[inputs]

    def _rows(self, first: int, last: int) -> slice:
        return slice(first * self.embed_dim, last * self.embed_dim)

    def _project(self, x: Array, first: int, last: int) -> tuple[list[Array], Any]:
        """Return some of queries, keys and values, each (N, H, T, D), and the cache of the product."""
        rows, bias = self._rows(first, last), self.in_proj_bias
        weight = self.in_proj_weight.value[rows] if self._joint else self._own_weights()[first].value
        z, cache = current().linear(x, weight, None if bias is None else bias.value[rows])  # (N, T, some of 3 C)
        return list(split_joint(z, self.num_heads, last - first)), cache

    def _check_inputs(self, inputs: list[Any]) -> list[Array]:
        """Return the inputs as (N, T, C) and in the precision of the weights; raise unless they fit."""
        like = self._own_weights()[0].value
        inputs = [cast_input(self, x, like) for x in inputs]
        sizes = (self.embed_dim, self.kdim, self.vdim)
        for name, x, size in zip(("query", "key", "value"), inputs, sizes, strict=False):
            if x.ndim != 3 or x.shape[2] != size:
                order = "(N, T, C)" if self.batch_first else "(T, N, C)"
                raise ShapeError(f"{self!r}: {name} must have shape {order} with C = {size}, got {x.shape}")
        if not self.batch_first:
            inputs = [x.swapaxes(0, 1) for x in inputs]
        if len({x.shape[0] for x in inputs}) > 1 or len({x.shape[1] for x in inputs[1:]}) > 1:
            raise ShapeError(
                f"{self!r}: inputs must have one batch size, and key and value one length, got shapes "
                f"{', '.join(str(x.shape) for x in inputs)} (N, T, C)"
            )
        return inputs

    # computing -------------------------------------------------------------------------------------------------------

    def forward(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        key_padding_mask: Array | None = None,
        need_weights: bool = False,
        attn_mask: Array | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> Any:
        """Return the output, (N, T, C).

        Parameters
        ----------
        query : array, shape (N, T, C)
        key : array, shape (N, S, kdim), default query
        value : array, shape (N, S, vdim), default key
        key_padding_mask : array, shape (N, S), optional
            Booleans are True for keys that are left out; numbers are added to the scores.
        need_weights : bool, default False
            Whether to return the weights too, which have no gradient.
        attn_mask : array, shape (T, S) or (N H, T, S), optional
            Booleans are True where a query may not look; numbers are added to the scores.
        average_attn_weights : bool, default True
            Whether weights that are returned are the mean of the heads, (N, T, S), instead of (N, H, T, S).
        is_causal : bool, default False
            Whether a position sees only itself and those before it; no mask is needed for that.

        Returns
        -------
        y : array, shape (N, T, C)
        weights : array
            Only with ``need_weights``.
        """
        given = [x for x in (query, key, value) if x is not None]
        inputs = self._check_inputs(given)
        shape = (inputs[0].shape[0], self.num_heads, inputs[0].shape[1], inputs[-1].shape[1])
        mask = combine_masks(self, attn_mask, key_padding_mask, shape, inputs[0])
        parts: list[Array] = []
        caches = []
        for index, first, last in self._projections(len(inputs)):
            some, cache = self._project(inputs[index], first, last)
            parts += some
            caches.append(cache)
        y, attended = self._attend(parts, mask, is_causal)
        self._remember((len(inputs), caches, attended))
        if not need_weights:
            return y
        maps = attention_weights(attended)
        return y, maps.mean(axis=1) if average_attn_weights else maps

    def _attend(self, parts: list[Array], mask: Array | None, is_causal: bool, offset: int = 0) -> tuple[Array, Any]:
        p = self.dropout if self.training else 0.0
        source = (self.generator or random.generator()) if p else None
        y, cache = current().scaled_dot_product_attention(*parts, mask, p, is_causal, offset=offset, random=source)
        y = self.out_proj.forward(merge_heads(y))  # (N, T, C)
        return y if self.batch_first else y.swapaxes(0, 1), cache

    def backward(self, dy: Any) -> Any:
        """Return the gradient of each input that forward was given; of the weights that it returned there is none."""
        inputs, caches, attended = self._remembered()
        dy = dy[0] if isinstance(dy, (tuple, list)) else dy
        dy = dy if self.batch_first else dy.swapaxes(0, 1)
        d = split_heads(self.out_proj.backward(dy), self.num_heads)
        parts = list(current().scaled_dot_product_attention_backward(d, attended))
        weights, bias = self._own_weights(), self.in_proj_bias
        storage = claim_gradients((*weights, bias))
        gradients: list[Any] = [None] * inputs
        try:
            for (index, first, last), cache in zip(self._projections(inputs), caches, strict=True):
                into, wanted = self._storage_of(storage, first, last)
                dx, *_ = current().linear_backward(join_heads(parts[first:last]), cache, into, storage[1], wanted)
                gradients[index] = dx if gradients[index] is None else gradients[index] + dx
        except BaseException:
            release_gradients((*weights, bias), storage)
            raise
        gradients = gradients if self.batch_first else [g.swapaxes(0, 1) for g in gradients]
        return tuple(gradients) if inputs > 1 else gradients[0]

    def _storage_of(self, storage: Any, first: int, last: int) -> tuple[tuple[Any, Any], tuple[bool, bool, bool]]:
        """Return where the gradients of some rows go, and which are wanted."""
        (*weights, bias), _, (_, *wanted) = storage
        rows, number = self._rows(first, last), 0 if self._joint else first
        weight = weights[number]
        weight = weight[rows] if self._joint and weight is not None else weight
        return (weight, None if bias is None else bias[rows]), (True, wanted[number], wanted[-1])

    def weights(self) -> Array:
        """Return the weights of the last forward, (N, H, T, S), before dropout; each row sums to 1.

        Raises
        ------
        OrderError
            If there was none outside ``minidl.inference()``; there, ask forward with ``need_weights=True``.
        """
        return attention_weights(self._remembered()[2])

    # generation ------------------------------------------------------------------------------------------------------

    def forward_with_state(self, x: Array, state: KeyValues | None = None) -> tuple[Array, KeyValues]:
        """Return the output for further positions of causal self-attention, and the state with their keys and values.

        Parameters
        ----------
        x : array, shape (N, T, C)
        state : KeyValues, optional
            Of the positions before; None if these are the first.
        """
        (inputs,) = self._check_inputs([x])
        before = KeyValues() if state is None else state
        before.check(inputs.shape[0], self.num_heads, self.embed_dim // self.num_heads, self)
        parts: list[Array] = []
        caches = []
        for _, first, last in self._projections(1):
            some, cache = self._project(inputs, first, last)
            parts += some
            caches.append(cache)
        after = before.append(parts[1], parts[2])
        y, attended = self._attend([parts[0], after.keys, after.values], None, True, before.length)
        self._remember((1, caches, attended) if before.length == 0 else None)
        return y, after

    def keys_and_values(self, memory: Array) -> KeyValues:
        """Return what cross-attention needs of a memory, (N, S, C), once for all steps of a generation."""
        memory = cast_input(self, memory, self._own_weights()[0].value)
        if memory.ndim != 3 or not memory.shape[2] == self.kdim == self.vdim:
            raise ShapeError(f"{self!r}: the memory must have shape (N, S, {self.kdim}), got {memory.shape}")
        keys, values = (self._project(memory, i, i + 1)[0][0] for i in (1, 2))
        return KeyValues().append(keys, values)

    def attend_to(self, x: Array, memory: KeyValues, key_padding_mask: Array | None = None) -> Array:
        """Return the cross-attention of x, (N, T, C), to a memory; nothing is kept for backward."""
        (query,) = self._check_inputs([x])
        shape = (query.shape[0], self.num_heads, query.shape[1], memory.length)
        mask = combine_masks(self, None, key_padding_mask, shape, query)
        (q,), _ = self._project(query, 0, 1)
        return self._attend([q, memory.keys, memory.values], mask, False)[0]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (T, C)."""
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """Count the products of self-attention: 8 T C^2 for the maps, and 4 T^2 C for scores and means."""
        length = input_shape[0]
        return 8 * length * self.embed_dim**2 + 4 * length**2 * self.embed_dim

    def extra_repr(self) -> str:
        """Return the sizes, and what differs from the defaults."""
        text = f"{self.embed_dim}, {self.num_heads}"
        if self.dropout:
            text += f", dropout={self.dropout}"
        for name, size in (("kdim", self.kdim), ("vdim", self.vdim)):
            text += "" if size == self.embed_dim else f", {name}={size}"
        return text + ("" if self.batch_first else ", batch_first=False")


class GroupedQueryAttention(Layer):
    """Self-attention in which several query heads share the keys and values of one, with relative positions, as in Llama.

    With as many key heads as query heads it is multi-head attention, with one it is multi-query attention. A key-value cache
    is H / H' times smaller.

    Parameters
    ----------
    embed_dim : int
        C.
    num_heads : int
        H, the heads of queries.
    num_kv_heads : int, default num_heads
        H', the heads of keys and values; must divide H.
    head_dim : int, default embed_dim / num_heads
        D.
    positions : {"rotary", "alibi"} or RotaryPositions, optional
        How queries and keys know their positions: turned by them, or with scores that fall with the distance.
    window : int, optional
        See only the last so many positions.
    is_causal : bool, default True
        Whether a position sees only itself and those before it.
    dropout : float, default 0.0
        The probability of dropping a weight in training.
    bias : bool, default False
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights, and what dropout drops; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    q_proj, k_proj, v_proj, o_proj : Linear
        Of H D, H' D, H' D and C outputs.

    Raises
    ------
    ParameterError
        If the heads do not divide one another or the features, or an argument is unknown.

    References
    ----------
    J. Ainslie et al., "GQA: training generalized multi-query Transformer models from multi-head checkpoints", EMNLP 2023.

    Examples
    --------
    >>> layer = GroupedQueryAttention(8, num_heads=4, num_kv_heads=2, positions="rotary")
    >>> layer.forward(numpy.ones((3, 5, 8), "float32")).shape
    (3, 5, 8)
    >>> {name: value.shape for name, value in layer.state_dict().items()}
    {'q_proj.weight': (8, 8), 'k_proj.weight': (4, 8), 'v_proj.weight': (4, 8), 'o_proj.weight': (8, 8)}
    """

    _live = ("dropout", "generator")

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        positions: Any = None,
        window: int | None = None,
        is_causal: bool = True,
        dropout: float = 0.0,
        bias: bool = False,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_heads("GroupedQueryAttention", embed_dim if head_dim is None else num_heads, num_heads, dropout)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if self.num_kv_heads < 1 or num_heads % self.num_kv_heads:
            raise ParameterError(
                f"GroupedQueryAttention: num_kv_heads must divide the {num_heads} heads, got {self.num_kv_heads}"
            )
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        self.window, self.is_causal, self.dropout, self.generator = window, is_causal, dropout, generator
        if positions == "rotary":
            positions = RotaryPositions(self.head_dim)
        if not (positions is None or positions == "alibi" or isinstance(positions, RotaryPositions)):
            raise ParameterError(
                f"GroupedQueryAttention: positions must be 'rotary', 'alibi', a RotaryPositions or None, got {positions!r}"
            )
        self.positions = positions
        options: dict[str, Any] = {"bias": bias, "dtype": dtype, "generator": generator}
        self.q_proj = Linear(embed_dim, num_heads * self.head_dim, **options)
        self.k_proj = Linear(embed_dim, self.num_kv_heads * self.head_dim, **options)
        self.v_proj = Linear(embed_dim, self.num_kv_heads * self.head_dim, **options)
        self.o_proj = Linear(num_heads * self.head_dim, embed_dim, **options)

    def forward(self, x: Array) -> Array:
        """Return the output for x, (N, T, C)."""
        return self._run(x, None)[0]

    def forward_with_state(self, x: Array, state: KeyValues | None = None) -> tuple[Array, KeyValues]:
        """Return the output for further positions, and the state with their keys and values.

        Parameters
        ----------
        x : array, shape (N, T, C)
        state : KeyValues, optional
            Of the positions before; None if these are the first.
        """
        y, after = self._run(x, KeyValues() if state is None else state)
        assert after is not None
        return y, after

    def _alibi(self, q: Array, k: Array, offset: int) -> Array:
        """Return what ALiBi adds to the scores, (H, T, S)."""
        return current().asarray(alibi_bias(self.num_heads, q.shape[2], k.shape[2], offset, q.dtype))

    def _run(self, x: Array, before: KeyValues | None) -> tuple[Array, KeyValues | None]:
        """Return the output, and the state if there was one before."""
        if len(getattr(x, "shape", ())) != 3 or x.shape[2] != self.embed_dim:
            raise ShapeError(f"{self!r}: x must have shape (N, T, {self.embed_dim}), got {getattr(x, 'shape', x)}")
        offset = 0
        if before is not None:
            before.check(x.shape[0], self.num_kv_heads, self.head_dim, self)
            offset = before.length
        heads = (self.num_heads, self.num_kv_heads, self.num_kv_heads)
        maps = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (split_heads(f.forward(x), h) for f, h in zip(maps, heads, strict=True))  # (N, H, T, D)
        turned = None
        if isinstance(self.positions, RotaryPositions):
            # what Linear returns is its caller's, while another layer may keep it for its backward
            owned = ((q, type(self.q_proj) is Linear), (k, type(self.k_proj) is Linear))
            (q, turned_q), (k, turned_k) = (
                self.positions.turn(part, offset, part if own else None) for part, own in owned
            )
            turned = turned_q, turned_k
        after = None
        if before is not None:
            after = before.append(k, v)
            k, v = after.keys, after.values
        mask = None
        if self.positions == "alibi":
            mask = self._alibi(q, k, offset)
        p = self.dropout if self.training else 0.0
        y, cache = current().scaled_dot_product_attention(
            q,
            k,
            v,
            mask,
            p,
            self.is_causal,
            enable_gqa=True,
            window=self.window,
            offset=offset,
            random=(self.generator or random.generator()) if p else None,
        )
        self._remember((cache, turned) if offset == 0 else None)
        return self.o_proj.forward(merge_heads(y)), after

    def backward(self, dy: Array) -> Array:
        """Return dx, the sum of what comes through queries, keys and values."""
        cache, turned = self._remembered()
        d = split_heads(self.o_proj.backward(dy), self.num_heads)
        dq, dk, dv = current().scaled_dot_product_attention_backward(d, cache)
        if turned is not None:
            dq, dk = (self.positions.turn_back(part, c, part) for part, c in zip((dq, dk), turned, strict=True))
        dx: Any = self.q_proj.backward(merge_heads(dq))
        dx = dx + self.k_proj.backward(merge_heads(dk))
        return dx + self.v_proj.backward(merge_heads(dv))

    def weights(self) -> Array:
        """Return the weights of the last forward, (N, H, T, S), before dropout; each row sums to 1."""
        return attention_weights(self._remembered()[0])

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.embed_dim}, {self.num_heads}, {self.num_kv_heads}"


def _check_heads(where: str, embed_dim: int, num_heads: int, dropout: float) -> None:
    if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
        raise ParameterError(
            f"{where}: num_heads must divide embed_dim, got {num_heads} heads and {embed_dim} features"
        )
    if not 0.0 <= dropout <= 1.0:
        raise ParameterError(f"{where}: dropout must be from 0 to 1, got {dropout!r}")
