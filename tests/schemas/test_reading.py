"""Reading containers by a reader's schema; fastavro, given the same reader schema, is the oracle."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reclake.schemas.errors import ContractError, SourceError, SourceNotFoundError
from reclake.schemas.resolution import compatibility, read

UTC = dt.UTC


def record(*fields: dict[str, Any], name: str = "r", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)} | more


def field(name: str, avro: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": avro} | more


def logical(kind: Any, name: str, **more: Any) -> dict[str, Any]:
    return (kind if isinstance(kind, dict) else {"type": kind}) | {"logicalType": name} | more


def fixed(size: int, name: str = "x") -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size}


def enum(symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "e", "symbols": list(symbols)} | more


def written(path: Path, schema: Any, rows: list[dict[str, Any]], **more: Any) -> Path:
    with path.open("wb") as file:
        fastavro.writer(file, schema, rows, **more)
    return path


def one_column(path: Path, writer: Any, values: list[Any], reader: Any, **more: Any) -> pa.ChunkedArray:
    file = written(path / "a.avro", record(field("a", writer)), [{"a": value} for value in values])
    return read(file, record(field("a", reader, **more)))["a"]


D92 = {"precision": 9, "scale": 2}
INSTANT = dt.datetime(2024, 2, 29, 12, 30, 1, 123000, UTC)
NAIVE = INSTANT.replace(tzinfo=None)
DECIMALS = [Decimal("1.23"), Decimal("-4.50"), Decimal("0.00"), Decimal("9999999.99"), Decimal("-9999999.99")]
BIGS = [Decimal("9" * 38), Decimal("-" + "9" * 38)]


@pytest.mark.parametrize(
    ("avro", "values", "type_", "wanted"),
    [
        (logical("bytes", "decimal", **D92), DECIMALS, pa.decimal128(9, 2), DECIMALS),
        (logical(fixed(8), "decimal", **D92), DECIMALS, pa.decimal128(9, 2), DECIMALS),
        (logical(fixed(20), "decimal", **D92), DECIMALS, pa.decimal128(9, 2), DECIMALS),
        (
            logical("bytes", "decimal", precision=38),
            BIGS,
            pa.decimal128(38, 0),
            BIGS,
        ),
        (
            logical(fixed(30), "decimal", precision=70),
            BIGS,
            pa.decimal256(70, 0),
            BIGS,
        ),
        (logical("string", "uuid"), [UUID(int=5)], pa.string(), [str(UUID(int=5))]),
        (logical("int", "date"), [dt.date(1969, 7, 20)], pa.date32(), [dt.date(1969, 7, 20)]),
        (logical("int", "time-millis"), [dt.time(1, 2, 3, 4000)], pa.time32("ms"), [dt.time(1, 2, 3, 4000)]),
        (logical("long", "time-micros"), [dt.time(1, 2, 3, 4)], pa.time64("us"), [dt.time(1, 2, 3, 4)]),
        (logical("long", "timestamp-millis"), [INSTANT], pa.timestamp("ms", tz="UTC"), [INSTANT]),
        (logical("long", "timestamp-micros"), [INSTANT], pa.timestamp("us", tz="UTC"), [INSTANT]),
        (logical("long", "local-timestamp-millis"), [NAIVE], pa.timestamp("ms"), [NAIVE]),
        (logical("long", "local-timestamp-micros"), [NAIVE], pa.timestamp("us"), [NAIVE]),
        (enum("AB"), ["B", "A"], pa.string(), ["B", "A"]),
        (fixed(2), [b"ab"], pa.binary(2), [b"ab"]),
        ("boolean", [True, False], pa.bool_(), [True, False]),
    ],
)
@pytest.mark.parametrize("nullable", [False, True])
def test_every_logical_type_becomes_its_arrow_type(
    tmp_path: Path, avro: Any, values: list[Any], type_: pa.DataType, wanted: list[Any], nullable: bool
) -> None:
    schema = ["null", avro] if nullable else avro
    nulls = [None] if nullable else []
    found = one_column(tmp_path, schema, values + nulls, schema)
    assert found.type == type_
    assert found.to_pylist() == wanted + nulls
    deep = {"type": "array", "items": {"type": "map", "values": schema}}
    again = one_column(tmp_path, deep, [[{"k": value} for value in values + nulls], []], deep)
    assert again.to_pylist() == [[[("k", value)] for value in wanted + nulls], []]


@pytest.mark.parametrize(("name", "zone"), [("timestamp-nanos", "UTC"), ("local-timestamp-nanos", None)])
def test_nanoseconds_stay_nanoseconds(tmp_path: Path, name: str, zone: str | None) -> None:
    schema = logical("long", name)
    found = one_column(tmp_path, schema, [1, -1, 1_700_000_000_123_456_789], schema)
    assert found.type == pa.timestamp("ns", tz=zone)
    assert found.cast(pa.int64()).to_pylist() == [1, -1, 1_700_000_000_123_456_789]


def test_a_logical_type_that_is_none_is_ignored_as_the_specification_has_it(tmp_path: Path) -> None:
    for avro in (logical("bytes", "decimal", precision=0), logical("bytes", "decimal", precision=2, scale=3)):
        assert one_column(tmp_path, "bytes", [b"a"], avro).type == pa.binary()
    assert one_column(tmp_path, "long", [1], logical("long", "fortnights")).to_pylist() == [1]
    assert one_column(tmp_path, fixed(1), [b"a"], logical(fixed(1), "decimal", precision=3)).to_pylist() == [b"a"]


def test_a_decimal_of_more_digits_than_its_precision_is_refused(tmp_path: Path) -> None:
    schema = logical("bytes", "decimal", precision=2)
    for data in (b"\x00\xff", b"\x01" + b"\x00" * 16):
        with pytest.raises(SourceError, match="too many digits"):
            one_column(tmp_path, "bytes", [data], schema)
    assert one_column(tmp_path, "bytes", [b"\xff" * 40, b""], schema).to_pylist() == [Decimal(-1), Decimal(0)]


DEFAULTS: list[tuple[Any, Any, Any]] = [
    ("int", 3, 3),
    ("double", 1, 1.0),
    ("bytes", "\u00ff\u0000", b"\xff\x00"),
    ("string", "é", "é"),
    ("boolean", True, True),
    ("null", None, None),
    (["null", "int"], None, None),
    (["null", "int"], 4, 4),
    (["int", "null"], 4, 4),
    (["int"], 4, 4),
    (enum("AB"), "B", "B"),
    (fixed(2), "ab", b"ab"),
    ({"type": "array", "items": ["null", "int"]}, [1, None], [1, None]),
    ({"type": "map", "values": "int"}, {"k": 1}, [("k", 1)]),
    (record(field("x", "int"), field("y", "string", default="d"), name="q"), {"x": 1}, {"x": 1, "y": "d"}),
    (logical("bytes", "decimal", **D92), "\u0001\u0000", Decimal("2.56")),
    (logical(fixed(3), "decimal", precision=4), "\u00ff\u00ff\u00fe", Decimal(-2)),
    (logical("int", "date"), 1, dt.date(1970, 1, 2)),
    (logical("long", "timestamp-millis"), 1000, dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
    (logical("long", "time-micros"), 1, dt.time(0, 0, 0, 1)),
    (logical("string", "uuid"), str(UUID(int=7)), str(UUID(int=7))),
]


@pytest.mark.parametrize(("avro", "default", "wanted"), DEFAULTS)
def test_a_default_of_every_type_fills_a_field_the_writer_lacks(
    tmp_path: Path, avro: Any, default: Any, wanted: Any
) -> None:
    inner = record(field("a", "int"), name="s")
    file = written(tmp_path / "a.avro", record(field("s", inner)), [{"s": {"a": 1}}, {"s": {"a": 2}}])
    wide = record(field("a", "int"), field("b", avro, default=default), name="s")
    table = read(file, record(field("s", wide), field("c", "null", default=None)))
    assert [row["s"]["b"] for row in table.to_pylist()] == [wanted, wanted]
    assert table.column_names == ["s", "c"]


def test_fields_and_records_are_found_by_the_readers_aliases(tmp_path: Path) -> None:
    writer = record(field("a", "int"), field("b", record(field("x", "string"), name="old")), name="ns.was")
    reader = record(
        field("bb", record(field("y", "bytes", aliases=["x"]), name="new", aliases=["ns.old"]), aliases=["b"]),
        field("aa", "long", aliases=["zz", "a"]),
        name="now",
        aliases=["ns.was"],
    )
    file = written(tmp_path / "a.avro", writer, [{"a": 1, "b": {"x": "v"}}])
    assert read(file, reader).to_pylist() == [{"bb": {"y": b"v"}, "aa": 1}]
    with pytest.raises(ContractError, match="nor an alias"):
        read(file, reader | {"aliases": []})


def test_an_enums_default_stands_in_for_symbols_the_reader_does_not_know(tmp_path: Path) -> None:
    for wrap in (lambda e: e, lambda e: ["null", e], lambda e: {"type": "array", "items": e}):
        values = [["A", "C"]] if isinstance(wrap("x"), dict) else ["A", "C"]
        found = one_column(tmp_path, wrap(enum("ABC")), values, wrap(enum("BA", default="B")))
        assert found.to_pylist() == ([["A", "B"]] if isinstance(values[0], list) else ["A", "B"])
        with pytest.raises(SourceError, match="a symbol that the reader does not have"):
            one_column(tmp_path, wrap(enum("ABC")), values, wrap(enum("BA")))
    assert one_column(tmp_path, enum("ABC"), ["A", "B"], enum("BA")).to_pylist() == ["A", "B"]


def test_unions_are_read_value_by_value_where_one_of_the_readers_types_takes_them(tmp_path: Path) -> None:
    several = ["null", "int", "string", {"type": "array", "items": "int"}]
    assert one_column(tmp_path, several, [1, None, 2], ["null", "double"]).to_pylist() == [1.0, None, 2.0]
    assert one_column(tmp_path, several, ["a", "b"], "bytes").to_pylist() == [b"a", b"b"]
    mixed = one_column(tmp_path, ["int", "long", "float"], [1, 1 << 40, 0.5], "double")
    assert mixed.to_pylist() == [1.0, float(1 << 40), 0.5]
    with pytest.raises(ContractError, match="does not resolve"):
        one_column(tmp_path, several, [1, "a"], "long")
    with pytest.raises(SourceError, match="nulls in a field that has none"):
        one_column(tmp_path, ["null", "int"], [1, None], "int")


def test_what_has_no_columnar_form_is_refused_and_compared_all_the_same(tmp_path: Path) -> None:
    tree = record(field("v", "int"), field("next", ["null", "r"], default=None))
    file = written(tmp_path / "a.avro", tree, [{"v": 1, "next": None}])
    with pytest.raises(ContractError, match="contains itself") as raised:
        read(file, tree)
    assert "r → r" in str(raised.value)
    assert compatibility(tree, tree)["compatible"]
    enums = [{"type": "enum", "name": f"e{place}", "symbols": ["A"]} for place in range(128)]
    with pytest.raises(ContractError, match="a union of more types than a column can hold"):
        one_column(tmp_path, "int", [1], ["int", *enums])


PAIR = record(field("u", ["int", "string"]), name="pair")
SAME_NAME = [record(field("x", "int"), name="a.R"), record(field("x", "string"), name="b.R"), "null"]


@pytest.mark.parametrize(
    ("writer", "values", "reader", "wanted"),
    [
        ("int", [1, 2], ["string", "null", "long"], [1, 2]),
        (["null", "int"], [None, 1, None], ["string", "null", "long"], [None, 1, None]),
        (["int", "string"], [1, "a", "b", 2], ["bytes", "long"], [1, b"a", b"b", 2]),
        (["int", "string"], [1, "a"], ["string", "int"], [1, "a"]),
        (["null", "int", "string"], ["a", None, 3], ["string", "null", "double"], ["a", None, 3.0]),
        (["null", PAIR], [None, {"u": 1}, {"u": "x"}], ["null", PAIR], [None, {"u": 1}, {"u": "x"}]),
        (["null", PAIR], [None, {"u": 1}], ["null", PAIR, "int"], [None, {"u": 1}]),
        (
            {"type": "array", "items": ["null", "int", "string"]},
            [[1, None, "a"], []],
            {"type": "array", "items": ["null", "long", "bytes"]},
            [[1, None, b"a"], []],
        ),
        (
            {"type": "map", "values": ["int", "string"]},
            [{"k": "v"}],
            {"type": "map", "values": ["int", "string"]},
            None,
        ),
        (["int", {"type": "array", "items": "int"}], [[1], 2], [{"type": "array", "items": "long"}, "int"], [[1], 2]),
        (["float", "long"], [0.5, (1 << 62) + 1], ["float", "long"], None),
        (["string", "bytes"], ["a", b"\xff"], ["string", "bytes"], None),
        (["long", "float"], [(1 << 24) + 1], ["float", "long"], None),
        (SAME_NAME, [("b.R", {"x": "v"}), None, ("a.R", {"x": 1})], SAME_NAME, [{"x": "v"}, None, {"x": 1}]),
    ],
)
def test_a_readers_union_of_several_types_is_an_arrow_union_of_the_very_type_or_the_first_that_takes_the_value(
    tmp_path: Path, writer: Any, values: list[Any], reader: Any, wanted: list[Any] | None
) -> None:
    if writer == ["float", "long"]:
        values = [("float", values[0]), ("long", values[1])]
        wanted = [values[0][1], values[1][1]]
    found = one_column(tmp_path, writer, values, reader)
    if isinstance(reader, list) and len(reader) > 2:
        assert pa.types.is_union(found.type)
    as_told = [list(value.items()) if isinstance(value, dict) and wanted is None else value for value in values]
    assert found.to_pylist() == (as_told if wanted is None else wanted)
    assert [type(value) for value in found.to_pylist()] == [type(v) for v in (as_told if wanted is None else wanted)]


def test_a_default_of_a_union_of_several_types_is_of_the_branch_that_takes_it(tmp_path: Path) -> None:
    file = written(tmp_path / "a.avro", record(field("a", "int")), [{"a": 1}, {"a": 2}])
    several = ["int", "string", "null", PAIR]
    for default, wanted in ((5, 5), ("x", "x"), (None, None), ({"u": "x"}, {"u": "x"})):
        assert read(file, record(field("b", several, default=default)))["b"].to_pylist() == [wanted, wanted]
    empty = written(tmp_path / "b.avro", record(field("b", several)), [])
    assert read(empty, record(field("b", several))).num_rows == 0


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_many_blocks_of_any_codec_are_read_in_order(tmp_path: Path, codec: str) -> None:
    rows = [{"a": number, "b": f"v{number}"} for number in range(5000)]
    schema = record(field("a", "int"), field("b", "string"))
    file = written(tmp_path / "a.avro", schema, rows, codec=codec, sync_interval=1000)
    table = read(file, record(field("b", "string"), field("a", "long")))
    assert table.column_names == ["b", "a"]
    assert table["a"].to_pylist() == list(range(5000))
    reader = tmp_path / "reader.avsc"
    reader.write_text('{"type": "record", "name": "r", "fields": [{"name": "a", "type": "double"}]}')
    assert read(str(file), str(reader)).num_rows == read(file, reader).num_rows == 5000


def test_an_open_file_is_read_and_schemas_may_be_json_text(tmp_path: Path) -> None:
    schema = record(field("a", "int"))
    file = written(tmp_path / "a.avro", schema, [{"a": 1}])
    with file.open("rb") as opened:
        assert read(opened, json.dumps(schema)).to_pylist() == [{"a": 1}]
    for damaged in (b"", file.read_bytes()[:-5]):
        with pytest.raises(SourceError) as raised:
            read(io.BytesIO(damaged), schema)
        assert str(raised.value.where).startswith("the file")
    assert compatibility('"int"', ' ["null", "long"]') == compatibility("int", ["null", "long"])
    with pytest.raises(ContractError, match="not valid JSON"):
        compatibility("int", "{nope")


def test_no_rows_and_no_fields_are_kept_apart(tmp_path: Path) -> None:
    empty = written(tmp_path / "a.avro", record(field("a", "int")), [])
    assert read(empty, record(field("a", "long"))).schema == pa.schema([pa.field("a", pa.int64(), nullable=False)])
    three = written(tmp_path / "b.avro", record(), [{}, {}, {}])
    assert read(three, record(field("a", "int", default=1))).to_pylist() == [{"a": 1}] * 3
    assert read(three, record()).num_rows == 3


def test_files_that_are_damaged_or_are_none_are_told_with_their_place(tmp_path: Path) -> None:
    schema = record(field("a", "string"))
    file = written(tmp_path / "a.avro", schema, [{"a": "x" * 50}] * 100, sync_interval=500)
    data = file.read_bytes()
    for name, damaged, what in (
        ("short", data[:-3], "damaged Avro block"),
        ("none", b"PAR1" + data, "not an Avro container"),
        ("empty", b"", "not an Avro container"),
        ("inside", data[:-60] + b"\xff" * 30 + data[-30:], "does not decode"),
    ):
        bad = tmp_path / name
        bad.write_bytes(damaged)
        with pytest.raises(SourceError, match=what) as raised:
            read(bad, schema)
        assert name in str(raised.value.where)
    with pytest.raises(SourceNotFoundError):
        read(tmp_path / "nosuch", schema)
    deep = written(tmp_path / "deep", schema, [])
    deep.write_bytes(deep.read_bytes().replace(b'"string"', b"[" * 8) + b"[" * 100_000)
    with pytest.raises(SourceError, match="damaged Avro header"):
        read(deep, schema)
    longs = written(tmp_path / "long.avro", "long", [1, 2])
    with pytest.raises(ContractError, match="does not resolve") as refused:
        read(longs, schema)
    assert refused.value.got == "long (long does not become record r)"


def test_a_file_that_polars_wrote_has_no_name_and_is_read_all_the_same(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1, None], "b": ["x", "y"]}).write_avro(tmp_path / "a.avro")
    reader = record(field("b", ["null", "string"]), field("a", ["null", "double"]))
    assert read(tmp_path / "a.avro", reader).to_pylist() == [{"b": "x", "a": 1.0}, {"b": "y", "a": None}]


class Case:
    """A writer's type, a reader's that reads it, values of the first, and what the second makes of fastavro's."""

    def __init__(self, writer: Any, reader: Any, values: st.SearchStrategy[Any], canon: Callable[[Any], Any]) -> None:
        self.writer, self.reader, self.values, self.canon = writer, reader, values, canon


