"""Rankings, calibration and attributions beside scikit-learn, torchmetrics and Captum."""

import numpy
import pytest

import minidl as dl
from minidl.attribution import integrated_gradients
from minidl.metrics import brier_score, calibration_error, fit_temperature, ndcg, recall_at_k
from minidl.models import TwoTower

pytestmark = pytest.mark.peers
RNG = numpy.random.default_rng(0)


@pytest.mark.parametrize("k", [None, 1, 5, 30])
@pytest.mark.parametrize("ties", [False, True])
def test_ndcg_is_scikit_learns(k, ties):
    metrics = pytest.importorskip("sklearn.metrics")
    relevance, scores = RNG.integers(0, 4, (40, 30)), RNG.normal(size=(40, 30))
    scores = scores.round(0) if ties else scores
    assert ndcg(relevance, scores, k) == pytest.approx(metrics.ndcg_score(relevance, scores, k=k), rel=1e-12)


def test_recall_is_torchmetrics():
    torch, retrieval = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional.retrieval")
    relevant, scores = RNG.integers(0, 2, (40, 30)), RNG.normal(size=(40, 30))
    theirs = [
        retrieval.retrieval_recall(torch.tensor(score), torch.tensor(true), top_k=7)
        for true, score in zip(relevant, scores, strict=True)
    ]
    assert recall_at_k(relevant, scores, 7) == pytest.approx(float(torch.stack(theirs).double().mean()), rel=1e-6)


def test_brier_score_and_calibration_error():
    metrics = pytest.importorskip("sklearn.metrics")
    true, probability = RNG.integers(0, 2, 300), RNG.uniform(size=300)
    assert brier_score(true, probability) == pytest.approx(metrics.brier_score_loss(true, probability), rel=1e-12)
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    theirs = functional.binary_calibration_error(torch.tensor(probability), torch.tensor(true), n_bins=15)
    assert calibration_error(true, probability, bins=15) == pytest.approx(float(theirs), rel=1e-5)


def test_temperature_is_what_torch_minimises():
    torch = pytest.importorskip("torch")
    z, true = 3 * RNG.normal(size=(200, 4)), RNG.integers(0, 4, 200)
    true[:120] = z[:120].argmax(axis=1)
    inverse = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(inverse * torch.tensor(z), torch.tensor(true))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(z, true) == pytest.approx(1 / inverse.item(), rel=1e-6)


def test_integrated_gradients_are_captums():
    torch, attr = pytest.importorskip("torch"), pytest.importorskip("captum.attr")
    ours = dl.Sequential(dl.Linear(4, 8, dtype="float64"), dl.ReLU(), dl.Linear(8, 3, dtype="float64"))
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).double()
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    x, baseline = RNG.normal(size=(6, 4)), RNG.normal(size=(1, 4))
    expected = attr.IntegratedGradients(theirs).attribute(
        torch.tensor(x), torch.tensor(baseline), target=2, n_steps=20, method="gausslegendre"
    )
    numpy.testing.assert_allclose(
        integrated_gradients(ours, x, baseline[0], target=2, steps=20),
        expected.detach().numpy(),
        rtol=1e-7,  # its points and weights are float32
        atol=1e-9,
    )


def test_two_towers_learn_as_in_torch():
    torch = pytest.importorskip("torch")
    ours = TwoTower(5, 9, 4, dtype="float64", generator=numpy.random.default_rng(0))
    tables = [torch.tensor(parameter.value, requires_grad=True) for parameter in ours.parameters()]
    loss, adam = dl.CrossEntropyLoss(), dl.Adam(ours.parameters(), lr=0.05, weight_decay=1e-3)
    theirs = torch.optim.Adam(tables, lr=0.05, weight_decay=1e-3)
    for _ in range(20):
        users, items = RNG.integers(0, 5, 7), RNG.integers(0, 9, (7, 3))
        target = numpy.zeros(7, dtype="int64")
        value = loss.forward(ours.forward(users, items), target)
        adam.zero_grad()
        ours.backward(loss.backward())
        adam.step()
        u, v, b = tables[0][users], tables[1][items], tables[2][items]
        expected = torch.nn.functional.cross_entropy((u[:, None] * v).sum(2) + b[..., 0], torch.tensor(target))
        theirs.zero_grad()
        expected.backward()
        theirs.step()
        assert float(value) == pytest.approx(float(expected.detach()), rel=1e-12)
    for parameter, table in zip(ours.parameters(), tables, strict=True):
        numpy.testing.assert_allclose(parameter.value, table.detach().numpy(), rtol=1e-9, atol=1e-12)
