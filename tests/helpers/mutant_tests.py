"""Which tests should notice a change of a file: the cheapest first."""

from pathlib import Path

from minidl import ops

ROOT = Path(__file__).parents[2]
CATALOGUE = ["tests/test_catalogue.py", "tests/test_catalogue_gradients.py"]
ENGINES = ["tests/test_catalogue_engines.py", "tests/test_catalogue_random.py"]

SHARED = {
    "_checks": ["relu", "linear", "batch_norm", "cross_entropy"],
    "_gradients": ["linear", "conv1d", "layer_norm"],
    "_pooling": ["pool"],
    "_resampling": ["upsample", "pad"],
    "_runs": ["pool", "upsample"],
    "_windows": ["conv"],
    "folding": ["batch_norm"],
    "special": ["gelu"],
}
"""Ops that use a module which holds none itself, or words in their names."""

FAMILIES = {
    "conv": (["test_conv.py"], ["conv"]),
    "elementwise": (
        ["test_native.py", "test_dropout.py", "test_vector_math.py"],
        ["relu", "elu", "sigmoid", "tanh", "softplus", "dropout"],
    ),
    "image": (["test_pool.py", "test_resample.py"], ["pool", "pad", "upsample"]),
    "loss": (["test_losses.py"], ["loss", "cross_entropy", "softmax"]),
    "norm": (["test_norm.py"], ["norm"]),
    "product": (["test_gemm.py", "test_native.py"], ["linear", "matmul"]),
    "reduce": (["test_native.py", "test_losses.py"], ["loss", "linear", "conv", "norm"]),
    "runtime": (["test_native.py", "test_memory.py", "test_gemm.py"], ["gelu", "linear", "dropout", "batch_norm"]),
    "update": (["test_edges.py"], ["update"]),
    "vector": (["test_vector_math.py", "test_native.py"], ["gelu", "softmax", "linear", "update"]),
}
"""The tests in tests/native of each family of kernels, and words in the names of its ops."""


def selections(mutant):
    """Return lists of arguments for pytest, to be run one after the other until one fails."""
    path = Path(mutant.file)
    folder = path.parts[1]
    if path.parts[0] == "csrc":
        files, words = FAMILIES[folder]
        named = " or ".join(words)
        return [
            [f"tests/native/{name}" for name in files],
            [*ENGINES, "-k", f"native and ({named})"],
            [
                "tests/ops",
                "tests/optim",
                "tests/native",
                "tests/layers",
                "--ignore",
                "tests/native/test_cuda_formulas.py",
            ],
        ]
    own = Path("tests", folder, f"test_{path.stem}.py")
    first = [[own.as_posix()]] if (ROOT / own).exists() else []
    if folder == "ops":
        named = " or ".join(ops_of(path.stem, mutant.where))
        return [
            *first,
            ["tests/ops"],
            [*CATALOGUE, "-k", named],
            [*ENGINES, "tests/native", "-k", named],
            ["tests/layers", "tests/optim"],
        ]
    if folder == "layers":
        return [*first, ["tests/layers"], ["tests/optim", "tests/models", "tests/training", "tests/test_weights.py"]]
    if folder == "optim":
        return [
            *first,
            ["tests/optim"],
            ["tests/training", "tests/layers/test_frozen.py", "tests/layers/test_settings.py"],
        ]
    return [*first, ["tests/training"], ["tests/models", "tests/data", "tests/test_metrics.py", "tests/test_cli.py"]]


def ops_of(module, where):
    """Return words for the ops that a function of a module of formulas belongs to."""
    if module in SHARED:
        return SHARED[module]
    op = where.partition(".")[0].removesuffix("_backward")
    if op in ops.FORMULAS:
        return [op]
    every = [name for name, formula in ops.FORMULAS.items() if formula.__module__ == f"minidl.ops.{module}"]
    return [name for name in every if not name.endswith("_backward")] or ["relu", "linear"]
