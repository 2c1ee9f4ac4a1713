"""Every layer and every model as an ONNX graph: onnxruntime gives what minidl gives, also for other lengths than those drawn with."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import minidl as dl  # noqa: E402
from minidl import layers, models  # noqa: E402
from minidl.cli import main  # noqa: E402
from minidl.errors import DataError, NotBuiltError, OrderError, ParameterError, ShapeError  # noqa: E402
from minidl.interop.onnx import export, load  # noqa: E402
from minidl.models.clip import Tower  # noqa: E402

pytestmark = pytest.mark.peers

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"
RANDOM = numpy.random.default_rng(0)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype("float32")


def ids(*shape, high=11):
    return RANDOM.integers(1, high, shape)


IMAGES = floats(2, 3, 16, 16), floats(3, 3, 20, 24)
SAME_SIZE = floats(2, 3, 16, 16), floats(3, 3, 16, 16)
VOLUMES = floats(1, 2, 4, 5, 6), floats(2, 2, 5, 5, 7)
LINES = floats(2, 3, 9), floats(3, 3, 12)
SEQUENCES = floats(2, 3, 8), floats(3, 5, 8)
TWO = (floats(2, 3, 8), floats(2, 4, 8)), (floats(3, 5, 8), floats(3, 7, 8))
IDS = ids(2, 5), ids(3, 7)
WEIGHTED = (numpy.array([0, 1]), ids(2, 3, high=7)), (numpy.array([0, 1, 4]), ids(3, 2, high=7))
LENGTHS = (floats(2, 3, 4), numpy.array([2, 3])), (floats(3, 6, 4), numpy.array([1, 6, 3]))
RECURRENT = floats(2, 3, 4), floats(3, 6, 4)
MASKED = (
    (*[floats(2, 3, 8)] * 3, numpy.array([[False, True, False]] * 2)),
    (*[floats(3, 6, 8)] * 3, numpy.array([[True] * 6, [False] * 6, [False, True] * 3])),
)
SMALL_BERT = {"vocab_size": 11, "context": 8, "layers": 2, "heads": 2, "width": 4, "hidden": 8}
SMALL_DETR = {
    "depths": (1, 1),
    "channels": (8, 16),
    "stem": 8,
    "block": "basic",
    "width": 16,
    "heads": 2,
    "feed_forward": 32,
}
CLIPPED = (
    (floats(2, 3, 8, 8), numpy.array([[1, 2, 9, 0], [3, 9, 0, 0]])),
    (floats(3, 3, 8, 8), numpy.array([[1, 9, 9, 0, 1]])),
)
PIXELS = numpy.ones((2, 32, 32), bool), numpy.ones((3, 64, 32), bool)
PIXELS[0][0, 20:], PIXELS[1][0, :, 9:] = False, False


class Unpooled(dl.layers.Layer):
    """A pooling whose indices go to an unpooling."""

    def __init__(self, pool, unpool):
        super().__init__()
        self.pool, self.unpool = pool, unpool

    def forward(self, x):
        return self.unpool.forward(*self.pool.forward(x))


def stored(dtype):
    return dl.store_weights(layers.Chain(dl.Linear(8, 16), dl.ReLU(), dl.Linear(16, 3)), dtype)


def trained_norm(norm):
    """Return a normalisation whose statistics are not 0 and 1."""
    for name in ("running_mean", "running_var"):
        getattr(norm, name)[...] = RANDOM.uniform(0.5, 2, getattr(norm, name).shape)
    return norm


encoder, decoder = layers.TransformerEncoderLayer(8, 2, 16), layers.TransformerDecoderLayer(8, 2, 16, norm_first=True)
CASES = {
    "Chain": [(layers.Chain(dl.Linear(8, 3), dl.ReLU()), SEQUENCES)],
    "Dense": [(dl.Dense(3, activation="gelu", input_shape=(8,)), SEQUENCES)],
    "Linear": [(dl.Linear(8, 3), SEQUENCES), (dl.Linear(8, 3, bias=False), (floats(2, 8), floats(5, 8)))],
    "Parallel": [(dl.Parallel(dl.Linear(8, 2), dl.Identity(), axis=-1), SEQUENCES)],
    "StoredLinear": [(stored(dtype), (floats(2, 8), floats(5, 8))) for dtype in ("bfloat16", "float16", "int8")],
    "LoRALinear": [(layers.LoRALinear(dl.Linear(8, 3), 2), SEQUENCES)],
    "PReLU": [(dl.PReLU(), SEQUENCES), (dl.PReLU(3), IMAGES)],
    "Softplus": [(dl.Softplus(), SEQUENCES), (dl.Softplus(2.0, 3.0), SEQUENCES)],
    "GELU": [(dl.GELU(), SEQUENCES), (dl.GELU("tanh"), SEQUENCES)],
    "Softmax": [(dl.Softmax(), SEQUENCES), (dl.Softmax(1), SEQUENCES)],
    "GLU": [(dl.GLU(), SEQUENCES), (dl.GLU(2), IMAGES)],
    "MultiheadAttention": [
        (dl.MultiheadAttention(8, 2), SEQUENCES),
        (dl.MultiheadAttention(8, 2), MASKED),
        (dl.MultiheadAttention(8, 2, batch_first=False), SEQUENCES),
        (
            dl.MultiheadAttention(8, 2, kdim=4),
            ((floats(2, 3, 8), floats(2, 4, 4), floats(2, 4, 8)), (floats(3, 5, 8), floats(3, 6, 4), floats(3, 6, 8))),
        ),
    ],
    "GroupedQueryAttention": [
        (dl.GroupedQueryAttention(8, 2, 1, **how), SEQUENCES)
        for how in ({}, {"positions": dl.RotaryPositions(4)}, {"positions": "alibi"}, {"window": 2})
    ],
    "CausalConv1d": [(dl.CausalConv1d(3, 4, 3, dilation=2), LINES)],
    "Conv1d": [(dl.Conv1d(3, 4, 3, padding="same"), LINES)],
    "Conv2d": [
        (dl.Conv2d(3, 4, 3, stride=2, padding=1), IMAGES),
        (dl.Conv2d(3, 4, 3, stride=2, padding="same"), SAME_SIZE),
        (dl.Conv2d(3, 3, 3, groups=3, dilation=2, padding=((1, 2), (0, 1)), bias=False), IMAGES),
    ],
    "Conv3d": [(dl.Conv3d(2, 3, 3, padding=1), VOLUMES)],
    "ConvTranspose1d": [(dl.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), LINES)],
    "ConvTranspose2d": [(dl.ConvTranspose2d(3, 6, 3, stride=2, padding=1, groups=3, dilation=2), IMAGES)],
    "Embedding": [(dl.Embedding(11, 3), IDS)],
    "FrozenBatchNorm2d": [(trained_norm(dl.FrozenBatchNorm2d(3)), IMAGES)],
    "BatchNorm1d": [
        (trained_norm(dl.BatchNorm1d(3)), LINES),
        (trained_norm(dl.BatchNorm1d(8, affine=False)), (floats(2, 8), floats(3, 8))),
    ],
    "BatchNorm2d": [(trained_norm(dl.BatchNorm2d(3)), IMAGES), (dl.BatchNorm2d(3, track_running_stats=False), IMAGES)],
    "GroupNorm": [(dl.GroupNorm(3, 3), IMAGES), (dl.GroupNorm(2, 8, affine=False), (floats(2, 8), floats(3, 8)))],
    "LayerNorm": [(dl.LayerNorm(8), SEQUENCES), (dl.LayerNorm((16, 16), elementwise_affine=False), SAME_SIZE)],
    "RMSNorm": [(dl.RMSNorm(8), SEQUENCES)],
    "AdaptiveAvgPool1d": [(dl.AdaptiveAvgPool1d(1), LINES), (dl.AdaptiveAvgPool1d(4), (LINES[0], LINES[0]))],
    "AdaptiveAvgPool2d": [(dl.AdaptiveAvgPool2d(1), IMAGES), (dl.AdaptiveAvgPool2d((3, 5)), SAME_SIZE)],
    "AdaptiveMaxPool1d": [(dl.AdaptiveMaxPool1d(1), LINES), (dl.AdaptiveMaxPool1d(4), (LINES[0], LINES[0]))],
    "AdaptiveMaxPool2d": [(dl.AdaptiveMaxPool2d((3, 5)), SAME_SIZE)],
    "AvgPool1d": [(dl.AvgPool1d(3, stride=2, padding=1), LINES)],
    "AvgPool2d": [
        (dl.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGES),
        (dl.AvgPool2d(3, 2, 1, ceil_mode=True), SAME_SIZE),
        (dl.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), SAME_SIZE),
    ],
    "AvgPool3d": [(dl.AvgPool3d(2), VOLUMES)],
    "GlobalAvgPool1d": [(dl.GlobalAvgPool1d(), LINES)],
    "GlobalMaxPool1d": [(dl.GlobalMaxPool1d(), LINES)],
    "MaxPool1d": [(dl.MaxPool1d(3, 2), LINES)],
    "MaxPool2d": [
        (dl.MaxPool2d(3, 2, 1, return_indices=True), IMAGES),
        (dl.MaxPool2d(3, 2, ceil_mode=True), SAME_SIZE),
    ],
    "MaxPool3d": [(dl.MaxPool3d(2), VOLUMES)],
    "MaxUnpool1d": [(Unpooled(dl.MaxPool1d(3, return_indices=True), dl.MaxUnpool1d(3)), (LINES[0], floats(3, 3, 12)))],
    "MaxUnpool2d": [(Unpooled(dl.MaxPool2d(2, return_indices=True), dl.MaxUnpool2d(2)), IMAGES)],
    "SinusoidalPositions": [(dl.SinusoidalPositions(8, 32), SEQUENCES)],
    "LearnedPositions": [(dl.LearnedPositions(32, 8), SEQUENCES)],
    "RotaryPositions": [(dl.RotaryPositions(8), SEQUENCES), (dl.RotaryPositions(4, interleaved=True), SEQUENCES)],
    "RNN": [(dl.RNN(4, 5, nonlinearity="relu"), RECURRENT)],
    "GRU": [(dl.GRU(4, 5, 2, bidirectional=True), RECURRENT), (dl.GRU(4, 5, bias=False), LENGTHS)],
    "LSTM": [(dl.LSTM(4, 5, 2, bidirectional=True), RECURRENT), (dl.LSTM(4, 5, bidirectional=True), LENGTHS)],
    "ReflectionPad2d": [(dl.ReflectionPad2d((1, 2, 3, 0)), IMAGES)],
    "ReplicationPad2d": [(dl.ReplicationPad2d(2), IMAGES)],
    "ZeroPad2d": [(dl.ZeroPad2d(2), IMAGES)],
    "Upsample": [
        (dl.Upsample(scale_factor=2), IMAGES),
        (dl.Upsample(size=7, mode="nearest-exact"), IMAGES),
        (dl.Upsample(scale_factor=1.5, mode="bilinear"), SAME_SIZE),
        (dl.Upsample(scale_factor=2, mode="bicubic"), IMAGES),
        (dl.Upsample(size=(9, 7), mode="bilinear", align_corners=True), IMAGES),
        (dl.Upsample(size=(9, 7), mode="bicubic", antialias=True), SAME_SIZE),
        (dl.Upsample(scale_factor=3, mode="linear"), LINES),
    ],
    "LayerScale": [(dl.LayerScale(8), SEQUENCES)],
    "Residual": [(dl.Residual(dl.Linear(8, 8), activation="relu"), SEQUENCES)],
    "SwiGLU": [(dl.SwiGLU(8, 5), SEQUENCES)],
    "GeGLU": [(dl.GeGLU(8, 5), SEQUENCES)],
    "Permute": [(dl.Permute(2, 1), SEQUENCES)],
    "Reshape": [(dl.Reshape(-1, 4), SEQUENCES)],
    "Unflatten": [(dl.Unflatten(-1, (2, 4)), SEQUENCES)],
    "TransformerEncoderLayer": [(encoder, SEQUENCES)],
    "TransformerDecoderLayer": [(decoder, TWO)],
    "TransformerEncoder": [(layers.TransformerEncoder(encoder, 2, dl.LayerNorm(8)), SEQUENCES)],
    "TransformerDecoder": [(layers.TransformerDecoder(decoder, 2), TWO)],
    # models
    "BERT": [
        *[(models.BERT(head=head, **SMALL_BERT), IDS) for head in ("features", "masked_lm", "sequence_classification")],
        (models.BERT(**SMALL_BERT), ((IDS[0], IDS[0] > 3), (IDS[1], IDS[1] > 3))),
        (
            models.BERT(positions_skip_padding=True, padding_idx=1, **SMALL_BERT),
            ((IDS[0], IDS[0] > 3, IDS[0] % 2), (IDS[1], IDS[1] > 3, IDS[1] % 2)),
        ),
    ],
    "CLIP": [
        (
            models.CLIP(
                vision=Tower(1, 2, 8, 16),
                text=Tower(1, 2, 8, 16),
                image_size=8,
                patch_size=4,
                vocab_size=10,
                context=6,
                end=9,
                projection=4,
            ),
            CLIPPED,
        )
    ],
    "DETR": [
        (models.DETR(num_classes=3, num_queries=5, encoder_layers=1, decoder_layers=2, **SMALL_DETR), given)
        for given in (
            (floats(2, 3, 32, 32), floats(3, 3, 64, 32)),
            ((floats(2, 3, 32, 32), PIXELS[0]), (floats(3, 3, 64, 32), PIXELS[1])),
        )
    ],
    "GPT2": [(models.GPT2(vocab_size=11, context=8, layers=2, heads=2, width=4), IDS)],
    "CharRNN": [(models.CharRNN(11, 6, 8), IDS)],
    "Ensemble": [
        (models.Ensemble([dl.Linear(8, 3), dl.Linear(8, 3)]), SEQUENCES),
        (models.Ensemble([dl.Linear(8, 3), dl.Linear(8, 3)], "linear"), SEQUENCES),
    ],
    "Sequential": [(dl.Sequential(dl.Linear(8, 3), dl.Tanh()), SEQUENCES)],
    "TabularNetwork": [
        (
            models.TabularNetwork(3, {1: 4}),
            (numpy.array([[0.5, 3, -1]], "float32"), numpy.array([[0.5, 3, -1], [1, 2, -1]], "float32")),
        )
    ],
    "Transformer": [
        (models.Transformer(11, 11, 8, 2, 1, 1, 16), given)
        for given in (
            ((IDS[0], ids(2, 3)), (IDS[1], ids(3, 6))),
            ((IDS[0], ids(2, 3), IDS[0] > 3), (IDS[1], ids(3, 6), IDS[1] > 3)),
        )
    ],
    "TwoTower": [(models.TwoTower(5, 7, 4), WEIGHTED)],
    "ViT": [
        (
            models.ViT(image_size=8, patch_size=4, width=8, heads=2, layers=2, hidden=16),
            (floats(2, 3, 12, 8), floats(3, 3, 8, 16)),
        )
    ],
    "lenet": [(models.lenet(), (floats(2, 1, 28, 28), floats(3, 1, 28, 28)))],
    "mlp": [(models.mlp([8, 5, 3]), (floats(2, 8), floats(3, 8)))],
    "mobilenet_v2": [(models.mobilenet_v2(num_classes=10), (floats(1, 3, 32, 32), floats(2, 3, 64, 32)))],
    "resnet18": [(models.resnet18(num_classes=10), (floats(1, 3, 32, 32), floats(2, 3, 64, 32)))],
    "small_resnet": [(models.small_resnet(), (floats(2, 1, 28, 28), floats(3, 1, 20, 28)))],
    "small_vgg": [(models.small_vgg(), (floats(1, 3, 32, 32), floats(2, 3, 32, 32)))],
    "unet": [(models.unet(4, width=8, depth=2), (floats(1, 3, 16, 24), floats(2, 3, 24, 32)))],
}
"""Layers and models by name: each with an input to draw with, and one of other lengths."""

PLAIN = {
    **dict.fromkeys(
        [
            "CELU",
            "ELU",
            "SELU",
            "Hardsigmoid",
            "Hardswish",
            "Hardtanh",
            "LeakyReLU",
            "LogSoftmax",
            "Mish",
            "QuickGELU",
            "ReLU",
            "ReLU6",
            "SiLU",
            "Sigmoid",
            "Softsign",
            "Tanh",
            "Identity",
        ],
        SEQUENCES,
    ),
    **dict.fromkeys(["Dropout", "Dropout2d", "Flatten", "GlobalAvgPool2d", "GlobalMaxPool2d"], IMAGES),
}
"""Layers that are made without arguments."""

LEFT_OUT = {
    **dict.fromkeys(
        [
            "BCELoss",
            "BCEWithLogitsLoss",
            "CTCLoss",
            "CrossEntropyLoss",
            "HuberLoss",
            "KLDivLoss",
            "L1Loss",
            "Loss",
            "MSELoss",
            "NLLLoss",
            "SetLoss",
            "ContrastiveLoss",
        ],
        "a loss",
    ),
    **dict.fromkeys(["Layer", "Activation"], "a base class"),
    **dict.fromkeys(["BERTConfig", "CLIPConfig", "DETRConfig", "GPT2Config", "ViTConfig"], "sizes"),
    **dict.fromkeys(["Detections", "Summary", "NegativeSampling"], "no layer"),
    **dict.fromkeys(
        ["classify_zero_shot", "from_config", "from_pretrained", "load_model", "register_layer"], "a function of models"
    ),
    **dict.fromkeys(
        ["depthwise_separable", "inverted_residual", "BasicBlock", "resnet", "vgg"], "inside of models above"
    ),
    **dict.fromkeys(["Parameter", "ParameterBuffer", "TableParameter", "inference"], "no layer"),
}
"""Names that need no case, and why."""


def test_every_layer_and_model_has_a_case():
    public = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)} | set(models.__all__)
    assert public <= set(CASES) | set(PLAIN) | set(LEFT_OUT)
    assert set(CASES) | set(PLAIN) <= public
    assert not (set(CASES) | set(PLAIN)) & set(LEFT_OUT)


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


@pytest.mark.parametrize("name", sorted({**CASES, **PLAIN}))
def test_onnxruntime_gives_the_same(name, tmp_path):
    for model, given in CASES.get(name) or [(getattr(dl, name)(), PLAIN[name])]:
        path = tmp_path / "m.onnx"
        export(model, path, *as_tuple(given[0]))
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for xs in map(as_tuple, given):
            with dl.inference(evaluate=True):
                wanted = as_tuple(model.forward(*xs))
            found = session.run(None, {value.name: x for value, x in zip(session.get_inputs(), xs, strict=True)})
            for y, other in zip(found, wanted, strict=True):
                assert (y.shape, y.dtype) == (other.shape, other.dtype)
                numpy.testing.assert_allclose(y, other, rtol=2e-5, atol=2e-6 * max(1.0, numpy.abs(other).max()))


@pytest.mark.parametrize("name", ["lenet", "ViT", "GPT2", "LSTM", "unet", "MultiheadAttention"])
def test_there_and_back(name, tmp_path):
    """The graph, loaded again, gives the answers, and its gradients are the model's."""
    model, given = CASES[name][0]
    export(model, tmp_path / "m.onnx", *as_tuple(given[0]))
    again = load(tmp_path / "m.onnx")
    model.eval()
    y, other = model.forward(*as_tuple(given[1])), again.forward(*as_tuple(given[1]))
    numpy.testing.assert_allclose(other, y, rtol=1e-5, atol=1e-6)
    dy = floats(*y.shape)
    model.zero_grad()
    dx, again_dx = model.backward(dy), again.backward(dy)
    if dx is not None:
        numpy.testing.assert_allclose(again_dx, dx, rtol=1e-4, atol=1e-5)
    gradients = {parameter.name: parameter.grad for parameter in again.parameters()}
    first = {parameter: path for path, parameter in reversed(list(model.named_parameters()))}  # of those that are tied
    for parameter, path in first.items():
        numpy.testing.assert_allclose(
            gradients[path], parameter.grad, rtol=1e-3, atol=1e-5 * max(1, numpy.abs(dy).sum())
        )


