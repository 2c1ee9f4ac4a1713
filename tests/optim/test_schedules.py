"""Learning-rate schedules."""

import math

import numpy
import pytest

from minidl.errors import OrderError, ParameterError
from minidl.layers import Parameter
from minidl.optim import (
    SGD,
    Adagrad,
    Adam,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)


def optimizer(kind=SGD, lr=1.0, **settings):
    return kind([Parameter(numpy.zeros(2))], lr=lr, **settings)


def rates(make, steps, **settings):
    """All rates from t = 0 on."""
    owner = optimizer(**settings)
    schedule = make(owner)
    found = [owner.lr]
    for _ in range(steps):
        schedule.step()
        found.append(owner.lr)
    return found


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda o: StepLR(o, 2, gamma=0.5), [1, 1, 0.5, 0.5, 0.25]),
        (lambda o: MultiStepLR(o, [3, 1, 3], gamma=0.5), [1, 0.5, 0.5, 0.125, 0.125]),
        (lambda o: ExponentialLR(o, 0.5), [1, 0.5, 0.25, 0.125, 0.0625]),
        (lambda o: LinearLR(o, 0.25, total_iters=3), [0.25, 0.5, 0.75, 1, 1]),
        (
            lambda o: CosineAnnealingLR(o, 4, eta_min=0.5),
            [1, 0.75 + math.sqrt(2) / 8, 0.75, 0.75 - math.sqrt(2) / 8, 0.5],
        ),
        (lambda o: CosineAnnealingWarmRestarts(o, 2), [1, 0.5, 1, 0.5, 1]),
        (lambda o: CosineAnnealingWarmRestarts(o, 1, T_mult=2, eta_min=0.5), [1, 1, 0.75, 1, 0.75 + math.sqrt(2) / 8]),
        (lambda o: LambdaLR(o, lambda t: 1 / (1 + t)), [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
        (
            lambda o: SequentialLR(o, [LinearLR(o, 0.5, total_iters=2), ExponentialLR(o, 0.1)], [2]),
            [0.5, 0.75, 1, 0.1, 0.01],
        ),
    ],
)
def test_rates(make, expected):
    numpy.testing.assert_allclose(rates(make, 4), expected, rtol=1e-15)


def test_each_group_keeps_its_own_rate():
    a, b = Parameter(numpy.zeros(2)), Parameter(numpy.zeros(3))
    owner = SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}])
    schedule = StepLR(owner, 1)
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.1, 0.01])


def test_the_last_milestone_of_a_sequence_counts_from_zero():
    make = lambda o: SequentialLR(o, [StepLR(o, 100), StepLR(o, 100), ExponentialLR(o, 0.5)], [1, 3])  # noqa: E731
    assert rates(make, 5) == [1, 1, 1, 1, 0.5, 0.25]


def test_one_cycle_goes_up_and_down():
    owner = optimizer(momentum=0.9)
    schedule = OneCycleLR(owner, max_lr=1.0, total_steps=11, pct_start=0.5)
    lr, momentum = [owner.lr], [owner.param_groups[0]["momentum"]]
    for _ in range(10):
        schedule.step()
        lr.append(owner.lr)
        momentum.append(owner.param_groups[0]["momentum"])
    assert lr[0] == pytest.approx(1 / 25)
    assert lr[-1] == pytest.approx(1 / 25 / 1e4)
    assert max(lr) <= 1.0
    assert numpy.argmax(lr) == numpy.argmin(momentum)
    assert momentum[0] == pytest.approx(0.95)
    assert momentum[-1] == pytest.approx(0.95)


def test_one_cycle_moves_the_first_beta():
    owner = optimizer(Adam)
    OneCycleLR(owner, max_lr=0.1, epochs=2, steps_per_epoch=3)
    assert owner.param_groups[0]["betas"] == (0.95, 0.999)


def test_one_cycle_ends():
    owner = optimizer(momentum=0.9)
    schedule = OneCycleLR(owner, max_lr=0.1, total_steps=3)
    for _ in range(3):
        schedule.step()
    last = owner.lr
    assert last == pytest.approx(0.1 / 25 / 1e4)
    with pytest.raises(OrderError, match="beyond the last of 3"):
        schedule.step()
    assert owner.lr == last


@pytest.mark.parametrize("pct_start", [0.0, 1.0])
@pytest.mark.parametrize("total_steps", [1, 2, 5])
@pytest.mark.parametrize("three_phase", [True, False])
def test_one_cycle_of_one_phase(pct_start, total_steps, three_phase):
    def make(owner):
        return OneCycleLR(owner, 1.0, total_steps=total_steps, pct_start=pct_start, three_phase=three_phase)

    found = rates(make, total_steps, momentum=0.9)
    assert all(0 < rate <= 1 for rate in found)


def test_one_cycle_needs_momentum_to_cycle():
    with pytest.raises(ParameterError, match="cycle_momentum=False"):
        OneCycleLR(optimizer(Adagrad), max_lr=0.1, total_steps=10)
    OneCycleLR(optimizer(Adagrad), max_lr=0.1, total_steps=10, cycle_momentum=False)


