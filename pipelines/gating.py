"""Producers' batches on their way through the gate: resolved, stamped, judged together, each as it would be alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..quality import gate
from ..quality.verdicts import Account, rows_of
from ..storage.group import Batch
from . import resolving
from .carried import carried_each
from .ingest import Target, happened, quarantine_rows, rejected_rows, stamp, suite_of_day
from .run import Run
from .sources import SourceBatch


@dataclass(frozen=True, slots=True)
class Sent:
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
class Gated(Batch):
    """A batch behind its gate.

    `sealed_us`: what it was stamped by. `rejected`: its rows for the quarantine, None where there are none. `account`
    counts no duplicates until the batch is judged, and then `verdict` has its rows. `ignored`: columns nobody reads.
    """

    sealed_us: int | None
    rejected: gate.Admitted | None
    admission: gate.Admission
    account: Account
    ignored: tuple[str, ...]
    verdict: pa.Table | None = None


def gate_all(target: Target, sent: Sequence[Sent], *, sealed_us: int | None, run: Run) -> list[Gated]:
    """Batches of one shape together; a mapping's SQL is given each batch alone."""
    alike: dict[object, list[int]] = {}
    for i, one in enumerate(sent):
        shape = i if target.contract.mapping is not None else tuple(one.frame.schema.items())
        alike.setdefault(shape, []).append(i)
    answers: dict[int, Gated] = {}
    for places in alike.values():
        group = _Group(target, [sent[i] for i in places], run.now_us(), run)
        answers.update(zip(places, group.gated(sealed_us), strict=True))
    return [answers[i] for i in range(len(sent))]


def judged_each(batches: Sequence[Gated], masks: Sequence[npt.NDArray[np.bool_]]) -> list[Gated]:
    """Kernel: batches with the rows that are left of each, and the verdicts that say so."""
    if not batches:
        return []
    kept = gate.keep_each([batch.admitted for batch in batches], masks)
    accounts = [
        replace(
            batch.account,
            admitted=left.rows.num_rows,
            duplicates=batch.admitted.rows.num_rows - left.rows.num_rows,
        )
        for batch, left in zip(batches, kept, strict=True)
    ]
    rows = rows_of(accounts)
    sizes = [1 + len(account.checks) for account in accounts]
    cursors = [next(iter(batch.transactions.items())) for batch in batches]
    starts = (np.cumsum(sizes) - sizes).tolist()
    return [
        replace(
            batch,
            admitted=left,
            metadata=said,
            account=account,
            verdict=rows.slice(start, size),
        )
        for batch, left, said, account, start, size in zip(
            batches, kept, carried_each(rows, sizes, cursors), accounts, starts, sizes, strict=True
        )
    ]


