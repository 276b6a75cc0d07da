"""Refusal: what may not be written leaves its verdict, and an error that says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import pyarrow as pa

from ..quality import gate
from ..quality.findings import Finding, findings, told
from ..quality.verdicts import uncommitted
from ..schemas import shapes
from ..schemas.errors import GateError
from ..storage.catalog import Catalog


def refuse(catalog: Catalog, verdict: pa.Table, error: GateError) -> NoReturn:
    """Store the verdict of what was stopped, and say so."""
    catalog.table("verdicts").append(gate.record(uncommitted(verdict), shapes.VERDICTS, name="verdicts"))
    raise error


def refusal(
    admission: gate.Admission,
    what: str,
    *,
    where: str,
    hint: str,
    expected: str = "every critical check to pass, and no more rows rejected than the contract allows",
    found: Sequence[Finding] | None = None,
) -> GateError:
    """The error of an admission that was stopped. `found`: what was found besides by the gate, and by it."""
    known = findings(admission) if found is None else found
    return GateError(what, where=where, expected=expected, got=admission.stop_reason, hint=hint, **told(known))
