"""Gradient accumulation in fit against the loop that people write for PyTorch."""

import numpy
import pytest

torch = pytest.importorskip("torch")

import minidl as dl  # noqa: E402
from minidl.training import GradientClipping, LearningRateScheduler  # noqa: E402

pytestmark = pytest.mark.peers


def test_the_usual_loop():
    """Batches of 5 rows, 4 to a step, 23 rows: the last step has the 3 rows of one batch."""
    random = numpy.random.default_rng(0)
    x, y = random.normal(size=(23, 6)), random.integers(0, 4, 23)
    mine = dl.Sequential(dl.Linear(6, 8, dtype="float64"), dl.Tanh(), dl.Linear(8, 4, dtype="float64"))
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)).double()
    mine.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    optimizer = dl.AdamW(dl.optim.param_groups_weight_decay(mine, 0.1), lr=0.01)
    peer = torch.optim.AdamW(
        [
            {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in theirs.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    schedule = LearningRateScheduler(dl.optim.ExponentialLR(optimizer, 0.8), interval="batch")
    peer_schedule = torch.optim.lr_scheduler.ExponentialLR(peer, 0.8)
    mine.compile(optimizer, "sparse_categorical_crossentropy")
    mine.fit(x, y, 5, 3, shuffle=False, callbacks=[GradientClipping(0.2), schedule], gradient_accumulation_steps=4)
    for _ in range(3):
        for start in (0, 20):
            rows = min(20, 23 - start)
            for at in range(start, start + rows, 5):
                part = slice(at, min(at + 5, start + rows))
                logits = theirs(torch.tensor(x[part]))
                loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y[part]), reduction="sum") / rows
                loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.2)
            peer.step()
            peer.zero_grad()
            peer_schedule.step()
    for own, expected in zip(mine.parameters(), theirs.parameters(), strict=True):
        numpy.testing.assert_allclose(own.value, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    assert optimizer.lr == pytest.approx(peer.param_groups[0]["lr"], rel=1e-12)
