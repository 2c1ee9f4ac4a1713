"""Image models: their sizes, names, starts and what they take; that their gradients are PyTorch's is checked in peers."""

import numpy
import pytest

import minidl as dl
from minidl import models
from minidl.errors import ParameterError, ShapeError
from minidl.testing import check_layer


@pytest.mark.parametrize(
    ("make", "published"),
    [
        (models.resnet18, 11_689_512),
        (models.mobilenet_v2, 3_504_872),
        (models.lenet, 61_706),
    ],
)
def test_published_parameter_counts(make, published):
    assert sum(p.size for p in make().parameters()) == published


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("configuration", "batch_norm", "published"), [("A", False, 132_863_336), ("D", True, 138_365_992)]
)
def test_published_parameter_counts_of_vgg(configuration, batch_norm, published):
    assert sum(p.size for p in models.vgg(configuration, batch_norm=batch_norm).parameters()) == published


MADE = {
    "lenet": (lambda **how: models.lenet(**how), (1, 28, 28)),
    "modern lenet": (lambda **how: models.lenet(variant="modern", **how), (1, 28, 28)),
    "small_vgg": (lambda **how: models.small_vgg(in_channels=1, **how), (1, 28, 28)),
    "small_resnet": (lambda **how: models.small_resnet(widths=(4, 8, 8), **how), (1, 28, 28)),
    "resnet18": (lambda **how: models.resnet((2, 2), (4, 8), 10, in_channels=3, **how), (3, 32, 32)),
    "mobilenet_v2": (lambda **how: models.mobilenet_v2(10, 0.1, "cifar", **how), (3, 32, 32)),
}


@pytest.mark.parametrize("name", MADE)
def test_a_seed_gives_the_same_model_and_a_generator_too(name):
    make, _ = MADE[name]
    dl.seed(3)
    first = make().state_dict()
    dl.seed(3)
    for one, other in zip(first.values(), make().state_dict().values(), strict=True):
        numpy.testing.assert_array_equal(one, other)
    twins = [make(generator=numpy.random.default_rng(5)).state_dict() for _ in range(2)]
    for one, other in zip(*(twin.values() for twin in twins), strict=True):
        numpy.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", MADE)
def test_outputs_have_the_promised_shape_and_dtype(name):
    make, shape = MADE[name]
    model = make(dtype="float64")
    y = model.forward(numpy.random.default_rng(0).normal(size=(2, *shape)))
    assert (y.shape[1:], y.dtype) == (model.output_shape(shape), numpy.float64)
    summary = model.summary(shape)
    assert summary.flops == model.flops(shape)
    assert summary.parameters == sum(row.parameters for row in summary.rows)


@pytest.mark.parametrize("name", MADE)
def test_weights_go_there_and_back_through_a_file(name, tmp_path):
    pytest.importorskip("safetensors")
    make, shape = MADE[name]
    model, other = make(), make()
    model.forward(numpy.random.default_rng(0).normal(size=(4, *shape)).astype("float32"))  # moves running statistics
    model.save(tmp_path / "m.safetensors")
    other.load(tmp_path / "m.safetensors")
    for key, value in other.state_dict().items():
        numpy.testing.assert_array_equal(value, model.state_dict()[key], err_msg=key)


@pytest.mark.parametrize("name", ["modern lenet", "small_resnet"])
def test_they_learn(name):
    """Stripes that lie or stand."""
    make, shape = MADE[name]
    random = numpy.random.default_rng(0)
    y = random.integers(0, 2, 128)
    x = random.normal(size=(128, *shape)).astype("float32") * 0.3
    x[y == 1, :, ::4] += 1
    x[y == 0, :, :, ::4] += 1
    model = make(generator=random)
    model.compile(dl.Adam(model.parameters(), lr=3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=16, epochs=5, verbose=0, seed=0)
    assert model.evaluate(x, y, return_dict=True)["accuracy"] > 0.95


def test_residual_networks_start_as_he_et_al_propose():
    model = models.resnet18(10, generator=numpy.random.default_rng(0))
    weight = model["layer3.1.conv1"].weight.value
    assert weight.std() == pytest.approx(numpy.sqrt(2 / (256 * 9)), rel=0.01)
    assert abs(weight.mean()) < 1e-3


def test_only_blocks_that_change_the_shape_have_convolutions_in_the_shortcut():
    names = set(models.small_resnet(blocks=2).state_dict())
    shortcuts = {name.split(".downsample")[0] for name in names if "downsample" in name}
    assert shortcuts == {"layer2.0", "layer3.0"}


def test_stems():
    assert models.resnet18(10).output_shape((3, 224, 224)) == (10,)
    small = models.resnet18(10, stem="cifar")
    rows = {row.name: row.output_shape for row in small.summary((3, 32, 32)).rows}
    assert rows["layer4.1"] == (512, 4, 4)
    rows = {row.name: row.output_shape for row in models.mobilenet_v2(10, 0.25, "cifar").summary((3, 32, 32)).rows}
    assert rows["features.17.conv.3"][1:] == (4, 4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: models.lenet(variant="old"), "variant must be 'classic' or 'modern'"),
        (lambda: models.resnet18(stem="mnist"), "stem must be 'imagenet' or 'cifar'"),
        (lambda: models.resnet((1, 1), (8,), 10), "every stage"),
        (lambda: models.mobilenet_v2(stem=1), "stem must be"),
        (lambda: models.vgg("64 N"), "configuration must be one of A, B, D, E"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(ParameterError, match=says):
        make()


def test_an_image_of_the_wrong_size_names_the_layer():
    with pytest.raises(ShapeError, match="layer fc1 of Sequential"):
        models.lenet().forward(numpy.zeros((2, 1, 32, 32), dtype="float32"))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: models.BasicBlock(3, 3),
        lambda: models.BasicBlock(3, 4, stride=2),
        lambda: models.depthwise_separable(3, 4, stride=2),
        lambda: models.inverted_residual(3, 3, 1, 2),
        lambda: models.inverted_residual(3, 4, 2, 1),
    ],
    ids=["basic", "basic, halving", "separable", "inverted", "inverted, halving"],
)
def test_gradients_of_the_blocks(make, training):
    dl.seed(0)
    block = make().train(training)
    check_layer(block, numpy.random.default_rng(0).normal(size=(3, 3, 6, 6)).astype("float32"))


def test_a_mobilenets_convolutions_run_with_what_follows_them():
    widen, filtered, *_ = models.inverted_residual(8, 8, 1, 6).children()["conv"].layers
    kernel = dl.engines.current().has_kernel("conv_affine")
    together = widen.fused_into(inference=True)
    assert together == filtered.fused_into(inference=True) == ({1: 0, 2: 0} if kernel else {})
