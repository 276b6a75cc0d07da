"""Messages with schema ids to contract rows: old and new writers in one batch, and what cannot be read is kept."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from reclake.pipelines.ingest import ingest_batch, target_of
from reclake.pipelines.lake import Lake
from reclake.pipelines.run import Run
from reclake.pipelines.sources import framed_batch
from reclake.schemas import contract as contracts
from reclake.schemas.errors import SourceError

BASE: list[dict[str, Any]] = [
    {"name": "event_id", "type": "string", "field-id": 1},
    {"name": "user_id", "type": "long", "field-id": 2},
    {"name": "item_id", "type": "long", "field-id": 3},
    {"name": "event_type", "type": "string", "field-id": 4},
    {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}, "field-id": 5},
]
KIND = {"type": "enum", "name": "kinds", "symbols": ["A", "B"], "default": "A"}
SYSTEM = {"type": "record", "name": "device", "fields": [{"name": "system", "aliases": ["os"], "type": "string"}]}
AVAILABLE = ["null", BASE[4]["type"]]
CONTRACT = contracts.parse(
    "mine",
    {
        "type": "record",
        "name": "mine",
        "fields": [
            *BASE,
            {"name": "available_at", "type": AVAILABLE, "default": None, "field-id": 6},
            {"name": "page", "aliases": ["tab"], "type": ["null", "long"], "default": None, "field-id": 7},
            {"name": "kind", "type": KIND, "default": "B", "field-id": 8},
            {"name": "device", "type": ["null", SYSTEM], "default": None, "field-id": 9},
            {"name": "counts", "type": {"type": "map", "values": "long"}, "default": {"none": 0}, "field-id": 10},
            {"name": "tip", "type": ["long", "null"], "default": 5, "field-id": 11},
        ],
    },
)


def writer(*fields: dict[str, Any]) -> dict[str, Any]:
    plain = [{key: value for key, value in one.items() if key != "field-id"} for one in BASE]
    return {"type": "record", "name": "mine", "fields": [*plain, *fields]}


OS = {"type": "record", "name": "device", "fields": [{"name": "os", "type": "string"}]}
NOW = {"type": "record", "name": "device", "fields": [{"name": "system", "type": "string"}]}
SCHEMAS = {
    1: writer({"name": "tab", "type": "int"}, {"name": "device", "type": OS}),
    2: writer(
        {"name": "page", "type": "long"},
        {"name": "device", "type": NOW},
        {"name": "kind", "type": "string"},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "tip", "type": ["null", "long"]},
    ),
}


def message(id_: int, **row: Any) -> bytes:
    out = io.BytesIO()
    base = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10}
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMAS[id_]), base | row)
    return b"\0" + id_.to_bytes(4, "big") + out.getvalue()


def new(name: str, **row: Any) -> bytes:
    return message(2, **({"event_id": name, "page": 2, "device": {"system": "x"}, "kind": "A"} | MORE | row))


MORE: dict[str, Any] = {"counts": {"a": 1}, "tip": None}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake.create(tmp_path / "lake", buckets=1)
    lake.catalog.add_contract(CONTRACT)
    return lake


def ingest(lake: Lake, messages: list[bytes]) -> tuple[int, int]:
    target = target_of(lake.catalog, CONTRACT)
    target.table.create(target.stored)
    batch = framed_batch(messages, SCHEMAS, CONTRACT)
    counts, _ = ingest_batch(target, batch, source_name="topic", key="topic-0", run=Run())
    return counts.admitted, counts.quarantined


def test_old_and_new_writers_take_turns_and_both_read_right(lake: Lake) -> None:
    old = [message(1, event_id=f"o{n}", tab=n, device={"os": "ios"}) for n in range(2)]
    assert ingest(lake, [old[0], new("n0"), old[1], new("n1", kind="Z", counts={"b": 2}, tip=7)]) == (4, 0)
    rows = lake.scan("events", contract="mine").sort("event_id").select("page", "kind", "device", "counts", "tip")
    assert rows.collect().rows() == [
        (2, "A", {"system": "x"}, {"a": 1}, None),
        (2, "A", {"system": "x"}, {"b": 2}, 7),  # a symbol that the contract does not have reads as the enum's default
        (0, "B", {"system": "ios"}, {"none": 0}, 5),
        (1, "B", {"system": "ios"}, {"none": 0}, 5),
    ]


def test_a_message_that_cannot_be_read_is_kept_as_it_came(lake: Lake) -> None:
    good = new("a")
    assert ingest(lake, [good, good[:-1], b"\0\0\0\0\x09x", b""]) == (1, 3)
    kept = lake.catalog.table("quarantine").scan().sort("row").collect()
    assert kept.select("row", "format", "raw").rows() == [
        (1, "avro", good[:-1]),
        (2, "avro", b"\0\0\0\0\x09x"),
        (3, "avro", b""),
    ]
    assert "unknown schema id: 9" in kept["reasons"][1][0]["got"]
    again = lake.replay("mine")
    assert (again.read, again.quarantined) == (3, 3)


def test_a_value_that_the_contract_does_not_take_is_quarantined_alone_and_can_be_replayed(lake: Lake) -> None:
    SCHEMAS[3] = writer({"name": "page", "type": "string"})
    bad = message(3, event_id="bad", page="third")
    assert ingest(lake, [new("a"), bad, new("b")]) == (2, 1)
    (row,) = lake.catalog.table("quarantine").scan().collect().to_dicts()
    assert json.loads(row["raw"])["page"] == "third"
    assert [(r["column"], r["expected"], r["got"]) for r in row["reasons"]] == [("page", "long", "'third'")]
    del SCHEMAS[3]


def test_a_schema_that_contains_itself_is_refused(lake: Lake) -> None:
    schema = writer({"name": "next", "type": ["null", "mine"]})
    with pytest.raises(SourceError, match="contains itself"):
        framed_batch([b"\0\0\0\0\x01"], {1: schema}, CONTRACT)


def test_a_container_of_a_schema_that_contains_itself_is_refused_with_its_path(lake: Lake, tmp_path: Path) -> None:
    schema = writer({"name": "next", "type": ["null", "mine"]})
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, schema, [])
    with pytest.raises(SourceError, match="contains itself") as caught:
        lake.ingest("mine", tmp_path / "a.avro")
    assert "a.avro" in str(caught.value.where)


def test_a_union_of_several_types_is_cast_value_by_value(lake: Lake, tmp_path: Path) -> None:
    several = ["null", "string", "long", {"type": "map", "values": "int"}]
    schema = writer({"name": "page", "type": several}, {"name": "counts", "type": several})
    base = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10}
    rows = [
        {"event_id": "a", "page": 7, "counts": {"x": 1}},
        {"event_id": "b", "page": "8", "counts": None},
        {"event_id": "c", "page": {"x": 1}, "counts": None},
    ]
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [base | row for row in rows])
    assert lake.ingest("mine", tmp_path / "a.avro").quarantined == 1
    read = lake.scan("events", contract="mine").sort("event_id").select("page", "counts").collect()
    assert read.rows() == [(7, {"x": 1}), (8, {"none": 0})]


def test_json_lines_of_old_and_new_writers_may_stand_in_one_file(lake: Lake, tmp_path: Path) -> None:
    base = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10}
    rows: list[dict[str, Any]] = [
        {"event_id": "new", "page": 1, "device": {"system": "ios"}},
        {"event_id": "none"},
        {"event_id": "old", "tab": 2, "device": {"os": "ios"}},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(base | row) for row in rows))
    assert lake.ingest("mine", tmp_path / "a.jsonl").admitted == 3
    seen = lake.scan("events").sort("event_id").collect()
    assert seen["page"].to_list() == [1, None, 2]
    assert seen["device"].to_list() == [{"system": "ios"}, None, {"system": "ios"}]


def test_json_lines_tell_a_null_from_a_field_that_is_not_there(lake: Lake, tmp_path: Path) -> None:
    base = {"user_id": 1, "item_id": 2, "event_type": "tip", "event_time": 10}
    rows = [{"event_id": "a"}, {"event_id": "b", "tip": None}, {"event_id": "c", "tip": 1}, {"event_id": "tip"}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(base | row) for row in rows))
    lake.ingest("mine", tmp_path / "a.jsonl")
    assert lake.scan("events").sort("event_id").collect()["tip"].to_list() == [5, None, 1, 5]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".avro"])
def test_maps_arrive_from_every_format_and_a_value_that_does_not_fit_is_quarantined(
    lake: Lake, tmp_path: Path, suffix: str
) -> None:
    base = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10}
    rows = [base | {"event_id": "a", "counts": {"x": 1, "y": 2}}, base | {"event_id": "b", "counts": {}}]
    bad = base | {"event_id": "c", "counts": {"x": 1.5}}
    path = tmp_path / f"a{suffix}"
    map_ = pl.Map(pl.String(), pl.Float64())
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in [*rows, bad]))
    elif suffix == ".parquet":
        pl.DataFrame([*rows, bad], schema_overrides={"counts": map_}).write_parquet(path)
    else:
        schema = writer({"name": "counts", "type": {"type": "map", "values": "double"}})
        with path.open("wb") as file:
            fastavro.writer(file, fastavro.parse_schema(schema), [*rows, bad])
    result = lake.ingest("mine", path)
    assert (result.admitted, result.quarantined) == (2, 1)
    assert lake.scan("events").sort("event_id").collect()["counts"].to_list() == [{"x": 1, "y": 2}, {}]
    (reason,) = lake.catalog.table("quarantine").scan().collect()["reasons"][0].to_list()
    assert (reason["column"], reason["expected"]) == ("counts", "map of long")
