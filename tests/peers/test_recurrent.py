"""Recurrent layers against PyTorch's, forward and every gradient, in float64: stacked, in both directions, of any lengths."""

import itertools

import numpy
import pytest

torch = pytest.importorskip("torch")

import minidl as dl  # noqa: E402

pytestmark = pytest.mark.peers

C, H, N, T = 3, 5, 4, 6
LENGTHS = {"full": None, "different": [6, 2, 1, 4], "shorter than T": [2, 5, 3, 1]}
KINDS = {
    "RNN": ({}, {"nonlinearity": "relu"}),
    "LSTM": ({},),
    "GRU": ({},),
}
SETTINGS = [
    {"num_layers": 1},
    {"num_layers": 3},
    {"num_layers": 1, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bias": False},
]
CASES = [
    pytest.param(kind, {**more, **settings}, id=f"{kind}-{'-'.join(map(str, {**more, **settings}.values()))}")
    for kind, options in KINDS.items()
    for more, settings in itertools.product(options, SETTINGS)
]


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


def close(found, tensor):
    numpy.testing.assert_allclose(found, tensor.detach().numpy(), rtol=1e-10, atol=1e-12)


def pair(kind, settings, batch_first, features=C):
    ours = getattr(dl, kind)(features, H, batch_first=batch_first, dtype="float64", **settings)
    theirs = getattr(torch.nn, kind)(features, H, batch_first=batch_first, dtype=torch.float64, **settings)
    ours.load_state_dict({name: value.detach().numpy() for name, value in theirs.named_parameters()})
    assert list(ours.state_dict()) == [name for name, _ in theirs.named_parameters()]
    return ours, theirs


def run_theirs(theirs, x, state, lengths, batch_first):
    """Run packed sequences where there are lengths, as a user of PyTorch does."""
    if lengths is None:
        return theirs(x, state)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    y, final = theirs(packed, state)
    return torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=batch_first, total_length=T)[0], final


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_outputs_states_and_every_gradient(host_engine, rng, kind, settings, lengths, batch_first):
    lengths = LENGTHS[lengths]
    with dl.use(host_engine):
        ours, theirs = pair(kind, settings, batch_first)
        x = rng.standard_normal((N, T, C) if batch_first else (T, N, C))
        places = settings["num_layers"] * (2 if settings.get("bidirectional") else 1)
        first = [rng.standard_normal((places, N, H)) for _ in ours.states]
        y, final = ours.forward_with_state(
            x, tuple(first) if len(first) > 1 else first[0], None if lengths is None else numpy.array(lengths)
        )
        final = final if isinstance(final, tuple) else (final,)
        dy, dfinal = rng.standard_normal(y.shape), tuple(rng.standard_normal(s.shape) for s in final)
        dx, dfirst = ours.backward_with_state(dy, dfinal)
        dfirst = dfirst if isinstance(dfirst, tuple) else (dfirst,)

    tx = torch.tensor(x, requires_grad=True)
    tfirst = [torch.tensor(s, requires_grad=True) for s in first]
    ty, tfinal = run_theirs(theirs, tx, tuple(tfirst) if len(first) > 1 else tfirst[0], lengths, batch_first)
    tfinal = tfinal if isinstance(tfinal, tuple) else (tfinal,)
    loss = (ty * torch.tensor(dy)).sum() + sum((a * torch.tensor(b)).sum() for a, b in zip(tfinal, dfinal, strict=True))
    loss.backward()
    close(y, ty)
    close(dx, tx.grad)
    for found, tensor in zip((*final, *dfirst), (*tfinal, *(t.grad for t in tfirst)), strict=True):
        close(found, tensor)
    for name, parameter in theirs.named_parameters():
        close(getattr(ours, name).grad, parameter.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_parameters_are_drawn_alike(kind):
    dl.seed(0)
    torch.manual_seed(0)
    ours, theirs = getattr(dl, kind)(30, 50, num_layers=2), getattr(torch.nn, kind)(30, 50, num_layers=2)
    for name, parameter in theirs.named_parameters():
        own = getattr(ours, name).value
        assert own.shape == tuple(parameter.shape)
        assert abs(own).max() <= 50**-0.5
        assert own.std() == pytest.approx(float(parameter.detach().std()), rel=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_follows_float32(host_engine, rng, kind):
    """A size at which kernels use every part of theirs."""
    with dl.use(host_engine):
        ours = getattr(dl, kind)(65, 100, num_layers=2)
        theirs = getattr(torch.nn, kind)(65, 100, num_layers=2, batch_first=True)
        ours.load_state_dict({name: value.detach().numpy() for name, value in theirs.named_parameters()})
        x = rng.standard_normal((9, 20, 65)).astype("float32")
        y, _ = ours.forward_with_state(x)
        dy = rng.standard_normal(y.shape).astype("float32")
        dx = ours.backward(dy)
    tx = torch.tensor(x, requires_grad=True)
    ty, _ = theirs(tx)
    ty.backward(torch.tensor(dy))
    for found, tensor in [(y, ty), (dx, tx.grad)] + [
        (getattr(ours, n).grad, p.grad) for n, p in theirs.named_parameters()
    ]:
        expected = tensor.detach().numpy()
        numpy.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * abs(expected).max())
