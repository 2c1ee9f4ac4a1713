"""What the tests of the GPU path run: every layer, loss, optimiser and metric, and models small enough for emulation.

Each case makes its object anew, on the engine that is current, so that the same numbers are computed on the host and elsewhere.
"""

import numpy

import minidl as dl
from minidl import layers, models, text


def draw(*shape, seed=0, dtype="float32"):
    return numpy.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def ids(*shape, below=5, seed=0):
    return numpy.random.default_rng([seed, *shape]).integers(0, below, shape)


LAYERS = {
    "AdaptiveAvgPool1d": (lambda: layers.AdaptiveAvgPool1d(3), draw(2, 3, 7)),
    "AdaptiveAvgPool2d": (lambda: layers.AdaptiveAvgPool2d((3, 2)), draw(2, 3, 7, 5)),
    "AdaptiveMaxPool1d": (lambda: layers.AdaptiveMaxPool1d(3), draw(2, 3, 7)),
    "AdaptiveMaxPool2d": (lambda: layers.AdaptiveMaxPool2d((3, 2)), draw(2, 3, 7, 5)),
    "AvgPool1d": (lambda: layers.AvgPool1d(3, padding=1), draw(2, 3, 7)),
    "AvgPool2d": (lambda: layers.AvgPool2d(2), draw(2, 3, 6, 4)),
    "AvgPool3d": (lambda: layers.AvgPool3d(2), draw(2, 3, 4, 4, 2)),
    "BatchNorm1d": (lambda: layers.BatchNorm1d(3), draw(6, 3)),
    "BatchNorm2d": (lambda: layers.BatchNorm2d(3), draw(2, 3, 4, 4)),
    "CausalConv1d": (lambda: layers.CausalConv1d(3, 4, 2), draw(2, 3, 6)),
    "Conv1d": (lambda: layers.Conv1d(3, 4, 3, stride=2, padding=1), draw(2, 3, 7)),
    "Conv2d": (lambda: layers.Conv2d(4, 6, 3, padding=1, groups=2), draw(2, 4, 5, 6)),
    "Conv3d": (lambda: layers.Conv3d(2, 3, 2), draw(2, 2, 3, 4, 3)),
    "ConvTranspose1d": (lambda: layers.ConvTranspose1d(3, 2, 3, stride=2), draw(2, 3, 4)),
    "ConvTranspose2d": (lambda: layers.ConvTranspose2d(3, 2, 3, stride=2), draw(2, 3, 4, 3)),
    "Dense": (lambda: layers.Dense(3, activation="gelu"), draw(4, 5)),
    "Dropout": (lambda: layers.Dropout(0.0), draw(4, 5)),
    "Dropout2d": (lambda: layers.Dropout2d(0.0), draw(2, 3, 4, 4)),
    "Embedding": (lambda: layers.Embedding(5, 3), ids(2, 4)),
    "Flatten": (lambda: layers.Flatten(), draw(2, 3, 4)),
    "FrozenBatchNorm2d": (lambda: layers.FrozenBatchNorm2d(3), draw(2, 3, 4, 4)),
    "GLU": (lambda: layers.GLU(), draw(4, 6)),
    "GRU": (lambda: layers.GRU(3, 4, batch_first=True), draw(2, 5, 3)),
    "GeGLU": (lambda: layers.GeGLU(4, 6), draw(2, 3, 4)),
    "GlobalAvgPool1d": (lambda: layers.GlobalAvgPool1d(), draw(2, 3, 5)),
    "GlobalAvgPool2d": (lambda: layers.GlobalAvgPool2d(), draw(2, 3, 5, 4)),
    "GlobalMaxPool1d": (lambda: layers.GlobalMaxPool1d(), draw(2, 3, 5)),
    "GlobalMaxPool2d": (lambda: layers.GlobalMaxPool2d(), draw(2, 3, 5, 4)),
    "GroupNorm": (lambda: layers.GroupNorm(2, 4), draw(2, 4, 3, 3)),
    "GroupedQueryAttention": (lambda: layers.GroupedQueryAttention(8, 4, 2), draw(2, 5, 8)),
    "Identity": (lambda: layers.Identity(), draw(2, 3)),
    "LSTM": (lambda: layers.LSTM(3, 4, 2, batch_first=True, bidirectional=True), draw(2, 5, 3)),
    "LayerNorm": (lambda: layers.LayerNorm(4), draw(2, 3, 4)),
    "LayerScale": (lambda: layers.LayerScale(4), draw(2, 3, 4)),
    "LearnedPositions": (lambda: layers.LearnedPositions(6, 4), draw(2, 3, 4)),
    "Linear": (lambda: layers.Linear(4, 3), draw(2, 3, 4)),
    "LoRALinear": (lambda: layers.LoRALinear(layers.Linear(4, 3), 2), draw(2, 4)),
    "MaxPool1d": (lambda: layers.MaxPool1d(2), draw(2, 3, 7)),
    "MaxPool2d": (lambda: layers.MaxPool2d(3, stride=2, padding=1), draw(2, 3, 6, 5)),
    "MaxPool3d": (lambda: layers.MaxPool3d(2), draw(2, 3, 4, 4, 2)),
    "MultiheadAttention": (lambda: layers.MultiheadAttention(8, 2), draw(2, 4, 8)),
    "PReLU": (lambda: layers.PReLU(3), draw(4, 3)),
    "Parallel": (lambda: layers.Parallel(layers.Linear(4, 3), layers.Linear(4, 3)), draw(2, 4)),
    "Permute": (lambda: layers.Permute((2, 1)), draw(2, 3, 4)),
    "RMSNorm": (lambda: layers.RMSNorm(4), draw(2, 3, 4)),
    "RNN": (lambda: layers.RNN(3, 4, batch_first=True), draw(2, 5, 3)),
    "ReflectionPad2d": (lambda: layers.ReflectionPad2d(1), draw(2, 3, 4, 4)),
    "ReplicationPad2d": (lambda: layers.ReplicationPad2d(1), draw(2, 3, 4, 4)),
    "Reshape": (lambda: layers.Reshape((6, 2)), draw(2, 3, 4)),
    "Residual": (lambda: layers.Residual(layers.Linear(4, 4)), draw(2, 4)),
    "RotaryPositions": (lambda: layers.RotaryPositions(4, 8), draw(2, 2, 5, 4)),
    "SinusoidalPositions": (lambda: layers.SinusoidalPositions(4), draw(2, 5, 4)),
    "SwiGLU": (lambda: layers.SwiGLU(4, 6), draw(2, 3, 4)),
    "TransformerDecoderLayer": (
        lambda: layers.TransformerDecoderLayer(8, 2, 16, dropout=0.0),
        (draw(2, 4, 8), draw(2, 3, 8, seed=1)),
    ),
    "TransformerDecoder": (
        lambda: layers.TransformerDecoder(layers.TransformerDecoderLayer(8, 2, 16, dropout=0.0), 2),
        (draw(2, 4, 8), draw(2, 3, 8, seed=1)),
    ),
    "TransformerEncoderLayer": (lambda: layers.TransformerEncoderLayer(8, 2, 16, dropout=0.0), draw(2, 4, 8)),
    "TransformerEncoder": (
        lambda: layers.TransformerEncoder(layers.TransformerEncoderLayer(8, 2, 16, dropout=0.0), 2),
        draw(2, 4, 8),
    ),
    "Unflatten": (lambda: layers.Unflatten(1, (2, 2)), draw(3, 4)),
    "Upsample nearest": (lambda: layers.Upsample(scale_factor=2), draw(2, 3, 3, 4)),
    "Upsample bilinear": (lambda: layers.Upsample(scale_factor=2, mode="bilinear"), draw(2, 3, 3, 4)),
    "ZeroPad2d": (lambda: layers.ZeroPad2d(1), draw(2, 3, 4, 4)),
    **{
        kind.__name__: (kind, draw(3, 4))
        for kind in layers.Activation.__subclasses__()
        if kind.__module__ == layers.Activation.__module__
    },
}

