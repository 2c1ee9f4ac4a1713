"""The encoder-decoder: gradients, padding, generation with a state, and what is refused."""

import numpy
import pytest
from directions import check_direction

import minidl as dl
from minidl.errors import DataError, DtypeError, ParameterError, ShapeError
from minidl.models import Transformer
from minidl.optim import TransformerLR


def small(dtype="float64", **changes):
    dl.seed(0)
    sizes = {"d_model": 8, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 2, "dim_feedforward": 12}
    return Transformer(9, 9, **{**sizes, "dropout": 0.0, "context": 10, "dtype": dtype, **changes})


RANDOM = numpy.random.default_rng(0)
SOURCE, TARGET = RANDOM.integers(0, 9, (3, 6)), RANDOM.integers(0, 9, (3, 5))
MASK = numpy.arange(6) < numpy.array([[6], [3], [5]])


@pytest.mark.parametrize("tied", [False, True])
def test_gradients(tied, host_engine):
    with dl.use(host_engine):
        check_direction(small(tied=tied, norm_first=tied), SOURCE, TARGET, MASK)


def test_padding_has_no_effect():
    model = small()
    logits = model.forward(SOURCE, TARGET, MASK)
    changed = numpy.where(MASK, SOURCE, 0)
    numpy.testing.assert_array_equal(model.forward(changed, TARGET, MASK), logits)
    alone = model.forward(SOURCE[1:2, :3], TARGET[1:2])
    numpy.testing.assert_allclose(alone, logits[1:2], rtol=1e-10, atol=1e-12)
    maps = model.attention_maps()
    assert len(maps) == 2
    assert maps[0].shape == (1, 2, 5, 3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_state_gives_what_the_whole_gives(masked, norm_first, host_engine):
    with dl.use(host_engine), dl.inference():
        model, mask = small(norm_first=norm_first), MASK if masked else None
        whole = model.forward(SOURCE, TARGET, mask)
        memory, state, parts = model.encode(SOURCE, mask), None, []
        for start, end in ((0, 1), (1, 2), (2, 5)):
            logits, state = model.decode_with_state(TARGET[:, start:end], memory, state)
            parts.append(logits)
        numpy.testing.assert_allclose(numpy.concatenate(parts, axis=1), whole, rtol=1e-10, atol=1e-12)


def test_rows_are_selected():
    model, rows = small(), numpy.array([2, 0, 0])
    memory = model.encode(SOURCE, MASK)
    _, state = model.decode_with_state(TARGET[:, :3], memory)
    chosen = tuple(part[rows] for part in memory)
    logits, _ = model.decode_with_state(TARGET[rows, 3:4], chosen, model.select_state(state, rows))
    numpy.testing.assert_allclose(logits[:, 0], model.forward(SOURCE, TARGET, MASK)[rows, 3], rtol=1e-10, atol=1e-12)
    assert model.select_state(None, rows) is None


def test_what_is_refused_before_anything_is_computed():
    model = small()
    with pytest.raises(DataError, match="target id 9 is not in the vocabulary of 9 tokens, 0 to 8"):
        model.forward(SOURCE, TARGET * 0 + 9)
    with pytest.raises(DataError, match="source id -1"):
        model.forward(SOURCE * 0 - 1, TARGET)
    with pytest.raises(DtypeError, match="source ids must be integers, got dtype float64"):
        model.forward(SOURCE.astype(float), TARGET)
    with pytest.raises(ShapeError, match="context is 10 tokens, got target ids of 11"):
        model.forward(SOURCE, numpy.zeros((3, 11), int))
    with pytest.raises(ShapeError, match=r"source_mask must have the shape of the ids, \(3, 6\), got \(3, 5\)"):
        model.forward(SOURCE, TARGET, MASK[:, :5])
    with pytest.raises(DtypeError, match="source_mask must be boolean, True for tokens"):
        model.forward(SOURCE, TARGET, MASK.astype(int))
    with pytest.raises(ShapeError, match="one batch size"):
        model.forward(SOURCE, TARGET[:2])
    with pytest.raises(ParameterError, match="Transformer: context must be positive, got 0"):
        Transformer(9, 9, context=0)
    with pytest.raises(ParameterError, match="tied tables need one vocabulary"):
        Transformer(5, 6, tied=True)
    memory = model.encode(SOURCE)
    _, state = model.decode_with_state(TARGET[:, :2], memory)
    with pytest.raises(ShapeError, match="the state is that of a batch of 3"):
        model.decode_with_state(TARGET[:2, :1], memory[:2], state)
    with pytest.raises(ShapeError, match="that of another batch"):
        model.decode_with_state(TARGET[:, :1], memory[:2])
    with pytest.raises(ShapeError, match="got target ids of 9 after 2"):
        model.decode_with_state(numpy.zeros((3, 9), int), memory, state)
    with pytest.raises(ShapeError, match="not one that this model returned"):
        model.decode_with_state(TARGET[:, :1], memory, (2, []))


def test_learns_to_reverse_with_label_smoothing_and_the_papers_schedule():
    random = numpy.random.default_rng(0)
    model = small("float32", d_model=32, nhead=4, dim_feedforward=64, num_decoder_layers=1)
    loss = dl.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = dl.Adam(model.parameters(), lr=0.5, betas=(0.9, 0.98), eps=1e-9)
    schedule = TransformerLR(optimizer, 32, warmup_steps=60)
    for _ in range(250):
        source = random.integers(1, 9, (32, 4))
        wanted = source[:, ::-1]
        begun = numpy.concatenate([numpy.zeros((32, 1), int), wanted[:, :-1]], axis=1)
        logits = model.forward(source, begun)
        loss.forward(logits.reshape(-1, 9), wanted.reshape(-1))
        model.backward(loss.backward().reshape(logits.shape))
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    assert (logits.argmax(axis=-1) == wanted).mean() > 0.9


def test_the_schedule_is_the_papers():
    optimizer = dl.Adam(dl.Linear(1, 1).parameters(), lr=2.0)
    schedule = TransformerLR(optimizer, d_model=16, warmup_steps=10)
    for t in range(1, 30):
        expected = 2.0 * 16**-0.5 * min(t**-0.5, t * 10**-1.5)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)
        schedule.step()
    for wrong in ((0, 10), (16, 0)):
        with pytest.raises(ParameterError, match="must be positive"):
            TransformerLR(optimizer, *wrong)


def test_with_fit_the_schedule_counts_batches():
    """Counting epochs it would never leave the warm-up."""
    model = dl.Sequential(dl.Linear(2, 1))
    optimizer = dl.Adam(model.parameters(), lr=1.0)
    model.compile(optimizer, "mse")
    schedule = TransformerLR(optimizer, d_model=16, warmup_steps=4)
    callback = dl.training.LearningRateScheduler(schedule)
    model.fit(numpy.ones((40, 2)), numpy.ones(40), batch_size=8, epochs=2, callbacks=callback)
    assert schedule.last_epoch == 10
    assert optimizer.lr == pytest.approx(16**-0.5 * 11**-0.5)