def same(value: Any) -> Any:
    return value


def single(value: float) -> float:
    return float(np.float32(value))


def as_bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


INTS, LONGS = st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-(1 << 63), (1 << 63) - 1)
FLOATS = st.floats(allow_nan=False, width=32)
TIMES = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)).map(lambda t: t.replace(microsecond=0))
names = itertools.count()


@st.composite
def leaves(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(["int", "long", "float", "text", "bytes", "boolean", "enum", "fixed", "logical"]))
    name = f"n{next(names)}"
    match kind:
        case "int":
            reader = draw(st.sampled_from(["int", "long", "float", "double"]))
            return Case("int", reader, INTS, single if reader == "float" else same)
        case "long":
            reader = draw(st.sampled_from(["long", "float", "double"]))
            return Case("long", reader, LONGS, single if reader == "float" else same)
        case "float":
            return Case("float", draw(st.sampled_from(["float", "double"])), FLOATS, same)
        case "text":
            reader = draw(st.sampled_from(["string", "bytes"]))
            return Case("string", reader, st.text(max_size=8), as_bytes if reader == "bytes" else same)
        case "bytes":
            reader = draw(st.sampled_from(["string", "bytes"]))
            values = st.text(max_size=8).map(str.encode) if reader == "string" else st.binary(max_size=8)
            return Case("bytes", reader, values, same)
        case "boolean":
            return Case("boolean", "boolean", st.booleans(), same)
        case "enum":
            writer = {"type": "enum", "name": name, "symbols": ["A", "B", "C"]}
            changed = {"type": "enum", "name": name, "symbols": ["D", "B", "A"], "default": "D"}
            return Case(writer, draw(st.sampled_from([writer, changed])), st.sampled_from("ABC"), same)
        case "fixed":
            size = draw(st.integers(1, 5))
            return Case(fixed(size, name), fixed(size, name), st.binary(min_size=size, max_size=size), same)
    decimals = st.decimals(Decimal("-9999999.99"), Decimal("9999999.99"), places=2)
    avro, values = draw(
        st.sampled_from(
            [
                (logical("bytes", "decimal", **D92), decimals),
                (logical(fixed(6, name), "decimal", **D92), decimals),
                (logical("int", "date"), st.dates()),
                (logical("long", "timestamp-millis"), TIMES.map(lambda t: t.replace(tzinfo=UTC))),
                (logical("long", "local-timestamp-micros"), TIMES),
                (logical("long", "time-micros"), st.times()),
            ]
        )
    )
    return Case(avro, avro, values, same)


