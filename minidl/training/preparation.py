"""From what a user hands to fit, evaluate or predict to batches that fit a model, and to the loop that runs on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy

from minidl import engines
from minidl.data.passes import ArrayPasses, is_batches, is_stored, passes_over
from minidl.errors import DataError, ParameterError
from minidl.training import checks
from minidl.training.feed import Feed, changed
from minidl.training.loop import Loop
from minidl.training.requirements import Requirements, examples
from minidl.training.several import Several, as_given, parts_of, placed
from minidl.training.stream import Stream

__all__ = ["How", "Prepared", "check_one_pass", "inputs_of", "joined", "prepare", "split_at"]


@dataclass(frozen=True)
class How:
    """How data are gone through.

    Attributes
    ----------
    batch_size : int
    steps : int or None
        Batches in an epoch; None for one pass over the data.
    anew : bool
        Whether each epoch of so many steps begins with the first batch.
    epoch : int or None
        The first epoch, for messages.
    generator : numpy.random.Generator or None
        Where the order comes from; None for that of the data.
    change : callable or None
        What is made of each batch of inputs.
    class_weight : dict or None
    """

    batch_size: int
    steps: int | None = None
    anew: bool = False
    epoch: int | None = None
    generator: numpy.random.Generator | None = None
    change: Callable[[Any], Any] | None = None
    class_weight: Any = None


class Prepared:
    """Data that were found to fit a model, whose ``loop`` runs on ``source()``.

    Attributes
    ----------
    count : int or None
        The number of examples; None for data that come in batches.
    """

    loop: Loop
    count: int | None

    def source(self, rows: range | None, how: How) -> Feed | Stream:
        """Return some of the examples, or all, as batches."""
        raise NotImplementedError


def prepare(
    model: Any, loss_by_name: bool, x: Any, y: Any, sample_weight: Any, how: How, where: str, given: Any = ()
) -> Prepared:
    """Check data against each other and against a compiled model, which is built for them if need be.

    Arrays in memory are checked whole; of arrays on disk and data in batches the first batch is.

    Parameters
    ----------
    given : sequence of str, optional
        What else was given that only goes with arrays, for a message.
    """
    needs = Requirements(model, loss_by_name)
    if is_batches(x) or (isinstance(x, list) and y is None):
        extra = [name for name, value in (("y", y), ("sample_weight", sample_weight)) if value is not None]
        if extra or given:
            raise ParameterError(
                f"{where}: {', '.join([*extra, *given])} cannot be given beside x in batches; each batch is (x, y) or "
                "(x, y, sample_weight), of the size that it has"
            )
        return _InBatches(needs, x, how, where)
    inputs, found = parts_of(x, where, "x"), parts_of(y, where, "y")
    if _any_stored(inputs) or _any_stored(found):
        return _OnDisk(needs, inputs, found, sample_weight, how, where)
    return _InMemory(needs, x, y, sample_weight, where)


def check_one_pass(data: Any, epochs: range, steps: int | None, name: str, setting: str) -> None:
    """Raise ParameterError if an iterator, which is gone after one pass, is to last for several epochs."""
    if steps is None and len(epochs) > 1 and is_batches(data) and hasattr(data, "__next__"):
        raise ParameterError(
            f"fit: {name} is an iterator, which can be gone through once, so {len(epochs)} epochs need {setting}; or give an "
            "object that can be iterated over again"
        )


class _InMemory(Prepared):
    """Arrays, checked whole."""

    def __init__(self, needs: Requirements, x: Any, y: Any, sample_weight: Any, where: str) -> None:
        self.needs, self.where = needs, where
        self.x, self.y, self.weights = needs.admit(x, y, sample_weight, where)
        self.loop = needs.loop(self.x, self.y, needs.ignores(self.y))
        self.count = len(self.x)

    def source(self, rows: range | None, how: How) -> Feed | Stream:
        rows = range(len(self.x)) if rows is None else rows
        weights = self.weights
        if how.class_weight is not None:
            weights = self.needs.with_classes(how.class_weight, self.x, self.y, weights, self.where)
        if how.steps is not None:
            arrays = (as_given(self.x), as_given(self.y), weights)
            passes = ArrayPasses(arrays, rows, how.batch_size, how.generator)
            return _stream(self.needs, passes, how, self.where)
        part = slice(rows.start, rows.stop)
        weights = None if weights is None else weights[part]
        return Feed(self.x[part], self.y[part], weights, how.batch_size, how.generator, how.change)


class _OnDisk(Prepared):
    """Arrays of which some are too large for the memory, perhaps: read, and checked, batch by batch."""

    def __init__(self, needs: Requirements, x: Any, y: Any, sample_weight: Any, how: How, where: str) -> None:
        self.needs, self.where = needs, where
        labelled = [*_labelled(x, "x"), *_labelled(y, "y")]
        if sample_weight is not None:
            labelled.append(("sample_weight", sample_weight))
        arrays = {name: data if is_stored(data) else checks.as_host(data, where, name) for name, data in labelled}
        self.count = _common_length(arrays, where)
        self.arrays = (_replaced(x, "x", arrays), _replaced(y, "y", arrays), arrays.get("sample_weight"))
        x, y, weights = next(iter(ArrayPasses(self.arrays, range(1), 1)))
        inputs, targets, _ = needs.admit(x, y, weights, where)
        self.loop = needs.loop(inputs, targets, needs.may_ignore(targets))

    def source(self, rows: range | None, how: How) -> Stream:
        assert self.count is not None
        passes = ArrayPasses(self.arrays, range(self.count) if rows is None else rows, how.batch_size, how.generator)
        return _stream(self.needs, passes, how, self.where)


class _InBatches(Prepared):
    """Batches as somebody's own object gives them."""

    count = None

    def __init__(self, needs: Requirements, data: Any, how: How, where: str) -> None:
        self._stream = _stream(needs, passes_over(data, how.generator), how, where)
        batch, place = self._stream.first()
        inputs, targets, _ = needs.admit(*_unpacked(batch, place), place)
        self.loop = needs.loop(inputs, targets, needs.may_ignore(targets))

    def source(self, rows: range | None, how: How) -> Stream:
        return self._stream


