"""The native engine beyond what the catalogue checks: layouts, fallbacks, threads, instruction sets, memory."""

import inspect
import os
import sysconfig
import threading

import numpy
import pytest
from fresh_python import run, run_on
from kernel_list import ACTIVATIONS

import minidl
import minidl as dl
from minidl import engines
from minidl.engines.base import COMPOSITIONS
from minidl.ops import activation

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

native, formulas = engines.get("native"), engines.get("numpy")
WITHOUT_KERNEL = {
    "avg_pool3d",
    "conv3d",
    "ctc_loss",
    "generalized_box_iou_loss",
    "glu",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "upsample_bicubic",
}
"""Ops that are left to the formula: they cost little beside what is around them, or another op with a kernel is the usual one."""


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def test_every_op_has_a_kernel_but_those_named():
    coverage = native.coverage()
    left = {op.removesuffix("_backward") for op, how in coverage.items() if how != "kernel"}
    assert left == WITHOUT_KERNEL
    assert all(coverage[op] == "kernel" and formulas.coverage()[op] == "composed" for op in COMPOSITIONS)
    assert set(formulas.coverage().values()) == {"formula", "composed"}


class TestLayouts:
    @pytest.mark.parametrize("op", ACTIVATIONS)
    def test_strided_and_misaligned(self, op, random):
        base = random.normal(size=(33, 17)).astype(numpy.float32)
        raw = numpy.zeros(base.nbytes + 1, dtype=numpy.uint8)
        misaligned = raw[1:].view(numpy.float32).reshape(base.shape)
        misaligned[...] = base
        expected = getattr(native, op)(base)[0]
        for x in (misaligned, numpy.asfortranarray(base), numpy.repeat(base, 2, axis=1)[:, ::2]):
            numpy.testing.assert_allclose(getattr(native, op)(x)[0], expected, rtol=2e-6, atol=1e-7)
        numpy.testing.assert_array_equal(getattr(native, op)(base[::-1, ::-1])[0], expected[::-1, ::-1])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(
        ("m", "n", "k"), [(1, 1, 1), (3, 5, 7), (1, 64, 33), (65, 1, 9), (17, 130, 300), (4, 4, 0)]
    )
    def test_products_read_any_strides(self, m, n, k, dtype, random):
        a, b = random.normal(size=(m, k)).astype(dtype), random.normal(size=(k, n)).astype(dtype)
        exact = a.astype("float64") @ b.astype("float64")
        tolerance = {"rtol": 0, "atol": numpy.finfo(dtype).eps * (k + 1) * 8}
        for left in (a, numpy.asfortranarray(a), numpy.repeat(a, 2, axis=1)[:, ::2], a[::-1].copy()[::-1]):
            for right in (b, numpy.asfortranarray(b), numpy.repeat(b, 3, axis=0)[::3]):
                numpy.testing.assert_allclose(native.matmul(left, right)[0], exact, **tolerance)
        numpy.testing.assert_allclose(native.matmul(a.T, b, transpose_a=True)[0], exact, **tolerance)
        numpy.testing.assert_allclose(native.matmul(a, b.T, transpose_b=True)[0], exact, **tolerance)

    def test_accumulating_into_an_array(self, random):
        a, b = random.normal(size=(5, 4)), random.normal(size=(4, 3))
        out = numpy.ones((5, 3))
        y, _ = native.matmul(a, b, out=out, accumulate=True)
        assert y is out
        numpy.testing.assert_allclose(out, a @ b + 1)
        native.matmul(a, b, out=out)
        numpy.testing.assert_allclose(out, a @ b)

    def test_an_output_that_is_an_input_is_not_spoilt(self, random):
        a = random.normal(size=(4, 4))
        expected = a @ a
        native.matmul(a, a, out=a)
        numpy.testing.assert_allclose(a, expected)


