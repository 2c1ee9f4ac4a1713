"""The base class of all layers: the contract, and what follows from it for parameters, buffers, modes and files."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy

from minidl import engines
from minidl.arrays import from_dlpack
from minidl.engines import current
from minidl.errors import DtypeError, EngineError, OrderError, ParameterError, ShapeError
from minidl.layers import freezing, state
from minidl.layers.inference import is_evaluating, keeps_caches
from minidl.layers.parameter import (
    Parameter,
    ParameterBuffer,
    flatten,
    own_array,
    place_of,
    run_backward,
    structure,
    to_namespace,
)
from minidl.layers.tree import find_parts, format_layer
from minidl.ops import Array
from minidl.ops._scalars import scalars_checked
from minidl.weights.matching import IncompatibleKeys, Names, Transpose

__all__ = ["Layer", "OpLayer", "Shape", "as_shape"]

Shape = tuple[int, ...]
"""The shape of one example, without the batch axis."""


class Layer:
    """The base class of layers: parameters, and the cache of the last forward.

    A subclass defines ``forward`` and ``backward``; all other methods work from its attributes. docs/layers.md shows each
    of these points in a program.

    gradients
        ``forward(x)`` returns y and remembers what backward needs. ``backward(dy)`` takes the gradient of the loss with
        respect to y, adds to the gradients of the parameters, and returns the gradient with respect to x. It does not
        change dy, and it may be called again after the same forward. It may read the array that forward returned, so do
        not change that array in place before.
    parts
        Parameters and layers are found in the attributes, also in lists, tuples and dicts, in the order of assignment.
        Their names are their paths, such as ``blocks.0.ln_1.weight``; ``state_dict`` and error messages use them.
    several inputs or outputs
        For several inputs, define ``forward(x, mask, ...)`` and return a tuple from ``backward``, with None for each input
        that has no gradient. For several outputs, return a tuple; ``backward`` then gets a tuple of gradients.
    integer inputs
        A layer that takes token ids sets ``integer_inputs = True``. ``fit`` and ``predict`` then leave integers as they
        are. Its ``backward`` returns None.
    caches
        ``self._remember(cache)`` keeps a cache, and ``self._remembered()`` returns it or raises OrderError. Inside
        ``minidl.inference()`` nothing is kept.
    state
        What one call hands to the next, such as the hidden state of a recurrent layer or the keys and values of attention,
        is an argument and a result of ``forward_with_state`` and ``backward_with_state``. It is no part of the cache.
    frozen parameters
        ``layer.trainable = False`` freezes all parameters inside, and :meth:`freeze` those with certain names. No gradient is
        computed for them, and no optimiser changes them.
    buffers
        ``register_buffer`` keeps an array that is not trained, such as a running mean. It is saved, loaded and moved with
        the parameters.
    modes
        ``train()`` and ``eval()`` set ``self.training``, which dropout and batch normalisation read.

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
    """Whether ``backward`` takes ``input_gradient=False``, computes no dx then, and returns None."""
    integer_inputs: bool = False
    """Whether the input may hold integers, such as token ids."""
    _cache: Any = None
    _training: bool = True
    _trainable: bool = True
    _buffer_names: tuple[str, ...] = ()
    _not_parts: tuple[str, ...] = ("_made_with",)
    """Attributes that are not searched for parts, because ``children`` lists what they hold, or because it belongs elsewhere."""
    _live: tuple[str, ...] = ("bias", "generator")
    """The arguments of the constructor that may be assigned later, because every forward reads them."""
    _fixed: frozenset[str] = frozenset()
    _made: bool = False
    _may_be_removed: tuple[str, ...] = ()
    """Attributes of layers that may become None after the layer was made, which a config then tells."""
    _told_by_parts: bool = False
    """Whether a config tells which layers there are now, rather than what the constructor was given."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the layers of minidl refuse assignments to settings that are only read by the constructor."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls._told_by_parts = vars(cls).get("_told_by_parts", False)
        if cls.__module__.startswith("minidl.") and "__init__" in vars(cls):
            arguments = list(inspect.signature(cls.__init__).parameters)[1:]
            arguments += filter(None, [getattr(cls.__init__, "other_name", None)])
            cls._fixed = frozenset(name for name in arguments if name not in cls._live)
            cls.__init__ = _finish(scalars_checked(cls.__init__))  # type: ignore[method-assign]

    def __init__(self) -> None:
        self._training = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign an attribute, unless that would go wrong silently.

        Raises
        ------
        ParameterError
            If the value would replace a Parameter without being one, if the constructor alone reads the attribute, or if it
            is PyTorch's ``requires_grad``, which nobody reads.
        """
        if name == "requires_grad":
            raise ParameterError(f"{self!r}: there is no requires_grad; assign to trainable to freeze a layer, or not")
        if self._made and name in self._fixed:
            raise ParameterError(
                f"{self!r}: {name} is only read when the layer is made; make a new layer, and replace this one by it"
            )
        old = self.__dict__.get(name)
        if isinstance(old, Parameter) and not (value is None or isinstance(value, Parameter)):
            raise ParameterError(
                f"{self!r}: {name} is a Parameter, got {type(value).__name__}; assign to {name}.value to change its values"
            )
        super().__setattr__(name, value)
        if name == "settings" or isinstance(value, Parameter) or isinstance(old, Parameter):
            structure.changes += 1

    def __delattr__(self, name: str) -> None:
        """Delete an attribute, which may be a parameter that steps were planned with."""
        super().__delattr__(name)
        structure.changes += 1

    # computing -------------------------------------------------------------------------------------------------------

    def forward(self, x: Array) -> Any:
        """Return the output for a batch, and remember what backward needs."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def backward(self, dy: Array) -> Any:
        """Return dx for the upstream gradient dy, and add to the gradients of the parameters."""
        raise NotImplementedError(f"{type(self).__name__} defines no backward")

    def forward_with_state(self, x: Array, state: Any = None) -> tuple[Any, Any]:
        """Return the output and the new state.

        Parameters
        ----------
        x : array
        state : any, optional
            The state that the last call returned; None is the initial state.

        Returns
        -------
        y : array
        state : any
            None if the layer has no state.
        """
        return self.forward(x), None

    def backward_with_state(self, dy: Array, dstate: Any = None) -> tuple[Any, Any]:
        """Return the gradients of what ``forward_with_state`` was given: of x, and of the state.

        Parameters
        ----------
        dy : array
        dstate : any, optional
            The gradient of the state that ``forward_with_state`` returned; None is zero.

        Returns
        -------
        dx : array
        dstate : any
            None if the layer has no state.
        """
        return self.backward(dy), None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call ``forward``."""
        return self.forward(*args, **kwargs)

    def _remember(self, cache: Any) -> None:
        """Keep what backward needs, except inside ``minidl.inference()``."""
        if keeps_caches():
            self.__dict__["_cache"] = cache  # not by assignment, which checks settings

    def _remembered(self) -> Any:
        """Return the cache of the last forward.

        Raises
        ------
        OrderError
            If there is none.
        """
        if self._cache is None:
            raise OrderError(
                f"{self!r}: backward was called before forward; call forward(x) first, outside dl.inference()"
            )
        return self._cache

    def _run_backward(
        self, op: str, dy: Array, parameters: tuple[Parameter | None, ...], input_gradient: bool = True
    ) -> Array | None:
        """Run an op's backward on the current engine; the gradients of the parameters go straight into their storage."""
        cache = self._cache
        if cache is None:
            self._remembered()
        return run_backward(getattr(current(), f"{op}_backward"), (dy, cache), parameters, input_gradient)

    # shapes ----------------------------------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether all parameters exist. A lazy layer makes them when it knows its input's shape."""
        return all(child.built for child in self.children().values() if isinstance(child, Layer))

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one example of the input, or None if it is not known. Axes of any length are left out."""
        return None

    def build(self, input_shape: Shape) -> None:
        """Make the parameters for examples of this shape. Only lazy layers have anything to do here."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one example of the output, given that of the input; a layer that changes it overrides this."""
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """Return the number of floating-point operations of the forward of one example; a multiply-add counts 2."""
        return 0

    # parameters ------------------------------------------------------------------------------------------------------

    def children(self) -> dict[str, Any]:
        """Return the layers directly inside this one, by name, also those in lists, tuples and dicts.

        Raises
        ------
        ParameterError
            If layers are in a container that gives them no order or no name, such as a set.
        """
        return {name: part for name, part in find_parts(self) if not isinstance(part, Parameter)}

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yield this layer and each layer inside it, at any depth, with its path; this layer has the path ``prefix``."""
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
        """Return the flat buffers that hold the parameters: one for each dtype. They are made if necessary."""
        return flatten(self.parameters())

    def register_buffer(self, name: str, array: Array) -> None:
        """Keep an array that is not trained as an attribute; it is saved, loaded and moved with the parameters.

        Parameters
        ----------
        name : str
            The name of the attribute.
        array : array
        """
        self._buffer_names = (*self._buffer_names, name)
        setattr(self, name, array)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Array]]:
        """Yield each buffer with its path, such as ``1.running_mean``."""
        for name in self._buffer_names:
            yield prefix + name, getattr(self, name)
        for name, child in self.children().items():
            if isinstance(child, Layer):
                yield from child.named_buffers(f"{prefix}{name}.")

    def saved_buffers(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yield each buffer with its path, in the form in which ``state_dict`` and files hold it, for reading and writing."""
        for name in self._buffer_names:
            yield prefix + name, self._saved_form(name)
        for name, child in self.children().items():
            if isinstance(child, Layer):
                yield from child.saved_buffers(f"{prefix}{name}.")

    def _saved_form(self, name: str) -> Any:
        """Return a buffer of this layer in that form: the array itself, unless its bits stand for something else."""
        return getattr(self, name)

    @property
    def trainable(self) -> bool:
        """Whether any parameter inside is trained. Setting it freezes or unfreezes all, also those not made yet."""
        return any(p.trainable for p in self._trained()) if self.built else self._trainable

    @trainable.setter
    def trainable(self, wanted: bool) -> None:
        for _, layer in self.named_layers():
            if isinstance(layer, Layer):
                layer._trainable = bool(wanted)
        if self.built:
            for parameter in self._trained():
                parameter.trainable = wanted

    def freeze(self, *names: str) -> Layer:
        """Freeze everything, or what has one of these names: no gradient is computed for it, and no optimiser changes it.

        ``model.freeze()`` and then ``model.unfreeze("head")`` trains the head alone. Batch normalisation of which everything
        is frozen keeps its running statistics. A parameter with several names is frozen under any of them.

        Parameters
        ----------
        *names : str
            Paths of layers or parameters, such as ``"body"`` or ``"body.0.weight"``; ``*`` is any text, so that ``"*.bias"``
            is every bias.

        Returns
        -------
        Layer
            This one.

        Raises
        ------
        ParameterError
            If a name fits nothing in this layer.

        Examples
        --------
        >>> from minidl.layers import Chain, Linear
        >>> model = Chain({"body": Linear(3, 4), "head": Linear(4, 2)})
        >>> [parameter.trainable for parameter in model.freeze("body", "*.bias").parameters()]
        [False, False, True, False]
        >>> [parameter.trainable for parameter in model.freeze().unfreeze("head").parameters()]
        [False, False, True, True]
        """
        freezing.set_trainable(self, names, False, f"{type(self).__name__}.freeze")
        return self

    def unfreeze(self, *names: str) -> Layer:
        """Train everything, or what has one of these names, from now on; the reverse of :meth:`freeze`.

        Parameters
        ----------
        *names : str
            As in :meth:`freeze`.

        Returns
        -------
        Layer
            This one.

        Raises
        ------
        ParameterError
            If a name fits nothing in this layer.
        """
        freezing.set_trainable(self, names, True, f"{type(self).__name__}.unfreeze")
        return self

    def _trained(self) -> list[Parameter]:
        return [parameter for parameter in self.parameters() if isinstance(parameter, Parameter)]

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for buffer in dict.fromkeys(parameter.buffer for parameter in self.parameters()):
            buffer.zero_grad()

    @property
    def training(self) -> bool:
        """Whether the layer behaves as in training: as ``train`` and ``eval`` set it, or ``minidl.inference(evaluate=True)``."""
        return self._training and not is_evaluating()

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = bool(mode)
        for child in self.children().values():
            if hasattr(child, "train"):
                child.train(mode)

    def train(self, mode: bool = True) -> Layer:
        """Switch this layer and all layers inside to training mode, or to evaluation mode with ``mode=False``."""
        self.training = mode
        return self

    def eval(self) -> Layer:
        """Switch to evaluation mode: dropout passes its input on, and batch normalisation uses its running statistics."""
        return self.train(False)

    def to(self, engine: Any = None, dtype: Any = None) -> Layer:
        """Move parameters and buffers to the device of an engine, or convert them to another precision, in place.

        Integers keep their dtype, and single integers stay on the host. An optimiser of these parameters moves its state
        along when it takes its next step. What the last forward remembered is forgotten. The engine that computes is chosen
        by ``minidl.use``.

        Parameters
        ----------
        engine : str or Engine, optional
            ``"cupy"`` moves to the GPU, ``"cupy:1"`` to the second one, ``"numpy"`` or ``"native"`` to the host.
        dtype : dtype, optional
            A floating-point dtype.

        Raises
        ------
        DtypeError
            If the dtype is not floating-point.
        EngineError
            If the engine cannot be used here.
        """
        if isinstance(dtype, str) and dtype == "bfloat16":
            raise DtypeError(
                f"{type(self).__name__}.to: NumPy has no bfloat16; minidl.store_weights(model, 'bfloat16') stores the weights of "
                "linear layers so, for inference, and minidl.set_matmul_precision('bfloat16') multiplies so"
            )
        if dtype is not None and numpy.dtype(dtype).kind != "f":
            raise DtypeError(f"{type(self).__name__}.to: expected a floating dtype, got {numpy.dtype(dtype)}")
        target = engines.get(engine) if isinstance(engine, str) else engine
        groups: dict[Any, list[Parameter]] = {}
        for parameter in self.parameters():
            groups.setdefault(None if dtype is not None else parameter.dtype, []).append(parameter)
        with contextlib.nullcontext() if target is None else target.here():
            for group in groups.values():
                ParameterBuffer(group, xp=None if target is None else target.xp, dtype=dtype)
            self._move_buffers(None if target is None else target.xp, dtype)
        for _, layer in self.named_layers():
            if isinstance(layer, Layer):
                layer._cache = None  # it is where the layer was
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

        A tied parameter appears under each of its names, as one copy.
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

        Either everything is loaded or, if anything does not fit, nothing. A tied parameter is loaded from any of its names.
        ``num_batches_tracked`` may be missing.

        Parameters
        ----------
        state_dict : mapping of str to array
        strict : bool, default True
            Raise an error if anything is missing or unexpected.
        names : dict or callable, optional
            Translates the names in ``state_dict`` to the names in this layer. A function takes a name and returns the new
            one, or None to ignore the tensor. In a dict the first key that matches decides: ``*`` in a key matches any
            text, each ``*`` in the value stands for the text that the corresponding one matched, and None ignores the
            tensor. Names without a match stay as they are. ``{"transformer.*": "*"}`` removes a prefix.
        transpose : str, iterable of str, or callable, optional
            The names in this layer, with ``*`` for any text, of tensors that ``state_dict`` holds with their axes reversed,
            such as the (in, out) matrices of GPT-2. Or a function of the name that returns a bool.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``, both lists of str.

        Raises
        ------
        ParameterError
            If ``strict`` and something is missing or unexpected, if there are two tensors for one name or different ones
            for tied parameters, or if ``names`` or ``transpose`` is invalid.
        ShapeError
            If a shape differs, even with ``strict=False``.
        DtypeError
            If a floating-point tensor is given for integers, or the reverse.
        """
        return state.load_state_dict(self, state_dict, strict, names, transpose)

    def save(
        self, path: str | os.PathLike[str], *, dtype: str | None = None, max_shard_size: int | str | None = None
    ) -> None:
        """Write the weights to a safetensors file. The file is replaced as a whole, or not at all.

        A tied parameter is written once, under its first name. The metadata of the file hold :meth:`to_config`, so that
        ``minidl.models.load_model(path)`` makes the model anew; if a layer cannot be written so, they say why.

        Parameters
        ----------
        path : path
        dtype : str, optional
            ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"float64"``. Floating-point numbers are rounded to it, to
            nearest with ties to even; by default they keep their dtype.
        max_shard_size : int or str, optional
            In bytes, or text such as ``"2GB"``. Larger weights are split into files ``NAME-00001-of-00003.safetensors``,
            with the index in ``path`` + ``.index.json``; a file at ``path`` itself is removed.

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
        """Read weights from safetensors files, of :meth:`save`, PyTorch or others.

        Tensors are read straight into the parameters, without a second copy of the weights in memory. float16, bfloat16
        and float64 are converted to the precision of the parameters. Pickle (``.bin``, ``.pt``) is never read.

        Parameters
        ----------
        path : path
            A safetensors file, the index of shards (``model.safetensors.index.json``), or a folder with
            ``model.safetensors`` or such an index.
        strict : bool, default True
            As in :meth:`load_state_dict`, like the next two.
        names : dict or callable, optional
        transpose : str, iterable of str, or callable, optional

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``, both lists of str.

        Raises
        ------
        ParameterError, ShapeError, DtypeError
            As :meth:`load_state_dict`.
        FileFormatError
            If a file is not a safetensors file, is truncated or damaged, if index and shards do not match, or if a
            tensor that is to be loaded has a dtype that NumPy lacks, such as float8.
        """
        return state.load(self, path, strict, names, transpose)

    def to_config(self) -> dict[str, Any]:
        """Return how the model is made, as plain data for JSON; ``minidl.models.from_config`` makes one like it, without the weights.

        Returns
        -------
        dict
            ``"model"``: classes with their arguments. ``"parameters"``: names, shapes and precision, by which ``from_config``
            checks its result. ``"tied"`` and ``"frozen"`` parameters, ``"swapped"`` layers, in whose places ``add_lora`` or
            ``store_weights`` put others, and ``"removed"`` ones, such as a pooler that a file of weights did not have.

        Raises
        ------
        ParameterError
            If the model holds a layer of a class that was not registered, or something was made with arguments that are no
            plain data; the message says where.
        """
        from minidl.layers.configuration import describe_model

        return describe_model(self)

    def _made_from(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return positional and named arguments that make a layer like this one, or None if they are not known."""
        return ((), {}) if type(self).__init__ is Layer.__init__ else vars(self).get("_made_with")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the cache, so that a pickle holds the weights and not the last batch."""
        return {name: value for name, value in vars(self).items() if name != "_cache"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make buffers arrays of the layer's own, in case that they are maps of a file."""
        vars(self).update(state)
        for name in self._buffer_names:
            self.__dict__[name] = own_array(self.__dict__[name])

    def __deepcopy__(self, memo: dict[int, Any]) -> Layer:
        """Copy the cache, too: a backward may follow."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        if "_cache" in vars(self):
            twin.__dict__["_cache"] = copy.deepcopy(self._cache, memo)
        return twin

    def export(self, path: str | os.PathLike[str], *inputs: Array, **how: Any) -> None:
        """Write the model as an ONNX graph that computes what ``forward`` does in evaluation.

        Parameters
        ----------
        path : path
            Such as ``"m.onnx"``; the weights go to ``"m.safetensors"`` beside it.
        *inputs : array
            An example of each input, such as ``x[:2]``.
        **how
            As in :func:`minidl.interop.onnx.export`, which does the work and says what it raises.
        """
        import minidl  # by the front door, and only when it is called: layers know none of the neighbours

        minidl.interop.onnx.export(self, path, *inputs, **how)

    # showing ---------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return the text between the parentheses of ``repr``."""
        return ""

    def __repr__(self) -> str:
        inside = [f"{name}={child!r}" for name, child in self.children().items() if not name.startswith("_")]
        settings = self.extra_repr()
        return format_layer(type(self).__name__, [settings, *inside] if settings else inside)


def _finish(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that it sets ``_made`` at its end."""

    @functools.wraps(init)
    def finishing(self: Layer, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is finishing:
            self.__dict__["_made"] = True
            if not self._told_by_parts:
                self.__dict__["_made_with"] = args, kwargs

    return finishing


class OpLayer(Layer):
    """A layer that is one op without parameters. A subclass sets ``op`` and, if the op has any, ``settings``."""

    op: str
    """The name of the op in ``minidl.ops``."""
    settings: Any = ()
    """The arguments of the op after x."""

    def forward(self, x: Array) -> Array:
        """Return op(x)."""
        op, settings = getattr(current(), self.op), self.settings
        y, cache = op(x, *settings) if settings else op(x)  # a call with * takes longer
        if keeps_caches():
            self.__dict__["_cache"] = cache
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        cache = self._cache
        if cache is None:
            self._remembered()  # which says what is missing
        return getattr(current(), f"{self.op}_backward")(dy, cache)


def as_shape(given: Any, where: str) -> Shape:
    """Return the shape of one example as a tuple of ints; a single int is the shape of a vector.

    >>> as_shape(4, "Dense"), as_shape([3, numpy.int64(8)], "Dense")
    ((4,), (3, 8))

    Raises
    ------
    ShapeError
        If it is something else.
    """
    sizes = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if any(isinstance(size, bool) or not isinstance(size, (int, numpy.integer)) or size < 0 for size in sizes):
        raise ShapeError(f"{where}: the shape of one example must be a tuple of integers, such as (4,), got {given!r}")
    return tuple(map(int, sizes))


def cast_input(layer: Layer, x: Any, value: Array) -> Array:
    """Return x in the precision of a layer's parameters, of which ``value`` is one, as Keras does.

    A PyTorch tensor is taken without a copy, as :func:`minidl.arrays.from_dlpack` does.

    Raises
    ------
    DtypeError
        If x is not a floating-point array.
    EngineError
        If x and the parameters are on different devices.
    """
    kind = getattr(getattr(x, "dtype", None), "kind", None)
    if kind is None and hasattr(x, "__dlpack__"):
        x = from_dlpack(x, engines.namespace(value), f"{layer!r}: the input")
        kind = x.dtype.kind
    if kind is None:
        raise DtypeError(f"{layer!r}: expected an array, got {type(x).__name__}; convert it with numpy.asarray(...)")
    if x.dtype == "uint8":
        raise DtypeError(
            f"{layer!r}: expected floating-point input, got bytes (uint8), as images are stored; give "
            f'x.astype("{value.dtype!s}") / 255'
        )
    if kind != "f":
        raise DtypeError(
            f"{layer!r}: expected floating-point input, got dtype {x.dtype}; convert it with x.astype({value.dtype!s})"
        )
    check_same_place(layer, x, value, "input")
    if isinstance(x, numpy.ndarray):
        return numpy.asarray(x, dtype=value.dtype)  # also turns memory maps and other subclasses into plain arrays
    return x.astype(value.dtype, copy=False)


def check_same_place(layer: Any, x: Array, value: Array, what: str) -> None:
    """Raise EngineError unless an input is where the parameters are, of which ``value`` is one.

    Parameters
    ----------
    layer : layer
        For the message.
    x, value : array
    what : str
        What x is, for the message.
    """
    if place_of(x) != place_of(value):
        raise EngineError(
            f"{layer!r}: the {what} is {_named(x)}, but the parameters are {_named(value)}; move the {what} with "
            "minidl.engines.current().asarray(x), or the model with model.to(engine)"
        )


def _named(array: Array) -> str:
    """Say where an array is, as ``on GPU 1 (cupy)``."""
    device, library = place_of(array)[1], type(array).__module__.partition(".")[0]
    return f"on the host ({library})" if device is None else f"on GPU {device} ({library})"
