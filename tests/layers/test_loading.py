"""Loading weights into a model: what fits, what is left out, foreign names, tied parameters."""

import struct

import array_double
import numpy
import pytest

import minidl as dl
from minidl import weights
from minidl.errors import (
    DtypeError,
    FileFormatError,
    NotBuiltError,
    ParameterError,
    ShapeError,
)
from minidl.layers import Parameter
from minidl.weights.tensors import from_bfloat16, to_bfloat16

RNG = numpy.random.default_rng(0)


class Holder(dl.Layer):
    """Parameters and layers by name, the way attributes hold them."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, Parameter(part) if isinstance(part, numpy.ndarray) else part)


def pair():
    return dl.Sequential({"body": dl.Linear(4, 8), "head": dl.Linear(8, 3)})


def language_model(tied=True):
    """Embedding, one block whose matrices are (out, in) and head, named as in PyTorch's GPT-2."""
    random = numpy.random.default_rng(1)
    wte = Parameter(random.standard_normal((7, 4)).astype("float32"))
    projection = Holder(weight=random.standard_normal((4, 4)).astype("float32"), bias=numpy.zeros(4, "float32"))
    attention = Holder(c_attn=dl.Linear(4, 12), c_proj=projection)
    head = Holder(weight=wte if tied else random.standard_normal((7, 4)).astype("float32"))
    return Holder(wte=Holder(weight=wte), block=Holder(attn=attention), lm_head=head)


def same(model, state):
    for name, value in model.state_dict().items():
        numpy.testing.assert_array_equal(value, state[name], name)


@pytest.fixture(params=["load_state_dict", "load"])
def load(request, tmp_path):
    """Both ways to load, with the arguments of load_state_dict."""
    if request.param == "load_state_dict":
        return lambda model, state, *args, **options: model.load_state_dict(state, *args, **options)
    pytest.importorskip("safetensors")

    def through_a_file(model, state, *args, **options):
        weights.save_file(state, tmp_path / "state.safetensors")
        return model.load(tmp_path / "state.safetensors", *args, **options)

    return through_a_file


class TestNotStrict:
    def test_what_is_there_is_loaded_and_the_rest_reported(self, load):
        old = dl.Sequential({"body": dl.Linear(4, 8), "top": dl.Linear(8, 10)}).state_dict()
        model = pair()
        before = model.state_dict()
        report = load(model, old, strict=False)
        same(model, {**before, "body.weight": old["body.weight"], "body.bias": old["body.bias"]})
        assert report.missing_keys == ["head.weight", "head.bias"]
        assert sorted(report.unexpected_keys) == ["top.bias", "top.weight"]
        missing, unexpected = report
        assert (missing, unexpected) == (report.missing_keys, report.unexpected_keys)
        assert "missing: head.weight, head.bias; unexpected: top." in repr(report)

    def test_it_may_be_positional_as_in_pytorch(self, load):
        assert load(pair(), {}, False).missing_keys == list(pair().state_dict())

    def test_everything_matched(self, load):
        report = load(pair(), pair().state_dict())
        assert report == ([], [])
        assert repr(report) == str(report) == "<All keys matched>"

    def test_strict_lists_all_of_it_and_changes_nothing(self, load):
        model = pair()
        before = model.state_dict()
        state = {"body.weight": before["body.weight"] + 1, "a": numpy.ones(2), "b": numpy.ones(2)}
        with pytest.raises(
            ParameterError,
            match=r"of another model; missing: body\.bias, head\.weight, head\.bias; unexpected: a, b$",
        ):
            load(model, state)
        same(model, before)

    @pytest.mark.parametrize("strict", [True, False])
    def test_shapes_that_differ_are_all_listed_and_nothing_changes(self, load, strict):
        model = pair()
        before = model.state_dict()
        state = {**before, "body.bias": before["body.bias"] + 1, "body.weight": before["body.weight"].T.copy()}
        state["head.weight"] = numpy.ones((2, 2), "float32")
        with pytest.raises(ShapeError) as caught:
            load(model, state, strict=strict)
        assert "body.weight has shape (8, 4), got (4, 8) (transposed, it would fit: see transpose)" in str(caught.value)
        assert str(caught.value).endswith("head.weight has shape (3, 8), got (2, 2)")
        same(model, before)

    def test_a_tensor_that_is_not_wanted_may_be_of_any_kind(self, load):
        state = {**pair().state_dict(), "mask": numpy.ones((2, 2), bool)}
        assert load(pair(), state, strict=False).unexpected_keys == ["mask"]
        assert load(pair(), state, names={"mask": None}) == ([], [])


