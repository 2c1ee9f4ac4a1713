"""A random caller of every op, update and composition of the native engine, each compared with its formula.

    python tests/native/fuzz.py --seconds 20 --seed 1
    python tests/native/fuzz.py --seed 1 --start 4711 --calls 1 --verbose      one call again

Arrays come in every dtype, with up to 64 axes, empty, transposed, backwards, broadcast, overlapping themselves, misaligned, with
swapped bytes, read-only; some arguments, options, upstream gradients and storages for gradients are wrong. Meanwhile another thread
changes the number of threads and the memory limit, and in some calls the contents of the arrays. Native and formula must return the
same, or raise the same class of error; a call whose data is changed must not crash, whatever it returns. Every call has a number,
and with the seed the number gives the same call.
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import inspect
import os
import sys
import threading
import time
import warnings
from collections import Counter

import numpy
from numpy.lib.stride_tricks import as_strided

from minidl import engines, ops
from minidl.engines import compositions
from minidl.errors import MinidlError
from minidl.ops.precision import matmul_precision
from minidl.ops.stored import STORAGE, store_weight
from minidl.testing import SPECS, UPDATES
from minidl.testing.layouts import HOST_LAYOUTS, LAYOUTS

MOST_AXES = 64
SPECIAL = (numpy.nan, numpy.inf, -numpy.inf, -0.0, 1e-40, 0.0)
ODD = (
    *range(-1, 4),
    2**62,
    2**63,
    2**64,
    1.5,
    2.0,
    True,
    None,
    "no such",
    numpy.int64(2),
    (1, 2),
    (3,),
    [2, 1],
    numpy.nan,
)
SLOW_IF_LARGE = (
    "kernel_size",
    "size",
    "output_size",
    "scale_factor",
    "scale",
)  # what formulas loop over, or memory is touched for, or what magnifies rounding


# inputs -----------------------------------------------------------------------------------------------------------------------


class Subclass(numpy.ndarray):
    pass


def broadcast(rng, x):
    if x.size == 0 or x.ndim == 0:
        return x
    axis = int(rng.integers(x.ndim))
    return numpy.broadcast_to(x.take([0], axis), x.shape)


def overlapping(rng, x):
    """Every axis moves by one element."""
    if x.size == 0:
        return x
    return as_strided(x.ravel().copy(), x.shape, (x.itemsize,) * x.ndim)


def arranged(rng, x):
    """Return x in a random layout."""
    others = {
        "broadcast": lambda a: broadcast(rng, a),
        "overlapping": lambda a: overlapping(rng, a),
        "fortran": numpy.asfortranarray,
        "subclass": lambda a: a.view(Subclass),
    }
    layouts = {**LAYOUTS, **HOST_LAYOUTS, **others}
    if rng.random() < 0.5 or not isinstance(x, numpy.ndarray):
        return x
    name = str(rng.choice(list(layouts)))
    if name == "every other" and x.ndim > 10:  # twice as large along each axis
        return x
    return layouts[name](x)


def with_specials(rng, x):
    """Write a few values that are not ordinary numbers into x."""
    if x.size and x.flags.writeable:
        places = rng.integers(x.size, size=int(rng.integers(1, 4)))
        x.flat[places] = rng.choice(SPECIAL, size=len(places))
    return x


def distorted(rng, x):
    """Return something else in the place of an argument."""
    if not isinstance(x, numpy.ndarray):
        return ODD[rng.integers(len(ODD))]
    choices = (
        lambda: x[None],
        lambda: x.reshape(-1),
        lambda: x[..., :-1] if x.ndim else x,
        lambda: x[:0] if x.ndim else x,
        lambda: x.astype("int32"),
        lambda: x.astype("longdouble"),
        lambda: x.astype("complex64"),
        lambda: x.astype("float64" if x.dtype == "float32" else "float32"),
        lambda: x.tolist(),
        lambda: None,
    )
    with warnings.catch_warnings(), numpy.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return choices[rng.integers(len(choices))]()


def with_more_axes(rng, arrays):
    """Put axes of length 1 before those of the first array, and of others with as many axes."""
    ndim = getattr(arrays[0], "ndim", 0)
    more = (1,) * int(rng.integers(1, MOST_AXES + 1 - ndim))
    alone = rng.random() < 0.3
    return [
        a.reshape(more + a.shape) if isinstance(a, numpy.ndarray) and a.ndim == ndim and (i == 0 or not alone) else a
        for i, a in enumerate(arrays)
    ]


class Builder:
    """The random choices of one call, and what may be changed while it runs."""

    def __init__(self, rng, expose):
        self.rng, self.expose = rng, expose
        self.chained = False
        self.dtype = str(rng.choice(["float32", "float64", "float16"], p=[0.6, 0.32, 0.08]))

    def chance(self, p):
        return self.rng.random() < p

    def one_of(self, values):
        return list(values)[self.rng.integers(len(values))]

    def array(self, x, specials=False):
        """Return an argument of the catalogue in the call's dtype, arranged; the change is part of the call."""
        if isinstance(x, numpy.ndarray):
            x = x.astype(self.dtype) if x.dtype.kind == "f" else x.copy()
            if specials and x.dtype.kind == "f":
                x = with_specials(self.rng, x)
            x = arranged(self.rng, x)
            self.expose(x)
        return x

    def normal(self, *shape):
        return self.array(self.rng.standard_normal(shape))

    def upstream(self, y):
        dy = numpy.asarray(self.rng.standard_normal(numpy.shape(y))).astype(getattr(y, "dtype", self.dtype))
        if numpy.ndim(dy) == 0 and self.chance(0.7):
            return float(dy)
        dy = with_specials(self.rng, dy) if self.chance(0.1) else dy
        return distorted(self.rng, dy) if self.chance(0.06) else arranged(self.rng, dy)

    def storage(self, gradients, parameters, inputs):
        """Draw `into`, `add` and `wanted` for a backward with so many gradients, those of parameters last."""
        if self.chance(0.4):
            return {}
        shapes = [numpy.shape(p) for p in parameters]
        into = [self._one_storage(shape, inputs) for shape in shapes]
        if len(into) > 1 and self.chance(0.05):
            into[-1] = into[0]
        wanted = tuple(bool(w) for w in self.rng.random(gradients) < 0.7)
        return {
            "into": None if self.chance(0.1) else tuple(into[: None if self.chance(0.95) else 1]),
            "add": self.chance(0.5),
            "wanted": wanted if self.chance(0.5) else None,
        }

    def _one_storage(self, shape, inputs):
        plain = self.rng.standard_normal(shape).astype(self.dtype)
        kind = self.rng.random()
        if kind < 0.2:
            return None
        if kind < 0.7:
            return plain
        if kind < 0.8:
            return arranged(self.rng, plain)
        if kind < 0.85:
            return distorted(self.rng, plain)
        fitting = [a for a in inputs if isinstance(a, numpy.ndarray) and a.dtype == self.dtype and a.size >= plain.size]
        if not fitting or not plain.size:
            return plain
        flat = fitting[self.rng.integers(len(fitting))].reshape(-1)  # a view of the input where that has no gaps
        start = int(self.rng.integers(flat.size - plain.size + 1))
        return flat[start : start + plain.size].reshape(shape)