def _stream(needs: Requirements, passes: Any, how: How, where: str) -> Stream:
    engine = engines.current()
    place_on_device = engine.xp is not numpy

    def ready(batch: Any, place: str) -> Any:
        x, y, weights = needs.admit(*_unpacked(batch, place), place)
        if how.class_weight is not None:
            weights = needs.with_classes(how.class_weight, x, y, weights, place, all_seen=False)
        if how.change is not None:
            x = changed(x, how.change)
        if place_on_device:
            x, y = placed(x, engine.asarray), placed(y, engine.asarray)
            weights = None if weights is None else engine.asarray(weights)
        return x, y, weights

    return Stream(passes, ready, where, how.steps, how.anew, how.epoch)


def _unpacked(batch: Any, place: str) -> tuple[Any, Any, Any]:
    """Return x, y and the weights or None of a batch.

    Raises
    ------
    DataError
        If it is something else.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        what = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise DataError(f"{place}: a batch must be (x, y) or (x, y, sample_weight), got a {what}")
    x, y, weights = batch if len(batch) == 3 else (*batch, None)
    return x, y, weights


# arrays of which some are on disk -------------------------------------------------------------------------------------


def _labelled(data: Any, name: str) -> list[tuple[str, Any]]:
    """Return each array with its name in messages."""
    if isinstance(data, Several):
        return list(zip(data.labels(name), data.arrays, strict=True))
    return [(name, data)]


def _replaced(data: Any, name: str, arrays: dict[str, Any]) -> Any:
    """Return the data as they were given, made of these arrays."""
    if isinstance(data, Several):
        return Several([arrays[label] for label in data.labels(name)], data.names).as_given()
    return arrays[name]


def _any_stored(data: Any) -> bool:
    return any(map(is_stored, data.arrays)) if isinstance(data, Several) else is_stored(data)


def _common_length(arrays: dict[str, Any], where: str) -> int:
    for name, array in arrays.items():
        if not array.shape or array.shape[0] == 0:
            raise DataError(f"{where}: {name} holds no examples (shape {array.shape})")
    first, *others = arrays
    for name in others:
        if arrays[name].shape[0] != arrays[first].shape[0]:
            raise DataError(
                f"{where}: {first} holds {arrays[first].shape[0]} examples but {name} holds {arrays[name].shape[0]}"
            )
    return int(arrays[first].shape[0])


# predicting -----------------------------------------------------------------------------------------------------------


def inputs_of(model: Any, x: Any, batch_size: int, steps: int | None, where: str, given: Any = ()) -> Iterator[Any]:
    """Yield the inputs batch by batch where the engine computes; of data in batches the targets are passed over."""
    place = engines.current().asarray
    if is_batches(x):
        if given:
            raise ParameterError(
                f"{where}: {', '.join(given)} cannot be given beside x in batches, which have their size"
            )
        stream = Stream(passes_over(x), lambda batch, at: examples(model, _inputs(batch), at), where, steps, anew=True)
    else:
        parts = parts_of(x, where, "x")
        if not _any_stored(parts) and steps is None:
            inputs = examples(model, x, where)
            for at in range(0, len(inputs), batch_size):
                yield placed(inputs[at : at + batch_size], place)
            return
        labelled = _labelled(parts, "x")
        arrays = {name: data if is_stored(data) else checks.as_host(data, where, name) for name, data in labelled}
        passes = ArrayPasses((_replaced(parts, "x", arrays),), range(_common_length(arrays, where)), batch_size)
        stream = Stream(passes, lambda batch, at: examples(model, batch[0], at), where, steps, anew=True)
    for inputs in stream:
        yield placed(inputs, place)


def _inputs(batch: Any) -> Any:
    """Return x of a batch that may be (x,), (x, y) or (x, y, sample_weight), as in Keras, or x itself."""
    rows = isinstance(batch, list) and not all(hasattr(item, "shape") for item in batch)
    return batch[0] if isinstance(batch, (tuple, list)) and len(batch) in (1, 2, 3) and not rows else batch


def joined(parts: list[Any], where: str) -> Any:
    """Return the outputs of all batches as one array, or as a tuple or dict of arrays if that is what a model returns.

    Raises
    ------
    DataError
        If examples of different batches have outputs of different shapes.
    """
    first = parts[0]
    if isinstance(first, dict):
        return {name: joined([part[name] for part in parts], where) for name in first}
    if isinstance(first, (tuple, list)):
        return tuple(joined([part[i] for part in parts], where) for i in range(len(first)))
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise DataError(
            f"{where}: batches gave outputs of different shapes, {' and '.join(map(str, sorted(shapes)))} for one "
            "example, which do not make one array; predict the batches one at a time"
        )
    return first if len(parts) == 1 else numpy.concatenate(parts)


def split_at(n: int, share: float) -> int:
    """Return where the last share of n examples begins, rounded in favour of validation, as in Keras.

    Raises
    ------
    DataError
        If it is no share, or leaves nothing on either side.

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
