"""Checks of products in bfloat16 with many shapes, for tests that run them in another process or on several threads."""

import itertools

import numpy

import minidl
from minidl import engines
from minidl.ops.precision import round_operand

EPS = float(numpy.finfo("float32").eps)
DIMENSIONS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 65, 97)
LONG = (130, 481, 513, 1027)  # past a block


def wide(x):
    """Return the numbers that a product in bfloat16 reads, as float64."""
    return round_operand(x).astype("float64")


def check(random, m, n, k, transpose_a=False, transpose_b=False, old=None):
    """Multiply and compare; the error is at most one rounding for each term, of the sum of all magnitudes."""
    native = engines.get("native")
    a = random.standard_normal((k, m) if transpose_a else (m, k), dtype="f")
    b = random.standard_normal((n, k) if transpose_b else (k, n), dtype="f")
    left, right = wide(a.T if transpose_a else a), wide(b.T if transpose_b else b)
    out = numpy.full((m, n), numpy.nan, "f") if old is None else old.copy()
    with minidl.matmul_precision("bfloat16"):
        native.matmul(a, b, transpose_a, transpose_b, out=out, accumulate=old is not None)
    want = left @ right + (0 if old is None else old)
    magnitude = abs(left) @ abs(right) + (0 if old is None else abs(old))
    share = (abs(out - want) / (EPS * (k + 2) * magnitude + 1e-37)).max(initial=0)
    assert share <= 1, (m, n, k, transpose_a, transpose_b, share)


def check_drawn(count, seed=0):
    """Check so many products of drawn shapes; return which instructions computed them."""
    random = numpy.random.default_rng(seed)
    for _ in range(count):
        m, n, k = (int(random.choice(DIMENSIONS)) for _ in range(3))
        if random.random() < 0.1:
            k = int(random.choice(LONG))
        elif random.random() < 0.1:
            n = int(random.choice(LONG))
        old = random.standard_normal((m, n), dtype="f") if random.random() < 0.3 else None
        check(random, m, n, k, random.random() < 0.5, random.random() < 0.5, old)
    found = engines.native.info()
    return found["kernels"], found["bfloat16 products"]


def check_stored(count, seed=0):
    """Check so many linear layers of stored weights against the formulas; return what computes the sums of integers."""
    native, formulas = engines.get("native"), engines.get("numpy")
    from minidl.ops.stored import STORAGE, store_weight

    random = numpy.random.default_rng(seed)
    for _ in range(count):
        rows, outputs, k = (int(random.choice((1, 2, 3, 5, 17, 31, 64, 65, 255, 300))) for _ in range(3))
        x, weight, bias = (random.standard_normal(s, dtype="f") for s in ((rows, k), (outputs, k), (outputs,)))
        bias = None if random.random() < 0.3 else bias
        after = [(None,), ("relu",), ("leaky_relu", (0.25,))][int(random.integers(3))]
        for dtype in STORAGE:
            stored, scale = store_weight(weight, dtype)
            for precision in ("highest", "bfloat16"):
                with minidl.matmul_precision(precision):
                    found = native.stored_linear(x, stored, scale, bias, *after)
                    want = formulas.stored_linear(x, stored, scale, bias, *after)
                if dtype == "int8":  # exact sums, and the same roundings after them
                    numpy.testing.assert_array_equal(found, want)
                else:
                    numpy.testing.assert_allclose(found, want, rtol=0, atol=EPS * (k + 2) * 20)
    return engines.native.info()["int8 products"]


def with_specials(random, shape):
    """Draw numbers of which a fifth are infinite or so small that a product in bfloat16 takes them for zero."""
    x = random.standard_normal(shape, dtype="f")
    x[random.random(shape) < 0.1] = numpy.inf
    x[random.random(shape) < 0.1] = random.choice(numpy.array([1e-40, -1e-45, 1.1754942e-38], "f"))  # below 2^-126
    return x


def check_specials():
    """Check that native products are infinite and nan where the formulas are, and so is what comes of them in networks."""
    native, formulas = engines.get("native"), engines.get("numpy")
    random = numpy.random.default_rng(0)
    for n, out, k in itertools.product((1, 3, 20), (1, 5, 40), (1, 2, 9, 40)):
        x, weight = with_specials(random, (n, k)), with_specials(random, (out, k))
        stored = (weight.view("uint32") >> 16).astype("uint16")  # bfloat16 has subnormal numbers, too
        cell = [with_specials(random, s) for s in ((2, n, k), (2, out), (3 * out, k), (3 * out, out))]
        calls = (
            lambda e, x=x, w=weight: [e.matmul(x, w, False, True)[0], e.linear(x, w)[0]],
            lambda e, x=x, w=stored: [e.stored_linear(x, w)],
            lambda e, a=cell: [*e.gru(*a)[0], *e.rnn(*a[:2], *(w[: a[1].shape[1]] for w in a[2:]))[0]],
        )
        for call in calls:
            with minidl.matmul_precision("bfloat16"), numpy.errstate(all="ignore"):
                for found, want in zip(call(native), call(formulas), strict=True):
                    numpy.testing.assert_allclose(found, want, rtol=1e-2, atol=1e-2, err_msg=f"{(n, out, k)}")