# calls ------------------------------------------------------------------------------------------------------------------------
# Each draws its inputs from the builder, calls the functions of an engine, and returns the list of results.


def op_call(engine, b, name=None):
    spec = SPECS[name or b.one_of(SPECS)]
    b.chained = ops.FORMULAS[spec.name].__module__ == "minidl.ops.attention"
    case = b.one_of([*spec.cases, *(spec.sized(size) for size in ("empty", "one", "odd"))])
    if b.chance(0.4):
        shape = b.rng.choice([0, 1, 2, 3, 5, 8, 17, 33], size=b.rng.integers(spec.rank[0], spec.rank[1] + 1))
        case = dataclasses.replace(case, shape=tuple(int(n) for n in numpy.maximum(shape, spec.shortest)))
    seed = int(b.rng.integers(1000))
    try:
        arguments = list(spec.arguments(case, seed))
    except Exception:  # a shape for which nothing can be drawn
        arguments = list(spec.arguments(spec.cases[0], seed))
    options = dict(case.options)
    if b.chance(0.15):
        arguments = with_more_axes(b.rng, arguments)
    specials = b.chance(0.15)
    arguments = [b.array(a, specials) for a in arguments]
    if b.chance(0.1):
        place = int(b.rng.integers(len(arguments)))
        arguments[place] = distorted(b.rng, arguments[place])
    if b.chance(0.15):
        names = list(inspect.signature(ops.FORMULAS[spec.name]).parameters)[len(arguments) :]
        option = b.one_of([*names, *options, "none of these"])
        value = b.one_of(ODD)
        if not (option in SLOW_IF_LARGE and isinstance(value, int) and value > 100):
            options[option] = value
    forward = spec.forward() if b.chance(0.1) else spec.forward(engine)
    y, cache = forward(*arguments, **options)
    dy = b.upstream(y)
    formula = ops.FORMULAS[f"{spec.name}_backward"]
    parameters = getattr(formula, "parameters", ())
    more = {}
    if parameters:
        order = list(inspect.signature(ops.FORMULAS[spec.name]).parameters)
        given = [arguments[order.index(p)] if order.index(p) < len(arguments) else None for p in parameters]
        more = b.storage(max(len(spec.differentiable), 2), given, [dy, *arguments])  # None in the place of dx counts
    for part in cache:
        b.expose(part)
    found = spec.backward(engine)(dy, cache, **more)
    return [y, *(found if isinstance(found, tuple) else (found,))]


