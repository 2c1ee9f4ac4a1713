"""ViT and DINOv2 beside those of Hugging Face, with small random weights and published ones."""

import numpy
import pytest
from dinov2_file import SETTINGS, find_file, read_weights

from minidl.errors import OrderError
from minidl.models import ContrastiveLoss, classify_zero_shot, clip, from_pretrained, unet
from minidl.models.vit import ViT, foreign_names

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 12, "patch_size": 4}
DINOV2 = {**SMALL, "layerscale_value": 0.5, "mlp_ratio": 2}
MODELS = {
    "vit": ("ViTModel", "ViTConfig", {**SMALL, "intermediate_size": 24}),
    "vit, tanh": ("ViTModel", "ViTConfig", {**SMALL, "intermediate_size": 24, "hidden_act": "gelu_pytorch_tanh"}),
    "vit, classes": ("ViTForImageClassification", "ViTConfig", {**SMALL, "intermediate_size": 24, "num_labels": 3}),
    "dinov2": ("Dinov2Model", "Dinov2Config", DINOV2),
    "dinov2, gated": ("Dinov2Model", "Dinov2Config", {**DINOV2, "use_swiglu_ffn": True}),
    "dinov2, classes": ("Dinov2ForImageClassification", "Dinov2Config", {**DINOV2, "num_labels": 5}),
    "dinov2, registers": (
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {**DINOV2, "num_register_tokens": 3},
    ),
    "dinov2, registers, classes": (
        "Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", {**DINOV2, "num_labels": 4},
    ),
}  # fmt: skip
TOLERANCES = {"float64": 1e-12, "float32": 2e-5}


def make_peer(folder, model, config, settings, seed=0):
    """Save a model of transformers with random weights, and return it."""
    torch.manual_seed(seed)
    peer = getattr(transformers, model)(getattr(transformers, config)(**settings, attn_implementation="eager"))
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(0, 0.3)
    peer.save_pretrained(folder)
    return peer.eval()


def translated(name, rename):
    """Return the model's name of a tensor in a file, and which part of it the tensor is."""
    own = rename(name)
    if own is None or "[" not in own:
        return own, 0, 1
    base, _, share = own.partition("[")
    return base, *map(int, share.rstrip("]").split("/"))


def check_gradients(model, peer, folder, names, tolerance):
    """Compare the gradients of all parameters, by the names that the file has."""
    from minidl.weights.matching import _compile_names

    rename = _compile_names(names)
    own = dict(model.named_parameters())
    seen = set()
    # transformers saves older names than its attributes have, so gradients are saved and read in the same way
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    peer.save_pretrained(folder / "gradients")
    from safetensors.numpy import load_file

    for name, wanted in load_file(folder / "gradients" / "model.safetensors").items():
        target, part, parts = translated(name, rename)
        if target is None:
            continue
        gradient = own[target].grad
        rows = len(gradient) // parts if parts > 1 else 0
        gradient = gradient[part * rows : (part + 1) * rows] if parts > 1 else gradient
        scale = max(abs(wanted).max(), 1e-3)
        assert abs(gradient - wanted).max() <= tolerance * scale, name
        seen.add(target)
    assert seen == set(own)


CASES = [
    (dtype, name, size)
    for dtype in TOLERANCES
    for name in MODELS
    for size in [(12, 12), (20, 8)]
    # transformers interpolates the positions of DINOv2 in float32 always
    if size == (12, 12) or dtype == "float32" or name.startswith("vit")
]