@st.composite
def records(draw: st.DrawFn, types: st.SearchStrategy[Case]) -> Case:
    """Fields in another order, renamed, dropped and added."""
    name, cases = f"n{next(names)}", draw(st.lists(types, min_size=1, max_size=4))
    writer = [field(f"w{place}", case.writer) for place, case in enumerate(cases)]
    kept: list[tuple[dict[str, Any], str | None, Callable[[Any], Any]]] = []
    for place, case in enumerate(cases):
        match draw(st.sampled_from(["keep", "keep", "rename", "drop"])):
            case "keep":
                kept.append((field(f"w{place}", case.reader), f"w{place}", case.canon))
            case "rename":
                kept.append((field(f"v{place}", case.reader, aliases=[f"w{place}"]), f"v{place}", case.canon))
    added: list[tuple[Any, Any]] = [(["null", "string"], None), ("long", 7), ({"type": "array", "items": "int"}, [1])]
    if not kept or draw(st.booleans()):
        kept.append((field("added", *(pair := draw(st.sampled_from(added)))[:1], default=pair[1]), "added", same))
    order = draw(st.permutations(kept))

    def canon(value: Any) -> Any:
        return {told["name"]: inner(value[told["name"]]) for told, _, inner in order}

    values = st.fixed_dictionaries({f"w{place}": case.values for place, case in enumerate(cases)})
    return Case(record(*writer, name=name), record(*(told for told, _, _ in order), name=name), values, canon)


