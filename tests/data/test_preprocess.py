"""Preprocessing as preprocessor_config.json says."""

import json

import numpy
import pytest

from minidl.data import Preprocessor
from minidl.errors import DtypeError, FileFormatError, ParameterError, ShapeError

CLIP = {
    "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 224,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.25, 0.2],
}  # fmt: skip
DINOV2 = {
    "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "size": {"shortest_edge": 256}, "resample": 3,
    "image_processor_type": "BitImageProcessor", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    "rescale_factor": 0.00392156862745098,
}  # fmt: skip
VIT = {"size": {"height": 8, "width": 8}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.fixture
def images():
    return numpy.random.default_rng(0).integers(0, 256, (1, 3, 12, 20), dtype="uint8")


def test_files_are_read(tmp_path):
    path = tmp_path / "preprocessor_config.json"
    with pytest.raises(FileFormatError, match="there is no"):
        Preprocessor.from_pretrained(tmp_path)
    for text, message in [("{", "is not JSON"), ("[]", "expected an object")]:
        path.write_text(text)
        with pytest.raises(FileFormatError, match=message):
            Preprocessor.from_pretrained(tmp_path)
    for settings, edge, crop in [(CLIP, 224, (224, 224)), (DINOV2, 256, (224, 224)), (VIT, None, None)]:
        path.write_text(json.dumps(settings))
        prepare = Preprocessor.from_pretrained(tmp_path)
        assert (prepare.shortest_edge, prepare.crop) == (edge, crop)
        assert prepare.normalize.mean == settings["image_mean"]
    assert prepare.size == (8, 8)


def test_the_shorter_side_and_the_middle(images):
    prepare = Preprocessor(shortest_edge=6, crop=(6, 4))
    assert prepare.target(12, 20) == (6, 10)
    assert prepare.target(21, 10) == (12, 6)
    whole = Preprocessor(shortest_edge=6)(images)
    assert whole.shape == (1, 3, 6, 10)
    numpy.testing.assert_array_equal(prepare(images[0]), whole[:, :, :, 3:7])
    assert set((whole * 255).round(3).ravel() % 1) == {0}


def test_scaling_and_standardising(images):
    y = Preprocessor(mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 1.0])(images)
    numpy.testing.assert_allclose(y[0, 1], images[0, 1] / 255 * 4 - 1, rtol=1e-5, atol=1e-6)
    assert y.dtype == "float32"
    settings = {"do_resize": False, "do_rescale": False, "do_normalize": False, "size": 3}
    numpy.testing.assert_array_equal(Preprocessor.from_settings(settings)(images), images)


def test_what_is_not_done_is_refused(images):
    for settings, message in [
        ({"do_pad": True}, "do_pad = True, which is not done"),
        ({"resample": 1, "size": 8}, r"resample must be 2 \(bilinear\) or 3"),
        ({"size": {"longest_edge": 3}}, "size must be a number, or height and width"),
        ({"size": {"shortest_edge": "3"}}, "shortest_edge must be"),
        ({"do_center_crop": True}, "crop_size must be a number"),
        ({"image_mean": [0.5]}, "mean and std together"),
    ]:
        with pytest.raises(ParameterError, match=message):
            Preprocessor.from_settings(settings)
    with pytest.raises(ParameterError, match="not both"):
        Preprocessor(shortest_edge=3, size=(3, 3))
    with pytest.raises(DtypeError, match="uint8"):
        Preprocessor()(images / 255)
    with pytest.raises(ShapeError, match="1 or 3"):
        Preprocessor()(images.transpose(0, 2, 3, 1))
    with pytest.raises(ShapeError, match=r"cannot cut \(16, 16\)"):
        Preprocessor(crop=(16, 16))(images)


@pytest.mark.peers
@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("size", [(7, 9), (16, 31)])
def test_resizing_beside_pillow(images, size, resample):
    """Its weights are rounded, so that a byte may be the next one."""
    image = pytest.importorskip("PIL.Image")
    theirs = image.fromarray(images[0].transpose(1, 2, 0)).resize(size[::-1], resample)
    own = Preprocessor(size=size, resample=resample)(images)[0] * 255
    assert abs(own - numpy.asarray(theirs).transpose(2, 0, 1)).max() <= 1.01
