"""Attention and Transformer layers by themselves: gradients, caches, masks, and what is refused."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError
from minidl.layers.key_values import KeyValues


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


LAYERS = {
    "attention": (lambda: dl.MultiheadAttention(4, 2), 1),
    "cross-attention": (lambda: dl.MultiheadAttention(4, 2, kdim=3, vdim=3), 2),
    "shared heads, rotary": (lambda: dl.layers.GroupedQueryAttention(4, 2, 1, positions="rotary"), 1),
    "alibi and a window": (lambda: dl.layers.GroupedQueryAttention(4, 2, positions="alibi", window=2), 1),
    "encoder": (lambda: dl.TransformerEncoder(dl.TransformerEncoderLayer(4, 2, 3), 1), 1),
    "decoder": (lambda: dl.TransformerDecoder(dl.TransformerDecoderLayer(2, 1, 2, norm_first=True), 1), 2),
    "swiglu": (lambda: dl.layers.SwiGLU(4, 6, 3, bias=True), 1),
    "geglu": (lambda: dl.layers.GeGLU(4, 6), 1),
    "layer scale": (lambda: dl.layers.LayerScale(4, 0.5), 1),
    "learned positions": (lambda: dl.layers.LearnedPositions(5, 4), 1),
    "sinusoidal positions": (lambda: dl.layers.SinusoidalPositions(4), 1),
    "rotary positions": (lambda: dl.layers.RotaryPositions(4, interleaved=True), 1),
    "causal convolution": (lambda: dl.layers.CausalConv1d(3, 2, 2, dilation=2), 1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name, random):
    dl.seed(0)
    make, inputs = LAYERS[name]
    layer = make()
    sizes = [(2, 3, 4), (2, 2, 3)] if name != "decoder" else [(1, 3, 2), (1, 2, 2)]
    dl.gradcheck(layer.eval(), *(random.normal(size=size) for size in sizes[:inputs]))


def test_dropout_in_training_is_repeatable(random):
    x = random.normal(size=(2, 5, 8)).astype("float32")
    results = []
    for _ in range(2):
        dl.seed(3)
        layer = dl.TransformerEncoderLayer(8, 2, 16, dropout=0.4)
        y = layer.forward(x)
        results += [y, layer.backward(y)]
    numpy.testing.assert_array_equal(results[0], results[2])
    numpy.testing.assert_array_equal(results[1], results[3])
    assert (layer.eval().forward(x) != y).any()
    assert (dl.MultiheadAttention(8, 2, dropout=0.5).forward(x) != 0).any()


class TestState:
    """A key-value cache gives what the whole sequence gives, and old states stay as they were."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda: dl.MultiheadAttention(8, 2, dtype="float64"),
            lambda: dl.layers.GroupedQueryAttention(8, 4, 2, positions="rotary", dtype="float64"),
            lambda: dl.layers.GroupedQueryAttention(8, 2, positions="alibi", window=3, dtype="float64"),
        ],
    )
    def test_pieces_give_the_whole(self, make, random):
        layer, x = make(), random.normal(size=(3, 24, 8))
        whole = layer.forward(x, is_causal=True) if isinstance(layer, dl.MultiheadAttention) else layer.forward(x)
        state, parts, start = None, [], 0
        with dl.inference():
            for length in (5, 1, 1, 7, 1, 9):
                y, state = layer.forward_with_state(x[:, start : start + length], state)
                parts.append(y)
                start += length
        numpy.testing.assert_allclose(numpy.concatenate(parts, axis=1), whole, rtol=1e-12, atol=1e-13)
        assert state.length == 24

    def test_a_state_may_be_continued_twice(self, random):
        layer = dl.MultiheadAttention(8, 2, dtype="float64")
        x = random.normal(size=(2, 6, 8))
        _, state = layer.forward_with_state(x[:, :4])
        first, _ = layer.forward_with_state(x[:, 4:], state)
        other, _ = layer.forward_with_state(-x[:, 4:], state)
        again, _ = layer.forward_with_state(x[:, 4:], state)
        numpy.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_rows_may_be_selected_and_repeated(self, random):
        layer = dl.MultiheadAttention(8, 2, dtype="float64")
        x = random.normal(size=(3, 5, 8))
        _, state = layer.forward_with_state(x[:, :4])
        rows = [2, 0, 0]
        y, _ = layer.forward_with_state(x[rows, 4:], state.select(rows))
        expected, _ = layer.forward_with_state(x[:, 4:], state)
        numpy.testing.assert_array_equal(y, expected[rows])
        assert KeyValues().select([0]).batch is None

    def test_a_state_of_another_model_or_batch_is_refused(self, random):
        layer = dl.MultiheadAttention(8, 2)
        x = random.normal(size=(3, 5, 8)).astype("float32")
        _, state = layer.forward_with_state(x)
        with pytest.raises(ShapeError, match="only be continued by the model and the batch that made it"):
            layer.forward_with_state(x[:2], state)
        with pytest.raises(
            ShapeError,
            match=r"MultiheadAttention\(8, 4, .*the state has 2 heads of size 4 for a batch of 3, .* 4 of size 2",
        ):
            dl.MultiheadAttention(8, 4).forward_with_state(x, state)
        with pytest.raises(ShapeError, match="no keys and values yet"):
            _ = KeyValues().keys

    def test_the_decoder_with_a_state(self, random):
        layer = dl.TransformerDecoder(dl.TransformerDecoderLayer(8, 2, 16, dropout=0.0, dtype="float64"), 2)
        x, memory = random.normal(size=(2, 6, 8)), random.normal(size=(2, 4, 8))
        padding = numpy.array([[False] * 4, [False, False, True, True]])
        whole = layer.forward(x, memory, memory_key_padding_mask=padding, tgt_is_causal=True)
        state, parts = layer.state_of(memory, padding), []
        with dl.inference():
            for t in range(6):
                y, state = layer.forward_with_state(x[:, t : t + 1], state)
                parts.append(y)
        numpy.testing.assert_allclose(numpy.concatenate(parts, axis=1), whole, rtol=1e-12, atol=1e-13)

    def test_a_causal_convolution_with_a_state(self, random):
        layer, x = dl.layers.CausalConv1d(3, 4, 3, dilation=2, dtype="float64"), random.normal(size=(2, 3, 9))
        whole = layer.forward(x)
        changed = x.copy()
        changed[:, :, 5:] = 0
        numpy.testing.assert_array_equal(layer.forward(changed)[:, :, :5], whole[:, :, :5])
        state, parts = None, []
        for start, end in ((0, 2), (2, 3), (3, 9)):
            y, state = layer.forward_with_state(x[:, :, start:end], state)
            parts.append(y)
        numpy.testing.assert_allclose(numpy.concatenate(parts, axis=2), whole, rtol=1e-13)
        with pytest.raises(ShapeError, match=r"the state must have shape \(2, 3, 4\)"):
            layer.forward_with_state(x, state[:, :, 1:])


