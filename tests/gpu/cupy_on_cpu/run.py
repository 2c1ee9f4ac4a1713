"""Run parts of the rung "the real CuPy over emulation" in a Python of their own, and print what came out as lines of JSON.

    python run.py PART PLACE PLACES     # PART: catalogue, layers, training, engine; the PLACE-th of PLACES equal shares

It is a process of its own because the driver must be replaced before CuPy is imported. tests/gpu/test_cupy_on_cpu.py starts it.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "helpers")]

import driver  # noqa: E402

driver.install()

import device_cases  # noqa: E402
import numpy  # noqa: E402

import minidl as dl  # noqa: E402
from minidl import engines  # noqa: E402
from minidl.engines import cupy as cupy_engine  # noqa: E402
from minidl.testing import SPECS, UPDATES, agreement, update_agreement  # noqa: E402

CASES = {}
"""What there is to run: part -> name -> function, which raises an error or returns numbers to report."""


def case(part, name=""):
    def add(function):
        CASES.setdefault(part, {})[name or function.__name__] = function
        return function

    return add


def _engine(device=0):
    return engines.get(f"cupy:{device}" if device else "cupy")


def _check(rows):
    for row in rows:
        assert row.ok, row.sentence()


def _of_catalogue(spec):
    def run():
        engine = _engine()
        for each in spec.cases[:2]:
            _check(agreement(engine, spec, each, "float32"))
        _check(agreement(engine, spec, spec.sized("odd"), "float32"))
        _check(agreement(engine, spec, spec.cases[0], "float64"))

    return run


def _of_updates(spec):
    def run():
        for each in spec.cases:
            _check(update_agreement(getattr(_engine(), spec.name), spec, each, "float32", 33, _engine()))

    return run


for _spec in SPECS.values():
    case("catalogue", _spec.name)(_of_catalogue(_spec))
for _spec in UPDATES.values():
    case("catalogue", _spec.name)(_of_updates(_spec))


def _of_layers(make, given):
    def run():
        found = device_cases.run_layer(_engine(), make, given)
        device_cases.check_alike(found, device_cases.run_layer("numpy", make, given), rtol=1e-4, atol=1e-5)

    return run


def _of_losses(make, prediction, target):
    def run():
        found = device_cases.run_loss(_engine(), make, prediction, target)
        device_cases.check_alike(found, device_cases.run_loss("numpy", make, prediction, target), rtol=1e-4, atol=1e-5)

    return run


for _name, (_make, _given) in (device_cases.LAYERS | device_cases.MODELS).items():
    if _name != "mobilenet":  # 50 layers of kinds that are here already
        case("layers", _name)(_of_layers(_make, _given))
for _name, _parts in device_cases.LOSSES.items():
    case("layers", _name)(_of_losses(*_parts))


def _of_training(train):
    def run():
        history, arrays, results = train(_engine())
        expected, true_arrays, true_results = train("numpy")
        for name, numbers in expected.items():
            numpy.testing.assert_allclose(history[name], numbers, rtol=1e-3, err_msg=name)
        device_cases.check_alike(arrays, true_arrays, rtol=2e-3, atol=5e-4)
        device_cases.check_alike(results, true_results, rtol=2e-3, atol=5e-4)
        return {"loss": history["loss"], "on the host": expected["loss"]}

    return run


for _name, _train in device_cases.TRAINING.items():
    case("training", _name)(_of_training(_train))


def _must_refuse(run, words, kind=dl.errors.EngineError):
    try:
        run()
    except kind as error:
        if words in str(error):
            return
        raise
    raise AssertionError(f"this should have been refused: {words}")


@case("engine")
def status_says_what_computes():
    status = engines.engines()
    assert status["cupy"].available, status["cupy"]
    assert "a CPU, by emulation" in status["cupy"].reason
    assert set(status) >= {"cupy", "cupy:1"}
    _must_refuse(lambda: dl.use("cupy:7"), "there is no GPU 7: cupy sees 2")


@case("engine")
def the_second_device():
    with dl.use("cupy:1") as engine:
        layer = dl.Linear(3, 2)
        assert layer.weight.value.device.id == engine.zeros((1,)).device.id == 1
        with dl.use("cupy"):
            assert dl.Linear(3, 2).weight.value.device.id == 0
        model = dl.Sequential([dl.Linear(4, 3), dl.ReLU(), dl.Linear(3, 1)])
        assert model.parameters()[0].value.device.id == 1


@case("engine")
def mixtures_are_refused():
    with dl.use("cupy") as engine:
        layer, x = dl.Linear(3, 2), numpy.ones((2, 3), "float32")
        _must_refuse(lambda: layer.forward(x), "the input is on the host")
        _must_refuse(lambda: dl.ops.relu(x), "on the host (NumPy)")
        assert layer.forward(engine.asarray(x)).shape == (2, 2)


@case("engine")
def a_model_moves_with_its_optimiser():
    ends = []
    for places in (["numpy"] * 3, ["numpy", "cupy", "numpy"]):
        with dl.use("numpy"):
            dl.seed(0)
            model = dl.Sequential([dl.Linear(4, 3, bias=False), dl.BatchNorm1d(3), dl.Linear(3, 1)])
            optimizer, loss = dl.Adam(model.parameters(), lr=0.1), dl.MSELoss()
        for place in places:
            with dl.use(place) as engine:
                model.to(place)
                for _ in range(2):
                    x, y = engine.asarray(device_cases.draw(6, 4)), engine.asarray(device_cases.draw(6, 1, seed=1))
                    loss.forward(model.forward(x), y)
                    model.backward(loss.backward())
                    optimizer.step()
                    optimizer.zero_grad()
        ends.append(list(model.state_dict().values()))
    device_cases.check_alike(*ends, rtol=1e-4, atol=1e-5)


@case("engine")
def a_step_calls_nothing_that_waits():
    """As the double counts it, here in the runtime itself: the entry points that wait, in a fit of 20 steps and in one of 40."""
    from minidl.training import feed, totals

    totals.GROUP, feed.KEEP_ON_DEVICE = 4, 0
    waits = ("memcpy", "streamSynchronize", "deviceSynchronize", "eventSynchronize")
    found, moved = [], []
    with dl.use("cupy"):
        for steps in (20, 20, 40):  # the first one compiles
            dl.seed(0)
            model = dl.models.mlp(
                [4, 8, 3], "gelu", dropout=0.1
            )  # whose masks the kernel makes, as NumPy's generator would
            model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"])
            before, copied = {name: driver.calls[name] for name in waits}, dict(driver.copies)
            x, y = device_cases.draw(steps * 4, 4), device_cases.ids(steps * 4, below=3)
            model.fit(x, y, batch_size=4, callbacks=dl.training.GradientClipping(1.0), verbose=0)
            found.append({name: driver.calls[name] - count for name, count in before.items()})
            moved.append({way: count - copied.get(way, 0) for way, count in driver.copies.items()})
    assert found[1] == found[2], found
    assert moved[2]["to device"] - moved[1]["to device"] == 2 * 20, moved  # inputs and targets, once each
    assert moved[2]["to host"] - moved[1]["to host"] <= 3 * 20 / totals.GROUP, moved  # losses, weights and checks
    return found[2]


@case("engine")
def errors_that_kernels_find_are_raised():
    with dl.use("cupy") as engine:
        logits, target = engine.asarray(device_cases.draw(2, 3)), engine.asarray(numpy.array([0, 3]))
        words, kind = "is not a class; with 3 classes", dl.errors.TargetError
        _must_refuse(lambda: dl.CrossEntropyLoss().forward(logits, target), words, kind)
        model = dl.models.mlp([4, 3])
        model.compile("sgd", _Shifted())
        x, y = device_cases.draw(40, 4), device_cases.ids(40, below=3)
        _must_refuse(lambda: model.fit(x, y, batch_size=4), words, kind)


class _Shifted(dl.CrossEntropyLoss):
    """Targets that only the device sees."""

    def forward(self, prediction, target, sample_weight=None):
        return super().forward(prediction, target + 2, sample_weight)


@case("engine")
def dropout_draws_on_the_device():
    with dl.use("cupy") as engine:
        x = engine.asarray(numpy.ones((100, 20), "float32"))
        first, again = (dl.Dropout(0.3, generator=numpy.random.default_rng(0)).forward(x) for _ in range(2))
        numpy.testing.assert_array_equal(first.get(), again.get())
        assert abs(float((first == 0).mean()) - 0.3) < 0.04
        kept = numpy.random.default_rng(0).random((100, 20), dtype="float32") >= 0.3
        numpy.testing.assert_array_equal(first.get() != 0, kept)  # as on the host


@case("engine")
def clipping_stays_on_the_device():
    with dl.use("cupy") as engine:
        parameter = dl.Parameter(engine.asarray(numpy.zeros(2, "float32")))
        optimizer = dl.SGD([parameter], lr=1.0)
        parameter.grad[...] = engine.asarray(numpy.array([3.0, 4.0], "float32"))
        assert float(optimizer.clip_grad_norm(1.0)) == 5.0
        optimizer.step()
        numpy.testing.assert_allclose(parameter.value.get(), [-0.6, -0.8], rtol=1e-5)


@case("engine")
def a_planted_error_shows():
    """So that the rows above mean something: a backward without its factor, and one that adds a little."""
    engine = _engine()
    right, spec = engine.gelu_backward, SPECS["gelu"]
    for wrong in (lambda dy, cache: dy, lambda dy, cache: right(dy, cache) * engine.xp.float32(1.0001)):
        engine.gelu_backward = wrong
        try:
            rows = agreement(engine, spec, spec.cases[0], "float32")
        finally:
            engine.gelu_backward = right
        assert not all(row.ok for row in rows)


def main(part, place, places):
    started = time.perf_counter()
    names = list(CASES[part])[place::places]
    for name in names:
        problem, told = "", None
        try:
            told = CASES[part][name]()
        except BaseException:
            problem = traceback.format_exc(limit=-6)
        print(json.dumps({"part": part, "name": name, "problem": problem, "told": told}), flush=True)
    seconds = time.perf_counter() - started
    summary = {
        "kernels": len(set(driver.launches)),
        "launches": sum(driver.launches.values()),
        "seconds": round(seconds, 1),
    }
    print(json.dumps({"part": part, "summary": summary}), flush=True)
    os._exit(0)  # CuPy's own end would free memory through what Python has taken down


if __name__ == "__main__":
    assert cupy_engine.count_devices() == driver.DEVICES
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
