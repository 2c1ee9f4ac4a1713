"""Feature maps, saliency and Grad-CAM on models where the answer is known."""

import numpy
import pytest

import minidl as dl
from minidl import inspection
from minidl.errors import MissingDependencyError, ParameterError, ShapeError, TargetError, UnknownNameError


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


@pytest.fixture
def model():
    """Class 0 is how much of the image is bright, class 1 how much of it is dark: known by hand."""
    model = dl.Sequential(
        {
            "conv": dl.Conv2d(1, 2, 1, bias=False, dtype="float64"),
            "relu": dl.ReLU(),
            "pool": dl.GlobalAvgPool2d(),
            "fc": dl.Linear(2, 2, bias=False, dtype="float64"),
        }
    )
    model["conv"].weight.value[...] = numpy.reshape([1.0, -1.0], (2, 1, 1, 1))
    model["fc"].weight.value[...] = [[3, 0], [0, 5]]
    return model


@pytest.fixture
def image():
    """Bright at the upper left, dark at the lower right."""
    image = numpy.zeros((1, 1, 8, 8))
    image[..., :4, :4], image[..., 4:, 4:] = 2.0, -1.0
    return image


def test_feature_maps_are_the_layers_output(model, image):
    maps = inspection.feature_maps(model, image, "relu")
    numpy.testing.assert_array_equal(maps[0, 0], numpy.maximum(image[0, 0], 0))
    numpy.testing.assert_array_equal(maps[0, 1], numpy.maximum(-image[0, 0], 0))


@pytest.mark.parametrize("layer", ["relu", "conv"])
def test_grad_cam_shows_the_quadrant_that_decides(model, image, layer):
    bright, dark = (inspection.grad_cam(model, image, layer, target)[0] for target in (0, 1))
    for cam, corner in ((bright, numpy.s_[:4, :4]), (dark, numpy.s_[4:, 4:])):
        where = numpy.zeros((8, 8), dtype=bool)
        where[corner] = True
        assert (cam[where] > 0).all()
        assert (cam[~where] == 0).all()
    if layer == "relu":  # alpha_k is the weight of class k over 64 pixels
        numpy.testing.assert_allclose(bright[:4, :4], 3 / 64 * 2)
        numpy.testing.assert_allclose(dark[4:, 4:], 5 / 64 * 1)


def test_the_highest_score_is_explained_unless_a_class_is_given(model, image):
    numpy.testing.assert_array_equal(
        inspection.grad_cam(model, image, "relu"), inspection.grad_cam(model, image, "relu", 0)
    )


def test_a_class_for_each_image(model, image):
    both = inspection.grad_cam(model, numpy.concatenate([image, image]), "relu", numpy.array([1, 0]))
    for i, target in enumerate((1, 0)):
        numpy.testing.assert_array_equal(both[i], inspection.grad_cam(model, image, "relu", target)[0])


def test_saliency_is_the_size_of_the_slope(model, image):
    slope = inspection.saliency(model, image, 0)
    numpy.testing.assert_allclose(slope[0], (image[0, 0] > 0) * 3 / 64)


def test_saliency_agrees_with_differences(random):
    model = dl.Sequential(
        dl.Residual(dl.Conv2d(2, 2, 3, padding=1), dl.BatchNorm2d(2), activation="tanh"), dl.Flatten(), dl.Linear(32, 3)
    )
    model.to(dtype="float64").eval()
    x, step = random.normal(size=(1, 2, 4, 4)), 1e-5
    found = numpy.zeros((2, 4, 4))
    for index in numpy.ndindex(2, 4, 4):
        moved = numpy.zeros_like(x)
        moved[(0, *index)] = step
        found[index] = (model.forward(x + moved)[0, 1] - model.forward(x - moved)[0, 1]) / (2 * step)
    numpy.testing.assert_allclose(inspection.saliency(model, x, 1)[0], abs(found).max(axis=0), rtol=1e-6)


def test_a_softmax_at_the_end_is_left_out(model, image):
    plain = inspection.saliency(model, image, 0), inspection.grad_cam(model, image, "relu", 0)
    model.append(dl.Softmax(), "softmax")
    numpy.testing.assert_array_equal(inspection.saliency(model, image, 0), plain[0])
    numpy.testing.assert_array_equal(inspection.grad_cam(model, image, "relu", 0), plain[1])


@pytest.mark.parametrize(
    "layer",
    [
        "block",
        "block.conv1",
        "block.shortcut",
        "block.shortcut.0",
        "block.activation",
        "sides.1",
        "sides.0.0",
        "inner.0",
    ],
)
def test_layers_are_reached_wherever_they_are(layer, random):
    model = dl.Sequential(
        {
            "block": dl.Residual({"conv1": dl.Conv2d(1, 2, 1)}, shortcut=[dl.Conv2d(1, 2, 1)], activation="relu"),
            "sides": dl.Parallel([dl.Conv2d(2, 2, 1)], dl.Conv2d(2, 1, 3, padding=1)),
            "inner": dl.Sequential(dl.ReLU()),
            "pool": dl.GlobalAvgPool2d(),
            "fc": dl.Linear(3, 2),
        }
    ).eval()
    x = random.normal(size=(2, 1, 5, 5)).astype("float32")
    maps = inspection.feature_maps(model, x, layer)
    block = model["block"]
    block_input = {"block": x, "sides": block.forward(x)}
    block_input["inner"] = model["sides"].forward(block_input["sides"])
    expected = {"block.activation": lambda: block.forward(x)}.get(
        layer, lambda: model[layer].forward(block_input[layer.split(".")[0]])
    )()
    numpy.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)
    cam = inspection.grad_cam(model, x, layer, 0)
    assert cam.shape == (2, 5, 5)
    assert numpy.isfinite(cam).all()