class TestTied:
    @pytest.mark.parametrize("lacking", ["wte.weight", "lm_head.weight"])
    def test_either_name_will_do(self, load, lacking):
        state = language_model().state_dict()
        state = {name: value + 1 for name, value in state.items() if name != lacking}
        model = language_model()
        assert load(model, state) == ([], [])
        value = state["wte.weight" if lacking == "lm_head.weight" else "lm_head.weight"]
        numpy.testing.assert_array_equal(model.wte.weight.value, value)
        assert model.wte.weight is model.lm_head.weight

    def test_both_names_with_one_value(self, load):
        state = language_model().state_dict()
        assert set(state) >= {"wte.weight", "lm_head.weight"}
        state["wte.weight"][0, 0] = numpy.nan  # equal to itself here
        assert load(language_model(), state) == ([], [])

    @pytest.mark.parametrize("strict", [True, False])
    def test_both_names_with_two_values(self, load, strict):
        model = language_model()
        before = model.state_dict()
        state = {name: value + 1 for name, value in language_model(tied=False).state_dict().items()}
        with pytest.raises(ParameterError, match=r"wte\.weight and lm_head\.weight are one tied weight.*differ"):
            load(model, state, strict=strict)
        same(model, before)

    def test_large_ones_are_compared_to_the_end(self, load):
        shared = Parameter(numpy.zeros((3, 200_000), "float32"))
        model = Holder(a=Holder(weight=shared), b=Holder(weight=shared))
        one = RNG.standard_normal((3, 200_000)).astype("float32")
        load(model, {"a.weight": one, "b.weight": one.copy()})
        numpy.testing.assert_array_equal(shared.value, one)
        other = one.copy()
        other[-1, -1] += 1
        with pytest.raises(ParameterError, match="differ"):
            load(model, {"a.weight": one, "b.weight": other})

    def test_one_of_two_names_may_be_kept_transposed(self, load):
        model = language_model()
        state = language_model(tied=False).state_dict()
        state["lm_head.weight"] = state["wte.weight"].T.copy()
        load(model, state, transpose="lm_head.weight")
        numpy.testing.assert_array_equal(model.lm_head.weight.value, state["wte.weight"])
        state["lm_head.weight"][1, 2] += 1
        with pytest.raises(ParameterError, match="differ"):
            load(model, state, transpose="lm_head.weight")

    def test_neither_name(self, load):
        report = load(language_model(), {}, strict=False)
        assert {"wte.weight", "lm_head.weight"} < set(report.missing_keys)

    def test_saved_once_under_the_first_name(self, tmp_path):
        safetensors = pytest.importorskip("safetensors")
        path = tmp_path / "m.safetensors"
        model = language_model()
        model.save(path)
        with safetensors.safe_open(path, "np") as file:
            assert set(file.keys()) == set(model.state_dict()) - {"lm_head.weight"}
            about = {name: text for name, text in file.metadata().items() if not name.startswith("minidl.")}
            assert about == {"lm_head.weight": "wte.weight"}
        other = language_model()
        other.wte.weight.value = 0
        other.load(path)
        same(other, model.state_dict())

    def test_a_layer_in_two_places(self, load):
        layer = dl.Linear(2, 2)
        model = Holder(encoder=layer, decoder=layer)
        state = {name: value + 1 for name, value in model.state_dict().items() if name.startswith("decoder")}
        assert load(model, state) == ([], [])
        numpy.testing.assert_array_equal(layer.weight.value, state["decoder.weight"])

    def test_parameters_that_are_made_anew_each_time_are_not_taken_for_tied_ones(self):
        class Foreign:
            def __init__(self):
                self.values = [numpy.zeros(2, "float32") for _ in range(5)]

            def forward(self, x):
                return x

            def backward(self, dy):
                return dy

            def parameters(self):
                return [Seen(value) for value in self.values]

        class Seen:
            def __init__(self, value):
                self.value, self.name = value, None

        class Model(dl.Layer):
            def children(self):
                return {"own": self.own}

        model = Model()
        model.own = Foreign()
        model.load_state_dict({f"own.{i}": numpy.full(2, i, "float32") for i in range(5)})
        assert [value[0] for value in model.own.values] == [0, 1, 2, 3, 4]