def update_call(engine, b):
    spec = UPDATES[b.one_of(UPDATES)]
    case = b.one_of(spec.cases)
    n = int(b.one_of([0, 1, 7, 100, 5000]))
    buffer = b.rng.standard_normal(8 * n + 8).astype(b.dtype)
    b.expose(buffer)
    together = b.chance(0.3)

    def part(number):
        if together:  # in one buffer, where neighbours may overlap
            start = int(b.rng.integers(2 * n + 2))
            return buffer[start : start + n]
        return arranged(b.rng, numpy.abs(buffer[number * n : (number + 1) * n]).copy())

    arrays = [part(i) if i < 2 or spec.states[i - 2] in case.states else None for i in range(2 + len(spec.states))]
    if b.chance(0.1):
        arrays[b.rng.integers(len(arrays))] = distorted(b.rng, buffer[:n])
    if b.chance(0.15):
        with_specials(b.rng, buffer if together else arrays[0]) if isinstance(arrays[0], numpy.ndarray) else None
    options = {**case.options, **spec.counter(int(b.rng.integers(1, 4)))}
    if b.chance(0.1):
        options[b.one_of(options)] = b.one_of([0, 1, 2.5, -1.0, 1e300, float("inf"), 7])
    getattr(engine, spec.name)(*arrays, **options)
    return [a for a in arrays if isinstance(a, numpy.ndarray)]


ACTIVATIONS = ("relu", "sigmoid", "tanh", "relu6", "gelu", "silu", "elu", "leaky_relu", "softplus", "no such", None)
SETTINGS = ((), (), (), (0.5,), (0.5, 2.0), (0.5, 2.0, 1.0), ("tanh",), ("none",), ("x",))


def linear_layer(b, rows):
    columns = int(b.one_of([0, 1, 3, 16, 65]))
    return (
        b.normal(columns, rows),
        b.normal(columns) if b.chance(0.7) else None,
        b.one_of(ACTIVATIONS),
        b.one_of(SETTINGS),
    )


