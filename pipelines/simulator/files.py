"""Files as other teams write them: Avro containers, JSON lines, Parquet of a newer app, CSV of late events."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .log import COLUMNS, TIME, iso_times, json_lines

# Avro 1.12, "Object container files": the header is itself an Avro record.
_HEADER = {
    "type": "record",
    "name": "org.apache.avro.file.Header",
    "fields": [
        {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
    ],
}
_AVRO_TYPES: dict[pl.DataType, Any] = {
    pl.String(): "string",
    pl.Int32(): "int",
    pl.Int64(): "long",
    pl.Float64(): "double",
    TIME: {"type": "long", "logicalType": "timestamp-micros"},
}


def write_avro(path: Path, rows: pl.DataFrame) -> None:
    """An Avro object container whose times are `timestamp-micros`.

    Polars cannot write times with a zone, so it writes their µs as `long`, which is the same bytes, and the schema in
    the header is put in place afterwards.
    """
    import fastavro

    buffer = io.BytesIO()
    rows.with_columns(pl.col(TIME).to_physical()).write_avro(buffer, compression="deflate", name="events")
    buffer.seek(0)
    header: Any = fastavro.schemaless_reader(buffer, _HEADER, None)
    fields = [{"name": name, "type": ["null", _AVRO_TYPES[dtype]]} for name, dtype in COLUMNS.items()]
    schema = {"type": "record", "name": "events", "namespace": "reclake", "fields": fields}
    header["meta"]["avro.schema"] = json.dumps(schema).encode()
    header["meta"] = dict(sorted(header["meta"].items()))  # Polars writes them in an order that changes
    with path.open("wb") as file:
        fastavro.schemaless_writer(file, _HEADER, header)
        file.write(buffer.read())


def write_json_lines(path: Path, rows: pl.DataFrame, between: list[str], rng: np.random.Generator) -> None:
    """The rows in their order, with other lines between them at places drawn from `rng`."""
    lines = pl.concat([json_lines(rows), pl.Series("line", between, dtype=pl.String)])
    places = np.concatenate([np.arange(len(rows), dtype=np.float64), rng.uniform(0, len(rows), len(between))])
    in_place = lines[np.argsort(places, kind="stable")]
    in_place.to_frame().write_csv(path, include_header=False, quote_style="never")


def write_parquet(path: Path, rows: pl.DataFrame) -> None:
    """As a newer version of the app writes them: another column order, narrower durations, one column more, one less.

    `app_version` is not in the contract; `value` is left out; `watch_ms` and `duration_ms` are 32 bits wide.
    """
    rows.select(
        pl.col("event_time", "event_id", "event_type", "user_id", "item_id", "available_at"),
        pl.col("request_id", "position", "surface"),
        pl.col("duration_ms", "watch_ms").cast(pl.Int32),
        pl.col("propensity"),
        (pl.lit("2.") + (pl.col("user_id") % 3).cast(pl.String)).alias("app_version"),
    ).write_parquet(path, compression="zstd")


def append_csv(path: Path, rows: pl.DataFrame) -> None:
    """Append rows to a CSV file with a header; a missing value is an empty field."""
    with path.open("ab") as file:
        rows.select(iso_times(rows)).write_csv(file, include_header=file.tell() == 0)