@pytest.mark.parametrize(("dtype", "name", "size"), CASES, ids=str)
def test_outputs_hidden_states_and_gradients(dtype, name, size, tmp_path):
    peer = make_peer(tmp_path, *MODELS[name]).to(getattr(torch, dtype))
    maps = dtype == "float32" or name.startswith("dinov2")
    if not maps:  # ViT's softmax is always float32 where transformers returns the maps
        peer.set_attn_implementation("sdpa")
    model = from_pretrained(tmp_path, dtype=dtype)
    tolerance = TOLERANCES[dtype]
    x = numpy.random.default_rng(1).standard_normal((2, 3, *size)).astype(dtype)
    options = {"interpolate_pos_encoding": True} if name.startswith("vit") else {}
    image = torch.from_numpy(x).requires_grad_()
    theirs = peer(image, output_hidden_states=True, output_attentions=maps, **options)
    wanted = theirs.logits if "classes" in name else theirs.last_hidden_state
    for own, other in zip(model.hidden_states(x), theirs.hidden_states, strict=True):
        numpy.testing.assert_allclose(own, other.detach(), rtol=tolerance, atol=tolerance * 10)
    y = model.forward(x)
    assert y.dtype == dtype
    numpy.testing.assert_allclose(y, wanted.detach(), rtol=tolerance, atol=tolerance * 10)
    for own, other in zip(model.attention_maps(), theirs.attentions if maps else [], strict=maps):
        numpy.testing.assert_allclose(own, other.detach(), rtol=tolerance, atol=tolerance * 10)
    dy = numpy.random.default_rng(2).standard_normal(y.shape).astype(dtype)
    loss = (wanted * torch.tensor(dy)).sum()
    if name.startswith("vit") and "classes" not in name:
        pooled = model.pooled(y)
        numpy.testing.assert_allclose(pooled, theirs.pooler_output.detach(), rtol=tolerance, atol=tolerance * 10)
        dpooled = numpy.random.default_rng(3).standard_normal(pooled.shape).astype(dtype)
        loss = loss + (theirs.pooler_output * torch.from_numpy(dpooled)).sum()
        dy[:, 0] += model.pooler.backward(dpooled)
    loss.backward()
    dx = model.backward(dy)
    assert abs(dx - image.grad.numpy()).max() <= 5 * tolerance * abs(image.grad).max()
    check_gradients(model, peer, tmp_path, foreign_names(), 5 * tolerance)


def test_a_file_without_a_pooler(tmp_path):
    config = transformers.ViTConfig(**MODELS["vit"][2])
    peer = transformers.ViTModel(config, add_pooling_layer=False).eval()
    peer.save_pretrained(tmp_path)
    model, x = from_pretrained(tmp_path), numpy.random.default_rng(1).standard_normal((2, 3, 12, 12)).astype("float32")
    y = model.forward(x)
    numpy.testing.assert_allclose(y, peer(torch.from_numpy(x)).last_hidden_state.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(OrderError, match="there is no pooler"):
        model.pooled(y)


CLIP_SETTINGS = {
    "text_config": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
        "vocab_size": 20, "max_position_embeddings": 7, "bos_token_id": 0, "eos_token_id": 19,
    },
    "vision_config": {**SMALL, "hidden_size": 24, "intermediate_size": 32, "hidden_act": "gelu"},
    "projection_dim": 10,
}  # fmt: skip


@pytest.mark.parametrize("end", [19, 2])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_clip(dtype, end, tmp_path):
    settings = {**CLIP_SETTINGS, "text_config": {**CLIP_SETTINGS["text_config"], "eos_token_id": end}}
    peer = make_peer(tmp_path, "CLIPModel", "CLIPConfig", settings).to(getattr(torch, dtype))
    peer.set_attn_implementation("sdpa")  # the softmax of the other is always float32
    model, tolerance = from_pretrained(tmp_path, dtype=dtype), TOLERANCES[dtype]
    random = numpy.random.default_rng(1)
    x, ids = random.standard_normal((3, 3, 12, 12)).astype(dtype), random.integers(0, 19, (3, 6))
    ids[[0, 1, 2, 2], [5, 2, 3, 5]] = 19
    image = torch.from_numpy(x).requires_grad_()
    theirs = peer(torch.from_numpy(ids), image, return_loss=True, output_hidden_states=True)
    for own, part in ((model.vision.hidden_states(x), theirs.vision_model_output),
                      (model.text.hidden_states(ids), theirs.text_model_output)):  # fmt: skip
        for state, other in zip(own, part.hidden_states, strict=True):
            numpy.testing.assert_allclose(state, other.detach(), rtol=tolerance, atol=tolerance * 10)
    logits, loss = model.forward(x, ids), ContrastiveLoss()
    numpy.testing.assert_allclose(logits, theirs.logits_per_image.detach(), rtol=tolerance, atol=tolerance * 10)
    numpy.testing.assert_allclose(model.encode_image(x), theirs.image_embeds.detach(), atol=tolerance)
    numpy.testing.assert_allclose(model.encode_text(ids), theirs.text_embeds.detach(), atol=tolerance)
    numpy.testing.assert_allclose(loss.forward(model.forward(x, ids)), theirs.loss.detach(), rtol=5 * tolerance)
    theirs.loss.backward()
    dx, _ = model.backward(loss.backward())
    assert abs(dx - image.grad.numpy()).max() <= 10 * tolerance * abs(image.grad).max()
    check_gradients(model, peer, tmp_path, clip.NAMES, 10 * tolerance)
    probabilities = theirs.logits_per_image.softmax(dim=1).detach()
    numpy.testing.assert_allclose(classify_zero_shot(model, x, ids), probabilities, atol=10 * tolerance)


