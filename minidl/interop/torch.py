"""Bridges to PyTorch: a minidl model as a module of PyTorch, and a module of PyTorch as a layer of minidl.

With the second, ``minidl.gradcheck`` checks anybody's module, also on the command line: ``minidl gradcheck --torch
torch.nn:GELU``. Inputs and parameters share their memory in both directions. See docs/torch.md.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy

from minidl import random
from minidl.arrays import from_dlpack
from minidl.errors import DataError, EngineError, MissingDependencyError, OrderError, ParameterError, UnknownNameError
from minidl.layers import Layer, Parameter, inference
from minidl.layers.base import cast_input
from minidl.layers.inference import keeps_caches
from minidl.testing.gradcheck import gradcheck
from minidl.testing.layer_checks import draw_input, import_file, split_target
from minidl.testing.randomness import generators_of
from minidl.testing.report import Report

try:
    import torch
    from torch.autograd.function import once_differentiable
except ImportError as error:
    raise MissingDependencyError.needs("minidl.interop.torch", "torch", "torch") from error

__all__ = ["MinidlModule", "TorchLayer", "check_module"]


# a minidl model in a PyTorch graph ------------------------------------------------------------------------------------


class MinidlModule(torch.nn.Module):
    """A minidl model as a module of PyTorch, to be part of its models and trained by its optimisers.

    Its parameters and buffers share the memory of the model's, under the same names, so a step of either library's optimiser
    changes both. It computes on minidl's current engine, on the host.

    Parameters
    ----------
    model : layer
        Built: its parameters must exist. Any object with ``forward`` and ``backward``, and ``parameters()`` if it has any.

    Attributes
    ----------
    minidl_model : layer

    Raises
    ------
    NotBuiltError
        If a layer has no parameters yet; call ``model.build(input_shape)``.
    ParameterError
        From ``to``, ``double``, ``cuda`` ..., which would separate the memory: convert the minidl model instead.
    DtypeError, EngineError
        From ``forward``, for a tensor that the engine cannot read without a copy.

    Notes
    -----
    A layer of minidl remembers its last forward only. If the model was called again before ``backward``, as
    ``torch.autograd.gradcheck`` does, the older forward is computed anew, with the same random numbers. Under
    ``torch.no_grad()`` nothing is remembered. Second derivatives are not available.

    Examples
    --------
    >>> import minidl as dl
    >>> model = dl.Sequential([dl.Linear(4, 8), dl.GELU()])
    >>> module = torch.nn.Sequential(MinidlModule(model), torch.nn.Linear(8, 1))
    >>> loss = module(torch.randn(5, 4)).square().mean()
    >>> loss.backward()
    >>> [name for name, parameter in module.named_parameters() if parameter.grad is not None]
    ['0.0.weight', '0.0.bias', '1.weight', '1.bias']
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.minidl_model = model
        named = _named_parameters(model)
        self._own, self._names = [p for _, p in named], [name for name, _ in named]
        self._calls = 0
        self._find_generators()
        for name, parameter in named:
            if not isinstance(parameter.value, numpy.ndarray):
                raise EngineError("MinidlModule: the model is not on the host; move it with model.to('numpy')")
            owner, last = self._submodule(name)
            trained = getattr(parameter, "trainable", True)
            owner.register_parameter(last, torch.nn.Parameter(_tensor(parameter.value), requires_grad=trained))
        for name, array in _named_buffers(model):
            owner, last = self._submodule(name)
            owner.register_buffer(last, _tensor(array))

    def _submodule(self, name: str) -> tuple[torch.nn.Module, str]:
        """Return the module that holds a parameter of this path, and the last part of the path."""
        *path, last = name.split(".")
        owner: torch.nn.Module = self
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner.get_submodule(part)
        return owner, last

    def _find_generators(self) -> None:
        self._generators = list(generators_of(self.minidl_model))

    def forward(self, *inputs: Any) -> Any:
        """Return what the model returns, as tensors."""
        values = [
            getattr(*self._submodule(name)) for name in self._names
        ]  # not always a Parameter: see functional_call
        if torch.is_grad_enabled():
            return _Bridge.apply(self, len(inputs), *inputs, *values)
        with inference():
            return _to_tensors(self._run(_to_arrays(inputs), values))

    def _run(self, inputs: tuple[Any, ...], values: Sequence[torch.Tensor]) -> Any:
        """Run the model's forward on arrays, with these values of the parameters."""
        for parameter, tensor in zip(self._own, values, strict=True):
            if tensor.data_ptr() != parameter.value.ctypes.data:  # given by torch.func.functional_call
                parameter.value[...] = _to_array(tensor, "a parameter")
        return self.minidl_model.forward(*inputs)

    def train(self, mode: bool = True) -> MinidlModule:
        """Switch to training, or to evaluation with ``mode=False``, here and in the model."""
        if hasattr(self.minidl_model, "train"):
            self.minidl_model.train(mode)
        self._find_generators()
        return super().train(mode)

    def _apply(self, function: Callable[[Any], Any], recurse: bool = True) -> MinidlModule:
        """Refuse what would give a parameter other memory; ``to``, ``double``, ``cuda`` and their like all come here."""
        for tensor in (*self.parameters(), *self.buffers()):
            now = function(tensor.detach())
            if now.data_ptr() != tensor.data_ptr() or now.dtype != tensor.dtype:
                raise ParameterError(
                    "MinidlModule: its memory is that of the minidl model, and cannot become another dtype or go to another "
                    "device; convert the model with model.to(dtype=...), and make a new MinidlModule of it"
                )
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> MinidlModule:
        """Return a module of a copy of the model, which share their memory again."""
        twin = memo[id(self)] = MinidlModule(copy.deepcopy(self.minidl_model, memo))
        twin.training = self.training
        return twin

    def extra_repr(self) -> str:
        """Return the minidl model."""
        return repr(self.minidl_model)