def linear_activation_call(engine, b):
    features = int(b.one_of([0, 1, 5, 33]))
    lead = (1,) * int(b.rng.integers(0, MOST_AXES)) if b.chance(0.2) else (int(b.one_of([0, 1, 4, 70])),)
    x, (weight, bias, activation, settings) = b.normal(*lead, features), linear_layer(b, features)
    y, cache = engine.linear_activation(x, weight, bias, activation, settings)
    dy = b.upstream(y)
    return [
        y,
        *engine.linear_activation_backward(dy, cache, activation, **b.storage(3, (weight, bias), [dy, x, weight])),
    ]


def linear_stack_call(engine, b):
    features = int(b.one_of([1, 5, 33]))
    x, layers = b.normal(int(b.one_of([0, 1, 4, 70])), features), []
    for _ in range(int(b.rng.integers(1, 4))):
        layers.append(linear_layer(b, layers[-1][0].shape[0] if layers else features))
    y, caches = engine.linear_stack(x, layers)
    storage = []
    for weight, bias, _, _ in layers:
        drawn = b.storage(3, (weight, bias), [weight, x])
        storage.append((drawn.get("into"), drawn.get("add", False), drawn.get("wanted")))
    dx = engine.linear_stack_backward(b.upstream(y), caches, layers, storage)
    return [y, dx, *(a for into, _, _ in storage for a in into or ())]


