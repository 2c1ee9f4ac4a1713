"""LoRA: a large linear layer stays as it is, and the product of two small matrices beside it is trained."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy

from minidl import init, random, weights
from minidl.engines import current
from minidl.errors import OrderError, ParameterError
from minidl.layers.activation import Sigmoid, Softmax
from minidl.layers.base import Layer, Shape, cast_input
from minidl.layers.inference import keeps_caches
from minidl.layers.linear import Affine, Dense
from minidl.layers.parameter import Parameter, ParameterBuffer, flatten, run_backward, structure, to_namespace
from minidl.layers.swap import swap_layers
from minidl.ops import Array, namespace
from minidl.ops._scalars import scalars_checked
from minidl.weights.matching import Names, Target, load_tensors, match_names
from minidl.weights.tensors import MemoryTensor

__all__ = ["LoRALinear", "add_lora", "load_lora", "lora_state_dict", "merge_lora", "save_lora"]


class LoRALinear(Layer):
    """A linear layer that is frozen, plus a product of two small matrices that is trained.

    With the weight W and the bias b of the layer, and s = ``alpha`` / ``rank``::

        y = x W^T + b + s (x' A^T) B^T,   x' = dropout(x)

    Write u = s x' A^T, of r = ``rank`` features, so that y = x W^T + b + u B^T. The second map is a linear layer of u, and u
    one of x', so with the gradients of ``minidl.ops.linear``::

        dB = dy^T u
        du = dy B
        dA = (s du)^T x'
        dx = dy W + dropout'((s du) A)

    B is 0 at first, so y is that of the layer alone, dA is 0, and B moves first. A and B have r (in + out) elements, W has in out.

    Parameters
    ----------
    linear : Linear or Dense
        A layer whose parameters are made. They are the same objects here, with the same names, and are frozen.
    rank : int
        r.
    alpha : float, default rank
        The product counts alpha / rank times. It may be assigned later, like ``dropout``.
    dropout : float, default 0.0
        The probability of dropping a feature of x on its way to A in training.
    generator : numpy.random.Generator, optional
        Draws the initial A, and what dropout drops; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight, bias : Parameter
        Of ``linear``.
    lora_A : Parameter, shape (rank, in)
        Initially normal with standard deviation 1 / sqrt(in).
    lora_B : Parameter, shape (out, rank)
        Initially 0.
    merged : bool
        Whether the product is part of ``weight`` now; see :meth:`merge`.

    Raises
    ------
    ParameterError
        If ``linear`` is something else, has no parameters yet or ends in a softmax or sigmoid, or a setting is outside its
        range.
    OrderError
        From ``backward``, if the layer is merged.

    References
    ----------
    E. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, section 4.1. The names of A and B are those
    of its code.

    Examples
    --------
    >>> from minidl.layers import Linear
    >>> linear = Linear(3, 2)
    >>> layer = LoRALinear(linear, rank=1, alpha=2)
    >>> x = numpy.array([[1, 2, 3]], "float32")
    >>> bool((layer.forward(x) == linear.forward(x)).all())
    True
    >>> linear.weight.value[...] = linear.bias.value[...] = 0
    >>> layer.lora_A.value[...] = 1; layer.lora_B.value[...] = [[1], [10]]
    >>> layer.forward(x)  # s = 2, u = 2 (1 + 2 + 3)
    array([[ 12., 120.]], dtype=float32)
    >>> layer.backward(numpy.array([[1, 0]], "float32"))
    array([[2., 2., 2.]], dtype=float32)
    >>> layer.lora_A.grad, layer.lora_B.grad.ravel()
    (array([[2., 4., 6.]], dtype=float32), array([12.,  0.], dtype=float32))
    """

    input_gradient_optional = True
    _not_parts = ("linear", "follower")
    _live = ("alpha", "dropout", "generator")

    def __init__(
        self,
        linear: Affine,
        rank: int,
        alpha: float | None = None,
        dropout: float = 0.0,
        *,
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_settings("LoRALinear", rank, alpha, dropout)
        if not isinstance(linear, Affine):
            raise ParameterError(f"LoRALinear: expected a Linear or a Dense, got {type(linear).__name__}")
        if not linear.built:
            raise ParameterError(f"{linear!r}: it has no weight to adapt yet; build it, or give it an input first")
        self.linear, self.rank, self.alpha = linear, int(rank), float(rank if alpha is None else alpha)
        self.dropout, self.generator = dropout, generator
        self.follower = linear.activation if isinstance(linear, Dense) else None
        if isinstance(self.follower, (Sigmoid, Softmax)):
            raise ParameterError(
                f"{linear!r}: its activation is part of the loss, which would not see it here; leave this layer out, or "
                "take the activation out of it"
            )
        self._merged: float | None = None  # the s of the product that is part of the weight
        value = linear.weight.value
        outputs, features = value.shape
        a = init.normal((self.rank, features), std=features**-0.5, dtype=value.dtype, generator=generator)
        b = numpy.zeros((outputs, self.rank), value.dtype)
        self.lora_A = Parameter(to_namespace(a, namespace(value)), name="lora_A")
        self.lora_B = Parameter(to_namespace(b, namespace(value)), name="lora_B")
        flatten([self.lora_A, self.lora_B])
        for parameter in (linear.weight, linear.bias):
            if parameter is not None:
                parameter.trainable = False

    @property
    def weight(self) -> Parameter:
        """The weight of the linear layer."""
        return self.linear.weight

    @property
    def bias(self) -> Parameter | None:
        """The bias of the linear layer, or None."""
        return self.linear.bias

    @property
    def merged(self) -> bool:
        """Whether the product is part of the weight now."""
        return self._merged is not None

    @property
    def scaling(self) -> float:
        """What the product is multiplied by: alpha / rank."""
        return self.alpha / self.rank

    def forward(self, x: Array) -> Array:
        """Return activation(x W^T + b + s (x' A^T) B^T)."""
        weight = self.weight.value
        if type(x) is not type(weight) or x.dtype != weight.dtype:
            x = cast_input(self, x, weight)
        y = Affine.forward(self.linear, x)  # y = x W^T + b  (..., out)
        if self._merged is None:
            engine, p = current(), self.dropout if self.training else 0.0
            dropped: Any = ()
            if p:
                x, dropped = engine.dropout(x, p, self.generator or random.generator())  # x'
            u, into_a = engine.linear(x, self.lora_A.value)
            u = u * self.scaling  # u = s x' A^T  (..., r)
            product, into_b = engine.linear(u, self.lora_B.value)
            y += product  # y = x W^T + b + u B^T  (..., out)
            if keeps_caches():
                self._remember((dropped, into_a, into_b, self.scaling))
        return y if self.follower is None else self.follower.forward(y)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Add to the gradients of A and B; return dx, or None with ``input_gradient=False``."""
        if self.merged:
            raise OrderError(f"{self!r}: it is merged, so A and B take part in nothing; call unmerge() to train them")
        dropped, into_a, into_b, scaling = self._remembered()
        if self.follower is not None:
            dy = self.follower.backward(dy)
        dx: Any = None
        if input_gradient or self.linear.trainable:
            dx = Affine.backward(self.linear, dy, input_gradient)  # dy W  (..., in)
        if not (input_gradient or self.lora_A.trainable or self.lora_B.trainable):
            return None
        linear_backward = current().linear_backward
        through_b = input_gradient or self.lora_A.trainable
        du: Any = run_backward(linear_backward, (dy, into_b), (self.lora_B, None), through_b)  # dB = dy^T u, du = dy B
        if not through_b:
            return None
        du = du * scaling  # (..., r)
        through_a: Any = run_backward(
            linear_backward, (du, into_a), (self.lora_A, None), input_gradient
        )  # dA = (s du)^T x'
        if not input_gradient:
            return None
        dx += current().dropout_backward(through_a, dropped) if dropped else through_a  # dx = dy W + dropout'((s du) A)
        return dx

    # merging ---------------------------------------------------------------------------------------------------------

    def merge(self) -> None:
        """Add s B A to the weight, so that the layer costs no more than the linear layer: y = x (W + s B A)^T + b.

        While it is merged its parameters are those of the linear layer alone, also in ``state_dict``, and it cannot be trained.

        Raises
        ------
        OrderError
            If it is merged already.
        """
        if self.merged:
            raise OrderError(f"{self!r}: it is merged already")
        self._move_weight(self.scaling)
        self._set_merged(self.scaling)

    def unmerge(self) -> None:
        """Subtract s B A from the weight again, which restores W up to rounding.

        Raises
        ------
        OrderError
            If it is not merged.
        """
        if self._merged is None:
            raise OrderError(f"{self!r}: it is not merged")
        own, value = (self.lora_A, self.lora_B), self.weight.value
        if any(p.dtype != value.dtype or namespace(p.value) is not namespace(value) for p in own):
            ParameterBuffer(own, xp=namespace(value), dtype=value.dtype)  # the model was moved in the meantime
        self._move_weight(-self._merged)
        self._set_merged(None)

    def _move_weight(self, scaling: float) -> None:
        weight = self.weight
        weight.value = weight.value + (self.lora_B.value @ self.lora_A.value) * scaling  # (out, in)

    def _set_merged(self, merged: float | None) -> None:
        self._merged = merged
        self._cache = None
        structure.changes += 1  # other parameters

    # as other layers -------------------------------------------------------------------------------------------------

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield weight and bias of the linear layer, and unless the layer is merged A and B."""
        yield from self.linear.named_parameters(prefix)
        if self._merged is None:
            yield prefix + "lora_A", self.lora_A
            yield prefix + "lora_B", self.lora_B

    @property
    def input_shape(self) -> Shape | None:
        """One example: (in_features,)."""
        return (self.weight.shape[1],)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., out_features)."""
        return self.linear.output_shape(input_shape)

    def flops(self, input_shape: Shape) -> int:
        """Count those of the linear layer, and 2 r (in + out) for each row unless the layer is merged."""
        rows = math.prod(input_shape[:-1])
        return self.linear.flops(input_shape) + (0 if self.merged else 2 * rows * self.rank * sum(self.weight.shape))

    def extra_repr(self) -> str:
        """Return the linear layer and the settings."""
        text = f"{self.linear!r}, rank={self.rank}, alpha={self.alpha:g}"
        return text + (f", dropout={self.dropout}" if self.dropout else "") + (", merged" if self.merged else "")


@scalars_checked
def add_lora(
    model: Layer,
    names: str | Iterable[str],
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    *,
    generator: numpy.random.Generator | None = None,
) -> list[str]:
    """Replace linear layers of a model by :class:`LoRALinear`, and freeze everything but their A and B.

    The model is changed in place; its outputs are the same until it is trained. Make the optimiser afterwards. To train more
    than A and B, such as a new head, call ``model.unfreeze("head")``.

    Parameters
    ----------
    model : layer
    names : str or list of str
        The paths of its Linear and Dense layers, such as ``"*.c_attn"``; ``*`` is any text.
    rank : int, default 8
    alpha : float, default rank
    dropout : float, default 0.0
    generator : numpy.random.Generator, optional
        As in :class:`LoRALinear`, like the three before.

    Returns
    -------
    list of str
        The paths of the layers that were replaced.

    Raises
    ------
    ParameterError
        If a name fits no linear layer, a weight is tied to another layer's, which merging would change too, or a setting is
        outside its range.

    Examples
    --------
    >>> from minidl.models import GPT2
    >>> model = GPT2("nano", vocab_size=65, context=32)
    >>> paths = add_lora(model, "*.attn.*", rank=4)
    >>> len(paths), paths[:2]
    (8, ['transformer.h.0.attn.c_attn', 'transformer.h.0.attn.c_proj'])
    >>> sum(p.size for p in model.parameters()), sum(p.size for p in model.parameters() if p.trainable)
    (818048, 12288)
    """
    where = "add_lora"
    _check_settings(where, rank, alpha, dropout)
    linear = {path: layer for path, layer in _layers_of(model, where) if isinstance(layer, Affine)}
    chosen = {path: linear[path] for path in match_names(names, linear, where, "linear layer")}
    _check_not_tied(model, chosen, where)
    made = {id(layer): LoRALinear(layer, rank, alpha, dropout, generator=generator) for layer in chosen.values()}
    swap_layers(model, made)
    model.freeze()
    adapters = [parameter for _, layer in _adapters_of(model, where) for parameter in (layer.lora_A, layer.lora_B)]
    for parameter in adapters:
        parameter.trainable = True
    flatten(adapters)  # one pass of the optimiser, and gradients of nothing else
    return list(chosen)


def merge_lora(model: Layer) -> None:
    """Merge every :class:`LoRALinear` of a model, and put the linear layers with the new weights in their places.

    The model is then the plain one again, with nothing added, as fast and with the same names. It stays frozen.

    Parameters
    ----------
    model : layer

    Raises
    ------
    ParameterError
        If there is none.

    Examples
    --------
    >>> from minidl.layers import Chain, Linear, ReLU
    >>> model = Chain(Linear(3, 2), ReLU())
    >>> add_lora(model, "0", rank=1)
    ['0']
    >>> model
    Chain(LoRALinear(Linear(3, 2), rank=1, alpha=1), ReLU())
    >>> merge_lora(model); model
    Chain(Linear(3, 2), ReLU())
    """
    layers = [layer for _, layer in _adapters_of(model, "merge_lora")]
    for layer in layers:
        if not layer.merged:
            layer.merge()
    swap_layers(model, {id(layer): layer.linear for layer in layers})


def lora_state_dict(model: Layer) -> dict[str, numpy.ndarray]:
    """Return copies of A, B and alpha of every :class:`LoRALinear` in a model, and of nothing else.

    Parameters
    ----------
    model : layer

    Returns
    -------
    dict of str to array
        ``PATH.lora_A``, ``PATH.lora_B`` and ``PATH.lora_alpha``.

    Raises
    ------
    ParameterError
        If there is none.

    Examples
    --------
    >>> from minidl.layers import Chain, Linear
    >>> model = Chain(Linear(3, 2), Linear(2, 2))
    >>> paths = add_lora(model, "1", rank=1)
    >>> {name: array.shape for name, array in lora_state_dict(model).items()}
    {'1.lora_A': (1, 2), '1.lora_B': (2, 1), '1.lora_alpha': ()}
    """
    found: dict[str, numpy.ndarray] = {}
    for path, layer in _adapters_of(model, "lora_state_dict"):
        found[f"{path}.lora_A"] = weights.to_host(layer.lora_A.value).copy()
        found[f"{path}.lora_B"] = weights.to_host(layer.lora_B.value).copy()
        found[f"{path}.lora_alpha"] = numpy.array(layer.alpha, "float32")
    return found


def save_lora(model: Layer, path: str | os.PathLike[str]) -> None:
    """Write the result of :func:`lora_state_dict` to a small safetensors file, as a whole or not at all.

    Parameters
    ----------
    model : layer
    path : path

    Raises
    ------
    ParameterError
        If there is no :class:`LoRALinear` in the model.
    MissingDependencyError
        If the package safetensors is not installed.
    FileFormatError, OSError
        If the file cannot be written.
    """
    weights.save_file(lora_state_dict(model), path)


def load_lora(model: Layer, source: str | os.PathLike[str] | Mapping[str, Any], *, names: Names | None = None) -> None:
    """Load A, B and alpha into the :class:`LoRALinear` layers of a model, all of them or, if anything does not fit, none.

    Parameters
    ----------
    model : layer
        With the same layers adapted, at the same rank; see :func:`add_lora`.
    source : path, or dict of str to array
        A file of :func:`save_lora`, or the result of :func:`lora_state_dict`.
    names : dict or callable, optional
        As in ``Layer.load``, for files of others: ``{"base_model.model.*.lora_A.weight": "*.lora_A"}``. If they have no
        alpha, it stays that of the model.

    Raises
    ------
    ParameterError
        If there is no such layer in the model, one is merged, or something is missing or unexpected.
    ShapeError, DtypeError, FileFormatError
        As ``Layer.load``.
    """
    where = "load_lora"
    adapters = _adapters_of(model, where)
    merged = next((path for path, layer in adapters if layer.merged), None)
    if merged is not None:
        raise ParameterError(f"{where}: {merged} is merged, so its weight holds another A and B; call unmerge() first")
    alphas = [numpy.array(layer.alpha) for _, layer in adapters]
    targets = []
    for (path, layer), alpha in zip(adapters, alphas, strict=True):
        targets += [Target((f"{path}.{p.name}",), p.value) for p in (layer.lora_A, layer.lora_B)]
        targets.append(Target((f"{path}.lora_alpha",), alpha, optional=True))
    options: dict[str, Any] = {"strict": True, "names": names, "transpose": None}
    if isinstance(source, Mapping):
        arrays = weights.arrays_by_name(source, where)
        tensors = {name: MemoryTensor(name, array) for name, array in arrays.items()}
        load_tensors(targets, tensors, where=where, **options)
    else:
        with weights.open_weights(source) as stored:
            load_tensors(targets, stored, where=f"{where}({os.fspath(source)!r})", **options)
    for (_, layer), alpha in zip(adapters, alphas, strict=True):
        layer.alpha = float(alpha)


def _check_settings(where: str, rank: int, alpha: float | None, dropout: float) -> None:
    if rank < 1:
        raise ParameterError(f"{where}: rank must be at least 1, got {rank!r}")
    if alpha is not None and not 0.0 < alpha < math.inf:
        raise ParameterError(f"{where}: alpha must be positive, got {alpha!r}")
    if not 0.0 <= dropout < 1.0:
        raise ParameterError(f"{where}: dropout must be from 0 up to but not including 1, got {dropout!r}")


def _layers_of(model: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(model, Layer):
        raise ParameterError(f"{where}: expected a model, got {type(model).__name__}")
    return [(path, layer) for path, layer in model.named_layers() if path]


def _adapters_of(model: Any, where: str) -> list[tuple[str, LoRALinear]]:
    found = [(path, layer) for path, layer in _layers_of(model, where) if isinstance(layer, LoRALinear)]
    if not found:
        raise ParameterError(
            f"{where}: there is no LoRALinear in {type(model).__name__}; put some there with add_lora first"
        )
    return found


def _check_not_tied(model: Layer, chosen: Mapping[str, Affine], where: str) -> None:
    """Raise if a weight has several names."""
    names: dict[Parameter, list[str]] = {}
    for name, parameter in model.named_parameters():
        names.setdefault(parameter, []).append(name)
    for path, layer in chosen.items():
        others = [name for name in names[layer.weight] if name != f"{path}.weight"]
        if others:
            raise ParameterError(
                f"{where}: {path}.weight is also {others[0]}, which merging would change too; leave {path} out"
            )
