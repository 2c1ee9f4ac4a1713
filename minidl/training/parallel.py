"""Data parallel training on MPI: every process, or rank, computes the gradient of its rows of each batch, and they are added up.

A batch of N examples is cut into shares of n_r rows, one for each rank r. The gradient of the mean loss over the batch is that of
the means over the shares, weighted::

    g = sum_r (n_r / N) g_r

where n_r and N are what the losses divide by: examples, targets that count, or their weights. So shares of unequal size, such as
those of a last batch, are right too. The gradients of a sum are added as they are.

The sum is a reduce-scatter, after which rank r holds slice r of g, and an all-gather, which copies the slices to every rank. So all
ranks hold the same bits whatever MPI library runs. With ``sharded`` the optimiser runs between the two: rank r keeps the state of
slice r alone, updates that slice of the values, and the all-gather copies values instead of gradients (ZeRO, stage 1). An update is
element by element, so the bits are those without ``sharded``.

References
----------
R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations in MPICH", IJHPCA 2005.
S. Rajbhandari, J. Rasley, O. Ruwase, Y. He, "ZeRO: memory optimizations toward training trillion parameter models", SC 2020.
"""

from __future__ import annotations

import copy
import itertools
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy

from minidl import engines, random
from minidl.errors import MissingDependencyError, ParameterError
from minidl.layers.parameter import structure
from minidl.metrics.streaming import Mean, RootMeanSquaredError
from minidl.training.accumulation import multiply
from minidl.training.plain_state import Sources
from minidl.training.recorder import layer_settings, put_layer_settings

__all__ = ["DataParallel", "guarded", "slices_of"]

GRACE = 3.0
"""Seconds that a rank which fails waits for the others to fail likewise, before it ends them."""
ALIGNED = 64
"""Slices begin at multiples of so many elements, as the vector loops of the kernels do in the whole array."""


