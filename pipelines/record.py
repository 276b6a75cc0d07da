"""Rows that reclake makes itself pass a gate too: all of them or none, and the verdict is stored."""

from __future__ import annotations

import pyarrow as pa

from ..quality import gate
from ..quality.suite import CompiledSuite
from ..schemas import shapes
from ..schemas.errors import GateError
from ..storage.catalog import Catalog
from .run import Run


def admit_whole(
    catalog: Catalog,
    rows: pa.Table,
    suite: CompiledSuite,
    schema: pa.Schema,
    *,
    table: str,
    source: str,
    run: Run,
) -> gate.Admitted:
    """Admit derived rows, store the verdict, refuse the whole if any row fails.

    Raises:
        GateError: a check failed. Derived rows that fail mean a defect or a damaged table: nothing is quarantined.
    """
    admission = gate.admit(
        rows, suite, schema, contract=table, contract_version=1, verdict_id=f"{run.id}-{table}-{source}"
    )
    verdict = gate.verdict_rows(
        admission,
        run_id=run.id,
        at_us=run.now_us(),
        table=table,
        source=source,
        event_day=None,
        read=rows.num_rows,
        quarantined=admission.rejected.height,
        duplicates=0,
        late=0,
    )
    catalog.table("verdicts").append(gate.record(verdict, shapes.VERDICTS, name="verdicts"))
    if admission.verdict == "stop" or admission.rejected.height:
        raise GateError(
            "rows made by reclake fail their own checks: nothing was written",
            where=f"{table}, {source}",
            expected="every check to pass",
            got=admission.stop_reason or f"{admission.rejected.height} rows rejected: {admission.rejected['reasons'][0]}",
            hint="this is a defect or a damaged table; `reclake doctor LAKE` looks",
        )
    return admission.admitted
