"""The image models beside PyTorch's, written here with torchvision's attribute names, for the same weights.

torchvision itself is not needed: what is compared are the published architectures and the names of its weights.
"""

import numpy
import pytest

import minidl as dl
from minidl import models

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.peers


class LeNet(nn.Module):
    def __init__(self, modern):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.act = torch.relu if modern else torch.tanh
        self.pool = nn.MaxPool2d(2) if modern else nn.AvgPool2d(2)

    def forward(self, x):
        x = self.pool(self.act(self.conv1(x)))
        x = self.pool(self.act(self.conv2(x))).flatten(1)
        return self.fc3(self.act(self.fc2(self.act(self.fc1(x)))))


class VGG(nn.Module):
    def __init__(self, configuration, batch_norm, pooled, hidden, dropout, channels=3):
        super().__init__()
        layers = []
        for item in configuration.split():
            if item == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers.append(nn.Conv2d(channels, int(item), 3, padding=1))
            channels = int(item)
            layers += [nn.BatchNorm2d(channels)] if batch_norm else []
            layers.append(nn.ReLU())
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.classifier = nn.Sequential(
            nn.Linear(channels * pooled**2, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, blocks, widths, classes=10, imagenet=True, channels=3):
        super().__init__()
        stem = (7, 2, 3) if imagenet else (3, 1, 1)
        self.conv1 = nn.Conv2d(channels, widths[0], *stem, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        self.stages = len(widths)
        before = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stack = [Block(before, width, 1 if stage == 0 else 2)] + [Block(width, width, 1) for _ in range(count - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*stack))
            before = width
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


def conv_bn_relu6(inside, outside, size, stride=1, groups=1):
    conv = nn.Conv2d(inside, outside, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, inside, outside, stride, t):
        super().__init__()
        wide = inside * t
        parts = [conv_bn_relu6(inside, wide, 1)] if t > 1 else []
        parts += [conv_bn_relu6(wide, wide, 3, stride, wide), nn.Conv2d(wide, outside, 1, bias=False)]
        self.conv = nn.Sequential(*parts, nn.BatchNorm2d(outside))
        self.add = stride == 1 and inside == outside

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, widths, first, last, classes=10, dropout=0.2, cifar=False):
        super().__init__()
        table = [(1, 1, 1), (6, 2, 1 if cifar else 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1)]
        parts, before = [conv_bn_relu6(3, first, 3, 1 if cifar else 2)], first
        for (t, n, s), width in zip(table, widths, strict=True):
            for i in range(n):
                parts.append(Inverted(before, width, s if i == 0 else 1, t))
                before = width
        self.features = nn.Sequential(*parts, conv_bn_relu6(before, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


DOUBLE = {"dtype": "float64"}
SMALL_VGG = "32 32 M 64 64 M 128 128 M"
PAIRS = {
    "lenet": (lambda: models.lenet(**DOUBLE), lambda: LeNet(False), (1, 28, 28)),
    "modern lenet": (lambda: models.lenet(variant="modern", **DOUBLE), lambda: LeNet(True), (1, 28, 28)),
    "vgg": (
        lambda: models.vgg("8 M 16 M 24 24 M", 10, pooled=3, hidden=20, dropout=0.0, **DOUBLE),
        lambda: VGG("8 M 16 M 24 24 M", False, 3, 20, 0.0), (3, 32, 32),
    ),
    "small_vgg": (
        lambda: models.small_vgg(in_channels=1, dropout=0.0, **DOUBLE),
        lambda: VGG(SMALL_VGG, True, 2, 256, 0.0, 1), (1, 28, 28),
    ),
    "small_resnet": (
        lambda: models.small_resnet(widths=(8, 12, 16), blocks=2, **DOUBLE),
        lambda: ResNet((2, 2, 2), (8, 12, 16), imagenet=False, channels=1), (1, 28, 28),
    ),
    "resnet with four stages": (
        lambda: models.resnet((2, 2, 2, 2), (8, 16, 16, 24), 10, **DOUBLE),
        lambda: ResNet((2, 2, 2, 2), (8, 16, 16, 24)), (3, 64, 64),
    ),
    "mobilenet_v2": (
        lambda: models.mobilenet_v2(10, 0.1, dropout=0.0, **DOUBLE),
        lambda: MobileNetV2((8, 8, 8, 8, 16, 16, 32), 8, 1280, 10, 0.0), (3, 36, 36),
    ),
}  # fmt: skip


@pytest.fixture(params=PAIRS)
def pair(request):
    """A model, its twin with the same weights, and a batch; running statistics and gains are not those of the start."""
    make, make_twin, shape = PAIRS[request.param]
    random = numpy.random.default_rng(0)
    dl.seed(0)
    model, twin = make(), make_twin().double()
    state = twin.state_dict()
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value = random.uniform(0.5, 2.0, value.shape)
        elif "running_mean" in name:
            value = 0.1 * random.normal(size=value.shape)
        elif value.ndim == 1 and value.dtype.kind == "f":
            value = value + 0.1 * random.normal(size=value.shape)
        state[name] = torch.from_numpy(numpy.array(value))
    twin.load_state_dict(state)
    model.load_state_dict({name: value.numpy() for name, value in twin.state_dict().items()})
    return model, twin, random.normal(size=(3, *shape))


def test_names_and_shapes(pair):
    model, twin, _ = pair
    ours = {name: value.shape for name, value in model.state_dict().items()}
    assert ours == {name: tuple(value.shape) for name, value in twin.state_dict().items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_forward_and_every_gradient(pair, engine, training):
    if not dl.engines()[engine]:
        pytest.skip(str(dl.engines()[engine]))
    model, twin, x = pair
    target = numpy.array([1, 0, 9])
    tx = torch.tensor(x, requires_grad=True)
    theirs = twin.train(training)(tx)
    torch.nn.functional.cross_entropy(theirs, torch.tensor(target)).backward()
    with dl.use(engine):
        model.train(training)
        loss = dl.CrossEntropyLoss()
        y = model.forward(x)
        loss.forward(y, target)
        dx = model.backward(loss.backward())
    close(y, theirs.detach(), "y")
    close(dx, tx.grad, "dx")
    gradients = {name: p.grad for name, p in twin.named_parameters()}
    for name, p in model.named_parameters():
        close(p.grad, gradients[name], name)
    for name, value in twin.state_dict().items():  # running statistics move alike
        close(model.state_dict()[name], value, name)


def close(ours, theirs, name):
    theirs = theirs.numpy()
    scale = float(abs(theirs).max()) if theirs.size else 0.0
    numpy.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9 * max(scale, 1e-3), err_msg=name)


def test_single_precision(pair):
    model, twin, x = pair
    theirs = twin.float().eval()(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    ours = model.to(dtype="float32").eval().forward(x.astype("float32"))
    numpy.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * abs(theirs).max())


@pytest.mark.parametrize(
    ("make", "make_twin"),
    [
        (models.resnet18, lambda: ResNet((2, 2, 2, 2), (64, 128, 256, 512), 1000)),
        (models.mobilenet_v2, lambda: MobileNetV2((16, 24, 32, 64, 96, 160, 320), 32, 1280, 1000)),
    ],
)
def test_published_sizes_have_torchvisions_names_and_shapes(make, make_twin):
    twin = make_twin()
    ours = {name: value.shape for name, value in make().state_dict().items()}
    assert ours == {name: tuple(value.shape) for name, value in twin.state_dict().items()}


def test_their_weights_load_from_a_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    twin = ResNet((1, 1), (4, 8)).eval()
    safetensors.save_file(twin.state_dict(), tmp_path / "theirs.safetensors")
    model = models.resnet((1, 1), (4, 8), 10)
    model.load(tmp_path / "theirs.safetensors")
    x = numpy.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("float32")
    numpy.testing.assert_allclose(model.predict(x), twin(torch.from_numpy(x)).detach(), rtol=1e-4, atol=1e-5)
