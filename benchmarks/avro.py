"""Avro by a reader's schema as an Arrow table: containers and framed messages, against fastavro.

    python benchmarks/avro.py [--quick]

Events of eight columns; the reader's schema renames one, widens one, drops one and adds one. What each gives:

    reclake          an Arrow table of the reader's schema
    fastavro, table  the same: fastavro.reader with the reader's schema, its dicts made an Arrow table
    fastavro, dicts  the dicts alone
    pl.read_avro     a frame of the writer's schema: nothing is resolved

Then the bare decoders, each to columns of the file's own schema; those that are not reclake's are measured where they
are installed (pip install --no-deps jetliner datafusion polars-avro). They also differ in processor seconds, since some
use more threads than one: see docs/adr/0007.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
from compare import arguments, in_turn, report

from reclake.pipelines.sources import SourceBatch, open_source
from reclake.schemas.contract import shipped
from reclake.schemas.resolution import read, read_framed

SEED = 7
T0_US = 1_651_363_200_000_000  # 2022-05-01T00:00:00Z
TYPES = {"type": "enum", "name": "kind", "symbols": ["exposure", "click", "long_view", "like"]}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


def record(*fields: tuple[str, Any], **more: dict[str, Any]) -> dict[str, Any]:
    listed = [{"name": name, "type": type_} | more.get(name, {}) for name, type_ in fields]
    return {"type": "record", "name": "event", "fields": listed}


WRITER = record(
    ("event_id", "string"),
    ("user_id", "long"),
    ("item", "long"),
    ("event_type", TYPES),
    ("event_time", MICROS),
    ("surface", "int"),
    ("watch_ms", ["null", "long"]),
    ("value", "double"),
)
READER = record(
    ("event_id", "string"),
    ("user_id", "long"),
    ("item_id", "long"),
    ("event_type", TYPES),
    ("event_time", MICROS),
    ("surface", "long"),
    ("watch_ms", ["null", "long"]),
    ("app", ["null", "string"]),
    item_id={"aliases": ["item"]},
    app={"default": None},
)


def events(rows: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    times = pl.Series(np.sort(T0_US + rng.integers(0, 86_400_000_000, rows))).cast(pl.Datetime("us", "UTC"))
    kinds = pl.Series(TYPES["symbols"])
    frame = pl.DataFrame(
        {
            "event_id": pl.Series(rng.integers(0, 1 << 62, rows)).cast(pl.String),
            "user_id": rng.integers(0, 20_000, rows),
            "item": rng.integers(0, 5_000, rows),
            "event_type": kinds[rng.integers(0, 4, rows)],
            "event_time": times,
            "surface": rng.integers(0, 15, rows).astype(np.int32),
            "watch_ms": rng.integers(0, 100_000, rows),
            "value": rng.random(rows),
        }
    )
    return frame.with_columns(pl.when(pl.col("watch_ms") > 30_000).then("watch_ms").alias("watch_ms")).to_dicts()


def containers(rows: list[dict[str, Any]], arrow: pa.Schema, rounds: int) -> None:
    def dicts(path: Path) -> list[Any]:
        with path.open("rb") as file:
            return list(fastavro.reader(file, READER))

    with tempfile.TemporaryDirectory() as folder:
        for codec in ("null", "deflate"):
            path = Path(folder) / f"events.{codec}.avro"
            with path.open("wb") as file:
                fastavro.writer(file, WRITER, rows, codec=codec)
            assert read(path, READER).equals(pa.Table.from_pylist(dicts(path), arrow))
            contenders = {
                "reclake": lambda path=path: read(path, READER),
                "fastavro, table": lambda path=path: pa.Table.from_pylist(dicts(path), arrow),
                "fastavro, dicts": lambda path=path: dicts(path),
                "pl.read_avro (not resolved)": lambda path=path: pl.read_avro(path),
            }
            megabytes = path.stat().st_size / 1e6
            title = f"container, codec {codec}, {len(rows):,} events, {megabytes:.0f} MB"
            report(title, in_turn(contenders, rounds=rounds), rows=len(rows), unit="events")


def decoders(rows: list[dict[str, Any]], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.avro"
        with path.open("wb") as file:
            fastavro.writer(file, WRITER, rows)

        def dicts() -> int:
            with path.open("rb") as file:
                return sum(1 for _ in fastavro.reader(file))

        contenders: dict[str, Callable[[], object]] = {
            "reclake, as ingest decodes": lambda: [batch.frame for batch in ingested(path)],
            "pl.read_avro": lambda: pl.read_avro(path),
            "fastavro, dicts": dicts,
        }
        for name, read_by in PEERS.items():
            if find_spec(name) is not None:
                contenders[name] = partial(read_by, str(path))
        report(
            f"bare decoders, {len(rows):,} events", in_turn(contenders, rounds=rounds), rows=len(rows), unit="events"
        )


def ingested(path: Path) -> Iterator[SourceBatch]:
    return open_source(path, contract=shipped("events"), batch_rows=250_000).batches()


def by_jetliner(path: str) -> object:
    import jetliner

    return jetliner.read_avro(path)


def by_datafusion(path: str) -> object:
    import datafusion

    return datafusion.SessionContext().read_avro(path).collect()


def by_polars_avro(path: str) -> object:
    import polars_avro

    return polars_avro.read_avro(path)


PEERS = {"jetliner": by_jetliner, "datafusion": by_datafusion, "polars_avro": by_polars_avro}


def messages(rows: list[dict[str, Any]], arrow: pa.Schema, rounds: int) -> None:
    framed = []
    for row in rows:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, WRITER, row)
        framed.append(b"\0\0\0\0\1" + out.getvalue())
    writer, reader = fastavro.parse_schema(WRITER), fastavro.parse_schema(READER)

    def dicts() -> list[Any]:
        return [fastavro.schemaless_reader(io.BytesIO(message[5:]), writer, reader) for message in framed]

    damaged = [message[:-1] if index % 10_000 == 0 else message for index, message in enumerate(framed)]
    assert read_framed(framed, {1: WRITER}, READER).table.equals(pa.Table.from_pylist(dicts(), arrow))
    contenders = {
        "reclake": lambda: read_framed(framed, {1: WRITER}, READER),
        "reclake, 1 of 10,000 damaged": lambda: read_framed(damaged, {1: WRITER}, READER),
        "fastavro, table": lambda: pa.Table.from_pylist(dicts(), arrow),
        "fastavro, dicts": dicts,
    }
    report(f"framed messages, {len(rows):,}", in_turn(contenders, rounds=rounds), rows=len(rows), unit="messages")


def main() -> None:
    quick = arguments(__doc__.splitlines()[0]).quick
    rows, rounds = events(100_000 if quick else 1_000_000), 3 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "none.avro"
        with path.open("wb") as file:
            fastavro.writer(file, WRITER, [])
        arrow = read(path, READER).schema
    containers(rows, arrow, rounds)
    decoders(rows, rounds)
    messages(rows[: len(rows) // 2], arrow, rounds)


if __name__ == "__main__":
    main()