def nested(types: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    def listed(case: Case) -> Case:
        avro = [{"type": "array", "items": side} for side in (case.writer, case.reader)]
        return Case(*avro, st.lists(case.values, max_size=3), lambda items: [case.canon(item) for item in items])

    def mapped(case: Case) -> Case:
        avro = [{"type": "map", "values": side} for side in (case.writer, case.reader)]
        values = st.dictionaries(st.text(max_size=3), case.values, max_size=3)
        return Case(*avro, values, lambda pairs: [(key, case.canon(item)) for key, item in pairs.items()])

    def optional(case: Case) -> Case:
        if isinstance(case.reader, list):
            return case
        values = st.none() | case.values
        writer = case.writer if isinstance(case.writer, list) else ["null", case.writer]
        return Case(writer, [case.reader, "null"], values, lambda v: None if v is None else case.canon(v))

    def several(case: Case) -> Case:
        if isinstance(case.writer, list) or case.writer in ("boolean", "string", "bytes"):
            return case
        return Case(["boolean", case.writer, "null"], case.reader, case.values, case.canon)

    return records(types) | types.map(listed) | types.map(mapped) | types.map(optional) | types.map(several)


rows_of = records(st.recursive(leaves(), nested, max_leaves=6))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_read_equals_what_fastavro_makes_of_the_same_reader_schema(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    case = data.draw(rows_of)
    rows = data.draw(st.lists(case.values, min_size=1, max_size=6))
    file = written(tmp_path_factory.getbasetemp() / "oracle.avro", case.writer, rows)
    with file.open("rb") as opened:
        wanted = [case.canon(row) for row in fastavro.reader(opened, case.reader)]
    table = read(file, case.reader)
    table.validate(full=True)
    assert table.to_pylist() == wanted
