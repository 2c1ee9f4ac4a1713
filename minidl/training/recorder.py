"""Everything that the next step of a training depends on: written down for a checkpoint, and put back from one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

import minidl
from minidl import random
from minidl.errors import FileFormatError, MinidlError, ParameterError
from minidl.layers import Layer, Parameter
from minidl.training.history import History
from minidl.training.plain_state import (
    NotPlain,
    Sources,
    object_state,
    pack,
    put_object_state,
    unpack,
)

__all__ = ["Place", "Recorder", "layer_settings", "put_layer_settings"]


@dataclass(frozen=True)
class Place:
    """How far a training is.

    Attributes
    ----------
    epoch : int
        The epoch that comes next, or that is going on.
    step : int
        Batches of it that are done; 0 if it has not begun.
    total, seen : float
        The sum of its losses so far, and of their weights.
    """

    epoch: int
    step: int = 0
    total: float = 0.0
    seen: float = 0.0


class Recorder:
    """Writes down what a training depends on, and puts it back.

    Parameters
    ----------
    model : layer
    loop : Loop
    feeds : sequence of Feed or Stream
        The batches for training and, if there are any, for validation.
    callbacks : sequence of Callback
    roots : dict of str to object
        What else may hold random generators.
    settings : dict of str
        Arguments of ``fit`` that must be the same when it goes on.
    """

    def __init__(
        self,
        model: Any,
        loop: Any,
        feeds: Sequence[Any],
        callbacks: Sequence[Any],
        roots: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        self.model, self.loop, self.feeds, self.callbacks = model, loop, list(feeds), list(callbacks)
        own = {"minidl.seed": random.generator(), **roots, "model": model, "loss": model.loss}
        named = {f"callbacks.{i}": callback for i, callback in enumerate(callbacks)}
        self.sources = Sources({**own, **named}, everywhere=True)
        self.described = _describe(model, callbacks, settings)
        layers = [layer for _, layer in model.named_layers()]
        self._kept_elsewhere = [model, *layers, model.optimizer, "model", "numbers", "params"]
        self.state(Place(0, 1), History())  # raises now if there is something that cannot be written

    # writing ----------------------------------------------------------------------------------------------------------

    def state(self, place: Place, history: History) -> tuple[dict[str, numpy.ndarray], dict[str, Any]]:
        """Return arrays, and what JSON holds, of everything but the weights.

        Raises
        ------
        ParameterError
            If the state of a metric or callback is no plain data.
        """
        arrays: dict[str, numpy.ndarray] = {}
        optimizer = self.model.optimizer
        for name, array in optimizer.state_dict().items():
            arrays[f"optimizer.{name}"] = array
        try:
            content = {
                "minidl": minidl.__version__,
                "described": self.described,
                "place": pack(vars(place).copy(), arrays, "place"),
                "initial_lrs": [group.initial_lr for group in optimizer.param_groups],
                "layers": pack(layer_settings(self.model), arrays, "layers"),
                "frozen": [name for name, p in self.model.named_parameters() if not getattr(p, "trainable", True)],
                "feeds": pack([feed.position() for feed in self.feeds], arrays, "feeds"),
                "meter": self.loop.meter.state(arrays) if place.step else None,
                "history": pack(vars(history).copy(), arrays, "history"),
                "stop_training": bool(self.model.stop_training),
                "callbacks": [
                    object_state(callback, arrays, f"callbacks.{i}", self._kept_elsewhere)
                    for i, callback in enumerate(self.callbacks)
                ],
                "sources": self.sources.state(arrays, "sources"),
            }
        except NotPlain as error:
            raise ParameterError(f"fit, checkpoint: {error}; its state_dict must return plain data") from error
        return arrays, content

    # putting back -----------------------------------------------------------------------------------------------------

    def check(self, content: Mapping[str, Any], where: Path) -> None:
        """Raise ParameterError unless a checkpoint is one of this training, naming the first difference."""
        for title, then in content["described"].items():
            now = self.described[title]
            for i in range(max(len(then), len(now))):
                old, new = (lines[i] if i < len(lines) else "nothing" for lines in (then, now))
                if old != new:
                    raise ParameterError(
                        f"fit, resume: {where} is a checkpoint of another training. Its {title} has {old}, but here it is {new}"
                    )

    def put(
        self,
        content: Mapping[str, Any],
        arrays: Mapping[str, numpy.ndarray],
        model: Path,
        history: History,
        callbacks: bool = True,
    ) -> Place:
        """Put everything back, the callbacks' states only if wanted; return how far the training was.

        Raises
        ------
        FileFormatError
            If the checkpoint is damaged.
        """
        try:
            return self._put(content, arrays, model, history, callbacks)
        except MinidlError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise FileFormatError(f"fit, resume: {model.parent} does not hold what it should: {error!r}") from error

    def _put(
        self,
        content: Mapping[str, Any],
        arrays: Mapping[str, numpy.ndarray],
        model: Path,
        history: History,
        callbacks: bool,
    ) -> Place:
        self.model.load(model)
        frozen = set(content["frozen"])
        for name, parameter in self.model.named_parameters():
            if isinstance(parameter, Parameter) and parameter.trainable == (name in frozen):
                parameter.trainable = name not in frozen
        put_layer_settings(self.model, unpack(content["layers"], arrays))
        place = Place(**unpack(content["place"], arrays))
        for i, (feed, position) in enumerate(zip(self.feeds, unpack(content["feeds"], arrays), strict=True)):
            feed.go_on(position, place.step if i == 0 else 0)
        vars(history).update(unpack(content["history"], arrays))
        self.model.stop_training = content["stop_training"]
        for callback, state in zip(self.callbacks, content["callbacks"], strict=True) if callbacks else ():
            put_object_state(callback, state, arrays)
        optimizer, own = self.model.optimizer, "optimizer."  # after the schedules, which set rates
        optimizer.load_state_dict({name[len(own) :]: a for name, a in arrays.items() if name.startswith(own)})
        for group, rate in zip(optimizer.param_groups, content["initial_lrs"], strict=True):
            group.initial_lr = rate
        self.sources.put(content["sources"], arrays)
        return place


def _describe(model: Any, callbacks: Sequence[Any], settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what must be the same when a training goes on, by title, in lines."""
    parameters = [*model.named_parameters(), *model.named_buffers()]
    return {
        "model": [f"{path or 'the model'}: {_title(layer)}" for path, layer in model.named_layers()],
        "list of parameters": describe_arrays(parameters),
        "optimizer": [type(model.optimizer).__name__],
        "loss": [_title(model.loss)],
        "list of metrics": [f"{metric.name} of class {type(metric).__name__}" for metric in model.metrics],
        "list of callbacks": [type(callback).__name__ for callback in callbacks],
        "call of fit": [f"{name}={value!r}" for name, value in settings.items()],
    }