def test_maps(random):
    layer = dl.MultiheadAttention(8, 2)
    x = random.normal(size=(2, 5, 8)).astype("float32")
    with pytest.raises(OrderError, match="before forward"):
        layer.weights()
    y, mean = layer.forward(x, need_weights=True, is_causal=True)
    maps = layer.weights()
    numpy.testing.assert_allclose(mean, maps.mean(axis=1), rtol=1e-6)
    numpy.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)
    assert not numpy.triu(maps, 1).any()
    assert layer.backward((y, None)).shape == x.shape


def test_a_query_that_may_see_nothing_gets_the_bias_alone(random):
    layer = dl.MultiheadAttention(8, 2)
    layer.out_proj.bias.value[...] = 3
    x = random.normal(size=(2, 3, 8)).astype("float32")
    padding = numpy.array([[True] * 3, [False] * 3])
    y = layer.forward(x, key_padding_mask=padding)
    numpy.testing.assert_array_equal(y[0], 3)
    dx = layer.backward(numpy.ones_like(y))
    assert not dx[0].any()
    assert numpy.isfinite(dx).all()


def test_frozen_attention_passes_gradients_on(random):
    layer = dl.MultiheadAttention(8, 2)
    x = random.normal(size=(2, 3, 8)).astype("float32")
    dx = layer.backward(layer.forward(x))
    layer.in_proj_weight.trainable = False
    layer.zero_grad()
    numpy.testing.assert_array_equal(layer.backward(layer.forward(x)), dx)
    assert not layer.in_proj_weight.has_grad
    assert layer.in_proj_bias.has_grad


