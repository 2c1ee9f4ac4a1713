"""Residual layers: in inference the branch's last convolution makes the sum, with the same numbers."""

import numpy
import pytest

import minidl as dl
from minidl import engines, models
from minidl.errors import ShapeError

KERNEL = engines.current().has_kernel("conv_affine")


def conv(channels_in, channels_out, size=3, **how):
    return dl.Conv2d(channels_in, channels_out, size, padding=size // 2, **how)


MODELS = {
    "basic block": lambda: [models.BasicBlock(3, 3)],
    "basic block, halving": lambda: [models.BasicBlock(3, 5, stride=2)],
    "inverted": lambda: [models.inverted_residual(3, 3, 1, 2)],
    "activation after": lambda: [dl.Residual(conv(3, 4), dl.ReLU(), conv(4, 3), dl.BatchNorm2d(3)), dl.Tanh()],
    "no normalisation": lambda: [dl.Residual(conv(3, 4), dl.GELU(), conv(4, 3), activation="relu")],
    "an activation that is a pass of its own": lambda: [dl.Residual(conv(3, 3), dl.BatchNorm2d(3)), dl.SiLU()],
    "an activation over several numbers": lambda: [dl.Residual(conv(3, 3), activation="softmax")],
    "in one another": lambda: [dl.Residual(conv(3, 3), dl.Residual(conv(3, 3)), conv(3, 3)), dl.ReLU()],
    "wider, without statistics": lambda: [
        dl.Residual(conv(3, 3), dl.BatchNorm2d(3, track_running_stats=False)), dl.ReLU()
    ],
}  # fmt: skip


def seen(name, dtype="float32"):
    """Return a model of which every number is drawn, after some batches of training."""
    dl.seed(0)
    random = numpy.random.default_rng(0)
    model = dl.Sequential(MODELS[name]())
    for parameter in model.parameters():
        parameter.value = random.normal(size=parameter.shape)
    for _ in range(3):
        model.forward(random.normal(1, 2, size=(8, 3, 6, 6)).astype("float32"))
    return model.to(dtype=dtype).eval()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
def test_the_same_numbers_either_way(name, training):
    x = numpy.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype("float32")
    results = []
    for fuse in (True, False):
        model = seen(name).train(training)
        model.fuse = fuse
        with dl.inference():
            inferred = model.forward(x)
        y = model.forward(x)
        gradients = [model.backward(y), *(p.grad for p in model.parameters())]
        results.append([inferred, y, *gradients, *model.state_dict().values()])
    for one, other in zip(*results, strict=True):
        numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * abs(other).max())


@pytest.mark.parametrize("name", ["basic block", "basic block, halving", "inverted", "activation after"])
def test_gradients_in_evaluation(name):
    dl.gradcheck(seen(name, "float64"), numpy.random.default_rng(1).normal(size=(2, 3, 4, 4)))


@pytest.fixture
def residuals(monkeypatch):
    """Collect what the convolutions of this test are handed to add, and the activations they apply."""
    handed = []
    engine = engines.current()
    whole = engine.conv_affine

    def watched(op, x, weight, windows, scale, shift, activation=None, settings=(), residual=None):
        if residual is not None:
            handed.append((residual, activation))
        return whole(op, x, weight, windows, scale, shift, activation, settings, residual)

    monkeypatch.setattr(engine, "conv_affine", watched)
    return handed


@pytest.mark.skipif(not dl.engines()["native"].available, reason="only the native engine runs layers together")
@pytest.mark.parametrize(
    ("name", "activations"),
    [
        ("basic block", ["relu"]),
        ("basic block, halving", ["relu"]),
        ("inverted", [None]),
        ("activation after", ["tanh"]),
        ("no normalisation", ["relu"]),
        ("an activation that is a pass of its own", [None]),
        ("an activation over several numbers", [None]),
        ("in one another", [None, "relu"]),
        ("wider, without statistics", []),
    ],
)
def test_the_last_convolution_is_handed_the_shortcut(name, activations, residuals):
    x = numpy.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype("float32")
    model = seen(name)
    with dl.inference():
        model.forward(x)
    assert [activation for _, activation in residuals] == (activations if KERNEL else [])
    del residuals[:]
    model.forward(x)
    with dl.inference():
        model.fuse = False
        model.forward(x)
        model.fuse = True
        model.train().forward(x)
    assert not residuals


def test_x_itself_is_what_a_plain_shortcut_adds(residuals):
    x = numpy.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype("float32")
    before = x.copy()
    with dl.inference():
        seen("basic block").forward(x)
    assert [added is x for added, _ in residuals] == ([True] if KERNEL else [])
    numpy.testing.assert_array_equal(x, before)


def test_other_precisions_take_the_ways_one_by_one(residuals):
    x = numpy.random.default_rng(1).normal(size=(2, 3, 6, 6))
    model = seen("basic block")
    with dl.inference():
        assert model.forward(x).dtype == numpy.float32
    assert not residuals
    numpy.testing.assert_allclose(model.forward(x), model.forward(x.astype("float32")), rtol=1e-4, atol=1e-4)


def test_dropout_left_on_in_evaluation_drops_the_same_on_the_way_back():
    dl.seed(0)
    drop = dl.Dropout(0.5)
    model = dl.Residual(drop, dl.Conv2d(1, 1, 1, bias=False)).eval()
    model.branch[1].weight.value = 1.0
    drop.train()
    y = model.forward(numpy.ones((1, 1, 8, 8), dtype="float32"))
    numpy.testing.assert_array_equal(model.backward(numpy.ones_like(y)), y)  # 1, and 2 more where it was kept


@pytest.mark.parametrize("training", [True, False])
def test_shapes_that_do_not_fit_are_named_in_both_modes(training):
    x = numpy.ones((2, 3, 6, 6), dtype="float32")
    with pytest.raises(ShapeError, match=r"branch with shape \(3, 5, 5\)"):
        dl.Residual(dl.Conv2d(3, 3, 2)).train(training).forward(x)
    with pytest.raises(ShapeError, match=r"branch with shape \(1, 6, 6\)"):  # which would broadcast
        dl.Residual(conv(3, 1)).train(training).forward(x)
    with pytest.raises(ShapeError, match="layer 1 of"):
        dl.Residual(conv(3, 4), conv(3, 3)).train(training).forward(x)


def test_the_summary_shows_it():
    model = dl.Sequential(
        {"block": models.BasicBlock(3, 5, stride=2), "after": dl.Residual(conv(5, 5)), "relu": dl.ReLU()}
    )
    summary = model.summary((3, 6, 6))
    fused = {row.name for row in summary.rows if row.fused_in_inference}
    if KERNEL:
        assert {"block", "block.activation", "after", "relu"} <= fused
        assert "* runs as one with the layer before it in inference" in str(summary)
        assert model.fused_into(inference=True) == {2: 1}
    else:
        assert not fused
    assert not {"block", "after", "relu"} & {row.name for row in summary.rows if row.fused}
    model.fuse = False
    assert not any(row.fused_in_inference for row in model.summary((3, 6, 6)).rows)
    assert model.fused_into(inference=True) == {}
