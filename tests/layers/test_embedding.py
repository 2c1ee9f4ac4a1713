"""The layer of a table: its beginning, its rows, its errors, and what it shares."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, DtypeError, MinidlError, ParameterError


def test_is_pytorchs():
    dl.seed(0)
    layer = dl.Embedding(2000, 50, padding_idx=-1)
    assert list(layer.state_dict()) == ["weight"]
    assert layer.weight.shape == (2000, 50)
    assert layer.padding_idx == 1999
    assert abs(layer.weight.value.mean()) < 0.01
    assert abs(layer.weight.value.std() - 1) < 0.01
    assert not layer.weight.value[-1].any()
    assert [repr(layer), repr(dl.Embedding(7, 2))] == ["Embedding(2000, 50, padding_idx=1999)", "Embedding(7, 2)"]
    assert layer.output_shape((5,)) == (5, 50)


def test_gradients(host_engine):
    with dl.use(host_engine):
        ids = numpy.array([[3, 1], [3, 0]])
        dl.gradcheck(dl.Embedding(5, 3), ids)
        dl.gradcheck(dl.Sequential(dl.Embedding(5, 3), dl.Linear(3, 2), dl.Tanh()), ids)


def test_only_the_rows_of_the_batch_are_written():
    layer = dl.Embedding(1000, 4)
    y = layer.forward(numpy.array([[7, 2], [7, 5]], "uint16"))
    assert layer.backward(numpy.ones_like(y)) is None
    numpy.testing.assert_array_equal(layer.weight.touched_rows(), [2, 5, 7])
    layer.backward(numpy.ones_like(y))
    numpy.testing.assert_array_equal(layer.weight.grad[[2, 5, 7, 8], 0], [2, 2, 4, 0])


def test_frozen_rows_and_padding():
    layer = dl.Embedding(6, 2, padding_idx=0)
    y = layer.forward(numpy.array([0, 3, 0]))
    assert not y[0].any()
    layer.backward(numpy.ones_like(y))
    numpy.testing.assert_array_equal(layer.weight.grad[:, 0], [0, 0, 0, 1, 0, 0])
    layer.zero_grad()
    layer.trainable = False
    layer.backward(numpy.ones_like(y))
    assert not layer.weight.has_grad


def test_a_table_shared_with_the_last_layer_gets_both_gradients():
    """Weight tying: the projection onto the vocabulary is the table itself."""
    embedding, head = dl.Embedding(5, 3, dtype="float64"), dl.Linear(3, 5, bias=False, dtype="float64")
    head.weight = embedding.weight
    model = dl.Sequential(embedding, dl.Tanh(), head)
    assert len(model.parameters()) == 1
    dl.gradcheck(model, numpy.array([[3, 1], [3, 0]]))
    state = model.state_dict()
    assert list(state) == ["0.weight", "2.weight"]
    model.load_state_dict({"0.weight": state["0.weight"] + 1})
    numpy.testing.assert_array_equal(head.weight.value, state["0.weight"] + 1)


def test_errors_name_the_layer():
    layer = dl.Embedding(10, 3)
    with pytest.raises(DataError, match=r"Embedding\(10, 3\): ids\[0, 1\] is 10, but the table has 10 rows"):
        layer.forward(numpy.array([[1, 10]]))
    with pytest.raises(DtypeError, match=r"Embedding\(10, 3\): expected ids, which are integers, got dtype float32"):
        layer.forward(numpy.ones((2, 2), "float32"))
    with pytest.raises(DtypeError, match=r"expected an array of ids, got list"):
        layer.forward([1, 2])
    for wrong in ((0, 3, None), (3, 0, None), (3, 3, 3), (3, 3, -4)):
        with pytest.raises(ParameterError, match="Embedding: "):
            dl.Embedding(*wrong)
    with pytest.raises(MinidlError, match="layer 0 of Sequential"):
        dl.Sequential(dl.Embedding(4, 2)).forward(numpy.array([4]))


def test_fit_takes_ids():
    model = dl.Sequential(dl.Embedding(12, 8), dl.Flatten(), dl.Linear(24, 2))
    ids = numpy.random.default_rng(0).integers(0, 12, (200, 3))
    model.compile(dl.Adam(model.parameters(), lr=0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(ids, (ids[:, 0] > ids[:, 1]).astype(int), epochs=30, batch_size=20, verbose=0, seed=0)
    assert history.history["accuracy"][-1] > 0.9
