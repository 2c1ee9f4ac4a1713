"""Causal attention beside PyTorch's: milliseconds forward, and forward with backward; 6 heads of 64, batch 4, float32.

    python benchmarks/attention.py            T = 256, 1024
    python benchmarks/attention.py 4096       other lengths

Heads are read in place from the joint projection, (N, T, 3 C), on both sides. Calls alternate; each figure is the best of all.
"""

import sys
import time

import numpy

import minidl as dl
from minidl.layers.attention import join_heads, split_heads

BATCH, HEADS, SIZE, SECONDS = 4, 6, 64, 4.0


def ours(qkv, dy, backward):
    """Return a function that attends, with or without the way back to the joint projection."""
    width = HEADS * SIZE

    def run():
        q, k, v = (split_heads(qkv[..., i * width : (i + 1) * width], HEADS) for i in range(3))
        _, cache = dl.ops.scaled_dot_product_attention(q, k, v, is_causal=True)
        if backward:
            join_heads(list(dl.ops.scaled_dot_product_attention_backward(split_heads(dy, HEADS), cache)))

    return run


def theirs(qkv, dy, backward):
    """Do the same in PyTorch, or return None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(dl.get_num_threads())
    x, upstream = torch.tensor(qkv, requires_grad=backward), torch.tensor(dy)

    def run():
        q, k, v = (part.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for part in x.chunk(3, dim=-1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        if backward:
            x.grad = None
            y.transpose(1, 2).flatten(-2).backward(upstream)

    return run


def best(functions):
    """Return the best time of each in ms; they take turns."""
    found = [[] for _ in functions]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for function, times in zip(functions, found, strict=True):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return [1e3 * min(times) for times in found]


def main():
    """Print a table."""
    print(
        f"{dl.engines.current()}, {dl.get_num_threads()} threads, batch {BATCH}, {HEADS} heads of {SIZE}, causal, float32"
    )
    print(f"{'T':>6} {'':10} {'minidl ms':>10} {'torch ms':>10} {'ratio':>6} {'GFLOP/s':>8}")
    for length in map(int, sys.argv[1:] or ("256", "1024")):
        random = numpy.random.default_rng(0)
        qkv = random.standard_normal((BATCH, length, 3 * HEADS * SIZE), dtype="float32")
        dy = random.standard_normal((BATCH, length, HEADS * SIZE), dtype="float32")
        for backward in (False, True):
            functions = [f for f in (ours(qkv, dy, backward), theirs(qkv, dy, backward)) if f is not None]
            times = best(functions)
            flops = 2.0 * BATCH * HEADS * length * length * SIZE * (7 if backward else 2) / 2
            other = times[1] if len(times) > 1 else float("nan")
            what = "with back" if backward else "forward"
            print(
                f"{length:6} {what:10} {times[0]:10.2f} {other:10.2f} {other / times[0]:6.2f} {flops / times[0] / 1e6:8.1f}"
            )


if __name__ == "__main__":
    main()
