"""Rung f: a real GPU. The same cases as on the double and over the emulation, and what only a device can show.

Without a GPU every test here is skipped with the reason, and the summary says "GPU: not run".
"""

import time

import device_cases
import numpy
import pytest

import minidl as dl
from minidl import engines
from minidl.engines.cupy import CupyEngine
from minidl.testing import SPECS, UPDATES, agreement, update_agreement
from minidl.testing.catalogue import check_case

pytestmark = pytest.mark.gpu_device


@pytest.fixture(scope="session")
def gpu():
    """The engine of the first GPU."""
    status = engines.engines()["cupy"]
    if not status.available:
        pytest.skip(f"GPU: not run: {status.reason}")
    return engines.get("cupy")


@pytest.fixture
def pool(gpu):
    """The memory pool of CuPy, emptied."""
    found = gpu.xp.get_default_memory_pool()
    found.free_all_blocks()
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda s: s.name)
def test_catalogue(gpu, spec, dtype, agree):
    for case in (*spec.cases, *(spec.sized(size) for size in ("empty", "one", "odd", "large"))):
        agree(agreement(gpu, spec, case, dtype))


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda s: s.name)
def test_gradients(gpu, spec):
    check_case(gpu, spec, spec.cases[0]).check()


@pytest.mark.parametrize("spec", UPDATES.values(), ids=lambda s: s.name)
def test_updates(gpu, spec, agree):
    for case in spec.cases:
        agree(update_agreement(getattr(gpu, spec.name), spec, case, "float32", 1001, gpu))


@pytest.mark.parametrize("name", device_cases.LAYERS | device_cases.MODELS)
def test_layers_and_models(gpu, name):
    make, given = (device_cases.LAYERS | device_cases.MODELS)[name]
    found, expected = (device_cases.run_layer(engine, make, given) for engine in (gpu, "numpy"))
    device_cases.check_alike(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", device_cases.LOSSES)
def test_losses(gpu, name):
    found, expected = (device_cases.run_loss(engine, *device_cases.LOSSES[name]) for engine in (gpu, "numpy"))
    device_cases.check_alike(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("train", device_cases.TRAINING.values(), ids=device_cases.TRAINING)
def test_training(gpu, train):
    (history, _, results), (expected, _, true) = train(gpu), train("numpy")
    for name, numbers in expected.items():
        numpy.testing.assert_allclose(history[name], numbers, rtol=1e-2, err_msg=name)
    device_cases.check_alike(results, true, rtol=1e-2, atol=1e-2)


def test_the_same_seed_gives_the_same_bits(gpu):
    runs = [device_cases.train_gpt(gpu) for _ in range(2)]
    for one, other in zip(runs[0][1], runs[1][1], strict=True):
        numpy.testing.assert_array_equal(one, other)


def test_kernels_and_formulas_agree_on_the_device(gpu):
    """Of a whole network, whose layers hand each other arrays as kernels leave them."""
    make, given = device_cases.MODELS["GPT2"]
    found, expected = (device_cases.run_layer(engine, make, given) for engine in (gpu, CupyEngine(kernels={})))
    device_cases.check_alike(found, expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_left_in_memory(gpu, pool):
    """Five hundred steps need no more memory than five."""
    with dl.use(gpu):
        dl.seed(0)
        model = dl.models.mlp([64, 128, 10], "gelu", dropout=0.1)
        model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"])

        def held_after(steps):
            model.fit(
                device_cases.draw(32 * steps, 64), device_cases.ids(32 * steps, below=10), batch_size=32, verbose=0
            )
            return pool.used_bytes()

        before = held_after(5)
        after = [held_after(500) for _ in range(3)]
    assert after[0] == after[-1]
    assert after[-1] - before < 1 << 22, "but for the data, which stay on the device during the fit"


def test_batches_are_copied_while_the_step_before_computes(gpu, monkeypatch):
    """Sending the batches costs little beside steps that compute for longer than a copy takes."""
    from minidl.training import feed

    x = numpy.random.default_rng(0).standard_normal((64 * 64, 1024), dtype="float32")
    y = device_cases.ids(64 * 64, below=10)
    took = {}
    with dl.use(gpu):
        for way, keep in (("kept", 1 << 40), ("sent", 0)):
            monkeypatch.setattr(feed, "KEEP_ON_DEVICE", keep)
            model = dl.models.mlp([1024, 8192, 8192, 10])
            model.compile("sgd", "sparse_categorical_crossentropy")
            model.fit(x[:128], y[:128], batch_size=64)
            gpu.synchronize()
            start = time.perf_counter()
            model.fit(x, y, batch_size=64, shuffle=False)
            gpu.synchronize()
            took[way] = time.perf_counter() - start
    assert took["sent"] < 1.5 * took["kept"], took
