"""The results of a check, as data and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from minidl.errors import GradcheckError

__all__ = ["Report", "Row"]


@dataclass(frozen=True)
class Row:
    """One comparison: the gradient of one argument, or one result of an engine.

    Attributes
    ----------
    op : str
        The operation, layer or model, with the case if there are several.
    argument : str
        The argument of the gradient, or the result that is compared.
    shape : tuple of int
        The shape of the argument.
    index : tuple of int
        The index of the largest difference.
    analytic, numeric : float
        The values there: from ``backward``, and the right one.
    error : float
        The relative error there.
    tolerance : float
        The largest relative error that passes.
    method : str
        How it was checked.
    dtype : str
        The precision of the check.
    engine : str
        The engine that computed.
    problem : str
        What is wrong, in a sentence; empty if nothing is.
    """

    op: str
    argument: str
    shape: tuple[int, ...] = ()
    index: tuple[int, ...] = ()
    analytic: float = float("nan")
    numeric: float = float("nan")
    error: float = 0.0
    tolerance: float = 0.0
    method: str = ""
    dtype: str = "float64"
    engine: str = ""
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether this comparison passed."""
        return not self.problem

    @property
    def used(self) -> float:
        """The share of the tolerance that the error uses up."""
        return self.error / self.tolerance if self.tolerance else 0.0

    def sentence(self) -> str:
        """Say what is wrong, with the numbers."""
        if self.index or self.error:
            return (
                f"{self.op}, argument {self.argument!r} of shape {self.shape}: at index {self.index} analytic "
                f"{self.analytic:.10g}, numeric {self.numeric:.10g}, relative error {self.error:.2e} (tolerance "
                f"{self.tolerance:.1e}; {self.method}, {self.dtype}). {self.problem}"
            )
        return f"{self.op}, argument {self.argument!r}: {self.problem}"


@dataclass(frozen=True)
class Report:
    """The outcome of a check; ``print(report)`` shows the table.

    Attributes
    ----------
    table : tuple of Row
        One row for each argument that was compared, and one for each other problem.
    notes : tuple of str
        Remarks on how the check was done.
    """

    table: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether everything passed; an empty report proves nothing and is not ok."""
        return bool(self.table) and all(row.ok for row in self.table)

    @property
    def max_error(self) -> float:
        """The largest relative error of all rows."""
        return max((row.error for row in self.table), default=0.0)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, one sentence each, the worst first."""
        failed = sorted((row for row in self.table if not row.ok), key=lambda row: -row.error)
        return tuple(row.sentence() for row in failed)

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain dictionaries, ready for JSON."""
        return [{**asdict(row), "ok": row.ok} for row in self.table]

    def check(self) -> Report:
        """Return the report itself if it is ok.

        Raises
        ------
        GradcheckError
            If it is not ok; the error's ``report`` is this one.
        """
        if self.ok:
            return self
        problems = self.problems or ("nothing was checked: there is no floating-point argument",)
        more = f" (and {len(problems) - 1} more: print(error.report))" if len(problems) > 1 else ""
        raise GradcheckError(problems[0] + more, self)

    @classmethod
    def joined(cls, reports: Iterable[Report]) -> Report:
        """Join many reports to one."""
        reports = list(reports)
        notes = dict.fromkeys(note for report in reports for note in report.notes)
        return cls(tuple(row for report in reports for row in report.table), tuple(notes))

    def worst(self) -> Report:
        """Keep one row for each op, argument and method: the one closest to its tolerance."""
        kept: dict[tuple[str, ...], Row] = {}
        for row in self.table:
            op = row.op.partition(" ")[0]
            key = (op, row.argument, row.method, row.dtype, row.engine)
            if key not in kept or (not row.ok, row.used) > (not kept[key].ok, kept[key].used):
                kept[key] = row
        return Report(tuple(kept.values()), self.notes)

    def __str__(self) -> str:
        engines = {row.engine for row in self.table}
        lines = _align([_HEADINGS, *(_format_cells(row, len(engines) > 1) for row in self.table)])
        verdict = "ok" if self.ok else "FAILED"
        failed = sum(not row.ok for row in self.table)
        count = f"{len(self.table)} checked" + (f", {failed} failed" if failed else "")
        where = "".join(f" on the engine {name}" for name in engines if name and len(engines) == 1)
        summary = f"gradcheck {verdict}{where}: {count}, largest relative error {self.max_error:.1e}"
        return "\n".join([*lines, *self.problems, *self.notes, summary])


_HEADINGS = ("op", "argument", "shape", "worst at", "analytic", "numeric", "rel. error", "tolerance", "how", "")


def _format_cells(row: Row, with_engine: bool) -> tuple[str, ...]:
    op = f"{row.op} on {row.engine}" if with_engine and row.engine else row.op
    if not row.method:
        return (op, row.argument, _format_shape(row.shape), "", "", "", "", "", "", "FAILED")
    return (
        op,
        row.argument,
        _format_shape(row.shape),
        _format_shape(row.index),
        f"{row.analytic:.6g}",
        f"{row.numeric:.6g}",
        f"{row.error:.1e}",
        f"{row.tolerance:.1e}",
        f"{row.method}, {row.dtype}",
        "ok" if row.ok else "FAILED",
    )


def _format_shape(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers)) if numbers else "-"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