@pytest.mark.parametrize("mode", ["min", "max"])  # with "max" the numbers are negative
def test_plateau(mode):
    sign = 1 if mode == "min" else -1
    owner = optimizer()
    schedule = ReduceLROnPlateau(owner, mode=mode, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    seen = []
    for metric in (3, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1):
        schedule.step(sign * metric)
        seen.append(owner.lr)
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]


def test_plateau_counts_nan_as_no_improvement():
    owner = optimizer()
    schedule = ReduceLROnPlateau(owner, patience=0)
    schedule.step(1.0)
    schedule.step(math.nan)
    assert owner.lr == 0.1


MAKERS = {
    "step": lambda o: StepLR(o, 2),
    "cosine": lambda o: CosineAnnealingLR(o, 10),
    "restarts": lambda o: CosineAnnealingWarmRestarts(o, 3, 2),
    "one cycle": lambda o: OneCycleLR(o, 0.5, total_steps=20),
    "sequence": lambda o: SequentialLR(o, [LinearLR(o), CosineAnnealingLR(o, 10)], [3]),
    "plateau": lambda o: ReduceLROnPlateau(o, patience=1, cooldown=2),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_restored_schedule_goes_on_alike(name):
    def step(schedule, n):
        schedule.step(*([1.0] if name == "plateau" else []))
        return schedule.get_last_lr(), n

    owner, again = optimizer(momentum=0.9), optimizer(momentum=0.9)
    schedule = MAKERS[name](owner)
    for n in range(5):
        step(schedule, n)
    again.load_state_dict(owner.state_dict())  # the usual order on resuming: the optimiser first
    restored = MAKERS[name](again)
    restored.load_state_dict(schedule.state_dict())
    again.lr = owner.lr if name == "plateau" else again.lr
    for n in range(8):
        assert step(schedule, n) == step(restored, n)


@pytest.mark.parametrize("name", MAKERS)
def test_states_that_do_not_fit(name):
    schedule = MAKERS[name](optimizer(momentum=0.9))
    with pytest.raises(ParameterError, match="load_state_dict"):
        schedule.load_state_dict({"epoch": 3})


def test_state_for_another_number_of_groups():
    schedule = StepLR(optimizer(), 2)
    with pytest.raises(ParameterError, match="1 initial rates"):
        schedule.load_state_dict({"last_epoch": 3, "base_lrs": [0.1, 0.2]})


@pytest.mark.parametrize(
    "make",
    [
        lambda o: StepLR(o, 0),
        lambda o: StepLR(o, 1.5),
        lambda o: StepLR(o, 1, gamma=-1.0),
        lambda o: MultiStepLR(o, [-1]),
        lambda o: ExponentialLR(o, math.nan),
        lambda o: LinearLR(o, start_factor=0.0),
        lambda o: LinearLR(o, end_factor=1.5),
        lambda o: LinearLR(o, total_iters=0),
        lambda o: CosineAnnealingLR(o, 0),
        lambda o: CosineAnnealingWarmRestarts(o, 0),
        lambda o: CosineAnnealingWarmRestarts(o, 3, 0),
        lambda o: CosineAnnealingWarmRestarts(o, 3, 1.5),
        lambda o: CosineAnnealingWarmRestarts(o, 3, eta_min=-1),
        lambda o: LambdaLR(o, 0.5),
        lambda o: OneCycleLR(o, 0.1),
        lambda o: OneCycleLR(o, 0.1, total_steps=0),
        lambda o: OneCycleLR(o, [0.1, 0.2], total_steps=5),
        lambda o: OneCycleLR(o, 0.1, total_steps=5, pct_start=2.0),
        lambda o: OneCycleLR(o, 0.1, total_steps=5, anneal_strategy="poly"),
        lambda o: OneCycleLR(o, 0.1, total_steps=5, div_factor=0.0),
        lambda o: SequentialLR(o, [StepLR(o, 1)], [3]),
        lambda o: SequentialLR(o, [StepLR(o, 1)] * 3, [3, 1]),
        lambda o: SequentialLR(o, [StepLR(optimizer(), 1)], []),
        lambda o: SequentialLR(o, [], []),
        lambda o: ReduceLROnPlateau(o, mode="least"),
        lambda o: ReduceLROnPlateau(o, factor=1.0),
        lambda o: ReduceLROnPlateau(o, patience=-1),
        lambda o: ReduceLROnPlateau(o, threshold_mode="x"),
        lambda o: StepLR("adam", 1),
        lambda o: OneCycleLR("adam", [], total_steps=1, cycle_momentum=False),
        lambda o: ReduceLROnPlateau("adam"),
    ],
)
def test_settings_outside_their_range(make):
    with pytest.raises(ParameterError):
        make(optimizer(momentum=0.9))


def test_a_schedule_of_ones_own():
    class Halves(LRScheduler):
        def rate(self, base, t):
            return base / 2**t

    assert rates(Halves, 2) == [1, 0.5, 0.25]
    with pytest.raises(NotImplementedError, match="no rate"):
        LRScheduler(optimizer())
