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

from reclake.pipelines import decode_json, text_types
from reclake.pipelines.resolve import resolve
from reclake.pipelines.sources import (
    SourceBatch,
    discover,
    discover_quietly,
    open_source,
    raw_to_frame,
)
from reclake.schemas.contract import Contract, parse, shipped
from reclake.schemas.errors import SourceError, SourceNotFoundError

EVENTS = shipped("events")
T0 = datetime(2022, 5, 2, tzinfo=UTC)
RECORD = {
    "type": "record",
    "name": "r",
    "fields": [{"name": "name", "type": "string"}, {"name": "n", "type": "long"}],
}


def mapped(columns: dict[str, Any] | None = None) -> Contract:
    fields = {
        "event_id": "concat(u, '-', t)",
        "user_id": "u",
        "item_id": "u",
        "event_type": "kind",
        "event_time": "t * 1000000",
    }
    mapping = {"columns": columns or {}, "emit": [{"fields": fields}]}
    return parse("mapped", EVENTS.avro_schema, policy={"mapping": mapping})


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


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path, *, contract: Contract = EVENTS, batch_rows: int = 1000, start: int = 0) -> list[SourceBatch]:
    return list(open_source(path, contract=contract, batch_rows=batch_rows).batches(start))


def until_error(path: Path, *, batch_rows: int, contract: Contract = EVENTS) -> tuple[list[int], SourceError]:
    """The numbers of the rows that came, and the error that ended them."""
    rows: list[int] = []
    batches = open_source(path, contract=contract, batch_rows=batch_rows).batches(0)
    with pytest.raises(SourceError) as caught:
        rows.extend(number for batch in batches for number in batch.rows.tolist())
    return rows, caught.value


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


# JSON lines


