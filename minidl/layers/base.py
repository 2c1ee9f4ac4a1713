"""What a layer is: forward, backward, and the parameters in between."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy

from minidl import engines
from minidl.engines import current
from minidl.errors import DtypeError, EngineError, OrderError, ParameterError
from minidl.layers import state
from minidl.layers.inference import is_evaluating, keeps_caches
from minidl.layers.parameter import Parameter, ParameterBuffer, flatten, run_backward, to_namespace
from minidl.layers.tree import find_parts, format_layer
from minidl.ops import Array
from minidl.weights.matching import IncompatibleKeys, Names, Transpose

__all__ = ["Layer", "OpLayer", "Shape"]

Shape = tuple[int, ...]
"""The shape of one example, without the batch axis."""


class Layer:
    """Who remembers: parameters, and the cache of the last forward.

    A subclass defines ``forward`` and ``backward``. Layers and :class:`Parameter` objects in its attributes are found by
    themselves, in the order in which they were assigned, also in lists, tuples and dicts; ``state_dict`` names them by
    their path, such as ``blocks.0.ln_1.weight``. ``backward`` adds to the parameters' gradients and returns the gradient
    with respect to the input. It may be called more than once after a forward, and never changes dy. It may read the
    array that forward returned, so do not change that array in place before; ``gradcheck`` notes the layers that do.

    One array in and one out is the common case. A layer of several inputs defines ``forward(x, mask, ...)`` and returns
    from ``backward`` a tuple with an entry for each, None for one that has no gradient. A layer of several outputs returns
    a tuple, and its ``backward`` takes a tuple of upstream gradients.

    A layer with state, such as a recurrent one or one that keeps keys and values, defines ``forward_with_state`` and
    ``backward_with_state`` as well. State goes in and comes out explicitly, and is no part of the cache.

    Examples
    --------
    >>> class Scale(Layer):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gain = Parameter(numpy.full(1, 3.0), name="gain")
    ...     def forward(self, x):
    ...         self.x = x
    ...         return self.gain.value * x
    ...     def backward(self, dy):
    ...         self.gain.accumulate((dy * self.x).sum().reshape(1))
    ...         return self.gain.value * dy
    >>> layer = Scale()
    >>> layer.forward(numpy.array([1.0, 2.0]))
    array([3., 6.])
    >>> layer.backward(numpy.array([1.0, 1.0]))
    array([3., 3.])
    >>> layer.gain.grad
    array([3.])
    """

    input_gradient_optional: bool = False
    """Whether ``backward`` takes ``input_gradient=False`` and then saves the work of computing dx."""
    integer_inputs: bool = False
    """Whether the input may hold integers, such as token ids, which ``fit`` and ``predict`` then leave as they are."""
    _cache: Any = None
    _training: bool = True
    _trainable: bool = True
    _buffer_names: tuple[str, ...] = ()
    _not_parts: tuple[str, ...] = ()
    """Attributes in which no parts are looked for, because ``children`` lists what they hold."""
    _live: tuple[str, ...] = ("bias", "generator")
    """Arguments of the constructor that may be assigned later, because every forward reads them."""
    _fixed: frozenset[str] = frozenset()
    _made: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Let our own layers refuse settings that are assigned later and that nobody would read."""
        super().__init_subclass__(**options)
        if cls.__module__.startswith("minidl.") and "__init__" in vars(cls):
            arguments = list(inspect.signature(cls.__init__).parameters)[1:]
            cls._fixed = frozenset(name for name in arguments if name not in cls._live)
            cls.__init__ = _finish(cls.__init__)  # type: ignore[method-assign]

    def __init__(self) -> None:
        self._training = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign an attribute, unless that would go wrong silently.

        Raises
        ------
        ParameterError
            If something else than a Parameter would take the place of one, or a setting is assigned that is only read
            when the layer is made.
        """
        if self._made and name in self._fixed:
            raise ParameterError(
                f"{self!r}: {name} is only read when the layer is made; make a new layer, and put it in the place of this one"
            )
        old = self.__dict__.get(name)
        if isinstance(old, Parameter) and not (value is None or isinstance(value, Parameter)):
            raise ParameterError(
                f"{self!r}: {name} is a Parameter, got {type(value).__name__}; assign to {name}.value to change its values"
            )
        super().__setattr__(name, value)

    # computing -------------------------------------------------------------------------------------------------------

    def forward(self, x: Array) -> Any:
        """Return the output for a batch x and remember what backward needs."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def backward(self, dy: Array) -> Any:
        """Return dx for the upstream gradient dy and add to the parameters' gradients."""
        raise NotImplementedError(f"{type(self).__name__} defines no backward")

    def forward_with_state(self, x: Array, state: Any = None) -> tuple[Any, Any]:
        """Return the output, and the state after it.

        Parameters
        ----------
        x : array
        state : any, optional
            What the last call returned; None begins anew.

        Returns
        -------
        y : array
        state : any
            None for a layer without state.
        """
        return self.forward(x), None

    def backward_with_state(self, dy: Array, dstate: Any = None) -> tuple[Any, Any]:
        """Return dx, and the gradient of the state that went in, for the gradients of what ``forward_with_state`` returned.

        Parameters
        ----------
        dy : array
        dstate : any, optional
            The gradient of the state that came out; None is zero.
        """
        return self.backward(dy), None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call ``forward``."""
        return self.forward(*args, **kwargs)

    def _remember(self, cache: Any) -> None:
        """Keep what backward needs, unless this is inference."""
        if keeps_caches():
            self.__dict__["_cache"] = cache  # not by assignment, which checks settings

    def _remembered(self) -> Any:
        """Return the cache of the last forward.

        Raises
        ------
        OrderError
            If there was none.
        """
        if self._cache is None:
            raise OrderError(
                f"{self!r}: backward was called before forward; call forward(x) first, outside dl.inference()"
            )
        return self._cache

    def _run_backward(
        self, op: str, dy: Array, parameters: tuple[Parameter | None, ...], input_gradient: bool = True
    ) -> Array | None:
        """Run an op's backward on the current engine, with the gradients of the parameters written where they belong."""
        cache = self._cache
        if cache is None:
            self._remembered()
        return run_backward(getattr(current(), f"{op}_backward"), (dy, cache), parameters, input_gradient)

    # shapes ----------------------------------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether all parameters exist; only lazy layers are ever unbuilt."""
        return all(child.built for child in self.children().values() if isinstance(child, Layer))

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one example that the layer expects, where it is known; axes of any length are left out."""
        return None

    def build(self, input_shape: Shape) -> None:
        """Create the parameters for examples of this shape; nothing to do for a layer that is not lazy."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one example's output for one example's input; the same unless a layer says otherwise."""
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """Return the floating-point operations of one example's forward, a multiplication and addition counted as 2."""
        return 0

    # parameters ------------------------------------------------------------------------------------------------------

    def children(self) -> dict[str, Any]:
        """Return the layers directly inside this one by name, also those in lists, tuples and dicts.

        Raises
        ------
        ParameterError
            If layers are kept where they have no place or no name, such as in a set.
        """
        return {name: part for name, part in find_parts(self) if not isinstance(part, Parameter)}

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yield each layer inside, however deep, with its path; the layer itself comes first, with the path of ``prefix``."""
        yield prefix, self
        for name, child in self.children().items():
            path = f"{prefix}.{name}" if prefix else name
            if isinstance(child, Layer):
                yield from child.named_layers(path)
            else:
                yield path, child

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield each parameter with its path, as PyTorch names it: ``0.weight``."""
        for name, part in find_parts(self):
            if isinstance(part, Parameter):
                yield prefix + name, part
        for name, child in self.children().items():
            if isinstance(child, Layer):
                yield from child.named_parameters(f"{prefix}{name}.")
            else:  # somebody's own layer: any object with forward and backward
                own: list[Any] = getattr(child, "parameters", list)()
                yield from ((f"{prefix}{name}.{p.name or i}", p) for i, p in enumerate(own))

    def parameters(self) -> list[Parameter]:
        """Return the parameters, each once."""
        return list(dict.fromkeys(parameter for _, parameter in self.named_parameters()))

    def flat_buffers(self) -> list[ParameterBuffer]:
        """Return the flat buffers that hold the parameters (one, unless dtypes are mixed), making them if need be."""
        return flatten(self.parameters())

    def register_buffer(self, name: str, array: Array) -> None:
        """Keep an array that is no parameter with the weights: it is saved, loaded and moved with them.

        It becomes the attribute of that name.
        """
        self._buffer_names = (*self._buffer_names, name)
        setattr(self, name, array)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Array]]:
        """Yield each array that is kept with the weights but is not trained, with its path: ``1.running_mean``."""
        for name in self._buffer_names:
            yield prefix + name, getattr(self, name)
        for name, child in self.children().items():
            if isinstance(child, Layer):
                yield from child.named_buffers(f"{prefix}{name}.")

    @property
    def trainable(self) -> bool:
        """Whether any parameter inside is trained; setting it freezes or unfreezes all of them.

        A frozen parameter gets no gradient, and no optimiser changes it. Parameters that a lazy layer has not made yet
        follow as well.
        """
        return any(p.trainable for p in self._trained()) if self.built else self._trainable

    @trainable.setter
    def trainable(self, wanted: bool) -> None:
        for _, layer in self.named_layers():
            if isinstance(layer, Layer):
                layer._trainable = bool(wanted)
        if self.built:
            for parameter in self._trained():
                parameter.trainable = wanted

    def _trained(self) -> list[Parameter]:
        return [parameter for parameter in self.parameters() if isinstance(parameter, Parameter)]

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for buffer in dict.fromkeys(parameter.buffer for parameter in self.parameters()):
            buffer.zero_grad()

    @property
    def training(self) -> bool:
        """Whether the layer behaves as in training; see ``train``, ``eval`` and ``minidl.inference``."""
        return self._training and not is_evaluating()

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = mode

    def train(self, mode: bool = True) -> Layer:
        """Switch to training behaviour (or back, with ``mode=False``), here and in all layers inside."""
        self.training = mode
        for child in self.children().values():
            if hasattr(child, "train"):
                child.train(mode)
        return self

    def eval(self) -> Layer:
        """Switch to evaluation behaviour: dropout passes everything, running statistics are used."""
        return self.train(False)

    def to(self, engine: Any = None, dtype: Any = None) -> Layer:
        """Move parameters and buffers to another engine's arrays, or to another precision, in place.

        Integers keep their dtype, and single ones stay on the host, where they are looked at.

        Parameters
        ----------
        engine : str or Engine, optional
            ``"cupy"`` moves to the GPU, ``"numpy"`` or ``"native"`` to the host.
        dtype : dtype, optional
            A floating dtype.
        """
        if dtype is not None and numpy.dtype(dtype).kind != "f":
            raise DtypeError(f"{type(self).__name__}.to: expected a floating dtype, got {numpy.dtype(dtype)}")
        parameters = self.parameters()
        xp = None
        if engine is not None:
            xp = (engines.get(engine) if isinstance(engine, str) else engine).xp
        groups: dict[Any, list[Parameter]] = {}
        for parameter in parameters:
            groups.setdefault(None if dtype is not None else parameter.dtype, []).append(parameter)
        for group in groups.values():
            ParameterBuffer(group, xp=xp, dtype=dtype)
        self._move_buffers(xp, dtype)
        self._cache = None
        return self

    def _move_buffers(self, xp: Any, dtype: Any) -> None:
        for name in self._buffer_names:
            array = getattr(self, name)
            if xp is not None and (array.dtype.kind == "f" or array.ndim):
                array = to_namespace(array, xp)
            setattr(self, name, array.astype(dtype) if dtype is not None and array.dtype.kind == "f" else array)
        for child in self.children().values():
            if isinstance(child, Layer):
                child._move_buffers(xp, dtype)

    # weights ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, numpy.ndarray]:
        """Return copies of all parameters and buffers by path, with PyTorch's names and shapes.

        A tied parameter is there under each of its names; these share one copy.
        """
        return state.state_dict(self)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        *,
        names: Names | None = None,
        transpose: Transpose | None = None,
    ) -> IncompatibleKeys:
        """Copy values into the parameters and buffers.

        Nothing is changed unless everything that is to be loaded fits. A tied parameter takes its value from any of its
        names. A missing ``num_batches_tracked`` keeps its value.

        Parameters
        ----------
        state_dict : mapping of str to array
            The values.
        strict : bool, default True
            Whether anything missing or unexpected is an error.
        names : dict or callable, optional
            The names that ``state_dict`` uses, and what they are called here. A function takes a name and returns ours, or
            None to ignore the tensor. In a dict, the first key that fits decides. ``*`` in a key stands for any text, and
            each ``*`` in its value for the text of the corresponding one; None ignores the tensor. A name that no key fits
            stays as it is. ``{"transformer.*": "*"}`` removes a prefix.
        transpose : str, iterable of str, or callable, optional
            Own names, with ``*`` for any text, of what ``state_dict`` holds with its axes in reverse order, such as the
            (in, out) matrices of GPT-2. Or a function that takes a name and says whether it is so.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``, both lists of str.

        Raises
        ------
        ParameterError
            If ``strict`` and something is missing or unexpected; if two tensors are given for one name, or different ones
            for tied parameters; if ``names`` or ``transpose`` cannot be used.
        ShapeError
            If a shape differs, ``strict`` or not.
        DtypeError
            If there are no floating-point numbers where such are kept, or no integers where those are.
        """
        return state.load_state_dict(self, state_dict, strict, names, transpose)

    def save(
        self, path: str | os.PathLike[str], *, dtype: str | None = None, max_shard_size: int | str | None = None
    ) -> None:
        """Write the weights to a safetensors file, which appears whole or not at all.

        A tied parameter is written once, under its first name.

        Parameters
        ----------
        path : path
            The file.
        dtype : str, optional
            ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"float64"``: what floating-point numbers are rounded to (to
            nearest, ties to even).
        max_shard_size : int or str, optional
            Bytes, or text such as ``"2GB"``. Larger weights are written as several files
            ``NAME-00001-of-00003.safetensors`` with an index, ``path`` followed by ``.index.json``; a file at ``path``
            itself is removed.

        Raises
        ------
        NonFiniteError
            If a number is too large for ``dtype``.
        """
        state.save(self, path, dtype, max_shard_size)

    def load(
        self,
        path: str | os.PathLike[str],
        strict: bool = True,
        *,
        names: Names | None = None,
        transpose: Transpose | None = None,
    ) -> IncompatibleKeys:
        """Read weights that :meth:`save`, or PyTorch through safetensors, wrote.

        Tensors go straight into the parameters, so that no second copy of the weights is held. float16, bfloat16 and
        float64 are converted to the precision of the parameters. Pickle (``.bin``, ``.pt``) is never read.

        Parameters
        ----------
        path : path
            A safetensors file; an index of shards, ``model.safetensors.index.json``; or a folder with
            ``model.safetensors`` or such an index.
        strict, names, transpose
            As in :meth:`load_state_dict`.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``, both lists of str.

        Raises
        ------
        ParameterError, ShapeError, DtypeError
            As :meth:`load_state_dict`.
        FileFormatError
            If a file is no safetensors file, is cut short, or is damaged; if index and shards do not fit together; if a
            tensor that is to be loaded has a dtype that NumPy has no equal for, such as float8.
        """
        return state.load(self, path, strict, names, transpose)

    # showing ---------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of ``repr``."""
        return ""

    def __repr__(self) -> str:
        inside = [f"{name}={child!r}" for name, child in self.children().items() if not name.startswith("_")]
        settings = self.extra_repr()
        return format_layer(type(self).__name__, [settings, *inside] if settings else inside)


