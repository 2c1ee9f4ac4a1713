"""The ONNX project's own node tests for attention, rotary positions, gathering and norms, through adapters to the ops."""

import warnings

import numpy
import pytest

onnx = pytest.importorskip("onnx")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # from arrays that the cases are made of
    from onnx.backend.test.case import node as nodes
    from onnx.backend.test.case.node import (  # noqa: F401 - imported, they list their cases
        attention,
        gather,
        layernormalization,
        rmsnormalization,
        rotaryembedding,
    )

import minidl as dl  # noqa: E402
from minidl.layers.attention import merge_heads, split_heads  # noqa: E402
from minidl.ops.attention import attention_weights  # noqa: E402

pytestmark = pytest.mark.peers


def run_attention(settings, given):
    """Return Y, the present keys and values, and the weights."""
    q, k, v = (given[name] for name in "QKV")
    flat = q.ndim == 3
    if flat:
        q = split_heads(q, settings["q_num_heads"])
        k, v = (split_heads(x, settings["kv_num_heads"]) for x in (k, v))
    offset, causal = 0, bool(settings.get("is_causal", 0))
    if "past_key" in given:
        offset = given["past_key"].shape[2]
        k, v = (numpy.concatenate([given[f"past_{n}"], x], axis=2) for n, x in (("key", k), ("value", v)))
    mask = given.get("attn_mask")
    if mask is not None and mask.shape[-1] < k.shape[2]:  # what is missing is left out
        missing = [(0, 0)] * (mask.ndim - 1) + [(0, k.shape[2] - mask.shape[-1])]
        mask = numpy.pad(mask, missing, constant_values=False if mask.dtype == bool else -numpy.inf)
    left, right = settings.get("left_window_size", -1), settings.get("right_window_size", -1)
    window = left + 1 if left >= 0 and (causal or left == right) else None
    if "nonpad_kv_seqlen" in given:  # each sequence has an offset of its own: all of it as a mask
        counts = given["nonpad_kv_seqlen"].reshape(-1, 1, 1)
        ahead = numpy.arange(k.shape[2]) - (numpy.arange(q.shape[2])[:, None] + counts - q.shape[2])  # (N, T, S)
        seen = numpy.arange(k.shape[2]) < counts + 0 * ahead
        for used, allowed in ((causal, ahead <= 0), (left >= 0, ahead >= -left), (right >= 0, ahead <= right)):
            seen = seen & allowed if used else seen
        mask, causal, window = combined(mask, seen[:, None]), False, None
    elif window is None and (left >= 0 or right >= 0):
        ahead = numpy.arange(k.shape[2]) - offset - numpy.arange(q.shape[2])[:, None]  # (T, S)
        mask = combined(mask, ((left < 0) | (ahead >= -left)) & ((right < 0) | (ahead <= right)))
    y, cache = dl.ops.scaled_dot_product_attention(
        q,
        k,
        v,
        mask,
        is_causal=causal,
        scale=settings.get("scale"),
        enable_gqa=True,
        window=window,
        offset=offset,
    )
    return {
        "Y": merge_heads(y) if flat else y,
        "present_key": k,
        "present_value": v,
        "qk_matmul_output": attention_weights(cache),
    }


def combined(mask, seen):
    """Return a mask that leaves out what is not seen."""
    if mask is None:
        return seen
    return mask & seen if mask.dtype == bool else numpy.where(seen, mask, -numpy.inf).astype(mask.dtype)


def widened(array):
    """Return bfloat16, which NumPy does not have, as float32."""
    array = numpy.asarray(array)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def run_rotary(settings, given):
    """Return Y; cos and sin are rows of a table, by position."""
    x, cos, sin = given["input"], given["cos_cache"], given["sin_cache"]
    flat = x.ndim == 3
    x = split_heads(x, settings["num_heads"]) if flat else x
    if "position_ids" in given:
        cos, sin = (table[given["position_ids"]] for table in (cos, sin))  # (N, T, R)
    y, _ = dl.ops.rotary_embedding(x, cos[:, None], sin[:, None], bool(settings.get("interleaved", 0)))
    return {"output": merge_heads(y) if flat else y}


def run_gather(settings, given):
    """Return the rows of a table along an axis, of which each is flattened on the way."""
    data, ids = given["data"], given["indices"]
    axis = settings.get("axis", 0)
    table = numpy.moveaxis(data, axis, 0)
    ids = numpy.where(ids < 0, ids + len(table), ids)
    rows, _ = dl.ops.embedding(ids, table.reshape(len(table), -1))
    rows = rows.reshape(*ids.shape, *table.shape[1:])
    return {"y": numpy.moveaxis(rows, range(ids.ndim), range(axis, axis + ids.ndim))}


def run_norm(op):
    """Return a function that normalises the axes from a given one on."""

    def run(settings, given):
        names = list(given)
        x, weight = given[names[0]], given[names[1]]
        shape = x.shape[settings.get("axis", -1) :]
        parameters = [weight.reshape(shape)] + [given[name].reshape(shape) for name in names[2:]]
        y, cache = getattr(dl.ops, op)(x, shape, *parameters, eps=settings.get("epsilon", 1e-5))
        kept = x.shape[: x.ndim - len(shape)] + (1,) * len(shape)
        statistics = {"Mean": cache[4], "InvStdDev": cache[5]} if op == "layer_norm" else {}
        return {"Y": y} | {name: array.reshape(kept) for name, array in statistics.items()}

    return run


OPS = {
    "Attention": run_attention,
    "RotaryEmbedding": run_rotary,
    "Gather": run_gather,
    "LayerNormalization": run_norm("layer_norm"),
    "RMSNormalization": run_norm("rms_norm"),
}
CASES = {
    case.name: case
    for case in nodes._NodeTestCases
    if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in OPS
}


def left_out(case, settings):
    """Say why a case is left out, or return an empty string."""
    if settings.get("softcap", 0):
        return "minidl caps no scores"
    if settings.get("qk_matmul_output_mode", 0) != 3 and len(case.model.graph.node[0].output) > 3:
        return "the scores before the softmax are kept nowhere"
    return ""


def test_the_cases_are_there():
    kinds = [case.model.graph.node[0].op_type for case in CASES.values()]
    assert {kind: kinds.count(kind) for kind in OPS}["Attention"] >= 30
    assert all(kinds.count(kind) >= 4 for kind in OPS)


@pytest.mark.parametrize("name", CASES)
def test_node(host_engine, name):
    case = CASES[name]
    node = case.model.graph.node[0]
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if reason := left_out(case, settings):
        pytest.skip(reason)
    with dl.use(host_engine):
        for arrays, expected in case.data_sets:
            given = dict(zip(filter(None, node.input), map(widened, arrays), strict=True))
            found = OPS[node.op_type](settings, given)
            for output, array in zip(filter(None, node.output), expected, strict=True):
                allowed = {"float16": 2e-3, "bfloat16": 2e-2}.get(array.dtype.name, 1e-5)
                numpy.testing.assert_allclose(found[output], widened(array), rtol=allowed, atol=allowed, err_msg=output)
