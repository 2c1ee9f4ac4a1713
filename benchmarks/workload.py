"""One row of the board: a workload, and how a contender's step is made."""

from __future__ import annotations

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
        ``"torch bfloat16"``, which is torch under autocast, and ``"minidl bfloat16"``, the native engine with products in
        bfloat16. It imports the library, makes data and model, and
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
        return contender in self.makers or (contender.startswith("minidl ") and "minidl" in self.makers)

    def make(self, contender: str) -> Step:
        """Return the step; a minidl contender is named with its engine."""
        if contender == "torch bfloat16":
            return _under_autocast(self.makers["torch"]())
        if contender == "minidl bfloat16":
            return _in_bfloat16(self.make("minidl native"))
        kind, _, engine = contender.partition(" ") if contender.startswith("minidl") else (contender, "", "")
        maker = self.makers.get(contender) or self.makers[kind]
        if not engine:
            return maker()
        import minidl as dl

        with dl.use(engine):
            step = maker()
        chosen = dl.engines.get(engine)

        def within() -> Any:
            with dl.use(chosen):
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
