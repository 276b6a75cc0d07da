"""Every row of the table in docs/schema-changes.md, carried out on a lake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import polars as pl
import pytest

from reclake.pipelines.evolve import Plan, evolve, plan
from reclake.pipelines.lake import Lake
from reclake.schemas import contract as contracts
from reclake.schemas.changes import (
    AddAliases,
    AddField,
    AddSymbol,
    Annotate,
    Change,
    ChangeDefault,
    DropDefault,
    DropField,
    DropSymbol,
    MakeOptional,
    MakeRequired,
    RenameField,
    RenameType,
    ReorderFields,
    RetypeField,
    WidenField,
    changed,
)
from reclake.schemas.contract import Contract
from reclake.schemas.errors import ContractError
from reclake.schemas.recipe import parse as parse_recipe
from reclake.storage.catalog import Catalog
from reclake.storage.compaction import compact

PAGE = Path(__file__).parents[2] / "docs" / "schema-changes.md"
ROW = re.compile(r"^\| (?P<change>.+?) \| (?P<verdict>accept|refuse|quarantine) \|", re.MULTILINE)
TABLE = {found["change"]: found["verdict"] for found in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
QUARANTINED = object()

TIME = {"type": "long", "logicalType": "timestamp-micros"}
DEVICE = {
    "type": "record",
    "name": "device",
    "fields": [{"name": "os", "type": "string"}, {"name": "w", "type": "int"}],
}
HEIGHT = {"name": "h", "type": "int", "default": 2}
FIELDS: list[dict[str, Any]] = [
    {"name": "event_id", "type": "string", "field-id": 1},
    {"name": "user_id", "type": "long", "field-id": 2},
    {"name": "item_id", "type": "long", "field-id": 3},
    {"name": "event_type", "type": "string", "field-id": 4},
    {"name": "event_time", "type": TIME, "field-id": 5},
    {"name": "available_at", "type": ["null", TIME], "default": None, "field-id": 6},
    {"name": "tab", "type": ["null", "int"], "default": None, "field-id": 7},
    {"name": "n", "type": "long", "default": 0, "field-id": 8},
    {"name": "f", "type": "float", "default": 0.5, "field-id": 9},
    {"name": "s", "type": "string", "default": "", "field-id": 10},
    {"name": "b", "type": ["null", "bytes"], "default": None, "field-id": 11},
    {"name": "device", "type": ["null", DEVICE], "default": None, "field-id": 12},
    {"name": "prices", "type": {"type": "array", "items": "float"}, "default": [], "field-id": 13},
    {"name": "counts", "type": {"type": "map", "values": "int"}, "default": {}, "field-id": 14},
    {"name": "kind", "type": {"type": "enum", "name": "kinds", "symbols": ["A", "B"]}, "default": "A", "field-id": 15},
    {"name": "m", "type": "int", "default": 0, "field-id": 16},
]
MINE = contracts.parse("mine", {"type": "record", "name": "mine", "fields": FIELDS})
ROW_OF_ALL = {"tab": 3, "n": 4, "f": 1.5, "s": "x", "b": b"y", "device": {"os": "ios", "w": 9}, "prices": [1.5]}
ROW_OF_ALL |= {"counts": {"a": 1}, "kind": "B", "m": 7}


@dataclass(frozen=True)
class Case:
    """`changes`: from MINE, or a function that gives the next contract; `stored`: of the row that is there; `reads`: of
    that row afterwards; `late`: of a row that a writer with the schema before brings then, `brings` as what it reads.
    """

    changes: list[Change] | Callable[[Contract], Contract]
    stored: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, Any] = field(default_factory=dict)
    late: dict[str, Any] = field(default_factory=dict)
    brings: Any = None
    says: str = ""
    before: Callable[[Lake], None] | None = None


def field_of(name: str, type_: Any, **more: Any) -> AddField:
    return AddField("", {"name": name, "type": type_, "field-id": 40} | more)


def drop_first(dropped: Change) -> Callable[[Lake], None]:
    """A version in between, so that what is used again was last used two versions ago."""
    return lambda lake: void(evolve(lake.catalog, changed(lake.catalog.contract("mine"), [dropped])))


def void(_: object) -> None:
    return None


def with_recipe(lake: Lake) -> None:
    lake.catalog.add_recipe(parse_recipe({"name": "tabs", "exposure": "view", "features": ["tab"]}))


def with_other(lake: Lake) -> None:
    fields = [*FIELDS[:6], {"name": "price", "type": "string", "default": "", "field-id": 7}]
    other = {"type": "record", "name": "other", "fields": fields}
    lake.catalog.add_contract(contracts.parse("other", other))


def policy(**entries: Any) -> Callable[[Contract], Contract]:
    return lambda last: contracts.parse("mine", last.avro_schema, policy=entries)


def checked(last: Contract) -> Contract:
    check = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "n", "max_value": 5}}
    return contracts.parse("mine", last.avro_schema, suite={"name": "mine", "expectations": [check]})


def content(last: Contract) -> Contract:
    return contracts.parse("mine", contracts.shipped("content").avro_schema, policy={"kind": "content"})


AS_IT_IS = {"tab": 3, "n": 4, "f": 1.5, "s": "x", "device": {"os": "ios", "w": 9}, "kind": "B"}
BIG = 2**53 + 1
CASES: dict[str, Case] = {
    "add a field with a default": Case(
        [field_of("tip", "string", default="none")], reads=AS_IT_IS | {"tip": "none"}, brings={"tip": "none"}
    ),
    "add a field that may be null, with another default": Case(
        [field_of("tip", ["long", "null"], default=7)], reads={"tip": 7}, brings={"tip": 7}
    ),
    "add a field without a default": Case([field_of("tip", ["null", "long"])], says="no default"),
    "add a field with a default within a record": Case(
        [AddField("device", HEIGHT)],
        reads={"device": {"os": "ios", "w": 9, "h": 2}},
        brings={"device": {"os": "ios", "w": 9, "h": 2}},
    ),
    "add a field without a default within a record": Case(
        [AddField("device", {"name": "h", "type": "int"})], says="no default"
    ),
    "drop a field": Case([DropField("n")], reads={"n": KeyError, "tab": 3}, brings={"n": KeyError}),
    "drop a field within a record": Case(
        [DropField("device.w")], reads={"device": {"os": "ios"}}, brings={"device": {"os": "ios"}}
    ),
    "drop a field that a recipe reads": Case([DropField("tab")], says="recipe tabs", before=with_recipe),
    "drop a field that every contract of its kind has": Case([DropField("item_id")], says="item_id"),
    "rename a field": Case([RenameField("tab", "page")], reads={"page": 3, "tab": KeyError}, brings={"page": 3}),
    "rename a field within a record": Case(
        [RenameField("device.os", "system")],
        reads={"device": {"system": "ios", "w": 9}},
        brings={"device": {"system": "ios", "w": 9}},
    ),
    "rename a field that every contract of its kind has": Case([RenameField("user_id", "who")], says="user_id"),
    "give a field a name that another had": Case(
        [field_of("tab", ["null", "int"], default=None)], says="name that another", before=drop_first(DropField("tab"))
    ),
    "give a field an id that another had": Case(
        [field_of("page", ["null", "int"], default=None, **{"field-id": 7})],
        says="id is used again",
        before=drop_first(DropField("tab")),
    ),
    "reorder fields": Case(
        [ReorderFields("", tuple(f["name"] for f in reversed(FIELDS))), ReorderFields("device", ("w", "os"))],
        reads=AS_IT_IS,
        brings=AS_IT_IS,
    ),
    "widen int to long": Case([WidenField("tab", "long")], reads={"tab": 3}, brings={"tab": 3}),
    "widen int to double": Case([WidenField("m", "double")], reads={"m": 7.0}, brings={"m": 7.0}),
    "widen float to double": Case([WidenField("f", "double")], reads={"f": 1.5}, brings={"f": 1.5}),
    "widen string to bytes": Case([WidenField("s", "bytes")], reads={"s": b"x"}, brings={"s": b"x"}),
    "widen int to float, long to float or long to double, all values exact": Case(
        [WidenField("tab", "float"), WidenField("n", "double")],
        reads={"tab": 3.0, "n": 4.0},
        brings={"tab": 3.0, "n": 4.0},
    ),
    "widen long to double, a stored value not exact": Case(
        [WidenField("n", "double")], stored={"n": BIG}, says="not hold exactly"
    ),
    "widen long to double, a later value not exact": Case(
        [WidenField("n", "double")], late={"n": BIG}, brings=QUARANTINED
    ),
    "widen bytes to string, all values text": Case([WidenField("b", "string")], reads={"b": "y"}, brings={"b": "y"}),
    "widen bytes to string, a stored value no text": Case(
        [WidenField("b", "string")], stored={"b": b"\xff"}, says="no text"
    ),
    "widen bytes to string, a later value no text": Case(
        [WidenField("b", "string")], late={"b": b"\xff"}, brings=QUARANTINED
    ),
    "widen within a record, list or map, exactly": Case(
        [WidenField("device.w", "long"), WidenField("prices[]", "double"), WidenField("counts{}", "long")],
        reads={"device": {"os": "ios", "w": 9}, "prices": [1.5], "counts": {"a": 1}},
        brings={"device": {"os": "ios", "w": 9}, "prices": [1.5], "counts": {"a": 1}},
    ),
    "widen within a record, list or map, long to double": Case([WidenField("device.w", "float")], says="may not fit"),
    "narrow a field, or give it any other type": Case([RetypeField("n", "int")], says="does not become"),
    "add an enum symbol": Case([AddSymbol("kind", "C")], reads={"kind": "B"}, brings={"kind": "B"}),
    "a symbol that the contract does not have": Case(
        [Annotate("kind", {"doc": "x"})], late={"kind": "Z"}, brings=QUARANTINED
    ),
    "a symbol that the contract does not have, its enum has a default": Case(
        [Annotate("kind", {"default": "A"}, of_type=True)],
        reads={"kind": "B"},
        late={"kind": "Z"},
        brings={"kind": "A"},
    ),
    "drop an enum symbol": Case([DropSymbol("kind", "A")], says="drop symbol A"),
    "change a default": Case([ChangeDefault("s", "new")], reads={"s": "x"}, late={"s": None}, brings={"s": "new"}),
    "drop a default": Case([DropDefault("n")], says="rely on it"),
    "make a required field optional": Case([MakeOptional("n")], reads={"n": 4}, brings={"n": 4}),
    "make an optional field required, no null stored": Case([MakeRequired("tab")], reads={"tab": 3}, brings={"tab": 3}),
    "make an optional field required, a null stored": Case(
        [MakeRequired("tab")], stored={"tab": None}, says="no value"
    ),
    "make an optional field required, a null comes later": Case(
        [MakeRequired("tab")], late={"tab": None}, brings=QUARANTINED
    ),
    "rename the record, the old name an alias": Case(
        [RenameType("", "ours", None), AddAliases("", ("mine",), of_type=True)], reads=AS_IT_IS, brings=AS_IT_IS
    ),
    "rename the record without an alias": Case([RenameType("", "ours", None)], says="nor an alias"),
    "take a name that another contract of the table has with another type": Case(
        [field_of("price", "double", default=0.0)], says="another type in the table", before=with_other
    ),
    "use a type that Delta tables do not have": Case(
        [field_of("at", ["null", {"type": "long", "logicalType": "time-micros"}], default=None)], says="Delta"
    ),
    "change checks, mapping or policy": Case(checked, reads=AS_IT_IS, brings=AS_IT_IS),
    "change the kind": Case(content, says="kind"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with MINE alone."""
    root = tmp_path_factory.mktemp("template") / "lake"
    Catalog.create(root, buckets=1)
    shutil.rmtree(root / "contracts")
    Catalog.open(root).add_contract(MINE)
    return root


