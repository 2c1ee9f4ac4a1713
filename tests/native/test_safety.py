"""What once read or wrote outside of an array: as calls, each beside what it must do. The fuzzer found some, reading the others.

Under AddressSanitizer (.ci/sanitize) every one of them was a report; without it most were a crash.
"""

import contextlib
import threading

import numpy
import pytest
from fresh_python import run

from minidl import engines, ops
from minidl.errors import ParameterError, TargetError
from minidl.testing import SPECS

if not engines.engines()["native"].available:
    pytest.skip("the native engine is missing", allow_module_level=True)
native = engines.get("native")


def ones(*shape, dtype="float32"):
    return numpy.ones(shape, dtype)


class TestMoreThan32Axes:
    @pytest.mark.parametrize("axes", [31, 32, 33, 38, 63, 64])
    def test_matmul(self, axes):
        a = ones(*(1,) * (axes - 2), 2, 3)
        y, cache = native.matmul(a, a, transpose_b=True)
        assert y.shape == (*(1,) * (axes - 2), 2, 2)
        assert (y == 3).all()
        assert [g.shape for g in native.matmul_backward(y, cache)] == [a.shape, a.shape]

    @pytest.mark.parametrize("axes", [31, 32, 33, 38, 63, 64])
    def test_linear(self, axes):
        x = ones(*(1,) * (axes - 2), 2, 3)
        y, cache = native.linear_activation(x, ones(4, 3), ones(4), "gelu")
        assert y.shape == (*(1,) * (axes - 2), 2, 4)
        assert native.linear_activation_backward(y, cache, "gelu")[0].shape == x.shape

    @pytest.mark.parametrize("mode", ["constant", "reflect"])
    @pytest.mark.parametrize("axes", [31, 32, 33, 38, 63, 64])
    def test_pad(self, axes, mode):
        x = ones(*(1,) * (axes - 2), 2, 2)
        y, cache = native.pad(x, (1, 1, 1, 1), mode)
        assert y.shape == (*(1,) * (axes - 2), 4, 4)
        assert native.pad_backward(y, cache).sum() == (4 if mode == "constant" else 16)

    @pytest.mark.parametrize("name", ["relu", "softmax", "layer_norm", "batch_norm", "mse_loss", "dropout"])
    def test_the_rest(self, name):
        shape = (*(1,) * 60, 2, 3)
        x = numpy.arange(6, dtype="float32").reshape(shape)
        more = {"layer_norm": ((2, 3),), "mse_loss": (x * 0,), "dropout": (0.5, x > 2)}.get(name, ())
        for engine in (native, engines.get("numpy")):
            y, cache = getattr(engine, name)(x, *more)
            found = getattr(engine, name + "_backward")(1.0 if name == "mse_loss" else y, cache)
            assert (found[0] if isinstance(found, tuple) else found).shape == shape

    def test_batches_broadcast_in_the_formula(self):
        a, b = ones(*(1,) * 40, 3, 2, 2), ones(4, 1, 2, 2)
        assert native.matmul(a, b)[0].shape == (*(1,) * 39, 4, 3, 2, 2)


