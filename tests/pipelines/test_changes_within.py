"""Defaults of fields within records, lists and maps: they belong to rows, as those of the row's own fields do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reclake.pipelines.evolve import evolve, plan
from reclake.pipelines.lake import Lake
from reclake.schemas import contract as contracts
from reclake.schemas.changes import AddField, Change, ChangeDefault, RenameField, changed
from reclake.storage.catalog import Catalog
from reclake.storage.compaction import compact

DEVICE = {"type": "record", "name": "device", "fields": [{"name": "os", "type": "string"}]}
ITEM = {"type": "record", "name": "item", "fields": [{"name": "id", "type": "int"}]}
CELL = {"type": "record", "name": "cell", "fields": [{"name": "c", "type": "int"}]}
MORE: list[dict[str, Any]] = [
    {"name": "device", "type": ["null", DEVICE], "default": None, "field-id": 101},
    {"name": "list", "type": {"type": "array", "items": ITEM}, "default": [{"id": 1}], "field-id": 102},
    {"name": "map", "type": {"type": "map", "values": ["null", CELL]}, "default": {"k": {"c": 1}}, "field-id": 103},
]
STEPS: list[list[Change]] = [
    [AddField("", field) for field in MORE],
    [
        AddField("device", {"name": "h", "type": "int", "default": 2}),
        AddField("list[]", {"name": "q", "type": "int", "default": 7}),
        AddField("map{}", {"name": "q", "type": ["null", "int"], "default": None}),
    ],
    [
        ChangeDefault("device.h", 20),
        ChangeDefault("list[].q", 70),
        ChangeDefault("map{}.q", 70),
        RenameField("list[].q", "count"),
    ],
]


def put(lake: Lake, name: str, **more: Any) -> None:
    row = {"event_id": name, "user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10, "available_at": 10}
    path = lake.catalog.root.parent / f"{name}.jsonl"
    path.write_text(json.dumps(row | more))
    assert lake.ingest("mine", path).admitted == 1


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """One row before any of the steps, and one after each."""
    catalog = Catalog.create(tmp_path / "lake", buckets=1)
    events = catalog.contract("events").avro_schema
    catalog.add_contract(contracts.parse("mine", events | {"fields": events["fields"][:6]}))
    lake = Lake.open(tmp_path / "lake")
    put(lake, "0")
    for number, changes in enumerate(STEPS, 1):
        evolve(lake.catalog, changed(lake.catalog.contract("mine"), changes))
        lake.pin(f"p{number}")
        put(lake, str(number), device={"os": "ios"})
    return lake


def rows_of(lake: Lake, **how: Any) -> dict[str, tuple[Any, Any, Any]]:
    rows = lake.scan("events", contract="mine", **how).select("event_id", "device", "list", "map").collect()
    return {name: found for name, *found in rows.sort("event_id").iter_rows()}  # type: ignore[misc]


OLD, NEW = {"os": "ios", "h": 2}, {"os": "ios", "h": 20}
ROWS = {
    "0": [None, [{"id": 1, "count": 7}], {"k": {"c": 1, "q": None}}],
    "1": [OLD, [{"id": 1, "count": 7}], {"k": {"c": 1, "q": None}}],
    "2": [OLD, [{"id": 1, "count": 7}], {"k": {"c": 1, "q": None}}],
    "3": [NEW, [{"id": 1, "count": 70}], {"k": {"c": 1, "q": 70}}],
}


def test_a_default_within_a_record_list_or_map_belongs_to_rows(lake: Lake) -> None:
    assert rows_of(lake) == ROWS
    for pin, names in (("p1", "0"), ("p2", "01"), ("p3", "012")):
        assert rows_of(lake, pin=pin, newest=True) == {name: ROWS[name] for name in names}
    compact(lake.catalog.table("events"))
    assert rows_of(lake) == ROWS
    lake.seal(through="1970-01-02")
    timeline = pl.DataFrame(lake.timeline(1)).sort("event_id")
    assert [list(row) for row in timeline.select("device", "list", "map").rows()] == list(ROWS.values())


def test_a_plan_says_which_default_rows_read_within_a_field(lake: Lake) -> None:
    stored = plan(lake.catalog, lake.catalog.contract("mine")).stored
    told = {field.field: field.reads_as for field in stored[1].fields}
    assert told["device"] == "device: record of (os: string, h: int = 2) or null"
    assert told["list"] == "list: array of record of (id: int, count: int = 7)"
    assert told["map"] == "map: map of (record of (c: int, q: int or null, null) or null)"
    assert stored[-1].fields == ()


def test_rows_of_old_and_new_writers_stand_in_one_file_and_each_record_names_its_own_fields(tmp_path: Path) -> None:
    def record(name: str) -> dict[str, Any]:
        fields = [{"name": "os", "type": "string"}, {"name": "w", "type": ["null", "int"], "default": None}]
        return {"type": "record", "name": name, "fields": fields}

    types = {
        "one": record("a"),
        "many": {"type": "array", "items": record("b")},
        "by": {"type": "map", "values": record("c")},
        "deep": {"type": "record", "name": "d", "fields": [{"name": "in", "type": record("e")}]},
    }
    lake = Lake.create(tmp_path / "lake", buckets=1)
    events = contracts.shipped("events").avro_schema
    fields = [{"name": name, "type": type_, "field-id": 101 + n} for n, (name, type_) in enumerate(types.items())]
    lake.evolve(contracts.parse("mine", events | {"fields": [*events["fields"][:6], *fields]}))
    renames = [
        RenameField(f"{path}.{old}", new)
        for path in ("one", "many[]", "by{}", "deep.in")
        for old, new in (("os", "system"), ("w", "width"))
    ]
    lake.evolve(changed(lake.catalog.contract("mine"), renames))
    told = {"old": {"os": "x", "w": 3}, "new": {"system": "y", "width": 4}, "null": {"system": "z", "width": None}}
    row = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10, "available_at": 10}
    rows = [
        row | {"event_id": name, "one": one, "many": [one, *told.values()], "by": {"k": one}, "deep": {"in": one}}
        for name, one in told.items()
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert lake.ingest("mine", tmp_path / "a.jsonl").admitted == 3
    read = {"old": {"system": "x", "width": 3}, "new": told["new"], "null": told["null"]}
    found = lake.scan("events").select("event_id", *types).collect().to_dicts()
    assert len(found) == 3
    for each in found:
        one = read[each["event_id"]]
        assert (each["one"], each["deep"], dict(each["by"])) == (one, {"in": one}, {"k": one})
        assert each["many"] == [one, *read.values()]
