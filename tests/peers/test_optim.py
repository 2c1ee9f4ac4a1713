"""Optimisers, schedules and clipping against PyTorch's, in float64."""

import math

import numpy
import pytest

torch = pytest.importorskip("torch")

from minidl import optim  # noqa: E402
from minidl.layers import Parameter, flatten  # noqa: E402

pytestmark = pytest.mark.peers

SHAPES = ((4, 3), (3,), (2, 3, 2))
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "centered": True}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "betas": (0.0, 0.0)}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "amsgrad": True}),
]


def pairs(seed=0):
    rng = numpy.random.default_rng(seed)
    starts = [rng.normal(size=shape) for shape in SHAPES]
    ours = [Parameter(start) for start in starts]
    flatten(ours)
    return ours, [torch.nn.Parameter(torch.tensor(start)) for start in starts]


def set_gradients(ours, theirs, rng):
    """Gradients whose size varies over orders of magnitude, so that averages of squares matter."""
    for p, q in zip(ours, theirs, strict=True):
        gradient = rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 2)
        p.grad = gradient
        q.grad = torch.tensor(gradient)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_optimizer(name, settings):
    ours, theirs = pairs()
    mine, peer = getattr(optim, name)(ours, **settings), getattr(torch.optim, name)(theirs, **settings)
    rng = numpy.random.default_rng(1)
    for _ in range(100):
        set_gradients(ours, theirs, rng)
        mine.step()
        peer.step()
    for p, q in zip(ours, theirs, strict=True):
        numpy.testing.assert_allclose(p.value, q.detach().numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"])
def test_defaults_are_theirs_but_for_the_rate_of_sgd(name):
    ours, theirs = pairs()
    mine, peer = getattr(optim, name)(ours).param_groups[0].settings, getattr(torch.optim, name)(theirs).defaults
    different = {key for key in mine if mine[key] != peer[key]}
    assert different == ({"lr"} if name == "SGD" else set())


def test_groups():
    ours, theirs = pairs()
    rng = numpy.random.default_rng(1)
    split = lambda p: [{"params": p[:1], "lr": 0.5}, {"params": p[1:], "momentum": 0.9}]  # noqa: E731
    mine, peer = optim.SGD(split(ours), lr=0.1), torch.optim.SGD(split(theirs), lr=0.1)
    for _ in range(20):
        set_gradients(ours, theirs, rng)
        mine.step()
        peer.step()
    for p, q in zip(ours, theirs, strict=True):
        numpy.testing.assert_allclose(p.value, q.detach().numpy(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.filterwarnings("ignore:To get the last learning rate:UserWarning")
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"])
def test_groups_with_schedules_clipping_and_a_late_group(name):
    ours, theirs = pairs()
    rng = numpy.random.default_rng(1)

    def make(module, p):
        return getattr(module, name)([{"params": [p[0]], "lr": 0.05, "weight_decay": 0.2}, {"params": [p[1]]}], lr=0.01)

    def schedules(module, optimizer, groups):
        each = [module.LambdaLR(optimizer, [lambda t: 0.9**t, lambda t: 1 / (1 + t), lambda t: 1.0][:groups])]
        return [*each, module.ReduceLROnPlateau(optimizer, patience=2, factor=0.5, min_lr=[0.01, 0.001, 0.0][:groups])]

    mine, peer = make(optim, ours), make(torch.optim, theirs)
    for groups in (2, 3):
        if groups == 3:
            mine.add_param_group({"params": [ours[2]], "lr": 0.1})
            peer.add_param_group({"params": [theirs[2]], "lr": 0.1})
        my_schedules = schedules(optim, mine, groups)
        peer_schedules = schedules(torch.optim.lr_scheduler, peer, groups)
        for step in range(15):
            set_gradients(ours, theirs, rng)
            if groups == 2:
                ours[2].grad, theirs[2].grad = None, None
            held = [q for group in peer.param_groups for q in group["params"]]
            norm = mine.clip_grad_norm(0.5)
            assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(held, 0.5)), rel=1e-12)
            mine.step()
            peer.step()
            for mine_or_peer in (my_schedules, peer_schedules):
                mine_or_peer[0].step()
                mine_or_peer[1].step(1.0)
            for own, other in zip(mine.param_groups, peer.param_groups, strict=True):
                assert own["lr"] == pytest.approx(other["lr"], rel=1e-11), step
    for p, q in zip(ours, theirs, strict=True):
        numpy.testing.assert_allclose(p.value, q.detach().numpy(), rtol=1e-11, atol=1e-12)


def test_the_groups_of_weight_decay_are_those_of_the_usual_recipe():
    """The recipe is written out here over PyTorch's own module, with its names and shapes."""
    from minidl.layers import TransformerEncoderLayer

    mine = TransformerEncoderLayer(8, 2, dim_feedforward=16)
    peer = torch.nn.TransformerEncoderLayer(8, 2, dim_feedforward=16)
    norms = [module for module in peer.modules() if isinstance(module, torch.nn.LayerNorm)]
    spared = {id(q) for norm in norms for q in norm.parameters()}
    wanted = [n for n, q in peer.named_parameters() if q.ndim >= 2 and not n.endswith("bias") and id(q) not in spared]
    decayed, rest = optim.param_groups_weight_decay(mine, 0.1)
    names = {parameter: name for name, parameter in mine.named_parameters()}
    assert sorted(names[p] for p in decayed["params"]) == sorted(wanted)
    assert len(decayed["params"]) + len(rest["params"]) == len(list(peer.parameters()))


SCHEDULES = [
    ("StepLR", {"step_size": 7, "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [20, 5, 5, 12], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 40}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 13}),
    ("LambdaLR", {"lr_lambda": lambda t: 0.95**t}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 40}),
    ("OneCycleLR", {"max_lr": 1.0, "epochs": 10, "steps_per_epoch": 4, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 40, "three_phase": True, "pct_start": 0.4, "div_factor": 5.0}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 40, "pct_start": 0.33, "final_div_factor": 10.0}),
]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.filterwarnings("ignore:To get the last learning rate:UserWarning")
@pytest.mark.parametrize(("name", "settings"), SCHEDULES, ids=lambda x: x if isinstance(x, str) else "-".join(x))
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_schedule(name, settings, kind):
    ours, theirs = pairs()
    more = {"momentum": 0.9} if kind == "SGD" else {}
    mine, peer = getattr(optim, kind)(ours, lr=0.1, **more), getattr(torch.optim, kind)(theirs, lr=0.1, **more)
    my_schedule = getattr(optim, name)(mine, **settings)
    peer_schedule = getattr(torch.optim.lr_scheduler, name)(peer, **settings)
    key = "momentum" if kind == "SGD" else "betas"
    for _ in range(40):
        assert mine.lr == pytest.approx(peer.param_groups[0]["lr"], rel=1e-11, abs=1e-16)
        assert mine.param_groups[0][key] == pytest.approx(peer.param_groups[0][key], rel=1e-11)
        my_schedule.step()
        peer_schedule.step()


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_sequential():
    ours, theirs = pairs()
    mine, peer = optim.SGD(ours, lr=0.1), torch.optim.SGD(theirs, lr=0.1)

    def sequence(module, optimizer):
        parts = [module.LinearLR(optimizer, 0.1, total_iters=5), module.CosineAnnealingLR(optimizer, 20)]
        return module.SequentialLR(optimizer, parts, milestones=[5])

    my_schedule, peer_schedule = sequence(optim, mine), sequence(torch.optim.lr_scheduler, peer)
    for _ in range(25):
        assert mine.lr == pytest.approx(peer.param_groups[0]["lr"], rel=1e-11, abs=1e-16)
        my_schedule.step()
        peer_schedule.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("more", [{}, {"cooldown": 3, "min_lr": 0.01}, {"threshold": 0.05, "factor": 0.7}])
def test_plateau(mode, threshold_mode, more):
    ours, theirs = pairs()
    mine, peer = optim.SGD(ours, lr=1.0), torch.optim.SGD(theirs, lr=1.0)
    settings = {"mode": mode, "threshold_mode": threshold_mode, "patience": 2, "factor": 0.5, **more}
    my_schedule = optim.ReduceLROnPlateau(mine, **settings)
    peer_schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, **settings)
    rng = numpy.random.default_rng(0)
    reduced = set()
    for _ in range(60):
        metric = round(1 + rng.random(), 1)
        my_schedule.step(metric)
        peer_schedule.step(metric)
        assert mine.lr == pytest.approx(peer.param_groups[0]["lr"])
        reduced.add(mine.lr)
    assert len(reduced) > 3


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clip_grad_norm(norm_type, max_norm):
    ours, theirs = pairs()
    set_gradients(ours, theirs, numpy.random.default_rng(3))
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert optim.clip_grad_norm(ours, max_norm, norm_type) == pytest.approx(float(expected), rel=1e-13)
    for p, q in zip(ours, theirs, strict=True):
        numpy.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-12)


