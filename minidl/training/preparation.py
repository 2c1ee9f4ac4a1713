"""Turn what a user gives to fit or evaluate into checked batches and the loop that runs on them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy

from minidl import engines
from minidl.data.passes import ArrayPasses, Passes, is_batches, is_stored, make_passes, share_of
from minidl.errors import DataError, ParameterError
from minidl.training import checks
from minidl.training.array_group import ArrayGroup, group_arrays, ungroup
from minidl.training.feed import Feed, augment_inputs, sent_ahead
from minidl.training.loop import Loop
from minidl.training.requirements import Requirements
from minidl.training.stream import Stream

__all__ = ["Prepared", "Schedule", "any_stored", "check_repeatable", "collect_arrays", "prepare", "split_at"]


@dataclass(frozen=True)
class Schedule:
    """How to iterate over data.

    Attributes
    ----------
    batch_size : int
    steps : int or None
        Batches per epoch; None for one pass over the data.
    restart : bool
        Whether every epoch starts with the first batch, even if ``steps`` is smaller than a pass.
    epoch : int or None
        The first epoch, for messages.
    generator : numpy.random.Generator or None
        Source of random orders; None keeps the order of the data.
    change : callable or None
        Augmentation, applied to the inputs of each batch.
    class_weight : dict or None
    noting : bool
        Whether it will be asked how far the data were read.
    share : (int, int) or None
        Rank and number of ranks, if each takes its rows of every batch.
    """

    batch_size: int
    steps: int | None = None
    restart: bool = False
    epoch: int | None = None
    generator: numpy.random.Generator | None = None
    change: Callable[[Any], Any] | None = None
    class_weight: Any = None
    noting: bool = False
    share: tuple[int, int] | None = None


class Prepared:
    """Checked data and the loop that runs on them.

    Attributes
    ----------
    count : int or None
        The number of examples; None for data that come in batches.
    """

    loop: Loop
    count: int | None

    def source(self, rows: range | None, schedule: Schedule) -> Feed | Stream:
        """Return the batches of these examples, or of all."""
        raise NotImplementedError


def prepare(
    model: Any,
    loss_by_name: bool,
    x: Any,
    y: Any,
    sample_weight: Any,
    schedule: Schedule,
    where: str,
    only_with_arrays: Any = (),
) -> Prepared:
    """Check that data fit each other and a compiled model; build the model for them if necessary.

    Arrays in memory are checked completely. Of arrays on disk the first example is checked here, of batches the first
    batch; the rest is checked as it is read.

    Parameters
    ----------
    model : layer
    loss_by_name : bool
        Whether the loss was given by name.
    x, y, sample_weight : any
        As the user gave them to ``fit`` or ``evaluate``.
    schedule : Schedule
    where : str
        For messages.
    only_with_arrays : sequence of str, optional
        Names of other arguments that were given and that make no sense with batches.

    Raises
    ------
    DataError, DtypeError, ParameterError, ShapeError, TargetError
        If the data do not fit.
    """
    needs = Requirements(model, loss_by_name)
    if is_batches(x) or (isinstance(x, list) and y is None):
        extra = [name for name, value in (("y", y), ("sample_weight", sample_weight)) if value is not None]
        if extra or only_with_arrays:
            raise ParameterError(
                f"{where}: {', '.join([*extra, *only_with_arrays])} cannot be combined with x in batches: each batch is "
                "(x, y) or (x, y, sample_weight) and has its own size"
            )
        return _InBatches(needs, x, schedule, where)
    inputs, found = group_arrays(x, where, "x"), group_arrays(y, where, "y")
    if any_stored(inputs) or any_stored(found):
        return _OnDisk(needs, inputs, found, sample_weight, where)
    return _InMemory(needs, x, y, sample_weight, where)


def check_repeatable(data: Any, epochs: range, steps: int | None, name: str, setting: str) -> None:
    """Raise ParameterError if several epochs are to use an iterator without ``steps``: it lasts for one pass only."""
    if steps is None and len(epochs) > 1 and is_batches(data) and hasattr(data, "__next__"):
        raise ParameterError(
            f"fit: {name} is an iterator, which can be used only once, so {len(epochs)} epochs need {setting}; or give an "
            "object that can be iterated again"
        )


class _InMemory(Prepared):
    """Arrays in memory, checked completely before the first step."""

    def __init__(self, needs: Requirements, x: Any, y: Any, sample_weight: Any, where: str) -> None:
        self.needs, self.where = needs, where
        self.x, self.y, self.weights = needs.check(x, y, sample_weight, where)
        self.loop = needs.loop(self.x, self.y)
        self.count = len(self.x)

    def source(self, rows: range | None, schedule: Schedule) -> Feed | Stream:
        rows = range(len(self.x)) if rows is None else rows
        weights = self.weights
        if schedule.class_weight is not None:
            weights = self.needs.with_classes(schedule.class_weight, self.x, self.y, weights, self.where)
        if schedule.steps is not None:
            arrays = (ungroup(self.x), ungroup(self.y), weights)
            passes = ArrayPasses(arrays, rows, schedule.batch_size, schedule.generator, schedule.share)
            return _stream(self.needs, passes, schedule, self.where)
        part = slice(rows.start, rows.stop)
        weights = None if weights is None else weights[part]
        return Feed(
            self.x[part],
            self.y[part],
            weights,
            schedule.batch_size,
            schedule.generator,
            schedule.change,
            schedule.noting,
            schedule.share,
        )


class _OnDisk(Prepared):
    """Arrays of which some are on disk: read and checked batch by batch."""

    def __init__(self, needs: Requirements, x: Any, y: Any, sample_weight: Any, where: str) -> None:
        self.needs, self.where = needs, where
        given = {"x": x, "y": y} | ({} if sample_weight is None else {"sample_weight": sample_weight})
        found, self.examples = collect_arrays(given, where)
        self.arrays = (found["x"], found["y"], found.get("sample_weight"))
        self.count = self.examples
        first = next(iter(ArrayPasses(self.arrays, range(1), 1)))
        inputs, targets, _ = needs.check(*_unpack(first, where), where)
        self.loop = needs.loop(inputs, targets)

    def source(self, rows: range | None, schedule: Schedule) -> Stream:
        rows = range(self.examples) if rows is None else rows
        passes = ArrayPasses(self.arrays, rows, schedule.batch_size, schedule.generator, schedule.share)
        return _stream(self.needs, passes, schedule, self.where)


class _InBatches(Prepared):
    """Batches from a user's iterable or sequence object."""

    count = None

    def __init__(self, needs: Requirements, data: Any, schedule: Schedule, where: str) -> None:
        self._stream = _stream(needs, make_passes(data, schedule.generator), schedule, where)
        batch, place = self._stream.first()
        inputs, targets, _ = needs.check(*_unpack(batch, place), place)
        self.loop = needs.loop(inputs, targets)

    def source(self, rows: range | None, schedule: Schedule) -> Stream:
        return self._stream