class TestChangedMeanwhile:
    def test_labels(self):
        """Wrong numbers or an error are fair, a crash is not."""
        code = """
            import threading, time, numpy
            from minidl import MinidlError, engines
            native = engines.get("native")
            x, labels, over = numpy.zeros((20000, 50), "float32"), numpy.zeros(20000, "int64"), []
            def refill():
                while not over:
                    labels[-100:] = 2**40
                    labels[-100:] = 0
            thread = threading.Thread(target=refill)
            thread.start()
            end, errors = time.time() + 2, 0
            while time.time() < end:
                try:
                    native.cross_entropy(x, labels)
                except MinidlError:
                    errors += 1
            over.append(1)
            thread.join()
        """
        run("\n".join(line[12:] for line in code.splitlines()))

    @pytest.mark.parametrize("wrong", [-1, 3, 2**40, -(2**63)])
    def test_wrong_labels_are_named(self, wrong):
        labels = numpy.array([0, 1, wrong, -100])
        with pytest.raises(TargetError, match=f"target {wrong} at index"):
            native.cross_entropy(ones(4, 3), labels)

    @pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "prelu"])
    def test_number_of_threads(self, name):
        rng = numpy.random.default_rng(0)
        x, weight = rng.standard_normal((512, 256)).astype("float32"), ones(256)
        y, cache = native.prelu(x, weight) if name == "prelu" else getattr(native, name)(x, 256, weight)
        expected = getattr(native, name + "_backward")(y, cache)
        before, over = engines.get_num_threads(), threading.Event()

        def turn():
            while not over.is_set():
                engines.set_num_threads(1)
                engines.set_num_threads(200)

        thread = threading.Thread(target=turn)
        thread.start()
        try:
            for _ in range(200):
                for one, other in zip(getattr(native, name + "_backward")(y, cache), expected, strict=True):
                    if other is not None:
                        numpy.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
        finally:
            over.set()
            thread.join()
            engines.set_num_threads(before)

    def test_winners_of_a_maximum(self):
        x = ones(1, 1, 5, 5)
        y, cache = native.max_pool2d(x, 3, 1, 1)
        cache[0][...] = 0  # which is outside the image for the first windows
        assert native.max_pool2d_backward(ones(*y.shape), cache).shape == x.shape
        cache[0][...] = 200
        assert not native.max_pool2d_backward(ones(*y.shape), cache).any()


class TestSizes:
    def test_stride_beyond_the_image(self):
        x, weight = ones(1, 1, 5, 5), ones(1, 1, 3, 3)
        for stride in (7, 100_000, 2**31 - 1, 2**31, 2**40, 2**62):
            y, cache = native.conv2d(x, weight, None, stride)
            dx, dweight, _ = native.conv2d_backward(ones(*y.shape), cache)
            expected = numpy.pad(ones(3, 3), ((0, 2), (0, 2)))
            numpy.testing.assert_array_equal(dx[0, 0], expected)
            numpy.testing.assert_array_equal(dweight, weight)

    @pytest.mark.parametrize("stride", [1, 2, 3, 5, 8, 100])
    @pytest.mark.parametrize("dilation", [1, 2, 7])
    @pytest.mark.parametrize("padding", [0, 1, 9])
    def test_classes_without_taps(self, stride, padding, dilation):
        rng = numpy.random.default_rng(0)
        x, weight = (rng.standard_normal(shape).astype("float32") for shape in ((2, 3, 17), (4, 3, 3)))
        y, cache = native.conv1d(x, weight, None, stride, padding, dilation)
        dy = rng.standard_normal(y.shape).astype("float32")
        y_true, cache_true = ops.FORMULAS["conv1d"](x, weight, None, stride, padding, dilation)
        found = native.conv1d_backward(dy, cache)[:2]
        for one, other in zip((y, *found), (y_true, *ops.FORMULAS["conv1d_backward"](dy, cache_true)[:2]), strict=True):
            numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("large", [2**40, 2**61, 2**62])
    def test_products_of_sizes_beyond_64_bits(self, large):
        """The padded image has more elements than a size can count, so there is no memory for it, here or in the formula."""
        with pytest.raises((MemoryError, ValueError)):
            native.conv2d(ones(1, 1, 5, 5), ones(1, 1, 3, 3), None, 1, large, large)

    def test_empty_rows(self):
        """2^60 rows of nothing are nothing to do."""
        y = numpy.zeros((2**60, 0), "float32")
        for name in ("softmax_backward", "log_softmax_backward"):
            with contextlib.suppress(MemoryError, ValueError):  # the formula keeps a sum of each row
                assert getattr(native, name)(y, (y, -1)).shape == y.shape

    def test_kernel_whose_area_is_beyond_64_bits(self):
        with pytest.raises((OverflowError, MemoryError, ValueError)):
            native.max_pool2d(ones(1, 1, 5, 5), 2**33, 1, 2**32)


