"""Write the tables of docs/gpu.md: the ladder of proof, and what a session on a GPU has measured.

    pytest --gpu-proof --gpu-ladder docs/gpu_ladder.json -m "gpu_surface or gpu_double or gpu_compile or gpu_emulate or gpu_cupy or gpu_device"
    python docs/gpu_tables.py             # from docs/gpu_ladder.json
    python docs/gpu_tables.py SESSION     # also from the folder that benchmarks/gpu_session.sh wrote

A session adds the rung of the GPU to the ladder, the card, and the board. What was not run says so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from generate_tables import DOCS, between, write

PAGE, LADDER, SESSION = DOCS / "gpu.md", DOCS / "gpu_ladder.json", DOCS / "gpu_session.json"
NO_FIGURES = "No figure of a real GPU exists yet: none of these tests, and no benchmark, has run on one."


def ladder() -> list[str]:
    """Return the table of rungs: what each proves, how it went, and where."""
    found, session = json.loads(LADDER.read_text()), _session()
    lines = ["| rung | what runs | result | where |", "|---|---|---|---|"]
    for rung in found["rungs"]:
        ran = rung
        if rung["marker"] == "gpu_device" and session is not None:
            ran = next(r for r in session["rungs"] if r["marker"] == rung["marker"])
        where = f"{ran['where']}, {ran['date']}" if "date" in ran else ""
        lines.append(f"| {rung['letter']} | {rung['what']} | {ran['said']} | {where} |")
    return lines


def board() -> list[str]:
    """Return what the session on a GPU has measured, or that there is none."""
    session = _session()
    if session is None:
        return [NO_FIGURES]
    lines = [
        *(f"- {line}" for line in session["header"]),
        "",
        "| workload | minidl ms | PyTorch ms | times minidl's | of the card |",
    ]
    lines.append("|---|---:|---:|---:|---:|")
    return lines + session["rows"]


def read_session(folder: Path) -> None:
    """Keep what a session wrote, in docs/gpu_session.json."""
    ran, measured = (json.loads((folder / name).read_text()) for name in ("ladder.json", "board.json"))
    by_workload: dict[str, dict[str, Any]] = {}
    for figure in measured["figures"]:
        by_workload.setdefault(f"{figure['part']}: {figure['workload']}", {})[figure["contender"]] = figure
    rows = []
    for name, found in by_workload.items():
        own, peer = found["minidl cupy"], found.get("torch cuda")
        beside = [f"{peer['median_ms']:.4g}", f"{peer['median_ms'] / own['median_ms']:.2f}"] if peer else ["", ""]
        limit = measured["limits"]["operations per second"]
        bound = own["bound_ms"] or own["flops"] / limit * 1e3
        rows.append(f"| {name} | {own['median_ms']:.4g} | {' | '.join(beside)} | {bound / own['best_ms']:.0%} |")
    kept = {**ran, "header": measured["header"], "rows": rows}
    SESSION.write_text(json.dumps(kept, indent=1) + "\n")


def problems() -> list[str]:
    """Say which of the tables is not current."""
    text = PAGE.read_text(encoding="utf-8")
    return [
        f"docs/gpu.md: the part {mark!r} is not current; run python docs/gpu_tables.py"
        for mark, lines in (("ladder", ladder()), ("gpu board", board()))
        if between(text, mark, PAGE.name).group(1).splitlines() != lines
    ]


def _session() -> dict[str, Any] | None:
    return json.loads(SESSION.read_text()) if SESSION.exists() else None


def main() -> None:
    """Write the tables."""
    if len(sys.argv) > 1:
        read_session(Path(sys.argv[1]))
    write(PAGE, "ladder", ladder())
    write(PAGE, "gpu board", board())


if __name__ == "__main__":
    main()