class _Bridge(torch.autograd.Function):
    """The forward and backward of a minidl model as one operation of PyTorch."""

    @staticmethod
    def forward(ctx: Any, module: MinidlModule, count: int, *tensors: torch.Tensor) -> Any:
        model = module.minidl_model
        ctx.before = _chance_and_statistics(module)
        ctx.module, ctx.count, ctx.modes = module, count, _modes(model)
        outputs = module._run(_to_arrays(tensors[:count]), tensors[count:])
        module._calls += 1
        ctx.call = module._calls
        ctx.save_for_backward(*tensors)  # so that PyTorch raises if somebody changes one of them before backward
        return _to_tensors(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        module, tensors = ctx.module, ctx.saved_tensors
        if ctx.call != module._calls:
            _repeat(ctx, tensors)
        kept = [(p, p.grad.copy()) for p in module._own if getattr(p, "has_grad", True)]
        _clear(module._own)
        dy = _to_arrays(tuple(g.contiguous() for g in upstream))
        dx = module.minidl_model.backward(dy if len(dy) > 1 else dy[0])
        gradients = [_tensor(p.grad.copy()) for p in module._own]
        _clear(module._own)
        for p, old in kept:
            p.grad[...] = old
        inputs = dx if isinstance(dx, (tuple, list)) else (dx,)
        if len(inputs) != ctx.count:
            raise ParameterError(f"MinidlModule: backward returned {len(inputs)} gradients for {ctx.count} inputs")
        found = [*(None if g is None else _tensor(numpy.array(g)) for g in inputs), *gradients]
        wanted = ctx.needs_input_grad[2:]
        return None, None, *(g if w else None for g, w in zip(found, wanted, strict=True))


def _repeat(ctx: Any, tensors: tuple[torch.Tensor, ...]) -> None:
    """Run an older forward again, with its random numbers and statistics; afterwards these are as they were."""
    module = ctx.module
    if _modes(module.minidl_model) != ctx.modes:
        raise OrderError("MinidlModule: the model was switched to another mode between forward and backward")
    now = _chance_and_statistics(module)
    _restore(module, *ctx.before)
    module._run(_to_arrays(tensors[: ctx.count]), tensors[ctx.count :])
    module._calls = ctx.call
    _restore(module, *now)


def _chance_and_statistics(module: MinidlModule) -> tuple[list[Any], list[numpy.ndarray]]:
    """Return the states of the generators that a forward draws from, and copies of the buffers that it changes."""
    states = [generator.bit_generator.state for generator in (random.generator(), *module._generators)]
    return states, [array.copy() for _, array in _named_buffers(module.minidl_model)]


def _restore(module: MinidlModule, states: list[Any], statistics: list[numpy.ndarray]) -> None:
    for generator, state in zip((random.generator(), *module._generators), states, strict=True):
        generator.bit_generator.state = state
    for (_, array), values in zip(_named_buffers(module.minidl_model), statistics, strict=True):
        array[...] = values


def _modes(model: Any) -> list[bool]:
    layers = model.named_layers() if hasattr(model, "named_layers") else [("", model)]
    return [bool(getattr(layer, "training", True)) for _, layer in layers]


def _clear(parameters: list[Any]) -> None:
    for p in parameters:
        if isinstance(p, Parameter):
            p.zero_grad()
        else:
            p.grad[...] = 0


def _named_parameters(model: Any) -> list[tuple[str, Any]]:
    """Return each parameter once, with its first name."""
    if hasattr(model, "named_parameters"):
        return list({id(p): (name, p) for name, p in reversed(list(model.named_parameters()))}.values())[::-1]
    return [(getattr(p, "name", "") or str(i), p) for i, p in enumerate(getattr(model, "parameters", list)())]


def _named_buffers(model: Any) -> list[tuple[str, numpy.ndarray]]:
    return list(model.named_buffers()) if hasattr(model, "named_buffers") else []


# a PyTorch module as a minidl layer -----------------------------------------------------------------------------------


class TorchLayer(Layer):
    """A module of PyTorch as a layer of minidl, for ``Sequential``, its optimisers, and ``gradcheck``.

    Its parameters are views of minidl's flat buffer, and the module computes with that memory. The module runs on the host.
    ``minidl.seed`` decides what its dropout draws.

    Parameters
    ----------
    module : torch.nn.Module
        Its values are taken over; from then on the layer decides its precision (``layer.to(dtype=...)``) and mode.

    Raises
    ------
    ParameterError
        If it is no module.
    EngineError
        If a parameter is not on the host.

    Examples
    --------
    >>> import numpy, minidl as dl
    >>> layer = TorchLayer(torch.nn.Linear(3, 2))
    >>> [parameter.name for parameter in layer.parameters()]
    ['weight', 'bias']
    >>> dl.gradcheck(layer, numpy.ones((4, 3))).ok
    True
    """

    _not_parts = ("module", "_held")

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        if not isinstance(module, torch.nn.Module):
            raise ParameterError(f"TorchLayer: expected a torch.nn.Module, got {type(module).__name__}")
        self.module = module
        self.weights: list[Parameter] = []
        for name, tensor in module.named_parameters():
            values = from_dlpack(tensor.detach(), name=f"TorchLayer: {name}")
            self.weights.append(Parameter(values.copy(), name=name))
            self.weights[-1].trainable = tensor.requires_grad
        self._training = module.training

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield each parameter with its path in the module."""
        yield from ((prefix + parameter.name, parameter) for parameter in self.weights)

    def forward(self, *inputs: Any) -> Any:
        """Return what the module returns, as an array or a flat tuple of arrays."""
        if self.weights:
            inputs = tuple(cast_input(self, x, self.weights[0].value) if _is_floating(x) else x for x in inputs)
        self._share_memory(inputs)
        remembers = keeps_caches()
        tensors = [_tensor(x).requires_grad_(remembers and _is_floating(x)) for x in inputs]
        with torch.set_grad_enabled(remembers), _repeatable(self.training):
            outputs = self.module(*tensors)
        found = tuple(_leaves(outputs))
        self._remember((tensors, found))
        arrays = tuple(_to_array(y.contiguous(), "an output") for y in found)
        return arrays[0] if isinstance(outputs, torch.Tensor) else arrays

    def backward(self, dy: Any) -> Any:
        """Return the gradients of the inputs, with None for integers, and add to those of the parameters."""
        tensors, outputs = self._remembered()
        upstream = [_tensor(g) for g in (dy if isinstance(dy, (tuple, list)) else (dy,))]
        pairs = [(y, g) for y, g in zip(outputs, upstream, strict=True) if y.requires_grad]
        trained = [(p, t) for p, t in zip(self.weights, self.module.parameters(), strict=True) if t.requires_grad]
        sought = [*(t for t in tensors if t.requires_grad), *(t for _, t in trained)]
        found: Any = [None] * len(sought)
        if pairs and sought:
            ys, gs = zip(*pairs, strict=True)
            found = torch.autograd.grad(ys, sought, gs, retain_graph=True, allow_unused=True)
        each = iter(
            _to_array((torch.zeros_like(t) if g is None else g).contiguous(), "a gradient")
            for g, t in zip(found, sought, strict=True)
        )
        dx = tuple(next(each) if t.requires_grad else None for t in tensors)
        for parameter, _ in trained:
            parameter.accumulate(next(each))
        return dx if len(dx) > 1 else dx[0]

    def _share_memory(self, inputs: tuple[Any, ...]) -> None:
        """Let the module compute with the memory of the parameters, wherever it is by now, in the layer's mode."""
        for parameter, tensor in zip(self.weights, self.module.parameters(), strict=True):
            if tensor.data_ptr() != parameter.value.ctypes.data or tensor.element_size() != parameter.dtype.itemsize:
                tensor.data = _tensor(parameter.value)
            tensor.requires_grad_(parameter.trainable)
        dtype = next((_tensor(x).dtype for x in inputs if _is_floating(x)), None)
        for buffer in self.module.buffers():
            if dtype is not None and buffer.is_floating_point() and buffer.dtype != dtype:
                buffer.data = buffer.data.to(dtype)
        if self.module.training != self.training:
            self.module.train(self.training)

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchLayer:
        """Copy all but the graph of the last forward, which PyTorch does not let anybody copy."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def extra_repr(self) -> str:
        """Return the module in one line."""
        return " ".join(repr(self.module).split())


def _leaves(outputs: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested tuples, such as those of an LSTM; what may be missing is left out."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, (tuple, list)):
        for part in outputs:
            yield from _leaves(part)
    elif outputs is not None:
        raise ParameterError(
            f"TorchLayer: the module must return tensors, or tuples of them, got {type(outputs).__name__}"
        )


@contextlib.contextmanager
def _repeatable(training: bool) -> Iterator[None]:
    """Seed PyTorch's generator by minidl's, and restore it at the end; in evaluation nothing is drawn."""
    if not training:
        yield
        return
    state = torch.random.get_rng_state()
    try:
        torch.default_generator.manual_seed(int(random.generator().integers(2**63)))
        yield
    finally:
        torch.random.set_rng_state(state)


def check_module(
    target: str, shape: Sequence[int] | None = None, *, seed: int = 0, raise_exception: bool = False, **options: Any
) -> Report:
    """Check the gradients that PyTorch computes for a module against numeric derivatives, in float64.

    Parameters
    ----------
    target : str
        ``package.module:NAME`` or ``path/to/file.py:NAME``. NAME is a class of modules, a function that makes one, each with
        arguments if needed, as in ``torch.nn:Linear(3, 2)``, or a module.
    shape : sequence of int, optional
        The shape of the input, batch axis included; by default it follows from the parameters, or common shapes are tried.
    seed : int, default 0
        Seed of the random input.
    raise_exception : bool, default False
        Whether to raise if a gradient is wrong.
    **options : Any
        Passed on to ``gradcheck``.

    Returns
    -------
    report : Report

    Raises
    ------
    DataError
        If there is no such file or module, or it cannot be imported.
    UnknownNameError
        If it has nothing of that name.
    ParameterError
        If that is no module and makes none.
    ShapeError
        If no input shape fits; give one with ``shape``.

    Examples
    --------
    >>> check_module("torch.nn:GELU").ok
    True
    """
    layer = TorchLayer(_load_module(target)).to(dtype="float64")
    x = draw_input(layer, shape, numpy.random.default_rng(seed))
    return gradcheck(layer, x, seed=seed, raise_exception=raise_exception, name=target.partition(":")[2], **options)


def _load_module(target: str) -> torch.nn.Module:
    place, name, arguments, keywords = split_target(target)
    source = import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    if not hasattr(source, name):
        known = [key for key, value in vars(source).items() if _makes_module(value) and not key.startswith("_")]
        raise UnknownNameError.among(f"name in {place}", name, known or ["no modules"])
    found = getattr(source, name)
    if not isinstance(found, torch.nn.Module) and callable(found):
        try:
            found = found(*arguments or [], **keywords)
        except TypeError as error:
            raise ParameterError(
                f"gradcheck: {name} in {place} cannot be called with these arguments ({error}); give them after the name, as in "
                f"'{place}:{name}(3, 2)'"
            ) from error
    if not isinstance(found, torch.nn.Module):
        raise ParameterError(f"gradcheck: {target} gave a {type(found).__name__}, not a torch.nn.Module")
    return found


def _import_module(name: str) -> Any:
    sys.path.insert(0, "")  # the folder where the command is run, as for python -m
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything
        raise DataError(f"gradcheck: {name} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")


def _makes_module(value: Any) -> bool:
    return isinstance(value, torch.nn.Module) or (isinstance(value, type) and issubclass(value, torch.nn.Module))


def _is_floating(x: Any) -> bool:
    return getattr(getattr(x, "dtype", None), "kind", "") == "f"


# memory that both see -------------------------------------------------------------------------------------------------


def _tensor(array: Any) -> torch.Tensor:
    """Return a tensor that shares the memory of an array, if its layout and its owner allow that."""
    plain = numpy.asarray(array)
    shared = plain.flags.writeable and all(stride >= 0 for stride in plain.strides)
    return torch.from_numpy(plain if shared else plain.copy())


def _to_array(tensor: torch.Tensor, name: str) -> numpy.ndarray:
    """Return an array that shares the memory of a tensor, or raise if there can be none."""
    values = tensor.detach()
    from_dlpack(values, name=f"minidl.interop.torch: {name}")  # for its messages: its result may be read-only
    return values.numpy()


def _to_arrays(tensors: tuple[torch.Tensor, ...]) -> tuple[numpy.ndarray, ...]:
    return tuple(_to_array(tensor, f"tensor {i}") for i, tensor in enumerate(tensors))


def _to_tensors(outputs: Any) -> Any:
    """Return copies of outputs as tensors: PyTorch may change them in place, and minidl may use their memory again."""
    if isinstance(outputs, (tuple, list)):
        return tuple(map(_to_tensors, outputs))
    return _tensor(numpy.array(outputs))
