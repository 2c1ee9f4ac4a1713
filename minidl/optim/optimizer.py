"""What all optimisers share: flat segments of parameters, their state, and the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl import engines
from minidl.errors import ParameterError
from minidl.layers.parameter import Parameter, ParameterBuffer
from minidl.ops import Array, namespace

__all__ = ["Optimizer", "at_least", "fraction"]


@dataclass
class Segment:
    """A run of parameters that lie one after another in a buffer: values, gradients and state are one array each."""

    buffer: ParameterBuffer
    start: int
    stop: int
    parameters: list[Parameter]
    state: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.whole = self.start == 0 and self.stop == self.buffer.values.size
        self.values = self.buffer.values[self.start : self.stop]

    def gradients(self) -> Array:
        """Return the gradients as one array."""
        flat = self.buffer.gradients()
        return flat if self.whole else flat[self.start : self.stop]


@dataclass
class Group:
    """Parameters with settings of their own."""

    parameters: list[Parameter]
    settings: dict[str, Any]
    segments: list[Segment] = field(default_factory=list)


class Optimizer:
    """Base of the optimisers: one pass over each flat buffer, through the engine's update op.

    A subclass names the arrays of state that it keeps (:meth:`state_names`) and calls the op (:meth:`update`).

    Parameters
    ----------
    params : list of Parameter, or list of dict
        ``model.parameters()``, or groups ``{"params": [...], "lr": ...}`` with settings of their own.
    **settings
        Numbers that every group has unless it says otherwise.

    Raises
    ------
    ParameterError
        If there are no parameters, something is no parameter, or a setting is outside its range.
    """

    checks: Mapping[str, Callable[[Any], str | None]] = {}
    """For each setting what is wrong with a value, if anything."""

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        self.defaults = settings
        self.step_count = 0
        given = list(params)
        if not given:
            raise ParameterError(f"{type(self).__name__}: got no parameters; give model.parameters()")
        self.groups = [self._group(g) for g in (given if isinstance(given[0], Mapping) else [{"params": given}])]
        every = [p for group in self.groups for p in group.parameters]
        if len(set(map(id, every))) != len(every):
            raise ParameterError(f"{type(self).__name__}: a parameter is in more than one group")
        self._segment()

    def _group(self, given: Mapping[str, Any]) -> Group:
        settings = {**self.defaults, **{k: v for k, v in given.items() if k != "params"}}
        unknown = sorted(set(settings) - set(self.defaults))
        if unknown:
            raise ParameterError(f"{type(self).__name__}: unknown settings {unknown}; known: {sorted(self.defaults)}")
        for name, value in settings.items():
            problem = self.checks[name](value) if name in self.checks else None
            if problem:
                raise ParameterError(f"{type(self).__name__}: {name} {problem}, got {value!r}")
        parameters = list(dict.fromkeys(given["params"]))
        for parameter in parameters:
            if not isinstance(parameter, Parameter):
                raise ParameterError(
                    f"{type(self).__name__}: expected minidl.Parameter objects, got {type(parameter).__name__}; give "
                    "model.parameters()"
                )
        if not parameters:
            raise ParameterError(f"{type(self).__name__}: got no parameters; give model.parameters()")
        return Group(parameters, settings)

    # state -----------------------------------------------------------------------------------------------------------

    def state_names(self, settings: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the state arrays that these settings need, each of the size of the values."""
        return ()

    def update(
        self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: dict[str, Any]
    ) -> None:
        """Call the engine's update op for one segment."""
        raise NotImplementedError

    def _segment(self) -> None:
        """Group the parameters into runs; carry over state where there is some (a model was put into a larger one)."""
        for group in self.groups:
            kept = {
                id(p): {name: _part(array, segment, p) for name, array in segment.state.items()}
                for segment in group.segments
                for p in segment.parameters
            }
            group.segments = [self._make_segment(run, group.settings, kept) for run in _runs(group.parameters)]
        self._segments = [(segment, group.settings) for group in self.groups for segment in group.segments]
        self._buffers = list(dict.fromkeys(segment.buffer for segment, _ in self._segments))

    def _make_segment(self, run: list[Parameter], settings: dict[str, Any], kept: dict[int, Any]) -> Segment:
        segment = Segment(run[0].buffer, run[0].start, run[-1].start + run[-1].size, run)
        xp = namespace(segment.values)
        for name in self.state_names(settings):
            array = xp.zeros_like(segment.values)
            for parameter in run:
                if name in kept.get(id(parameter), {}):
                    offset = parameter.start - segment.start
                    array[offset : offset + parameter.size] = xp.asarray(kept[id(parameter)][name])
            segment.state[name] = array
        return segment

    # stepping --------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Change every value by one step along its gradient."""
        for buffer in self._buffers:
            if buffer.retired:
                self._segment()
                break
        self.step_count += 1
        engine = engines.current()
        for segment, settings in self._segments:
            self.update(engine, segment.values, segment.gradients(), segment.state, settings)

    def zero_grad(self) -> None:
        """Set the gradients to zero; parameters of the same buffers that are not optimised here keep theirs."""
        for segment, _ in self._segments:
            if segment.whole:
                segment.buffer.zero_grad()
            else:
                segment.gradients()[...] = 0

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters."""
        return [parameter for group in self.groups for parameter in group.parameters]

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets every group's."""
        return self.groups[0].settings["lr"]

    @lr.setter
    def lr(self, new: float) -> None:
        problem = self.checks["lr"](new)
        if problem:
            raise ParameterError(f"{type(self).__name__}: lr {problem}, got {new!r}")
        for group in self.groups:
            group.settings["lr"] = float(new)

    # saving ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, numpy.ndarray]:
        """Return the step count, the settings' numbers and the state of each parameter, as host arrays by name."""
        found: dict[str, numpy.ndarray] = {"step": numpy.array(self.step_count)}
        for g, group in enumerate(self.groups):
            for name, value in group.settings.items():
                found[f"groups.{g}.{name}"] = numpy.asarray(value, dtype=numpy.float64)
            for segment in group.segments:
                for parameter in segment.parameters:
                    position = group.parameters.index(parameter)
                    for name, array in segment.state.items():
                        found[f"state.{g}.{position}.{name}"] = _part(array, segment, parameter)
        return found

    def load_state_dict(self, state_dict: Mapping[str, numpy.ndarray]) -> None:
        """Take over what :meth:`state_dict` returned of an optimiser for the same model.

        Raises
        ------
        ParameterError
            If names or sizes do not fit; nothing is changed then.
        """
        own = self.state_dict()
        if set(own) != set(state_dict) or any(own[k].shape != numpy.shape(state_dict[k]) for k in own):
            raise ParameterError(f"{type(self).__name__}: the state is of another optimiser or model")
        self.step_count = int(state_dict["step"])
        for g, group in enumerate(self.groups):
            for name, value in group.settings.items():
                group.settings[name] = _like(value, numpy.asarray(state_dict[f"groups.{g}.{name}"]))
            for segment in group.segments:
                for parameter in segment.parameters:
                    position = group.parameters.index(parameter)
                    offset = parameter.start - segment.start
                    for name, array in segment.state.items():
                        new = namespace(array).asarray(state_dict[f"state.{g}.{position}.{name}"])
                        array[offset : offset + parameter.size] = new

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.groups[0].settings.items())
        return f"{type(self).__name__}({shown})"


