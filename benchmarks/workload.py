"""One row of the board: a workload, and how a contender's step is made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Step = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """One row of the board.

    Attributes
    ----------
    part : str
        The heading under which it stands.
    name : str
        Unique; what ``--only`` looks for.
    makers : dict
        A function without arguments for each contender: ``"minidl"`` (every engine that exists), ``"minidl native"``
        (this one only), ``"numpy"``, ``"torch"``, ``"torch compile"``, ``"jax"``, ``"onnxruntime"``. Made from these are
        ``"torch bfloat16"``, which is torch under autocast, ``"minidl bfloat16"``, the native engine with products in
        bfloat16, and ``"torch cuda"``, which is torch with a GPU as its default device. It imports the library, makes data and model, and
        returns the step: a function without arguments that does the whole work once and returns when it is done. A
        training step returns its loss, by which ``tests/test_board.py`` compares the contenders, so seed the data.
        The function runs in a process of its own, whose peak memory is shown. Outside of it, make no data and import
        no library.
    flops : float, default 0
        Floating-point operations of one step, a multiply-add counted as 2; 0 to show none.
    bytes : float, default 0
        For a step bound by memory, shown instead: the bytes that it has to read and write.
    tokens : int, default 0
        Of a step that generates text, the tokens that it writes. Each reads its part of the bytes once.
    """

    part: str
    name: str
    makers: dict[str, Callable[[], Step]]
    flops: float = 0.0
    bytes: float = 0.0
    tokens: int = 0

    def has(self, contender: str) -> bool:
        """Whether this contender takes part."""
        if contender in BFLOAT16:
            return self.part not in WITHOUT_BFLOAT16
        if contender == "torch cuda":
            return "torch" in self.makers
        return contender in self.makers or (contender.startswith("minidl ") and "minidl" in self.makers)

    def make(self, contender: str) -> Step:
        """Return the step; a minidl contender is named with its engine."""
        if contender == "torch bfloat16":
            return _under_autocast(self.makers["torch"]())
        if contender == "torch cuda":
            return _on_cuda(self.makers["torch"])
        if contender == "minidl bfloat16":
            return _in_bfloat16(self.make("minidl native"))
        kind, _, engine = contender.partition(" ") if contender.startswith("minidl") else (contender, "", "")
        maker = self.makers.get(contender) or self.makers[kind]
        if not engine:
            return maker()
        import minidl as dl
        from minidl.ops._later import checks_later

        with dl.use(engine):
            step = maker()
        chosen = dl.engines.get(engine)
        on_device = engine.partition(":")[0] == "cupy"

        def within() -> Any:
            with dl.use(chosen), checks_later() if on_device else contextlib.nullcontext():  # as in fit, nobody waits
                return step()

        return within if chosen is not dl.engines.current() else step


BFLOAT16 = ("minidl bfloat16", "torch bfloat16")
"""Contenders that multiply in bfloat16."""
WITHOUT_BFLOAT16 = (
    "Activations", "Normalisation and pooling", "Sequences: large vocabulary", "Sequences: generation",
    "Sequences: prompts",
)  # fmt: skip
"""Parts without products, where these would change nothing or only the rounding; and two where workloads say the dtype."""


def _under_autocast(step: Step) -> Step:
    import torch

    def within() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return step()

    return within


def _on_cuda(maker: Callable[[], Step]) -> Step:
    """Make PyTorch's step with everything on the GPU, and float32 products that are not rounded to TF32, as minidl's are."""
    import torch

    torch.set_default_device("cuda")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    from_numpy = torch.from_numpy
    torch.from_numpy = lambda array: from_numpy(array).cuda()
    try:
        return maker()
    finally:
        torch.from_numpy = from_numpy


def on_engine(*arrays: Any) -> Any:
    """Return arrays where minidl's current engine computes: one, or a tuple of several."""
    import minidl

    placed = tuple(map(minidl.engines.current().asarray, arrays))
    return placed if len(placed) > 1 else placed[0]


def _in_bfloat16(step: Step) -> Step:
    import minidl as dl

    def within() -> Any:
        with dl.matmul_precision("bfloat16"):
            return step()

    return within


def set_threads(contender: str, threads: int) -> None:
    """Set a contender's number of threads; NumPy and JAX read theirs when they are loaded.

    JAX takes as many as the process has processors, whatever it is told. So the process keeps to so many, with any contender.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    if contender.startswith("minidl"):
        import minidl

        minidl.set_num_threads(threads)
    if contender.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    if contender == "jax":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