"""Layers by name: how to make each, and its input or inputs."""

PROBABILITIES = numpy.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]], dtype="float32")
CLASSES = numpy.array([0, 2, -100, 1])

LOSSES = {
    "BCELoss": (layers.BCELoss, PROBABILITIES, (PROBABILITIES > 0.3).astype("float32")),
    "BCEWithLogitsLoss": (layers.BCEWithLogitsLoss, draw(4, 3), (PROBABILITIES > 0.3).astype("float32")),
    "CTCLoss": (
        layers.CTCLoss,
        numpy.log(numpy.stack([PROBABILITIES, PROBABILITIES[::-1]])).copy(),
        (numpy.array([[1, 2], [2, 1]]), numpy.array([4, 4]), numpy.array([2, 1])),
    ),
    "CrossEntropyLoss": (layers.CrossEntropyLoss, draw(4, 3), CLASSES),
    "CrossEntropyLoss of probabilities": (layers.CrossEntropyLoss, draw(4, 3), PROBABILITIES),
    "CrossEntropyLoss of sequences": (
        lambda: layers.CrossEntropyLoss(label_smoothing=0.1, class_axis=-1),
        draw(2, 4, 3),
        numpy.stack([CLASSES, CLASSES[::-1]]),
    ),
    "HuberLoss": (layers.HuberLoss, draw(4, 3), draw(4, 3, seed=1)),
    "KLDivLoss": (lambda: layers.KLDivLoss("batchmean"), numpy.log(PROBABILITIES), PROBABILITIES[::-1].copy()),
    "L1Loss": (layers.L1Loss, draw(4, 3), draw(4, 3, seed=1)),
    "MSELoss": (layers.MSELoss, draw(4, 3), draw(4, 3, seed=1)),
    "NLLLoss": (layers.NLLLoss, numpy.log(PROBABILITIES), CLASSES),
}
"""Losses by name: how to make each, its prediction, and its target or targets."""

