"""Sources: every row is decoded, set aside with its bytes, or named in an error; any row can be resumed at."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pytest
from decoding import EVENTS, read, until_error, write

from reclake.pipelines.resolving import resolve
from reclake.pipelines.sources import discover, discover_quietly, open_source, raw_to_frame
from reclake.schemas.errors import SourceError, SourceNotFoundError

T0 = datetime(2022, 5, 2, tzinfo=UTC)
RECORD = {
    "type": "record",
    "name": "r",
    "fields": [{"name": "name", "type": "string"}, {"name": "n", "type": "long"}],
}


def avro(records: list[dict[str, Any]], schema: Any = RECORD, *, rows_a_block: int = 1, codec: str = "null") -> bytes:
    """A container with blocks of exactly so many rows, and always the same sync marker."""
    out = io.BytesIO()
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    writer = fastavro.write.Writer(out, parsed, codec=codec, sync_interval=1 << 30, sync_marker=bytes(range(16)))
    for place, record in enumerate(records):
        if place and place % rows_a_block == 0:
            writer.dump()
        writer.write(record)
    writer.flush()
    return out.getvalue()


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"name": f"row{n}", "n": n} for n in range(count)]


def event_frame(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(count)],
            "user_id": [n % 7 for n in range(count)],
            "item_id": list(range(count)),
            "event_type": ["exposure"] * count,
            "event_time": pl.Series([1_651_449_600_000_000 + n for n in range(count)]).cast(pl.Datetime("us", "UTC")),
        }
    )


def write_events(folder: Path, suffix: str, count: int) -> Path:
    frame, path = event_frame(count), folder / f"events{suffix}"
    text = frame.with_columns(pl.col("event_time").dt.to_string("iso:strict"))
    match suffix:
        case ".parquet":
            frame.write_parquet(path, row_group_size=7)
        case ".avro":
            fields = [{"name": "event_id", "type": "string"}, {"name": "user_id", "type": "long"}]
            fields += [{"name": "item_id", "type": "long"}, {"name": "event_type", "type": "string"}]
            time: Any = {"type": "long", "logicalType": "timestamp-micros"}
            schema = {"type": "record", "name": "e", "fields": [*fields, {"name": "event_time", "type": time}]}
            path.write_bytes(avro(frame.to_dicts(), schema, rows_a_block=7))
        case ".jsonl" | ".jsonl.gz":
            data = text.write_ndjson().encode()
            path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
        case _:
            data = text.write_csv().encode()
            path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    return path


FORMATS = [".parquet", ".avro", ".jsonl", ".csv", ".jsonl.gz", ".csv.gz"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_events(tmp_path: Path, suffix: str) -> None:
    path = write_events(tmp_path, suffix, 40)
    parts = [resolve(batch.frame, EVENTS) for batch in read(path, batch_rows=16)]
    rows = pl.concat([part.rows for part in parts])
    assert rows.select(event_frame(1).columns).equals(event_frame(40))
    assert sum(part.rejected.height for part in parts) == 0


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("batch_rows", [1, 5, 16, 100])
def test_batches_follow_each_other_without_gap(tmp_path: Path, suffix: str, batch_rows: int) -> None:
    batches = read(write_events(tmp_path, suffix, 40), batch_rows=batch_rows)
    assert [batch.first_row for batch in batches] == [0, *[batch.end_row for batch in batches[:-1]]]
    assert batches[-1].end_row == 40
    assert np.concatenate([batch.rows for batch in batches]).tolist() == list(range(40))
    assert max(batch.frame.height for batch in batches) <= batch_rows


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_source_resumed_after_a_batch_gives_the_batches_that_were_left(tmp_path: Path, suffix: str) -> None:
    path = write_events(tmp_path, suffix, 40)
    whole = read(path, batch_rows=16)
    for done in range(1, len(whole)):
        rest = read(path, batch_rows=16, start=whole[done - 1].end_row)
        assert [(b.first_row, b.end_row) for b in rest] == [(b.first_row, b.end_row) for b in whole[done:]]
        assert all(a.frame.equals(b.frame) for a, b in zip(rest, whole[done:], strict=True))
    assert read(path, batch_rows=16, start=40) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_source_resumes_at_any_row(tmp_path: Path, suffix: str) -> None:
    path = write_events(tmp_path, suffix, 23)
    for start in range(23):
        batches = read(path, batch_rows=10, start=start)
        assert batches[0].first_row == start
        assert pl.concat([b.frame for b in batches])["event_id"].to_list() == [f"e{n}" for n in range(start, 23)]


def test_the_key_names_path_and_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"a\n1\n")
    key = open_source(path, contract=EVENTS, batch_rows=1).key
    assert open_source(path, contract=EVENTS, batch_rows=9).key == key
    os.utime(path, (1, 1))
    assert open_source(path, contract=EVENTS, batch_rows=1).key == key
    assert open_source(write(tmp_path / "b.csv", b"a\n1\n"), contract=EVENTS, batch_rows=1).key != key
    assert open_source(write(path, b"a\n2\n"), contract=EVENTS, batch_rows=1).key != key


# Avro containers


def test_a_wrong_sync_marker_names_block_and_byte_after_the_rows_before_it(tmp_path: Path) -> None:
    data = bytearray(avro(numbered(8)))
    data[-1] ^= 0xFF
    rows, error = until_error(write(tmp_path / "a.avro", bytes(data)), batch_rows=3)
    assert rows == list(range(7))
    assert "block 7, byte" in error.parts()["where"]
    assert bytes(range(16)).hex() in error.parts()["expected"]
    assert error.parts()["got"] == bytes(data[-16:]).hex()


@pytest.mark.parametrize("cut", [1, 16, 17, 22])
def test_a_truncated_block_names_its_place_after_the_rows_before_it(tmp_path: Path, cut: int) -> None:
    rows, error = until_error(write(tmp_path / "a.avro", avro(numbered(8))[:-cut]), batch_rows=100)
    assert rows == list(range(7))
    assert "block 7, byte" in error.parts()["where"]


def test_a_datum_that_does_not_decode_names_its_block_after_the_rows_before_it(tmp_path: Path) -> None:
    data = avro(numbered(8))
    at = data.index(b"row5")
    rows, error = until_error(write(tmp_path / "a.avro", data[:at] + b"\xff" + data[at + 1 :]), batch_rows=100)
    assert rows == [0, 1, 2, 3, 4]
    assert "block 5, byte" in error.parts()["where"]
    assert "UnicodeDecodeError" in error.parts()["got"]


def test_a_container_cut_anywhere_gives_a_prefix_of_its_rows_or_a_message(tmp_path: Path) -> None:
    whole = avro(numbered(6), rows_a_block=2)
    for size in range(1, len(whole)):
        rows: list[int] = []
        path = write(tmp_path / "a.avro", whole[:size])
        with suppress(SourceError):
            for batch in open_source(path, contract=EVENTS, batch_rows=4).batches():
                rows += batch.frame["n"].to_list()
        assert rows == list(range(len(rows)))


def test_blocks_are_read_in_every_codec_and_of_every_size(tmp_path: Path) -> None:
    for codec in ("null", "deflate", "bzip2", "xz"):
        path = write(tmp_path / f"{codec}.avro", avro(numbered(9), rows_a_block=4, codec=codec))
        assert [(b.first_row, b.end_row) for b in read(path, batch_rows=5)] == [(0, 4), (4, 9)]
    out = io.BytesIO()
    pl.DataFrame(numbered(9)).write_avro(out, compression="snappy")
    assert read(write(tmp_path / "snappy.avro", out.getvalue()))[0].frame["n"].to_list() == list(range(9))


def test_an_empty_container_has_no_rows(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.avro", avro([]))) == []


def test_avro_types_arrive_whether_polars_knows_them_or_not(tmp_path: Path) -> None:
    fields: list[tuple[str, Any, Any]] = [
        ("millis", {"type": "long", "logicalType": "timestamp-millis"}, T0),
        ("micros", ["null", {"type": "long", "logicalType": "timestamp-micros"}], T0),
        ("enum", {"type": "enum", "name": "e", "symbols": ["A", "B"]}, "B"),
        ("list", ["null", {"type": "array", "items": "float"}], [0.5, 1.5]),
        ("record", {"type": "record", "name": "q", "fields": [{"name": "x", "type": "long"}]}, {"x": 1}),
        ("bytes", "bytes", b"\xff"),
    ]
    slow: list[tuple[str, Any, Any]] = [
        ("map", {"type": "map", "values": "long"}, {"k": 1}),
        ("null_enum", ["null", {"type": "enum", "name": "f", "symbols": ["A"]}], "A"),
        ("uuid", {"type": "string", "logicalType": "uuid"}, "123e4567-e89b-12d3-a456-426614174000"),
        ("decimal", {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}, Decimal("1.50")),
        ("named", "q", {"x": 2}),
        ("union", ["null", "string", "long"], 7),
        ("nothing", "null", None),
    ]
    for chosen in (fields, fields + slow):
        schema = {"type": "record", "name": "r", "fields": [{"name": n, "type": t} for n, t, _ in chosen]}
        path = write(tmp_path / "a.avro", avro([{n: v for n, _, v in chosen}] * 3, schema, rows_a_block=2))
        row = pl.concat([b.frame for b in read(path, batch_rows=2)]).row(2, named=True)
        assert row == {n: v for n, _, v in chosen} | ({"union": "7"} if len(chosen) > len(fields) else {})


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"PAR1", "4f 62 6a 01"), (b"Obj\x01", "sync marker"), (b"Obj\x01\x02\x01", "sync marker")],
)
def test_what_is_no_container_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(write(tmp_path / "a.avro", data))
    assert says in caught.value.parts()["expected"]


# Parquet


def test_parquet_is_cut_at_row_groups_and_within_large_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"n": range(20)}).write_parquet(path, row_group_size=6)
    assert [(b.first_row, b.end_row) for b in read(path, batch_rows=13)] == [(0, 12), (12, 20)]
    assert [(b.first_row, b.end_row) for b in read(path, batch_rows=4)][:3] == [(0, 4), (4, 6), (6, 10)]


@pytest.mark.parametrize("keep", [0.5, 0.98])
def test_a_truncated_parquet_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = write_events(tmp_path, ".parquet", 40)
    write(path, path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(SourceError) as caught:
        read(path)
    assert caught.value.parts()["where"] == str(path)


# Any file


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    for name, data in (("a.csv", b"user_id\n1\n"), ("a.jsonl", b'{"user_id": 1}\n')):
        (batch,) = read(write(tmp_path / name, b"\xef\xbb\xbf" + data))
        assert batch.frame["user_id"].cast(pl.String).to_list() == ["1"]


@pytest.mark.parametrize("suffix", [".avro", ".parquet", ".jsonl", ".csv"])
def test_a_zero_byte_file_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(write(tmp_path / f"a{suffix}", b""))
    assert caught.value.parts()["got"] == "0 bytes"


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".csv.gz"])
def test_damaged_gzip_data_is_named(tmp_path: Path, suffix: str) -> None:
    whole = write_events(tmp_path, suffix, 40).read_bytes()
    for data in (whole[:-12], b"plain text\n"):
        with pytest.raises(SourceError, match="gzip"):
            read(write(tmp_path / f"b{suffix}", data))


def test_folders_are_searched_in_order_and_other_files_are_reported(tmp_path: Path) -> None:
    for name in ("b/2.csv", "a/1.jsonl.gz", "a/notes.txt", ".hidden/3.csv", "_tmp/4.csv", "a/_5.csv", "a/x.avro.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, b"x")
    found = discover([tmp_path, tmp_path / "b" / "2.csv"])
    assert [p.relative_to(tmp_path).as_posix() for p in found.files] == ["a/1.jsonl.gz", "b/2.csv"]
    assert [p.relative_to(tmp_path).as_posix() for p in found.skipped] == ["a/notes.txt", "a/x.avro.gz"]
    assert discover_quietly(tmp_path) == list(found.files)
    assert discover_quietly(tmp_path / ".hidden" / "nothing") == []


def test_paths_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    cases: list[Callable[[], object]] = [
        lambda: discover([tmp_path / "nowhere.csv"]),
        lambda: discover([tmp_path]),
        lambda: open_source(tmp_path / "nowhere.csv", contract=EVENTS, batch_rows=1),
    ]
    for case in cases:
        with pytest.raises(SourceNotFoundError):
            case()
    with pytest.raises(SourceError, match="unknown kind"):
        discover([write(tmp_path / "a.txt", b"x")])


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(
        "reclake.pipelines.sources.files._key", refuse
    )  # root, who runs some tests, may read everything
    with pytest.raises(SourceError, match="cannot be read") as caught:
        read(write(tmp_path / "a.csv", b"a\n1\n"))
    assert caught.value.parts()["got"] == "Permission denied"


# Quarantine


def test_a_row_made_into_json_resolves_to_the_same_event_again(tmp_path: Path) -> None:
    for suffix in FORMATS:
        (batch,) = read(write_events(tmp_path, suffix, 6), batch_rows=7)
        frame, bad = raw_to_frame(batch.raw([4, 1]), EVENTS)
        assert bad == []
        assert resolve(frame, EVENTS).rows.drop("_row").equals(resolve(batch.frame[[4, 1]], EVENTS).rows.drop("_row"))


def test_raw_rows_that_are_no_objects_are_told_by_index() -> None:
    raws = [b'{"event_id": "a"}', b"x,y", b"[1]", b'{"user_id": 1}', b"", b"a\nb"]
    frame, bad = raw_to_frame(raws, EVENTS)
    assert bad == [1, 2, 4, 5]
    assert frame.select("event_id", "user_id").rows() == [("a", None), (None, "1")]
    assert resolve(frame, EVENTS).rejected.height == 2


def test_raw_json_keeps_what_json_cannot_write(tmp_path: Path) -> None:
    frame = pl.DataFrame({"f": [float("nan"), 1.5], "b": [b"ok", b"\xff"], "t": [T0, T0], "l": [[1], []]})
    frame.write_parquet(tmp_path / "a.parquet")
    (batch,) = read(tmp_path / "a.parquet")
    first, second = (json.loads(raw) for raw in batch.raw([0, 1]))
    assert first == {"f": "nan", "b": "ok", "t": "2022-05-02T00:00:00+00:00", "l": [1]}
    assert second["b"] == {"base64": "/w=="}
