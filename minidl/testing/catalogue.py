"""The checks of the whole catalogue on one engine, as the command line runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from minidl import engines
from minidl.engines import Engine
from minidl.errors import UnknownNameError
from minidl.ops import FORMULAS
from minidl.testing.agreement import agreement, oracle_agreement, to_engine, update_agreement
from minidl.testing.gradcheck import gradcheck
from minidl.testing.report import Report, Row
from minidl.testing.specs import SPECS, Case, OpSpec
from minidl.testing.updates import UPDATES, UpdateSpec

__all__ = ["check_case", "check_catalogue", "missing"]

UPDATE_SIZE = 37


def missing() -> list[str]:
    """Return the public ops without an entry in the catalogue; there should be none.

    >>> missing()
    []
    """
    known = {*SPECS, *(f"{name}_backward" for name in SPECS), *UPDATES}
    return sorted(set(FORMULAS) - known)


def check_catalogue(engine: str | Engine = "numpy", ops: Iterable[str] | None = None, short: bool = False) -> Report:
    """Check every op of the catalogue on an engine.

    Gradients are checked by differences in float64: full Jacobians on small inputs, directional derivatives on large ones. The
    numpy engine is also checked by the complex step, and its y against the oracle. Other engines are compared with the formula,
    every result in float32 and float64. Ops with matrix products are compared with their formula in bfloat16 on every engine.

    Parameters
    ----------
    engine : str or Engine, default "numpy"
    ops : iterable of str, optional
        Check only these.
    short : bool, default False
        Whether to check only one small case of each op, by differences; takes about a second.

    Returns
    -------
    report : Report
        All comparisons; ``report.worst()`` keeps the worst of each op.

    Raises
    ------
    UnknownNameError
        If an op is not in the catalogue.
    EngineError
        If the engine cannot be used here.
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
        if spec.operands:
            rows = agreement(engine, spec, case, "float32", precision="bfloat16")
            yield Report(tuple(replace(row, method=f"{row.method}, in bfloat16") for row in rows))


def check_case(
    engine: Engine, spec: OpSpec, case: Case, method: str = "central", arguments: Iterable[Any] | None = None
) -> Report:
    """Check the gradients of one op in one case on an engine."""
    drawn = list(spec.arguments(case) if arguments is None else arguments)
    return gradcheck(
        (spec.forward(engine), spec.backward(engine)),
        *to_engine(engine, drawn),
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
