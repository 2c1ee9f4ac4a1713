"""The board of benchmarks/: its workloads can be run, and its tables say what was measured. Nothing is timed here."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import minidl
from minidl import engines

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def board():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import board_tables
        import workloads

        yield workloads, board_tables
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_every_workload_has_a_name_of_its_own_and_minidl_beside_others(board):
    workloads, _ = board
    assert len({w.name for w in workloads.ALL}) == len(workloads.ALL)
    for workload in workloads.ALL:
        assert workload.has("minidl native")
        assert workload.has("torch")
        assert workload.has("jax") or "int8" in workload.name  # in which JAX has no layers
        assert bool(workload.flops) != bool(workload.bytes)


def test_a_contender_that_does_not_take_part_is_left_out(board):
    workloads, _ = board
    [product] = [w for w in workloads.ALL if w.name == "32x32x32 NT"]
    assert product.has("numpy")
    assert not product.has("minidl numpy")
    assert product.flops == 2 * 32**3


STEPS = ["linear regression, batch 32, SGD", "2-16-16-1 tanh, batch 64, SGD", "784-512-256-10 relu, batch 32, Adam"]


def losses(workloads, name, contender, steps=6):
    step = next(workload for workload in workloads.ALL if workload.name == name).make(contender)
    values = [step() for _ in range(steps)]
    return [float(value.detach() if hasattr(value, "detach") else value) for value in values]


@pytest.mark.parametrize("name", STEPS)
def test_training_steps_train_the_same_on_both_engines(board, name):
    workloads, _ = board
    found = losses(workloads, name, "minidl numpy")
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]
    if engines.engines()["native"]:
        assert losses(workloads, name, "minidl native") == pytest.approx(found, rel=1e-4)


@pytest.mark.peers
@pytest.mark.parametrize("name", [*STEPS, "784-512-256-10 relu, batch 128, SGD momentum"])
@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_contenders_do_the_same_work(board, name, peer):
    pytest.importorskip(peer)
    workloads, _ = board
    assert losses(workloads, name, peer) == pytest.approx(losses(workloads, name, "minidl numpy"), rel=1e-4)


def of_sequences(workloads, part):
    return [w for w in workloads.ALL if w.part == f"Sequences: {part}"]


def arrays_of(step):
    """Run a step; return what it returned, as a list of arrays."""
    found = step()
    found = found if isinstance(found, (tuple, list)) else [found]
    return [numpy.asarray(a.detach() if hasattr(a, "detach") else a) for a in found]


@pytest.mark.peers
@pytest.mark.nightly
@pytest.mark.parametrize("peer", ["torch", "jax"])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "GPT nano"])
def test_sequences_are_trained_the_same_by_all(board, peer, name):
    pytest.importorskip(peer)
    workloads, _ = board
    [workload] = [w for w in of_sequences(workloads, "training") if w.name.startswith(name)]
    expected = losses(workloads, workload.name, "minidl numpy", 3)
    assert expected[0] > expected[-1]
    assert losses(workloads, workload.name, peer, 3) == pytest.approx(expected, rel=1e-4)


@pytest.mark.peers
@pytest.mark.nightly
@pytest.mark.parametrize("peer", ["torch", "jax", "onnxruntime"])
@pytest.mark.parametrize(
    "name",
    [
        "T=256",
        "embedding",
        "cross-entropy",
        "encoder of 6 layers, 384 wide, 12 heads, T=128, batch 1",
        "GPT nano, 48",
        "GPT nano, 1 prompt of 48 tokens, weights in float32",  # logits; bfloat16 rounds them
    ],
)
def test_workloads_on_sequences_compute_the_same(board, peer, name):
    pytest.importorskip(peer)
    workloads, _ = board
    parts = ("attention", "large vocabulary", "inference", "generation", "prompts")
    found = [w for part in parts for w in of_sequences(workloads, part) if name in w.name]
    assert found
    for workload in found:
        if workload.has(peer) and "int8" not in workload.name:  # every library rounds its own way
            own = "minidl native" if engines.engines()["native"] else "minidl numpy"
            if not workload.has(own):
                continue
            pairs = zip(arrays_of(workload.make(peer)), arrays_of(workload.make(own)), strict=True)
            for one, other in pairs:
                numpy.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * max(1.0, float(abs(other).max())))


def test_bfloat16_is_measured_where_it_changes_more_than_the_rounding(board):
    workloads, _ = board
    with_it = {w.part for w in workloads.ALL if w.has("minidl bfloat16")}
    assert {"Products", "Sequences: training", "Sequences: attention"} <= with_it
    assert not {"Activations", "Sequences: generation"} & with_it


@pytest.mark.peers
@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_products_and_activations_run(board, peer):
    pytest.importorskip(peer)
    workloads, _ = board
    for workload in workloads.ALL:
        if workload.name.startswith(("64x64x64", "gelu", "relu", "64x512x256")):
            workload.make(peer)()


def layers_of_memory(workloads):
    return [w for w in workloads.ALL if w.part == "Normalisation and pooling"]


def compare_layer(workload, contender):
    """Compare y, or y and the gradients, with those of the formulas."""
    found, expected = workload.make(contender)(), workload.make("minidl numpy")()
    if not workload.name.endswith("backward"):
        found, expected = (found, ()), (expected, ())
    for one, other in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
        one = one.detach().numpy() if hasattr(one, "detach") else numpy.asarray(one)
        numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * max(1.0, float(abs(other).max())))


def test_layers_bound_by_memory_compute_the_same_on_both_engines(board):
    if not engines.engines()["native"]:
        pytest.skip(str(engines.engines()["native"]))
    workloads, _ = board
    found = layers_of_memory(workloads)
    assert {w.name.split(",")[0] for w in found} == {"batch norm in training", "layer norm", "max pool 2x2"}
    for workload in found:
        compare_layer(workload, "minidl native")


@pytest.mark.peers
@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_layers_bound_by_memory_compute_the_same_in_the_peers(board, peer):
    pytest.importorskip(peer)
    workloads, _ = board
    for workload in layers_of_memory(workloads):
        compare_layer(workload, peer)


def test_bytes_are_those_that_must_be_read_and_written(board):
    workloads, _ = board
    found = {w.name: w.bytes for w in layers_of_memory(workloads)}
    image = 4 * 16 * 64 * 32 * 32
    assert found["batch norm in training, 64x32x32, batch 16, forward"] == 2 * image
    assert found["layer norm, 128x768, forward and backward"] == 5 * 4 * 128 * 768
    assert found["max pool 2x2, 64x32x32, batch 16, forward"] == 1.25 * image
    assert found["max pool 2x2, 64x32x32, batch 16, forward and backward"] == 2.5 * image


def test_the_breakdown_counts_what_the_board_counts(board):
    if not engines.engines()["native"]:
        pytest.skip(str(engines.engines()["native"]))
    import breakdown

    workloads, _ = board
    workload = next(w for w in workloads.ALL if w.name == "784-512-256-10 relu, batch 32, Adam")
    _, _, calls = breakdown.fastest(workload, 0.01)
    assert sum(call.flops for call in calls) == workload.flops
    parameters = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    [update] = [call for call in calls if call.op == "adam_update"]
    assert update.bytes == 4 * parameters * 7  # value, both averages: in and out; gradient: in
    assert calls[0].bytes == 4 * (32 * 784 + 784 * 512 + 512 + 32 * 512)


def test_tables_and_ratios(board):
    _, tables = board
    figures = [
        tables.Figure("Training steps", "a", "minidl numpy", 4.0, 6.0, 1e9, 0, 50),
        tables.Figure("Training steps", "a", "minidl native", 1.0, 2.0, 1e9, 0, 60),
        tables.Figure("Training steps", "a", "torch", 2.0, 3.0, 1e9, 0, 300),
        tables.Figure("Activations", "b", "minidl native", 1.0, 1.0, 0, 8e6, 60),
        tables.Figure("Products", "c", "minidl native", 1.0, 1.0, 1e8, 0, 60),
        tables.Figure("Products", "c", "numpy", 1.5, 2.0, 1e8, 0, 60),
    ]
    lines = list(tables.tables(figures, 4e12))
    assert "| a | torch | 2 | 3 | 500 GFLOP/s | 12% | 1.50 | 300 |" in lines
    assert "| a | minidl numpy | 4 | 6 | 250 GFLOP/s | 6% | 3.00 | 50 |" in lines
    assert "| b | minidl native | 1 | 1 | 8 GB/s |  | 1.00 | 60 |" in lines
    assert "| c | 1 (1) | 100 GFLOP/s | 2% | 1.5 | 2.00 |" in lines
    assert [line for line in lines if line.startswith("#")] == ["## Training steps", "## Activations", "## Products"]


def test_generation_is_shown_in_tokens_and_beside_its_bound(board):
    _, tables = board
    figure = tables.Figure("Generation", "a", "minidl native", 20.0, 25.0, 0, 1e9, 60, tokens=10, bound_ms=5.0)
    assert figure.rate == "500 tokens/s"
    assert figure.share(4e12) == "25%"


def test_the_fastest_peer_is_one_that_computes_in_float32(board):
    _, tables = board
    figures = [
        tables.Figure("Training steps", "a", "minidl native", 1.0, 2.0, 1e9, 0, 60),
        tables.Figure("Training steps", "a", "torch", 2.0, 5.0, 1e9, 0, 300),
        tables.Figure("Training steps", "a", "torch compile", 2.0, 3.0, 1e9, 0, 300),
        tables.Figure("Training steps", "a", "torch bfloat16", 1.0, 1.0, 1e9, 0, 300),
        tables.Figure("Training steps", "b", "minidl native", 1.0, 2.0, 1e9, 0, 60),
    ]
    rows = [line for line in tables.against_the_fastest(figures) if line.startswith("| Training")]
    assert rows == ["| Training steps: a | 2 | torch compile | 3 | 1.50 |"]
    figures.insert(0, tables.Figure("Training steps", "a", "minidl bfloat16", 0.5, 0.5, 1e9, 0, 60))
    found = tables.against_the_fastest(figures)
    assert [line for line in found if line.startswith("| Training")] == [
        *rows,
        "| Training steps: a | 0.5 | torch bfloat16 | 1 | 2.00 |",
    ]
    assert "## Against the fastest peer in bfloat16" in found
    assert "| a | minidl bfloat16 | 0.5 | 0.5 | 2e+03 GFLOP/s | 50% | 0.25 | 60 |" in tables.table(figures, 4e12)
    assert tables.against_the_fastest(figures[-1:]) == []


def test_each_processor_has_its_section(board, tmp_path):
    _, tables = board
    page = tmp_path / "board.md"
    page.write_text("by hand\n<!-- board: end -->\nalso by hand\n")
    for processor, line in (("one", "old"), ("other", "kept"), ("one", "new")):
        tables.write_section(page, "board", processor, [f"## {processor}", line])
    text = page.read_text()
    assert text.startswith("by hand\n")
    assert text.endswith("also by hand\n")
    assert "old" not in text
    assert text.index("## one") < text.index("new") < text.index("## other") < text.index("kept")
    page.write_text("no mark")
    with pytest.raises(SystemExit, match="board: end"):
        tables.write_section(page, "board", "one", ["new"])


def test_writing_keeps_what_is_kept_by_hand(board, tmp_path):
    _, tables = board
    page = tmp_path / "board.md"
    marks = "<!-- a -->", "<!-- b -->"
    page.write_text(f"by hand\n{marks[0]}\nold\n{marks[1]}\nalso by hand\n")
    for _ in range(2):
        tables.write(page, ["new"], *marks)
    assert page.read_text() == f"by hand\n{marks[0]}\n\nnew\n\n{marks[1]}\nalso by hand\n"
    page.write_text("nothing to write between")
    with pytest.raises(SystemExit, match="between"):
        tables.write(page, ["new"], *marks)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["784-512-256-10 relu", "LeNet-5", "two residual blocks of 64 channels on 32x32"])
def test_onnx_graphs_compute_the_same(board, name):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    workloads, _ = board
    workload = next(w for w in workloads.ALL if w.name == name)
    numpy.testing.assert_allclose(workload.make("onnxruntime")(), workload.make("minidl numpy")(), rtol=1e-3, atol=1e-3)


def test_what_is_bound_by_memory_can_be_measured(board):
    if not engines.engines()["native"]:
        pytest.skip(str(engines.engines()["native"]))
    import memory_bound

    engine = engines.get("native")
    passes = list(memory_bound.passes())
    assert {"relu", "relu backward", "softmax", "layer_norm backward", "dropout", "Adam"} <= {p.name for p in passes}
    for one in passes:
        one.make(engine, 1 << 11)()


# on a GPU -----------------------------------------------------------------------------------------------------------


def test_without_a_gpu_the_board_says_so_and_exits_with_a_code_of_its_own():
    if engines.engines()["cupy"]:
        pytest.skip("there is a GPU here")
    command = [sys.executable, str(BENCHMARKS / "board.py"), "--device", "gpu"]
    environment = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("board: GPU: not run: ")


@pytest.mark.gpu_double
def test_every_row_is_there_on_a_gpu(board):
    workloads, _ = board
    missing = [w.name for w in workloads.ALL if not (w.has("minidl cupy") and w.has("torch cuda"))]
    # stored weights are read by kernels of the CPU alone, and prompts and generation are compared on it alone
    of_the_host = {w.name for w in workloads.ALL if w.part in ("Sequences: generation", "Sequences: prompts")}
    assert set(missing) <= of_the_host


ON_THE_DOUBLE = [
    *STEPS[:2],
    "depthwise 3x3, 64x32x32 to 64, batch 16, forward",
    "layer norm, 128x768, forward and backward",
    "gelu, 2^20 floats, forward",
    "32x32x32 NT",
]


@pytest.mark.gpu_double
@pytest.mark.parametrize("name", ON_THE_DOUBLE)
def test_rows_put_their_arrays_on_the_device(board, name, monkeypatch):
    """On the array double in CuPy's place, which refuses arrays of the host."""
    from array_double import DoubleEngine, ndarray, transfers

    workloads, _ = board
    double, get = DoubleEngine(), engines.get
    monkeypatch.setattr(engines, "get", lambda wanted: double if wanted == "cupy" else get(wanted))
    step = next(w for w in workloads.ALL if w.name == name).make("minidl cupy")
    step()
    transfers.clear()
    found = step()
    assert +transfers == {}
    assert isinstance(found[0] if isinstance(found, tuple) else found, ndarray)
