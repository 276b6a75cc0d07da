"""Many producers of small batches: group commits behind a gate, beside raw delta-rs appends from as many threads.

Each producer appends 1,000 rows at a time and waits until they are committed (ours: also flushed to the disk; delta-rs
does not flush). Rounds alternate in one run; every table is read back and compared with what was sent. CPU time is the
writing processes', compaction included: it depends less than the rest on what else the machine does.

On S3: moto's server in a process of its own, on the same cores.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from compare import arguments
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

import reclake
from reclake.pipelines.ingest import stamp, target_of
from reclake.quality import gate
from reclake.schemas.errors import ReclakeError
from reclake.schemas.times import to_us
from reclake.storage.group import Batch, GroupWriter

ROWS = 1000
PRODUCERS = 20
DISTINCT = 20  # batches a producer has; then they come again with other event ids
NOW = to_us("2024-03-05")


@dataclass(frozen=True)
class Outcome:
    """Of one round: batches that landed a second and CPU ms of each, latencies, appends that raised, commits, files."""

    batches_s: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    failed: int
    commits: int
    files: int
    open_ms: float


def source(number: int) -> pl.DataFrame:
    """1,000 events of one day with ids of their own."""
    rng = np.random.Generator(np.random.PCG64(number))
    at = to_us("2024-03-01") + rng.integers(0, 86_400_000_000, ROWS)
    return pl.DataFrame(
        {
            "event_id": pl.Series(np.arange(number * ROWS, (number + 1) * ROWS)).cast(pl.String).str.pad_start(16, "e"),
            "user_id": rng.integers(0, 100_000, ROWS),
            "item_id": rng.integers(0, 50_000, ROWS),
            "event_type": pl.Series(rng.integers(0, 3, ROWS)).replace_strict({0: "exposure", 1: "click", 2: "like"}),
            "event_time": pl.Series(at).cast(pl.Datetime("us", "UTC")),
            "available_at": pl.Series(at + 2_000_000).cast(pl.Datetime("us", "UTC")),
            "watch_ms": rng.integers(0, 60_000, ROWS),
        }
    )


def spoilt(frame: pl.DataFrame, share: float) -> pl.DataFrame:
    """The same rows, of which a share has a watch time below zero."""
    bad = pl.int_range(pl.len()) % 100 < share * 100
    return frame.with_columns(watch_ms=pl.when(bad).then(-1).otherwise("watch_ms"))


Measured = tuple[float, float, list[float], int]


def produce(append: Callable[[int, int], None], producers: int, batches: int) -> Measured:
    """Seconds, CPU seconds, latencies (s) and failures of `producers` threads that append one batch after the other."""
    latencies: list[list[float]] = [[] for _ in range(producers)]
    failed = [0] * producers

    def work(producer: int) -> None:
        for number in range(batches):
            began = time.perf_counter()
            try:
                append(producer, number)
            except (DeltaError, ReclakeError):
                failed[producer] += 1
            latencies[producer].append(time.perf_counter() - began)

    threads = [threading.Thread(target=work, args=(producer,)) for producer in range(producers)]
    began, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return seconds, cpu, [value for each in latencies for value in each], sum(failed)


def outcome(
    uri: str, measured: Measured, sent: int, options: dict[str, str] | None = None, good: int = ROWS
) -> Outcome:
    """Read the table back: what did not fail must be there once, `good` rows of each batch."""
    seconds, cpu, latencies, failed = measured
    provider: dict[str, None] = {} if options is None else {"credential_provider": None}
    found = pl.scan_delta(uri, storage_options=options, **provider)
    held = found.select(pl.len(), pl.col("event_id").n_unique().alias("ids")).collect().row(0)
    assert held == ((sent - failed) * good,) * 2, f"{uri}: {held} rows and ids of {(sent - failed) * good}"
    opening = []
    for _ in range(5):
        began = time.perf_counter()
        table = DeltaTable(uri, storage_options=options)
        files = len(table.file_uris())
        opening.append(time.perf_counter() - began)
    return Outcome(
        (sent - failed) / seconds,
        cpu / max(sent - failed, 1) * 1e3,
        float(np.percentile(latencies, 50)) * 1e3,
        float(np.percentile(latencies, 99)) * 1e3,
        failed,
        table.version(),
        files,
        min(opening) * 1e3,
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a producer, on their way to the gate."""

    table: pa.Table
    transactions: dict[str, int]

    @property
    def height(self) -> int:
        return self.table.num_rows


def rows_of(lake: reclake.Lake, frames: list[pl.DataFrame]) -> list[pa.Table]:
    """Batches as rows of the events table."""
    target = target_of(lake.catalog, lake.catalog.contract("events"))
    empty = pl.DataFrame(target.contract.arrow.empty_table())
    return [
        stamp(
            pl.concat([empty, frame], how="diagonal_relaxed"),
            target.contract,
            arrival_us=NOW,
            sealed_us=None,
            buckets=16,
        )
        .select(target.schema.names)
        .to_arrow()
        for frame in frames
    ]


