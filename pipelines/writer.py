"""Many producers, each with small batches of rows, into one contract's table: gated apart, committed together.

Batches that wait are resolved, stamped and gated together, each with the answer that it would have alone. What must be
decided against the newest version, which event ids are there and what is sealed, is decided once a commit for all
batches that wait for it.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..quality import gate
from ..quality.verdicts import rows_of, uncommitted, versioned
from ..schemas import shapes
from ..schemas.errors import GateError, ReclakeError, SourceError, StorageError
from ..schemas.failures import POLARS_FAILURES
from ..storage.catalog import SEAL, Catalog
from ..storage.group import Appended, Batch, GroupWriter
from ..storage.log import LogTail, Needed
from ..storage.table import Table
from .carried import recover
from .duplicates import Held, fingerprints
from .gating import Gated, Sent, gate_all, judged_each
from .ingest import target_of
from .private import Shield
from .refusal import refusal
from .run import Run
from .sources import SourceBatch

_NO_PRINTS = fingerprints(pl.Series([], dtype=pl.String))


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one batch. read = admitted + quarantined + duplicates, in events; `version` holds the rows.

    `repeated`: the batch had been written before, nothing was done, and the counts are those of doing nothing: 0.
    `ignored_columns`: columns that the contract does not have. It is the contract of when the writer was made.
    """

    read: int
    admitted: int
    quarantined: int
    duplicates: int
    version: int
    repeated: bool
    ignored_columns: tuple[str, ...] = ()


class _SealMovedError(ReclakeError):
    """The batch was stamped before a seal: it must be stamped afresh."""


class _StoppedError(ReclakeError):
    """A critical check failed."""

    def __init__(self, gated: Gated) -> None:
        super().__init__("a critical check failed")
        self.gated = gated