@pytest.fixture
def lake(template: Path, tmp_path: Path) -> Lake:
    shutil.copytree(template, tmp_path / "lake")
    return Lake.open(tmp_path / "lake")


def put(lake: Lake, name: str, row: dict[str, Any]) -> tuple[int, int]:
    """Ingest one row as a writer with the schema MINE gives it: an Avro container. (admitted, quarantined)."""
    base = {"event_id": name, "user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10, "available_at": 10}
    schema = MINE.avro_schema
    for one in schema["fields"]:  # what a case gives that MINE's field could not hold is written as it is
        if one["name"] == "kind":
            one["type"] = "string"
        elif one["name"] in row and row[one["name"]] is None and one["type"][0] != "null":
            one["type"] = ["null", one["type"]]
    path = lake.catalog.root.parent / f"{name}.avro"
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [base | ROW_OF_ALL | row])
    result = lake.ingest("mine", path)
    return result.admitted, result.quarantined


def read(lake: Lake, name: str, **how: Any) -> dict[str, Any]:
    (row,) = lake.scan("events", **how).filter(pl.col("event_id") == name).collect().to_dicts()
    return row


def check(row: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if value is KeyError:
            assert name not in row
        else:
            assert (row[name], type(row[name])) == (value, type(value)), name


def test_the_table_and_the_tests_have_the_same_rows() -> None:
    assert list(TABLE) == list(CASES)


@pytest.mark.parametrize("name", TABLE)
def test_a_change_is_what_the_table_says(lake: Lake, name: str) -> None:
    case = CASES[name]
    put(lake, "there", case.stored)
    lake.pin("then")
    pinned = read(lake, "there", pin="then")
    if case.before is not None:
        case.before(lake)
    last = lake.catalog.contract("mine")
    files = sorted(lake.catalog.table("events").files())
    if TABLE[name] == "refuse":
        with pytest.raises(ContractError, match=re.escape(case.says)) as caught:
            carry_out(lake, case, last)
        assert {"where", "expected", "got"} <= caught.value.parts().keys()
        assert lake.catalog.contract("mine") == last
        return
    made = carry_out(lake, case, last)
    assert made.accepted
    assert made.contract.version == last.version + 1
    assert sorted(lake.catalog.table("events").files()) == files, "nothing is written again"
    check(read(lake, "there"), case.reads)
    check(read(lake, "there", pin="then", newest=True), case.reads)
    assert read(lake, "there", pin="then") == pinned
    if case.brings is QUARANTINED:
        assert put(lake, "late", case.late) == (0, 1)
        (reason,) = lake.catalog.table("quarantine").scan().collect()["reasons"][0].to_list()
        assert all(reason[part] for part in ("column", "expected", "got"))
    else:
        assert put(lake, "late", case.late) == (1, 0)
        check(read(lake, "late"), case.brings)
    check(read(lake, "there"), case.reads)
    plain_readers_open(lake)


def carry_out(lake: Lake, case: Case, last: Contract) -> Plan:
    following = changed(last, case.changes) if isinstance(case.changes, list) else case.changes(last)
    planned = plan(lake.catalog, following)
    made = evolve(lake.catalog, following)
    assert (made.rulings, made.stored) == (planned.rulings, planned.stored)
    return made


def plain_readers_open(lake: Lake) -> None:
    table = lake.catalog.table("events")
    rows = lake.scan("events").collect().height
    assert pl.scan_delta(table.uri).collect().height == rows
    files = ", ".join(f"'{path}'" for path in table.files())
    assert duckdb.sql(f"select count(*) from read_parquet([{files}], union_by_name=true)").fetchall() == [(rows,)]


def test_reading_survives_sealing_compaction_and_a_second_change(lake: Lake) -> None:
    put(lake, "a", {})
    steps: list[list[Change]] = [
        [RenameField("tab", "page"), field_of("tip", ["long", "null"], default=7), WidenField("f", "double")],
        [
            WidenField("page", "long"),
            ChangeDefault("tip", 8),
            AddField("device", {"name": "h", "type": "int", "default": 2}),
        ],
    ]
    for number, changes in enumerate(steps):
        evolve(lake.catalog, changed(lake.catalog.contract("mine"), changes))
        assert put(lake, f"b{number}", {}) == (1, 0)
    expected = {"a": (3, 7, 1.5), "b0": (3, 7, 1.5), "b1": (3, 8, 1.5)}

    def seen(rows: pl.DataFrame) -> dict[str, Any]:
        assert rows["device"].struct.field("h").to_list() == [2, 2, 2]
        return {row["event_id"]: (row["page"], row["tip"], row["f"]) for row in rows.to_dicts()}

    assert seen(lake.scan("events").collect()) == expected
    compact(lake.catalog.table("events"))
    assert seen(lake.scan("events").collect()) == expected
    assert seen(pl.DataFrame(lake.timeline(1))) == expected
    lake.seal(through="1970-01-02")
    assert seen(lake.scan("timelines").collect()) == expected
    assert seen(pl.DataFrame(lake.timeline(1))) == expected


def test_reading_survives_eras_that_merge_and_users_who_are_forgotten(lake: Lake) -> None:
    def put_day(day: int) -> None:
        at = f"2024-01-{day:02d}T10:00:00Z"
        base = {"item_id": 2, "event_type": "view", "event_time": at, "available_at": at, "tab": day}
        path = lake.catalog.root.parent / f"{day}.jsonl"
        path.write_text("\n".join(json.dumps(base | {"event_id": f"{u}-{day}", "user_id": u}) for u in (1, 2)))
        assert lake.ingest("mine", path).admitted == 2

    put_day(1)
    put_day(2)
    lake.seal(through="2024-01-03")
    changes: list[Change] = [RenameField("tab", "page"), WidenField("page", "long"), field_of("tip", "int", default=5)]
    evolve(lake.catalog, changed(lake.catalog.contract("mine"), changes))
    for day in range(3, 24):
        put_day(day)
    lake.seal(through="2024-01-24")
    eras = lake.scan("timelines").select("era").unique().collect().height
    lake.compact()
    assert lake.scan("timelines").select("era").unique().collect().height < eras, "eras have merged"
    lake.forget([2])
    rows = lake.scan("timelines").sort("ordinal").collect()
    assert rows["user_id"].unique().to_list() == [1]
    assert rows["page"].to_list() == list(range(1, 24))
    assert pl.DataFrame(lake.timeline(1)).select("page", "tip").rows() == [(day, 5) for day in range(1, 24)]


def test_a_plan_says_what_every_stored_version_reads_as_and_writes_nothing(lake: Lake) -> None:
    put(lake, "a", {})
    evolve(lake.catalog, changed(lake.catalog.contract("mine"), [RenameField("tab", "page")]))
    put(lake, "b", {})
    put(lake, "c", {})
    last = lake.catalog.contract("mine")
    before = lake.catalog.table("events").version
    planned = plan(lake.catalog, changed(last, [field_of("tip", "int", default=5), WidenField("page", "long")]))
    assert [(s.version, s.rows) for s in planned.stored] == [
        (1, {"events": 1, "timelines": 0}),
        (2, {"events": 2, "timelines": 0}),
    ]
    told = [[(f.field, f.written, f.reads_as) for f in s.fields] for s in planned.stored]
    new = ("tip", "absent", "tip: int = 5")
    assert told[0] == [("page", "tab: int or null", "page: long or null"), new]
    assert told[1] == [("page", "page: int or null", "page: long or null"), new]
    assert (lake.catalog.contract("mine"), lake.catalog.table("events").version) == (last, before)


def test_the_same_file_again_is_no_new_version_though_it_lacks_the_alias(lake: Lake) -> None:
    record = changed(MINE, [RenameField("tab", "page")]).avro_schema
    for one in record["fields"]:
        one.pop("aliases", None)
    file = contracts.parse("mine", record)
    assert evolve(lake.catalog, file).contract.version == 2
    assert evolve(lake.catalog, file).contract.version == 2
    assert lake.catalog.contract("mine").field("page").aliases == ("tab",)
    assert lake.catalog.contract("mine").field("page").column == "tab"


def test_samples_by_an_old_and_a_new_name_of_a_feature_are_one_set(lake: Lake) -> None:
    recipe = {"name": "r", "exposure": "view", "match": ["item_id"], "history": {"length": 4, "fields": ["tab"]}}
    path = lake.catalog.root.parent / "r.json"
    put(lake, "a", {})
    lake.seal(through="1970-01-02")
    path.write_text(json.dumps(recipe | {"features": ["tab"]}))
    lake.samples(path, day="1970-01-01")
    evolve(
        lake.catalog, changed(lake.catalog.contract("mine"), [RenameField("tab", "page"), WidenField("page", "long")])
    )
    lake.samples(path, day="1970-01-01")  # by its old name the recipe still finds it
    assert lake.scan("samples/r").collect()["tab"].to_list() == [3]
    path.write_text(json.dumps(recipe | {"features": ["page"]}))
    lake.samples(path, day="1970-01-01")
    assert lake.scan("samples/r").collect()["page"].to_list() == [3]
    lake.pin("p")
    assert lake.pack("r", pin="p", out=lake.catalog.root.parent / "shards").samples == 1


WRITER = """
import sys, polars as pl
from reclake.pipelines.writer import EventWriter
from reclake.storage.catalog import Catalog
root, producer, field = sys.argv[1:]
with EventWriter(Catalog.open(root), "mine") as writer:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(1, 26):
        ids = [f"{producer}-{number}-{row}" for row in range(4)]
        row = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10, "available_at": 10, field: number}
        done = writer.append(pl.DataFrame({"event_id": ids}).with_columns(**{k: pl.lit(v) for k, v in row.items()}),
                             producer=producer, number=number)
        assert (done.admitted, done.quarantined) == (4, 0), done
"""


def writer(lake: Lake, producer: str, field: str) -> subprocess.Popen[str]:
    """A process that has its writer open, and waits to be told to append."""
    command = [sys.executable, "-c", WRITER, str(lake.catalog.root), producer, field]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def test_writers_with_the_old_and_the_new_schema_append_at_the_same_time_and_both_read_right(lake: Lake) -> None:
    put(lake, "there", {})
    old = writer(lake, "old", "tab")
    changes: list[Change] = [RenameField("tab", "page"), WidenField("page", "long"), field_of("tip", "int", default=5)]
    evolve(lake.catalog, changed(lake.catalog.contract("mine"), changes))
    late, new = writer(lake, "late", "tab"), writer(lake, "new", "page")
    for process in (old, late, new):
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in (old, late, new):
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    rows = lake.scan("events").filter(pl.col("event_id") != "there").collect()
    number = rows["event_id"].str.split("-").list.get(1).cast(pl.Int64)
    assert rows.height == rows["event_id"].n_unique() == 3 * 25 * 4
    assert (rows["page"] == number).all()
    assert (rows["tip"] == 5).all()
    by = rows.group_by(pl.col("event_id").str.split("-").list.first(), "contract").len().sort("event_id").rows()
    assert by == [("late", "mine/2", 100), ("new", "mine/2", 100), ("old", "mine/1", 100)]
    plain_readers_open(lake)