def test_lines_that_are_no_objects_are_set_aside_as_they_stand(tmp_path: Path) -> None:
    lines = [
        b'{"event_id": "a"}',
        b"",
        b"xx",
        b"[1]",
        b"42",
        b"null",
        b'{"event_id": "b"',
        b'{"event_id": "c"}\r',
        b"\xff",
    ]
    (batch,) = read(write(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert batch.rows.tolist() == [0, 7]
    assert batch.frame["event_id"].to_list() == ["a", "c"]
    assert [(bad.row, bad.raw) for bad in batch.undecodable] == [(n, lines[n]) for n in (2, 3, 4, 5, 6, 8)]
    assert batch.end_row == 9
    assert batch.raw([1, 0]) == [b'{"event_id": "c"}', b'{"event_id": "a"}']
    assert batch.undecodable[0].format == "json"
    assert batch.undecodable[0].reason["check"] == "decode"


def test_bad_lines_among_thousands_are_found_and_nothing_else_is(tmp_path: Path) -> None:
    lines = [b'{"event_id": "e%d", "user_id": %d}' % (n, n) for n in range(5000)]
    wrong = sorted({*range(0, 5000, 617), 4999, 1000, 1001})
    for place in wrong:
        lines[place] = lines[place][:-1]
    batches = read(write(tmp_path / "a.jsonl", b"\n".join(lines)), batch_rows=2048)
    assert [bad.row for batch in batches for bad in batch.undecodable] == wrong
    rows = np.concatenate([batch.rows for batch in batches])
    assert rows.tolist() == [n for n in range(5000) if n not in wrong]
    assert pl.concat([b.frame for b in batches])["user_id"].to_list() == [str(n) for n in rows]


def test_a_file_of_nothing_but_bad_lines_is_quarantined_whole(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path / "a.jsonl", b"nonsense\n" * 3000), batch_rows=5000)
    assert batch.frame.height == 0
    assert len(batch.undecodable) == 3000
    assert resolve(batch.frame, EVENTS).rows.height == 0


def test_json_values_survive_as_text_and_are_cast_strictly_later(tmp_path: Path) -> None:
    rows: list[tuple[str, str | None]] = [
        ("12345678901234567890123", "'12345678901234567890123'"),
        ("true", "'true'"),
        ('{"a": [1]}', """'{"a": [1]}'"""),
        ("1.5", "'1.5'"),
        ('"7"', None),
        ("8", None),
    ]
    data = "".join(
        f'{{"event_id": "e", "user_id": {v}, "item_id": 1, "event_type": "x", "event_time": 0}}\n' for v, _ in rows
    )
    (batch,) = read(write(tmp_path / "a.jsonl", data.encode()))
    resolved = resolve(batch.frame, EVENTS)
    assert resolved.rows["user_id"].to_list() == [7, 8]
    assert [r[0]["got"] for r in resolved.rejected["reasons"]] == [got for _, got in rows if got is not None]


def test_a_required_field_that_no_first_line_has_is_an_error_and_an_optional_one_is_null(tmp_path: Path) -> None:
    line = b'{"event_id": "e", "userid": 1, "item_id": 1, "event_type": "x", "event_time": 0}\n'
    (batch,) = read(write(tmp_path / "a.jsonl", line))
    with pytest.raises(SourceError) as caught:
        resolve(batch.frame, EVENTS)
    assert "did you mean 'userid'" in str(caught.value)
    (batch,) = read(write(tmp_path / "b.jsonl", line.replace(b"userid", b"user_id")))
    resolved = resolve(batch.frame, EVENTS)
    assert resolved.rows["watch_ms"].to_list() == [None]


def test_keys_that_nobody_reads_are_ignored_by_name(tmp_path: Path) -> None:
    line = b'{"event_id": "e", "user_id": 1, "item_id": 1, "event_type": "x", "event_time": 0, "extra": {"a": 1}}\n'
    (batch,) = read(write(tmp_path / "a.jsonl", line))
    assert resolve(batch.frame, EVENTS).ignored == ("extra",)


@pytest.mark.parametrize("data", [b"[\n{}\n]", b'[{"event_id": 1}]', b'{\n "event_id": 1\n}'])
def test_one_json_document_is_refused_with_the_command_that_splits_it(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        read(write(tmp_path / "a.json", data))
    assert "jq -c" in caught.value.parts()["what to do"]


def test_a_mapping_gets_the_types_of_the_first_lines_or_the_declared_ones(tmp_path: Path) -> None:
    data = b'{"u": 1, "t": 5, "kind": "a", "deep": {"x": 1}}\n{"u": 2, "t": "6", "kind": "b"}\n'
    data += b'{"u": "x", "t": 7, "kind": "c"}\n'
    (batch,) = read(write(tmp_path / "a.jsonl", data), contract=mapped({"u": "long", "t": "long"}))
    assert batch.frame.schema["deep"] == pl.Struct({"x": pl.Int64})
    assert batch.frame.select("u", "t").rows() == [(1, 5), (2, 6)]
    (bad,) = batch.undecodable
    assert (bad.row, bad.raw) == (2, b'{"u": "x", "t": 7, "kind": "c"}')
    assert (bad.reason["column"], bad.reason["expected"], bad.reason["got"]) == ("u", "long", "'x'")


def test_columns_and_types_come_from_the_beginning_wherever_a_resume_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_json, "HEAD_ROWS", 2)
    monkeypatch.setattr(text_types, "HEAD_ROWS", 2)
    lines = [b'{"u": %d, "t": 1, "kind": "a"}' % n for n in range(4)] + [b'{"u": 1.5, "t": 1, "kind": "a"}']
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    assert [bad.row for batch in read(path, contract=mapped(), batch_rows=2) for bad in batch.undecodable] == [4]
    (last,) = read(path, contract=mapped(), batch_rows=2, start=4)
    assert [bad.row for bad in last.undecodable] == [4]


# CSV


def test_ragged_rows_are_set_aside_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    data = b'a,b\n0,0\n1\n\n2,"x\ny"\n3,3,3\n4,"say ""hi"""\n'
    batches = read(write(tmp_path / "a.csv", data), batch_rows=2)
    assert [(b.first_row, b.end_row, b.rows.tolist()) for b in batches] == [(0, 2, [0]), (2, 4, [2]), (4, 5, [4])]
    assert pl.concat([b.frame for b in batches]).rows() == [("0", "0"), ("2", "x\ny"), ("4", 'say "hi"')]
    bad = [bad for b in batches for bad in b.undecodable]
    assert [(one.row, one.raw, one.format) for one in bad] == [(1, b"1", "csv"), (3, b"3,3,3", "csv")]
    assert (bad[1].reason["expected"], bad[1].reason["got"]) == ("2 fields", "3 fields")


def test_row_numbers_are_exact_across_read_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reclake.pipelines.decode_csv._BLOCK_BYTES", 64)
    lines = [b"%d" % n if n % 7 == 0 else b"%d,%d" % (n, n) for n in range(200)]
    path = write(tmp_path / "a.csv", b"a,b\n" + b"\n".join(lines))
    for batch_rows in (3, 50, 1000):
        batches = read(path, batch_rows=batch_rows)
        frame = pl.concat([b.frame for b in batches])
        assert frame["a"].cast(pl.Int64).to_list() == np.concatenate([b.rows for b in batches]).tolist()
        assert [bad.row for b in batches for bad in b.undecodable] == list(range(0, 200, 7))
        assert batches[-1].end_row == 200


def test_an_empty_field_is_null_unless_the_field_is_text(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path / "a.csv", b'user_id,request_id,surface\n1,,\n2,"",""\n'))
    assert batch.frame.rows() == [("1", "", None), ("2", "", None)]