def _stream(needs: Requirements, passes: Passes, schedule: Schedule, where: str) -> Stream:
    """Return a stream that checks, weighs, augments and moves each batch."""
    engine = engines.current()
    on_device = engine.xp is not numpy

    rows_only = isinstance(passes, ArrayPasses)

    def check(batch: Any, place: str) -> Any:
        if batch is None and rows_only:
            return (), (), None  # a share without rows
        x, y, weights = needs.check(*_unpack(batch, place), place)
        if schedule.share is not None and not rows_only:
            own = share_of(len(y), *schedule.share)
            if own.start == own.stop:
                return (), (), None
            x, y, weights = x[own], y[own], None if weights is None else weights[own]
        if schedule.class_weight is not None:
            weights = needs.with_classes(schedule.class_weight, x, y, weights, place, all_seen=False)
        if schedule.change is not None:
            x = augment_inputs(x, schedule.change)
        return x, y, weights

    deliver = functools.partial(sent_ahead, engine=engine, ahead=not schedule.noting) if on_device else None
    return Stream(passes, check, where, schedule.steps, schedule.restart, schedule.epoch, schedule.noting, deliver)


def _unpack(batch: Any, place: str) -> tuple[Any, Any, Any]:
    """Return x, y and the weights, or None, of a batch; raise DataError if it is something else."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        what = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise DataError(f"{place}: a batch must be (x, y) or (x, y, sample_weight), got a {what}")
    x, y, weights = batch if len(batch) == 3 else (*batch, None)
    return x, y, weights


# arrays, some of them on disk -----------------------------------------------------------------------------------------


def any_stored(data: Any) -> bool:
    """Whether an array, or one of a group, is on disk."""
    return any(map(is_stored, data.arrays)) if isinstance(data, ArrayGroup) else is_stored(data)


def collect_arrays(given: dict[str, Any], where: str) -> tuple[dict[str, Any], int]:
    """Return arrays and tuples or dicts of arrays, with those in memory on the host, and their number of examples.

    Raises
    ------
    DataError
        If one of them has no examples, or not as many as the others.
    """
    lengths: dict[str, int] = {}

    def open_array(data: Any, name: str) -> Any:
        array = data if is_stored(data) else checks.as_host(data, where, name)
        if not array.shape or array.shape[0] == 0:
            raise DataError(f"{where}: {name} holds no examples (shape {array.shape})")
        lengths[name] = int(array.shape[0])
        return array

    found: dict[str, Any] = {}
    for name, data in given.items():
        if isinstance(data, ArrayGroup):
            arrays = map(open_array, data.arrays, data.labels(name))
            found[name] = ArrayGroup(arrays, data.names).ungroup()
        else:
            found[name] = open_array(data, name)
    (first, count), *others = lengths.items()
    for name, length in others:
        if length != count:
            raise DataError(f"{where}: {first} holds {count} examples but {name} holds {length}")
    return found, count


def split_at(n: int, share: float) -> int:
    """Return the index at which the last share of n examples begins, rounded in favour of validation, as in Keras.

    Raises
    ------
    DataError
        If the share is not between 0 and 1, or leaves nothing to train or to validate on.

    Examples
    --------
    >>> split_at(10, 0.2), split_at(64, 0.2), split_at(100, 0.07)
    (8, 51, 93)
    """
    if isinstance(share, bool) or not isinstance(share, (int, float, numpy.floating)) or not 0.0 < share < 1.0:
        raise DataError(f"fit: validation_split must be from 0 to below 1, got {share!r}")
    at = n - math.ceil(n * share - 1e-9)  # 100 * 0.07 is 7.000000000000001
    if not 0 < at < n:
        raise DataError(f"fit: validation_split={share} of {n} examples leaves nothing to train or to validate on")
    return at