def writer_of(lake: reclake.Lake) -> GroupWriter[Rows, Batch]:
    """A writer of the events table that admits rows by the contract's gate."""
    target = target_of(lake.catalog, lake.catalog.contract("events"))

    def admit(offered: Sequence[Rows]) -> list[Batch | Exception]:
        admissions = gate.admit_each(
            pa.concat_tables([rows.table for rows in offered]).combine_chunks(),
            [rows.height for rows in offered],
            target.suite,
            target.schema,
            contract="events",
            contract_version=1,
            verdict_ids=[""] * len(offered),
        )
        return [
            Batch(admission.admitted, rows.transactions) for admission, rows in zip(admissions, offered, strict=True)
        ]

    return GroupWriter(lake.catalog.table("events"), admit=admit)


def event_ids(batches: int) -> pa.Array:
    """An id for each row of so many batches."""
    ids = pl.select(pl.int_range(batches * ROWS)).to_series().cast(pl.String).str.pad_start(16, "e").to_arrow()
    return ids.cast(pa.string())


def with_ids(rows: pa.Table, ids: pa.Array, number: int) -> pa.Table:
    """The same rows as the `number`th batch: other event ids."""
    place = rows.column_names.index("event_id")
    return rows.set_column(place, pa.field("event_id", pa.string()), ids.slice(number * ROWS, ROWS))


def group_commits(folder: Path, batches: int) -> Outcome:
    lake = reclake.Lake.create(folder / "lake")
    rows = rows_of(lake, [source(n) for n in range(PRODUCERS * DISTINCT)])
    table = lake.catalog.table("events")
    ids = event_ids(PRODUCERS * batches)
    with writer_of(lake) as writer:

        def append(producer: int, number: int) -> None:
            batch = with_ids(rows[producer * DISTINCT + number % DISTINCT], ids, producer * batches + number)
            writer.put(Rows(batch, {f"p{producer}": number}))

        measured = produce(append, PRODUCERS, batches)
    return outcome(table.uri, measured, PRODUCERS * batches)


def event_writer(folder: Path, batches: int, bad: float = 0.0) -> Outcome:
    lake = reclake.Lake.create(folder / "lake")
    frames = [spoilt(source(n), bad) for n in range(PRODUCERS)]
    ids = pl.Series(event_ids(PRODUCERS * batches))
    with lake.writer("events") as writer:

        def append(producer: int, number: int) -> None:
            frame = frames[producer].with_columns(event_id=ids.slice((producer * batches + number) * ROWS, ROWS))
            writer.append(frame, producer=f"p{producer}", number=number + 1)

        measured = produce(append, PRODUCERS, batches)
    good = spoilt(source(0), bad).filter(pl.col("watch_ms") >= 0).height
    return outcome(lake.catalog.table("events").uri, measured, PRODUCERS * batches, good=good)


def raw_delta(folder: Path, batches: int) -> Outcome:
    uri = str(folder / "raw")
    rows = rows_of(reclake.Lake.create(folder / "lake"), [source(n) for n in range(PRODUCERS)])
    write_deltalake(uri, rows[0].slice(0, 0), partition_by=["known_day"])
    ids = event_ids(PRODUCERS * batches)

    def append(producer: int, number: int) -> None:
        write_deltalake(uri, with_ids(rows[producer], ids, producer * batches + number), mode="append")

    return outcome(uri, produce(append, PRODUCERS, batches), PRODUCERS * batches)


def one_process(root: str, first: int, producers: int, batches: int, barrier: object, results: object) -> None:
    """One of several processes, each with a writer and threads of its own."""
    lake = reclake.Lake.open(root)
    rows = rows_of(lake, [source(n) for n in range(producers)])
    ids = event_ids((first + producers) * batches)
    with writer_of(lake) as writer:

        def append(producer: int, number: int) -> None:
            batch = with_ids(rows[producer], ids, (first + producer) * batches + number)
            writer.put(Rows(batch, {f"p{first + producer}": number}))

        barrier.wait()  # type: ignore[attr-defined]
        results.put(produce(append, producers, batches))  # type: ignore[attr-defined]


