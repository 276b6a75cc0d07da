"""Write, audit, publish: a partition that reclake makes is judged as a whole before anybody can read it.

    stage      each part's rows go into files below the table that no commit names: no Delta reader sees them
    audit      the table's suite judges all rows of the partition, in one verdict
    publish    one commit makes all the files part of the table, with the verdict in its metadata; or
    discard    the files are taken away, and the verdict, which names no version, says why

Killed between any two steps, nothing is visible, and the next run makes the partition again; staged files that nobody
will commit are taken by vacuum. Killed after the commit, the next run writes the verdict's rows from the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
import pyarrow as pa

from ..quality import gate
from ..quality.audit import Audit, Seen
from ..quality.findings import Finding, findings
from ..quality.suite import CompiledSuite, compile_suite
from ..storage import suites
from ..storage.catalog import Catalog
from ..storage.table import Commit, Staged, Table
from .carried import Carried, recover, settle
from .learning import learnt
from .references import referred
from .refusal import refusal, refuse
from .run import Run


@dataclass(frozen=True, slots=True)
class Suite:
    """What a derived table's partitions must be: see storage.suites. Small, and can be pickled: workers compile it."""

    table: str
    expectations: Mapping[str, Any]
    version: int
    personal: frozenset[str]

    @classmethod
    def of(cls, catalog: Catalog, table: str) -> Suite:
        found = suites.registered(catalog.root, table)
        kept = [field for contract in catalog.contracts() for field in contract.fields if field.pii == "keep"]
        personal = frozenset(name for field in kept for name in (field.name, field.column))
        return cls(table, referred(catalog, found.whole(table)), found.version, personal)

    def compiled(self, schema: pa.Schema, *, apart: Collection[str] | None) -> Audit:
        """See Audit.of for `apart`.

        Raises:
            SuiteError: an expectation does not fit the table's columns.
        """
        return Audit.of(self._compiled(schema), apart=apart)

    def of_day(self, catalog: Catalog, schema: pa.Schema, day: date, *, apart: Collection[str] | None) -> Audit:
        """The same as it judges a day, where checks take bounds from history. They are checks that no part answers
        for itself, so workers need none of this; of a partition that is one part it is the audit for both.
        """
        compiled = self._compiled(schema)
        suite = learnt(catalog, compiled, table=self.table, contract=self.table, day=day, partitions=True)
        return Audit.of(suite, apart=apart)

    def _compiled(self, schema: pa.Schema) -> CompiledSuite:
        return compile_suite(self.expectations, schema, name=self.table, personal=self.personal)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a partition: its files, which no commit names, and what was seen in it. Small; can be pickled."""

    staged: Staged
    seen: Seen


@dataclass(frozen=True, slots=True)
class Audited:
    """Rows that their suite lets through, in files that no commit names yet, and the verdict that goes with them."""

    table: Table
    parts: tuple[Staged, ...]
    admission: gate.Admission
    verdict: pa.Table
    schema: pa.Schema  # what the table must have

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was not as expected and lets it through all the same, worst first."""
        return findings(self.admission)

    def discard(self) -> None:
        """Take the files away. What a commit has made part of the table stays."""
        self.table.discard(self.parts)


def stage(table: Table, rows: pa.Table, audit: Audit, schema: pa.Schema) -> Part:
    """Write one part where nobody sees it. Any engine's worker may do so."""
    held, seen = audit.look(rows, schema, name=table.name)
    return Part(table.stage(held), seen)


def audited(
    catalog: Catalog,
    table: Table,
    parts: Sequence[Part],
    audit: Audit,
    schema: pa.Schema,
    *,
    version: int,
    source: str,
    day: date,
    run: Run,
) -> Audited:
    """Judge a partition, all of whose parts are staged. One that may not be published is discarded here.

    `version` is the suite's; `source` names the partition and `day` dates it in the verdict.

    Raises:
        GateError: a check that is more than a warning is unmet; the parts are gone, the verdict is stored.
    """
    staged = tuple(part.staged for part in parts)
    try:
        rows = pl.LazyFrame() if audit.whole else table.scan_staged(staged)
        admission = audit.judge(
            [part.seen for part in parts],
            rows,
            schema,
            contract=table.name,
            contract_version=version,
            verdict_id=f"{run.id}-{table.name}-{source}",
        )
        count = sum(part.seen.rows for part in parts)
        stopped = admission.verdict == "stop"
        verdict = gate.verdict_rows(
            admission,
            run_id=run.id,
            at_us=run.now_us(),
            table=table.name,
            source=source,
            event_day=day,
            read=count,
            admitted=0 if stopped else count,
            duplicates=0,
            late=0,
        )
        if stopped:
            _refuse(catalog, table, admission, verdict, source)
    except BaseException:
        table.discard(staged)
        raise
    return Audited(table, staged, admission, verdict, schema)


def published(
    catalog: Catalog,
    partition: Audited,
    transaction: tuple[str, int],
    *,
    expected: Mapping[str, int | None] | None = None,
    replaced: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Make a partition part of its table in one commit; the version. See storage.table.Commit for the options.

    `transaction`: the application transaction that says it is done; the verdict follows it to its own table.

    Raises:
        CommitConflictError: a transaction is not as `expected`, or somebody else published it; the files are gone.
        StorageError: disk full, no permission, read-only; the files are gone.
    """
    app_id, number = transaction
    carried = Carried(_cursor(partition.table, app_id), number, partition.verdict)
    said = {"reclake.verdict_id": partition.admission.admitted.verdict_id} | carried.metadata | dict(metadata or {})
    try:
        partition.table.create(partition.schema)
    except BaseException:
        partition.discard()
        raise
    version = partition.table.publish(
        partition.parts,
        partition.admission,
        Commit({app_id: number}, None, said, replaced, expected or {}),
    )
    settle(catalog, carried, version)
    return version


def restored(catalog: Catalog, table: Table, transaction: tuple[str, int]) -> None:
    """Write the verdict of a partition whose process was killed right after it was published."""
    app_id, number = transaction
    recover(catalog, table, _cursor(table, app_id), number)


def _cursor(table: Table, app_id: str) -> str:
    """Sample sets number their days alike; their verdicts are in one table."""
    return f"{table.name}/{app_id}"


def _refuse(catalog: Catalog, table: Table, admission: gate.Admission, verdict: pa.Table, source: str) -> None:
    error = refusal(
        admission,
        "a partition fails its checks: it was discarded, and nothing of it can be read",
        where=f"{table.name}, {source}",
        expected="every check to pass that is more than a warning",
        hint=f"look at it; if it is right as it is, say so in the suite of {table.name}, then run the same again; "
        f"a check of reclake's own that fails is a defect or a damaged table: reclake doctor {catalog.root}; "
        f"more: reclake report quality {catalog.root}",
    )
    refuse(catalog, verdict, error)
