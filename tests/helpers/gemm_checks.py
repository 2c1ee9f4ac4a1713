"""One matrix product of the native engine, drawn or given, against NumPy's: with the bound that its sums allow."""

import numpy

from minidl import _native

RELU = 0  # the first activation of csrc/elementwise/activations.h
DIMENSIONS = sorted({c + d for c in (1, 4, 8, 12, 16, 24, 48, 64) for d in (-1, 0, 1)})  # rows, lanes, widths of tiles
LONG = (255, 257, 575, 577, 1023, 1025, 1151, 1154, 2311)  # blocks of k and of n, in both precisions


def matrix(random, dtype, shape, gap=0, offset=0):
    """Random numbers as a view with `gap` unused columns, `offset` elements into its memory; nan all around."""
    rows, columns = shape
    memory = numpy.full(offset + rows * (columns + gap) + 1, numpy.nan, dtype)
    inside = memory[offset : offset + rows * (columns + gap)].reshape(rows, columns + gap)[:, :columns]
    inside[...] = random.standard_normal(shape)
    return inside


def wide(x):
    """Numbers in double precision, in which the references are computed."""
    return x.astype(numpy.float64)


def used_share(got, want, magnitude, terms):
    """How much of the bound (2 terms + 8) eps magnitude the largest error uses.

    A sum of n products errs by less than n eps; the reference, if it is in the same precision, by as much again.
    """
    limit = (2 * terms + 8) * numpy.finfo(got.dtype).eps * magnitude + numpy.finfo(got.dtype).tiny
    error = numpy.abs(wide(got) - want) / limit
    return 0.0 if error.size == 0 else float(numpy.where(numpy.isnan(error), numpy.inf, error).max())


def check(
    random, dtype, m, n, k, transpose_a=False, transpose_b=False, alpha=1.0, beta=0.0, gap=0, offset=0, threads=1
):
    """Compare one product, its place in memory included."""
    a = matrix(random, dtype, (k, m) if transpose_a else (m, k), gap, offset)
    b = matrix(random, dtype, (n, k) if transpose_b else (k, n), gap, offset)
    c = matrix(random, dtype, (m, n), gap, offset)
    kept = (a.copy(), b.copy())
    left, right = wide(a.T if transpose_a else a), wide(b.T if transpose_b else b)
    want = alpha * (left @ right) + (beta * wide(c) if beta else 0)
    magnitude = abs(alpha) * (abs(left) @ abs(right)) + abs(beta * wide(c))
    if beta == 0:
        c[...] = numpy.nan  # which must not be read
    _native.gemm(alpha, a, b, beta, c, transpose_a, transpose_b, threads=threads)
    share = used_share(c, want, magnitude, k)
    case = f"{dtype} {m}x{n}x{k} transposed {transpose_a, transpose_b} alpha {alpha} beta {beta} {gap=} {offset=} {threads=}"
    assert share <= 1, f"{case}: {share:.3g} of the bound"
    assert numpy.array_equal(a, kept[0]), f"{case}: A was written"
    assert numpy.array_equal(b, kept[1]), f"{case}: B was written"
    around = c.base[offset : offset + m * (n + gap)].reshape(m, n + gap)[:, n:]
    assert numpy.isnan(around).all(), f"{case}: written beyond C"
    assert numpy.isnan(c.base[:offset]).all(), f"{case}: written before C"
    assert numpy.isnan(c.base[-1]), f"{case}: written after C"
    return share


def check_drawn(count, seed=0):
    """Compare `count` products of all kinds; return the instruction set."""
    random = numpy.random.default_rng(seed)
    for i in range(count):
        dimensions = random.choice(DIMENSIONS, 3)
        if i % 4 == 0:
            dimensions[random.integers(3)] = random.choice(LONG)
        transpose_a, transpose_b = (bool(x) for x in random.integers(0, 2, 2))
        check(
            random,
            ("float32", "float64")[i % 2],
            *(int(d) for d in dimensions),
            transpose_a,
            transpose_b,
            float(random.choice([1, -0.5])),
            float(random.choice([0, 1, 2])),
            int(random.choice([0, 0, 3])),
            int(random.choice([0, 1])),
            int(random.choice([1, 3])),
        )
    return _native.build_info()["matrix products"]


def check_strides():
    """Compare products whose rows meet in the same sets of a cache, beside neighbours whose rows do not."""
    random = numpy.random.default_rng(0)
    for dtype, size in (("float32", 1024), ("float64", 512)):
        for transposed in ((False, False), (False, True), (True, False), (True, True)):
            for gap in (0, 8):
                check(random, dtype, 144, size, 400, *transposed, gap=gap, threads=2)
                check(random, dtype, 5, size, size, *transposed, gap=gap)