class TestWhatIsHandedIn:
    @pytest.mark.parametrize(("name", "states"), [("adagrad_update", 1), ("rmsprop_update", 3), ("adam_update", 3)])
    def test_states_left_out(self, name, states):
        more = {} if name == "rmsprop_update" else {"step": 1}
        with pytest.raises(TypeError):
            getattr(native, name)(ones(9), ones(9), *[None] * states, lr=0.1, **more)

    def test_generator_that_gives_too_few(self):
        class Few(numpy.random.Generator):
            def random(self, *args, **kwargs):
                return numpy.zeros(1, "float32")

        with pytest.raises(TypeError, match="gave no float32 array"):
            native.dropout(ones(100_000), 0.5, Few(numpy.random.MT19937(0)))

    @pytest.mark.parametrize("settings", [(1, 2, 3), (1.0,) * 50])
    @pytest.mark.parametrize("activation", ["relu", "elu", "gelu", "softplus"])
    def test_more_settings_than_there_are(self, activation, settings):
        with pytest.raises(TypeError):
            native.linear_activation(ones(2, 3), ones(4, 3), None, activation, settings)
        with pytest.raises(TypeError):
            native.conv_affine("conv1d", ones(1, 3, 8), ones(4, 3, 3), (), None, None, activation, settings)

    def test_cache_of_other_shapes(self):
        x, weight = ones(1, 2, 6, 6), ones(3, 2, 3, 3)
        y, cache = native.conv2d(x, weight)
        with pytest.raises((ValueError, ParameterError)):
            native.conv2d_backward(y, (x, weight.reshape(3, 18, 1, 1), *cache[2:]))

    def test_gemm_of_an_unknown_activation(self):
        gemm = pytest.importorskip("minidl._native").gemm
        for more in ({"activation": 99}, {"derivative": -1}):
            with pytest.raises(ValueError, match="knows no activation"):
                gemm(1, ones(3, 3), ones(3, 3), 0, ones(3, 3), **more)


class TestSharedMemory:
    """The formulas write when all is computed; a kernel that writes as it goes must leave such arrays to them."""

    @pytest.mark.parametrize("offset", [0, 1, 7, 99])
    @pytest.mark.parametrize("name", ["sgd_update", "adagrad_update", "adam_update"])
    def test_updates(self, name, offset):
        results = []
        for function in (getattr(native, name), ops.FORMULAS[name]):
            buffer = numpy.random.default_rng(0).random(400)
            value, grad = buffer[100:200], buffer[100 - offset : 200 - offset]
            states = [buffer[200:300], buffer[300:], None][
                : {"sgd_update": 1, "adagrad_update": 1, "adam_update": 3}[name]
            ]
            more = {"momentum": 0.5} if name == "sgd_update" else {"step": 1}
            function(value, grad, *states, lr=0.1, **more)
            results.append(buffer)
        numpy.testing.assert_allclose(*results, rtol=1e-12)

    @pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d", "batch_norm", "layer_norm", "group_norm"])
    def test_gradients_over_what_they_are_made_of(self, name):
        spec = SPECS[name]
        for add in (False, True):
            results = []
            for engine in (native, engines.get("numpy")):
                arguments = [a.copy() if isinstance(a, numpy.ndarray) else a for a in spec.arguments(spec.cases[0])]
                places = [i for i, a in enumerate(arguments) if isinstance(a, numpy.ndarray)]
                y, cache = getattr(engine, name)(*arguments)
                weight, bias = (arguments[i] for i in places[1:3])
                gradients = getattr(engine, name + "_backward")(y.copy(), cache, (weight, bias), add)
                results.append([*gradients, weight, bias])
            for one, other in zip(*results, strict=True):
                numpy.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)

    def test_one_array_for_two_gradients(self):
        x, weight = numpy.random.default_rng(0).standard_normal((2, 6, 4)), numpy.ones(4)
        results = []
        for engine in (native, engines.get("numpy")):
            both = numpy.zeros(4)
            y, cache = engine.layer_norm(x, 4, weight, weight)
            engine.layer_norm_backward(y, cache, (both, both))
            results.append(both)
        numpy.testing.assert_allclose(*results, rtol=1e-9)