class TestForeignNames:
    def gpt2(self):
        """The state of `language_model` as the published file has it: prefix, (in, out) matrices, masks, no head."""
        state = language_model().state_dict()
        renamed = {
            "transformer.wte.weight": state["wte.weight"] + 1,
            "transformer.h.0.attn.c_attn.weight": state["block.attn.c_attn.weight"].T + 1,
            "transformer.h.0.attn.c_attn.bias": state["block.attn.c_attn.bias"] + 1,
            "transformer.h.0.attn.c_proj.weight": state["block.attn.c_proj.weight"].T + 1,
            "transformer.h.0.attn.c_proj.bias": state["block.attn.c_proj.bias"] + 1,
            "transformer.h.0.attn.bias": numpy.tri(4, dtype=bool),
        }
        return {name: value + 1 for name, value in state.items()}, renamed

    @pytest.mark.parametrize(
        "names",
        [
            {"*.attn.bias": None, "transformer.h.0.*": "block.*", "transformer.*": "*"},
            {"*h.0.attn.bias": None, "transformer.h.0.*.c_*.*": "block.*.c_*.*", "transformer.*": "*"},
            lambda name: None if name.endswith(".attn.bias") else name[12:].replace("h.0.", "block."),
        ],
    )
    @pytest.mark.parametrize(
        "transpose",
        [
            "*.c_*.weight",
            ["block.attn.c_attn.weight", "*proj*"],
            lambda name: "c_" in name and name.endswith("weight"),
        ],
    )
    def test_a_file_as_gpt2s(self, load, names, transpose):
        expected, state = self.gpt2()
        model = language_model()
        assert load(model, state, names=names, transpose=transpose) == ([], [])
        same(model, expected)

    def test_the_first_key_that_fits_decides_and_others_stay(self, load):
        model = Holder(a=numpy.zeros(1), b=numpy.zeros(1), c=numpy.zeros(1))
        load(
            model, {"x": numpy.ones(1), "xy": numpy.full(1, 2.0), "c": numpy.full(1, 3.0)}, names={"x": "a", "x*": "b"}
        )
        assert [p.value[0] for p in model.parameters()] == [1, 2, 3]

    def test_the_first_star_takes_as_little_as_fits(self, load):
        model = Holder(x_bcbd=numpy.zeros(1))
        load(model, {"x.b.c.b.d": numpy.ones(1)}, names={"*.*.c.*.d": "*_*c*d"})
        load(model, {"xbbcbd": numpy.ones(1)}, names={"*b*d": "*_*d"})
        assert model.x_bcbd.value[0] == 1

    def test_points_and_brackets_in_keys_are_themselves(self, load):
        model = Holder(a=numpy.zeros(1))
        with pytest.raises(ParameterError, match="unexpected: wxb"):
            load(model, {"wxb": numpy.ones(1)}, names={"w.b": "a"})
        load(model, {"w[0].b": numpy.ones(1)}, names={"w[0].b": "a"})
        assert model.a.value[0] == 1

    def test_parts_of_an_array(self, load):
        model = Holder(qkv=numpy.zeros((6, 2)), bias=numpy.zeros(2))
        parts = {f"{name}.weight": numpy.full((2, 2), i + 1.0) for i, name in enumerate("qkv")}
        names = {f"{name}.weight": f"qkv[{i}/3]" for i, name in enumerate("qkv")}
        assert load(model, {**parts, "bias": numpy.ones(2)}, names=names) == ([], [])
        assert model.parameters()[0].value[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
        with pytest.raises(ParameterError, match=r"missing: qkv\[1/3\]"):
            load(model, {**parts, "bias": numpy.ones(2)}, names={**names, "k.weight": None})
        with pytest.raises(ShapeError, match=r"qkv\[0/3\] has shape \(2, 2\), got \(3, 2\)"):
            load(model, {**parts, "bias": numpy.ones(2), "q.weight": numpy.ones((3, 2))}, names=names)
        with pytest.raises(ParameterError, match=r"unexpected: q\.weight \(as qkv\[0/4\]\)"):
            load(model, parts, names={"q.weight": "qkv[0/4]"})

    def test_a_star_may_stand_for_what_is_not_used(self, load):
        model = Holder(a=numpy.zeros(1))
        load(model, {"module.x.a": numpy.ones(1)}, names={"*.x.*": "a"})
        assert model.a.value[0] == 1

    def test_two_tensors_for_one_name(self, load):
        for strict in (True, False):
            with pytest.raises(ParameterError, match=r"x\.a and y\.a are both given for a"):
                load(
                    Holder(a=numpy.zeros(1)),
                    {"x.a": numpy.ones(1), "y.a": numpy.ones(1)},
                    strict=strict,
                    names=lambda name: name[2:],
                )

    def test_a_name_that_the_model_lacks_is_shown_as_it_stands_there(self, load):
        state = {"x.a": numpy.ones(1), "x.d": numpy.ones(1)}
        model = Holder(a=numpy.zeros(1))
        with pytest.raises(ParameterError, match=r"unexpected: x\.d \(as d\)"):
            load(model, state, names={"x.*": "*"})
        assert load(model, state, strict=False, names={"x.*": "*"}).unexpected_keys == ["x.d"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"names": ["a"]}, "expected a dict or a function, got list"),
            ({"names": {"a": 3}}, "'a': 3"),
            ({"names": {"*.*": "*"}}, r"as many \* as"),
            ({"names": {"a": "b*"}}, r"as many \* as"),
            ({"names": lambda name: 7}, "gave 7 for 'a'"),
            ({"transpose": "*.wieght"}, r"'\*\.wieght' matches no name of this model"),
            ({"transpose": ["a", "b"]}, "'b' matches no name of this model"),
            ({"transpose": [3]}, "patterns of names"),
        ],
    )
    def test_settings_that_cannot_be_used(self, load, options, message):
        model = Holder(a=numpy.zeros((2, 2)))
        with pytest.raises(ParameterError, match=message):
            load(model, {"a": numpy.ones((2, 2))}, **options)
        assert (model.a.value == 0).all()

    @pytest.mark.parametrize(
        "shape", [(600, 700), (3, 200_000), (300_000, 2), (5, 70, 900), (4,), (), (0, 3), (1, 300_000)]
    )
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_axes_in_reverse_order(self, load, shape, dtype):
        theirs = RNG.standard_normal(shape).astype(dtype)
        model = Holder(a=numpy.zeros(shape[::-1], "float32"))
        load(model, {"a": theirs}, transpose="a")
        numpy.testing.assert_array_equal(model.a.value, theirs.T.astype("float32"))


