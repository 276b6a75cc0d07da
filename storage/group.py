"""Many producers, few commits: batches that wait while a commit is under way become one file and one commit.

Made for many threads with small batches; several processes, each with its own writer, append to one table at once.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, TypeVar, cast

import pyarrow as pa

from ..quality import gate
from ..quality.gate import Admitted
from ..schemas.errors import CommitConflictError, StorageError, UnknownOutcomeError
from . import compaction, log
from .gathering import Asked, Gathering
from .keeper import Keeper
from .table import Staged, Table

GROUP_ROWS = 500_000  # a group is closed at this many rows: what is sorted and written at once
_ATTEMPTS = 10_000  # lost races in a row: each is another writer's commit, so there is always progress somewhere
_BACKOFF_S = 0.002


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows and what travels with them in their commit: application transactions, and metadata under unique keys."""

    admitted: Admitted
    transactions: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.admitted.rows.num_rows)


class Offered(Protocol):
    """What a producer hands in: a batch, or what `admit` makes one of."""

    @property
    def transactions(self) -> Mapping[str, int]:
        """Of its commit."""

    @property
    def height(self) -> int:
        """Rows."""


A = TypeVar("A", bound=Offered)
B = TypeVar("B", bound=Batch)


@dataclass(frozen=True, slots=True)
class Appended(Generic[B]):
    """What became of a batch: the version that holds it, and the batch as it was written.

    None was written where its transactions were committed before.
    """

    version: int
    batch: B | None


# Makes batches of what was offered, in its order: a batch, or the error its producer shall see. Called once a group:
# what costs much a call and little a row costs a producer little here.
Admit = Callable[[Sequence[A]], "Sequence[B | Exception]"]

# Judges the batches of a group as of the version the log was followed to, in their order: the batch as it may be
# written, or the error its producer shall see. Their commit follows that version, or they are judged afresh.
Judge = Callable[[Sequence[B], log.LogTail], "Sequence[B | Exception]"]

# Told of a version that a group became, and of its batches as they were written.
Told = Callable[[int, "Sequence[B]"], None]

_Answers = list[tuple["Future[Appended[B]]", "Appended[B] | Exception"]]


