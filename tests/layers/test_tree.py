"""Layers and parameters in lists, tuples and dicts are found and named, or refused; never ignored."""

import collections

import numpy
import pytest
from blocks import Block, Embedding, Recurrent, Trunk

import minidl as dl
from minidl.errors import ParameterError


def test_names_are_paths_through_lists_and_dicts():
    assert list(Trunk(2).state_dict())[:3] == [
        "blocks.0.parts.ln_1.weight",
        "blocks.0.parts.ln_1.bias",
        "blocks.0.mlp.0.weight",
    ]
    assert len(Trunk(3).parameters()) == 3 * 6
    assert [name for name, _ in Trunk(1).named_layers()][:4] == ["", "blocks.0", "blocks.0.parts.ln_1", "blocks.0.mlp"]


def test_what_is_in_lists_is_trained_switched_moved_and_saved():
    model = dl.Sequential([Trunk(2), dl.Linear(4, 2)])
    x = numpy.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    before = {name: value.copy() for name, value in model.state_dict().items()}
    optimizer, loss = dl.SGD(model.parameters(), lr=0.1), dl.CrossEntropyLoss()
    loss.forward(model.forward(x), numpy.arange(8) % 2)
    model.backward(loss.backward())
    optimizer.step()
    assert all((before[name] != value).any() for name, value in model.state_dict().items())
    assert not model.eval()[0].blocks[1].parts["ln_1"].training
    assert all(p.dtype == "float64" for p in model.to(dtype="float64").parameters())
    other = dl.Sequential([Trunk(2), dl.Linear(4, 2)])
    other.load_state_dict(model.state_dict())
    numpy.testing.assert_allclose(other.forward(x), model.to(dtype="float32").forward(x), rtol=1e-6)


def test_gradients_of_a_list_of_blocks():
    dl.gradcheck(Trunk(2, dtype="float64"), numpy.random.default_rng(0).normal(size=(3, 4)))


class Holder(dl.Layer):
    def __init__(self, held):
        super().__init__()
        self.held = held


def test_parameters_in_tuples_and_nested_lists():
    ones = [dl.Parameter(numpy.ones(1)) for _ in range(4)]
    held = (ones[0], [ones[1], {"left": ones[2], "right": [ones[3]]}])
    names = [name for name, _ in Holder(held).named_parameters()]
    assert names == ["held.0", "held.1.0", "held.1.1.left", "held.1.1.right.0"]


@pytest.mark.parametrize(
    "held",
    [
        {dl.ReLU()},
        frozenset([dl.Parameter(numpy.ones(1))]),
        collections.deque([dl.ReLU()]),
        {0: dl.ReLU()},
        {"a.b": dl.ReLU()},
        {"": dl.ReLU()},
        {"ok": {1: [dl.ReLU()]}},
        numpy.array([dl.ReLU(), None], dtype=object),
        {"a": dl.ReLU()}.values(),
    ],
    ids=lambda held: type(held).__name__,
)
def test_places_without_an_order_or_a_name_are_refused(held):
    with pytest.raises(ParameterError, match=r"Holder\.held"):
        Holder(held).parameters()


@pytest.mark.parametrize("held", [{1, 2}, {0: "no layer"}, [], numpy.array([1, "x"], dtype=object), dl.ReLU, None])
def test_what_holds_no_layers_is_left_alone(held):
    assert Holder(held).parameters() == []
    assert Holder(held).children() == {}


def test_somebodys_own_layer_in_an_attribute_is_found():
    class Own:
        def __init__(self):
            self.gain = dl.Parameter(numpy.ones(1), name="gain")

        def parameters(self):
            return [self.gain]

        def forward(self, x):
            return x

        backward = forward

    assert [name for name, _ in Holder([Own()]).named_parameters()] == ["held.0.gain"]
    assert [name for name, _ in Holder(Own()).named_parameters()] == ["held.gain"]


