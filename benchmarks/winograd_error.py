"""Rounding errors of Winograd's 3 x 3 convolution for several sets of interpolation points; for docs/convolution.md.

    python benchmarks/winograd_error.py

Each line has the points +-a, +-b (with 0 and infinity), and the largest and the root-mean-square error of y, in units
of the machine epsilon times the root mean square of y. Everything is computed in float32 with the sums in order; the
kernels of the native engine add in vectors and err a little less.
"""

from __future__ import annotations

import numpy

CHANNELS, TILES = 64, 200
EPS = float(numpy.finfo("float32").eps)


def matrices(a: float, b: float) -> tuple[numpy.ndarray, ...]:
    """Return A^T, G and B^T for tiles of 4 outputs and kernels of 3, by Toom and Cook's interpolation."""
    points = [0.0, a, -a, b, -b]
    sums = numpy.array([[p**k for p in points] + [float(k == 3)] for k in range(4)])
    kernel, source = [], []
    for p in points:
        others = [q for q in points if q != p]
        kernel.append(numpy.array([1, p, p * p]) / numpy.prod([p - q for q in others]))
        source.append([*numpy.poly(others)[::-1], 0])
    kernel.append(numpy.array([0.0, 0.0, 1.0]))
    source.append(list(numpy.poly(points)[::-1]))
    return tuple(numpy.array(m, dtype="float32") for m in (sums, kernel, source))


def main() -> None:
    """Print the table."""
    random = numpy.random.default_rng(0)
    d = random.normal(size=(TILES, CHANNELS, 6, 6)).astype("float32")
    g = random.normal(size=(CHANNELS, 3, 3)).astype("float32")
    exact, plain = numpy.zeros((TILES, 4, 4)), numpy.zeros((TILES, 4, 4), "float32")
    for c in range(CHANNELS):
        for i in range(3):
            for j in range(3):
                seen = d[:, c, i : i + 4, j : j + 4]
                exact += seen.astype("float64") * g[c, i, j]
                plain += seen * g[c, i, j]
    size = numpy.sqrt(numpy.mean(exact**2)) * EPS

    def show(name: str, y: numpy.ndarray) -> None:
        error = abs(y - exact) / size
        print(f"{name:<28} {error.max():6.1f} {numpy.sqrt(numpy.mean(error**2)):6.2f}")

    show("the plain sum", plain)
    for a, b, name in (
        (0.5**0.5, 2**0.5, "+-sqrt(1/2), +-sqrt(2)"),
        (1, 2, "+-1, +-2"),
        (1, 0.5, "+-1, +-1/2"),
        (0.5, 1.5, "+-1/2, +-3/2"),
    ):
        sums, kernel, source = matrices(a, b)
        m = numpy.zeros((TILES, 6, 6), "float32")
        for c in range(CHANNELS):
            m += (source @ d[:, c] @ source.T) * (kernel @ g[c] @ kernel.T)
        show(name, sums @ m @ sums.T)


if __name__ == "__main__":
    main()
