"""JSON lines: what is no object is set aside as it stands, the rest is read by column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from decoding import EVENTS, mapped, read, write

import reclake
from reclake.pipelines.resolving import resolve
from reclake.pipelines.sources import decode_json, open_source, text_types
from reclake.schemas.contract import Contract, parse
from reclake.schemas.errors import SourceError


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


def test_numbers_read_as_numbers_or_as_text_resolve_to_the_same_events(tmp_path: Path) -> None:
    good = (
        '{"event_id": "e", "user_id": 9007199254740993, "item_id": 1, "event_type": "x", "event_time": 1, "value": 2}'
    )
    (fast,) = read(write(tmp_path / "a.jsonl", good.encode()))
    (slow,) = read(write(tmp_path / "b.jsonl", f"{good}\n{good.replace('1,', 'true,', 1)}\n\n".encode()))
    assert (fast.frame.schema["user_id"], slow.frame.schema["user_id"]) == (pl.Int64, pl.String)
    assert resolve(fast.frame, EVENTS).rows.equals(resolve(slow.frame, EVENTS).rows)
    assert resolve(slow.frame, EVENTS).rows["user_id"].to_list() == [9007199254740993]
    assert slow.rows.tolist() == [0, 1]


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


def with_field(**field: Any) -> Contract:
    schema = json.loads(json.dumps(EVENTS.avro_schema))
    schema["fields"].append(field | {"field-id": 99})
    return parse("aliased", schema)


@pytest.mark.parametrize("kind", ["string", "long", "double"])
def test_a_key_may_be_the_fields_name_in_one_line_and_an_alias_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(decode_json, "HEAD_ROWS", 2)
    contract = with_field(name="extra", type=["null", kind], default=None, aliases=["old", "older"])
    values = {"string": ["a", "b", "c", "d"], "long": [1, 2, 3, 2**60], "double": [1.5, 2.25, 3, 0.1]}[kind]
    keys = ["old", "old", "extra", "older"]
    row = {"event_id": "e", "user_id": 1, "item_id": 1, "event_type": "x", "event_time": 0}
    lines = [json.dumps(row | {key: value}) for key, value in zip(keys, values, strict=True)]
    (batch,) = read(write(tmp_path / "a.jsonl", "\n".join(lines).encode()), contract=contract)
    resolved = resolve(batch.frame, contract)
    assert (resolved.rows["extra"].to_list(), resolved.ignored, batch.unread) == (values, (), ())


def test_what_only_later_lines_have_is_resolved_quarantined_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_json, "HEAD_ROWS", 2)
    row = {"event_id": "e", "user_id": 1, "item_id": 1, "event_type": "x", "event_time": 0}
    later = [{"watch_ms": 7}, {"watch_ms": "8"}, {"watch_ms": "long"}, {"user_id": {"deep": 1}}, {"shelf": [1]}]
    lines = [json.dumps(row)] * 3 + [json.dumps(row | more) for more in later]
    source = open_source(write(tmp_path / "a.jsonl", "\n".join(lines).encode()), contract=EVENTS, batch_rows=99)
    monkeypatch.setattr(decode_json, "HEAD_ROWS", 99)
    (batch,) = source.batches(0)
    resolved = resolve(batch.frame, EVENTS)
    assert resolved.rows["watch_ms"].to_list() == [None, None, None, 7, 8, None]
    assert resolved.rejected["_row"].to_list() == [5, 6]
    assert (batch.undecodable, batch.unread) == ((), ("shelf",))


def test_nested_values_that_change_their_shape_later_are_quarantined_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_json, "HEAD_ROWS", 2)
    head = [{"u": n, "t": 1, "kind": "a", "deep": {"x": 1}} for n in range(2)]
    later: list[Any] = [{"x": 2}, {"x": "text"}, 5, [1], {"x": 1.5}, None]
    lines = [json.dumps(line) for line in [*head, *({"u": 9, "t": 1, "kind": "a", "deep": value} for value in later)]]
    (batch,) = read(write(tmp_path / "a.jsonl", "\n".join(lines).encode()), contract=mapped())
    assert batch.rows.tolist() == [0, 1, 2, 7]
    assert [bad.row for bad in batch.undecodable] == [3, 4, 5, 6]
    assert all(bad.reason["got"] for bad in batch.undecodable)


def test_a_column_that_nobody_reads_is_named_though_it_comes_late(tmp_path: Path) -> None:
    line = '{"event_id": "e%d", "user_id": 1, "item_id": 1, "event_type": "x", "event_time": "2024-03-01"%s}'
    lines = [line % (n, "" if n < 1200 else ', "shelf": 1') for n in range(3000)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    result = lake.ingest("events", tmp_path / "a.jsonl")
    assert (result.admitted, result.ignored_columns) == (3000, ("shelf",))


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    line = '{"event_id": "e%d", "user_id": 1, "item_id": 1, "event_type": "x", "event_time": "2024-03-01"}'
    (tmp_path / "a.jsonl").write_text("\n\n".join([line % 1, "{broken", "  ", line % 2]) + "\n\n\n")
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    result = lake.ingest("events", tmp_path / "a.jsonl")
    assert (result.rows, result.read, result.admitted, result.quarantined) == (3, 3, 2, 1)
    assert lake.catalog.table("quarantine").scan().collect()["row"].to_list() == [2]
    assert lake.ingest("events", tmp_path / "a.jsonl").rows == 0


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