def across_processes(folder: Path, processes: int, batches: int) -> Outcome:
    """About as many producers as in one process, spread over processes."""
    lake = reclake.Lake.create(folder / "lake")
    target = target_of(lake.catalog, lake.catalog.contract("events"))
    target.table.create(target.schema)
    each = -(-PRODUCERS // processes)
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(processes), spawn.Queue()
    started = [
        spawn.Process(target=one_process, args=(str(folder / "lake"), p * each, each, batches, barrier, results))
        for p in range(processes)
    ]
    for process in started:
        process.start()
    measured = [results.get() for _ in started]
    for process in started:
        process.join()
    whole = max(seconds for seconds, _, _, _ in measured)
    cpu = sum(cpu for _, cpu, _, _ in measured)
    latencies = [value for _, _, values, _ in measured for value in values]
    failed = sum(failures for _, _, _, failures in measured)
    return outcome(target.table.uri, (whole, cpu, latencies, failed), processes * each * batches)


@contextlib.contextmanager
def store() -> Iterator[dict[str, str]]:
    """moto's server, in a process of its own, with an empty bucket `lake`: how to reach it.

    It looks and puts in two steps (see tests/storage/conftest.py): rows that several writers miss may be its doing.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"{address}/lake", method="PUT")).close()
                break
            time.sleep(0.1)
        yield {
            "aws_endpoint_url": address,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
        }
    finally:
        server.terminate()
        server.wait()


def store_commits(batches: int) -> Outcome:
    with store() as options:
        lake = reclake.Lake.create("s3://lake/ours", storage_options=options)
        rows = rows_of(lake, [source(n) for n in range(PRODUCERS)])
        table = lake.catalog.table("events")
        ids = event_ids(PRODUCERS * batches)
        with writer_of(lake) as writer:

            def append(producer: int, number: int) -> None:
                batch = with_ids(rows[producer], ids, producer * batches + number)
                writer.put(Rows(batch, {f"p{producer}": number}))

            measured = produce(append, PRODUCERS, batches)
        return outcome(table.uri, measured, PRODUCERS * batches, options)


def store_delta(folder: Path, producers: int, batches: int) -> Outcome:
    rows = rows_of(reclake.Lake.create(folder / "lake"), [source(n) for n in range(producers)])
    with store() as options:
        uri = "s3://lake/raw"
        write_deltalake(uri, rows[0].slice(0, 0), partition_by=["known_day"], storage_options=options)
        ids = event_ids(producers * batches)

        def append(producer: int, number: int) -> None:
            batch = with_ids(rows[producer], ids, producer * batches + number)
            write_deltalake(uri, batch, mode="append", storage_options=options)

        return outcome(uri, produce(append, producers, batches), producers * batches, options)


def floor(batches: int = PRODUCERS, rounds: int = 20) -> None:
    """What the least that a commit of so many batches must do costs: their Parquet file, flushed."""
    ways: dict[str, dict[str, object]] = {
        "lz4, plain, no statistics": {"compression": "lz4", "use_dictionary": False, "write_statistics": False},
        "pyarrow's defaults": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(reclake.Lake.create(Path(folder) / "lake"), [source(n) for n in range(batches)])
        whole = pa.concat_tables(rows).combine_chunks()
        path = Path(folder) / "bare.parquet"
        for name, how in ways.items():
            spent = []
            for _ in range(rounds):
                began = time.process_time()
                pq.write_table(whole, path, **how)
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                spent.append((time.process_time() - began) / batches * 1e3)
            middle = statistics.median(spent)
            print(
                f"  bare Parquet of {batches} batches, {name}: {middle:.2f} ms of a core each, least {min(spent):.2f}"
            )


def main() -> None:
    quick = arguments(__doc__ or "").quick
    batches, rounds, raw_batches = (25, 1, 5) if quick else (500, 3, 50)
    contenders: dict[str, Callable[[Path], Outcome]] = {
        "reclake group commits": lambda folder: group_commits(folder, batches),
        "write_deltalake, 20 threads": lambda folder: raw_delta(folder, raw_batches),
        "reclake event writer": lambda folder: event_writer(folder, max(batches // 5, 10)),
    }
    for count in (2, 4, 8):
        contenders[f"reclake, {count} processes"] = lambda folder, n=count: across_processes(
            folder, n, max(batches // 5, 10)
        )
    few = 5 if quick else 25
    contenders |= {
        "S3: reclake group commits": lambda folder: store_commits(few),
        "S3: write_deltalake, alone": lambda folder: store_delta(folder, 1, few),
        "S3: write_deltalake, 20 threads": lambda folder: store_delta(folder, PRODUCERS, 3),
    }
    found: dict[str, list[Outcome]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(contender(Path(folder)))
    print(f"{PRODUCERS} producers, {ROWS} rows a batch, {batches} batches each ({raw_batches} raw), {rounds} rounds")
    floor()
    heads = ("batches/s", "CPU ms", "p50 ms", "p99 ms", "failed", "commits", "files", "open ms")
    print(f"  {'':<32}" + "".join(f"{head:>10}" for head in heads))
    for name, outcomes in found.items():
        middle = sorted(outcomes, key=lambda o: o.batches_s)[len(outcomes) // 2]
        failed = sum(o.failed for o in outcomes)
        open_ms = statistics.median(o.open_ms for o in outcomes)
        print(
            f"  {name:<32}{middle.batches_s:>10.1f}{middle.cpu_ms:>10.2f}{middle.p50_ms:>10.0f}{middle.p99_ms:>10.0f}"
            f"{failed:>10}{middle.commits:>10}{middle.files:>10}{open_ms:>10.1f}"
        )


if __name__ == "__main__":
    sys.exit(main())
