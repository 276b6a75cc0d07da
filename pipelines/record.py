"""Rows that reclake makes itself pass a gate too: all of them or none, and the verdict is stored."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from ..quality import gate
from ..quality.suite import CompiledSuite
from ..schemas import shapes
from ..schemas.errors import GateError
from ..storage.catalog import Catalog
from .run import Run


@dataclass(frozen=True, slots=True)
class Judged:
    """Derived rows after their gate: admitted as a whole, or `refused` with a reason; the verdict rows either way."""

    admitted: gate.Admitted
    verdict: pa.Table
    refused: str | None


def judge(
    rows: pa.Table,
    suite: CompiledSuite,
    schema: pa.Schema,
    *,
    table: str,
    source: str,
    verdict_id: str,
    run_id: str,
    at_us: int,
) -> Judged:
    """Kernel: gate rows that reclake made. One failing row refuses them all: it means a defect or a damaged table."""
    admission = gate.admit(rows, suite, schema, contract=table, contract_version=1, verdict_id=verdict_id)
    verdict = gate.verdict_rows(
        admission,
        run_id=run_id,
        at_us=at_us,
        table=table,
        source=source,
        event_day=None,
        read=rows.num_rows,
        quarantined=admission.rejected.height,
        duplicates=0,
        late=0,
    )
    refused = admission.stop_reason if admission.verdict == "stop" else None
    if refused is None and admission.rejected.height:
        refused = (
            f"{admission.rejected.height} rows rejected, the first for {admission.rejected['reasons'][0].to_list()}"
        )
    return Judged(admission.admitted, verdict, refused)


def store_verdict(catalog: Catalog, verdict: pa.Table, refused: str | None, *, table: str, source: str) -> None:
    """Store the verdict of derived rows.

    Raises:
        GateError: they were refused.
    """
    catalog.table("verdicts").append(gate.record(verdict, shapes.VERDICTS, name="verdicts"))
    if refused is not None:
        raise GateError(
            "rows made by reclake fail their own checks: nothing was written",
            where=f"{table}, {source}",
            expected="every check to pass",
            got=refused,
            hint=f"this is a defect or a damaged table: reclake doctor {catalog.root}",
        )


def admit_whole(
    catalog: Catalog, rows: pa.Table, suite: CompiledSuite, schema: pa.Schema, *, table: str, source: str, run: Run
) -> gate.Admitted:
    """Judge derived rows, store the verdict, refuse the whole if any row fails."""
    judged = judge(
        rows,
        suite,
        schema,
        table=table,
        source=source,
        verdict_id=f"{run.id}-{table}-{source}",
        run_id=run.id,
        at_us=run.now_us(),
    )
    store_verdict(catalog, judged.verdict, judged.refused, table=table, source=source)
    return judged.admitted
