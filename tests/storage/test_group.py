"""Group commits: many threads and processes append to one table; every batch lands once, whoever is killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
import small_batches
from deltalake import DeltaTable
from small_batches import DAYS, SCHEMA, in_threads, named, rows, stored, values

from reclake.quality import gate
from reclake.schemas.errors import CommitConflictError, StorageError
from reclake.storage.group import Batch, GroupWriter
from reclake.storage.log import LogTail
from reclake.storage.table import Layout, Table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "t", "t", Layout(("day",), ("a",)))


def test_what_many_threads_append_lands_once_in_few_commits(table: Table) -> None:
    with GroupWriter(table) as writer:

        def produce(number: int) -> None:
            for batch in range(20):
                done = writer.put(Batch(rows((number * 20 + batch) * 10), {f"p{number}": batch}))
                assert done.batch is not None

        assert in_threads(produce, 10) == []
    assert values(table) == list(range(2000))
    assert table.version < 150
    assert {table.transaction(f"p{number}") for number in range(10)} == {19}


def test_an_append_that_returned_is_readable_by_any_delta_reader(table: Table) -> None:
    with GroupWriter(table) as writer:
        for number in range(30):  # a checkpoint is made on the way
            version = writer.put(Batch(rows(number * 10), {"p": number})).version
            opened = DeltaTable(table.uri)
            assert opened.version() >= version
            assert opened.transaction_version("p") == number
    files = ", ".join(f"'{path}'" for path in table.files())
    assert duckdb.sql(f"select count(distinct a) from read_parquet([{files}])").fetchall() == [(300,)]
    assert pl.scan_delta(table.uri).collect().height == 300


def test_a_repeated_batch_is_not_written_again(table: Table) -> None:
    with GroupWriter(table) as writer:
        first = writer.put(Batch(rows(0), {"p": 1}))
        again = writer.put(Batch(rows(0), {"p": 1}))
        assert again.batch is None
        assert again.version >= first.version
    with GroupWriter(table) as writer:
        assert writer.put(Batch(rows(0), {"p": 1})).batch is None
    assert values(table) == list(range(10))


def test_a_batch_whose_transactions_are_partly_committed_is_refused(table: Table) -> None:
    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0), {"p": 1}))
        with pytest.raises(CommitConflictError, match="some of a batch's transactions"):
            writer.put(Batch(rows(10), {"p": 1, "q": 1}))
    assert values(table) == list(range(10))


def test_the_error_of_one_batch_fails_no_other(table: Table) -> None:
    other = pa.schema([pa.field("a", pa.string(), nullable=False), pa.field("day", pa.date32(), nullable=False)])
    wrong = gate.record(pa.table({"a": ["x"], "day": [DAYS[0]]}).cast(other), other, name="t")
    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0)))

        def produce(number: int) -> None:
            for batch in range(5):
                writer.put(Batch(wrong if number == 3 else rows(100 + (number * 5 + batch) * 10)))

        errors = in_threads(produce, 6)
    assert [type(error) for error in errors] == [StorageError]
    assert len(values(table)) == 10 + 5 * 5 * 10


def test_a_judge_that_fails_on_one_batch_fails_that_batch(table: Table) -> None:
    def judge(batches: Sequence[Batch], tail: LogTail) -> Sequence[Batch]:
        if any(batch.admitted.rows["a"][0].as_py() == 0 for batch in batches):
            raise ValueError("no zeros")
        return batches

    with GroupWriter(table, judge=judge) as writer:
        errors = in_threads(lambda number: writer.put(Batch(rows(number * 10))) and None, 8)
    assert [str(error) for error in errors] == ["no zeros"]
    assert values(table) == list(range(10, 80))


@dataclass(frozen=True)
class Raw:
    """What is offered and not admitted yet."""

    first: int
    transactions: dict[str, int] = field(default_factory=dict)
    height: int = 10


def test_what_waits_is_admitted_by_one_call_and_what_was_written_before_by_none(table: Table) -> None:
    calls: list[list[int]] = []

    def admit(offered: Sequence[Raw]) -> list[Batch | Exception]:
        calls.append([one.first for one in offered])
        return [Batch(rows(one.first), one.transactions) for one in offered]

    with GroupWriter(table, admit=admit) as writer:
        waiting = [writer.offer(Raw(number * 10, {f"p{number}": 1})) for number in range(50)]
        assert {done.result().batch is not None for done in waiting} == {True}
        few = len(calls)
        assert writer.put(Raw(0, {"p0": 1})).batch is None
    assert few < 10
    assert len(calls) == few
    assert sorted(first for call in calls for first in call) == list(range(0, 500, 10))
    assert values(table) == list(range(500))


def test_what_is_not_admitted_fails_alone_and_so_does_what_cannot_be_judged(table: Table) -> None:
    def admit(offered: Sequence[Raw]) -> list[Batch | Exception]:
        if any(one.first == 70 for one in offered):
            raise ValueError("no seventies")
        return [KeyError(one.first) if one.first == 30 else Batch(rows(one.first)) for one in offered]

    with GroupWriter(table, admit=admit) as writer:
        errors = in_threads(lambda number: writer.put(Raw(number * 10)) and None, 10)
    assert sorted(map(repr, errors)) == ["KeyError(30)", "ValueError('no seventies')"]
    assert values(table) == [*range(30), *range(40, 70), *range(80, 100)]


def test_parts_of_one_batch_are_joined_as_the_rows_they_are() -> None:
    whole = rows(0, 30)
    parts = [
        gate.Admitted(whole.rows.slice(start, 10), "t", 0, "", gate._SEAL, (whole.rows, start)) for start in (20, 0, 10)
    ]
    assert gate.join(parts).rows is whole.rows
    assert gate.join([parts[0], parts[0], parts[2]]).rows["a"].to_pylist() == [
        *range(20, 30),
        *range(20, 30),
        *range(10, 20),
    ]
    assert gate.join(parts[:2]).rows["a"].to_pylist() == [*range(20, 30), *range(10)]


def test_batches_of_an_old_and_a_new_schema_land_together(table: Table) -> None:
    wider = SCHEMA.append(pa.field("b", pa.int32()))

    def wide(first: int) -> gate.Admitted:
        old = rows(first).rows
        return gate.record(old.append_column("b", pa.array([1] * 10, pa.int32())), wider, name="t")

    with GroupWriter(table) as writer:
        errors = in_threads(lambda n: writer.put(Batch((wide if n % 2 else rows)(n * 10))) and None, 10)
    assert errors == []
    assert table.scan().select(pl.col("b").sum(), pl.len()).collect().row(0) == (50, 100)


def test_a_closed_writer_says_so(table: Table) -> None:
    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0)))
    with pytest.raises(StorageError, match="closed"):
        writer.put(Batch(rows(10)))


def test_group_commits_and_plain_commits_of_one_table_get_on(table: Table) -> None:
    table.append(rows(0))
    with GroupWriter(table) as writer:

        def produce(number: int) -> None:
            for batch in range(10):
                first = 10 + (number * 10 + batch) * 10
                if number < 2:
                    table.append(rows(first), transactions={f"p{number}": batch})
                else:
                    writer.put(Batch(rows(first), {f"p{number}": batch}))

        assert in_threads(produce, 5) == []
    assert values(table) == list(range(510))


def test_a_commit_that_loses_takes_its_files_away(table: Table) -> None:
    table.append(rows(0), transactions={"p": 1})
    with pytest.raises(CommitConflictError):
        table.append(rows(10), transactions={"p": 1})
    with GroupWriter(table) as writer:

        def produce(number: int) -> None:
            for batch in range(15):
                if number < 3:
                    writer.put(Batch(rows(100 + (number * 15 + batch) * 10), {f"p{number}": batch + 2}))
                else:  # overtaken again and again
                    with contextlib.suppress(CommitConflictError):
                        table.append(rows(10_000 + batch * 10), after=table.version)

        assert in_threads(produce, 4) == []
    assert stored(table) == named(table)
    assert not list((table.root / "_delta_log").glob(".*.draft"))


PRODUCER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from small_batches import rows, in_threads
    from reclake.storage.group import Batch, GroupWriter
    from reclake.storage.table import Layout, Table
    name, batches = sys.argv[3], int(sys.argv[4])
    with GroupWriter(Table(Path(sys.argv[2]), "t", Layout(("day",), ("a",)))) as writer:
        def produce(thread):
            for batch in range(batches):
                first = ((int(name) * 2 + thread) * 1000 + batch) * 10
                writer.put(Batch(rows(first), {f"{name}/{thread}": batch}))
                print("done", flush=True)
        errors = in_threads(produce, 2)
    assert not errors, errors
    """
)


def start(table: Table, name: int, batches: int) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        PRODUCER,
        str(Path(small_batches.__file__).parent),
        str(table.root),
        str(name),
        str(batches),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_append_to_one_table_and_nothing_is_lost_or_doubled(table: Table) -> None:
    table.create(SCHEMA)
    processes = [start(table, name, 30) for name in range(3)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    expected = [
        ((p * 2 + t) * 1000 + b) * 10 + i for p in range(3) for t in range(2) for b in range(30) for i in range(10)
    ]
    assert values(table) == expected


def test_a_producer_that_is_killed_and_started_again_loses_and_doubles_nothing(table: Table) -> None:
    table.create(SCHEMA)
    for kill_after in (1, 17):
        process = start(table, 0, 40)
        assert process.stdout is not None
        for _ in range(kill_after):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = kill_after + len(process.stdout.readlines())
        process.wait()
        process.stdout.close()
        assert len(values(table)) >= acknowledged * 10
    process = start(table, 0, 40)
    process.communicate()
    assert process.returncode == 0
    assert values(table) == [(t * 1000 + b) * 10 + i for t in range(2) for b in range(40) for i in range(10)]