def convolution(b):
    op = b.one_of(["conv1d", "conv2d"])
    spec = SPECS[op]
    case = b.one_of(spec.cases)
    x, weight, bias, *_ = [*(b.array(a) for a in spec.arguments(case, int(b.rng.integers(100)))), None]
    windows = tuple({"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **case.options}.values())
    if b.chance(0.1):
        windows = (b.one_of([2, 2**31, 2**40, 2**62]), *windows[1:])
    if b.chance(0.1):
        large = b.one_of([2**40, 2**61, 2**62, 2**63])
        windows = (windows[0], large, large, windows[3])
    return op, x, weight, bias, windows


def conv_activation_call(engine, b):
    op, x, weight, bias, windows = convolution(b)
    activation, settings = b.one_of(ACTIVATIONS), b.one_of(SETTINGS)
    y, cache = engine.conv_activation(op, x, weight, bias, windows, activation, settings)
    dy = b.upstream(y)
    more = b.storage(3, (weight, bias), [dy, x, weight])
    return [y, *engine.conv_activation_backward(op, dy, cache, activation, **more)]


def conv_affine_call(engine, b):
    op, x, weight, _, windows = convolution(b)
    out = weight.shape[0] + b.chance(0.05)
    scale, shift = (b.normal(out) if b.chance(0.6) else None for _ in range(2))
    y = ops.FORMULAS[op](x, weight, None, *windows)[0] if b.chance(0.4) else None
    residual = None if y is None else b.normal(*y.shape[: None if b.chance(0.95) else -1])
    return [
        engine.conv_affine(op, x, weight, windows, scale, shift, b.one_of(ACTIVATIONS), b.one_of(SETTINGS), residual)
    ]


def matmul_into_call(engine, b):
    m, k, n = (int(b.one_of([0, 1, 3, 17, 65])) for _ in range(3))
    flip_a, flip_b = b.chance(0.5), b.chance(0.5)
    left, right = b.normal(*((k, m) if flip_a else (m, k))), b.normal(*((n, k) if flip_b else (k, n)))
    out = b._one_storage((m, n), [left, right])
    y, _ = engine.matmul(left, right, flip_a, flip_b, out, b.chance(0.5))
    return [y]


def dropout_call(engine, b):
    x = b.normal(*(int(n) for n in b.rng.choice([0, 1, 3, 70], size=b.rng.integers(1, 4))))
    y, cache = engine.dropout(x, b.one_of([0.0, 0.3, 1.0, 2, float("nan")]), numpy.random.default_rng(1))
    return [y, engine.dropout_backward(b.upstream(y), cache)]


def flat_call(engine, b):
    x = b.normal(int(b.one_of([0, 1, 5, 5000])))
    p = b.one_of([2.0, 1.0, float("inf"), 3])
    size = engine.norm(x, p)
    if x.flags.writeable:
        engine.rescale(x, 0.5)
    return [numpy.asarray(size, dtype=x.dtype), x]


def stored_linear_call(engine, b):
    b.dtype = "float32" if b.chance(0.9) else b.dtype
    rows, k, out = (int(b.one_of([0, 1, 3, 17, 70])) for _ in range(3))
    weight, scale = store_weight(b.rng.standard_normal((out, k)).astype("float32"), b.one_of(STORAGE))
    if b.chance(0.1):
        weight, scale = arranged(b.rng, weight), None if b.chance(0.3) else scale
    x = b.normal(*b.one_of([(rows, k), (k,), (2, rows, k), (rows, k + 1)]))
    bias = b.normal(out + b.chance(0.05)) if b.chance(0.5) else None
    after = b.one_of(
        [(), (None,), ("tanh",), ("gelu", ("tanh",)), ("leaky_relu", (0.25,)), ("gelu", (1,)), ("elu", (-1.0, 2.0))]
    )
    return [engine.stored_linear(x, weight, scale, bias, *after)]


def transformer_block_call(engine, b):
    batch, queries, heads, size, hidden = (
        int(b.one_of(some)) for some in ((0, 1, 3), (1, 2, 20), (1, 3), (1, 4, 17), (1, 9))
    )
    width, dtype = heads * size, b.one_of([None, *STORAGE])
    b.dtype = "float32" if dtype or b.chance(0.9) else b.dtype
    maps = []
    for out, into in ((3 * width, width), (width, width), (hidden, width), (width, hidden + b.chance(0.03))):
        weight = b.normal(out, into) / numpy.sqrt(into).astype(b.dtype)
        stored = (weight, None) if dtype is None else store_weight(numpy.ascontiguousarray(weight), dtype)
        maps.append((*stored, b.normal(out) if b.chance(0.7) else None))
    norms = [
        (b.normal(width) if b.chance(0.7) else None, b.normal(width) if b.chance(0.7) else None, 1e-5) for _ in range(2)
    ]
    mask, cache = None, None
    if b.chance(0.4):
        length, room = b.one_of([(0, queries), (3, queries + 3), (5, 40), (3, queries)])
        keys, values = (numpy.ascontiguousarray(b.normal(batch, heads, room, size)) for _ in range(2))
        cache = (keys, values, length)
    elif b.chance(0.3):
        mask = b.rng.random((batch, 1, 1, queries)) < 0.7
    causal, after = cache is not None or b.chance(0.2), b.one_of([("relu",), ("gelu", ("tanh",)), ("gelu", (1,))])
    x = b.normal(*b.one_of([(batch, queries, width)] * 9 + [(batch, queries, width + 1)]))
    y = engine.transformer_block(
        x, norms, maps, heads, b.chance(0.5), causal, after[0], after[1] if len(after) > 1 else (), mask, cache
    )
    return [y] if cache is None else [y, *cache[:2]]


OTHERS = (
    update_call, linear_activation_call, linear_stack_call, conv_activation_call, conv_affine_call, matmul_into_call, dropout_call,
    flat_call, stored_linear_call, transformer_block_call,
)  # fmt: skip
IN_BFLOAT16 = (op_call, conv_affine_call, matmul_into_call, stored_linear_call)
"""Calls of one product each, and of attention, which gets more room."""


class Formulas:
    """The formulas under the names of an engine, compositions among them."""

    def __getattr__(self, name):
        if name in ops.FORMULAS:
            return ops.FORMULAS[name]
        composition = getattr(compositions, name)
        return lambda *args, **kwargs: composition(self, *args, **kwargs)


class Recorded:
    """An engine that notes which of its functions were called."""

    def __init__(self, engine):
        self.engine, self.called = engine, set()

    def __getattr__(self, name):
        self.called.add(name)
        return getattr(self.engine, name)

    def never_called(self):
        """Return the ops and compositions with a kernel of their own that no call has reached."""
        return sorted(n for n, how in self.engine.coverage().items() if how == "kernel" and n not in self.called)


# the comparison -----------------------------------------------------------------------------------------------------------------


def precision_of(call, seed, index):
    """Return the precision of products in a call, as its number has it."""
    low = call in IN_BFLOAT16 and numpy.random.default_rng([seed, index, 2]).random() < 0.3
    return "bfloat16" if low else "highest"


def attempt(call, engine, seed, index, expose=lambda x: None):
    """Return the results of a call, copied, or the error that it raised."""
    b = Builder(numpy.random.default_rng([seed, index, 1]), expose)
    try:
        with warnings.catch_warnings(), numpy.errstate(all="ignore"), matmul_precision(precision_of(call, seed, index)):
            warnings.simplefilter("ignore")
            return [None if r is None else numpy.array(r) for r in call(engine, b)], b
    except Exception as error:
        return error, b


def kind_of_error(error):
    """Return the class of an error of ours; others, of Python or NumPy, are all alike."""
    return type(error).__name__ if isinstance(error, MinidlError) else "other"


def difference(found, expected, b, precision="highest"):
    """Say how two outcomes differ, or nothing.

    In bfloat16 the products of attention feed one another, so that a last digit more or less may round by a whole step.
    """
    low = precision == "bfloat16"
    failed = isinstance(found, Exception), isinstance(expected, Exception)
    if all(failed):
        fine = kind_of_error(found) == kind_of_error(expected) or not isinstance(expected, MinidlError)
        return "" if fine else f"native raises {found!r}, the formula {expected!r}"
    if any(failed):
        return f"native {found!r:.300}, the formula {expected!r:.300}"
    if len(found) != len(expected):
        return f"native returns {len(found)} results, the formula {len(expected)}"
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        problem = unlike(one, other, b.dtype, 2.0**-7 if low and b.chained else 0.0)
        if problem:
            return f"result {number}: {problem}"
    return ""


def unlike(one, other, dtype, least=0.0):
    if (one is None) != (other is None):
        return f"native {one!r:.100}, the formula {other!r:.100}"
    if one is None:
        return ""
    if one.shape != other.shape or one.dtype.newbyteorder("=") != other.dtype.newbyteorder("="):
        return f"native {one.dtype} {one.shape}, the formula {other.dtype} {other.shape}"
    if one.dtype.kind != "f":
        return "" if numpy.array_equal(one, other) else "they differ"
    eps = float(numpy.finfo(numpy.result_type(one, "float16" if dtype == "float16" else one)).eps)
    one, other = one.astype("float64"), other.astype("float64")
    finite = numpy.isfinite(other)
    scale = max(1.0, float(numpy.abs(other[finite]).max(initial=0)))
    with numpy.errstate(all="ignore"):
        wrong = numpy.where(
            finite,
            ~(numpy.abs(one - other) <= max(1e4 * eps, least) * scale),
            (one != other) & ~(numpy.isnan(one) & numpy.isnan(other)),
        )
    if not wrong.any():
        return ""
    place = numpy.unravel_index(int(wrong.ravel().argmax()), wrong.shape)
    return f"{int(wrong.sum())} of {wrong.size} elements, first {place}: native {one[place]!r}, the formula {other[place]!r}"


# the disturbance ------------------------------------------------------------------------------------------------------------------


class Disturber(threading.Thread):
    """Changes settings all the time, and the contents of arrays while there are some to change."""

    def __init__(self, seed):
        super().__init__(daemon=True)
        self.rng, self.exposed, self.over = numpy.random.default_rng([seed, 9]), [], False

    def run(self):
        while not self.over:
            engines.set_num_threads(int(self.rng.choice([1, 2, 3, 5, 300])))
            engines.native.set_memory_limit(int(self.rng.choice([0, 1 << 20, 1 << 30])))
            for x in list(self.exposed):
                self._scribble(x)
            time.sleep(0.0002)

    def _scribble(self, x):
        if isinstance(x, numpy.ndarray) and x.size and x.flags.writeable and x.dtype.kind in "fiub":
            value = 10.0 ** self.rng.integers(-40, 38) if x.dtype.kind == "f" else self.rng.integers(0, 256)
            if x.dtype.itemsize == 8 and x.dtype.kind == "i":
                value = 2 ** int(self.rng.integers(62))
            with numpy.errstate(all="ignore"):
                x[...] = numpy.asarray(value).astype(x.dtype)


def choose(seed, index):
    """Return the call of this number, and whether its data is changed while it runs."""
    rng = numpy.random.default_rng([seed, index, 0])
    call = op_call if rng.random() < 0.65 else OTHERS[rng.integers(len(OTHERS))]
    return call, rng.random() < 0.1


def fuzz(seed, start=0, calls=None, seconds=None, races=True, verbose=False, log=None):
    """Make calls until their number or the time is over; return the failures, and how often each outcome came."""
    native, formulas = Recorded(engines.get("native")), Formulas()
    before = engines.get_num_threads()
    disturber = Disturber(seed)
    disturber.start()
    failures, outcomes = [], Counter()
    end, index = None if seconds is None else time.monotonic() + seconds, start
    while (calls is None or index < start + calls) and (end is None or time.monotonic() < end):
        call, raced = choose(seed, index)
        if log is not None:
            os.pwrite(log, f"seed {seed}, call {index}, {call.__name__}\n".ljust(80).encode(), 0)
        faulthandler.dump_traceback_later(120, exit=True)
        if raced:
            if races:
                attempt(call, native, seed, index, disturber.exposed.append)
                disturber.exposed.clear()
                outcomes["data changed meanwhile"] += 1
        else:
            found, builder = attempt(call, native, seed, index)
            expected, _ = attempt(call, formulas, seed, index)
            problem = difference(found, expected, builder, precision_of(call, seed, index))
            outcomes["errors" if isinstance(expected, Exception) else "results"] += 1
            if verbose:
                print(index, call.__name__, repr(found)[:2000], repr(expected)[:2000], sep="\n")
            if problem:
                failures.append(f"--seed {seed} --start {index} --calls 1: {call.__name__}: {problem}")
        index += 1
    faulthandler.cancel_dump_traceback_later()
    disturber.over = True
    disturber.join()
    engines.set_num_threads(before)
    engines.native.set_memory_limit(1 << 30)
    return failures, outcomes, native.never_called()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first call")
    parser.add_argument("--calls", type=int, help="how many; until the time is over by default")
    parser.add_argument("--seconds", type=float, help="20 by default, unless --calls is given")
    parser.add_argument(
        "--no-races", action="store_true", help="change no data while a call runs: under ThreadSanitizer"
    )
    parser.add_argument("--log", help="a file that names the call under way, for when the process dies")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    faulthandler.enable()
    seconds = 20.0 if given.seconds is None and given.calls is None else given.seconds
    log = None if given.log is None else os.open(given.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    failures, outcomes, never = fuzz(
        given.seed, given.start, given.calls, seconds, not given.no_races, given.verbose, log
    )
    print(*failures, sep="\n")
    print(f"kernels never called: {', '.join(never) or 'none'}")
    print(f"seed {given.seed}: {sum(outcomes.values())} calls, {dict(outcomes)}, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
