"""Embeddings, attention, positions and Transformer layers against PyTorch: outputs and every gradient, in float64."""

import numpy
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

import minidl as dl  # noqa: E402

pytestmark = pytest.mark.peers


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


@pytest.mark.parametrize("padding_idx", [None, 0, 3, -1])
@pytest.mark.parametrize("shape", [(6,), (2, 5), ()])
def test_embedding(host_engine, rng, shape, padding_idx):
    ids, weight = numpy.asarray(rng.integers(0, 5, shape)), rng.normal(size=(5, 3))
    y, cache = getattr(host_engine, "embedding")(ids, weight, padding_idx)  # noqa: B009 - looked for by name
    tensor = torch.tensor(weight, requires_grad=True)
    expected = F.embedding(torch.tensor(ids), tensor, padding_idx)
    numpy.testing.assert_array_equal(y, expected.detach().numpy())
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    nothing, dweight = host_engine.embedding_backward(dy, cache)
    assert nothing is None
    numpy.testing.assert_allclose(dweight, tensor.grad.numpy(), rtol=1e-14, atol=1e-15)


def compare(engine, rng, shapes, peer_options=None, mask=None, **options):
    """Compare attention and its gradients with PyTorch's function of the same name."""
    arrays = [rng.normal(size=shape) for shape in shapes]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = F.scaled_dot_product_attention(
        *tensors, None if mask is None else torch.tensor(mask), **(options if peer_options is None else peer_options)
    )
    y, cache = engine.scaled_dot_product_attention(*arrays, mask, **options)
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    for gradient, tensor in zip(engine.scaled_dot_product_attention_backward(dy, cache), tensors, strict=True):
        numpy.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"scale": -1.0, "is_causal": True}])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7), (7, 3), (1, 4), (70, 70)])
def test_scaled_dot_product_attention(host_engine, rng, queries, keys, options):
    compare(host_engine, rng, [(2, 3, queries, 4), (2, 3, keys, 4), (2, 3, keys, 6)], **options)


@pytest.mark.parametrize("kind", ["boolean", "additive"])
@pytest.mark.parametrize("shape", [(5, 7), (2, 1, 5, 7), (3, 1, 1), (2, 3, 5, 7), (1, 7)])
def test_attention_masks(host_engine, rng, shape, kind):
    mask = rng.random(shape) < 0.6
    mask[..., 0] = True
    if kind == "additive":
        mask = numpy.where(mask, rng.normal(size=shape), -numpy.inf)
    compare(host_engine, rng, [(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)], mask=mask)


@pytest.mark.parametrize("causal", [False, True])
def test_grouped_queries(host_engine, rng, causal):
    compare(host_engine, rng, [(2, 6, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)], is_causal=causal, enable_gqa=True)


def test_a_window_is_a_band(host_engine, rng):
    t = numpy.arange(9)
    ahead = t[None, :] - t[:, None]
    for causal in (True, False):
        band = (ahead > -3) & (ahead < (1 if causal else 3))
        arrays = [rng.normal(size=(1, 2, 9, 4)) for _ in range(3)]
        expected = F.scaled_dot_product_attention(*map(torch.tensor, arrays), torch.tensor(band)).numpy()
        y, _ = host_engine.scaled_dot_product_attention(*arrays, is_causal=causal, window=3)
        numpy.testing.assert_allclose(y, expected, rtol=1e-12)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_embedding(host_engine, rng, interleaved):
    """As a product of complex numbers."""
    x, angles = rng.normal(size=(2, 3, 5, 8)), rng.normal(size=(5, 3))
    y, cache = getattr(host_engine, "rotary_embedding")(x, numpy.cos(angles), numpy.sin(angles), interleaved)  # noqa: B009
    tensor = torch.tensor(x, requires_grad=True)
    pairs = tensor[..., :6].reshape(2, 3, 5, 3, 2) if interleaved else tensor[..., :6].reshape(2, 3, 5, 2, 3).mT
    turned = torch.view_as_real(
        torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones(5, 3).double(), torch.tensor(angles))
    )
    turned = (turned if interleaved else turned.mT).reshape(2, 3, 5, 6)
    expected = torch.cat([turned, tensor[..., 6:]], dim=-1)
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-13, atol=1e-14)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    numpy.testing.assert_allclose(
        host_engine.rotary_embedding_backward(dy, cache), tensor.grad.numpy(), rtol=1e-13, atol=1e-14
    )


