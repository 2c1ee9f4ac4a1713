"""How data parallel training scales: a model of the time of a step, and what 2 or 4 processes measure beside it.

python benchmarks/scaling.py                           the table of docs/scaling.md, from 1 to 256 nodes, SIMULATED
mpiexec -n 2 python benchmarks/scaling.py --measure    the model's prediction and the measured step, on this machine
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import time
from pathlib import Path

import numpy

import minidl as dl

NETWORKS = {"1 GbE": (50e-6, 0.118e9), "10 GbE": (20e-6, 1.1e9), "100 Gb/s RDMA": (3e-6, 11e9)}
"""Seconds that a message takes, and bytes a second: round figures of such networks."""
JOBS = {
    "perceptron, 0.54 M parameters, 3.4 ms a step": (535_818, 3.4e-3),
    "ResNet-18, 11.7 M, 2 s": (11_700_000, 2.0),
    "GPT-2, 124 M, 8 s": (124_000_000, 8.0),
}
"""Parameters, and assumed seconds of computing for one node's share of a step."""
NODES = (1, 2, 4, 8, 16, 64, 256)


def communication(nodes, size, latency, bandwidth):
    """Seconds to add up ``size`` bytes of gradients: reduce-scatter and all-gather, and the three numbers of the loss.

    Each of the two takes ceil(log2 n) messages in turn and sends (n - 1) / n of the bytes (recursive halving and doubling).
    """
    rounds = math.ceil(math.log2(nodes))
    return 3 * rounds * latency + 2 * (nodes - 1) / nodes * size / bandwidth


def straggling(nodes, spread):
    """How much longer the slowest of n takes than the mean, if times are normal with this relative standard deviation.

    The expected largest of n by G. Blom, 1958: the quantile of (n - 3/8) / (n + 1/4).
    """
    return 1.0 if nodes == 1 else 1 + spread * statistics.NormalDist().inv_cdf((nodes - 0.375) / (nodes + 0.25))


def step(nodes, parameters, compute, latency, bandwidth, spread):
    """Seconds of a step: the slowest node computes, then all communicate."""
    return compute * straggling(nodes, spread) + communication(nodes, 4 * parameters, latency, bandwidth)


def simulate(spread):
    print(
        f"SIMULATED: efficiency, a node's seconds of computing over those of the step; shares of a fixed size, {spread:.0%} spread"
    )
    print("| job and network | " + " | ".join(map(str, NODES)) + " |")
    print("|---|" + "---|" * len(NODES))
    for job, (parameters, compute) in JOBS.items():
        for network, (latency, bandwidth) in NETWORKS.items():
            found = (compute / step(n, parameters, compute, latency, bandwidth, spread) for n in NODES)
            print(f"| {job}; {network} | " + " | ".join(f"{value:.2f}" for value in found) + " |")


def processor():
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def message(comm, size, times=200):
    """Seconds that a message of so many bytes takes between neighbours that exchange one, the median over them and over many."""
    sent, got = numpy.ones(size, "uint8"), numpy.empty(size, "uint8")
    other = comm.rank ^ 1
    found = []
    for _ in range(times):
        comm.Barrier()
        started = time.perf_counter()
        comm.Sendrecv(sent, other, recvbuf=got, source=other)
        found.append(time.perf_counter() - started)
    return statistics.median(comm.allreduce(found))


class Steps(dl.training.Callback):
    """Note how long each step takes, on every rank."""

    every_rank = True

    def on_train_begin(self):
        self.times = []

    def on_train_batch_begin(self, batch):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch):
        self.times.append(time.perf_counter() - self.began)


def steps(parallel, rows, repeats=60):
    """Seconds of the steps of a perceptron, so many rows in a batch."""
    dl.seed(0)
    generator = numpy.random.default_rng(1)
    x, y = generator.normal(size=(rows * repeats, 784)).astype("float32"), generator.integers(0, 10, rows * repeats)
    model = dl.Sequential([dl.Dense(512, activation="relu"), dl.Dense(256, activation="relu"), dl.Dense(10)])
    model.compile("adam", "sparse_categorical_crossentropy")
    measured = Steps()
    model.fit(x, y, batch_size=rows, shuffle=False, callbacks=[measured], parallel=parallel, verbose=0)
    return numpy.array(measured.times[repeats // 4 :])


def measure(rows):
    """Print what the model predicts of this machine's messages and computing, and what a step takes."""
    from mpi4py import MPI

    comm, parameters = MPI.COMM_WORLD, 535_818
    nodes, (small, large) = comm.size, (8, 4 * parameters // 2)
    latency = message(comm, small)
    bandwidth = large / max(message(comm, large) - latency, 1e-9)
    alone, together = dl.training.DataParallel(comm=MPI.COMM_SELF), dl.training.DataParallel()
    computing = []
    comm.Barrier()
    for _ in range(2):  # all at once, as in a step, but each for itself
        computing.append(steps(alone, rows))
    low, own, high = numpy.percentile(numpy.concatenate(computing), (25, 50, 75)).tolist()
    shared = float(numpy.median(numpy.concatenate([steps(together, rows * nodes) for _ in range(2)])))
    every = comm.allgather((own, shared, (high - low) / 1.349 / own))  # a normal's quartiles are 1.349 deviations apart
    if comm.rank:
        return
    compute, measured, spread = (statistics.mean(column) for column in zip(*every, strict=True))
    predicted = step(nodes, parameters, compute, latency, bandwidth, spread)
    print(
        f"{processor()}: {nodes} processes x {rows} rows, one thread each: a message {latency * 1e6:.1f} us and "
        f"{bandwidth / 1e9:.2f} GB/s; computing {compute * 1e3:.2f} ms, spread {spread:.1%}; step predicted "
        f"{predicted * 1e3:.2f} ms, measured {measured * 1e3:.2f} ms, ratio {measured / predicted:.2f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="in an even number of processes started by mpiexec")
    parser.add_argument("--rows", type=int, default=128, help="of a batch, for each process (default: 128)")
    parser.add_argument(
        "--spread", type=float, default=0.05, help="relative standard deviation of the nodes (default: 0.05)"
    )
    given = parser.parse_args()
    if given.measure:
        measure(given.rows)
    else:
        simulate(given.spread)