def test_a_sequential_with_more_layers_in_an_attribute():
    class Headed(dl.Sequential):
        def __init__(self):
            super().__init__([dl.Linear(2, 2)])
            self.heads = [dl.Linear(2, 1), dl.Linear(2, 1)]
            self.first = self[0]

    names = [f"{layer}.{name}" for layer in ("0", "heads.0", "heads.1") for name in ("weight", "bias")]
    assert list(Headed().state_dict()) == names


def test_repr_shows_the_inside():
    assert repr(Block()) == (
        "Block(\n  mlp=Chain(Linear(4, 8), Tanh(), Linear(8, 4)),\n  parts.ln_1=LayerNorm(4),\n)"
        if list(vars(Block())).index("mlp") < list(vars(Block())).index("parts")
        else "Block(parts.ln_1=LayerNorm(4), mlp=Chain(Linear(4, 8), Tanh(), Linear(8, 4)))"
    )
    assert repr(Recurrent()) == "Recurrent()"


def test_a_block_shows_its_inside_in_the_summary_and_its_chains_are_fused():
    model = dl.Sequential({"wte": Embedding(10, 4), "block": Block(), "head": dl.Linear(4, 10, bias=False)})
    summary = model.summary((7,))
    rows = {row.name: row for row in summary.rows}
    assert list(rows) == [
        "wte",
        "block",
        "block.parts.ln_1",
        "block.mlp.0",
        "block.mlp.1",
        "block.mlp.2",
        "head",
    ]
    assert [rows[n].output_shape for n in ("wte", "block", "block.mlp.0", "head")] == [(7, 4), (7, 4), (7, 8), (7, 10)]
    assert sum(row.parameters for row in summary.rows) == summary.parameters
    assert rows["block.mlp.0"].flops == 7 * 8 * (2 * 4 + 1)
    kernel = dl.engines.current().has_kernel("linear_activation")
    assert rows["block.mlp.1"].fused == kernel
    assert ("block.mlp.0", "block.mlp.2") in summary.stacks or not kernel
    assert "block.mlp.0" in model.to_mermaid().replace("_", ".")


def test_a_chain_of_appended_layers_moves_its_parameters_once():
    model = dl.Sequential([])
    for _ in range(5):
        model.append(dl.Linear(3, 3))
    own = [layer.weight.buffer for layer in model.layers]
    assert len(set(own)) == 5
    assert len(model.flat_buffers()) == 1
    assert len({layer.weight.buffer for layer in model.layers}) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda a: dl.Sequential(a, dl.Sequential(a)),
        lambda a: dl.Sequential(dl.Sequential([a, dl.Tanh()]), dl.Sequential([a, dl.Tanh()])),
        lambda a: dl.Sequential(dl.Residual(a), a),
        lambda a: dl.Residual([dl.Linear(4, 4), a], shortcut=a),
        lambda a: (
            dl.Residual(dl.Linear(4, 4), activation=a, shortcut=a) if isinstance(a, dl.ReLU) else dl.Parallel(a, a)
        ),
        lambda a: dl.Sequential(dl.Linear(4, 4)).append(dl.Residual(a)).append(a),
        lambda a: dl.Sequential(a, dl.Linear(4, 4)).replace("1", a),
        lambda a: dl.Parallel(dl.Sequential(a), dl.Residual(dl.Parallel(a, dl.Tanh()))),
    ],
)
@pytest.mark.parametrize("kind", [lambda: dl.Linear(4, 4), dl.ReLU, lambda: dl.Dropout(0.5)])
def test_a_layer_that_would_run_twice_in_one_forward_is_refused(make, kind):
    with pytest.raises(ParameterError, match="would run twice in one forward"):
        make(kind())


def test_layers_may_share_parameters():
    first, second = dl.Linear(4, 4, dtype="float64"), dl.Linear(4, 4, dtype="float64")
    second.weight = first.weight
    model = dl.Sequential(first, dl.Tanh(), second)
    dl.gradcheck(model, numpy.random.default_rng(0).normal(size=(3, 4)))
    assert len(model.parameters()) == 3
