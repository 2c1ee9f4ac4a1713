"""Inference keeps nothing for a backward, changes no mode, and takes no more memory than what passes between two layers."""

import threading
import tracemalloc

import numpy
import pytest
from blocks import Trunk

import minidl as dl
from minidl.errors import OrderError

LAYERS = [
    (dl.Linear(4, 3), (2, 4)),
    (dl.Dense(3, activation="gelu"), (2, 4)),
    (dl.ReLU(), (2, 4)),
    (dl.Softmax(), (2, 4)),
    (dl.Dropout(0.5), (2, 4)),
    (dl.LayerNorm(4), (2, 4)),
    (dl.RMSNorm(4), (2, 4)),
    (dl.GroupNorm(2, 4), (2, 4)),
    (dl.BatchNorm1d(4), (3, 4)),
    (dl.Conv2d(2, 3, 3), (2, 2, 6, 6)),
    (dl.ConvTranspose2d(2, 3, 3), (2, 2, 6, 6)),
    (dl.MaxPool2d(2), (2, 2, 6, 6)),
    (dl.GlobalAvgPool2d(), (2, 2, 6, 6)),
    (dl.ZeroPad2d(1), (2, 2, 6, 6)),
    (dl.Upsample(scale_factor=2), (2, 2, 6, 6)),
    (dl.Flatten(), (2, 2, 6, 6)),
    (dl.Parallel(dl.ReLU(), dl.Tanh()), (2, 4)),
    (dl.Residual(dl.Linear(4, 4)), (2, 4)),
    (dl.Sequential(dl.Linear(4, 4), dl.ReLU(), dl.Linear(4, 2), dl.Tanh()), (2, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_no_layer_keeps_a_cache(layer, shape, host_engine):
    x = numpy.random.default_rng(0).normal(size=shape).astype("float32")
    with dl.use(host_engine), dl.inference():
        y = layer.forward(x)
        caches = [inner._cache for _, inner in layer.named_layers()]
    assert caches == [None] * len(caches)
    with pytest.raises(OrderError, match=r"outside dl\.inference\(\)"):
        layer.backward(numpy.ones_like(y))


def test_backward_goes_back_through_the_last_forward_that_was_kept():
    model = dl.Sequential(dl.Linear(4, 4), dl.ReLU(), dl.Linear(4, 2))
    random = numpy.random.default_rng(0)
    x, dy = random.normal(size=(3, 4)).astype("float32"), random.normal(size=(3, 2)).astype("float32")
    model.forward(x)
    expected = model.backward(dy)
    model.forward(x)
    with dl.inference():
        model.forward(2 * x[:2])
    numpy.testing.assert_array_equal(model.backward(dy), expected)


def test_as_a_decorator_and_nested():
    layer = dl.ReLU()

    @dl.inference()
    def predict(x):
        with dl.inference(evaluate=True):
            assert not layer.training
        assert layer.training
        return layer.forward(x)

    predict(numpy.ones(3))
    assert layer._cache is None
    layer.forward(numpy.ones(3))
    assert layer._cache is not None


def test_the_mode_is_the_blocks_and_not_the_layers():
    model = dl.Sequential(dl.Linear(4, 4), dl.Dropout(0.9), dl.BatchNorm1d(4))
    model[1].eval()
    x = numpy.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    before = model[2].running_mean.copy()
    with dl.inference(evaluate=True):
        assert not model.training
        one, other = model.forward(x), model.forward(x)
    numpy.testing.assert_array_equal(one, other)
    numpy.testing.assert_array_equal(model[2].running_mean, before)
    assert model.training
    assert not model[1].training
    assert model[2].training
    with dl.inference():  # a forward that is not kept may still be one of training
        model.forward(x)
    assert (model[2].running_mean != before).any()


def test_several_threads_infer_with_one_model_while_it_trains():
    model = dl.Sequential(dl.Linear(6, 16), dl.BatchNorm1d(16), dl.Dropout(0.5), dl.Tanh(), dl.Linear(16, 3))
    model.forward(numpy.random.default_rng(0).normal(size=(64, 6)).astype("float32"))
    inputs = [numpy.random.default_rng(i).normal(size=(5 + i, 6)).astype("float32") for i in range(4)]
    with dl.inference(evaluate=True):
        expected = [model.forward(x) for x in inputs]
    wrong = []

    def ask(x, y):
        for _ in range(100):
            with dl.inference(evaluate=True):
                wrong.append(not numpy.array_equal(model.forward(x), y))

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    assert all(model.training for _ in range(100))
    for thread in threads:
        thread.join()
    assert len(wrong) == 400
    assert not any(wrong)


def test_memory_is_what_passes_between_two_layers(host_engine):
    """24 blocks whose caches would be 24 times as large as what passes."""
    width, rows, depth = 64, 4096, 12
    with dl.use("numpy"):
        model = dl.Sequential([Trunk(depth, width)])
        x = numpy.zeros((rows, width), dtype="float32")
        model.forward(x[:1])
    weights = sum(p.value.nbytes for p in model.parameters())
    peaks = {}
    for name, context in (("inference", dl.inference), ("training", lambda: dl.use("numpy"))):
        with dl.use("numpy"), context():
            tracemalloc.start()
            model.forward(x)
            peaks[name] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        for _, layer in model.named_layers():
            layer._cache = None
    widest = 2 * x.nbytes  # the hidden layer of an mlp
    assert weights < widest
    assert peaks["inference"] < 5 * widest
    assert peaks["training"] > depth * widest


def test_a_model_that_only_predicts_has_no_gradients():
    model = dl.Sequential(dl.Linear(4, 4), dl.ReLU(), Trunk(1), dl.Linear(4, 2))
    with dl.inference(evaluate=True):
        model.forward(numpy.ones((3, 4), dtype="float32"))
    assert [buffer._gradients for buffer in model.flat_buffers()] == [None]
    model.forward(numpy.ones((3, 4), dtype="float32"))
    assert [buffer._gradients for buffer in model.flat_buffers()] == [None]
    model.backward(numpy.ones((3, 2), dtype="float32"))
    assert model.flat_buffers()[0]._gradients is not None