class GroupWriter(Generic[A, B]):
    """Appends to one table from many threads. A context manager; closing waits for what was handed in.

    An append returns when its rows are *durable* (data file, log entry and their folders flushed to the disk with
    fsync: they survive a power cut as far as the disk keeps its word) and committed exactly once. One batch's error
    is its own. Batches whose transactions are in the table already are not written again: after a kill a producer
    repeats its last append and nothing is doubled. Producers that use one application id take turns.

    With `admit` producers offer what is not admitted yet, and all that waits goes through the gate at once.

    A thread beside it keeps the table in order: see `Keeper`.
    """

    def __init__(
        self,
        table: Table,
        *,
        admit: Admit[A, B] | None = None,
        judge: Judge[B] | None = None,
        committed: Told[B] | None = None,
        durable: Told[B] | None = None,
        needed: Callable[[], log.Needed] = log.Needed,
    ) -> None:
        """The table is made by its first append if it is not there.

        Args:
            committed: told of a commit before anything is judged for the next one, on the same thread.
            durable: told when a commit is durable, in the order of versions, before its producers are answered.
            needed: what log clean-up leaves.
        """
        self._table = table
        self._admit = admit
        self._judge = judge
        self._committed = committed
        self._durable = durable
        self._keeper = Keeper(table, needed)
        self._waiting: Gathering[A, Appended[B]] = Gathering(table.name)
        self._shaped: list[pa.Schema] = []
        self._named = set[Path]()
        self._tail: log.LogTail | None = None
        self._settling: queue.SimpleQueue[_Answers[B] | None] = queue.SimpleQueue()
        self._committing = self._start(self._run)
        self._answering = self._start(self._settle)

    def put(self, batch: A) -> Appended[B]:
        """Append a batch; returns when it is durable and committed.

        Raises:
            CommitConflictError: some of its transactions were committed before, and some were not.
            StorageError: the writer is closed; disk full, no permission, read-only; a column of another type.
        """
        return self.offer(batch).result()

    def check_process(self) -> None:
        """See Gathering.check_process."""
        self._waiting.check_process()

    def offer(self, batch: A) -> Future[Appended[B]]:
        """Hand a batch in, for who has several; the future is what `put` returns or raises.

        Raises:
            StorageError: the writer is closed, or of another process.
        """
        return self._waiting.ask(batch)

    def close(self) -> None:
        """Commit what was handed in, finish the upkeep that is due, and stop."""
        self._waiting.close()
        self._committing.join()
        self._settling.put(None)
        self._answering.join()
        self._keeper.close()

    def __enter__(self) -> GroupWriter[A, B]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"reclake-{self._table.name}", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while group := self._waiting.take(_of_one_commit):
            self._write(group)

    def _settle(self) -> None:
        """Answer producers, when the commits that hold their rows are durable: one flush for all that came since."""
        while (answers := self._settling.get()) is not None:
            ready = [answers]
            while not self._settling.empty():
                more = self._settling.get()
                if more is None:
                    self._settling.put(None)
                    break
                ready.append(more)
            lost: StorageError | None = None
            try:
                log.settle(self._table.root)
            except OSError as error:
                lost = StorageError("committed, but the disk does not confirm it", where=self._table.name, got=error)
            for group in ready:
                failed = lost or self._told(group)
                for result, outcome in group:
                    if isinstance(outcome, Exception):
                        result.set_exception(outcome)
                    elif failed is not None:
                        result.set_exception(failed)
                    else:
                        result.set_result(outcome)

    def _told(self, group: _Answers[B]) -> Exception | None:
        """Tell who wants to know what is durable; what goes wrong with that, all of the group are told."""
        landed = [outcome for _, outcome in group if isinstance(outcome, Appended)]
        batches = [outcome.batch for outcome in landed if outcome.batch is not None]
        if self._durable is None or not batches:
            return None
        try:
            self._durable(next(outcome.version for outcome in landed if outcome.batch is not None), batches)
        except Exception as error:  # noqa: BLE001 - every producer of the group gets it
            return error
        return None

    def _write(self, group: Asked[A, Appended[B]]) -> None:
        """Commit a group. Where that fails before anything was committed, each batch is tried by itself."""
        attempt = _Attempt(self, [batch for batch, _ in group])
        try:
            outcomes = attempt.run()
        except Exception as error:  # noqa: BLE001 - every producer of the group gets it
            if len(group) > 1 and not attempt.committed:
                for one in group:
                    self._write([one])
                return
            outcomes = [error] * len(group)
        self._settling.put([(result, outcome) for (_, result), outcome in zip(group, outcomes, strict=True)])

    def shape(self, batch: B) -> None:
        """Make the table, or add the columns that these rows bring."""
        schema = batch.admitted.rows.schema
        if schema not in self._shaped:
            self._table.create(schema)
            self._shaped.append(schema)

    def stage(self, batches: Sequence[B]) -> tuple[log.Draft, list[Staged]]:
        """A durable log entry of the batches' rows, and its files: for each partition one, if they have one schema."""
        alike: list[list[Admitted]] = []
        transactions: dict[str, int] = {}
        metadata: dict[str, str] = {}
        for batch in batches:
            schema = batch.admitted.rows.schema
            parts = next((parts for parts in alike if parts[0].rows.schema == schema), None)
            if parts is None:
                alike.append(parts := [])
            parts.append(batch.admitted)
            transactions |= batch.transactions
            metadata |= batch.metadata
        staged: list[Staged] = []
        try:
            for parts in alike:
                joined = gate.join(parts)
                passing = compaction.passes(joined.rows)
                staged.append(self._table.stage(joined, self._table.layout.uncut, passing=passing))
                if passing and staged[-1].files:
                    self._keeper.written.put([file.path for file in staged[-1].files], joined.rows)
            files = [file for part in staged for file in part.files]
            log.make_durable(self._table.root, files, self._named)
            actions = log.commit_actions(files, transactions=transactions, metadata=metadata)
            return log.Draft(self._table.root, actions), staged
        except BaseException:
            self.discard(staged)
            raise

    def discard(self, staged: Sequence[Staged]) -> None:
        """Take files away that no commit names: left behind they would hold rows that nobody can find to erase."""
        self._table.discard(staged)

    def advance(self) -> log.LogTail:
        """The log, followed to its end."""
        if self._tail is None:
            self._tail = log.LogTail(self._table.root)
            return self._tail
        self._tail.advance()
        return self._tail

    @property
    def exists(self) -> bool:
        """Whether there is a table to follow."""
        return self._tail is not None or self._table.exists

    def admitted(self, offered: Sequence[A]) -> Sequence[B | Exception]:
        """What is to be written of what was offered."""
        return cast("Sequence[B]", offered) if self._admit is None or not offered else self._admit(offered)

    def judged(self, batches: Sequence[B], tail: log.LogTail) -> Sequence[B | Exception]:
        """What the judge says of batches as of the tail's version."""
        return batches if self._judge is None or not batches else self._judge(batches, tail)

    def committed(self, version: int, batches: Sequence[B]) -> None:
        """Tell the keeper, and who else wants to know."""
        self._keeper.committed(version)
        if self._committed is not None:
            self._committed(version, batches)


