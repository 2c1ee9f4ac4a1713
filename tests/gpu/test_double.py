"""Rung b: every layer, loss, optimiser, metric and model on the array double, beside the numpy engine.

The double refuses what CuPy refuses: hidden transfers, arrays of the host among those of a device, names and keywords that CuPy
lacks. tests/test_catalogue_double.py runs the catalogue on it.
"""

import copy
import json

import numpy
import pytest
from array_double import DoubleEngine, transfers
from cuda_double import first_device
from device_cases import (
    LAYERS,
    LOSSES,
    METRICS,
    MODELS,
    NUMBERS,
    OPTIMIZERS,
    TRAINING,
    as_tuple,
    check_alike,
    draw,
    ids,
    on,
    run_layer,
    run_loss,
    train_mlp,
)

import minidl as dl
from minidl import layers, models, text
from minidl.errors import DataError, EngineError, ParameterError, UnknownNameError
from minidl.ops._later import checks_later

pytestmark = pytest.mark.gpu_double

ENGINE = DoubleEngine()
SECOND = DoubleEngine(1)
EVERYTHING = LAYERS | MODELS
EACH = [pytest.param(name, marks=[pytest.mark.nightly] if name == "mobilenet" else []) for name in EVERYTHING]
NOT_LAYERS = {"Activation", "Chain", "Layer", "Loss", "Parameter", "ParameterBuffer", "TableParameter", "inference"}
ELSEWHERE = {"MaxUnpool1d", "MaxUnpool2d", "SetLoss", "StoredLinear"}
"""Layers that are called in a way of their own, below."""


@pytest.fixture(autouse=True)
def back_to_the_first_device():
    with first_device():
        yield


def test_every_layer_loss_and_optimiser_is_here():
    kinds = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    assert kinds - NOT_LAYERS == {name.split()[0] for name in LAYERS | LOSSES} - {"add"} | ELSEWHERE
    optimizers = {
        kind.__name__
        for kind in vars(dl.optim).values()
        if isinstance(kind, type) and issubclass(kind, dl.optim.Optimizer)
    }
    assert optimizers - {"Optimizer"} == {name.split()[0] for name in OPTIMIZERS}


@pytest.mark.parametrize("name", EACH)
def test_layers_and_models_compute_what_the_host_computes(name):
    make, given = EVERYTHING[name]
    check_alike(run_layer(ENGINE, make, given), run_layer("numpy", make, given))


@pytest.mark.parametrize("name", [*LAYERS, *(pytest.param(name, marks=pytest.mark.nightly) for name in MODELS)])
def test_a_step_of_a_layer_moves_nothing_and_waits_for_nothing(name):
    make, given = EVERYTHING[name]
    with dl.use(ENGINE), checks_later():
        layer = make()
        placed = on(ENGINE, given)
        for y in (as_tuple(layer.forward(*placed)) for _ in range(2)):
            dy = [ENGINE.asarray(draw(*each.shape, seed=3)) for each in y]
            layer.backward(dy[0] if len(dy) == 1 else tuple(dy))
            transfers.clear()  # the first time, tables and filters may be made
        layer.forward(*placed)
        layer.backward(dy[0] if len(dy) == 1 else tuple(dy))
    assert +transfers == {}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compute_what_the_host_computes(name):
    check_alike(run_loss(ENGINE, *LOSSES[name]), run_loss("numpy", *LOSSES[name]))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_wait_for_nothing_where_checks_come_later(name, weighted):
    make, prediction, target = LOSSES[name]
    with dl.use(ENGINE), checks_later() as checks:
        loss, placed, wanted = make(), ENGINE.asarray(prediction), on(ENGINE, target)
        if weighted and loss.several_targets:
            pytest.skip("this loss takes no weights")
        more = {"sample_weight": ENGINE.asarray(numpy.arange(1.0, 1 + len(prediction)))} if weighted else {}
        transfers.clear()
        loss.forward(placed, *wanted, **more)
        loss.backward()
        _ = loss.divisor
        assert +transfers == {}
    assert not any(bool(flag) for flag, _ in checks)
    with dl.use("numpy"):
        host = make()
        host.forward(
            prediction,
            *as_tuple(target),
            **({"sample_weight": numpy.arange(1.0, 1 + len(prediction))} if weighted else {}),
        )
    assert float(loss.divisor) == pytest.approx(host.divisor)