# layers -------------------------------------------------------------------------------------------------------------


def same_weights(ours, theirs):
    """Copy their weights into our layer by their names, and ours back; both ways must fit as they are."""
    ours.load_state_dict({name: value.detach().numpy() for name, value in theirs.state_dict().items()})
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})


def compare_layers(rng, ours, theirs, inputs, call, peer_call):
    """Compare outputs, gradients of inputs, and gradients of all parameters."""
    same_weights(ours, theirs)
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    expected = peer_call(theirs, *tensors)
    y = call(ours, *inputs)
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    gradients = ours.backward(dy)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        numpy.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-9, atol=1e-11)
    grads = {name: p.grad for name, p in ours.named_parameters()}
    for name, p in theirs.named_parameters():
        numpy.testing.assert_allclose(grads[name], p.grad.numpy(), rtol=1e-9, atol=1e-11, err_msg=name)


def shake(module, seed=0):
    """Give every parameter values that matter, biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(None, None), (5, 7)])
def test_multihead_attention(host_engine, rng, sizes, inputs, bias, batch_first):
    kdim, vdim = sizes
    if (inputs == 1 and kdim) or (inputs == 2 and kdim != vdim):
        kdim = vdim = 8 if inputs == 1 else 5
    with dl.use(host_engine):
        ours = dl.MultiheadAttention(8, 2, bias=bias, kdim=kdim, vdim=vdim, batch_first=batch_first, dtype="float64")
        theirs = torch.nn.MultiheadAttention(8, 2, bias=bias, kdim=kdim, vdim=vdim, batch_first=batch_first)
        arrays = [rng.normal(size=(3, 4, 8)), rng.normal(size=(3, 5, kdim or 8)), rng.normal(size=(3, 5, vdim or 8))]
        arrays = [x if batch_first else x.swapaxes(0, 1).copy() for x in arrays[:inputs]]

        def peer(module, query, *others):
            key = others[0] if others else query
            return module(query, key, others[-1] if others else query, need_weights=False)[0]

        compare_layers(rng, ours, shake(theirs.double()), arrays, lambda layer, *x: layer.forward(*x), peer)


@pytest.mark.parametrize("attn", [None, "boolean", "additive", "of each head", "causal"])
@pytest.mark.parametrize("padding", [None, "boolean", "additive"])
def test_masks_of_multihead_attention(host_engine, rng, padding, attn):
    """True means left out in both of the module's masks; the weights agree too."""
    left_out = rng.random((4, 5)) < 0.3
    left_out[:, 0] = False
    padded = numpy.zeros((3, 5), bool)
    padded[1, 3:] = True
    masks = {"boolean": left_out, "additive": numpy.where(left_out, -2.0, rng.normal(size=(4, 5)))}
    masks |= {
        "of each head": numpy.repeat(left_out[None], 6, axis=0),
        "causal": numpy.triu(numpy.ones((4, 5), bool), 1),
    }
    attn_mask = None if attn is None else masks[attn]
    key_padding_mask = {None: None, "boolean": padded, "additive": numpy.where(padded, -3.0, 0.5)}[padding]
    if attn_mask is not None and key_padding_mask is not None and attn_mask.dtype != key_padding_mask.dtype:
        peer_masks = [numpy.where(m, -numpy.inf, 0.0) if m.dtype == bool else m for m in (attn_mask, key_padding_mask)]
    else:
        peer_masks = [attn_mask, key_padding_mask]
    theirs_attn, theirs_padding = (None if m is None else torch.tensor(m) for m in peer_masks)
    with dl.use(host_engine):
        ours = dl.MultiheadAttention(8, 2, dtype="float64")
        theirs = shake(torch.nn.MultiheadAttention(8, 2, batch_first=True).double())
        inputs = [rng.normal(size=(3, 4, 8)), rng.normal(size=(3, 5, 8))]
        given = {"attn_mask": None if attn == "causal" else attn_mask, "key_padding_mask": key_padding_mask}
        given["is_causal"] = attn == "causal"
        options = {"attn_mask": theirs_attn, "key_padding_mask": theirs_padding}
        compare_layers(
            rng,
            ours,
            theirs,
            inputs,
            lambda layer, *x: layer.forward(*x, **given),
            lambda module, q, k: module(q, k, k, need_weights=False, **options)[0],
        )
        _, expected = theirs(*(torch.tensor(inputs[i]) for i in (0, 1, 1)), average_attn_weights=False, **options)
        numpy.testing.assert_allclose(ours.weights(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
        _, mean = ours.forward(*inputs, need_weights=True, **given)
        numpy.testing.assert_allclose(mean, expected.detach().numpy().mean(axis=1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_encoder_layer(host_engine, rng, bias, activation, norm_first):
    padded = numpy.zeros((3, 5), bool)
    padded[1, 3:] = True
    settings = {"activation": activation, "norm_first": norm_first, "dropout": 0.0, "bias": bias}
    with dl.use(host_engine):
        ours = dl.TransformerEncoderLayer(8, 2, 12, dtype="float64", **settings)
        theirs = shake(torch.nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, **settings).double())
        compare_layers(
            rng,
            ours,
            theirs,
            [rng.normal(size=(3, 5, 8))],
            lambda layer, x: layer.forward(x, src_key_padding_mask=padded, is_causal=True),
            lambda module, x: module(
                x, torch.nn.Transformer.generate_square_subsequent_mask(5).bool(), torch.tensor(padded)
            ),
        )


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [True, False])
def test_decoder_layer(host_engine, rng, batch_first, norm_first):
    padded = numpy.zeros((3, 6), bool)
    padded[2, 4:] = True
    settings = {"norm_first": norm_first, "dropout": 0.0, "batch_first": batch_first}
    with dl.use(host_engine):
        ours = dl.TransformerDecoderLayer(8, 2, 12, dtype="float64", **settings)
        theirs = shake(torch.nn.TransformerDecoderLayer(8, 2, 12, **settings).double())
        inputs = [rng.normal(size=(3, 5, 8)), rng.normal(size=(3, 6, 8))]
        inputs = [x if batch_first else x.swapaxes(0, 1).copy() for x in inputs]
        causal = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
        compare_layers(
            rng,
            ours,
            theirs,
            inputs,
            lambda layer, *x: layer.forward(*x, tgt_is_causal=True, memory_key_padding_mask=padded),
            lambda module, *x: module(*x, tgt_mask=causal, memory_key_padding_mask=torch.tensor(padded)),
        )


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_and_decoder(host_engine, rng, norm_first):
    settings = {"norm_first": norm_first, "dropout": 0.0}
    with dl.use(host_engine):

        def norm():
            return dl.LayerNorm(8, dtype="float64") if norm_first else None

        ours = dl.TransformerEncoder(dl.TransformerEncoderLayer(8, 2, 12, dtype="float64", **settings), 2, norm())
        layer = torch.nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, **settings)
        theirs = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(8) if norm_first else None, False)
        x = [rng.normal(size=(3, 5, 8)), rng.normal(size=(3, 6, 8))]
        compare_layers(rng, ours, shake(theirs.double()), x[:1], lambda f, a: f.forward(a), lambda f, a: f(a))
        ours = dl.TransformerDecoder(dl.TransformerDecoderLayer(8, 2, 12, dtype="float64", **settings), 2, norm())
        layer = torch.nn.TransformerDecoderLayer(8, 2, 12, batch_first=True, **settings)
        theirs = torch.nn.TransformerDecoder(layer, 2, torch.nn.LayerNorm(8) if norm_first else None)
        compare_layers(rng, ours, shake(theirs.double()), x, lambda f, *a: f.forward(*a), lambda f, *a: f(*a))
