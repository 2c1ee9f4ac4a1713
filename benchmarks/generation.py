"""Generation for the board: tokens of a GPT one after another, greedily, with a key-value cache.

A step writes so many tokens after a prompt. The bound is reading all weights once for each token. minidl runs its public
``generate``; the peers run a loop written for the purpose, with room for exactly these tokens in their cache.

    python benchmarks/generation.py nano,baby,124M [--stored float32,bfloat16,int8] [--seconds 14] [--threads 1]

has minidl, with and without its blocks in one call, PyTorch and ONNX Runtime take turns in one process.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from typing import Any

import numpy
from text_models import GPT, jax_gpt, minidl_gpt, torch_gpt
from workload import Step, Workload

PROMPT = 16
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


def generation(name: str, gpt: GPT, count: int, stored: str) -> Workload:
    """Describe writing so many tokens, with the weights of linear layers stored in a dtype."""
    own = "minidl native" if stored != "float32" or gpt.width > 400 else "minidl"
    makers: dict[str, Any] = {own: _minidl, "torch": _torch}
    if stored != "int8":
        makers |= {"jax": _jax, "torch compile": partial(_torch, compiled=True)}
    if stored != "bfloat16":
        makers["onnxruntime"] = _onnx
    made = {contender: partial(make, gpt, count, stored) for contender, make in makers.items()}
    weights = float(BYTES[stored] * gpt.multiplied)
    label = f"{name}, {count} tokens after {PROMPT}, weights in {stored}"
    return Workload("Sequences: generation", label, made, bytes=count * weights, tokens=count)


def _prompt(gpt: GPT) -> numpy.ndarray:
    return numpy.random.default_rng(1).integers(0, gpt.vocabulary, PROMPT)


def _minidl(gpt: GPT, count: int, stored: str) -> Step:
    from minidl.layers import store_weights
    from minidl.text import generate

    model, prompt = minidl_gpt(gpt).eval(), _prompt(gpt)
    if stored != "float32":
        store_weights(model, stored)
    return lambda: generate(model, prompt, count, temperature=0)


def _torch(gpt: GPT, count: int, stored: str, compiled: bool = False) -> Step:
    import torch

    model, prompt = torch_gpt(gpt).eval(), torch.from_numpy(_prompt(gpt))[None]
    if stored == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    if stored == "bfloat16":
        model = model.bfloat16()
    shape = (2, 1, gpt.heads, PROMPT + count, gpt.width // gpt.heads)
    cache = [torch.zeros(shape, dtype=model.transformer["wte"].weight.dtype) for _ in range(gpt.layers)]
    further = torch.compile(model) if compiled else model
    places = torch.arange(PROMPT + count)

    def step() -> Any:
        with torch.inference_mode():
            ids, logits = [], model(prompt, cache, 0)
            for at in range(PROMPT, PROMPT + count):
                ids.append(int(logits[0, -1].argmax()))
                if len(ids) < count:
                    logits = further(torch.tensor([ids[-1:]]), cache, places[at : at + 1] if compiled else at)
        return numpy.array(ids)

    return step


def _jax(gpt: GPT, count: int, stored: str) -> Step:
    import jax
    from jax import numpy as jnp

    p = {name: jnp.asarray(value, stored) for name, value in gpt.weights().items()}
    shape = (1, PROMPT + count, gpt.heads, gpt.width // gpt.heads)
    prompt = jnp.asarray(_prompt(gpt))[None]

    def advance(p: Any, ids: Any, cache: Any, at: Any) -> Any:
        logits, cache = jax_gpt(gpt, p, ids, cache, at)
        return logits[:, -1].argmax(-1)[:, None], cache

    advanced = jax.jit(advance, donate_argnums=2)

    def step() -> Any:
        cache = [(jnp.zeros(shape, stored), jnp.zeros(shape, stored)) for _ in range(gpt.layers)]
        ids = []
        token, cache = advanced(p, prompt, cache, 0)
        for at in range(PROMPT, PROMPT + count):
            ids.append(int(token[0, 0]))
            if len(ids) < count:
                token, cache = advanced(p, token, cache, at)
        return numpy.array(ids)

    return step


def _onnx(gpt: GPT, count: int, stored: str) -> Step:
    import onnx_models
    import onnxruntime

    session = onnx_models.gpt_session(gpt.layers, gpt.heads, gpt.weights(), stored == "int8")
    past = [f"past{i}" for i in range(2 * gpt.layers)]
    names = [output.name for output in session.get_outputs()]
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    nothing = value(numpy.empty((1, gpt.heads, 0, gpt.width // gpt.heads), "float32"))
    prompt = _prompt(gpt)[None]

    def step() -> Any:
        ids: list[int] = []
        known, new = dict.fromkeys(past, nothing), prompt
        for at in range(PROMPT, PROMPT + count):
            places = numpy.arange(at - new.shape[1], at)[None]
            logits, *after = session.run_with_ort_values(names, {"ids": value(new), "places": value(places), **known})
            known = dict(zip(past, after, strict=True))
            ids.append(int(logits.numpy()[0, -1].argmax()))
            new = numpy.array([ids[-1:]])
        return numpy.array(ids)

    return step


def _layer_by_layer(step: Step) -> Step:
    """Return the step with the kernel of whole blocks switched off."""
    from minidl.engines import current

    def slower() -> Any:
        applied = current().activations
        kept = applied.pop("transformer_block")
        try:
            return step()
        finally:
            applied["transformer_block"] = kept

    return slower


def main() -> None:
    import sequences
    import torch

    import minidl as dl

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", help="of nano, baby, 124M, with commas between them")
    parser.add_argument("--stored", default="float32,bfloat16,int8")
    parser.add_argument("--seconds", type=float, default=14.0, help="for each model and dtype")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    dl.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    sizes = {"nano": (sequences.NANO, 48), "baby": (sequences.BABY, 48), "124M": (sequences.SMALL, 16)}
    for name in args.models.split(","):
        for stored in args.stored.split(","):
            made = {"minidl": _minidl(*sizes[name], stored), "torch": _torch(*sizes[name], stored)}
            made["layer by layer"] = _layer_by_layer(made["minidl"])
            if stored != "bfloat16":
                made["onnxruntime"] = _onnx(*sizes[name], stored)
            times: dict[str, list[float]] = {contender: [] for contender in made}
            for step in made.values():
                step()
            end = time.perf_counter() + args.seconds
            while time.perf_counter() < end:
                for contender, step in made.items():
                    start = time.perf_counter()
                    step()
                    times[contender].append(1e3 * (time.perf_counter() - start))
            print(f"\nGPT {name}, {stored:<18} best  median  times minidl's (medians)")
            best, median = min(times["minidl"]), numpy.median(times["minidl"])
            for contender, its in times.items():
                ratios = f"{min(its) / best:5.2f} ({numpy.median(its) / median:.2f})"
                print(f"{contender:20} {min(its):8.2f} {numpy.median(its):8.2f}  {ratios}", flush=True)


if __name__ == "__main__":
    main()