class Own:
    """Somebody's own layer, which tells no shapes."""

    def forward(self, x):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


@pytest.mark.parametrize("layer", ["0", "1", "2"])
def test_layers_that_change_the_shape_and_layers_that_do_not_tell_theirs(layer):
    model = dl.Sequential(dl.Linear(4, 3), Own(), dl.Linear(3, 2))
    x = numpy.ones((2, 4), dtype="float32")
    expected = x
    for inner in model.layers[: int(layer) + 1]:
        expected = inner.forward(expected)
    numpy.testing.assert_allclose(inspection.feature_maps(model, x, layer), expected)


def test_the_model_stays_as_it_is(random):
    model = dl.Sequential(dl.Conv2d(1, 2, 3), dl.BatchNorm2d(2), dl.ReLU(), dl.GlobalAvgPool2d(), dl.Linear(2, 2))
    x = random.normal(size=(3, 1, 6, 6)).astype("float32")
    y = model.forward(x)
    before = model.state_dict()
    inspection.grad_cam(model, x, "0", 0)
    inspection.saliency(model, x)
    assert model.training
    assert model.fuse
    for name, value in model.state_dict().items():
        numpy.testing.assert_array_equal(value, before[name])
    assert not any(p.grad.any() for p in model.parameters())
    assert model.backward(y).shape == x.shape, "what it remembered is still there"


def test_filters_are_the_kernels(model):
    kernels = inspection.filters(model, "conv")
    numpy.testing.assert_array_equal(kernels, model["conv"].weight.value)
    assert not numpy.shares_memory(kernels, model["conv"].weight.value)
    with pytest.raises(ParameterError, match="no kernels"):
        inspection.filters(model, "fc")


def test_errors(model, image):
    with pytest.raises(UnknownNameError, match="'conv2'; known: conv, fc, pool, relu"):
        inspection.feature_maps(model, image, "conv2")
    for wrong in (2, -1, [0, 1], 0.5):
        with pytest.raises(TargetError, match="a class from 0 to 1"):
            inspection.saliency(model, image, wrong)
    with pytest.raises(ShapeError, match=r"\(1, 2\) from pool"):
        inspection.grad_cam(model, image, "pool")
    with pytest.raises(ShapeError, match="scores of shape"):
        inspection.saliency(dl.Sequential(dl.ReLU()), image)


class TestPictures:
    def test_a_file_is_written(self, tmp_path, random):
        pytest.importorskip("matplotlib")
        images = random.normal(size=(3, 1, 8, 8))
        inspection.save_images(tmp_path / "a.png", images, over=abs(images[:, 0]), titles=["a", "b", "c"])
        inspection.save_images(tmp_path / "b.png", random.normal(size=(1, 12, 5, 5)))
        inspection.save_images(tmp_path / "c.png", random.normal(size=(2, 3, 5, 5)))
        for name in "abc":
            assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    def test_attention_is_drawn_with_its_tokens(self, tmp_path, random, monkeypatch):
        pytest.importorskip("matplotlib")
        figures, write = [], inspection._write
        monkeypatch.setattr(inspection, "_write", lambda *args: (figures.append(args[1]), write(*args)))
        weights = random.uniform(size=(2, 3, 4))  # (H, T, S)
        inspection.save_attention(tmp_path / "a.png", weights, "a$c", ["the", "cat", "sat", "."])
        inspection.save_attention(tmp_path / "b.png", weights[0], "abc", "wxyz")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        first, second = figures[0].axes
        numpy.testing.assert_array_equal(second.images[0].get_array(), weights[1])
        assert [label.get_text() for label in first.get_xticklabels()] == ["the", "cat", "sat", "."]
        assert [label.get_text() for label in first.get_yticklabels()] == ["a", r"\$", "c"]
        assert second.get_title() == "head 2"
        assert len(figures[1].axes) == 1

    def test_attention_of_other_tokens(self, tmp_path):
        for weights in (numpy.ones((2, 4, 3)), numpy.ones(3), numpy.ones((0, 3, 4))):
            with pytest.raises(ShapeError, match="there are T = 3 queries and S = 4 keys, but the shape is"):
                inspection.save_attention(tmp_path / "a.png", weights, "abc", "wxyz")
        with pytest.raises(ParameterError, match="columns must be at least 1, got 0"):
            inspection.save_attention(tmp_path / "a.png", numpy.ones((3, 4)), "abc", "wxyz", columns=0)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("shape", [(5, 5), (0, 5, 5)])
    def test_what_is_no_picture(self, tmp_path, shape):
        with pytest.raises(ShapeError, match="images"):
            inspection.save_images(tmp_path / "a.png", numpy.zeros(shape))
        assert not list(tmp_path.iterdir())

    def test_maps_for_other_images(self, tmp_path):
        with pytest.raises(ShapeError, match="2 pictures"):
            inspection.save_images(tmp_path / "a.png", numpy.zeros((2, 5, 5)), over=numpy.zeros((3, 5, 5)))

    def test_the_missing_package_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'minidl\[plot\]'"):
            inspection.save_images(tmp_path / "a.png", numpy.zeros((2, 5, 5)))
