"""Vectors for users and items, and the choices they are trained on."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, ParameterError, ShapeError
from minidl.models import NegativeSampling, TwoTower

USERS, ITEMS = numpy.array([0, 2, 0]), numpy.array([[1, 3, 3], [0, 4, 1], [2, 1, 0]])


def small():
    return TwoTower(3, 5, 4, dtype="float64", generator=numpy.random.default_rng(0))


def test_scores_are_products_and_biases(host_engine):
    with dl.use(host_engine):
        model = small()
        model.bias.weight.value[...] = numpy.arange(5.0)[:, None]
        u, v = model.user.weight.value, model.item.weight.value
        expected = [[u[a] @ v[b] + b for b in row] for a, row in zip(USERS, ITEMS, strict=True)]
        numpy.testing.assert_allclose(model.forward(USERS, ITEMS), expected, rtol=1e-14)
        full = model.score_all(USERS)
        numpy.testing.assert_allclose(numpy.take_along_axis(full, ITEMS, axis=1), expected, rtol=1e-14)


def test_gradients_by_central_differences():
    """Users and items occur several times, also within a row."""
    model, rng = small(), numpy.random.default_rng(1)
    dy = rng.normal(size=(3, 3))
    model.forward(USERS, ITEMS)
    assert model.backward(dy) == (None, None)
    for parameter in model.parameters():
        numeric = numpy.zeros(parameter.shape)
        for place in numpy.ndindex(parameter.shape):
            ends = []
            for step in (1e-6, -1e-6):
                parameter.value[place] += step
                ends.append((model.forward(USERS, ITEMS) * dy).sum())
                parameter.value[place] -= step
            numeric[place] = (ends[0] - ends[1]) / 2e-6
        numpy.testing.assert_allclose(parameter.grad, numeric, atol=1e-9)


def test_recommendations_leave_out_what_is_known():
    model = small()
    scores = model.score_all(numpy.arange(3))
    order = numpy.argsort(-scores, axis=1)
    numpy.testing.assert_array_equal(model.recommend(numpy.arange(3), k=5), order)
    known = numpy.zeros((3, 5), dtype=bool)
    known[:, order[0, 0]] = True
    expected = [[item for item in row if item != order[0, 0]][:4] for row in order]
    numpy.testing.assert_array_equal(model.recommend(numpy.arange(3), k=4, known=known), expected)
    with pytest.raises(ParameterError, match="number of items that are left, 4, got 5"):
        model.recommend(numpy.arange(3), k=5, known=known)


def test_wrong_ids_and_shapes():
    model = small()
    with pytest.raises(ShapeError, match=r"expected users \(N,\) and items \(N, M\)"):
        model.forward(USERS, ITEMS[:2])
    with pytest.raises(DataError, match="must be from 0 to 4"):
        model.forward(USERS, ITEMS + 1)


class TestNegativeSampling:
    def make(self, **changes):
        users, items = numpy.array([0, 0, 0, 1, 2, 2]), numpy.array([0, 1, 2, 3, 0, 3])
        return NegativeSampling(
            users, items, **({"item_count": 4, "negatives": 3, "batch_size": 4, "seed": 0} | changes)
        )

    def test_a_pass_holds_every_choice_once_and_no_choice_as_a_negative(self):
        batches = self.make()
        chosen = set(zip(batches.users.tolist(), batches.items.tolist(), strict=True))
        seen = []
        for (users, items), target in batches:
            assert (target == 0).all()
            seen += list(zip(users.tolist(), items[:, 0].tolist(), strict=True))
            assert not {(u, i) for u, row in zip(users.tolist(), items.tolist(), strict=True) for i in row[1:]} & chosen
        assert len(batches) == 2
        assert sorted(seen) == sorted(chosen)

    def test_the_seed_decides_and_passes_differ(self):
        one, other = self.make(), self.make(seed=numpy.int64(0), batch_size=numpy.int64(4), negatives=numpy.int64(3))
        first, again = list(one), list(other)
        for ((u, i), _), ((v, j), _) in zip(first, again, strict=True):
            numpy.testing.assert_array_equal(u, v)
            numpy.testing.assert_array_equal(i, j)
        assert any((i.shape != j.shape) or (i != j).any() for ((_, i), _), ((_, j), _) in zip(first, one, strict=True))

    def test_what_cannot_be_drawn_from(self):
        with pytest.raises(DataError, match="a user chose every item"):
            NegativeSampling([0, 0], [0, 1], item_count=2)
        with pytest.raises(DataError, match="there are no choices"):
            NegativeSampling([], [], item_count=2)
        with pytest.raises(DataError, match="items from 0 to 2"):
            self.make(item_count=3)
        with pytest.raises(ShapeError, match="expected users and items"):
            NegativeSampling([0, 0], [0], item_count=2)
        with pytest.raises(ParameterError, match="must be positive"):
            self.make(negatives=0)


def test_two_groups_of_taste_are_learned():
    """Users like the items of their own half; the model ranks those that it has not seen before the other half."""
    users = numpy.repeat(numpy.arange(20), 6)
    items = numpy.array([(u // 2 + n) % 10 + 10 * (u % 2) for u in range(20) for n in range(6)])
    dl.seed(0)
    model = TwoTower(20, 20, 2)
    model.compile(optimizer=dl.Adam(model.parameters(), lr=0.02), loss=dl.CrossEntropyLoss())
    model.fit(NegativeSampling(users, items, 20, negatives=8, batch_size=8, seed=0), epochs=20, verbose=0)
    best = model.recommend(numpy.arange(20), k=10)
    assert (best // 10 == numpy.arange(20)[:, None] % 2).mean() > 0.95
