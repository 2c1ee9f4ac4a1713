"""Cross-entropy over a large vocabulary beside PyTorch's: milliseconds, and the memory that it takes; float32.

    python benchmarks/cross_entropy.py                 768 rows of 50,257 logits
    python benchmarks/cross_entropy.py 3072 65         other numbers of rows and classes

Calls alternate; each figure is the best of all, with the median in brackets. Memory is the most that one forward with its
backward has at a time beyond the logits, in units of their size.
"""

import statistics
import sys
import time
import tracemalloc

import numpy

import minidl as dl

ROWS, CLASSES, SECONDS = 768, 50_257, 12.0


def ours(logits, target, backward):
    """Return a function that computes the loss, and the gradient of the logits if asked for."""
    loss = dl.CrossEntropyLoss()

    def run():
        value = loss.forward(logits, target)
        return loss.backward() if backward else value

    return run


def theirs(logits, target, backward):
    """Do the same in PyTorch, or return None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(dl.get_num_threads())
    x, labels = torch.tensor(logits, requires_grad=backward), torch.tensor(target)

    def run():
        value = torch.nn.functional.cross_entropy(x, labels)
        if backward:
            x.grad = None
            value.backward()
        return value

    return run


def times_of(functions):
    """Return the times of each in ms; they take turns."""
    found = [[] for _ in functions]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(found[0]) < 3:
        for function, times in zip(functions, found, strict=True):
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
    return found


def most_memory(function):
    """Return the most bytes that NumPy's arrays hold during a call, beyond what they held before."""
    tracemalloc.start()
    function()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def main():
    """Print a table."""
    rows, classes = map(int, sys.argv[1:]) if len(sys.argv) == 3 else (ROWS, CLASSES)
    random = numpy.random.default_rng(0)
    logits = random.standard_normal((rows, classes), dtype="float32")
    target = random.integers(0, classes, rows)
    print(f"{dl.engines.current()}, {dl.get_num_threads()} threads, {rows} rows of {classes} logits, float32")
    print(f"{'':14} {'minidl ms':>18} {'torch ms':>18} {'ratio':>6} {'of medians':>11} {'memory':>7}")
    for backward in (False, True):
        functions = [f for f in (ours(logits, target, backward), theirs(logits, target, backward)) if f is not None]
        times = times_of(functions)
        cells = [f"{min(t):.1f} ({statistics.median(t):.1f})" for t in times]
        ratios = [min(times[-1]) / min(times[0]), statistics.median(times[-1]) / statistics.median(times[0])]
        memory = most_memory(functions[0]) / logits.nbytes
        what = "with backward" if backward else "forward"
        alone = len(functions) == 1
        print(
            f"{what:14} {cells[0]:>18} {'' if alone else cells[1]:>18} {'' if alone else f'{ratios[0]:.2f}':>6} "
            f"{'' if alone else f'{ratios[1]:.2f}':>11} {memory:7.2f}"
        )


if __name__ == "__main__":
    main()