def _finish(init: Callable[..., None]) -> Callable[..., None]:
    """Let a constructor note when the layer is made."""

    @functools.wraps(init)
    def finishing(self: Layer, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is finishing:
            self.__dict__["_made"] = True

    return finishing


class OpLayer(Layer):
    """A layer that is one op with settings, and no parameters.

    A subclass names the op and, where it has settings, returns them.
    """

    op: str
    """The name of the op in ``minidl.ops``; its backward is ``op + "_backward"``."""
    settings: Any = ()
    """The op's arguments after x, in its order."""

    def forward(self, x: Array) -> Array:
        """Return op(x)."""
        y, cache = getattr(current(), self.op)(x, *self.settings)
        self._remember(cache)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        return getattr(current(), f"{self.op}_backward")(dy, self._remembered())


def admit(layer: Layer, x: Any, value: Array) -> Array:
    """Return x as the layer computes with it: where the parameters live and in their precision.

    Called when x is not already so. Floating inputs of another precision are cast to the layer's, as Keras does.

    Raises
    ------
    DtypeError
        If x holds no real floating-point numbers, or is no array at all.
    EngineError
        If x and the parameters are on different devices.
    """
    kind = getattr(getattr(x, "dtype", None), "kind", None)
    if kind is None:
        raise DtypeError(f"{layer!r}: expected an array, got {type(x).__name__}; convert it with numpy.asarray(...)")
    if kind != "f":
        raise DtypeError(
            f"{layer!r}: expected floating-point input, got dtype {x.dtype}; convert it with x.astype({value.dtype!s})"
        )
    if engines.namespace(x) is not engines.namespace(value):
        raise EngineError(
            f"{layer!r}: the input is a {type(x).__module__} array but the parameters are {type(value).__module__} "
            "arrays; move the input with minidl.engines.current().asarray(x), or the model with model.to(engine)"
        )
    if isinstance(x, numpy.ndarray):
        return numpy.asarray(x, dtype=value.dtype)  # also turns memory maps and other subclasses into plain arrays
    return x.astype(value.dtype, copy=False)
