"""Write the generated parts of the docs, or check that those there are current.

    python docs/generate_tables.py            # write
    python docs/generate_tables.py --check    # fail if they are not

Each part stands between two marks: the table of ops in ops.md, the derivatives in derivatives.md, and the diagram of
a model in index.md. The README states the number of ops and a bound on their gradient errors; that line is generated
too. Errors are rounded up to a power of ten, so that the tables do not change with the last bit of every processor.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from minidl import engines, testing
from minidl.ops import FORMULAS
from minidl.weights import write_atomically

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
SHOWN = ("numpy", "native")
CLAIM = re.compile(r"\[(\d+) ops\]\(docs/ops\.md\); worst gradient error below (1e-\d+)")


# the table of ops ---------------------------------------------------------------------------------------------------


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


def limit(cell: str) -> float:
    """Return the number that a cell of the table allows."""
    return float(cell.removeprefix("< ")) if cell.startswith("<") else 0.0


def link(name: str) -> str:
    """Return a link to the module that an op's formula is in."""
    return f"[`{name}`](../{FORMULAS[name].__module__.replace('.', '/')}.py)"


def ops_table() -> list[str]:
    """Return the rows of the table, one for each op of the catalogue."""
    errors = {engine: worst_errors(engine) for engine in SHOWN}
    coverage = engines.get("native").coverage()
    lines = [
        "| op | numpy: gradient | native: computed by | native: gradient | native against formula (float64) |",
        "|---|---|---|---|---|",
    ]
    for name in errors["numpy"]:
        gradients = [bound(errors[engine][name][0]) if name in testing.SPECS else "-" for engine in SHOWN]
        agreement = bound(errors["native"][name][1]) if coverage[name] == "kernel" else "-"
        lines.append(f"| {link(name)} | {gradients[0]} | {coverage[name]} | {gradients[1]} | {agreement} |")
    return lines


def cells(line: str) -> list[str]:
    """Return the cells of a row."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def claim(table: list[str]) -> str:
    """Return the README's sentence on the ops of a table."""
    worst = max(limit(cell) for line in table[2:] for cell in (cells(line)[1], cells(line)[3]))
    return f"[{len(table) - 2} ops](docs/ops.md); worst gradient error below {worst:.0e}".replace("e-0", "e-")


def table_problem(old: list[str], new: list[str]) -> str:
    """Say what is wrong with the page's table; on another processor an error may be up to ten times the stated one."""
    if len(old) != len(new):
        return f"the table has {len(old) - 2} ops, the catalogue {len(new) - 2}"
    for before, now in zip(old, new, strict=True):
        pairs = list(zip(cells(before), cells(now), strict=True))
        changed = any(a != b for a, b in pairs if b != "exact" and not b.startswith("<"))
        if changed or any(limit(b) > 10 * limit(a) for a, b in pairs if b.startswith("<")):
            return f"a row is not current:\n  {before}\n  {now}"
    return ""


# derivatives --------------------------------------------------------------------------------------------------------


def derivatives(name: str) -> list[str]:
    """Return the lines of an op's backward docstring that define its gradients, such as ``dx = dy y (1 - y)``.

    They are a literal block, after two colons. Its first line has dx, or the gradient of another argument, on its left
    side, with or without indices.
    """
    names = "|".join(inspect.signature(FORMULAS[name]).parameters)
    text = inspect.cleandoc(FORMULAS[f"{name}_backward"].__doc__ or "")
    block = re.search(rf"::\n\n( *d(?:x|{names})(?:_\w+)?(?:, d\w+)* = .*(?:\n *\S.*)*)", text)
    return [line.strip() for line in block[1].splitlines()] if block else []


def all_derivatives() -> tuple[list[str], list[str]]:
    """Return the page's lines, module by module, and the ops whose docstring has no plain line."""
    lines: list[str] = []
    missing: list[str] = []
    modules: dict[str, list[str]] = {}
    for name in FORMULAS:
        if f"{name}_backward" in FORMULAS:
            modules.setdefault(FORMULAS[name].__module__, []).append(name)
    width = max(len(name) for names in modules.values() for name in names)
    for module, names in modules.items():
        path = module.replace(".", "/") + ".py"
        lines += [f"### [{path}](../{path})", "", "```text"]
        for name in names:
            found = derivatives(name)
            missing += [] if found else [name]
            lines += [f"{name if i == 0 else '':{width}}  {line}" for i, line in enumerate(found)]
        lines += ["```", ""]
    return lines[:-1], missing


# the diagram --------------------------------------------------------------------------------------------------------


def diagram() -> list[str]:
    """Run the program on the front page; return what it prints, the diagram of its model."""
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    if program is None:
        sys.exit("index.md: the program that prints the diagram is missing")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program[1], {"__name__": "index"})
    return ["```mermaid", *printed.getvalue().splitlines(), "```"]


# writing and checking -----------------------------------------------------------------------------------------------


def between(text: str, mark: str, where: str) -> re.Match[str]:
    """Return what stands between a part's two marks."""
    found = re.search(rf"<!-- {mark}: begin -->\n(.*?)<!-- {mark}: end -->", text, re.DOTALL)
    if found is None:
        sys.exit(f"{where}: the marks <!-- {mark}: begin --> and <!-- {mark}: end --> are missing")
    return found


def write(page: Path, mark: str, lines: list[str]) -> None:
    """Put lines between a part's two marks."""
    text = page.read_text(encoding="utf-8")
    span = between(text, mark, page.name).span(1)
    write_atomically(page, (text[: span[0]] + "\n".join(lines) + "\n" + text[span[1] :]).encode())


def problems(table: list[str], formulas: list[str]) -> Iterator[str]:
    """Say what is not current."""
    parts = {"ops": ("ops.md", table), "derivatives": ("derivatives.md", formulas), "diagram": ("index.md", diagram())}
    for mark, (name, new) in parts.items():
        old = between((DOCS / name).read_text(encoding="utf-8"), mark, name).group(1).splitlines()
        if mark == "ops":
            problem = table_problem(old, new)
        else:
            changed = sorted(set(old) ^ set(new))
            problem = f"a line is not current:\n  {changed[0]}" if changed else "lines have moved" if old != new else ""
        if problem:
            yield f"docs/{name}: {problem}"
    said = CLAIM.search(README.read_text(encoding="utf-8"))
    due = claim(table)
    if said is None:
        yield f"README.md does not say {due!r}"
    elif said[1] != str(len(table) - 2) or limit(f"< {said[2]}") < limit(f"< {due.rpartition(' ')[2]}") / 10:
        yield f"README.md says {said[0]!r}; now it is {due!r}"


def main() -> None:
    """Write or check."""
    table = ops_table()
    formulas, missing = all_derivatives()
    if missing:
        names = ", ".join(f"{name}_backward" for name in missing)
        sys.exit(f"docs/derivatives.md: no block such as 'dx = dy y (1 - y)' after '::' in the docstrings of {names}")
    if "--check" in sys.argv:
        import gpu_tables  # which imports this module

        if found := [*problems(table, formulas), *gpu_tables.problems()]:
            sys.exit("\n".join([*found, f"run python docs/{Path(__file__).name}"]))
        return
    write(DOCS / "ops.md", "ops", table)
    write(DOCS / "derivatives.md", "derivatives", formulas)
    write(DOCS / "index.md", "diagram", diagram())
    write_atomically(README, CLAIM.sub(claim(table), README.read_text(encoding="utf-8")).encode())


if __name__ == "__main__":
    main()
