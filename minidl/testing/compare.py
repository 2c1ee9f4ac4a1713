"""The comparison of analytic and numeric derivatives, argument by argument.

Let y(x) be the outputs as one vector. For some upstream gradients p_r (*probes*), ``backward`` returns g_r = J^T p_r. Along
some directions v_c (*moves*) of one argument, the forward is differentiated numerically. The two sides compared are::

    <g_r, v_c> = d/dt <p_r, y(x + t v_c)>

With unit vectors as probes and moves this is the full Jacobian; with random ones it is a directional derivative. One
probe is always random, not ones: the gradient of the sum of a softmax is zero and proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from minidl.testing.complex_step import STEP, StepArray, imaginary
from minidl.testing.numeric import Derivative, differentiate, relative_step, scale_of
from minidl.testing.subjects import FunctionSubject, Subject

__all__ = ["Comparison", "Settings", "compare"]


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison.

    Attributes
    ----------
    method : str
        ``"central"`` or ``"complex"``.
    tolerance : float
        The largest relative error that passes.
    floor : float
        Elements smaller than this share of the largest are compared relative to that share of it.
    step : float or None
        The step; None derives it.
    full_inputs, full_outputs : int
        Up to these sizes every element is tried, beyond them random combinations.
    directions : int
        The number of random combinations.
    """

    method: str
    tolerance: float
    floor: float
    step: float | None = None
    full_inputs: int = 128
    full_outputs: int = 64
    directions: int = 3


@dataclass(frozen=True)
class Comparison:
    """The two matrices of one argument, and their largest difference.

    ``analytic`` and ``numeric`` have a row for each probe and a column for each move. ``unresolved`` means that the numeric
    side cannot be trusted: there is a kink, or the forward is not smooth in its last digits.
    """

    argument: int
    analytic: numpy.ndarray
    numeric: numpy.ndarray
    relative: numpy.ndarray
    unresolved: bool
    index: tuple[int, ...]
    worst: tuple[float, float, float]
    method: str
    full: bool


def compare(subject: Subject, values: list[numpy.ndarray], settings: Settings, seed: int) -> list[Comparison]:
    """Compare the gradients of all arguments at the given values."""
    random = numpy.random.default_rng([seed, 1])
    outputs = subject.forward(values)
    shapes = [y.shape for y in outputs]
    flat = _flat(outputs)
    probes = _probes(subject, flat.size, settings, random)
    gradients = [subject.backward(_split(probe, shapes)) for probe in probes]
    found = []
    for argument, value in enumerate(values):
        by_probe = numpy.array([g[argument].ravel() for g in gradients], dtype=float)  # (r, n)
        found.append(_Argument(subject, values, argument, probes, flat, settings).compare(by_probe, random, value))
    return found


def _flat(outputs: Sequence[numpy.ndarray]) -> numpy.ndarray:
    return numpy.concatenate([numpy.ravel(y) for y in outputs]).astype(float) if outputs else numpy.zeros(0)