@pytest.mark.parametrize("data", [b"a,b\n", b"a,b", b"\xef\xbb\xbfa,b\r\n"])
def test_a_file_of_nothing_but_a_header_has_no_rows(tmp_path: Path, data: bytes) -> None:
    assert read(write(tmp_path / "a.csv", data)) == []


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    for name, data in (("a.csv", b"user_id\n1\n"), ("a.jsonl", b'{"user_id": 1}\n')):
        (batch,) = read(write(tmp_path / name, b"\xef\xbb\xbf" + data))
        assert batch.frame["user_id"].to_list() == ["1"]


def test_a_row_that_is_not_utf8_is_set_aside_with_its_bytes(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path / "a.csv", b'a,b\n1,2\ncaf\xe9,"x,y"\n3,4\n'))
    assert batch.rows.tolist() == [0, 2]
    (bad,) = batch.undecodable
    assert (bad.row, bad.raw, bad.reason["expected"], bad.reason["column"]) == (1, b'caf\xe9,"x,y"', "UTF-8 text", "a")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_quote_that_is_never_closed_is_named_after_the_rows_before_it(tmp_path: Path, end: bytes) -> None:
    rows, error = until_error(write(tmp_path / "a.csv", b'a,b\n1,2\n3,"4\n5,6' + end), batch_rows=10)
    assert rows == [0]
    assert "row 1" in error.parts()["where"]
    (batch,) = read(write(tmp_path / "b.csv", b'a,b\n1,"2\n"\n'))
    assert batch.frame.rows() == [("1", "2\n")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a;b\n1;2\n", "commas"),
        (b"a,b,a\n1,2,3\n", "twice: 'a'"),
        (b"caf\xe9,b\n1,2\n", "UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"a\n1\n"), ".gz"),
    ],
)
def test_a_csv_file_that_is_something_else_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(write(tmp_path / "a.csv", data))
    assert says in str(caught.value)


def test_csv_columns_of_a_mapping_get_declared_types_or_those_of_the_first_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"u,t,kind,flag,part\n1,5,a,true,0.5\n2,,b,False,\nx,7,c,true,1\n")
    (batch,) = read(path, contract=mapped({"u": "long"}))
    assert batch.frame.rows() == [(1, 5, "a", True, 0.5), (2, None, "b", False, None)]
    assert [(bad.row, bad.raw) for bad in batch.undecodable] == [(2, b"x,7,c,true,1")]


# Any file


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

    monkeypatch.setattr("reclake.pipelines.sources._key", refuse)  # root, who runs some tests, may read everything
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
