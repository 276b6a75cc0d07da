"""Many producers, each with small batches of rows, into one contract's table: gated apart, committed together.

Batches that wait are resolved, stamped and gated together, each with the answer that it would have alone. What must be
decided against the newest version, which event ids are there and what is sealed, is decided once a commit for all
batches that wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from types import TracebackType
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..quality import gate
from ..quality.findings import findings, told
from ..schemas import shapes
from ..schemas.errors import GateError, ReclakeError
from ..storage.catalog import SEAL, Catalog
from ..storage.group import Appended, Batch, GroupWriter
from ..storage.log import LogTail, Needed
from ..storage.table import Table
from . import resolving
from .carried import Carried, recover
from .duplicates import held
from .ingest import (
    happened,
    quarantine_rows,
    rejected_rows,
    stamp,
    suite_of_day,
    target_of,
)
from .private import Shield
from .run import Run
from .sources import SourceBatch


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one batch. read = admitted + quarantined + duplicates, in events; `version` holds the rows.

    `repeated`: the batch had been written before, nothing was done, and the counts are those of doing nothing: 0.
    """

    read: int
    admitted: int
    quarantined: int
    duplicates: int
    version: int
    repeated: bool


class _Facts(TypedDict):
    """What a verdict says beyond the gate's own answer: see gate.verdict_rows."""

    run_id: str
    at_us: int
    table: str
    source: str
    event_day: date | None
    read: int
    quarantined: int
    late: int


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch as its producer sent it, with what is personal in it hidden."""

    source: SourceBatch
    producer: str
    cursor: str
    number: int

    @property
    def frame(self) -> pl.DataFrame:
        return self.source.frame

    @property
    def height(self) -> int:
        return self.source.frame.height

    @property
    def transactions(self) -> Mapping[str, int]:
        return {self.cursor: self.number}

    @property
    def verdict_id(self) -> str:
        return f"{self.cursor}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gated(Batch):
    """A batch behind its gate. `sealed_us` is what it was stamped by; the counts are final once it is judged.

    `rejected`: rows for the quarantine; None where there are none.
    """

    rejected: gate.Admitted | None
    admission: gate.Admission
    facts: _Facts
    sealed_us: int | None
    verdict: pa.Table
    duplicates: int


class _SealMovedError(ReclakeError):
    """The batch was stamped before a seal: it must be stamped afresh."""


class _StoppedError(ReclakeError):
    """A critical check failed."""

    def __init__(self, gated: _Gated) -> None:
        super().__init__("a critical check failed")
        self.gated = gated


class EventWriter:
    """Appends rows of a contract from many threads, each batch exactly once. A context manager.

    A producer has a name of its own, appends one batch at a time and numbers them upwards; after a kill it repeats
    its last batch, which does nothing if it was written. `append` returns when the rows are durable (see
    storage.group.GroupWriter). Several processes may write to one lake, each with its own writer.
    """

    def __init__(self, catalog: Catalog, contract: str, *, run: Run | None = None) -> None:
        self._run = run or Run()
        self._target = target_of(catalog, catalog.contract(contract))
        self._shield = Shield.of(catalog, self._target.contract)
        self._target.table.create(self._target.stored)
        self._sealed_us = catalog.barrier_us(self._target.table)
        table, quarantine, verdicts = (
            catalog.table(name) for name in (self._target.table.name, "quarantine", "verdicts")
        )
        self._rows: GroupWriter[_Sent, _Gated] = GroupWriter(
            table, admit=self._admit, judge=self._judge, needed=self._needed(table)
        )
        self._quarantine: GroupWriter[Batch, Batch] = GroupWriter(quarantine, needed=self._needed(quarantine))
        self._verdicts: GroupWriter[Batch, Batch] = GroupWriter(verdicts, needed=self._needed(verdicts))
        self._started: set[str] = set()

    def append(self, rows: pl.DataFrame | pa.Table, *, producer: str, number: int) -> Written:
        """Gate and append one batch, in the columns a source of the contract would have.

        `number` counts the producer's batches, upwards; a batch that is not above the producer's last one is not
        written again.

        Raises:
            GateError: a critical check failed; nothing of the batch was written, and its verdict is stored.
            SourceError, MappingError: a required field's column is missing.
            StorageError: the writer is closed; disk full, no permission, read-only.
        """
        if number < 1:
            raise ReclakeError("not a batch number", where=producer, expected="1 or more", got=number)
        frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
        cursor = f"write/{self._target.contract.name}/{producer}"
        if producer not in self._started:
            table = self._target.table
            recover(self._target.catalog, table, cursor, table.transaction(cursor) or 0)
            self._started.add(producer)
        source = SourceBatch(frame, np.arange(frame.height), 0, frame.height)
        sent = _Sent(source if self._shield is None else self._shield.rows(source), producer, cursor, number)
        while True:
            try:
                done = self._rows.put(sent)
            except _SealMovedError:
                continue
            except _StoppedError as stop:
                raise self._stopped(stop.gated, cursor, number) from None
            return self._finish(done, cursor, number)

    def close(self) -> None:
        """Commit what was handed in, and stop."""
        for writer in (self._rows, self._quarantine, self._verdicts):
            writer.close()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _needed(self, table: Table) -> Callable[[], Needed]:
        return lambda: self._target.catalog.needed(table.name, self._run.now_us())

    def _admit(self, sent: Sequence[_Sent]) -> list[_Gated | Exception]:
        """Gate batches, and quarantine what is rejected before anything is written of them."""
        answers: list[_Gated | Exception] = []
        quarantined = []
        for one, gated in zip(sent, self._gate_all(sent), strict=True):
            answers.append(_StoppedError(gated) if gated.admission.verdict == "stop" else gated)
            if gated.rejected is not None:
                quarantined.append(self._quarantine.offer(Batch(gated.rejected, one.transactions)))
        for written in quarantined:
            written.result()
        return answers

    def _gate_all(self, sent: Sequence[_Sent]) -> list[_Gated]:
        """Batches of one shape together; a mapping's SQL is given each batch alone."""
        alike: dict[object, list[int]] = {}
        for i, one in enumerate(sent):
            mapped = self._target.contract.mapping is not None
            alike.setdefault(i if mapped else tuple(one.frame.schema.items()), []).append(i)
        answers: dict[int, _Gated] = {}
        for places in alike.values():
            gated = self._gate_alike([sent[i] for i in places])
            answers.update(zip(places, gated, strict=True))
        return [answers[i] for i in range(len(sent))]

    def _gate_alike(self, sent: Sequence[_Sent]) -> list[_Gated]:
        """Resolve, stamp and gate; the verdicts as they are if nothing turns out to be a duplicate."""
        target, sealed_us, arrival_us = self._target, self._sealed_us, self._run.now_us()
        source = _whole([one.source for one in sent])
        ends = np.cumsum([one.frame.height for one in sent])
        resolved = resolving.resolve(source.frame, target.contract)
        if len(sent) > 1 and target.suite.learning:  # the bounds are those of a batch's day
            return [self._gate_alike([one])[0] for one in sent]
        stamped = stamp(
            resolved.rows.drop("_row", "_emit"),
            target.contract,
            arrival_us=arrival_us,
            sealed_us=sealed_us,
            buckets=target.catalog.buckets,
        )
        of_batch = np.searchsorted(ends, resolved.rows["_row"].to_numpy(), side="right")
        counts = np.bincount(of_batch, minlength=len(sent))
        refused = np.bincount(
            np.searchsorted(ends, resolved.rejected["_row"].to_numpy(), side="right"), minlength=len(sent)
        ) + [len(one.source.undecodable) for one in sent]
        rows = stamped.select(target.schema.names).to_arrow()
        starts = np.cumsum(counts) - counts
        admissions = gate.admit_each(
            [rows.slice(start, count) for start, count in zip(starts, counts, strict=True)],
            suite_of_day(target, stamped) if target.suite.learning else target.suite,
            target.schema,
            contract=target.contract.name,
            contract_version=target.contract.version,
            verdict_ids=[one.verdict_id for one in sent],
            quarantine_limit=target.contract.quarantine_limit,
            quarantine_limit_rows=target.contract.quarantine_limit_rows,
            refused_before=refused.tolist(),
            absent=resolved.absent,
        )
        told = _days_and_lateness(stamped, of_batch, happened(target.contract))
        rejected = self._for_quarantine(sent, source, resolved, admissions, counts, arrival_us)
        gated = []
        for i, (one, judged) in enumerate(zip(sent, admissions, strict=True)):
            admission = replace(judged, admitted=judged.admitted.stored_as(target.stored))
            event_day, late = told.get(i, (None, 0))
            facts: _Facts = {
                "run_id": self._run.id,
                "at_us": arrival_us,
                "table": target.table.name,
                "source": one.producer,
                "event_day": event_day,
                "read": int(counts[i] + refused[i]),
                "quarantined": int(refused[i]) + admission.rejected.height,
                "late": late,
            }
            gated.append(_judged(admission, admission.admitted, facts, one.transactions, sealed_us, rejected.get(i)))
        return gated

    def _for_quarantine(
        self,
        sent: Sequence[_Sent],
        source: SourceBatch,
        resolved: resolving.Resolved,
        admissions: Sequence[gate.Admission],
        counts: npt.NDArray[np.int64],
        at_us: int,
    ) -> dict[int, gate.Admitted]:
        """For each batch that has some, and is not stopped, its rejected events as rows of the quarantine.

        `source` and `resolved` are those of all batches, in which the gate saw `counts` rows of each.
        """
        starts = (np.cumsum(counts) - counts).tolist()
        at_gate = [
            one.rejected.with_columns(pl.col("index") + start) for one, start in zip(admissions, starts, strict=True)
        ]
        events = rejected_rows(source, resolved, pl.concat(at_gate))
        if not events.height:
            return {}
        ends = np.cumsum([one.source.end_row for one in sent])
        of_batch = np.searchsorted(ends, events["row"].to_numpy(), side="right")
        going = np.array([one.verdict != "stop" for one in admissions])[of_batch]
        events, of_batch = events.filter(going), of_batch[going]
        names = pl.DataFrame(
            {"source": [one.producer for one in sent], "key": [f"{one.cursor}/{one.number}" for one in sent]}
        )[of_batch]
        offsets = np.append(0, ends[:-1])[of_batch]
        rows = quarantine_rows(
            self._target,
            events.with_columns(pl.col("row") - pl.Series(offsets)),
            source_name=names["source"],
            key=names["key"],
            at_us=at_us,
            run=self._run,
        )
        sizes = np.bincount(of_batch, minlength=len(sent)).tolist()
        return {i: part for i, part in enumerate(rows.parts(sizes)) if sizes[i]}

    def _judge(self, batches: Sequence[_Gated], tail: LogTail) -> Sequence[_Gated | Exception]:
        """Leave out events that are there, or in an earlier batch of the group; send back what a seal overtook."""
        events = self._target.contract.kind == "events"
        # The tail says the same of its own table, and costs nothing.
        self._sealed_us = tail.transaction(SEAL) if events else self._target.catalog.barrier_us(self._target.table)
        current = [batch for batch in batches if batch.sealed_us == self._sealed_us]
        masks = self._fresh(current)
        answers: list[_Gated | Exception] = []
        for batch in batches:
            if batch.sealed_us != self._sealed_us:
                answers.append(_SealMovedError("a seal came between"))
                continue
            mask = next(masks)
            answers.append(batch if mask.all() else _without(batch, mask))
        return answers

    def _fresh(self, batches: Sequence[_Gated]) -> Iterator[pl.Series]:
        """For each batch, which of its rows are the first with their event_id; an item is new each time."""
        if self._target.contract.kind != "events":
            yield from (pl.repeat(True, batch.admitted.rows.num_rows, eager=True) for batch in batches)
            return
        ids = pl.concat(
            [pl.Series("event_id", [], dtype=pl.String)]
            + [pl.Series("event_id", batch.admitted.rows["event_id"]) for batch in batches]
        )
        # What landed after the tail's version counts too: the commit must follow that version, or is judged afresh.
        fresh = ids.is_first_distinct() & ~held(self._target.catalog, self._target.table.name, ids)
        start = 0
        for batch in batches:
            rows = batch.admitted.rows.num_rows
            yield fresh.slice(start, rows)
            start += rows

    def _finish(self, done: Appended[_Gated], cursor: str, number: int) -> Written:
        batch = done.batch
        if batch is None:
            return Written(0, 0, 0, 0, done.version, True)
        verdict = gate.versioned(batch.verdict, done.version)
        self._verdicts.put(Batch(gate.record(verdict, shapes.VERDICTS, name="verdicts"), {cursor: number}))
        return Written(
            read=batch.facts["read"],
            admitted=batch.admitted.rows.num_rows,
            quarantined=batch.facts["quarantined"],
            duplicates=batch.duplicates,
            version=done.version,
            repeated=False,
        )

    def _stopped(self, gated: _Gated, cursor: str, number: int) -> GateError:
        self._verdicts.put(Batch(gate.record(gated.verdict, shapes.VERDICTS, name="verdicts")))
        return GateError(
            "a critical check failed: nothing of this batch was written",
            where=f"{cursor}, batch {number}",
            expected="every critical check to pass",
            got=gated.admission.stop_reason,
            hint="mend the rows or the contract, then append the batch again under the same number; more: "
            f"reclake report quality {self._target.catalog.root}",
            **told(findings(gated.admission)),
        )