class _Attempt(Generic[A, B]):
    """One group on its way into the table, however many races that takes."""

    def __init__(self, writer: GroupWriter[A, B], offered: list[A]) -> None:
        self._writer = writer
        self._offered = offered
        self._batches: dict[int, B] = {}
        self._outcomes: dict[int, Appended[B] | Exception] = {}
        self._staged: list[B] = []
        self._draft: log.Draft | None = None
        self._files: list[Staged] = []
        self.committed = False

    def run(self) -> list[Appended[B] | Exception]:
        self._admit()
        try:
            if self._batches:
                self._race()
        except UnknownOutcomeError:
            self.committed = True  # perhaps: its files must stay, and it must not be tried again
            raise
        finally:
            self._drop()
        lost = CommitConflictError("a commit lost every race", got=f"{_ATTEMPTS} attempts")
        return [self._outcomes.get(i, lost) for i in range(len(self._offered))]

    def _admit(self) -> None:
        """Make batches of what was not committed before, and the table fit to take them."""
        places = self._new_to(self._writer.advance()) if self._writer.exists else list(range(len(self._offered)))
        for i, answer in zip(places, self._writer.admitted([self._offered[i] for i in places]), strict=True):
            if isinstance(answer, Exception):
                self._outcomes[i] = answer
                continue
            try:
                self._writer.shape(answer)
                self._batches[i] = answer
            except StorageError as error:
                self._outcomes[i] = error

    def _race(self) -> None:
        for attempt in range(_ATTEMPTS):
            tail = self._writer.advance()
            left = self._new_to(tail)
            accepted = {}
            for i, answer in zip(left, self._writer.judged([self._batches[i] for i in left], tail), strict=True):
                if isinstance(answer, Exception):
                    self._outcomes[i] = answer
                else:
                    accepted[i] = answer
            if not accepted:
                return
            self._stage(list(accepted.values()))
            version = tail.version + 1
            if self._draft is not None and not tail.stale and self._draft.commit(version):
                self.committed = True
                tail.step({app_id: last for batch in accepted.values() for app_id, last in batch.transactions.items()})
                self._outcomes.update({i: Appended(version, batch) for i, batch in accepted.items()})
                self._writer.committed(version, list(accepted.values()))
                return
            time.sleep(_BACKOFF_S * random.random() * min(attempt + 1, 10))

    def _stage(self, wanted: list[B]) -> None:
        """Write what is wanted, unless just that was written for an earlier attempt."""
        if self._draft is None or not _same(self._staged, wanted):
            self._drop()
            self._draft, self._files = self._writer.stage(wanted)
            self._staged = wanted

    def _drop(self) -> None:
        """Take away what was written for this group and is not committed."""
        if self._draft is not None:
            self._draft.discard()
            self._draft = None
            if not self.committed:
                self._writer.discard(self._files)

    def _new_to(self, tail: log.LogTail) -> list[int]:
        """Batches that are still to be written; those that were committed before get their answer."""
        new: list[int] = []
        for i, batch in enumerate(self._offered):
            if i in self._outcomes:
                continue
            done = [
                app_id
                for app_id, version in batch.transactions.items()
                if _or_none(tail.transaction(app_id)) >= version
            ]
            if not done:
                new.append(i)
            elif len(done) == len(batch.transactions):
                self._outcomes[i] = Appended(tail.version, None)
            else:
                self._outcomes[i] = CommitConflictError(
                    "some of a batch's transactions were committed before, and some were not",
                    expected="all of " + ", ".join(batch.transactions),
                    got=", ".join(done),
                )
        return new


def _of_one_commit(waiting: Asked[A, Appended[B]]) -> tuple[Asked[A, Appended[B]], Asked[A, Appended[B]]]:
    """Up to GROUP_ROWS and one batch of an application id; and those that have to wait."""
    group: Asked[A, Appended[B]] = []
    later: Asked[A, Appended[B]] = []
    rows, app_ids = 0, set[str]()
    for one in waiting:
        batch = one[0]
        if rows < GROUP_ROWS and app_ids.isdisjoint(batch.transactions):
            group.append(one)
            rows += batch.height
        else:
            later.append(one)
        app_ids.update(batch.transactions)
    return group, later


def _same(a: Sequence[Batch], b: Sequence[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.admitted.rows is y.admitted.rows and x.metadata == y.metadata for x, y in zip(a, b, strict=True)
    )


def _or_none(version: int | None) -> int:
    return -1 if version is None else version
