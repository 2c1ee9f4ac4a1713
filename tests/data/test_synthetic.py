"""Made-up regression problems."""

import numpy
import pytest

from minidl.data import make_regression
from minidl.errors import ParameterError


def test_y_is_linear_in_the_informative_features():
    X, y, w = make_regression(30, 8, n_informative=3, bias=2.5, coef=True, random_state=0)
    assert (X.shape, y.shape, w.shape) == ((30, 8), (30,), (8,))
    assert (w != 0).sum() == 3
    assert w.min() >= 0
    assert w.max() < 100
    numpy.testing.assert_allclose(y, X @ w + 2.5)


def test_noise_has_its_standard_deviation():
    X, y, w = make_regression(5000, 1, noise=0.1, coef=True, random_state=0)
    assert (y - X @ w).std() == pytest.approx(0.1, rel=0.05)
    assert X.std() == pytest.approx(1, rel=0.05)


def test_several_targets():
    X, y, w = make_regression(10, 3, n_targets=2, coef=True, random_state=0)
    assert (y.shape, w.shape) == ((10, 2), (3, 2))
    numpy.testing.assert_allclose(y, X @ w)


def test_the_seed_rules():
    numpy.testing.assert_array_equal(make_regression(random_state=3)[0], make_regression(random_state=3)[0])
    assert not numpy.array_equal(make_regression(random_state=3)[0], make_regression(random_state=4)[0])


@pytest.mark.parametrize(
    "wrong", [{"n_samples": 0}, {"n_features": 1.5}, {"n_informative": -1}, {"n_targets": True}, {"noise": -1.0}]
)
def test_settings_outside_their_range(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        make_regression(**wrong)