class TestPrecision:
    @pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32", "float64"])
    @pytest.mark.parametrize("own", ["float16", "float32", "float64"])
    def test_files_in_another_precision(self, tmp_path, stored, own):
        pytest.importorskip("safetensors")
        values = RNG.standard_normal((700, 500))
        path = tmp_path / "m.safetensors"
        weights.save_file({"a": values}, path, dtype=stored)
        model = Holder(a=numpy.zeros((700, 500), own))
        assert model.load(path) == ([], [])
        held = from_bfloat16(to_bfloat16(values)) if stored == "bfloat16" else values.astype(stored)
        numpy.testing.assert_array_equal(model.a.value, held.astype(own))
        assert model.a.value.dtype == own

    def test_saving_in_half_precision(self, tmp_path):
        pytest.importorskip("safetensors")
        model = pair()
        model.save(tmp_path / "half", dtype="bfloat16")
        other = pair()
        other.load(tmp_path / "half")
        same(other, {n: from_bfloat16(to_bfloat16(v)) for n, v in model.state_dict().items()})

    def test_what_cannot_be_read_is_refused_before_anything_changes(self, tmp_path):
        pytest.importorskip("safetensors")
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[4,8]}}'
        path = tmp_path / "m.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\1" * 8)
        model = Holder(a=numpy.zeros(1), b=numpy.zeros(4))
        with pytest.raises(FileFormatError, match="m.safetensors: the tensor b has dtype F8_E4M3"):
            model.load(path)
        assert model.a.value[0] == 0
        assert model.load(path, strict=False, names={"b": None}).missing_keys == ["b"]
        assert model.a.value[0] != 0

    @pytest.mark.parametrize("wrong", [numpy.ones(1, "int32"), numpy.ones(1, bool)])
    def test_numbers_of_another_kind(self, load, wrong):
        with pytest.raises(DtypeError, match="a must be floating-point, got dtype"):
            load(Holder(a=numpy.zeros(1)), {"a": wrong})


