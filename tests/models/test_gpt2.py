"""GPT-2: its names, its tied table, its gradients, generation with a cache, and what is refused."""

import numpy
import pytest
from directions import check_direction

import minidl as dl
from minidl.errors import DataError, MinidlError, ParameterError, ShapeError, UnknownNameError
from minidl.models import GPT2, GPT2Config


def small(dtype="float64", **changes):
    dl.seed(0)
    sizes = {"vocab_size": 7, "context": 12, "layers": 2, "heads": 2, "width": 8, "dropout": 0.0}
    return GPT2(GPT2Config(**{**sizes, **changes}), dtype=dtype)


IDS = numpy.random.default_rng(0).integers(0, 7, (3, 12))


def test_names_are_hugging_faces():
    names = list(small().state_dict())
    assert names[:5] == [
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "transformer.h.0.ln_1.weight",
        "transformer.h.0.ln_1.bias",
        "transformer.h.0.attn.c_attn.weight",
    ]
    assert {"transformer.h.1.mlp.c_fc.bias", "transformer.h.1.mlp.c_proj.weight", "transformer.ln_f.bias"} < set(names)
    assert names[-1] == "lm_head.weight"


def test_sizes_by_name():
    """The published counts of parameters."""
    counts = {"124M": 124_439_808, "355M": 354_823_168, "774M": 774_030_080, "1558M": 1_557_611_200}
    for name, count in counts.items():
        c = GPT2Config.named(name)
        block = 12 * c.width**2 + 13 * c.width
        assert c.layers * block + (c.vocab_size + c.context) * c.width + 2 * c.width == count
    with pytest.raises(UnknownNameError, match="unknown size of GPT-2 'tiny'; known: .*nano"):
        GPT2("tiny")
    model = GPT2("nano", vocab_size=11, context=6)
    assert sum(p.size for p in model.parameters()) == 4 * (12 * 128**2 + 13 * 128) + (11 + 6) * 128 + 2 * 128


@pytest.mark.parametrize("tied", [False, True])
def test_gradients(tied, host_engine):
    with dl.use(host_engine):
        check_direction(small(tied=tied), IDS)


def test_tied_gradients_add_up():
    model, untied = small(), small(tied=False)
    untied.load_state_dict({**model.state_dict()})
    for each in (model, untied):
        logits = each.forward(IDS)
        each.backward(numpy.ones_like(logits) * logits)
    both = untied.transformer.wte.weight.grad + untied.lm_head.weight.grad
    numpy.testing.assert_allclose(model.transformer.wte.weight.grad, both, rtol=1e-10, atol=1e-12)
    assert len(model.parameters()) + 1 == len(untied.parameters())


