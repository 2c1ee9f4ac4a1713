"""CharRNN: it learns, continues, generates with its state, and ties its weights."""

import numpy
import pytest

import minidl as dl
from minidl.errors import ParameterError, UnknownNameError
from minidl.models import CharRNN

IDS = numpy.array([[1, 2, 3, 4, 0] * 4, [3, 4, 0, 1, 2] * 4])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("tie_weights", [False, True])
def test_learns_to_count_by_truncated_backpropagation(cell, tie_weights):
    dl.seed(0)
    model = CharRNN(5, 16, 16, cell=cell, tie_weights=tie_weights)
    loss, optimizer = dl.CrossEntropyLoss(), dl.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        state = None
        for start in (0, 5, 10):  # windows of five steps; the state goes on, the gradient does not
            window = slice(start, start + 5)
            logits, state = model.forward_with_state(IDS[:, window], state)
            target = IDS[:, start + 1 : start + 6]
            value = loss.forward(logits.reshape(-1, 5), target.reshape(-1))
            model.backward_with_state(loss.backward().reshape(logits.shape))
            optimizer.step()
            optimizer.zero_grad()
    assert value < 0.1
    with dl.inference(evaluate=True):
        logits, state = model.forward_with_state(IDS[:1, :3])
        text = []
        for _ in range(7):
            text.append(int(logits[0, -1].argmax()))
            logits, state = model.forward_with_state(numpy.array([text[-1:]]), state)
    assert text == [4, 0, 1, 2, 3, 4, 0]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients(cell):
    dl.seed(0)
    model = CharRNN(4, 3, 3, 2, cell=cell, dropout=0.2, tie_weights=True)
    dl.gradcheck(model, numpy.array([[1, 3, 0], [2, 2, 1]]))


def test_tied_weights_are_one_parameter():
    model = CharRNN(7, 4, 4, tie_weights=True)
    assert model["head"].weight is model["embedding"].weight
    assert len(model.parameters()) == 6
    with pytest.raises(ParameterError, match="embedding_dim=3 and hidden_size=4"):
        CharRNN(7, 3, 4, tie_weights=True)


def test_states_of_some_sequences():
    model = CharRNN(7, 3, 4, 2)
    assert model.context is None
    _, state = model.forward_with_state(IDS[:, :6])
    rows = numpy.array([1, 1, 0])
    again, _ = model.forward_with_state(IDS[rows, 6:8], model.select_state(state, rows))
    plain, _ = model.forward_with_state(IDS[:, 6:8], state)
    numpy.testing.assert_allclose(again, plain[rows], rtol=1e-5, atol=1e-6)


def test_it_is_saved_and_loaded(tmp_path):
    model, other = CharRNN(7, 3, 4, 2, "gru"), CharRNN(7, 3, 4, 2, "gru")
    model.save(tmp_path / "m.safetensors")
    other.load(tmp_path / "m.safetensors")
    numpy.testing.assert_array_equal(model.forward(IDS), other.forward(IDS))


def test_errors():
    with pytest.raises(UnknownNameError, match="unknown cell 'elman'; known: .*gru.*lstm.*rnn"):
        CharRNN(7, cell="elman")
    with pytest.raises(ParameterError, match="must be a positive integer"):
        CharRNN(7, 3, 0)