def describe_arrays(named: Iterable[tuple[str, Any]]) -> list[str]:
    """Return a line for each parameter or array.

    >>> describe_arrays([("scale", numpy.zeros((2, 3)))])
    ['scale of shape (2, 3) and dtype float64']
    """
    return [f"{name} of shape {tuple(array.shape)} and dtype {array.dtype}" for name, array in named]


def _title(thing: Any) -> str:
    """Return the name of the class, with the settings if it is one of ours that shows them."""
    shown = thing.extra_repr() if isinstance(thing, Layer) else ""
    return f"{type(thing).__name__}({shown})"


def layer_settings(model: Any) -> dict[str, dict[str, Any]]:
    """Return what may be assigned to layers while they are trained: modes, and numbers such as the p of dropout."""
    found = {}
    for path, layer in model.named_layers():
        if isinstance(layer, Layer):
            live = {name: getattr(layer, name, None) for name in type(layer)._live if name not in ("bias", "generator")}
            own = {name: value for name, value in live.items() if isinstance(value, (int, float))}
            found[path] = {"training": layer._training, "trainable": layer._trainable, **own}
    return found


def put_layer_settings(model: Any, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Assign what :func:`layer_settings` returned."""
    for path, layer in model.named_layers():
        if isinstance(layer, Layer):
            for name, value in found[path].items():
                if name in ("training", "trainable"):
                    layer.__dict__[f"_{name}"] = value
                elif getattr(layer, name) != value:
                    setattr(layer, name, value)
