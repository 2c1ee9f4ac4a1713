"""Whether the other threads help soon after a pause, in which they fell asleep.

    python benchmarks/waking.py

After each pause come some products of 256 x 256 x 256 in a row. Printed are the first and the median product of a
series, over all series, beside one thread alone, and in how many series the median took more than three quarters of
that.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy

import minidl as dl

PAUSE = 0.1  # seconds
PRODUCTS = 40


def series(pause: float) -> list[float]:
    """Return the microseconds of each product after a pause."""
    random = numpy.random.default_rng(0)
    a, b = (random.standard_normal((256, 256), dtype=numpy.float32) for _ in range(2))
    multiply = dl.engines.get("native").matmul
    time.sleep(pause)
    took = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        multiply(a, b)
        took.append((time.perf_counter() - start) * 1e6)
    return took


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--series", type=int, default=100)
    args = parser.parse_args()
    dl.set_num_threads(1)
    alone = min(statistics.median(series(0.0)) for _ in range(10))
    dl.set_num_threads(args.threads)
    runs = [series(PAUSE) for _ in range(args.series)]
    medians = [statistics.median(run) for run in runs]
    print(f"1 thread: {alone:.0f} us a product")
    print(
        f"{args.threads} threads after a pause: first product {statistics.median(run[0] for run in runs):.0f} us, median of a "
        f"series {statistics.median(medians):.0f} us; {sum(m > 0.75 * alone for m in medians)} of {args.series} series "
        "without help"
    )


if __name__ == "__main__":
    main()
