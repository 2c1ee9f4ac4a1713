"""GPT and an encoder in each library, from the same weights, for the board: training steps and inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
from training_steps import jax_step, minidl_step, torch_step
from workload import Step, Workload, on_engine

Weights = dict[str, numpy.ndarray]
ADAMW = {"lr": 1e-3, "weight_decay": 0.01}


def windows(random: numpy.random.Generator, vocabulary: int, batch: int, length: int) -> tuple[Any, Any]:
    """Draw ids, (N, T), and the ids that follow."""
    ids = random.integers(0, vocabulary, (batch, length + 1))
    return ids[:, :-1].copy(), ids[:, 1:].copy()


def drawn(shapes: dict[str, tuple[int, ...]]) -> Weights:
    """Draw weights as GPT-2 does, those of norms around 1."""
    random = numpy.random.default_rng(0)
    found = {}
    for name, shape in shapes.items():
        found[name] = random.standard_normal(shape, dtype="float32") * numpy.float32(0.02)
        found[name] += numpy.float32(name.endswith("weight") and len(shape) == 1)
    return found


@dataclass(frozen=True)
class GPT:
    """The sizes of a GPT; its weights have the names of Hugging Face's, and the layout (out, in)."""

    layers: int
    heads: int
    width: int
    context: int
    vocabulary: int

    def weights(self) -> Weights:
        """Return the first weights, the same each time."""
        c = self.width
        shapes: dict[str, tuple[int, ...]] = {"wte.weight": (self.vocabulary, c), "wpe.weight": (self.context, c)}
        for i in range(self.layers):
            for part, out, into in (
                ("attn.c_attn", 3 * c, c),
                ("attn.c_proj", c, c),
                ("mlp.c_fc", 4 * c, c),
                ("mlp.c_proj", c, 4 * c),
            ):
                shapes |= {f"h.{i}.{part}.weight": (out, into), f"h.{i}.{part}.bias": (out,)}
            shapes |= {f"h.{i}.{norm}.{kind}": (c,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
        shapes |= {f"ln_f.{kind}": (c,) for kind in ("weight", "bias")}
        return {f"transformer.{name}": value for name, value in drawn(shapes).items()}

    @property
    def multiplied(self) -> int:
        """Count the weights that every token is multiplied with."""
        return self.layers * 12 * self.width**2 + self.vocabulary * self.width


@dataclass(frozen=True)
class Encoder:
    """The sizes of an encoder with its norms after the parts; its weights have PyTorch's names."""

    layers: int = 6
    heads: int = 12
    width: int = 384
    length: int = 128  # T

    def weights(self) -> Weights:
        """Return the weights, the same each time."""
        c, shapes = self.width, {}
        for i in range(self.layers):
            for part, out, into in (
                ("self_attn.out_proj.", c, c),
                ("linear1.", 4 * c, c),
                ("linear2.", c, 4 * c),
                ("self_attn.in_proj_", 3 * c, c),
            ):
                shapes |= {f"layers.{i}.{part}weight": (out, into), f"layers.{i}.{part}bias": (out,)}
            shapes |= {f"layers.{i}.{norm}.{kind}": (c,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
        return drawn(shapes)

    def input(self, batch: int) -> numpy.ndarray:
        """Return x, (N, T, C)."""
        return numpy.random.default_rng(1).standard_normal((batch, self.length, self.width), dtype="float32")


def training(name: str, gpt: GPT, batch: int) -> Workload:
    """Describe one training step of a GPT with sequences as long as its context."""
    made: dict[str, Callable[..., Step]] = {
        "minidl": _minidl_training, "torch": _torch_training, "jax": _jax_training,
        "torch compile": partial(_torch_training, compiled=True),
    }  # fmt: skip
    length = gpt.context
    label = f"{name} ({gpt.layers} layers, {gpt.heads} heads, {gpt.width} wide), T={length}, batch {batch}, AdamW"
    # attention: two products forward and five backward, of half the pairs of positions
    flops = batch * length * (6.0 * gpt.multiplied + 7.0 * gpt.layers * (length + 1) * gpt.width)
    return Workload("Sequences: training", label, {k: partial(make, gpt, batch) for k, make in made.items()}, flops)


def encoding(encoder: Encoder, batch: int) -> Workload:
    """Describe inference with an encoder."""
    made: dict[str, Callable[..., Step]] = {
        "minidl": _minidl_encoding, "torch": _torch_encoding, "jax": _jax_encoding, "onnxruntime": _onnx_encoding,
        "torch compile": partial(_torch_encoding, compiled=True),
    }  # fmt: skip
    c, length = encoder.width, encoder.length
    name = f"encoder of {encoder.layers} layers, {c} wide, {encoder.heads} heads, T={length}, batch {batch}"
    flops = batch * length * encoder.layers * (2.0 * 12 * c**2 + 4.0 * length * c)
    return Workload("Sequences: inference", name, {k: partial(make, encoder, batch) for k, make in made.items()}, flops)


# minidl --------------------------------------------------------------------------------------------------------------


class Rows:
    """A language model whose logits have one row for each token: (N T, V)."""

    def __init__(self, model: Any) -> None:
        self.model, self.parameters = model, model.parameters

    def forward(self, x: Any) -> Any:
        """Return the logits, (N T, V)."""
        y = self.model.forward(x)  # (N, T, V)
        self.shape = y.shape
        return y.reshape(-1, y.shape[-1])

    def backward(self, dy: Any, input_gradient: bool = False) -> None:
        """Go back through the model."""
        self.model.backward(dy.reshape(self.shape), input_gradient=input_gradient)


def minidl_gpt(gpt: GPT) -> Any:
    """Return minidl's model."""
    from minidl.models import GPT2

    sizes = {"layers": gpt.layers, "heads": gpt.heads, "width": gpt.width}
    model = GPT2(vocab_size=gpt.vocabulary, context=gpt.context, dropout=0.0, **sizes)
    weights = gpt.weights()
    model.load_state_dict({**weights, "lm_head.weight": weights["transformer.wte.weight"]})
    return model


def _minidl_training(gpt: GPT, batch: int) -> Step:
    import minidl as dl

    ids, target = windows(numpy.random.default_rng(1), gpt.vocabulary, batch, gpt.context)
    return minidl_step(Rows(minidl_gpt(gpt)), dl.CrossEntropyLoss(), ids, target.reshape(-1), "adamw", ADAMW)


def _minidl_encoding(encoder: Encoder, batch: int) -> Step:
    import minidl as dl

    layer = dl.TransformerEncoderLayer(encoder.width, encoder.heads, 4 * encoder.width, dropout=0.0, activation="gelu")
    model, x = dl.TransformerEncoder(layer, encoder.layers).eval(), on_engine(encoder.input(batch))
    model.load_state_dict(encoder.weights())

    def step() -> Any:
        with dl.inference():
            return model.forward(x)

    return step


# PyTorch -------------------------------------------------------------------------------------------------------------


def torch_gpt(gpt: GPT) -> Any:
    """Return PyTorch's model."""
    import torch
    from torch_gpt2 import TorchGPT2

    model = TorchGPT2(gpt.vocabulary, gpt.context, gpt.layers, gpt.heads, gpt.width)
    weights = {name: torch.from_numpy(value) for name, value in gpt.weights().items()}
    model.load_state_dict({**weights, "lm_head.weight": weights["transformer.wte.weight"]})
    return model


def _torch_training(gpt: GPT, batch: int, compiled: bool = False) -> Step:
    import torch

    arrays = windows(numpy.random.default_rng(1), gpt.vocabulary, batch, gpt.context)
    (x, target), model = map(torch.from_numpy, arrays), torch_gpt(gpt)

    def value_of() -> Any:
        return torch.nn.functional.cross_entropy(model(x).flatten(0, 1), target.flatten())

    return torch_step(torch.compile(value_of) if compiled else value_of, model.parameters(), "adamw", ADAMW)


def _torch_encoding(encoder: Encoder, batch: int, compiled: bool = False) -> Step:
    import torch
    from torch import nn

    c, x = encoder.width, torch.from_numpy(encoder.input(batch))
    layer = nn.TransformerEncoderLayer(c, encoder.heads, 4 * c, 0.0, "gelu", batch_first=True)
    model: Any = nn.TransformerEncoder(layer, encoder.layers).eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in encoder.weights().items()})
    model = torch.compile(model) if compiled else model

    def step() -> Any:
        with torch.inference_mode():
            return model(x)

    return step


# JAX -----------------------------------------------------------------------------------------------------------------


def jax_cross_entropy(logits: Any, target: Any) -> Any:
    """Return the mean cross-entropy over all leading axes."""
    import jax

    chosen = jax.numpy.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)
    return -chosen.mean()


def _jax_norm(x: Any, p: Any, name: str) -> Any:
    import jax

    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def _jax_linear(x: Any, p: Any, name: str) -> Any:
    return x @ p[f"{name}weight"].T + p[f"{name}bias"]


def jax_gpt(gpt: GPT, p: Any, ids: Any, cache: Any = None, at: Any = 0) -> Any:
    """Return the logits and the new cache; a cache is a list of keys and values of each layer, (N, room, H, D)."""
    import jax
    from jax import numpy as jnp

    p = {name.removeprefix("transformer."): value for name, value in p.items()}
    batch, length = ids.shape
    x = p["wte.weight"][ids] + jax.lax.dynamic_slice_in_dim(p["wpe.weight"], at, length)  # (N, T, C)
    after = []
    for i in range(gpt.layers):
        parts = jnp.split(_jax_linear(_jax_norm(x, p, f"h.{i}.ln_1"), p, f"h.{i}.attn.c_attn."), 3, axis=-1)
        q, k, v = (part.reshape(batch, length, gpt.heads, -1) for part in parts)  # (N, T, H, D)
        if cache is None:
            y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        else:
            k, v = (jax.lax.dynamic_update_slice_in_dim(a, b, at, 1) for a, b in zip(cache[i], (k, v), strict=True))
            after.append((k, v))
            mask = jnp.arange(k.shape[1])[None] <= at + jnp.arange(length)[:, None]  # (T, room)
            y = jax.nn.dot_product_attention(q, k, v, mask=mask[None, None])
        x = x + _jax_linear(y.reshape(batch, length, -1), p, f"h.{i}.attn.c_proj.")
        hidden = jax.nn.gelu(_jax_linear(_jax_norm(x, p, f"h.{i}.ln_2"), p, f"h.{i}.mlp.c_fc."), approximate=True)
        x = x + _jax_linear(hidden, p, f"h.{i}.mlp.c_proj.")
    return _jax_norm(x if cache is None else x[:, -1:], p, "ln_f") @ p["wte.weight"].T, after


def _jax_training(gpt: GPT, batch: int) -> Step:
    from jax import numpy as jnp

    ids, target = windows(numpy.random.default_rng(1), gpt.vocabulary, batch, gpt.context)
    p = {name: jnp.asarray(value) for name, value in gpt.weights().items()}
    return jax_step(lambda p: jax_cross_entropy(jax_gpt(gpt, p, ids)[0], target), p, "adamw", ADAMW)


def _jax_encoding(encoder: Encoder, batch: int) -> Step:
    import jax
    from jax import numpy as jnp

    def forward(p: Any, x: Any) -> Any:
        for i in range(encoder.layers):
            layer = f"layers.{i}."
            parts = jnp.split(_jax_linear(x, p, f"{layer}self_attn.in_proj_"), 3, axis=-1)
            q, k, v = (part.reshape(*x.shape[:2], encoder.heads, -1) for part in parts)  # (N, T, H, D)
            y = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
            x = _jax_norm(x + _jax_linear(y, p, f"{layer}self_attn.out_proj."), p, f"{layer}norm1")
            hidden = jax.nn.gelu(_jax_linear(x, p, f"{layer}linear1."), approximate=False)
            x = _jax_norm(x + _jax_linear(hidden, p, f"{layer}linear2."), p, f"{layer}norm2")
        return x

    function, x = jax.jit(forward), jnp.asarray(encoder.input(batch))
    p = {name: jnp.asarray(value) for name, value in encoder.weights().items()}
    return lambda: jax.block_until_ready(function(p, x))


# ONNX Runtime --------------------------------------------------------------------------------------------------------


def _onnx_encoding(encoder: Encoder, batch: int) -> Step:
    import onnx_models

    x = encoder.input(batch)
    session = onnx_models.encoder_session(encoder.layers, encoder.heads, encoder.weights(), x.shape)
    return lambda: session.run(None, {"x": x})[0]
