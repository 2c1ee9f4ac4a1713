"""What every process of tests/peers/test_parallel.py runs: ``mpiexec -n N python parallel_worker.py OUT FOLDER SCENARIO ...``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy

import minidl as dl
from minidl import random, training
from minidl.errors import ParameterError

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
P = training.DataParallel()


def data(n=203, dtype="float64"):
    generator = numpy.random.default_rng(1)
    return generator.normal(size=(n, 20)).astype(dtype), generator.integers(0, 5, n)


def model(dtype="float64", optimizer="adam", loss="sparse_categorical_crossentropy", metrics=("accuracy",), extra=()):
    dl.seed(3)
    made = dl.Sequential([dl.Linear(20, 33, dtype=dtype), *extra, dl.ReLU(), dl.Linear(33, 5, dtype=dtype)])
    made.compile(optimizer=optimizer, loss=loss, metrics=list(metrics))
    return made


def values(trained):
    return numpy.concatenate(
        [b.values for b in trained.flat_buffers()] + [a.reshape(-1) for _, a in trained.named_buffers()]
    )


def compare(make, fit, **options):
    """Train on all ranks, sharded and not, and alone."""
    found = []
    for parallel in (P, training.DataParallel(sharded=True), None):
        made = make()
        history = fit(made, parallel)
        found.append((values(made), history.history, made.optimizer.state_dict()))
    (together, logs, state), (sharded, sharded_logs, sharded_state), (alone, alone_logs, _) = found
    every = P.comm.allgather(together.tobytes())
    return {
        "same_bits_on_all": len(set(every)) == 1,
        "sharded_same_bits": together.tobytes() == sharded.tobytes() and logs == sharded_logs,
        "state_same_bits": all(state[name].tobytes() == sharded_state[name].tobytes() for name in state),
        "difference": float(abs(together - alone).max()),
        "history": max(abs(a - b) for name in logs for a, b in zip(logs[name], alone_logs[name], strict=True)),
        "moved": float(abs(together - values(make())).max()),
    }


def scenario_numbers():
    """A last batch of one row, of which rank 0 has none; metrics that are sums and one that is not."""
    return {dtype: compare_numbers(dtype) for dtype in ("float64", "float32")}


def compare_numbers(dtype):
    x, y = data(193, dtype)
    options = {"batch_size": 32, "epochs": 3, "seed": 5, "class_weight": {0: 2.0}, "verbose": 0}
    options |= {"validation_data": (x[:51], y[:51]), "callbacks": [training.GradientClipping(0.5)]}
    return compare(lambda: model(dtype, metrics=["accuracy", "f1"]), lambda m, p: m.fit(x, y, parallel=p, **options))


def scenario_accumulation():
    x, y = data()
    return compare(
        lambda: model(optimizer=dl.SGD, loss=dl.CrossEntropyLoss(reduction="sum"), metrics=["roc_auc"] * 0),
        lambda m, p: m.fit(x, y, batch_size=16, epochs=2, gradient_accumulation_steps=3, parallel=p, verbose=0),
    )


def scenario_streams():
    x, y = data()
    if P.is_root:
        numpy.save(FOLDER / "x.npy", x)
    P.barrier()
    stored = numpy.load(FOLDER / "x.npy", mmap_mode="r")
    batches = [(x[i : i + 33], y[i : i + 33]) for i in range(0, 203, 33)]
    return {
        "stored": compare(model, lambda m, p: m.fit(stored, y, batch_size=29, epochs=2, parallel=p, verbose=0)),
        "batches": compare(
            model, lambda m, p: m.fit(iter(batches * 2), epochs=2, steps_per_epoch=7, parallel=p, verbose=0)
        ),
    }


class Draws(training.Callback):
    every_rank = True

    def __init__(self):
        self.drawn = []

    def on_gradients(self, batch):
        self.drawn.append(float(random.generator().random()))


def scenario_random():
    """Dropout and augmentation differ by rank, batch normalisation's statistics do not; again, the same bits."""
    x, y = data()
    found = []
    for _ in range(2):
        made, draws = model(extra=[dl.BatchNorm1d(33, dtype="float64"), dl.Dropout(0.5)]), Draws()
        augment = lambda x, generator: x + 0.01 * generator.normal(size=x.shape)  # noqa: E731
        made.fit(x, y, batch_size=32, epochs=2, callbacks=[draws], augment=augment, parallel=P, verbose=0)
        drawn = P.comm.allgather(draws.drawn)
        after = P.comm.allgather(float(random.generator().random()))
        found.append((values(made).tobytes(), drawn, after))
    alike = len(set(P.comm.allgather(found[0][0]))) == 1
    return {"same_bits_on_all": alike, "repeats": found[0] == found[1], "drawn": found[0][1], "after": found[0][2]}