class TestSlopes:
    """PReLU over threads: over elements, rows or channels, each with sums that do not depend on who is free."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(
        ("shape", "slopes"),
        [
            ((300_001,), 1),
            ((7, 5, 30_000), 1),
            ((2000, 130), 130),
            ((70_000, 3), 3),
            ((6, 5, 20_011), 5),
            ((5000, 20, 3), 20),
        ],
    )
    def test_any_number_of_threads(self, shape, slopes, dtype, random):
        x, dy = (random.normal(size=shape).astype(dtype) for _ in range(2))
        weight = random.normal(size=slopes).astype(dtype)
        exact = activation.prelu_backward(dy.astype("float64"), (x.astype("float64"), weight.astype("float64")))[1]
        before = dl.get_num_threads()
        try:
            for threads in (1, 2, 3):
                dl.set_num_threads(threads)
                y, cache = native.prelu(x, weight)
                numpy.testing.assert_array_equal(y, activation.prelu(x, weight)[0])
                dx, dweight = native.prelu_backward(dy, cache)
                numpy.testing.assert_array_equal(dx, activation.prelu_backward(dy, cache)[0])
                allowed = 2 * numpy.sqrt(x.size / slopes) * numpy.finfo(dtype).eps * abs(exact).max()
                numpy.testing.assert_allclose(dweight, exact, rtol=0, atol=allowed)
                numpy.testing.assert_array_equal(native.prelu_backward(dy, cache)[1], dweight)
                alone = native.prelu_backward(dy, cache, wanted=(False, True))
                assert alone[0] is None
                numpy.testing.assert_array_equal(alone[1], dweight)
        finally:
            dl.set_num_threads(before)


class TestSettings:
    """The wrappers of activations are made from a list; their settings are those of the formulas."""

    def test_signatures_are_the_formulas(self):
        assert len(ACTIVATIONS) >= 9
        for op in ACTIVATIONS:
            wanted = inspect.signature(getattr(activation, op)).parameters.values()
            own = inspect.signature(getattr(native, op)).parameters.values()
            assert [(p.name, p.default) for p in own] == [(p.name, p.default) for p in wanted]

    @pytest.mark.parametrize("op", [op for op in ACTIVATIONS if op != "gelu"])
    def test_by_place_by_name_and_by_default(self, op, random):
        x, dy = random.normal(size=(2, 7))
        names = {p.name: p.default for p in inspect.signature(getattr(activation, op)).parameters.values()}
        del names["x"]
        doubled = {name: 2 * default for name, default in names.items()}
        for arguments, named in (((), {}), (tuple(doubled.values()), {}), ((), doubled)):
            y, cache = getattr(native, op)(x, *arguments, **named)
            expected, expected_cache = getattr(activation, op)(x, *arguments, **named)
            numpy.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-15)
            assert cache[1:] == expected_cache[1:]
            dx = getattr(activation, f"{op}_backward")(dy, expected_cache)
            numpy.testing.assert_allclose(getattr(native, f"{op}_backward")(dy, cache), dx, rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("op", ACTIVATIONS)
    def test_other_arguments_are_refused(self, op):
        x = numpy.ones(3)
        for arguments, named in ((), {"unknown": 1}), ((1, 2, 3), {}):
            with pytest.raises(TypeError, match=rf"({op}|activation)\(\) "):
                getattr(native, op)(x, *arguments, **named)

    def test_a_setting_out_of_range_is_the_formulas_to_refuse(self):
        for engine in (native, formulas):
            with pytest.raises(minidl.errors.ParameterError, match="beta"):
                engine.softplus(numpy.ones(3), beta=-1.0)


class TestFallback:
    """What a kernel does not take goes to the formula, and gives just what the formula gives."""

    @pytest.mark.parametrize("op", ACTIVATIONS)
    def test_other_precisions(self, op, random):
        x = random.normal(size=(3, 4)).astype(numpy.float16)
        y, cache = getattr(native, op)(x)
        assert y.dtype == numpy.float16
        numpy.testing.assert_array_equal(y, getattr(formulas, op)(x)[0])
        dx = getattr(native, f"{op}_backward")(x, cache)
        numpy.testing.assert_array_equal(dx, getattr(formulas, f"{op}_backward")(x, cache))

    def test_byte_order(self, random):
        x = random.normal(size=5).astype(">f4")
        numpy.testing.assert_allclose(native.tanh(x)[0].astype("f4"), numpy.tanh(x.astype("f4")), rtol=1e-6)

    @pytest.mark.parametrize(
        ("op", "arguments"),
        [
            ("relu", (numpy.arange(3),)),
            ("tanh", ([1.0],)),
            ("linear", (numpy.ones((2, 3)), numpy.ones((4, 5)))),
            ("linear", (numpy.ones((2, 3)), numpy.ones(3))),
            ("linear", (numpy.ones((2, 3)), numpy.ones((4, 3)), numpy.ones(3))),
            ("matmul", (numpy.ones((2, 3)), numpy.ones((2, 3)))),
            ("softmax", (numpy.ones((2, 0)),)),
            ("mse_loss", (numpy.ones(3), numpy.ones(4))),
            ("mse_loss", (numpy.ones((3, 1)), numpy.ones((1, 3)))),
            ("cross_entropy", (numpy.ones((2, 3)), numpy.array([0, 3]))),
            ("cross_entropy", (numpy.ones((2, 3)), numpy.array([0, 1, 2]))),
            ("softplus", (numpy.ones(3), -1.0)),
        ],
    )
    def test_errors_are_the_formulas(self, op, arguments):
        raised = []
        for engine in (native, formulas):
            with pytest.raises(dl.MinidlError) as caught:
                getattr(engine, op)(*arguments)
            raised.append((type(caught.value), str(caught.value)))
        assert raised[0] == raised[1]


class TestNorm:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("size", [1, 7, 64, 1000, 200_003])
    def test_is_numpys(self, size, dtype, random):
        x = random.normal(size=size).astype(dtype)
        assert native.norm(x) == pytest.approx(numpy.linalg.norm(x.astype("float64")), rel=1e-14)
        assert native.norm(x, 1.0) == formulas.norm(x, 1.0)
        assert native.norm(x[::-1]) == pytest.approx(native.norm(x), rel=1e-6)

    def test_where_squares_leave_the_range(self):
        for dtype, sizes in (("float32", (1e-40, 1e-30, 1e30)), ("float64", (1e-200, 1e200))):
            for size in sizes:
                x = numpy.full(4, size, dtype=dtype)
                assert native.norm(x) == pytest.approx(2 * float(x[0]), rel=1e-6)
        assert native.norm(numpy.zeros(3)) == 0
        assert native.norm(numpy.array([1.0, numpy.inf])) == numpy.inf
        assert numpy.isnan(native.norm(numpy.array([1.0, numpy.nan])))

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("size", [0, 1, 7, 4096, 200_003])
    @pytest.mark.parametrize("factor", [0.3, numpy.nan])
    def test_rescaling_is_numpys_product(self, size, factor, dtype, random):
        x = random.normal(size=2 * size).astype(dtype)
        expected = x.copy()
        for part in (slice(size), slice(None, None, 2)):  # dense, and with gaps
            expected[part] *= factor
            native.rescale(x[part], factor)
            numpy.testing.assert_array_equal(x, expected)


class TestThreads:
    @pytest.fixture(autouse=True)
    def _restore(self):
        before = dl.get_num_threads()
        yield
        dl.set_num_threads(before)

    @pytest.mark.parametrize("threads", [1, 2, 3, 7])
    def test_the_same_number_gives_the_same_bits(self, threads, random):
        dl.set_num_threads(threads)
        x, w = random.normal(size=(300, 200)).astype("float32"), random.normal(size=(150, 200)).astype("float32")
        big = random.normal(size=300_000).astype("float32")
        for _ in range(3):
            numpy.testing.assert_array_equal(native.linear(x, w)[0], native.linear(x, w)[0])
            assert native.mse_loss(big, -big)[0] == native.mse_loss(big, -big)[0]

    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_elementwise_results_do_not_depend_on_it(self, threads, random):
        x = random.normal(size=1_000_003).astype("float32")
        dl.set_num_threads(1)
        expected = native.gelu(x)[0]
        dl.set_num_threads(threads)
        numpy.testing.assert_allclose(native.gelu(x)[0], expected, rtol=1e-6)

    def test_the_engine_says_how_many(self):
        dl.set_num_threads(3)
        assert dl.get_num_threads() == 3
        assert "3 threads" in str(dl.engines()["native"])

    def test_wrong_numbers(self):
        for wrong in (0, -1, 1.5, True, "2"):
            with pytest.raises(dl.errors.ParameterError, match="positive integer"):
                dl.set_num_threads(wrong)

    def test_several_python_threads_at_once(self, random):
        x, w = random.normal(size=(200, 128)).astype("float32"), random.normal(size=(64, 128)).astype("float32")
        expected = native.linear(x, w)[0]
        wrong = []

        def work():
            for _ in range(30):
                if not numpy.allclose(native.linear(x, w)[0], expected, atol=1e-4):
                    wrong.append(True)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not wrong

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_forked_child_makes_threads_of_its_own(self):
        code = """
