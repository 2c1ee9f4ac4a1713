"""What a Transformer does at each position by itself: two affine maps with an activation between them, or a gated pair."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.layers.activation import activation as find_activation
from minidl.layers.base import Layer, Shape
from minidl.layers.linear import Linear
from minidl.ops import Array

__all__ = ["GeGLU", "SwiGLU"]


class _Gated(Layer):
    """A gated pair of maps; the subclasses differ in the activation."""

    input_gradient_optional = True
    _live = ()
    gate: str
    """The name of the activation."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int | None = None,
        bias: bool = False,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.hidden_features = in_features, hidden_features
        self.out_features = in_features if out_features is None else out_features
        options: dict[str, Any] = {"bias": bias, "dtype": dtype, "generator": generator}
        self.gate_proj = Linear(in_features, hidden_features, **options)
        self.up_proj = Linear(in_features, hidden_features, **options)
        self.down_proj = Linear(hidden_features, self.out_features, **options)
        self.activation: Any = find_activation(self.gate)

    def forward(self, x: Array) -> Array:
        """Return W_down (f(W_gate x) * W_up x)."""
        gate = self.activation.forward(self.gate_proj.forward(x))  # (..., F)
        up = self.up_proj.forward(x)  # (..., F)
        self._remember((gate, up))
        return self.down_proj.forward(gate * up)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx, the sum of what comes through the gate and through the other map."""
        gate, up = self._remembered()
        dh = self.down_proj.backward(dy)  # (..., F)
        through_gate: Any = self.gate_proj.backward(self.activation.backward(dh * up), input_gradient)
        through_up = self.up_proj.backward(dh * gate, input_gradient)
        return through_gate + through_up if input_gradient else None

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., out_features)."""
        return (*input_shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.in_features}, {self.hidden_features}, {self.out_features}"


class SwiGLU(_Gated):  # numpydoc ignore=PR02
    """A feed-forward block with a gate: y = W_down (silu(W_gate x) * W_up x), as in Llama.

    With h = g * u, g = silu(W_gate x) and u = W_up x, backward has dg = dh u and du = dh g, and dx is the sum of what both
    maps send back.

    Parameters
    ----------
    in_features : int
    hidden_features : int
        F, the size between the maps.
    out_features : int, default in_features
    bias : bool, default False
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    gate_proj, up_proj : Linear, from in_features to hidden_features
    down_proj : Linear, from hidden_features to out_features

    References
    ----------
    N. Shazeer, "GLU variants improve Transformer" (2020), equation 6.

    Examples
    --------
    >>> SwiGLU(4, 8).forward(numpy.ones((2, 3, 4), "float32")).shape
    (2, 3, 4)
    """

    gate = "silu"


class GeGLU(_Gated):
    """A feed-forward block with a gate: y = W_down (gelu(W_gate x) * W_up x).

    Arguments, attributes and gradients are those of :class:`SwiGLU`, with another activation.

    Examples
    --------
    >>> list(GeGLU(4, 8).state_dict())
    ['gate_proj.weight', 'up_proj.weight', 'down_proj.weight']
    """

    gate = "gelu"