def test_published_dinov2_beside_onnx_runtime():
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    graph = onnx.load(find_file())
    model = ViT.from_settings(SETTINGS).eval()
    model.load_state_dict(read_weights(onnx, graph), names=foreign_names())
    x = numpy.linspace(-2, 2, 150528, dtype="float32").reshape(1, 3, 224, 224)
    own = model.forward(x)[0]
    # the class token as it was noted when the file was chosen, to five digits
    noted = [0.77680, 0.55372, 2.63071, -4.27235, -1.05686, -0.61124]
    numpy.testing.assert_allclose(own[0, :6], noted, atol=1e-4)
    # the file goes on with a decoder, so its last norm is made an output too
    end = next(node for node in graph.graph.node if node.name.startswith("/backbone/layernorm/Add") and
               "backbone.layernorm.bias" in node.input)  # fmt: skip
    graph.graph.output.append(onnx.helper.make_tensor_value_info(end.output[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    [theirs] = session.run([end.output[0]], {"input_image": x})
    assert theirs.shape == (1, 257, 384)
    assert abs(own - theirs[0]).max() < 1e-4 * max(1, abs(theirs).max())
    assert abs(own[0] - theirs[0, 0]).max() < 1e-4


class Side(torch.nn.Module):
    """Two branches, concatenated, with the names of minidl's U-Net."""

    def __init__(self, below):
        super().__init__()
        self.below = below

    def forward(self, x):
        return torch.cat([x, self.below(x)], 1)


def torch_unet(inside, width, depth):
    """Return the layers of a level of U-Net."""
    nn = torch.nn

    def convolve(inside):
        layers = []
        for before in (inside, width):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        return layers

    if not depth:
        return convolve(inside)
    up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
    below = nn.Sequential(nn.MaxPool2d(2), *torch_unet(width, 2 * width, depth - 1), up)
    return [*convolve(inside), Side(below), *convolve(2 * width)]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_unet(dtype):
    model = unet(3, channels=2, width=4, depth=2, dtype=dtype)
    peer = torch.nn.Sequential(*torch_unet(2, 4, 2), torch.nn.Conv2d(4, 3, 1)).to(getattr(torch, dtype))
    peer.load_state_dict({name: torch.from_numpy(numpy.array(a)) for name, a in model.state_dict().items()})
    x = numpy.random.default_rng(0).standard_normal((2, 2, 12, 16)).astype(dtype)
    image, tolerance = torch.from_numpy(x).requires_grad_(), 10 * TOLERANCES[dtype]
    wanted, y = peer(image), model.forward(x)
    numpy.testing.assert_allclose(y, wanted.detach(), rtol=tolerance, atol=tolerance)
    dy = numpy.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    wanted.backward(torch.from_numpy(dy))
    assert abs(model.backward(dy) - image.grad.numpy()).max() <= tolerance * abs(image.grad).max()
    own = dict(model.named_parameters())
    for name, parameter in peer.named_parameters():
        scale = max(float(abs(parameter.grad).max()), 1e-2)
        assert abs(own[name].grad - parameter.grad.numpy()).max() <= tolerance * scale, name