OPTIMIZERS = {
    "SGD": lambda p: dl.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: dl.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adagrad": lambda p: dl.Adagrad(p, lr=0.1),
    "RMSprop": lambda p: dl.RMSprop(p, lr=0.01, centered=True, momentum=0.9),
    "Adam": lambda p: dl.Adam(p, lr=0.1, amsgrad=True, weight_decay=0.1),
    "AdamW": lambda p: dl.AdamW(p, lr=0.1),
}
"""Optimisers by name: a function of the parameters."""

SMALL_BERT = {"vocab_size": 9, "context": 8, "layers": 1, "heads": 2, "width": 8, "hidden": 16} | dict.fromkeys(
    ("dropout", "attention_dropout", "head_dropout"), 0.0
)

MODELS = {
    "BERT": (lambda: models.BERT(models.BERTConfig(**SMALL_BERT)), ids(2, 5, below=9)),
    "BERT classifying": (
        lambda: models.BERT(models.BERTConfig(**SMALL_BERT, head="sequence_classification")),
        ids(2, 5, below=9),
    ),
    "CharRNN": (lambda: models.CharRNN(6, 4, 5), ids(2, 4, below=6)),
    "GPT2": (lambda: models.GPT2(gpt_config()), ids(2, 5, below=9)),
    "Transformer": (
        lambda: models.Transformer(
            6, 7, d_model=8, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=8, dropout=0.0
        ),
        (ids(2, 4, below=6), ids(2, 3, below=7)),
    ),
    "TabularNetwork": (
        lambda: models.TabularNetwork(4, {1: 3}, hidden=(6,)),
        numpy.array([[0.5, 2, -1.0, 3.0], [1.5, 0, 0.25, 1.0], [0.0, 1, 2.0, 0.5]], "float32"),
    ),
    "TwoTower": (lambda: models.TwoTower(4, 6, 3), (ids(3, below=4), ids(3, 2, below=6))),
    "ViT": (
        lambda: models.ViT(
            models.ViTConfig(image_size=8, patch_size=4, channels=1, layers=1, heads=2, width=8, hidden=16, classes=3)
        ),
        draw(2, 1, 8, 8),
    ),
    "lenet": (lambda: models.lenet(3), draw(2, 1, 28, 28)),
    "mlp": (lambda: models.mlp([4, 6, 3], "gelu"), draw(5, 4)),
    "mobilenet": (lambda: models.mobilenet_v2(3, 0.1, "cifar", 1, 0.0), draw(2, 1, 8, 8)),
    "small_resnet": (lambda: models.small_resnet(3, 1, (4, 8)), draw(2, 1, 8, 8)),
    "small_vgg": (
        lambda: models.vgg("4 M 8 M", 3, 1, batch_norm=True, pooled=2, hidden=8, dropout=0.0),
        draw(2, 1, 8, 8),
    ),
    "unet": (lambda: models.unet(2, 1, 4, 1), draw(1, 1, 8, 8)),
}
"""Models by name: how to make each, and its input or inputs."""