@dataclass(frozen=True, slots=True)
class _Behind:
    """Verdicts that are on their way to their table. Their commits hold them too."""

    rows: pa.Table
    storing: Future[Appended[Batch]]

    @property
    def failed(self) -> bool:
        return self.storing.done() and self.storing.exception() is not None


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
        self._rows: GroupWriter[Sent, Gated] = GroupWriter(
            table,
            admit=self._admit,
            judge=self._judge,
            committed=self._committed,
            durable=self._durable,
            needed=self._needed(table),
        )
        self._quarantine: GroupWriter[Batch, Batch] = GroupWriter(quarantine, needed=self._needed(quarantine))
        self._verdicts: GroupWriter[Batch, Batch] = GroupWriter(verdicts, needed=self._needed(verdicts))
        self._held = Held(catalog, table.name)
        self._fresh_prints = _NO_PRINTS  # of what was judged last
        self._started: set[str] = set()
        self._behind: dict[str, _Behind] = {}  # of each producer its last

    def append(self, rows: pl.DataFrame | pa.Table, *, producer: str, number: int) -> Written:
        """Gate and append one batch, in the columns a source of the contract would have.

        `number` counts the producer's batches, upwards; a batch that is not above the producer's last one is not
        written again.

        Raises:
            GateError: a critical check failed; nothing of the batch was written, and its verdict is stored.
            SourceError, MappingError: a required field's column is missing, or `rows` are no table.
            StorageError: the writer is closed, or of another process; disk full, no permission, read-only.
        """
        self._rows.check_process()
        producer = _name(producer, self._target.contract.name)
        number = _number(number, producer)
        frame = _frame(rows, f"{producer}, batch {number}")
        cursor = f"write/{self._target.contract.name}/{producer}"
        behind = self._behind.get(cursor)
        if producer not in self._started or (behind is not None and behind.failed):
            table = self._target.table
            recover(self._target.catalog, table, cursor, table.transaction(cursor) or 0)
            self._started.add(producer)
            self._behind.pop(cursor, None)
        source = SourceBatch(frame, np.arange(frame.height), 0, frame.height)
        sent = Sent(source if self._shield is None else self._shield.rows(source), producer, cursor, number)
        while True:
            try:
                done = self._rows.put(sent)
            except _SealMovedError:
                continue
            except _StoppedError as stop:
                raise self._stopped(stop.gated, cursor, number) from None
            except Exception:
                self._started.discard(producer)  # it may have been committed all the same
                raise
            return _written(done)

    def close(self) -> None:
        """Commit what was handed in, store the verdicts of it, and stop.

        Raises:
            StorageError: verdicts could not be stored. Their commits hold them: who appends next under the same
                producers' names stores them first.
        """
        for writer in (self._rows, self._quarantine, self._verdicts):
            writer.close()
        with contextlib.suppress(StorageError):  # an index is a cache
            self._held.close()
        failed = {cursor: behind.storing.exception() for cursor, behind in self._behind.items() if behind.failed}
        if failed:
            raise StorageError(
                "rows are committed, and their verdicts could not be stored",
                where=", ".join(sorted(failed)),
                got=next(iter(failed.values())),
                hint="make room, then append again under the same producers' names: that stores the verdicts first",
            )

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise StorageError(
            "a writer cannot be handed to another process",
            where=self._target.table.name,
            hint="hand the lake over, and make a writer in each process: lake.writer(CONTRACT)",
        )

    def _needed(self, table: Table) -> Callable[[], Needed]:
        return lambda: self._target.catalog.needed(table.name, self._run.now_us())

    def _admit(self, sent: Sequence[Sent]) -> list[Gated | Exception]:
        """Gate batches, and quarantine what is rejected before anything is written of them."""
        answers: list[Gated | Exception] = []
        quarantined = []
        every = gate_all(self._target, sent, sealed_us=self._sealed_us, run=self._run)
        for one, gated in zip(sent, every, strict=True):
            answers.append(_StoppedError(gated) if gated.admission.verdict == "stop" else gated)
            if gated.rejected is not None:
                quarantined.append(self._quarantine.offer(Batch(gated.rejected, one.transactions)))
        for written in quarantined:
            written.result()
        return answers

    def _judge(self, batches: Sequence[Gated], tail: LogTail) -> Sequence[Gated | Exception]:
        """Leave out events that are there, or in an earlier batch of the group; send back what a seal overtook."""
        events = self._target.contract.kind == "events"
        # The tail says the same of its own table, and costs nothing.
        self._sealed_us = tail.transaction(SEAL) if events else self._target.catalog.barrier_us(self._target.table)
        current = [batch for batch in batches if batch.sealed_us == self._sealed_us]
        judged = iter(judged_each(current, self._fresh(current, tail.version)))
        return [
            next(judged) if batch.sealed_us == self._sealed_us else _SealMovedError("a seal came between")
            for batch in batches
        ]

    def _fresh(self, batches: Sequence[Gated], version: int) -> list[npt.NDArray[np.bool_]]:
        """For each batch, which of its rows are the first with their event_id; an item is new each time."""
        heights = [batch.height for batch in batches]
        self._fresh_prints = _NO_PRINTS
        if self._target.contract.kind != "events" or not sum(heights):
            return [np.ones(height, dtype=np.bool_) for height in heights]
        chunks = [chunk for batch in batches for chunk in batch.admitted.rows["event_id"].chunks]
        ids = pl.Series(pa.chunked_array(chunks, chunks[0].type)).rechunk()
        prints = fingerprints(ids)
        distinct = pl.Series(prints[0]).is_first_distinct()
        if not distinct.all():
            distinct = ids.is_first_distinct()
        # What landed after the tail's version counts too: the commit must follow that version, or is judged afresh.
        fresh = distinct.to_numpy() & ~self._held(prints, version)
        self._fresh_prints = prints if fresh.all() else (prints[0][fresh], prints[1][fresh])
        return np.split(fresh, np.cumsum(heights)[:-1])

    def _committed(self, version: int, _: Sequence[Gated]) -> None:
        if self._target.contract.kind == "events":
            self._held.add(version, self._fresh_prints)

    def _durable(self, version: int, batches: Sequence[Gated]) -> None:
        """Store a commit's verdicts, and let nobody wait: the commit holds them too (see `recover`)."""
        tables = []
        for batch in batches:
            (cursor,) = batch.transactions
            assert batch.verdict is not None
            before, mine = self._behind.get(cursor), versioned(batch.verdict, version)
            # A producer's verdicts are stored in its order: what could not be stored goes with the next one.
            failed = before is not None and before.storing.exception() is not None
            tables.append(pa.concat_tables([before.rows, mine]) if before is not None and failed else mine)
        rows = gate.record(pa.concat_tables(tables).combine_chunks(), shapes.VERDICTS, name="verdicts")
        parts = rows.parts([table.num_rows for table in tables])
        for batch, table, part in zip(batches, tables, parts, strict=True):
            (cursor,) = batch.transactions
            self._behind[cursor] = _Behind(table, self._verdicts.offer(Batch(part, batch.transactions)))

    def _stopped(self, gated: Gated, cursor: str, number: int) -> GateError:
        self._verdicts.put(Batch(gate.record(uncommitted(rows_of([gated.account])), shapes.VERDICTS, name="verdicts")))
        return refusal(
            gated.admission,
            "stopped at the gate: nothing of this batch was written",
            where=f"{cursor}, batch {number}",
            hint="mend the rows or the contract, then append the batch again under the same number; more: "
            f"reclake report quality {self._target.catalog.root}",
        )


# What a commit says is there for good: a name or number that the Delta log cannot hold would shut the table for ever.


def _name(producer: str, contract: str) -> str:
    if not isinstance(producer, str) or not producer or not _is_unicode(producer):
        raise ReclakeError(
            "not a producer's name",
            where=f"contract {contract}",
            expected="a text that is not empty",
            got=repr(producer)[:80],
            hint="give each producer a name of its own, and the same after a restart",
        )
    return producer


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(number: int, producer: str) -> int:
    try:
        known = int(operator.index(number))
    except TypeError:
        known = 0
    if not 1 <= known < 2**63:
        raise ReclakeError(
            "not a batch number",
            where=f"producer {producer}",
            expected="a whole number from 1",
            got=repr(number)[:80],
            hint="count each producer's batches upwards",
        ) from None
    return known


def _frame(rows: pl.DataFrame | pa.Table, where: str) -> pl.DataFrame:
    if isinstance(rows, pl.DataFrame):
        return rows
    try:
        return pl.DataFrame(rows)
    except (*POLARS_FAILURES, pa.ArrowException, TypeError, ValueError) as error:
        raise SourceError(
            "rows that are no table",
            where=where,
            expected="a Polars DataFrame or an Arrow table",
            got=f"{type(rows).__name__}: {str(error).splitlines()[0]}",
            hint="make a table of them, each column with a name of its own",
        ) from None


def _written(done: Appended[Gated]) -> Written:
    if done.batch is None:
        return Written(0, 0, 0, 0, done.version, True)
    account = done.batch.account
    return Written(
        account.read,
        account.admitted,
        account.quarantined,
        account.duplicates,
        done.version,
        repeated=False,
        ignored_columns=done.batch.ignored,
    )
