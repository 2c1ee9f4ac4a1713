"""Tables: a step reads, writes and zeroes the rows that it used, unless the optimiser moves them all."""

import copy

import numpy
import pytest
from blocks import Embedding

import minidl as dl
from minidl.layers import Parameter, TableParameter, flatten

IDS = numpy.array([[1, 3], [3, 5]])


def table_of(rows=8, width=3, dtype="float32"):
    return TableParameter(numpy.random.default_rng(0).normal(size=(rows, width)).astype(dtype), name="weight")


def test_rows_add_up_and_are_zeroed_again():
    table = table_of()
    table.add_rows(IDS, numpy.ones((2, 2, 3), "float32"))
    numpy.testing.assert_array_equal(table.touched_rows(), [1, 3, 5])
    table.add_rows(numpy.array([7]), numpy.full((1, 3), 4, "float32"))
    numpy.testing.assert_array_equal(table.touched_rows(), [1, 3, 5, 7])
    numpy.testing.assert_array_equal(table.grad[:, 0], [0, 1, 0, 2, 0, 1, 0, 4])
    table.buffer.zero_grad()
    assert len(table.touched_rows()) == 0
    table.add_rows(numpy.array([2]), numpy.ones((1, 3), "float32"))
    numpy.testing.assert_array_equal(table.grad[:, 0], [0, 0, 1, 0, 0, 0, 0, 0])


def test_other_rows_are_not_written():
    """Marks in the storage of rows that no step used are still there after steps, zeroing and further steps."""
    table = table_of()
    optimizer = dl.SGD([table], lr=0.5)
    table.add_rows(numpy.array([1]), numpy.ones((1, 3), "float32"))
    table._grad[6] = numpy.nan  # nobody looks there
    before = table.value.copy()
    for row in (1, 2, 4):
        optimizer.step()
        optimizer.zero_grad()
        table.add_rows(numpy.array([row]), numpy.ones((1, 3), "float32"))
    assert numpy.isnan(table._grad[6]).all()
    changed = (table.value != before).any(axis=1)
    numpy.testing.assert_array_equal(changed, [False, True, True, False, False, False, False, False])


@pytest.mark.parametrize(
    "make",
    [
        lambda p: dl.SGD(p, lr=0.1),
        lambda p: dl.SGD(p, lr=0.1, momentum=0.9),
        lambda p: dl.SGD(p, lr=0.1, weight_decay=0.1),
        lambda p: dl.Adagrad(p, lr=0.1),
        lambda p: dl.Adagrad(p, lr=0.1, initial_accumulator_value=0.5),
        lambda p: dl.Adam(p, lr=0.1),
        lambda p: dl.RMSprop(p, lr=0.1),
    ],
)
def test_the_same_steps_as_with_a_whole_gradient(make, engine):
    with dl.use(engine):
        start = numpy.random.default_rng(0).normal(size=(8, 3)).astype("float32")
        table = TableParameter(engine.asarray(start), name="weight")
        other = Parameter(engine.asarray(numpy.ones(4, "float32")))
        plain = Parameter(engine.asarray(start), name="weight")
        flatten([other, table])
        optimizers = make([table, other]), make([plain])
        random = numpy.random.default_rng(1)
        for _ in range(4):
            rows, values = random.integers(0, 8, 3), random.normal(size=(3, 3)).astype("float32")
            whole = numpy.zeros((8, 3), "float32")
            numpy.add.at(whole, rows, values)
            for row, value in zip(rows, values, strict=True):
                table.row_storage(engine.asarray(numpy.array([row])))[int(row)] += engine.asarray(value)
            plain.accumulate(engine.asarray(whole))
            for optimizer in optimizers:
                optimizer.clip_grad_norm(1.0)
                optimizer.step()
                optimizer.zero_grad()
            numpy.testing.assert_allclose(
                engine.to_host(table.value), engine.to_host(plain.value), rtol=1e-6, atol=1e-7
            )


def test_reading_the_gradient_counts_every_row():
    table = table_of()
    table.add_rows(numpy.array([1]), numpy.ones((1, 3), "float32"))
    table.grad[...] = 5
    assert table.touched_rows() is None
    table.buffer.zero_grad()
    table.add_rows(numpy.array([1]), numpy.ones((1, 3), "float32"))
    numpy.testing.assert_array_equal(table.grad[:, 0], [0, 1, 0, 0, 0, 0, 0, 0])
    table.buffer.gradients()[...] = 5
    table.buffer.zero_grad()
    assert not table.grad.any()


def test_clipping_by_value_and_nan_do_not_leave_anything_behind():
    table = table_of()
    table.add_rows(numpy.array([1]), numpy.full((1, 3), numpy.nan, "float32"))
    dl.optim.clip_grad_norm([table], 1.0)
    dl.optim.clip_grad_value([table], 1.0)
    table.buffer.zero_grad()
    assert not table.grad.any()


def test_a_frozen_table_adds_nothing():
    table = table_of()
    table.trainable = False
    table.add_rows(numpy.array([1]), numpy.ones((1, 3), "float32"))
    assert not table.has_grad


def test_copies_and_moves_keep_rows():
    table = table_of()
    table.add_rows(numpy.array([1]), numpy.ones((1, 3), "float32"))
    twin = copy.deepcopy(table)
    twin.add_rows(numpy.array([2]), numpy.ones((1, 3), "float32"))
    numpy.testing.assert_array_equal(table.touched_rows(), [1])
    numpy.testing.assert_array_equal(twin.touched_rows(), [1, 2])
    flatten([Parameter(numpy.ones(2, "float32")), table])
    numpy.testing.assert_array_equal(table.grad[:, 0], [0, 1, 0, 0, 0, 0, 0, 0])
    table.buffer.zero_grad()
    assert not table.grad.any()


def test_a_table_in_a_model_passes_gradcheck_and_learns():
    model = dl.Sequential([Embedding(8, 4, dtype="float64"), dl.Linear(4, 3, dtype="float64")])
    dl.gradcheck(model, IDS)
    optimizer, loss = dl.SGD(model.parameters(), lr=0.5), dl.MSELoss()
    target = numpy.random.default_rng(0).normal(size=(2, 2, 3))
    before = model[0].weight.value.copy()
    losses = []
    for _ in range(50):
        losses.append(loss.forward(model.forward(IDS), target))
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]
    unused = [0, 2, 4, 6, 7]
    numpy.testing.assert_array_equal(model[0].weight.value[unused], before[unused])
