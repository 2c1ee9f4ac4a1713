"""An image through ViT-S: minidl beside PyTorch, compiled and in bfloat16, and ONNX Runtime.

    python benchmarks/vision.py                                  # minidl alone: float32 and bfloat16 products
    python benchmarks/vision.py --against torch,compiled,onnx --batches 1,8
    python benchmarks/vision.py --patch 14 --profile             # where the time of one forward goes

The contenders take turns in one process, with random weights of the same sizes. The best and the median of each one's turns are
printed; trust their ratios. PyTorch's model is written here in its own parts. ONNX Runtime runs the export of it.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
from typing import Any

import numpy
from precision import Call, in_bfloat16, in_turns, processor

import minidl as dl
from minidl.models import ViT


def minidl_step(patch: int, x: numpy.ndarray) -> Call:
    """Return a forward of minidl's ViT-S."""
    dl.seed(0)
    model = ViT(f"S/{patch}", classes=1000).eval()

    def run() -> object:
        with dl.inference():
            return model.forward(x)

    return run


def torch_model(patch: int) -> Any:
    """Return ViT-S of PyTorch's parts."""
    import torch
    from torch import nn

    class Peer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Conv2d(3, 384, patch, patch)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 384))
            self.positions = nn.Parameter(torch.randn(1, 1 + (224 // patch) ** 2, 384) * 0.02)
            layer = nn.TransformerEncoderLayer(384, 6, 1536, 0.0, "gelu", 1e-6, True, True)
            self.encoder = nn.TransformerEncoder(layer, 12, nn.LayerNorm(384, 1e-6), enable_nested_tensor=False)
            self.head = nn.Linear(384, 1000)

        def forward(self, x: Any) -> Any:
            z = self.projection(x).flatten(2).transpose(1, 2)
            z = torch.cat([self.cls_token.expand(len(z), -1, -1), z], 1) + self.positions
            return self.head(self.encoder(z)[:, 0])

    torch.manual_seed(0)
    return Peer().eval()


def peers(wanted: list[str], patch: int, x: numpy.ndarray) -> dict[str, Call]:
    """Return the forwards of the other programs."""
    import torch

    torch.set_num_threads(dl.get_num_threads())
    model, tensor = torch_model(patch), torch.from_numpy(x)

    def forward(model: Any, tensor: Any) -> Call:
        def run() -> object:
            with torch.inference_mode():
                return model(tensor)

        return run

    calls: dict[str, Call] = {}
    if "onnx" in wanted:
        calls["ONNX Runtime"] = onnx_step(model, tensor)
    if "torch" in wanted:
        calls["PyTorch"] = forward(model, tensor)
        calls["PyTorch, bfloat16"] = forward(torch_model(patch).to(torch.bfloat16), tensor.to(torch.bfloat16))
    if "compiled" in wanted:
        calls["PyTorch, compiled"] = forward(torch.compile(torch_model(patch)), tensor)
    return calls


def onnx_step(model: Any, tensor: Any) -> Call:
    """Return a forward of ONNX Runtime."""
    import onnxruntime
    import torch

    content = io.BytesIO()
    torch.backends.mha.set_fastpath_enabled(False)  # which has no ONNX form
    torch.onnx.export(model, (tensor,), content, input_names=["x"], opset_version=17, dynamo=False)
    torch.backends.mha.set_fastpath_enabled(True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = dl.get_num_threads()
    session = onnxruntime.InferenceSession(content.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {"x": tensor.numpy()}
    return lambda: session.run(None, feed)


def profile(call: Call, rounds: int) -> str:
    """Return where Python spends the time of some forwards."""
    call()
    recorder = cProfile.Profile()
    recorder.enable()
    for _ in range(rounds):
        call()
    recorder.disable()
    text = io.StringIO()
    pstats.Stats(recorder, stream=text).sort_stats("tottime").print_stats(14)
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", default="", help="some of torch, compiled and onnx")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=dl.get_num_threads())
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args()
    dl.set_num_threads(chosen.threads)
    wanted = [name for name in chosen.against.split(",") if name]
    print(f"ViT-S/{chosen.patch}, 224 x 224, on {processor()}, {chosen.threads} threads")
    print("| batch | program | best ms | median ms | median / minidl |\n|--:|---|--:|--:|--:|")
    for batch in map(int, chosen.batches.split(",")):
        x = numpy.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype="float32")
        own = minidl_step(chosen.patch, x)
        calls = {"minidl": own, "minidl, bfloat16 products": in_bfloat16(own)}
        calls |= peers(wanted, chosen.patch, x) if wanted else {}
        times = in_turns(calls, chosen.rounds)
        for name, (best, median) in times.items():
            ratio = median / times["minidl"][1]
            print(f"| {batch} | {name} | {1e3 * best:.1f} | {1e3 * median:.1f} | {ratio:.2f} |", flush=True)
        if chosen.profile:
            print(profile(own, 10))


if __name__ == "__main__":
    main()