class TestBuffers:
    def test_a_file_without_the_count_of_batches(self, load):
        layer = dl.BatchNorm1d(3)
        layer.num_batches_tracked += 4
        state = {name: value + 1 for name, value in layer.state_dict().items() if name != "num_batches_tracked"}
        assert load(layer, state) == ([], [])
        numpy.testing.assert_array_equal(layer.running_var, state["running_var"])
        assert layer.num_batches_tracked == 4
        model = dl.Sequential(layer)
        assert load(model, {f"0.{name}": value for name, value in state.items()}) == ([], [])

    @pytest.mark.parametrize("lacking", ["running_mean", "weight"])
    def test_nothing_else_may_be_missing(self, load, lacking):
        state = dl.BatchNorm1d(3).state_dict()
        del state[lacking]
        with pytest.raises(ParameterError, match=f"missing: {lacking}; unexpected: none"):
            load(dl.BatchNorm1d(3), state)

    def test_a_parameter_of_that_name_may_not_be_missing(self):
        with pytest.raises(ParameterError, match="missing: num_batches_tracked"):
            Holder(num_batches_tracked=numpy.zeros(1)).load_state_dict({})


def test_on_every_engine_with_one_transfer_for_each_tensor(engine, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "m.safetensors"
    with dl.use(engine):
        model = dl.Sequential({"a": dl.Linear(3, 600), "b": dl.BatchNorm1d(600)})
        state = {name: value + 1 for name, value in model.state_dict().items()}
        state["a.weight"] = state["a.weight"].T.copy()
        weights.save_file(state, path)
        model.to(engine=engine)
        array_double.transfers.clear()
        model.load(path, transpose="a.weight")
        if engine.name == "double":
            assert array_double.transfers == {"to device": 6}  # the count of batches stays on the host
        state["a.weight"] = state["a.weight"].T
        same(model, state)
        assert engine.xp is numpy or not isinstance(model["a"].weight.value, numpy.ndarray)
        model.save(tmp_path / "again.safetensors", dtype="float64")
        found = weights.load_file(tmp_path / "again.safetensors")
        assert set(found) == set(state)
        for name, value in found.items():
            numpy.testing.assert_array_equal(value, state[name])


def test_a_lazy_model_is_to_be_built_first(load):
    with pytest.raises(NotBuiltError, match="input_shape"):
        load(dl.Sequential([dl.Dense(3)]), {"0.weight": numpy.ones((3, 2), "float32")})


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (None, ParameterError, "expected a mapping of names to arrays, got NoneType"),
        ([1], ParameterError, "got list"),
        ({1: numpy.ones(1)}, ParameterError, "expected names as text, got 1"),
        ({"a": numpy.array(["text"])}, DtypeError, "a must be floating-point"),
        ({"a": numpy.array([None])}, DtypeError, "a must be floating-point, got dtype object"),
        ({"a": [[1.0], [1.0, 2.0]]}, DtypeError, "a cannot be read as a NumPy array"),
    ],
)
def test_what_is_no_state_dict(state, error, message):
    with pytest.raises(error, match=message):
        Holder(a=numpy.zeros(1)).load_state_dict(state)


def test_tied_parameters_are_copied_once_by_state_dict():
    state = language_model().state_dict()
    assert state["wte.weight"] is state["lm_head.weight"]


def test_shards_of_a_model(tmp_path):
    pytest.importorskip("safetensors")
    model, other = language_model(), language_model()
    model.wte.weight.value = 3
    model.save(tmp_path / "model.safetensors", max_shard_size=150, dtype="float16")
    assert len(list(tmp_path.iterdir())) == 4
    assert other.load(tmp_path) == ([], [])
    same(other, {name: value.astype("float16") for name, value in model.state_dict().items()})


def test_a_part_of_a_model_is_loaded_by_itself(tmp_path):
    pytest.importorskip("safetensors")
    model = pair()
    model.save(tmp_path / "m.safetensors")
    other = dl.Linear(4, 8)
    assert other.load(tmp_path / "m.safetensors", names={"head.*": None, "body.*": "*"}) == ([], [])
    numpy.testing.assert_array_equal(other.weight.value, model["body"].weight.value)


def test_the_model_computes_with_what_was_loaded(load):
    model, other = pair(), pair()
    x = RNG.standard_normal((5, 4)).astype("float32")
    other.forward(x)
    load(other, model.state_dict())
    numpy.testing.assert_array_equal(other.forward(x), model.forward(x))
