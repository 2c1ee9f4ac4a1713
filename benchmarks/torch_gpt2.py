"""GPT-2 in PyTorch, for everything here that needs it beside minidl's; the names of its weights are minidl's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class TorchGPT2(nn.Module):
    """GPT-2: ``forward(ids)``, or ``forward(ids, cache, at)`` for further tokens from position ``at`` on.

    The cache is a list of keys and values of each layer, (2, N, H, room, D). If ``at`` is a number, attention reads as many of them
    as there are. If it is a tensor, all shapes are the same at every position, as ``torch.compile`` needs it.
    """

    def __init__(self, vocabulary: int, context: int, layers: int, heads: int, width: int, tied: bool = True) -> None:
        super().__init__()
        parts = {"wte": nn.Embedding(vocabulary, width), "wpe": nn.Embedding(context, width)}
        blocks = nn.ModuleList(TorchBlock(heads, width) for _ in range(layers))
        self.transformer = nn.ModuleDict({**parts, "h": blocks, "ln_f": nn.LayerNorm(width)})
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.lm_head.weight = parts["wte"].weight

    def forward(self, ids: torch.Tensor, cache: Any = None, at: Any = 0) -> torch.Tensor:
        """Return logits, (N, T, V), or with a cache those of the last token, (N, 1, V)."""
        own = self.transformer
        places = torch.arange(at, at + ids.shape[1]) if isinstance(at, int) else at
        x = own["wte"](ids) + own["wpe"](places)  # (N, T, C)
        for i, block in enumerate(own["h"]):
            x = block(x, None if cache is None else cache[i], at)
        return self.lm_head(own["ln_f"](x if cache is None else x[:, -1:]))


class TorchBlock(nn.Module):
    """One block of it."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor, cache: Any = None, at: Any = 0) -> torch.Tensor:
        """Return y for x, (N, T, C)."""
        parts = self.attn["c_attn"](self.ln_1(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (N, H, T, D)
        x = x + self.attn["c_proj"](attend(q, k, v, cache, at).transpose(1, 2).flatten(-2))
        hidden = functional.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](hidden)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cache: Any, at: Any) -> torch.Tensor:
    """Return what attention gives for q, k and v, (N, H, T, D), after writing k and v into the cache."""
    if cache is None:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    keys, values = cache
    if isinstance(at, int):
        end = at + k.shape[2]
        keys[:, :, at:end], values[:, :, at:end] = k, v
        return functional.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], is_causal=at == 0)
    keys.index_copy_(2, at, k)
    values.index_copy_(2, at, v)
    mask = torch.arange(keys.shape[2])[None] <= at[:, None]  # (T, room)
    return functional.scaled_dot_product_attention(q, keys, values, mask)