def gpt_config():
    return models.GPT2Config(vocab_size=9, context=8, layers=1, heads=2, width=8, dropout=0.0)


METRICS = ["accuracy", "top_k_accuracy", "precision", "recall", "f1"]
"""What a classifier is measured by."""
NUMBERS = ["mae", "mse", "rmse", "r2"]
"""What a regression is measured by."""


def on(engine, given):
    """Return the arrays on an engine."""
    return tuple(map(engine.asarray, given)) if isinstance(given, tuple) else (engine.asarray(given),)


def as_tuple(given):
    return given if isinstance(given, tuple) else (given,)


def run_layer(engine, make, given):
    """Return the outputs of a layer, the gradients of its inputs and of its parameters, on the host."""
    with dl.use(engine) as current:
        dl.seed(0)
        layer = make()
        y = as_tuple(layer.forward(*on(current, given)))
        dy = [current.asarray(draw(*each.shape, seed=3)) for each in y]
        dx = as_tuple(layer.backward(dy[0] if len(dy) == 1 else tuple(dy)))
        found = (*y, *dx, *(parameter.grad for parameter in layer.parameters()))
        return [current.to_host(array) for array in found if array is not None]


def run_loss(engine, make, prediction, target):
    """Return a loss and its gradient, on the host."""
    with dl.use(engine) as current:
        loss = make()
        value = loss.forward(current.asarray(prediction), *on(current, target))
        return [current.to_host(value), current.to_host(loss.backward())]


def check_alike(found, expected, rtol=2e-5, atol=2e-6):
    for one, other in zip(found, expected, strict=True):
        numpy.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# three training runs: history, arrays and results, on the host -----------------------------------------------------


def train_mlp(engine, epochs=3):
    """An MLP on points in the plane, with dropout switched off so that both sides draw the same numbers."""
    with dl.use(engine) as current:
        dl.seed(0)
        model = models.mlp([2, 16, 3], "gelu")
        model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"])
        x = draw(90, 2)
        y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)
        history = model.fit(
            x,
            y,
            epochs=epochs,
            batch_size=16,
            seed=0,
            validation_split=0.1,
            callbacks=[dl.training.GradientClipping(1.0)],
        )
        return history.history, [current.to_host(p.value) for p in model.parameters()], model.predict(x)


def train_convolutions(engine):
    """A small convolutional network with batch normalisation, in steps of two batches."""
    with dl.use(engine) as current:
        dl.seed(0)
        parts = [
            dl.Conv2d(1, 4, 3, padding=1, bias=False),
            dl.BatchNorm2d(4),
            dl.ReLU(),
            dl.MaxPool2d(2),
            dl.Flatten(),
            dl.Linear(64, 2),
        ]
        model = dl.Sequential(parts)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        x = draw(24, 1, 8, 8)
        y = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
        history = model.fit(x, y, epochs=2, batch_size=6, seed=0, gradient_accumulation_steps=2)
        return history.history, [current.to_host(a) for _, a in sorted(model.named_buffers())], model.predict(x)


def train_gpt(engine):
    """A GPT of one block on a sequence that repeats, and what it writes."""
    with dl.use(engine) as current:
        dl.seed(0)
        model = models.GPT2(gpt_config())
        model.compile("adam", dl.CrossEntropyLoss(class_axis=-1))
        tokens = numpy.tile(numpy.arange(9), 20)
        rows = numpy.stack([tokens[i : i + 9] for i in range(32)])
        history = model.fit(rows[:, :-1], rows[:, 1:], epochs=4, batch_size=8, seed=0)
        written = text.generate(model, numpy.array([0, 1, 2]), 6, temperature=0)
        drawn = text.generate(
            model, [numpy.array([3]), numpy.array([5, 6])], 4, top_k=4, top_p=0.9, repetition_penalty=1.1, seed=3
        )
        return history.history, [current.to_host(p.value) for p in model.parameters()], [written, *drawn]


TRAINING = {"mlp": train_mlp, "convolutions": train_convolutions, "gpt": train_gpt}
"""Three training runs by name, each a function of the engine."""