class Counted(training.Callback):
    def __init__(self):
        self.calls = 0

    def on_gradients(self, batch):
        self.calls += 1
        self.model.parameters()[0].grad *= 0.5  # what rank 0 does to gradients holds for all

    def on_epoch_end(self, epoch, logs):
        self.model.optimizer.lr = 0.1 / (epoch + 1)
        self.model.stop_training = epoch == 2


def scenario_root():
    x, y = data()
    made, counted = model(), Counted()
    callbacks = [counted, training.CSVLogger(FOLDER / "log.csv")]
    history = made.fit(x, y, batch_size=64, epochs=9, callbacks=callbacks, parallel=P, verbose=2)
    return {
        "calls": P.comm.allgather(counted.calls),
        "rates": P.comm.allgather(made.optimizer.lr),
        "epochs": P.comm.allgather(len(history.epoch)),
        "same_bits_on_all": len(set(P.comm.allgather(values(made).tobytes()))) == 1,
        "lines": len((FOLDER / "log.csv").read_text().splitlines()) if P.is_root else 0,
    }


class StopAt(training.Callback):
    every_rank = True

    def __init__(self, step):
        self.reached = lambda count: count == step  # a function, which no checkpoint holds

    def on_train_batch_end(self, batch):
        if self.reached(self.model.optimizer.step_count):
            raise KeyError("the same mistake on every rank")


def scenario_checkpoint():
    """Stop in the middle of an epoch; go on with as many ranks (the same bits), and leave a folder for another number."""
    x, y = data()
    layers = lambda: [dl.BatchNorm1d(33, dtype="float64"), dl.Dropout(0.5)]  # noqa: E731
    found = {}
    for name, extra in (("plain", list), ("random", layers)):
        for sharded in (False, True):
            parallel = training.DataParallel(sharded=sharded)
            again = {"batch_size": 32, "seed": 7, "parallel": parallel, "verbose": 0}
            whole = model(extra=extra())
            first = whole.fit(
                x, y, epochs=3, callbacks=[StopAt(-1)], checkpoint=FOLDER / f"{name}-{sharded}-whole", **again
            )
            folder = FOLDER / f"{name}-{sharded}"
            with contextlib.suppress(KeyError):
                model(extra=extra()).fit(x, y, epochs=3, callbacks=[StopAt(12)], checkpoint=folder, every=5, **again)
            rest = model(extra=extra())
            rest.optimizer.lr = 1.0  # of no account
            P.barrier()
            resumed = rest.fit(x, y, epochs=3, callbacks=[StopAt(-1)], resume=folder, **again)
            found[f"{name}-{sharded}"] = {
                "same_bits": values(whole).tobytes() == values(rest).tobytes(),
                "same_history": first.history == resumed.history,
                "state": parallel.bytes_of_state,
            }
    if P.is_root:
        numpy.save(FOLDER / "whole.npy", values(whole))
    return found


def scenario_resume():
    """Go on from the folder of ``scenario_checkpoint``, with whatever number of ranks this is."""
    x, y = data()
    rest = model()
    again = {"batch_size": 32, "seed": 7, "parallel": P, "verbose": 0}
    rest.fit(x, y, epochs=3, callbacks=[StopAt(-1)], resume=FOLDER / "plain-True", **again)
    whole = model()
    whole.fit(x, y, batch_size=32, seed=7, epochs=3, verbose=0)
    return {"difference": float(abs(values(rest) - values(whole)).max()), "size": P.size}


def scenario_unlike():
    """A mistake on every rank is an error as ever; another training on one rank is an error on all."""
    x, y = data()
    found = []
    for size, epochs in ((0, 1), (32, 1 + P.rank)):
        try:
            model().fit(x, y, batch_size=size, epochs=epochs, parallel=P)
        except ParameterError as error:
            found.append(str(error))
    return P.comm.allgather(found)


class Bytes(training.Callback):
    every_rank = True

    def on_train_batch_end(self, batch):
        self.held = P.current.bytes_of_state


def scenario_memory():
    x, y = data()
    held = []
    for sharded in (False, True):
        P.current, bytes_held = training.DataParallel(sharded=sharded), Bytes()
        model().fit(x, y, callbacks=[bytes_held], parallel=P.current, verbose=0)
        held.append(P.comm.allgather(bytes_held.held))
    return held


class Die(training.Callback):
    every_rank = True

    def __init__(self, how):
        self.how = how

    def on_train_batch_end(self, batch):
        if P.rank == P.size - 1 and self.model.optimizer.step_count == 12:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the disk is gone")


def scenario_die(how):
    x, y = data()
    training.parallel.GRACE = 0.5
    model().fit(x, y, epochs=9, seed=7, callbacks=[Die(how)], checkpoint=FOLDER / how, every=5, parallel=P, verbose=0)


def main():
    results = {}
    for name in sys.argv[3:]:
        scenario, _, argument = name.partition(":")
        results[name] = globals()[f"scenario_{scenario}"](*[argument] * bool(argument))
    if P.is_root:
        Path(sys.argv[1]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
