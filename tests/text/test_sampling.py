"""What changes the distribution of the next token, beside the definitions, and the draw."""

import numpy
import pytest

from minidl.errors import NonFiniteError, ParameterError
from minidl.text import draw_tokens, keep_top_k, keep_top_p, penalize_repetition, scale_by_temperature
from minidl.text.sampling import check_finite

LOGITS = numpy.random.default_rng(0).normal(size=(20, 9)) * 2
TIES = LOGITS.round()


def softmax(row):
    e = numpy.exp(row - row.max())
    return e / e.sum()


@pytest.mark.parametrize("logits", [LOGITS, TIES, LOGITS.astype("float32")])
@pytest.mark.parametrize("k", [1, 2, 5, 8, 9, 50])
def test_top_k_keeps_the_first_k_in_order_of_size(logits, k):
    before = logits.copy()
    for row, found in zip(logits, keep_top_k(logits, k), strict=True):
        kept = sorted(range(9), key=lambda i: (-row[i], i))[:k]
        expected = [row[i] if i in kept else -numpy.inf for i in range(9)]
        numpy.testing.assert_array_equal(found, expected)
    numpy.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("logits", [LOGITS, TIES])
@pytest.mark.parametrize("p", [1e-9, 0.3, 0.8, 0.999, 1.0])
def test_top_p_keeps_the_fewest_that_reach_p(logits, p):
    for row, found in zip(logits, keep_top_p(logits, p), strict=True):
        probabilities, kept, total = softmax(row), [], 0.0
        for i in sorted(range(9), key=lambda i: (-row[i], i)):
            if total >= p:
                break
            kept.append(i)
            total += probabilities[i]
        numpy.testing.assert_array_equal(found, [row[i] if i in kept else -numpy.inf for i in range(9)])


def test_filters_go_together():
    once = keep_top_p(keep_top_k(LOGITS, 4), 0.9)
    assert (numpy.isfinite(once).sum(axis=1) <= 4).all()
    assert (once.argmax(axis=1) == LOGITS.argmax(axis=1)).all()


def test_temperature_and_penalty():
    numpy.testing.assert_array_equal(scale_by_temperature(LOGITS, 0.5), LOGITS * 2)
    seen = LOGITS > 1
    seen[:, 0] = True
    found = penalize_repetition(LOGITS, seen, 1.5)
    numpy.testing.assert_array_equal(found[~seen], LOGITS[~seen])
    assert (found[seen] < LOGITS[seen]).all()
    numpy.testing.assert_array_equal(penalize_repetition(LOGITS, seen, 1.0), LOGITS)


def test_tokens_are_drawn_as_often_as_they_are_likely():
    row = numpy.array([[0.0, 1.0, -numpy.inf, 2.0]])
    generator = numpy.random.default_rng(0)
    count = 20_000
    drawn = draw_tokens(numpy.repeat(row, count, axis=0), [generator] * count)
    shares = numpy.bincount(drawn, minlength=4) / count
    expected = softmax(row[0])
    assert shares[2] == 0
    assert (abs(shares - expected) < 5 * numpy.sqrt(expected / count) + 1e-12).all()


def test_the_ends_of_the_draw():
    """A draw of 0 gives the first possible token, and one just below 1 the last possible."""

    class Fixed:
        def __init__(self, value):
            self.value = value

        def random(self):
            return self.value

    row = numpy.array([[-numpy.inf, 0.0, 0.0, -numpy.inf]])
    assert [draw_tokens(row, [Fixed(u)])[0] for u in (0.0, 0.49, 0.51, 1 - 2**-53)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: scale_by_temperature(LOGITS, 0), "temperature"),
        (lambda: keep_top_k(LOGITS, 0), "top_k"),
        (lambda: keep_top_k(LOGITS, 2.5), "top_k"),
        (lambda: keep_top_p(LOGITS, 0.0), "top_p"),
        (lambda: keep_top_p(LOGITS, 1.1), "top_p"),
        (lambda: keep_top_p(LOGITS, numpy.nan), "top_p"),
        (lambda: penalize_repetition(LOGITS, LOGITS > 0, 0), "repetition_penalty"),
    ],
)
def test_settings_out_of_range(call, name):
    with pytest.raises(ParameterError, match=name):
        call()


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_logits_that_are_not_finite(value):
    logits = LOGITS.copy()
    logits[3, 2] = value
    with pytest.raises(NonFiniteError, match=r"in row 3"):
        check_finite(logits)
    check_finite(numpy.where(LOGITS > 0, LOGITS, -numpy.inf))
