"""Write the table of ops and engines into the README, or check that the one there is true.

    python docs/generate_tables.py            # write
    python docs/generate_tables.py --check    # fail if an op or engine is missing, or an error is larger than it says

Errors are rounded up to a power of ten, so that the table does not change with every processor's last bit.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

from minidl import engines, testing

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- ops: begin -->", "<!-- ops: end -->"
SHOWN = ("numpy", "native")


def worst_errors(engine: str) -> dict[str, tuple[float, float]]:
    """Return, for each op, the largest gradient error and the largest difference from the formula or the oracle."""
    found: dict[str, tuple[float, float]] = {}
    for name in [*testing.SPECS, *testing.UPDATES]:
        gradient, agreement = 0.0, 0.0
        for row in testing.check_catalogue(engine, ops=[name]).table:
            if not row.ok:
                sys.exit(f"{name} on {engine} is wrong: {row}")
            against = "against" in row.method
            if against and row.dtype != "float32":
                agreement = max(agreement, row.error)
            elif not against:
                gradient = max(gradient, row.error)
        found[name] = gradient, agreement
    return found


def bound(error: float) -> str:
    """Return the next power of ten above an error."""
    return "exact" if error == 0 else f"< 1e{math.floor(math.log10(error)) + 1}"


def table() -> list[str]:
    """Return the Markdown rows."""
    errors = {engine: worst_errors(engine) for engine in SHOWN}
    lines = [
        "| op | numpy: gradient | native: computed by | native: gradient | native against formula (float64) |",
        "|---|---|---|---|---|",
    ]
    coverage = engines.get("native").coverage()
    for name in errors["numpy"]:
        source = "minidl/ops/" + testing_room(name) + ".py"
        numpy_gradient = bound(errors["numpy"][name][0]) if name in testing.SPECS else "-"
        native_gradient = bound(errors["native"][name][0]) if name in testing.SPECS else "-"
        agreement = bound(errors["native"][name][1]) if coverage[name] == "kernel" else "-"
        lines.append(
            f"| [`{name}`]({source}) | {numpy_gradient} | {coverage[name]} | {native_gradient} | {agreement} |"
        )
    return lines


def testing_room(name: str) -> str:
    """Return the module of formulas that an op is in."""
    from minidl.ops import FORMULAS

    return FORMULAS[name].__module__.rsplit(".", 1)[1]


def limit(cell: str) -> float:
    """Return the number that a cell of the table allows."""
    return float(cell.removeprefix("< ")) if cell.startswith("<") else 0.0


def check(old: list[str], new: list[str]) -> None:
    """Fail unless the old table has the rows of the new one and its bounds still hold."""
    if len(old) != len(new):
        sys.exit(f"README: the table has {len(old) - 2} ops, there are {len(new) - 2}; run {sys.argv[0]}")
    for before, now in zip(old, new, strict=True):
        cells, current = ([cell.strip() for cell in line.strip("|").split("|")] for line in (before, now))
        bounded = [(a, b) for a, b in zip(cells, current, strict=True) if b.startswith("<")]
        plain = [(a, b) for a, b in zip(cells, current, strict=True) if not b.startswith("<")]
        if any(a != b and b != "exact" for a, b in plain) or any(limit(b) > 10 * limit(a) for a, b in bounded):
            sys.exit(f"README: the table is not current:\n  {before}\n  {now}\nrun {sys.argv[0]}")


def main() -> None:
    """Write or check."""
    text = README.read_text()
    new = table()
    match = re.search(f"{BEGIN}\n(.*?){END}", text, re.DOTALL)
    if match is None:
        sys.exit(f"README: the marks {BEGIN} and {END} are missing")
    if "--check" in sys.argv:
        check(match.group(1).strip().splitlines(), new)
    else:
        README.write_text(text[: match.start()] + "\n".join([BEGIN, *new, END]) + text[match.end() :])


if __name__ == "__main__":
    main()