def _whole(sources: Sequence[SourceBatch]) -> SourceBatch:
    """Batches of the same columns as one whose rows are theirs, one batch's after the other's."""
    if len(sources) == 1:
        return sources[0]
    ends = np.cumsum([source.end_row for source in sources]).tolist()
    starts = [0, *ends[:-1]]
    return SourceBatch(
        frame=pl.concat([source.frame for source in sources], rechunk=True),
        rows=np.concatenate([source.rows + start for source, start in zip(sources, starts, strict=True)]),
        first_row=0,
        end_row=ends[-1],
        undecodable=tuple(
            replace(bad, row=bad.row + start)
            for source, start in zip(sources, starts, strict=True)
            for bad in source.undecodable
        ),
    )


def _without(batch: _Gated, fresh: pl.Series) -> _Gated:
    kept = batch.admitted.keep(fresh)
    return _judged(batch.admission, kept, batch.facts, batch.transactions, batch.sealed_us, batch.rejected)


def _days_and_lateness(
    stamped: pl.DataFrame, of_batch: npt.NDArray[np.int64], column: str
) -> dict[int, tuple[date | None, int]]:
    """Kernel: for each batch, the UTC day that most rows happened on (the first of equals) and how many came late."""
    days = (
        stamped.select(
            pl.Series("batch", of_batch),
            pl.col(column).dt.date().alias("day"),
            (pl.col("known_at") - pl.col(column) >= pl.duration(days=1)).alias("late"),
        )
        .group_by("batch", "day")
        .agg(pl.len(), pl.col("late").sum())
        .sort(["batch", "len", "day"], descending=[False, True, False])
        .group_by("batch", maintain_order=True)
        .agg(pl.col("day").first(), pl.col("late").sum())
    )
    return {batch: (day, late) for batch, day, late in days.iter_rows()}


def _judged(
    admission: gate.Admission,
    kept: gate.Admitted,
    facts: _Facts,
    transactions: Mapping[str, int],
    sealed_us: int | None,
    rejected: gate.Admitted | None,
) -> _Gated:
    """A batch with what is left of its rows, and the verdict that says so."""
    duplicates = admission.admitted.rows.num_rows - kept.rows.num_rows
    verdict = gate.verdict_rows(admission, admitted=kept.rows.num_rows, duplicates=duplicates, **facts)
    ((cursor, number),) = transactions.items()
    return _Gated(
        kept,
        transactions,
        Carried(cursor, number, verdict).metadata,
        rejected=rejected,
        admission=admission,
        facts=facts,
        sealed_us=sealed_us,
        verdict=verdict,
        duplicates=duplicates,
    )