def test_clip_grad_value():
    ours, theirs = pairs()
    set_gradients(ours, theirs, numpy.random.default_rng(3))
    torch.nn.utils.clip_grad_value_(theirs, 0.1)
    optim.clip_grad_value(ours, 0.1)
    for p, q in zip(ours, theirs, strict=True):
        numpy.testing.assert_array_equal(p.grad, q.grad.numpy())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
        ("Adagrad", {"lr": 0.01, "eps": 1e-3}),
        ("RMSprop", {"lr": 0.01, "eps": 1e-3}),
        ("Adam", {"lr": 0.01, "eps": 1e-3}),
        ("AdamW", {"lr": 0.01, "eps": 1e-3}),
    ],
)
def test_float16_where_theirs_has_no_overflow(name, settings):
    """Their state is float16, so they agree only where no square leaves its range."""
    rng = numpy.random.default_rng(0)
    start = rng.normal(size=50).astype("float16")
    p, q = Parameter(start.copy()), torch.nn.Parameter(torch.tensor(start))
    mine, peer = getattr(optim, name)([p], **settings), getattr(torch.optim, name)([q], **settings)
    for _ in range(5):
        gradient = rng.uniform(0.5, 2, size=50).astype("float16")
        p.grad, q.grad = gradient, torch.tensor(gradient)
        mine.step()
        peer.step()
    assert p.value.dtype == "float16"
    numpy.testing.assert_allclose(p.value, q.detach().numpy(), atol=5 * 2**-9)