def test_what_is_refused(random):
    x = random.normal(size=(2, 3, 8)).astype("float32")
    layer = dl.MultiheadAttention(8, 2)
    with pytest.raises(ParameterError, match="num_heads must divide embed_dim, got 3 heads and 8 features"):
        dl.MultiheadAttention(8, 3)
    with pytest.raises(ParameterError, match="dropout must be from 0 to 1"):
        dl.MultiheadAttention(8, 2, dropout=1.5)
    with pytest.raises(ParameterError, match="num_kv_heads must divide the 4 heads, got 3"):
        dl.layers.GroupedQueryAttention(8, 4, 3)
    with pytest.raises(ParameterError, match="positions must be 'rotary', 'alibi'"):
        dl.layers.GroupedQueryAttention(8, 4, positions="learned")
    with pytest.raises(ShapeError, match=r"query must have shape \(N, T, C\) with C = 8, got \(2, 3, 6\)"):
        layer.forward(x[..., :6])
    with pytest.raises(ShapeError, match="one batch size"):
        layer.forward(x, x[:1])
    with pytest.raises(ShapeError, match=r"attn_mask must have shape \(3, 3\) or \(4, 3, 3\), got \(3, 4\)"):
        layer.forward(x, attn_mask=numpy.zeros((3, 4), bool))
    with pytest.raises(DtypeError, match=r"key_padding_mask must be boolean \(True is left out\) .*got dtype int64"):
        layer.forward(x, key_padding_mask=numpy.zeros((2, 3), int))
    with pytest.raises(ShapeError, match=r"key_padding_mask must have shape \(2, 3\), got \(3, 2\)"):
        layer.forward(x, key_padding_mask=numpy.zeros((3, 2), bool))
    with pytest.raises(ParameterError, match="TransformerEncoder: num_layers must be a whole number from 1"):
        dl.TransformerEncoder(dl.TransformerEncoderLayer(8, 2, 8), 0)
    for positions in (dl.layers.LearnedPositions(4, 8), dl.layers.SinusoidalPositions(8, max_len=4)):
        assert positions.forward(x, offset=1).shape == x.shape
        with pytest.raises(ShapeError, match=r"there are 4 positions, but the sequence has 3 from position 2 on"):
            positions.forward(x, offset=2)
        with pytest.raises(ShapeError, match=r"expected shape \(N, T, 8\)"):
            positions.forward(x[..., :5])
    with pytest.raises(ParameterError, match="embedding_dim and max_len must be positive, got 8 and -1"):
        dl.layers.SinusoidalPositions(8, max_len=-1)
    with pytest.raises(ParameterError, match="embedding_dim and max_len must be positive, got 0 and 5000"):
        dl.layers.SinusoidalPositions(0)
    with pytest.raises(ParameterError, match="must be a positive even number, got 3"):
        dl.layers.RotaryPositions(3)


def test_position_by_position_of_learned_and_sinusoidal(random):
    x = random.normal(size=(2, 4, 6))
    for layer in (dl.layers.LearnedPositions(4, 6, dtype="float64"), dl.layers.SinusoidalPositions(6)):
        whole = layer.forward(x)
        parts = [layer.forward(x[:, t : t + 1], offset=t) for t in range(4)]
        numpy.testing.assert_array_equal(numpy.concatenate(parts, axis=1), whole)