def test_a_check_that_comes_later_still_complains():
    with dl.use(ENGINE), checks_later() as checks:
        dl.CrossEntropyLoss().forward(ENGINE.asarray(draw(2, 3)), ENGINE.asarray(numpy.array([0, 3])))
        dl.layers.Embedding(5, 2).forward(ENGINE.asarray(numpy.array([[0, 7]])))
        flags = [(bool(flag), complain) for flag, complain in checks]
    assert [flag for flag, _ in flags] == [True, True]
    with pytest.raises(dl.errors.TargetError, match=r"target 3 at index \(1,\) is not a class"):
        flags[0][1]()
    with pytest.raises(DataError, match=r"ids\[0, 1\] is 7"):
        flags[1][1]()


def test_indices_that_are_refused_later_are_used_at_the_edges():
    """What comes out is thrown away, but nothing may be read or written outside."""
    x = ENGINE.asarray(draw(1, 1, 2))
    with checks_later() as checks:
        for wrong in ([-1, 4], [0, 3]):
            y, _ = ENGINE.max_unpool1d(x, ENGINE.asarray(numpy.array([[wrong]])), 2)
            numpy.testing.assert_array_equal(ENGINE.to_host(y)[0, 0, [0, 3]], ENGINE.to_host(x)[0, 0])
    assert [bool(flag) for flag, _ in checks] == [True, False]
    with pytest.raises(ParameterError, match="must be from 0 to 3, the last pixel of y, got -1 to 4"):
        checks[0][1]()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_factor_on_the_device_scales_the_gradient(dtype):
    value, grad = draw(3).astype(dtype), draw(3, seed=1).astype(dtype)
    placed = ENGINE.asarray(value)
    ENGINE.sgd_update(placed, ENGINE.asarray(grad), None, lr=0.5, grad_scale=ENGINE.asarray(numpy.array(0.25)))
    numpy.testing.assert_allclose(ENGINE.to_host(placed), value - 0.125 * grad, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_clip_and_step_without_waiting(name):
    ends = []
    for engine in ("numpy", ENGINE):
        with dl.use(engine) as current:
            dl.seed(0)
            model = dl.Sequential([dl.Linear(4, 3), dl.Tanh(), dl.Linear(3, 2)])
            optimizer, x = OPTIMIZERS[name](model.parameters()), current.asarray(draw(5, 4))
            dy = current.asarray(draw(5, 2, seed=1))
            for step in range(3):
                model.forward(x)
                model.backward(dy)
                if step == 1:
                    transfers.clear()
                norm = optimizer.clip_grad_norm(0.5)
                dl.optim.clip_grad_value(model.parameters(), 0.4)
                optimizer.step()
                optimizer.zero_grad()
                if step == 1:
                    assert +transfers == {}
            ends.append([numpy.asarray(float(norm)), *(current.to_host(p.value) for p in model.parameters())])
    check_alike(*ends)


def test_layers_that_are_called_in_their_own_way():
    found = []
    for engine in ("numpy", ENGINE):
        with dl.use(engine) as current:
            dl.seed(0)
            x, dy = current.asarray(draw(2, 3, 6, 4)), current.asarray(draw(2, 3, 6, 4, seed=1))
            pooled, indices = layers.MaxPool2d(2, return_indices=True).forward(x)
            unpool = layers.MaxUnpool2d(2)
            flat, places = layers.MaxPool1d(2, return_indices=True).forward(x[:, :, :, 0])
            unpool_1d = layers.MaxUnpool1d(2)
            results = [unpool.forward(pooled, indices), unpool.backward(dy)[0], unpool_1d.forward(flat, places)]
            model = dl.store_weights(dl.Sequential([dl.Linear(8, 4), dl.ReLU(), dl.Linear(4, 8)]), "int8").eval()
            results.append(model.forward(current.asarray(draw(3, 8))))
            found.append([current.to_host(result) for result in results])
    check_alike(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_metrics_of_a_classifier(activation):
    x, y = draw(60, 4), ids(60, below=3)
    _compare_fits(
        lambda: [dl.Dense(3, activation=activation, input_shape=4)], "sparse_categorical_crossentropy", METRICS, x, y
    )


def test_metrics_of_yes_and_no():
    x, y = draw(60, 4), ids(60, below=2)
    metrics = ["accuracy", "precision", "roc_auc", "binary_accuracy"]
    _compare_fits(lambda: [dl.Dense(1, input_shape=4)], "binary_crossentropy", metrics, x, y)


def test_metrics_of_numbers_and_functions():
    def largest(y_true, y_pred):
        return abs(y_true - y_pred).max()

    x, y = draw(60, 4), draw(60, 2, seed=1)
    _compare_fits(lambda: [dl.Dense(2, input_shape=4)], "mse", [*NUMBERS, largest], x, y)


def _compare_fits(parts, loss, metrics, x, y):
    histories = []
    for engine in ("numpy", ENGINE):
        with dl.use(engine):
            dl.seed(0)
            model = dl.Sequential(parts())
            model.compile("adam", loss, metrics=list(metrics))
            history = model.fit(x, y, epochs=2, batch_size=16, validation_split=0.2, seed=0).history
            evaluated = model.evaluate(x, y, batch_size=16, return_dict=True)
        histories.append({**history, **{f"end {name}": [value] for name, value in evaluated.items()}})
    assert set(histories[0]) == set(histories[1])
    for name, numbers in histories[0].items():
        assert histories[1][name] == pytest.approx(numbers, rel=1e-5), name


def test_a_metric_on_the_device_refuses_what_it_refuses_on_the_host():
    with dl.use(ENGINE):
        model = dl.Sequential([dl.Dense(1, input_shape=2)])
        model.compile("sgd", "mse", metrics=["binary_accuracy"])
        with pytest.raises(DataError, match="binary_accuracy: 4 predictions or targets are not what the metric takes"):
            model.evaluate(draw(4, 2), numpy.full((4, 1), 0.5, "float32"))


# three training runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", TRAINING.values(), ids=TRAINING)
def test_training_runs_as_on_the_host(train):
    (history, arrays, results), (expected, true_arrays, true_results) = train(ENGINE), train("numpy")
    for name, numbers in expected.items():
        assert history[name] == pytest.approx(numbers, rel=1e-4), name
    check_alike(arrays, true_arrays, rtol=1e-3, atol=1e-4)
    check_alike(results, true_results, rtol=1e-3, atol=1e-4)
    assert expected["loss"][-1] < expected["loss"][0]


def test_other_ways_to_use_language_models():
    found = []
    for engine in ("numpy", ENGINE):
        with dl.use(engine):
            dl.seed(0)
            translator = MODELS["Transformer"][0]()
            best = text.beam_search(translator, ids(2, 4, below=6), bos_id=1, eos_id=2, beam_size=2, max_length=4)
            rnn = MODELS["CharRNN"][0]()
            found.append(
                [[h.ids for h in hypotheses] if isinstance(hypotheses, list) else hypotheses.ids for hypotheses in best]
            )
            found[-1].append(text.generate(rnn, numpy.array([1, 2]), 3, temperature=0))
    for one, other in zip(*found, strict=True):
        for a, b in zip(
            one if isinstance(one, list) else [one], other if isinstance(other, list) else [other], strict=True
        ):
            numpy.testing.assert_array_equal(a, b)


def test_a_pretrained_model_is_read_to_the_device(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    settings = {"model_type": "gpt2", "vocab_size": 7, "n_positions": 12, "n_layer": 1, "n_head": 2, "n_embd": 8}
    turned = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
    tensors = {
        name: v for name, v in models.GPT2.from_settings(settings).state_dict().items() if name != "lm_head.weight"
    }
    stored = {name: numpy.ascontiguousarray(v.T if name.endswith(turned) else v) for name, v in tensors.items()}
    safetensors.save_file(stored, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    found = []
    for place in ("numpy", ENGINE):
        with dl.use(place) as engine:
            model = models.from_pretrained(tmp_path)
            found.append([engine.to_host(model.forward(engine.asarray(ids(2, 3, below=7))))])
            assert type(model.parameters()[0].value) is type(engine.zeros((1,)))
    check_alike(*found)


def test_a_language_model_goes_on_from_a_checkpoint_of_the_other_engine():
    ends = []
    for places in (("numpy", "numpy"), (ENGINE, "numpy"), ("numpy", SECOND)):
        kept = None
        for place in places:
            with dl.use(place):
                dl.seed(0)
                model = MODELS["GPT2"][0]()
                tokens = numpy.tile(numpy.arange(9), 30)
                trainer = text.Trainer(model, tokens, tokens[:40], 8, 4, 6, 1e-2)
                if kept is not None:
                    model.load_state_dict(kept[0])
                    trainer.load_state(*kept[1])
                losses = [trainer.advance() for _ in range(2)]
                kept, judged = (model.state_dict(), trainer.state()), trainer.evaluate()
        ends.append([numpy.asarray(losses), numpy.asarray(judged), *kept[0].values()])
    for end in ends[1:]:
        check_alike(end, ends[0], rtol=1e-4, atol=1e-5)


# where things are ---------------------------------------------------------------------------------------------------


class TestDevices:
    def test_names_are_parsed(self):
        with pytest.raises(UnknownNameError, match="unknown engine 'cupy:x': only cupy takes a number"):
            dl.use("cupy:x")
        with pytest.raises(UnknownNameError):
            dl.use("native:1")
        assert SECOND.name == "double:1"

    @pytest.mark.parametrize("name", ["cupy", "cupy:0", "cupy:1"])
    def test_without_a_gpu_it_is_an_error_that_says_why(self, name):
        if dl.engines()["cupy"]:
            pytest.skip("there is a GPU here")
        before = dl.engines.current()
        with pytest.raises(
            EngineError, match=r"the engine 'cupy(:1)?' cannot be used here: .*(not installed|no driver or no GPU)"
        ):
            dl.use(name)
        assert dl.engines.current() is before

    def test_arrays_are_made_on_the_device_of_the_engine(self):
        with dl.use(SECOND):
            assert layers.Linear(3, 2).weight.value.device.id == 1
            with dl.use(ENGINE):
                assert ENGINE.zeros((2,)).device.id == 0
                assert SECOND.zeros((2,)).device.id == SECOND.asarray(numpy.ones(2)).device.id == 1
            assert models.mlp([2, 3, 1]).parameters()[0].value.device.id == 1

    @pytest.mark.parametrize("name", ["CharRNN", "GPT2", "small_resnet", "TabularNetwork"])
    def test_models_run_on_the_second_device(self, name):
        make, given = MODELS[name]
        check_alike(run_layer(SECOND, make, given), run_layer("numpy", make, given))

    def test_training_on_the_second_device(self):
        assert train_mlp(SECOND, 1)[0]["loss"] == pytest.approx(train_mlp("numpy", 1)[0]["loss"], rel=1e-4)

    def test_a_model_and_its_optimiser_move(self):
        """From the host to one device, to the other, and back: the same numbers as if they had stayed."""
        ends = []
        for places in (["numpy"] * 4, ["numpy", ENGINE, SECOND, "numpy"]):
            with dl.use("numpy"):
                dl.seed(0)
                model = dl.Sequential([dl.Linear(4, 3), dl.BatchNorm1d(3), dl.Linear(3, 1)])
                optimizer, loss = dl.Adam(model.parameters(), lr=0.1), dl.MSELoss()
            for place in places:
                with dl.use(place) as engine:
                    assert model.to(engine) is model
                    for _ in range(2):
                        x, y = engine.asarray(draw(6, 4)), engine.asarray(draw(6, 1, seed=1))
                        loss.forward(model.forward(x), y)
                        model.backward(loss.backward())
                        optimizer.step()
                        optimizer.zero_grad()
                        values = [
                            *(p.value for p in model.parameters()),
                            *optimizer.param_groups[0].segments[0].state.values(),
                        ]
                        assert {type(v) for v in values} == {type(engine.zeros((1,)))}
                        assert {getattr(v, "_device", None) for v in values} == {getattr(engine, "device", None)}
            assert type(model[1].running_mean) is numpy.ndarray
            ends.append(list(model.state_dict().values()))
        check_alike(*ends)

    def test_checkpoints_continue_on_the_other(self, tmp_path):
        expected = self._train("numpy", "numpy", tmp_path / "host")
        check_alike(self._train(ENGINE, "numpy", tmp_path / "a"), expected)
        check_alike(self._train("numpy", SECOND, tmp_path / "b"), expected)

    def _train(self, first, second, folder):
        """Train, save model and optimiser, and go on in a new model on another engine."""
        folder.mkdir()
        for place in (first, second):
            with dl.use(place):
                dl.seed(0)
                model = models.mlp([2, 4, 1], "tanh")
                model.compile(dl.Adam(model.parameters(), lr=0.05), "mse")
                if (folder / "weights.safetensors").exists():
                    model.load(folder / "weights.safetensors")
                    with numpy.load(folder / "optimizer.npz") as state:
                        model.optimizer.load_state_dict(dict(state))
                model.fit(draw(20, 2), draw(20, 1, seed=1), epochs=2, batch_size=5, shuffle=False)
                model.save(folder / "weights.safetensors")
                numpy.savez(folder / "optimizer.npz", **model.optimizer.state_dict())
        return list(model.state_dict().values())

    def test_copies_stay_where_they_are(self):
        with dl.use(SECOND):
            model = models.mlp([2, 3, 1])
        twin = copy.deepcopy(model)
        assert all(p.value.device.id == 1 for p in twin.parameters())


class TestMixtures:
    """Arrays of the host among those of a device: refused with the name of the layer and advice."""

    ADVICE = r"move .* with minidl\.engines\.current\(\)\.asarray\(\w+\)"

    def test_input_of_the_host(self):
        with dl.use(ENGINE):
            layer = layers.Linear(3, 2)
            with pytest.raises(
                EngineError,
                match=rf"Linear\(3, 2\): the input is on the host \(numpy\), but .* on GPU 0.*{self.ADVICE}",
            ):
                layer.forward(draw(4, 3))

    def test_model_of_the_host(self):
        model = dl.Sequential([dl.Linear(3, 2), dl.ReLU()])
        with (
            dl.use(ENGINE),
            pytest.raises(EngineError, match=r"in layer 0 of Sequential.*the input is on GPU 0.*model\.to\(engine\)"),
        ):
            model.forward(ENGINE.asarray(draw(4, 3)))

    def test_layer_without_parameters(self):
        with (
            dl.use(ENGINE),
            pytest.raises(EngineError, match=r"in layer 0 of Sequential, ReLU\(\): .*on the host \(NumPy\)"),
        ):
            dl.Sequential([dl.ReLU(), dl.Tanh()]).forward(draw(4, 3))

    def test_target_of_the_host(self):
        with (
            dl.use(ENGINE),
            pytest.raises(EngineError, match=r"CrossEntropyLoss.*argument 2, an array of shape \(4,\), is on the host"),
        ):
            dl.CrossEntropyLoss().forward(ENGINE.asarray(draw(4, 3)), ids(4, below=3))

    def test_ids_of_the_host(self):
        with dl.use(ENGINE), pytest.raises(EngineError, match=r"Embedding\(5, 2\): the array of ids is on the host"):
            layers.Embedding(5, 2).forward(ids(4))

    def test_two_devices(self):
        with dl.use(ENGINE):
            layer = layers.Linear(3, 2)
        with (
            dl.use(SECOND) as engine,
            pytest.raises(EngineError, match=r"in layer 0 of Sequential, Linear.*on GPU 0, but the engine 'double:1'"),
        ):
            dl.Sequential([layer, dl.ReLU()]).forward(engine.asarray(draw(4, 3)))

    def test_arrays_of_the_host_under_a_device_are_not_computed_quietly(self):
        with (
            dl.use(ENGINE),
            pytest.raises(EngineError, match=r"relu: argument 1, an array of shape \(2,\), is on the host"),
        ):
            dl.ops.relu(numpy.ones(2))

    def test_arrays_of_a_device_under_a_host_engine(self):
        x = ENGINE.asarray(draw(4, 3))
        with pytest.raises(EngineError, match="Linear.*the input is on GPU 0"):
            layers.Linear(3, 2).forward(x)
        assert type(dl.engines.get("numpy").asarray(x)) is numpy.ndarray
