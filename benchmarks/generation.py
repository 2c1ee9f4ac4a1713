"""Prompts and generation for the board: a GPT reads a prompt, and writes tokens one after another, greedily, with a cache.

A step of generation writes so many tokens after a prompt, for each sequence of a batch. The bound is reading all weights once for
each token. minidl runs its public ``generate``; the peers run a loop written for the purpose, with room for exactly these
tokens in their cache. A step on a prompt reads it, keeps its keys and values, and gives the logits of the token after it.

    python benchmarks/generation.py nano,baby,124M [--stored float32,bfloat16,int8] [--seconds 14] [--threads 1]

has minidl, with and without its blocks in one call, PyTorch and ONNX Runtime take turns in one process.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy
from text_models import GPT, jax_gpt, minidl_gpt, torch_gpt
from workload import Step, Workload

PROMPT = 16
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
Makers = dict[str, Callable[..., Step]]


def generation(name: str, gpt: GPT, count: int, stored: str, batch: int = 1) -> Workload:
    """Describe writing so many tokens, with the weights of linear layers stored in a dtype."""
    made: Makers = {
        "minidl": _minidl, "torch": _torch, "jax": _jax, "torch compile": partial(_torch, compiled=True),
        "onnxruntime": _onnx,
    }  # fmt: skip
    prompt = numpy.random.default_rng(1).integers(0, gpt.vocabulary, (batch, PROMPT))
    makers = {kind: partial(make, gpt, prompt, count, stored) for kind, make in _taking_part(made, gpt, stored).items()}
    sequences = f" of each of {batch}" * (batch > 1)
    label = f"{name}, {count} tokens after {PROMPT}{sequences}, weights in {stored}"
    weights = float(BYTES[stored] * gpt.multiplied)
    return Workload("Sequences: generation", label, makers, bytes=count * weights, tokens=count)


def prompt(name: str, gpt: GPT, length: int, stored: str, batch: int = 1) -> Workload:
    """Describe reading prompts of so many tokens, with the weights of linear layers stored in a dtype."""
    made: Makers = {
        "minidl": _minidl_prompt, "torch": _torch_prompt, "jax": _jax_prompt,
        "torch compile": partial(_torch_prompt, compiled=True), "onnxruntime": _onnx_prompt,
    }  # fmt: skip
    ids = numpy.random.default_rng(1).integers(0, gpt.vocabulary, (batch, length))
    makers = {kind: partial(make, gpt, ids, stored) for kind, make in _taking_part(made, gpt, stored).items()}
    each = gpt.layers * (24.0 * gpt.width**2 + 2.0 * (length + 1) * gpt.width)  # of a token; attention sees half
    flops = batch * (length * each + 2.0 * gpt.vocabulary * gpt.width)
    label = f"{name}, {batch} prompt{'s' * (batch > 1)} of {length} tokens, weights in {stored}"
    return Workload("Sequences: prompts", label, makers, flops)


def _taking_part(made: Makers, gpt: GPT, stored: str) -> Makers:
    """Return the contenders that have such weights, minidl with the formulas alone only where that takes no minutes."""
    without = {"int8": ("jax", "torch compile"), "bfloat16": ("onnxruntime",), "float32": ()}[stored]
    own = "minidl native" if stored != "float32" or gpt.width > 400 else "minidl"
    return {own if kind == "minidl" else kind: make for kind, make in made.items() if kind not in without}


# minidl --------------------------------------------------------------------------------------------------------------


def _minidl_model(gpt: GPT, stored: str) -> Any:
    from minidl.layers import store_weights

    model = minidl_gpt(gpt).eval()
    return model if stored == "float32" else store_weights(model, stored)


def _minidl(gpt: GPT, prompt: numpy.ndarray, count: int, stored: str) -> Step:
    from minidl.text import generate

    model = _minidl_model(gpt, stored)
    return lambda: generate(model, list(prompt), count, temperature=0)


def _minidl_prompt(gpt: GPT, prompt: numpy.ndarray, stored: str) -> Step:
    import minidl as dl

    model = _minidl_model(gpt, stored)

    def step() -> Any:
        with dl.inference():
            return model.next_logits(prompt)[0][:, None]

    return step


# PyTorch -------------------------------------------------------------------------------------------------------------


def _torch_model(gpt: GPT, stored: str, batch: int, room: int) -> tuple[Any, Any]:
    """Return the model and its cache."""
    import torch

    model = torch_gpt(gpt).eval()
    if stored == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    if stored == "bfloat16":
        model = model.bfloat16()
    shape, dtype = (2, batch, gpt.heads, room, gpt.width // gpt.heads), model.transformer["wte"].weight.dtype
    return model, [torch.zeros(shape, dtype=dtype) for _ in range(gpt.layers)]


def _torch(gpt: GPT, prompt: numpy.ndarray, count: int, stored: str, compiled: bool = False) -> Step:
    import torch

    model, cache = _torch_model(gpt, stored, len(prompt), PROMPT + count)
    further = torch.compile(model) if compiled else model
    first, places = torch.from_numpy(prompt), torch.arange(PROMPT + count)

    def step() -> Any:
        with torch.inference_mode():
            ids, logits = [], model(first, cache, 0)
            for at in range(PROMPT, PROMPT + count):
                ids.append(logits[:, -1].argmax(-1).numpy())
                if len(ids) < count:
                    new = torch.from_numpy(ids[-1][:, None])
                    logits = further(new, cache, places[at : at + 1] if compiled else at)
        return numpy.stack(ids, axis=1)

    return step


def _torch_prompt(gpt: GPT, prompt: numpy.ndarray, stored: str, compiled: bool = False) -> Step:
    import torch

    model, cache = _torch_model(gpt, stored, *prompt.shape)
    run, ids = torch.compile(model) if compiled else model, torch.from_numpy(prompt)

    def step() -> Any:
        with torch.inference_mode():
            return run(ids, cache, 0)

    return step


# JAX -----------------------------------------------------------------------------------------------------------------


def _jax_model(gpt: GPT, stored: str, batch: int, room: int) -> tuple[Any, Any, Callable[[], Any]]:
    """Return the compiled model, its weights, and what makes an empty cache."""
    import jax
    from jax import numpy as jnp

    p = {name: jnp.asarray(value, stored) for name, value in gpt.weights().items()}
    shape = (batch, room, gpt.heads, gpt.width // gpt.heads)

    def advance(p: Any, ids: Any, cache: Any, at: Any) -> Any:
        return jax_gpt(gpt, p, ids, cache, at)

    def empty() -> Any:
        return [(jnp.zeros(shape, stored), jnp.zeros(shape, stored)) for _ in range(gpt.layers)]

    return jax.jit(advance, donate_argnums=2), p, empty


def _jax(gpt: GPT, prompt: numpy.ndarray, count: int, stored: str) -> Step:
    advance, p, empty = _jax_model(gpt, stored, len(prompt), PROMPT + count)

    def step() -> Any:
        ids: list[numpy.ndarray] = []
        logits, cache = advance(p, prompt, empty(), 0)
        for at in range(PROMPT, PROMPT + count):
            ids.append(numpy.asarray(logits[:, -1].argmax(-1)))
            if len(ids) < count:
                logits, cache = advance(p, ids[-1][:, None], cache, at)
        return numpy.stack(ids, axis=1)

    return step


def _jax_prompt(gpt: GPT, prompt: numpy.ndarray, stored: str) -> Step:
    import jax

    advance, p, empty = _jax_model(gpt, stored, *prompt.shape)
    return lambda: jax.block_until_ready(advance(p, prompt, empty(), 0))[0]


# ONNX Runtime --------------------------------------------------------------------------------------------------------


def _onnx_model(gpt: GPT, stored: str, batch: int) -> tuple[Callable[..., Any], Any]:
    """Return a function of ids, their first position and the cache, which gives logits and the new cache; and an empty one."""
    import onnx_models
    import onnxruntime

    session = onnx_models.gpt_session(gpt.layers, gpt.heads, gpt.weights(), stored == "int8", batch)
    past = [f"past{i}" for i in range(2 * gpt.layers)]
    names = [output.name for output in session.get_outputs()]
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    nothing = value(numpy.empty((batch, gpt.heads, 0, gpt.width // gpt.heads), "float32"))

    def advance(ids: numpy.ndarray, at: int, cache: Any) -> tuple[numpy.ndarray, Any]:
        places = numpy.arange(at, at + ids.shape[1])[None]
        logits, *after = session.run_with_ort_values(names, {"ids": value(ids), "places": value(places), **cache})
        return logits.numpy(), dict(zip(past, after, strict=True))

    return advance, dict.fromkeys(past, nothing)


def _onnx(gpt: GPT, prompt: numpy.ndarray, count: int, stored: str) -> Step:
    advance, empty = _onnx_model(gpt, stored, len(prompt))

    def step() -> Any:
        ids: list[numpy.ndarray] = []
        logits, cache = advance(prompt, 0, empty)
        for at in range(PROMPT, PROMPT + count):
            ids.append(logits[:, -1].argmax(-1))
            if len(ids) < count:
                logits, cache = advance(ids[-1][:, None], at, cache)
        return numpy.stack(ids, axis=1)

    return step


def _onnx_prompt(gpt: GPT, prompt: numpy.ndarray, stored: str) -> Step:
    advance, empty = _onnx_model(gpt, stored, len(prompt))
    return lambda: advance(prompt, 0, empty)[0]


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
            makers = generation(name, *sizes[name], stored).makers
            makers["minidl"] = makers.get("minidl", makers.get("minidl native"))
            made = {kind: makers[kind]() for kind in ("minidl", "torch", "onnxruntime") if kind in makers}
            made["layer by layer"] = _layer_by_layer(made["minidl"])
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