class _Group:
    """Batches of the same columns. Their events are resolved as those of one source, one batch's after the other's."""

    def __init__(self, target: Target, sent: Sequence[Sent], arrival_us: int, run: Run) -> None:
        self._target = target
        self._sent = sent
        self._arrival_us = arrival_us
        self._run = run
        self._source = _whole([one.source for one in sent])
        self._resolved = resolving.resolve(self._source.frame, target.contract)
        ends = np.cumsum([one.height for one in sent])
        self._of_batch = np.searchsorted(ends, self._resolved.rows["_row"].to_numpy(), side="right")
        self._sizes = np.bincount(self._of_batch, minlength=len(sent))
        refused = np.searchsorted(ends, self._resolved.rejected["_row"].to_numpy(), side="right")
        undecodable = np.array([len(one.source.undecodable) for one in sent])
        self._refused = np.bincount(refused, minlength=len(sent)) + undecodable

    def gated(self, sealed_us: int | None) -> list[Gated]:
        """The batches in the order they were sent in."""
        stamped = stamp(
            self._resolved.rows.drop("_row", "_emit"),
            self._target.contract,
            arrival_us=self._arrival_us,
            sealed_us=sealed_us,
            buckets=self._target.catalog.buckets,
        )
        admissions = self._admissions(stamped)
        rejected = self._for_quarantine(admissions)
        told = _days_and_lateness(stamped, self._of_batch, happened(self._target.contract))
        stored = gate.stored_each([one.admitted for one in admissions], self._target.stored)
        gated = []
        for i, (one, admission, rows) in enumerate(zip(self._sent, admissions, stored, strict=True)):
            event_day, late = told.get(i, (None, 0))
            account = Account(
                verdict_id=one.verdict_id,
                run_id=self._run.id,
                at_us=self._arrival_us,
                table=self._target.table.name,
                contract=self._target.contract.name,
                contract_version=self._target.contract.version,
                source=one.producer,
                event_day=event_day,
                verdict=admission.verdict,
                stop_reason=admission.stop_reason,
                read=int(self._sizes[i] + self._refused[i]),
                admitted=rows.rows.num_rows,
                quarantined=int(self._refused[i]) + admission.rejected.height,
                duplicates=0,
                late=late,
                checks=admission.checks,
            )
            gated.append(
                Gated(
                    rows,
                    one.transactions,
                    sealed_us=sealed_us,
                    rejected=rejected.get(i),
                    admission=admission,
                    account=account,
                    ignored=self._resolved.ignored,
                )
            )
        return gated

    def _admissions(self, stamped: pl.DataFrame) -> list[gate.Admission]:
        target = self._target
        rows, sizes = stamped.select(target.schema.names).to_arrow(), self._sizes.tolist()
        names, refused = [one.verdict_id for one in self._sent], self._refused.tolist()
        parts = [(target.suite, slice(0, len(sizes)))]
        if target.suite.learning:  # the bounds are those of a batch's day
            starts = (np.cumsum(self._sizes) - self._sizes).tolist()
            days = [stamped.slice(start, size) for start, size in zip(starts, sizes, strict=True)]
            parts = [(suite_of_day(target, day), slice(i, i + 1)) for i, day in enumerate(days)]
        admissions, start = [], 0
        for suite, some in parts:
            size = sum(sizes[some])
            admissions += gate.admit_each(
                rows.slice(start, size),
                sizes[some],
                suite,
                target.schema,
                contract=target.contract.name,
                contract_version=target.contract.version,
                verdict_ids=names[some],
                quarantine_limit=target.contract.quarantine_limit,
                quarantine_limit_rows=target.contract.quarantine_limit_rows,
                refused_before=refused[some],
                absent=self._resolved.absent,
            )
            start += size
        return admissions

    def _for_quarantine(self, admissions: Sequence[gate.Admission]) -> dict[int, gate.Admitted]:
        """For each batch that has some, and is not stopped, its rejected events as rows of the quarantine."""
        starts = (np.cumsum(self._sizes) - self._sizes).tolist()
        some = [(one.rejected, start) for one, start in zip(admissions, starts, strict=True) if one.rejected.height]
        if not some and not self._refused.any():
            return {}
        empty = admissions[0].rejected.clear()
        at_gate = pl.concat([empty, *(rejected.with_columns(rejected["index"] + start) for rejected, start in some)])
        events = rejected_rows(self._source, self._resolved, at_gate)
        ends = np.cumsum([one.source.end_row for one in self._sent])
        of_batch = np.searchsorted(ends, events["row"].to_numpy(), side="right")
        going = np.array([one.verdict != "stop" for one in admissions])[of_batch]
        events, of_batch = events.filter(going), of_batch[going]
        sent = pl.DataFrame(
            {
                "source": [one.producer for one in self._sent],
                "key": [f"{one.cursor}/{one.number}" for one in self._sent],
                "start": np.append(0, ends)[:-1],
            }
        )[of_batch]
        rows = quarantine_rows(
            self._target,
            events.with_columns(events["row"] - sent["start"]),
            source_name=sent["source"],
            key=sent["key"],
            at_us=self._arrival_us,
            run=self._run,
        )
        sizes = np.bincount(of_batch, minlength=len(self._sent)).tolist()
        return {i: part for i, part in enumerate(rows.parts(sizes)) if sizes[i]}


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
