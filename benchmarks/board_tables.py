"""The board's figures, and how they are shown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workload import BFLOAT16

BEGIN, END, NEXT = "<!-- {} {}: begin -->", "<!-- {} {}: end -->", "<!-- {}: end -->"
"""The marks around the section of a processor, and the one before which the first section of a processor is put."""
WORDS = ("workload", "contender", "fastest peer")
SIDE_BY_SIDE = ("Products",)
"""Parts with many workloads, which get one row each; in the other parts each contender has a row, which shows more."""


@dataclass(frozen=True)
class Figure:
    """What one contender's step of one workload took, and its process's peak memory."""

    part: str
    workload: str
    contender: str
    best_ms: float
    median_ms: float
    flops: float
    bytes: float
    peak_mib: float
    tokens: int = 0
    bound_ms: float = 0.0  # of reading its bytes

    @property
    def rate(self) -> str:
        """The rate at the best time: tokens/s, GFLOP/s or GB/s."""
        if self.tokens:
            return f"{self.tokens / self.best_ms * 1e3:.4g} tokens/s"
        if self.flops:
            return f"{self.flops / self.best_ms / 1e6:.3g} GFLOP/s"
        return f"{self.bytes / self.best_ms / 1e6:.3g} GB/s" if self.bytes else ""

    def share(self, limit: float) -> str:
        """Return the share of the machine's limit, or nothing if neither the operations nor a bound of memory is known."""
        if self.bound_ms:
            return f"{self.bound_ms / self.best_ms:.0%}"
        return f"{self.flops / self.best_ms * 1e3 / limit:.0%}" if self.flops and limit else ""


def tables(figures: list[Figure], limit: float) -> Iterator[str]:
    """Yield the lines of all parts, each with its heading."""
    for part, found in itertools.groupby(figures, lambda figure: figure.part):
        yield from [f"## {part}", "", *table(list(found), limit), ""]


def table(figures: list[Figure], limit: float, head: bool = True) -> list[str]:
    """Return the lines of one part; ratios are of medians, to the fastest minidl engine in the same workload."""
    lines = []
    for _, group in itertools.groupby(figures, lambda figure: figure.workload):
        found = list(group)
        own = min(filter(_is_own, found), key=lambda figure: figure.median_ms)
        show = _side_by_side if own.part in SIDE_BY_SIDE else _one_below_the_other
        names, rows = show(own, found, limit)
        if not lines and head:
            lines += [
                "| " + " | ".join(names) + " |",
                "|" + "".join("---|" if name in WORDS else "---:|" for name in names),
            ]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    return lines


def _is_own(figure: Figure) -> bool:
    """Whether it is minidl's, in float32 as the peers are."""
    return figure.contender.startswith("minidl") and figure.contender not in BFLOAT16


def _one_below_the_other(own: Figure, found: list[Figure], limit: float) -> tuple[list[str], list[list[str]]]:
    names = ["workload", "contender", "best ms", "median ms", "rate", "of the limit", "times minidl's best", "peak MiB"]
    rows = [
        [
            figure.workload, figure.contender, f"{figure.best_ms:.4g}", f"{figure.median_ms:.4g}", figure.rate,
            figure.share(limit), f"{figure.median_ms / own.median_ms:.2f}", f"{figure.peak_mib:.0f}",
        ]
        for figure in found
    ]  # fmt: skip
    return names, rows


def _side_by_side(own: Figure, found: list[Figure], limit: float) -> tuple[list[str], list[list[str]]]:
    names = ["workload", "minidl ms (median)", "rate", "of the limit"]
    row = [own.workload, f"{own.best_ms:.4g} ({own.median_ms:.4g})", own.rate, own.share(limit)]
    for figure in found:
        if figure is not own:
            names += [f"{figure.contender} ms", "times minidl's"]
            row += [f"{figure.best_ms:.4g}", f"{figure.median_ms / own.median_ms:.2f}"]
    return names, [row]


def against_the_fastest(figures: list[Figure]) -> list[str]:
    """Return tables of minidl's best beside the fastest peer, in float32 and in bfloat16, or nothing without peers."""
    lines: list[str] = []
    for precision in ("float32", "bfloat16"):
        found = list(_ratios([f for f in figures if (f.contender in BFLOAT16) == (precision == "bfloat16")]))
        if found:
            head = "| workload | minidl ms | fastest peer | its ms | times minidl's |"
            title = f"## Against the fastest peer in {precision}"
            lines += [*([""] if lines else []), title, "", head, "|---|---:|---|---:|---:|", *found]
    return lines


def _ratios(figures: list[Figure]) -> Iterator[str]:
    for name, group in itertools.groupby(figures, lambda figure: f"{figure.part}: {figure.workload}"):
        found = list(group)
        own = [f for f in found if f.contender.startswith("minidl")]
        peers = [f for f in found if not f.contender.startswith("minidl")]
        if own and peers:
            mine, peer = (min(side, key=lambda figure: figure.median_ms) for side in (own, peers))
            ratio = f"{peer.median_ms / mine.median_ms:.2f}"
            yield f"| {name} | {mine.median_ms:.4g} | {peer.contender} | {peer.median_ms:.4g} | {ratio} |"


def write(path: Path, lines: list[str], begin: str, end: str) -> None:
    """Put the lines between two marks of a Markdown file, and leave the rest of it as it is."""
    from minidl.weights import write_atomically  # here, because the board times the import of minidl

    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_too, after = rest.partition(end)
    if not found or not found_too:
        raise SystemExit(f"{path} has no {begin} ... {end} to write between")
    write_atomically(path, "\n".join([before + begin, "", *lines, "", end + after]).encode())


def write_section(path: Path, what: str, processor: str, lines: list[str]) -> None:
    """Put the lines into a processor's section of what a page shows, such as its "board"; add it if there is none."""
    from minidl.weights import write_atomically

    begin, end, following = BEGIN.format(what, processor), END.format(what, processor), NEXT.format(what)
    text = path.read_text(encoding="utf-8")
    if begin not in text:
        if following not in text:
            raise SystemExit(f"{path} has no {following} to write before")
        write_atomically(path, text.replace(following, f"{begin}\n{end}\n\n{following}", 1).encode())
    write(path, lines, begin, end)