def _split(probe: numpy.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[numpy.ndarray]:
    sizes = [int(numpy.prod(shape, dtype=int)) for shape in shapes]
    parts = numpy.split(probe, numpy.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _probes(subject: Subject, size: int, settings: Settings, random: numpy.random.Generator) -> numpy.ndarray:
    """Return the upstream gradients to try, the last of them always random: (r, m)."""
    if not subject.takes_upstream:
        return numpy.ones((1, size))
    if size == 1:  # the unit vector would be 1, and hide a backward that ignores dy
        return random.uniform(1.5, 3.0, size=(2, 1)) * [[1.0], [-1.0]]
    chance = random.standard_normal((1 if size <= settings.full_outputs else settings.directions, size))
    return numpy.concatenate([numpy.eye(size), chance]) if size <= settings.full_outputs else chance


class _Argument:
    """One argument of a subject, moved while the others stay fixed."""

    def __init__(
        self,
        subject: Subject,
        values: Sequence[numpy.ndarray],
        argument: int,
        probes: numpy.ndarray,
        outputs: numpy.ndarray,
        settings: Settings,
    ) -> None:
        self.subject, self.values, self.argument = subject, list(values), argument
        self.probes, self.outputs, self.settings = probes, outputs, settings
        self.units = probes.shape[0] == probes.shape[1] + 1 and probes.shape[1] > 1
        # A product with a random probe has the rounding errors of all its terms, even if the terms cancel.
        self.magnitude = float(numpy.max(numpy.abs(probes) @ numpy.abs(outputs), initial=0.0))

    def compare(self, gradients: numpy.ndarray, random: numpy.random.Generator, value: numpy.ndarray) -> Comparison:
        """Compare with the gradients from backward, (r, n)."""
        scale = scale_of(value).ravel()
        full = value.size <= self.settings.full_inputs
        if full:
            moves, steps = numpy.eye(value.size), scale
        else:
            moves = random.standard_normal((self.settings.directions, value.size)) * scale
            steps = numpy.ones(len(moves))
        # For a random direction the typical size of <g, v> is the norm of g, weighted by the scale.
        typical = 0.0 if full else float(numpy.max(numpy.linalg.norm(gradients * scale, axis=1), initial=0.0))
        found = self._against(gradients @ moves.T, moves, steps, typical)
        relative, unresolved = found[2], found[3]
        index, worst = self._worst(found[0], found[1], relative, value.shape, full)
        if not full and worst[2] > self.settings.tolerance and not unresolved:
            index, worst = self._localise(gradients, scale, int(numpy.argmax(relative.max(axis=1))), value.shape)
        method = "complex step" if self.settings.method == "complex" else "differences"
        extent = "full" if full and self.units else "elementwise" if full else "directional"
        how = f"{extent}, {method}"
        return Comparison(self.argument, found[0], found[1], relative, unresolved, index, worst, how, extent == "full")

    def _against(
        self, analytic: numpy.ndarray, moves: numpy.ndarray, steps: numpy.ndarray, typical: float
    ) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, bool]:
        """Return analytic, numeric and relative error as (r, c) matrices, and whether kinks interfere."""
        columns = [self._derivative(move, float(step)) for move, step in zip(moves, steps, strict=True)]
        if not columns:
            empty = numpy.zeros((len(self.probes), 0))
            return empty, empty, empty, False
        numeric = numpy.stack([column.value for column in columns], axis=1)  # (r, c)
        doubt = numpy.stack([column.doubt for column in columns], axis=1)
        noise = numpy.stack([column.noise for column in columns], axis=1)
        difference = numpy.abs(analytic - numeric)
        sizes = numpy.maximum(numpy.abs(analytic), numpy.abs(numeric))
        finite = sizes[numpy.isfinite(sizes)]
        largest = max(float(numpy.max(finite, initial=0.0)), typical)
        tolerance = self.settings.tolerance
        floor = numpy.maximum(self.settings.floor * largest, noise / tolerance)
        with numpy.errstate(invalid="ignore", divide="ignore"):
            relative = numpy.where(difference == 0, 0.0, difference / numpy.maximum(sizes, floor))
        relative = numpy.where(numpy.isnan(relative), numpy.inf, relative)
        allowed = tolerance * numpy.maximum(largest, floor)
        unresolved = bool(numpy.any((doubt > allowed) | ((relative > tolerance) & (doubt > difference))))
        if not unresolved and numpy.any(relative > tolerance):
            worst = int(numpy.argmax(relative.max(axis=0)))
            unresolved = self._depends_on_step(moves[worst], float(steps[worst]), tolerance * largest)
        return analytic, numeric, relative, unresolved

    def _depends_on_step(self, move: numpy.ndarray, scale: float, allowed: float) -> bool:
        """Whether another step gives another derivative, which betrays a jump of the second derivative."""
        if self.settings.method == "complex" or self.settings.step is not None:
            return False
        first = relative_step(self.subject.dtype) * scale
        one, other = (self._derivative(move, scale, step) for step in (first, first / 32))
        return bool(numpy.any(numpy.abs(one.value - other.value) > allowed + 4 * (one.noise + other.noise)))

    def _derivative(self, move: numpy.ndarray, scale: float, step: float | None = None) -> Derivative:
        """Return the derivative of all probes along one move, (r,)."""
        value = self.values[self.argument]
        direction = move.reshape(value.shape)
        if self.settings.method == "complex":
            return self._complex(value, direction)

        def probed(t: float) -> numpy.ndarray:
            self.values[self.argument] = numpy.asarray(value + t * direction)
            return self._probe(_flat(self.subject.forward(self.values)))

        try:
            return differentiate(
                probed,
                self._probe(self.outputs),
                scale,
                magnitude=self.magnitude,
                dtype=self.subject.dtype,
                step=step or self.settings.step,
                tolerance=self.settings.tolerance,
            )
        finally:
            self.values[self.argument] = value

    def _probe(self, outputs: numpy.ndarray) -> numpy.ndarray:
        """Return the products of all probes with the outputs; unit probes pick an element."""
        if self.units:
            return numpy.concatenate([outputs, self.probes[-1:] @ outputs])
        return self.probes @ outputs

    def _complex(self, value: numpy.ndarray, direction: numpy.ndarray) -> Derivative:
        subject = self.subject
        assert isinstance(subject, FunctionSubject)
        arguments = [StepArray(other) for other in self.values]
        arguments[self.argument] = StepArray(value + 1j * STEP * direction)
        outputs = subject.outputs(arguments)
        slope = numpy.concatenate([numpy.ravel(imaginary(y)) for y in outputs]) / STEP
        nothing = numpy.zeros(len(self.probes))
        return Derivative(self._probe(slope), nothing, nothing)

    def _worst(
        self,
        analytic: numpy.ndarray,
        numeric: numpy.ndarray,
        relative: numpy.ndarray,
        shape: tuple[int, ...],
        full: bool,
    ) -> tuple[tuple[int, ...], tuple[float, float, float]]:
        if relative.size == 0:
            return (), (0.0, 0.0, 0.0)
        row, column = numpy.unravel_index(int(numpy.argmax(relative)), relative.shape)
        index = tuple(int(i) for i in numpy.unravel_index(column, shape)) if full and shape else ()
        return index, (float(analytic[row, column]), float(numeric[row, column]), float(relative[row, column]))

    def _localise(
        self, gradients: numpy.ndarray, scale: numpy.ndarray, probe: int, shape: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[float, float, float]]:
        """Find a wrong element by bisection: halve the suspects and keep the worse half."""
        suspects = numpy.arange(scale.size)
        random = numpy.random.default_rng(0)
        move = random.standard_normal(scale.size) * scale
        while len(suspects) > 1:
            halves = numpy.array_split(suspects, 2)
            moves = numpy.zeros((2, scale.size))
            for row, half in zip(moves, halves, strict=True):
                row[half] = move[half]
            analytic, numeric, _, _ = self._against(gradients @ moves.T, moves, numpy.ones(2), 0.0)
            suspects = halves[int(numpy.argmax(numpy.abs(analytic - numeric)[probe]))]
        unit = numpy.zeros((1, scale.size))
        unit[0, suspects[0]] = 1.0
        found = self._against(gradients @ unit.T, unit, scale[suspects], 0.0)
        index = tuple(int(i) for i in numpy.unravel_index(suspects[0], shape))
        return index, (float(found[0][probe, 0]), float(found[1][probe, 0]), float(found[2][probe, 0]))
