"""The CTC loss as a layer, in training, and what it refuses."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, ParameterError, ShapeError, TargetError
from minidl.layers import CTCLoss


@pytest.fixture
def given():
    """Return three examples: repeated labels and a full input, a short input, and no labels."""
    scores = numpy.random.default_rng(0).normal(size=(3, 6, 4))
    log_p, _ = dl.ops.log_softmax(scores)
    return log_p, numpy.array([[1, 1, 2], [3, -7, 99], [0, 0, 0]]), numpy.array([6, 3, 4]), numpy.array([3, 1, 0])


def test_reductions(given):
    each = CTCLoss(reduction="none").forward(*given)
    assert each.shape == (3,)
    numpy.testing.assert_allclose(CTCLoss(reduction="sum").forward(*given), each.sum())
    numpy.testing.assert_allclose(CTCLoss().forward(*given), (each / [3, 1, 1]).mean())
    numpy.testing.assert_allclose(each[2], -given[0][2, :4, 0].sum())  # only the path of blanks


def test_targets_one_after_another(given):
    log_p, _, steps, counts = given
    padded, packed = CTCLoss(), CTCLoss()
    assert padded.forward(*given) == packed.forward(log_p, numpy.array([1, 1, 2, 3]), steps, counts)
    numpy.testing.assert_array_equal(padded.backward(), packed.backward())
    nothing = numpy.zeros(3, int)
    value = CTCLoss(reduction="none").forward(log_p, numpy.zeros(0, int), steps, nothing)
    numpy.testing.assert_allclose(value, [-log_p[n, :t, 0].sum() for n, t in enumerate(steps)])


def test_steps_beyond_the_length_count_for_nothing(given):
    log_p, targets, steps, counts = given
    loss = CTCLoss()
    value = loss.forward(*given)
    gradient = loss.backward()
    assert not gradient[1, 3:].any()
    assert not gradient[2, 4:].any()
    log_p[1, 3:] = numpy.nan
    assert loss.forward(log_p, targets, steps, counts) == value
    numpy.testing.assert_array_equal(loss.backward(), gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_sample_weights(given, reduction):
    loss, plain = CTCLoss(reduction=reduction), CTCLoss(reduction="none")
    weight = numpy.array([2.0, 0.0, 0.5])
    factor = weight / {"mean": [9, 3, 3], "sum": 1, "none": 1}[reduction]
    weighted = plain.forward(*given) * factor
    found = loss.forward(given[0], given[1:], weight)
    numpy.testing.assert_allclose(found, weighted if reduction == "none" else weighted.sum())
    numpy.testing.assert_allclose(loss.backward(), factor[:, None, None] * plain.backward())
    assert loss.divisor == {"mean": 3.0}.get(reduction, 1.0)


def test_a_target_that_is_too_long(given):
    log_p, targets, steps, counts = given
    steps[0] = 3
    with pytest.raises(TargetError, match=r"one more between equal labels.*steps needed; got 4 at index 0"):
        CTCLoss().forward(log_p, targets, steps, counts)
    loss = CTCLoss(reduction="none", zero_infinity=True)
    value = loss.forward(log_p, targets, steps, counts)
    assert value[0] == 0
    assert value[1] > 0
    gradient = loss.backward(numpy.ones(3))
    assert not gradient[0].any()
    assert gradient[1].any()


def test_a_class_that_cannot_be_makes_the_loss_infinite(given):
    log_p, *others = given
    log_p[1, :, 3] = -numpy.inf
    loss = CTCLoss(reduction="none")
    assert numpy.isposinf(loss.forward(log_p, *others)).tolist() == [False, True, False]
    assert numpy.isnan(loss.backward()[1]).all()
    loss = CTCLoss(reduction="sum", zero_infinity=True)
    assert numpy.isfinite(loss.forward(log_p, *others))
    assert not loss.backward()[1].any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda g: (g[0][0], *g[1:]), ShapeError, r"log_probs must have shape \(N, T, K\)"),
        (lambda g: (g[0].astype(int), *g[1:]), DtypeError, "log_probs must be a floating-point"),
        (lambda g: (g[0], g[1].astype(float), *g[2:]), DtypeError, "targets must be an array of integers"),
        (lambda g: (g[0], g[1], [6, 3, 4], g[3]), DtypeError, "input_lengths must be an array of integers, got list"),
        (lambda g: (g[0], g[1][:2], *g[2:]), ShapeError, r"targets must have shape \(3, S\)"),
        (lambda g: (g[0], g[1], g[2][:2], g[3]), ShapeError, r"input_lengths must have shape \(3,\)"),
        (lambda g: (g[0], g[1], g[2] + 1, g[3]), ShapeError, "input_lengths must be from 0 to 6.*got 7 at index 0"),
        (lambda g: (g[0], g[1], g[2], g[3] + 1), ShapeError, "target_lengths must be from 0 to 3.*got 4 at index 0"),
        (
            lambda g: (g[0], g[1] * 0 + 4, *g[2:]),
            TargetError,
            r"0 to 3 other than the blank, 0; got 4 at index \(0, 0\)",
        ),
        (lambda g: (g[0], g[1] * 0, *g[2:]), TargetError, r"other than the blank, 0; got 0 at index \(0, 0\)"),
        (lambda g: (g[0], g[1][0], *g[2:]), ShapeError, r"one after another must have shape .*\(4,\), got \(3,\)"),
        (lambda g: g[:2], ParameterError, "or the last three as one tuple"),
    ],
)
def test_what_is_refused(given, change, error, message):
    with pytest.raises(error, match=message):
        CTCLoss().forward(*change(given))


def test_a_blank_that_is_no_class(given):
    with pytest.raises(ParameterError, match="blank must be one of the 4 classes"):
        CTCLoss(blank=4).forward(*given)


def test_a_model_learns_to_spell_without_places():
    """Rows that hold each label for some steps: after training, the best path spells the labels."""
    random = numpy.random.default_rng(0)
    labels = random.integers(1, 4, (64, 2))
    labels[:, 1] = (labels[:, 0] + labels[:, 1] % 2) % 3 + 1  # never the same label twice
    inputs = numpy.repeat(numpy.eye(4, dtype="float32")[labels], 3, axis=1)  # (N, 6, 4)
    y = labels, numpy.full(64, 6), numpy.full(64, 2)
    dl.seed(0)
    model = dl.Sequential([dl.Linear(4, 16), dl.Tanh(), dl.Linear(16, 4), dl.LogSoftmax(-1)])
    model.compile(dl.Adam(model.parameters(), lr=0.02), CTCLoss())
    history = model.fit(inputs, y, epochs=40, batch_size=16, verbose=0)
    assert history.history["loss"][-1] < 0.1
    best = model.predict(inputs).argmax(axis=-1)  # (N, 6)
    spelled = [[k for k, before in zip(row, [0, *row[:-1]], strict=True) if k != before and k] for row in best.tolist()]
    assert numpy.mean([word == wanted for word, wanted in zip(spelled, labels.tolist(), strict=True)]) > 0.95
