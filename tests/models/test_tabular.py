"""Numbers and categories in one network."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, ParameterError, ShapeError
from minidl.models import TabularNetwork
from minidl.models.tabular import ColumnFeatures

X = numpy.array([[0.5, 3, -1.0, 0], [1.5, 0, 2.0, 1], [-0.5, 3, 0.0, 1]])


def small(**changes):
    dl.seed(0)
    settings = {"categories": {1: 4, 3: ("no", "yes")}, "hidden": (6,), "dtype": "float64"} | changes
    return TabularNetwork(4, **settings)


def test_features_are_numbers_and_vectors(host_engine):
    with dl.use(host_engine):
        layer = ColumnFeatures(4, {1: 4, 3: 2}, {1: 2, 3: 1}, dtype="float64", generator=numpy.random.default_rng(0))
        tables = [layer.tables[name].weight.value for name in ("1", "3")]
        expected = [[row[0], row[2], *tables[0][int(row[1])], *tables[1][int(row[3])]] for row in X]
        numpy.testing.assert_array_equal(layer.forward(X), expected)
        dx = layer.backward(numpy.arange(15.0).reshape(3, 5))
        numpy.testing.assert_array_equal(dx, [[0, 0, 1, 0], [5, 0, 6, 0], [10, 0, 11, 0]])
        numpy.testing.assert_array_equal(layer.tables["1"].weight.grad, [[7, 8], [0, 0], [0, 0], [2 + 12, 3 + 13]])
        numpy.testing.assert_array_equal(layer.tables["3"].weight.grad, [[4], [9 + 14]])


def test_gradients_of_the_whole():
    model, dy = small(), numpy.array([[1.0], [-2.0], [0.5]])
    model.forward(X)
    model.backward(dy)
    for parameter in model.parameters():
        direction = numpy.random.default_rng(1).normal(size=parameter.shape)
        kept, ends = parameter.value.copy(), []
        for step in (1e-6, -1e-6):
            parameter.value[...] = kept + step * direction
            ends.append((model.forward(X) * dy).sum())
        parameter.value[...] = kept
        numpy.testing.assert_allclose(
            (parameter.grad * direction).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize(("code", "shown"), [(4, "4"), (-1, "-1"), (1.5, "1.5")])
def test_codes_that_are_not_there(code, shown):
    rows = X.copy()
    rows[2, 1] = code
    with pytest.raises(DataError, match=f"column 1 holds codes from 0 to 3, but row 2 has {shown}"):
        small().forward(rows)


def test_wrong_tables():
    with pytest.raises(ShapeError, match=r"expected rows of shape \(N, 4\)"):
        small().forward(X[:, :3])
    with pytest.raises(ParameterError, match="column 4 with 2"):
        small(categories={4: 2})
    with pytest.raises(ParameterError, match="column 0 with 0"):
        small(categories={0: ()})


def test_only_numbers_or_only_categories():
    assert small(categories={}).forward(X).shape == (3, 1)
    assert TabularNetwork(1, {0: 3}, outputs=2).forward(numpy.array([[2.0]], dtype="float32")).shape == (1, 2)


def test_explanations_add_up_to_the_difference():
    model, baseline = small(hidden=()), X[1]
    added = model.explain(X, baseline)
    difference = model.forward(X)[:, 0] - model.forward(baseline[None])[0, 0]
    numpy.testing.assert_allclose(added.sum(axis=1), difference, rtol=1e-12)
    numpy.testing.assert_array_equal(added[1], 0)
    assert added[2, 3] == 0  # the same code as in the baseline


def test_it_survives_saving_and_training_goes_down(tmp_path):
    pytest.importorskip("safetensors")
    model = small(dtype="float32")
    rows, target = numpy.tile(X, (30, 1)).astype("float32"), numpy.tile([1, 0, 1], 30)
    model.compile(optimizer=dl.Adam(model.parameters(), lr=0.02), loss=dl.BCEWithLogitsLoss())
    history = model.fit(rows, target, epochs=30, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    model.save(tmp_path / "m.safetensors")
    other = small(dtype="float32")
    other.load(tmp_path / "m.safetensors")
    numpy.testing.assert_array_equal(other.predict(rows), model.predict(rows))