import os, warnings, numpy, minidl as dl
warnings.simplefilter("ignore")
native = dl.engines.get("native")
dl.set_num_threads(2)
x = numpy.ones((500, 500), dtype="float32"); big = numpy.ones(1 << 20, dtype="float32")
native.linear(x, x); native.tanh(big)
child = os.fork()
if child == 0:
    same = (native.linear(x, x)[0] == 500).all() and (native.tanh(big)[0] == native.tanh(big)[0]).all()
    os._exit(10 + dl.get_num_threads() if same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        assert run(code) == "12"

    @pytest.mark.skipif(
        not hasattr(os, "sched_getaffinity"), reason="this system does not say which processors a thread may use"
    )
    @pytest.mark.parametrize("pinned", [False, True])
    def test_a_worker_that_was_woken_may_use_all_processors(self, pinned):
        code = f"""
import os, pathlib, time, numpy, minidl as dl
everywhere = os.sched_getaffinity(0)
native = dl.engines.get("native")
dl.set_num_threads(2)
x = numpy.ones((300, 300), dtype="float32")
native.linear(x, x)
others = [int(thread) for thread in os.listdir("/proc/self/task") if int(thread) != os.getpid()]
if {pinned}:
    os.sched_setaffinity(0, [min(everywhere)])  # the caller alone
for _ in range(30):
    time.sleep(0.002)  # the worker goes to sleep
    assert (native.linear(x, x)[0] == 300).all()
for _ in range(500):
    if all(os.sched_getaffinity(thread) == everywhere for thread in others):
        break
    time.sleep(0.01)
print(len(others) > 0 and all(os.sched_getaffinity(thread) == everywhere for thread in others))
"""
        assert run(code) == "True"

    def test_without_the_interpreters_lock_the_formulas_compute(self):
        code = """
import sys
sys._is_gil_enabled = lambda: False  # as PYTHON_GIL=0 has it on free-threaded Python
import numpy, minidl as dl
assert (dl.ops.relu(numpy.array([-1.0, 2.0]))[0] == [0, 2]).all()
print(dl.engines.current().name, dl.engines()["native"])
"""
        assert run(code).startswith("numpy native: not available, it needs the GIL")

    @pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this is not a free-threaded Python")
    def test_free_threaded_python_switches_its_lock_on(self):
        code = "import sys, warnings; warnings.simplefilter('ignore'); import minidl; print(sys._is_gil_enabled())"
        assert run(code) == "True"

    def test_the_environment_decides_the_start(self):
        code = "import minidl; print(minidl.get_num_threads())"
        assert run(code, OMP_NUM_THREADS="1") == "1"


class TestInstructionSets:
    CODE = """
import numpy, minidl as dl
from minidl.testing import SPECS, agreement
native = dl.engines.get("native")
for spec in SPECS.values():
    for case in (*spec.cases, spec.sized("odd"), *[spec.sized("large")] * spec.elementwise):
        for dtype in ("float32", "float64"):
            for row in agreement(native, spec, case, dtype):
                assert row.ok, row
print(dl.engines.native.info()["kernels"])
"""

    @pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
    def test_each_can_be_forced(self, isa):
        assert run_on(isa, self.CODE) in (isa, "neon")

    def test_an_unknown_one_is_named(self):
        reason = run("import minidl; print(minidl.engines()['native'])", MINIDL_ISA="mmx")
        assert "not available" in reason
        assert "MINIDL_ISA" in reason
        assert "compiler" not in reason


class TestMemory:
    @pytest.fixture(autouse=True)
    def _one_thread(self):  # with more, how many packing buffers are in use at a time is a matter of luck
        before = dl.get_num_threads()
        dl.set_num_threads(1)
        yield
        dl.set_num_threads(before)

    def test_a_training_step_asks_nothing_of_the_system_after_the_first(self, random):
        model = dl.Sequential(dl.Linear(784, 512), dl.ReLU(), dl.Linear(512, 256), dl.GELU(), dl.Linear(256, 10))
        loss, optimizer = dl.CrossEntropyLoss(), dl.Adam(model.parameters())
        x, y = random.normal(size=(256, 784)).astype("float32"), random.integers(0, 10, 256)

        def step():
            loss.forward(model.forward(x), y)
            model.backward(loss.backward())
            optimizer.step()
            optimizer.zero_grad()

        with dl.use("native"):
            for _ in range(3):
                step()
            before = engines.native.info()["memory"]["from_system"]
            for _ in range(5):
                step()
            assert engines.native.info()["memory"]["from_system"] == before

    def test_what_waits_can_be_given_back(self, random):
        x = random.normal(size=1 << 20).astype("float32")
        native.relu(x)
        assert engines.native.info()["memory"]["waiting"] > 0
        engines.native.set_memory_limit(0)
        assert engines.native.info()["memory"]["waiting"] == 0
        native.relu(x)
        assert engines.native.info()["memory"]["waiting"] == 0
        engines.native.set_memory_limit(1 << 30)

    def test_arrays_from_the_pool_are_ordinary(self, random):
        y = native.relu(random.normal(size=(300, 400)))[0]
        y.resize((400, 300), refcheck=False)
        assert numpy.concatenate([y, y]).shape == (800, 300)
        assert y.flags.owndata