@pytest.mark.parametrize("name", ["BERT", "CLIP", "CharRNN", "DETR", "GPT2", "Transformer", "TwoTower", "ViT", "mlp"])
def test_named_models_need_no_example(name, tmp_path):
    """Their lengths are open, so what is drawn with the default runs with others."""
    model, given = CASES[name][0]
    model.export(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    xs = as_tuple(given[1])
    if name == "BERT":
        xs = (*xs, numpy.ones_like(xs[0]))
    if name == "ViT":
        xs = (floats(3, 3, 8, 8),)  # the size that the model was built for
    with dl.inference(evaluate=True):
        wanted = as_tuple(model.forward(*xs))
    found = session.run(None, {value.name: x for value, x in zip(session.get_inputs(), xs, strict=True)})
    for y, other in zip(found, wanted, strict=True):
        numpy.testing.assert_allclose(y, other, rtol=2e-5, atol=2e-6)


class TestFiles:
    def test_the_weights_stay_in_safetensors(self, tmp_path):
        """After further training only that file is saved again, and the graph gives the new answers."""
        model, x = models.mlp([8, 5, 3]), floats(4, 8)
        model.export(tmp_path / "m.onnx")
        assert (tmp_path / "m.onnx").stat().st_size < 1000
        for parameter in model.parameters():
            parameter.value[...] += 1
        model.save(tmp_path / "m.safetensors")
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
        numpy.testing.assert_allclose(session.run(None, {"x": x})[0], model.forward(x), rtol=1e-5)

    def test_inside(self, tmp_path):
        model, x = models.mlp([8, 5, 3]), floats(4, 8)
        model.export(tmp_path / "m.onnx", weights="inside")
        assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
        numpy.testing.assert_allclose(session.run(None, {"x": x})[0], model.forward(x), rtol=1e-5)

    def test_more_than_a_message_holds(self, tmp_path, monkeypatch):
        monkeypatch.setattr("minidl.interop.onnx.writing.LARGEST", 2000)  # bytes, in place of 2 GB
        model, x = models.mlp([8, 50, 3]), floats(4, 8)
        with pytest.raises(DataError, match="less than 2 GB"):
            model.export(tmp_path / "m.onnx", weights="inside")
        assert not list(tmp_path.iterdir())
        model.export(tmp_path / "m.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
        numpy.testing.assert_allclose(session.run(None, {"x": x})[0], model.forward(x), rtol=1e-5)

    def test_elsewhere(self, tmp_path):
        with pytest.raises(ParameterError, match="beside the graph"):
            models.mlp([8, 3]).export(tmp_path / "m.onnx", weights=tmp_path / "other" / "m.safetensors")

    def test_the_opset_is_the_lowest_that_has_all_nodes(self, tmp_path):
        for model, opset in ((dl.Linear(8, 3), 13), (dl.LayerNorm(8), 17), (dl.GELU(), 20), (dl.RMSNorm(8), 23)):
            export(model, tmp_path / "m.onnx", floats(2, 8))
            assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset

    def test_lengths_are_open_or_what_the_model_needs(self, tmp_path):
        export(models.lenet(), tmp_path / "m.onnx", floats(2, 1, 28, 28))
        export(models.unet(4, width=8, depth=2), tmp_path / "u.onnx", floats(1, 3, 16, 24))
        shapes = []
        for name in ("m", "u"):
            value = onnx.load(tmp_path / f"{name}.onnx").graph.input[0]
            shapes.append([d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim])
        assert shapes == [["N", 1, 28, 28], ["N", 3, "x_2", "x_3"]]

    def test_fixed(self, tmp_path):
        export(dl.Linear(8, 3), tmp_path / "m.onnx", floats(2, 8), fixed={"x": [0]})
        assert [d.dim_value for d in onnx.load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim] == [2, 8]

    def test_a_training_model_stays_as_it_is(self, tmp_path):
        model = models.mlp([8, 5, 3], dropout=0.5)
        model.forward(floats(2, 8))
        model.export(tmp_path / "m.onnx")
        assert model.training
        assert model.backward(floats(2, 3)).shape == (2, 8)


class TestRefusals:
    def test_all_that_has_no_rule_is_listed(self, tmp_path):
        pool = dl.layers.AdaptiveMaxPool2d(2, return_indices=True)
        model = layers.Chain(
            {"one": Unpooled(pool, dl.MaxUnpool2d(2)), "two": dl.AdaptiveMaxPool2d(3, return_indices=True)}
        )
        with pytest.raises(ParameterError) as error:
            export(model, tmp_path / "m.onnx", floats(2, 3, 16, 16))
        assert "adaptive_max_pool2d(2, True) of one.pool" in str(error.value)
        assert "adaptive_max_pool2d(3, True) of two" in str(error.value)
        assert not list(tmp_path.iterdir())

    def test_a_layer_that_leaves_the_graph(self, tmp_path):
        class Own(dl.layers.Layer):
            def forward(self, x):
                return numpy.asarray(x) * 2 if x.shape[0] else float(x[0])

        with pytest.raises(OrderError, match="numbers are asked for"):
            export(layers.Chain(Own()), tmp_path / "m.onnx", floats(2, 8))

    def test_a_model_without_parameters_yet(self, tmp_path):
        with pytest.raises(NotBuiltError, match="before it knows its input"):
            export(dl.Sequential(dl.Dense(3)), tmp_path / "m.onnx", floats(2, 8))

    def test_a_batch_that_is_baked_in(self, tmp_path):
        class Own(dl.layers.Layer):
            def forward(self, x):
                return x.reshape((int(x.shape[0]), -1))

        model = layers.Chain(Own())
        with pytest.raises(ParameterError, match="the batch of the example alone"):
            export(model, tmp_path / "m.onnx", floats(2, 3, 4))
        export(model, tmp_path / "m.onnx", floats(2, 3, 4), fixed={"x": [0]})

    def test_inputs_that_are_not_known(self, tmp_path):
        with pytest.raises(ShapeError, match="give an example"):
            export(dl.Conv2d(3, 4, 3), tmp_path / "m.onnx")

    def test_a_length_that_does_not_fit(self, tmp_path):
        with pytest.raises(ShapeError, match="needs 8 elements"):
            export(dl.Linear(8, 3), tmp_path / "m.onnx", floats(2, 7))


class TestCommandLine:
    def test_a_perceptron(self, tmp_path, capsys):
        run = ["train", "--data", "digits", "--epochs", "1", "--layers", "16", "--activation", "tanh"]
        assert main([*run, "--save", str(tmp_path / "w.safetensors")]) == 0
        assert main(["export", str(tmp_path / "w.safetensors"), "--output", str(tmp_path / "m.onnx")]) == 0
        out = capsys.readouterr().out
        assert re.search(r"takes x, \(N, 64\)", out)
        assert "m.safetensors, which must stay beside it" in out
        assert "Tanh" in {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}

    def test_a_file_of_a_whole_model(self, tmp_path, capsys):
        models.lenet().save(tmp_path / "w.safetensors")
        command = ["export", str(tmp_path / "w.safetensors"), "--output", str(tmp_path / "m.onnx")]
        assert main(command) == 2
        assert "give an example of each" in capsys.readouterr().err
        assert main([*command, "--shape", "1,28,28"]) == 0
        assert "takes x, (N, 1, 28, 28)" in capsys.readouterr().out

    def test_a_folder(self, tmp_path, capsys):
        settings = {"model_type": "gpt2", "vocab_size": 7, "n_positions": 12, "n_layer": 1, "n_head": 2, "n_embd": 8}
        tensors = models.GPT2.from_settings(settings).state_dict()
        tensors.pop("lm_head.weight")
        turned = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
        tensors = {name: numpy.ascontiguousarray(v.T if name.endswith(turned) else v) for name, v in tensors.items()}
        dl.weights.save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(settings))
        assert main(["export", str(tmp_path), "--output", str(tmp_path / "m.onnx"), "--inside"]) == 0
        assert "takes x, (N, x_1)" in capsys.readouterr().out


def test_without_the_package(tmp_path):
    program = (
        "import sys; sys.modules['onnx'] = None\n"
        "import minidl as dl\n"
        "for use in (lambda: dl.Linear(2, 3).export('m.onnx'), lambda: dl.interop.onnx.load('m.onnx')):\n"
        "    try: use()\n"
        "    except dl.errors.MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.count("pip install 'minidl[onnx]'") == 2


def test_the_page(tmp_path, monkeypatch):
    """Every block of docs/onnx.md prints what its comments say."""
    from pages import blocks, output, promised

    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(PAGE):
        assert output(block, names) == promised(block), block
