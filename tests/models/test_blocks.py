"""Blocks that run in one call in inference: what their layers give, and only where nothing else is wanted."""

import itertools

import numpy
import pytest

import minidl as dl
from minidl.errors import ShapeError
from minidl.layers import GELU, LayerNorm, StoredLinear, inference
from minidl.layers.fusion import block as fusion
from minidl.models import BERT, GPT2, ViT

IDS = numpy.array([[2, 5, 3, 9, 1], [2, 3, 0, 0, 7]])


def gpt():
    dl.seed(1)
    return GPT2("nano", vocab_size=11, context=80, layers=2, width=16, heads=2)


def bert():
    dl.seed(2)
    return BERT(vocab_size=11, context=8, layers=2, heads=2, width=16, hidden=24)


def vit(**changes):
    dl.seed(3)
    return ViT(image_size=8, patch_size=4, channels=1, layers=2, heads=2, width=16, classes=3, **changes)


def both(monkeypatch, run):
    """Return what is computed with blocks in one call, and layer by layer."""
    found = run()
    with monkeypatch.context() as context:
        context.setattr(fusion, "_described", lambda *_: None)
        return found, run()


@pytest.mark.parametrize("stored", [None, "bfloat16", "int8"])
def test_generation(stored, engine, monkeypatch):
    with dl.use(engine):
        model = gpt()
        if stored is not None and engine.xp is numpy:
            dl.store_weights(model, stored)

        def run():
            with inference(evaluate=True):
                logits, state = model.forward_with_state(engine.asarray(IDS))
                rows = [logits]
                early = state
                for step in range(70):  # past the room for keys
                    logits, state = model.forward_with_state(engine.asarray(IDS[:, step % 5 : step % 5 + 1]), state)
                    rows.append(logits)
                rows.append(
                    model.forward_with_state(engine.asarray(IDS[:, :2]), early)[0]
                )  # an old state goes on differently
                rows.append(model.forward_with_state(engine.asarray(IDS[:1]), model.select_state(early, [1]))[0])
            return [engine.to_host(row) for row in rows]

        for one, other in zip(*both(monkeypatch, run), strict=True):
            numpy.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("stored", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("precision", ["highest", "bfloat16"])
def test_encoders(precision, stored, host_engine, monkeypatch):
    with dl.use(host_engine), dl.matmul_precision(precision):
        text, picture = bert(), vit()
        if stored is not None:
            dl.store_weights(text, stored)
            dl.store_weights(picture, stored)
        images = numpy.random.default_rng(0).random((2, 1, 8, 8), "f")

        def run():
            with inference(evaluate=True):
                padded = text.forward(IDS, attention_mask=IDS != 0)
                return [text.forward(IDS), padded, picture.forward(images), *picture.hidden_states(images)]

        for one, other in zip(*both(monkeypatch, run), strict=True):
            numpy.testing.assert_array_equal(one, other)


def calls(model, run):
    """Return how many blocks the engine computed in one call."""
    engine, count = dl.engines.current(), 0
    kernel = engine.transformer_block

    def counted(*arguments):
        nonlocal count
        count += 1
        return kernel(*arguments)

    try:
        engine.transformer_block = counted
        run(model)
    finally:
        engine.transformer_block = kernel
    return count


def evaluated(model):
    with inference(evaluate=True):
        model.forward(IDS)


@pytest.mark.skipif(not dl.engines.current().has_kernel("transformer_block"), reason="the engine has no such kernel")
class TestWhere:
    def test_in_inference(self):
        assert calls(gpt(), evaluated) == 2
        assert calls(bert(), evaluated) == 2
        assert calls(gpt().eval(), lambda model: model.forward(IDS)) == 0  # a backward may follow

    def test_not_where_something_is_dropped_out(self):
        def training(model):
            with inference():
                model.forward(IDS)

        assert calls(gpt(), training) == 0
        assert calls(gpt().eval(), training) == 2
        one = gpt().eval()
        one.transformer.h[1].dropouts[0].train()
        assert calls(one, training) == 1

    def test_not_with_other_parts(self):
        model = gpt()
        model.transformer.h[0].mlp.fuse = False
        assert calls(model, evaluated) == 1
        model = gpt()
        dl.add_lora(model, ["*.c_attn"], rank=2)
        assert calls(model, evaluated) == 0
        picture = vit(layer_scale=0.5)
        with inference(evaluate=True):
            assert calls(picture, lambda m: m.forward(numpy.ones((1, 1, 8, 8), "f"))) == 0

        class Other(LayerNorm):
            pass

        model = gpt()
        model.transformer.h[1].ln_2 = Other(16)
        assert calls(model, evaluated) == 1

    def test_what_was_changed_meanwhile_counts(self):
        model = gpt()
        block, x = model.transformer.h[0], numpy.random.default_rng(0).random((1, 3, 16), "f")

        def difference():
            with inference(evaluate=True):
                one, other = fusion.run_block(block, x), block.forward(x)
            numpy.testing.assert_array_equal(one, other)
            return one

        seen = [difference()]
        block.ln_1.eps = 0.1
        seen.append(difference())
        block.attn.c_proj.weight.value[...] *= 2
        seen.append(difference())
        block.mlp.replace("act", GELU())
        seen.append(difference())
        block.attn.c_attn = StoredLinear(block.attn.c_attn, "int8")
        seen.append(difference())
        for one, other in itertools.pairwise(seen):
            assert not numpy.array_equal(one, other)

    def test_an_error_is_that_of_the_layer(self):
        block = gpt().transformer.h[0]
        with inference(evaluate=True), pytest.raises(ShapeError, match="LayerNorm"):
            fusion.run_block(block, numpy.ones((1, 3, 17), "f"))
