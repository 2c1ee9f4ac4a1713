"""fit against the same training written out in PyTorch: losses and weights to rounding."""

import numpy
import pytest

import minidl as dl
from minidl import training

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

N, BATCH, EPOCHS = 50, 16, 4
RANDOM = numpy.random.default_rng(0)
X = RANDOM.normal(size=(N, 5))
WEIGHTS = RANDOM.uniform(0, 2, N)

PROBLEMS = {
    "mean_squared_error": (None, X[:, 0] * X[:, 1], 1),
    "mean_absolute_error": (None, X[:, 0] * X[:, 1], 1),
    "huber": (None, 3 * X[:, 0] * X[:, 1], 1),
    "binary_crossentropy": ("sigmoid", (X[:, 0] > X[:, 1]).astype(int), 1),
    "sparse_categorical_crossentropy": ("softmax", (X[:, 0] > 0) + (X[:, 1] > 0).astype(int), 3),
    "categorical_crossentropy": ("softmax", RANDOM.dirichlet([1, 1, 1], N), 3),
}
OPTIMIZERS = [
    (dl.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    (dl.AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Tiny models: PyTorch's threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def each_loss(name, output, y):
    """Each example's loss, from probabilities where the model ends in them: what the names mean."""
    functional = torch.nn.functional
    if name == "binary_crossentropy":
        return functional.binary_cross_entropy(output, y.double(), reduction="none")
    if name == "sparse_categorical_crossentropy":
        return functional.nll_loss(output.log(), y, reduction="none")
    if name == "categorical_crossentropy":
        return -(y * output.log()).sum(axis=1)
    elementwise = {"mean_squared_error": "mse_loss", "mean_absolute_error": "l1_loss", "huber": "huber_loss"}[name]
    return getattr(functional, elementwise)(output, y.double(), reduction="none")


def in_torch(name, state, kind, settings, weights):
    """Train in PyTorch; return the loss of each epoch and the weights."""
    last, y, units = PROBLEMS[name]
    ending = {"sigmoid": [torch.nn.Sigmoid()], "softmax": [torch.nn.Softmax(dim=1)], None: []}[last]
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, units), *ending).double()
    model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in state.items()})
    optimizer = kind(model.parameters(), **settings)
    x, y, weights = torch.from_numpy(X), torch.from_numpy(numpy.asarray(y)), torch.from_numpy(weights)
    losses = []
    for _ in range(EPOCHS):
        total = 0.0
        for part in torch.arange(N).split(BATCH):
            output = model(x[part])
            loss = (each_loss(name, output[:, 0] if units == 1 else output, y[part]) * weights[part]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(part)
        losses.append(total / N)
    return losses, {key: value.numpy() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "peer", "settings"), OPTIMIZERS, ids=["sgd", "adamw"])
def test_fit_trains_as_pytorch_does(name, weighted, kind, peer, settings, host_engine):
    last, y, units = PROBLEMS[name]
    ending = [{"sigmoid": dl.Sigmoid, "softmax": dl.Softmax}[last]()] if last else []
    with dl.use(host_engine):
        model = dl.Sequential(
            dl.Linear(5, 8, dtype="float64"), dl.Tanh(), dl.Linear(8, units, dtype="float64"), *ending
        )
        losses, state = in_torch(name, model.state_dict(), peer, settings, WEIGHTS if weighted else numpy.ones(N))
        model.compile(lambda parameters: kind(parameters, **settings), name)
        given = WEIGHTS if weighted else None
        history = model.fit(X, y, BATCH, EPOCHS, shuffle=False, sample_weight=given)
        numpy.testing.assert_allclose(history.history["loss"], losses, rtol=1e-10)
        for key, value in model.state_dict().items():
            numpy.testing.assert_allclose(value, state[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("max_norm", [0.1, 1e9])
def test_clipping_is_that_of_pytorch(max_norm):
    y = X[:, :1] * 100
    model = dl.Sequential(dl.Linear(5, 1, dtype="float64"))
    peer = torch.nn.Linear(5, 1).double()
    peer.load_state_dict({key[2:]: torch.from_numpy(value) for key, value in model.state_dict().items()})
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(peer(torch.from_numpy(X)), torch.from_numpy(y)).backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), max_norm)
        optimizer.step()
    model.compile(lambda parameters: dl.SGD(parameters, lr=0.1), "mse")
    model.fit(X, y, batch_size=N, epochs=3, shuffle=False, callbacks=training.GradientClipping(max_norm))
    numpy.testing.assert_allclose(model[0].weight.value, peer.weight.detach().numpy(), rtol=1e-10)