def slices_of(count: int, size: int) -> tuple[list[int], list[int]]:
    """Return the lengths and the starts of the slices of an array of ``count`` elements, one for each rank.

    >>> slices_of(200, 2)
    ([128, 72], [0, 128])
    """
    each = -(-count // (size * ALIGNED)) * ALIGNED
    starts = [min(rank * each, count) for rank in range(size + 1)]
    return [stop - start for start, stop in itertools.pairwise(starts)], starts[:-1]


class DataParallel:
    """Train one model with several processes: ``fit(..., parallel=DataParallel())`` in a program started by ``mpiexec -n 4``.

    Every process runs the same program, with the same data and the same callbacks. ``batch_size`` is that of the whole batch, of
    which each computes its rows. Rank 0 decides: its weights, optimiser and random state are copied to the others at the beginning;
    callbacks run there alone, and what they decide (stopping, learning rates, frozen layers, weights after an epoch) is copied to
    the others. It alone prints and writes. Losses and metrics are those of all ranks together.

    The order of the data is that of one process, so without dropout or augmentation the numbers are those of one process, to
    rounding. Each rank draws its dropout and augmentation from a seed of its own for each step. Batch normalisation normalises with
    the statistics of the rank's rows, and the running statistics are averaged over the ranks after every step, weighted by n_r / N.

    Parameters
    ----------
    sharded : bool, default False
        Whether each rank keeps the optimiser's state of one slice of the parameters only. The bits of the result are the same.
    threads : int, default 1
        Threads of the native engine in each process.
    comm : mpi4py.MPI.Comm, optional
        The processes that take part; all by default.

    Attributes
    ----------
    rank, size : int

    Raises
    ------
    MissingDependencyError
        If the package mpi4py is not installed.
    ParameterError
        If the engine is that of a GPU.

    Examples
    --------
    In ``train.py``, started by ``mpiexec -n 4 python train.py``::

        model.fit(x, y, batch_size=256, epochs=10, parallel=minidl.training.DataParallel())
    """

    def __init__(self, sharded: bool = False, threads: int = 1, comm: Any = None) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise MissingDependencyError.needs("DataParallel", "mpi4py", "mpi") from error
        if engines.current().xp is not numpy:
            raise ParameterError(
                f"DataParallel: the engine {engines.current().name!r} computes on a GPU, but the gradients are added on the "
                "host; choose minidl.use('native')"
            )
        if isinstance(threads, bool) or not isinstance(threads, (int, numpy.integer)) or threads < 1:
            raise ParameterError(f"DataParallel: threads must be a positive integer, got {threads!r}")
        self._mpi = MPI
        self.comm = (MPI.COMM_WORLD if comm is None else comm).Dup()
        self._failed = self.comm.Dup()  # where ranks that failed wait for one another
        self.rank, self.size = int(self.comm.rank), int(self.comm.size)
        self.sharded, self.threads = bool(sharded), int(threads)
        self.gathers = self.interrupted = False
        self._rooms: dict[Any, numpy.ndarray] = {}
        self._cut_at = -1

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, which decides, prints and writes."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """The rank and the number of ranks."""
        return self.rank, self.size

    # beginning --------------------------------------------------------------------------------------------------------

    def common_generator(self, generator: numpy.random.Generator | None) -> numpy.random.Generator:
        """Return a generator that goes on as rank 0's, on every rank."""
        own = random.generator() if generator is None else generator
        made = copy.deepcopy(own)
        made.bit_generator.state, self._seeded = self.comm.bcast(
            (own.bit_generator.state, random.generator().bit_generator.state), root=0
        )
        self._followed = own, made
        return made

    def draw_by_rank(self, model: Any, others: dict[str, Any]) -> numpy.random.Generator:
        """Find the generators whose draws shall differ by rank; return the one that seeds them, which a checkpoint keeps."""
        word = self.comm.bcast(int(random.generator().spawn(1)[0].integers(2**63)) if self.is_root else None, root=0)
        self._seeds = numpy.random.default_rng(word)
        sources = Sources({"minidl.seed": random.generator(), "model": model, "loss": model.loss, **others})
        self._by_rank = [found for found in sources.found.values() if isinstance(found, numpy.random.Generator)]
        return self._seeds

    def seed_step(self) -> None:
        """Seed what this rank draws from in the next step: a function of the seed, the step and the rank."""
        word = int(self._seeds.integers(2**63))
        for place, generator in enumerate(self._by_rank):
            kind = type(generator.bit_generator)
            generator.bit_generator.state = kind(numpy.random.SeedSequence([word, place, self.rank])).state

    def check_alike(self, lines: Sequence[str]) -> None:
        """Raise ParameterError on all ranks unless all describe the same training.

        Raises
        ------
        ParameterError
            Naming the first difference.
        """
        first = self.comm.bcast(list(lines), root=0)
        pairs = [(a, b) for a, b in zip(first, lines, strict=False) if a != b]
        own = (
            pairs[0] if pairs else None if len(first) == len(lines) else (f"{len(first)} lines", f"{len(lines)} lines")
        )
        for rank, difference in enumerate(self.comm.allgather(own)):
            if difference is not None:
                raise ParameterError(
                    f"fit, parallel: rank {rank} has another training than rank 0: there it is {difference[1]}, but on rank 0 "
                    f"{difference[0]}; every rank must run the same program with the same data"
                )

    def start(self, model: Any) -> None:
        """Copy rank 0's weights, statistics and optimiser to all ranks.

        Raises
        ------
        ParameterError
            If parameters have a dtype that MPI does not add up.
        """
        self._model = model
        self.gathers = not all(_adds_up(metric) for metric in model.metrics)
        self.interrupted = False
        for name, parameter in model.named_parameters():
            if parameter.dtype.name not in ("float32", "float64"):
                raise ParameterError(f"fit, parallel: {name} is {parameter.dtype}; MPI adds float32 and float64")
        optimizer = model.optimizer
        self.copy_weights()
        optimizer._follow()
        optimizer.step_count = self.comm.bcast(optimizer.step_count, root=0)
        self.settle(everything=True)
        for segment in optimizer._segments:
            segment.updates = self.comm.bcast(segment.updates, root=0)
            for array in segment.state.values():
                self.comm.Bcast(array, root=0)

    def copy_weights(self) -> None:
        """Copy rank 0's weights and running statistics to all ranks."""
        for buffer in dict.fromkeys(parameter.buffer for parameter in self._model.parameters()):
            self.comm.Bcast(buffer.values, root=0)
        for _, array in self._model.named_buffers():
            array[...] = self.comm.bcast(array if self.is_root else None, root=0)

    def settle(self, everything: bool = False) -> None:
        """Copy what rank 0's callbacks decided: whether to stop, and the optimiser's settings; or also layers and weights."""
        model, optimizer = self._model, self._model.optimizer
        decided = (
            bool(model.stop_training),
            [group.settings for group in optimizer.param_groups],
            optimizer.grad_scale,
        )
        settings = layer_settings(model) if everything else None
        frozen = [p.trainable for p in model.parameters()] if everything else []
        (stop, groups, scale), settings, frozen = self.comm.bcast((decided, settings, frozen), root=0)
        model.stop_training, optimizer.grad_scale = stop, scale
        for group, own in zip(optimizer.param_groups, groups, strict=True):
            for name, value in own.items():
                if group.settings[name] != value:
                    group[name] = value
        if everything:
            put_layer_settings(model, settings)
            for parameter, trainable in zip(model.parameters(), frozen, strict=True):
                parameter.trainable = trainable

    def begin_training(self) -> None:
        """Cut the state, once the callbacks have begun and a checkpoint is read."""
        self.settle(everything=True)
        self.copy_weights()
        self.cut_state()

    def end_training(self) -> None:
        """Put the state together, and let the generators go on as they would in one process, alike on all ranks."""
        self.join_state()
        random.generator().bit_generator.state = self._seeded
        own, made = self._followed
        own.bit_generator.state = made.bit_generator.state

    # a step -----------------------------------------------------------------------------------------------------------

    def mean(self, value: float, divisor: float, is_sum: bool, interrupted: bool) -> tuple[float, float, float]:
        """Return the loss over all ranks, what its mean divides by, and the weight of this rank's gradient.

        ``interrupted`` says whether Ctrl-C was pressed here; ``self.interrupted`` whether it was on any rank.
        """
        own = 0.0 if divisor == 0 else float(value) if is_sum else float(value) * float(divisor)
        numbers = numpy.array([own, float(divisor), float(interrupted)])
        total, count, pressed = self.add_up(numbers).tolist()
        self.interrupted = pressed > 0
        self._weight = float(divisor) / count if count else 1.0 / self.size
        if is_sum:
            return total, count, 1.0
        return (total / count if count else 0.0), count, self._weight

    def add_up(self, array: numpy.ndarray) -> numpy.ndarray:
        """Return the sum of an array over all ranks, the same bits on each."""
        every = numpy.empty((self.size, *array.shape), array.dtype)
        self.comm.Allgather(numpy.ascontiguousarray(array), every)
        return every.sum(axis=0)

    weigh = staticmethod(multiply)

    def reduce(self, everywhere: bool) -> None:
        """Add up the gradients: the whole of them on every rank, or with ``sharded`` this rank's slices alone."""
        optimizer = self._model.optimizer
        self._follow(optimizer)
        for segment in optimizer._segments:
            gradients = segment.writable_gradients()
            lengths, starts = slices_of(gradients.size, self.size)
            mine = self._room(lengths[self.rank], gradients.dtype)
            self.comm.Reduce_scatter(gradients, mine, lengths, op=self._mpi.SUM)
            if everywhere or not self.sharded:
                self.comm.Allgatherv(mine, (gradients, lengths, starts, None))
            else:
                gradients[_slice(lengths, starts, self.rank)] = mine

    def copy_gradients(self) -> None:
        """Copy rank 0's gradients to all ranks, after a callback there that may have changed them."""
        for segment in self._model.optimizer._segments:
            self.comm.Bcast(segment.writable_gradients(), root=0)

    def step(self) -> None:
        """Take the optimiser's step; with ``sharded`` on this rank's slices, which are then copied to all."""
        optimizer = self._model.optimizer
        self._follow(optimizer)
        optimizer.step()
        if self.sharded:
            for segment in optimizer._segments:
                lengths, starts = slices_of(segment.values.size, self.size)
                self.comm.Allgatherv(self._mpi.IN_PLACE, (segment.values, lengths, starts, None))

    def average_statistics(self) -> None:
        """Average the running statistics, such as those of batch normalisation, weighted by n_r / N."""
        arrays = [array for _, array in self._model.named_buffers() if array.dtype.kind == "f"]
        if arrays:
            flat = numpy.concatenate([array.reshape(-1).astype(numpy.float64) for array in arrays])
            flat = self.add_up(flat * self._weight)
            start = 0
            for array in arrays:
                array[...] = flat[start : start + array.size].reshape(array.shape)
                start += array.size

    def _room(self, length: int, dtype: Any) -> numpy.ndarray:
        room = self._rooms.get((length, dtype))
        if room is None:
            room = self._rooms[length, dtype] = numpy.empty(length, dtype)
        return room

    # the optimiser's state, in slices ---------------------------------------------------------------------------------

    def cut_state(self) -> None:
        """Keep this rank's slices of the optimiser's state, if they are to be sharded."""
        if not self.sharded:
            return
        optimizer = self._model.optimizer
        optimizer._follow()
        for segment in optimizer._segments:
            segment.own = own = _slice(*slices_of(segment.values.size, self.size), self.rank)
            segment.state = {name: array[own].copy() for name, array in segment.state.items()}
        self._cut_at = structure.changes

    def join_state(self, on_root_only: bool = False) -> list[Any]:
        """Put the slices of the optimiser's state together again; return them, by segment."""
        optimizer = self._model.optimizer
        slices = [(segment, segment.own, segment.state) for segment in optimizer._segments]
        for segment, own, state in slices:
            if own is None:
                continue
            lengths, starts = slices_of(segment.values.size, self.size)
            whole: dict[str, Any] = {}
            for name, array in state.items():
                joined = numpy.empty(segment.values.size if self.is_root or not on_root_only else 0, array.dtype)
                if on_root_only:
                    self.comm.Gatherv(array, (joined, lengths, starts, None) if self.is_root else None, root=0)
                else:
                    self.comm.Allgatherv(array, (joined, lengths, starts, None))
                whole[name] = joined
            segment.own, segment.state = None, whole
        return slices

    @contextmanager
    def written(self, meter: Any) -> Iterator[None]:
        """Run a block in which rank 0 has all that a checkpoint holds: the whole state of the optimiser, and the sums of metrics."""
        self.collect(meter)
        slices = self.join_state(on_root_only=True) if self.sharded else []
        try:
            yield
        finally:
            for segment, own, state in slices:
                segment.own, segment.state = own, state

    def _follow(self, optimizer: Any) -> None:
        """Cut the state anew if parameters were frozen or moved."""
        if self.sharded and self._cut_at != structure.changes:
            self.join_state()
            self.cut_state()

    @property
    def bytes_of_state(self) -> int:
        """The size of the optimiser's state that this rank holds now."""
        return sum(array.nbytes for s in self._model.optimizer._segments for array in s.state.values())

    # metrics ----------------------------------------------------------------------------------------------------------

    def measure(self, meter: Any, output: Any, target: Any) -> None:
        """Add the outputs of a step to the metrics: this rank's if their sums can be added later, else those of all ranks.

        An ``output`` of None means that this rank has no rows of the batch.
        """
        if not self.gathers:
            if output is not None:
                meter.add(output, target)
            return
        for pair in self.comm.allgather(None if output is None else (output, target)):
            if pair is not None:
                meter.add(*pair)

    def collect(self, meter: Any) -> None:
        """Move the sums of the metrics of all ranks to rank 0."""
        meter.results()  # which hands to the metrics what is held
        if self.gathers:
            return
        for metric in meter.metrics:
            found = self.comm.gather({name: getattr(metric, name) for name in _sums_of(metric)}, root=0)
            metric.reset()
            for sums in found or ():
                for name, value in sums.items():
                    own = getattr(metric, name)
                    setattr(
                        metric, name, value if not numpy.size(own) else own if not numpy.size(value) else own + value
                    )

    def results(self, meter: Any) -> dict[str, float]:
        """Return the metrics over what all ranks have measured."""
        self.collect(meter)
        return self.comm.bcast(meter.results() if self.is_root else None, root=0)

    # the end ----------------------------------------------------------------------------------------------------------

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.comm.Barrier()

    def fail(self, error: BaseException) -> None:
        """Return if every rank has failed, such as by a wrong argument; otherwise say what happened and end all ranks."""
        waiting = self._failed.Ibarrier()
        started = time.monotonic()
        while not waiting.Test():
            if time.monotonic() - started > GRACE:
                traceback.print_exception(error)
                print(
                    f"minidl: rank {self.rank} of {self.size} failed and the others did not, so all are ended: "
                    f"{type(error).__name__}: {error}. If there are checkpoints, go on with fit(..., resume=...)",
                    file=sys.stderr,
                    flush=True,
                )
                self.comm.Abort(1)
            time.sleep(0.005)


@contextmanager
def guarded(parallel: Any) -> Iterator[Any]:
    """Run a training in which no rank waits for ever for one that failed; give the ``DataParallel``, or None.

    Raises
    ------
    ParameterError
        If ``parallel`` is something else.
    """
    if parallel is None:
        yield None
        return
    if not isinstance(parallel, DataParallel):
        raise ParameterError(f"fit: parallel must be a minidl.training.DataParallel, got {parallel!r}")
    before = engines.get_num_threads()
    engines.set_num_threads(parallel.threads)
    try:
        yield parallel
    except BaseException as error:
        parallel.fail(error)
        raise
    finally:
        engines.set_num_threads(before)


def _slice(lengths: list[int], starts: list[int], rank: int) -> slice:
    return slice(starts[rank], starts[rank] + lengths[rank])


def _sums_of(metric: Any) -> tuple[str, ...]:
    return ("totals", "count") if isinstance(metric, RootMeanSquaredError) else ("total", "count")


def _adds_up(metric: Any) -> bool:
    """Whether a metric is computed of sums over examples, which can be added up."""
    kind = type(metric)
    own = all(getattr(kind, name, None) is getattr(Mean, name) for name in ("update", "reset", "result"))
    return own or kind is RootMeanSquaredError