def test_files_hold_the_table_once(tmp_path):
    model = small("float32")
    model.save(tmp_path / "m.safetensors")
    other = small("float32", dropout=0.1)
    other.transformer.wte.weight.value[...] = 0
    other.load(tmp_path / "m.safetensors")
    numpy.testing.assert_array_equal(other.eval().forward(IDS), model.eval().forward(IDS))


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_hugging_faces_files(tmp_path, prefix):
    """Their matrices are (in, out), there are constant masks, and the last map is left out."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    model = small("float32")
    tensors = {}
    for name, value in model.state_dict().items():
        if name != "lm_head.weight":
            turned = name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight"))
            tensors[prefix + name.removeprefix("transformer.")] = numpy.ascontiguousarray(value.T if turned else value)
    tensors[f"{prefix}h.0.attn.bias"] = numpy.ones((1, 1, 12, 12), "float32")
    save_file(tensors, tmp_path / "model.safetensors")
    other = small("float32")
    for parameter in other.parameters():
        parameter.value[...] = 0
    other.load_hugging_face(tmp_path / "model.safetensors")
    numpy.testing.assert_array_equal(other.forward(IDS), model.forward(IDS))


def test_a_position_does_not_see_the_future():
    model, changed = small(), IDS.copy()
    changed[:, 7:] = 0
    numpy.testing.assert_array_equal(model.forward(IDS)[:, :7], model.forward(changed)[:, :7])


class TestState:
    def test_the_cache_gives_what_the_whole_gives(self, host_engine):
        with dl.use(host_engine), dl.inference():
            model = small()
            whole = model.forward(IDS)
            state, parts = None, []
            for start, end in ((0, 3), (3, 4), (4, 5), (5, 12)):
                logits, state = model.forward_with_state(IDS[:, start:end], state)
                parts.append(logits)
            numpy.testing.assert_allclose(numpy.concatenate(parts, axis=1), whole, rtol=1e-10, atol=1e-12)

    def test_rows_are_selected(self):
        model = small()
        _, state = model.forward_with_state(IDS[:, :5])
        rows = numpy.array([2, 2, 0])
        logits, _ = model.forward_with_state(IDS[rows, 5:6], model.select_state(state, rows))
        numpy.testing.assert_allclose(logits, model.forward(IDS[rows, :6])[:, 5:], rtol=1e-10, atol=1e-12)
        assert model.select_state(None, rows) is None

    def test_what_does_not_fit_is_refused_before_anything_is_computed(self):
        model = small()
        _, state = model.forward_with_state(IDS[:, :5])
        with pytest.raises(ShapeError, match="the context is 12 tokens, got 13"):
            model.forward(numpy.zeros((1, 13), int))
        with pytest.raises(ShapeError, match="the context is 12 tokens, got 8 after 5 that the state knows"):
            model.forward_with_state(IDS[:, :8], state)
        with pytest.raises(ShapeError, match="the state is that of a batch of 3, got ids of shape"):
            model.forward_with_state(IDS[:2, :1], state)
        with pytest.raises(ShapeError, match="not one that this model returned; it has 1 layers"):
            small(layers=1).forward_with_state(IDS[:, :1], state)
        with pytest.raises(ShapeError, match="a model of 2 heads of size 4, not of 4 of size 2"):
            small(heads=4).forward_with_state(IDS[:, :1], state)
        with pytest.raises(ShapeError, match="not one that this model returned"):
            model.forward_with_state(IDS[:, :1], ("something",))
        with pytest.raises(ShapeError, match=r"expected ids of shape \(N, T\) with at least one token"):
            model.forward(IDS[0])
        with pytest.raises(ShapeError, match="at least one token"):
            model.forward(IDS[:, :0])
        wrong = IDS.copy()
        wrong[1, 3] = 7
        with pytest.raises(DataError, match=r"ids\[1, 3\] is 7, but the table has 7 rows"):
            model.forward(wrong)


def test_settings():
    assert small(dropout=0.3).config.dropout == 0.3
    for changes in ({"vocab_size": 0}, {"heads": 3}, {"layers": 0}):
        with pytest.raises(ParameterError, match="GPT2: "):
            small(**changes)
    with pytest.raises(ParameterError, match="there is no setting 'depth'; there are context"):
        GPT2("nano", depth=3)


def test_learns_to_copy():
    """The next token is the one three before; after some steps it is known."""
    random = numpy.random.default_rng(0)
    model = small("float32", width=32, heads=4)
    loss, optimizer = dl.CrossEntropyLoss(), dl.AdamW(model.parameters(), lr=3e-3)
    values = []
    for _ in range(150):
        ids = numpy.tile(random.integers(0, 7, (16, 3)), (1, 5))[:, :13]
        logits = model.forward(ids[:, :-1])
        values.append(float(loss.forward(logits.reshape(-1, 7), ids[:, 1:].reshape(-1))))
        model.backward(loss.backward().reshape(logits.shape))
        optimizer.step()
        optimizer.zero_grad()
    assert values[0] == pytest.approx(numpy.log(7), abs=0.1)
    assert numpy.mean(values[-10:]) < 0.9  # the first two of each sequence cannot be known: 2/12 log 7 is 0.32


def test_dropout_in_training_and_its_seed():
    model = small(dropout=0.2)
    results = []
    for seed in (1, 1, 2):
        dl.seed(seed)
        results.append(model.forward(IDS))
    numpy.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
    with dl.inference(evaluate=True):
        numpy.testing.assert_array_equal(model.forward(IDS), model.forward(IDS))
    with pytest.raises(MinidlError):
        GPT2("nano", dropout=2.0)


def test_the_logits_of_the_last_position_alone(engine):
    with dl.use(engine):
        model = GPT2("nano", vocab_size=11, context=16, layers=2, width=16, heads=2).eval()
        ids = engine.asarray(numpy.arange(10).reshape(2, 5))
        with dl.inference():
            every, state = model.forward_with_state(ids)
            last, same = model.next_logits(ids)
            assert last.shape == (2, 11)
            numpy.testing.assert_allclose(engine.to_host(last), engine.to_host(every)[:, -1], rtol=1e-5, atol=1e-6)
            every, _ = model.forward_with_state(ids[:, :1], state)
            last, _ = model.next_logits(ids[:, :1], same)
            numpy.testing.assert_allclose(engine.to_host(last), engine.to_host(every)[:, -1], rtol=1e-5, atol=1e-6)
        with pytest.raises(ShapeError, match="the context is 16 tokens"):
            model.next_logits(engine.asarray(numpy.zeros((1, 17), "int64")))
