"""The whole catalogue on one engine, as the command line runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from minidl import engines
from minidl.engines import Engine
from minidl.errors import UnknownNameError
from minidl.ops import FORMULAS
from minidl.testing.agreement import agreement, oracle_agreement, placed, update_agreement
from minidl.testing.gradcheck import gradcheck
from minidl.testing.report import Report, Row
from minidl.testing.specs import SPECS, Case, OpSpec
from minidl.testing.updates import UPDATES, UpdateSpec

__all__ = ["check_case", "check_catalogue", "missing"]

UPDATE_SIZE = 37


def missing() -> list[str]:
    """Return the public ops that have no entry in the catalogue; a complete catalogue gives none.

    >>> missing()
    []
    """
    known = {*SPECS, *(f"{name}_backward" for name in SPECS), *UPDATES}
    return sorted(set(FORMULAS) - known)


def check_catalogue(engine: str | Engine = "numpy", ops: Iterable[str] | None = None, short: bool = False) -> Report:
    """Check every op of the catalogue on an engine.

    Gradients by differences in float64, with full Jacobians on small inputs and directional derivatives on large
    ones; on the numpy engine also by the complex step, and y against the oracle; on the others every result in
    float32 and float64 against the formula.

    Parameters
    ----------
    engine : str or Engine
    ops : iterable of str, optional
        Only these.
    short : bool
        Only one small case of each, by differences: the whole catalogue in about a second.

    Returns
    -------
    report : Report
        Of every comparison; ``report.worst()`` keeps the worst of each op.

    Raises
    ------
    UnknownNameError
        If an op is not in the catalogue.
    EngineError
        If the engine cannot be used here.

    Examples
    --------
    >>> report = check_catalogue("numpy", ops=["relu"], short=True)
    >>> report.ok, [row.argument for row in report.table]
    (True, ['x'])
    """
    engine = engines.get(engine) if isinstance(engine, str) else engine
    names = list(ops) if ops is not None else [*SPECS, *UPDATES]
    for name in names:
        if name not in SPECS and name not in UPDATES:
            raise UnknownNameError.among("op", name, [*SPECS, *UPDATES])
    reports: list[Report] = []
    for name in names:
        if name in SPECS:
            reports += _check_op(engine, SPECS[name], short)
        else:
            reports.append(Report(tuple(_check_update(engine, UPDATES[name], short))))
    report = Report.joined(reports)
    return Report(tuple(replace(row, engine=engine.name) for row in report.table), report.notes)


def _check_op(engine: Engine, spec: OpSpec, short: bool) -> Iterator[Report]:
    if short:
        yield check_case(engine, spec, spec.cases[0])
        return
    for case in (*spec.cases, spec.sized("large")):
        yield check_case(engine, spec, case)
    formulas = all(getattr(engine, op) is FORMULAS[op] for op in (spec.name, f"{spec.name}_backward"))
    on_host = engine.xp.__name__ == "numpy"
    for case in spec.cases:
        if formulas and on_host:
            yield Report((replace(oracle_agreement(spec, case), method="against the oracle"),))
            if spec.analytic:
                yield check_case(engine, spec, case, method="complex")
        else:
            yield Report(tuple(row for dtype in ("float32", "float64") for row in agreement(engine, spec, case, dtype)))


def check_case(
    engine: Engine, spec: OpSpec, case: Case, method: str = "central", arguments: Iterable[Any] | None = None
) -> Report:
    """Check the gradients of one op in one case on an engine."""
    drawn = list(spec.arguments(case) if arguments is None else arguments)
    return gradcheck(
        (getattr(engine, spec.name), getattr(engine, f"{spec.name}_backward")),
        *placed(engine, drawn),
        method=method,
        options=case.options,
        differentiable=spec.present(drawn),
        raise_exception=False,
        name=f"{spec.name} ({case.name})",
    )


def _check_update(engine: Engine, spec: UpdateSpec, short: bool) -> Iterator[Row]:
    for case in spec.cases[:1] if short else spec.cases:
        if engine.name == "numpy":
            rows = update_agreement(FORMULAS[spec.name], spec, case, "float64", UPDATE_SIZE)
            yield from (replace(row, method="against the oracle") for row in rows)
        else:
            for dtype in ("float32", "float64"):
                yield from update_agreement(getattr(engine, spec.name), spec, case, dtype, UPDATE_SIZE, engine)