def _runs(parameters: list[Parameter]) -> list[list[Parameter]]:
    """Split parameters into maximal runs that lie one after another in one buffer."""
    order = sorted(range(len(parameters)), key=lambda i: (id(parameters[i].buffer), parameters[i].start))
    runs: list[list[Parameter]] = []
    for parameter in (parameters[i] for i in order):
        last = runs[-1][-1] if runs else None
        if last is not None and last.buffer is parameter.buffer and last.start + last.size == parameter.start:
            runs[-1].append(parameter)
        else:
            runs.append([parameter])
    return runs


def _part(array: Array, segment: Segment, parameter: Parameter) -> numpy.ndarray:
    start = sum(p.size for p in segment.parameters[: segment.parameters.index(parameter)])
    part = array[start : start + parameter.size]
    return numpy.array(part.get() if hasattr(part, "get") else part)


def _like(old: Any, new: numpy.ndarray) -> Any:
    if isinstance(old, tuple):
        return tuple(float(v) for v in new)
    return bool(new) if isinstance(old, bool) else float(new)


def at_least(low: float, strictly: bool = False) -> Callable[[Any], str | None]:
    """Return a check for a finite number not below ``low``."""

    def check(value: Any) -> str | None:
        fine = isinstance(value, (int, float)) and math.isfinite(value) and (value > low if strictly else value >= low)
        return None if fine else f"must be a finite number {'above' if strictly else 'of at least'} {low}"

    return check


def fraction(value: Any) -> str | None:
    """Check for a number from 0 up to, but not including, 1."""
    return None if isinstance(value, (int, float)) and 0.0 <= value < 1.0 else "must be from 0 up to but not including 1"
