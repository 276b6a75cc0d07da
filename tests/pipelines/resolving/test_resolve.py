"""Resolve: a value arrives exactly, or its row is rejected with every reason."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reclake.pipelines.resolving import resolve
from reclake.pipelines.resolving.casts import cast, describe, type_name
from reclake.pipelines.resolving.isolate import isolate
from reclake.schemas import shapes
from reclake.schemas.contract import Contract, parse, shipped
from reclake.schemas.errors import ContractError, MappingError, SourceError

EVENTS = shipped("events")
T0 = datetime(2022, 5, 2, tzinfo=UTC)
T0_US = 1_651_449_600_000_000
MICROS: Any = {"type": "long", "logicalType": "timestamp-micros"}
ENUM: Any = {"type": "enum", "name": "e", "symbols": ["A", "B"]}
ITEM: Any = {
    "type": "record",
    "name": "i",
    "fields": [{"name": "x", "type": "long"}, {"name": "y", "type": ["null", "string"]}],
}
ITEMS: Any = {"type": "array", "items": ITEM}
LOCAL: Any = {"type": "long", "logicalType": "local-timestamp-micros"}
UUID = "123e4567-e89b-12d3-a456-426614174000"
FLOATS: Any = {"type": "array", "items": "float"}
DECIMAL: Any = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
BAD = object()

#: (Avro type, values and what becomes of each). A column is made of all values together.
CASES: list[tuple[Any, list[tuple[Any, Any]]]] = [
    ("long", [("12", 12), ("-7", -7), ("1.5", BAD), ("abc", BAD), (" 1", BAD), ("", BAD), ("1e3", BAD), (None, None)]),
    ("long", [(str(2**63 - 1), 2**63 - 1), (str(2**63), BAD)]),
    ("long", [(3.0, 3), (1.5, BAD), (float("nan"), BAD), (1e19, BAD), (None, None)]),
    ("long", [(True, BAD), (None, None)]),
    ("long", [(T0, BAD)]),
    ("int", [(2**31 - 1, 2**31 - 1), (2**31, BAD), (-(2**31), -(2**31))]),
    ("double", [("0.1", 0.1), ("1e400", BAD), ("inf", float("inf")), ("x", BAD), (None, None)]),
    ("double", [(3, 3.0)]),
    ("float", [(0.5, 0.5), (0.1, BAD)]),
    ("float", [("0.5", 0.5), ("1e39", BAD)]),
    ("boolean", [("true", True), ("False", False), ("1", True), ("0", False), ("yes", BAD), (None, None)]),
    ("boolean", [(0, False), (1, True), (2, BAD)]),
    ("string", [("a", "a"), (None, None)]),
    ("string", [(17, "17")]),
    ("string", [(b"ok", "ok"), (b"\xff", BAD), (None, None)]),
    ("string", [(1.5, BAD)]),
    ("string", [(True, BAD)]),
    ("bytes", [("é", "é".encode())]),
    ({"type": "fixed", "name": "f", "size": 2}, [(b"ab", b"ab"), (b"abc", BAD)]),
    (ENUM, [("A", "A"), ("C", BAD), (None, None)]),
    (ENUM | {"default": "B"}, [("A", "A"), ("C", "B"), (None, None)]),
    (MICROS, [(T0_US, T0), (2**60, BAD), (None, None)]),
    (MICROS, [(float(T0_US), T0), (0.5, BAD)]),
    (MICROS, [(T0, T0), (None, None)]),
    (MICROS, [(T0.replace(tzinfo=None), T0)]),
    (MICROS, [(date(2022, 5, 2), T0)]),
    (MICROS, [("2022-05-02T00:00:00Z", T0), ("2022-05-02 00:00:00.25", T0 + timedelta(milliseconds=250))]),
    (MICROS, [("2022-05-02", T0), ("2022-05-02T02:00:00+02:00", T0), ("2022-05-02T02:00+0200", T0), (str(T0_US), T0)]),
    (MICROS, [("2022-13-01", BAD), ("2022-5-2", BAD), ("yesterday", BAD), ("0000-01-01", BAD), ("", BAD)]),
    ({"type": "int", "logicalType": "date"}, [("2022-05-02", date(2022, 5, 2)), ("2022-05", BAD)]),
    ({"type": "long", "logicalType": "time-micros"}, [("01:02:03.5", time(1, 2, 3, 500_000)), ("1:2", BAD)]),
    (LOCAL, [("2022-05-02", datetime(2022, 5, 2)), ("2022-05-02T00:00Z", BAD)]),
    ({"type": "string", "logicalType": "uuid"}, [(UUID, UUID), ("x", BAD)]),
    (DECIMAL, [("1.50", Decimal("1.50")), ("1.555", BAD), ("1000", BAD)]),
    (FLOATS, [([1, 2], [1.0, 2.0]), ([], []), ([None], BAD), (None, None)]),
    (FLOATS, [("[1, 2.5]", [1.0, 2.5]), ('["q"]', BAD), ('{"a": 1}', BAD), ("x", BAD), (None, None)]),
    (FLOATS, [([0.5], [0.5]), ([0.1], BAD)]),
    ({"type": "array", "items": ["null", "long"]}, [([1, None], [1, None])]),
    (ITEMS, [([{"x": 1, "y": None}], [{"x": 1, "y": None}]), ([{"x": None, "y": "a"}], BAD)]),
    (ITEM, [({"x": 1}, {"x": 1, "y": None}), ({"x": None}, BAD), (None, None)]),
    (ITEM, [('{"x": "1", "y": "b"}', {"x": 1, "y": "b"}), ('{"x": "q"}', BAD), ("[1]", BAD)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("avro", "pairs"), CASES, ids=lambda part: type_name(part) if not isinstance(part, list) else ""
)
def test_a_value_arrives_exactly_or_is_bad(avro: Any, pairs: list[tuple[Any, Any]]) -> None:
    done = cast(pl.Series("c", [value for value, _ in pairs], strict=False), avro)
    assert done.bad.to_list() == [wanted is BAD for _, wanted in pairs]
    assert done.values.to_list() == [None if wanted is BAD else wanted for _, wanted in pairs]


def test_any_unit_and_zone_of_time_becomes_microseconds_rounded_down() -> None:
    ns = pl.Series([1_999, -1], dtype=pl.Int64).cast(pl.Datetime("ns"))
    assert cast(ns, MICROS).values.to_physical().to_list() == [1, -1]
    berlin = pl.Series(["2022-05-02T02:00:00"]).str.to_datetime(time_zone="Europe/Berlin")
    assert cast(berlin, MICROS).values.to_list() == [T0]
    millis = pl.Series([T0]).dt.cast_time_unit("ms")
    assert cast(millis, MICROS).values.to_list() == [T0]


def test_unsigned_numbers_that_do_not_fit_are_bad() -> None:
    done = cast(pl.Series([2**63, 5], dtype=pl.UInt64), "long")
    assert (done.values.to_list(), done.bad.to_list()) == ([None, 5], [True, False])


def test_values_are_shown_short_and_text_is_quoted() -> None:
    assert describe(pl.Series(["a", None])).to_list() == ["'a'", "null"]
    assert describe(pl.Series([1.5, None])).to_list() == ["1.5", "null"]
    assert describe(pl.Series([[1], None])).to_list() == ["[1]", "null"]
    assert describe(pl.Series([b"\xff"])).to_list() == ["0xff"]
    assert len(describe(pl.Series(["x" * 1000]))[0]) == 202


def test_isolation_finds_the_rows_that_fail_and_covers_all() -> None:
    wrong = {3, 4, 50, 99}

    def attempt(start: int, stop: int) -> list[int]:
        if wrong & set(range(start, stop)):
            raise pl.exceptions.ComputeError("wrong")
        return list(range(start, stop))

    found = isolate(100, attempt)
    assert [start for start, _, _ in found.failed] == sorted(wrong)
    assert sorted(n for _, _, rows in found.pieces for n in rows) == sorted(set(range(100)) - wrong)
    assert isolate(0, attempt).pieces == []


def events(**columns: Any) -> pl.DataFrame:
    """Three good events, with other columns where given."""
    good: dict[str, Any] = {
        "event_id": ["a", "b", "c"],
        "user_id": [1, 2, 3],
        "item_id": [1, 2, 3],
        "event_type": ["click"] * 3,
        "event_time": [T0_US] * 3,
    }
    return pl.DataFrame(good | columns, strict=False)


def test_rows_have_the_contracts_columns_in_order_and_exact_types() -> None:
    resolved = resolve(events(), EVENTS)
    assert resolved.rows.columns == [*EVENTS.arrow.names, "_row", "_emit"]
    assert resolved.rows.drop("_row", "_emit").to_arrow().cast(EVENTS.arrow).schema == EVENTS.arrow
    assert resolved.rows.schema["_row"] == pl.Int64
    assert resolved.rows.schema["_emit"] == pl.Int32
    assert resolved.rows["_row"].to_list() == [0, 1, 2]
    assert resolved.rejected.is_empty()


def test_every_reason_of_a_row_is_kept() -> None:
    resolved = resolve(events(user_id=["1", "x", None], item_id=[1.0, 2.5, 3.0], watch_ms=["5", "", "6"]), EVENTS)
    assert resolved.rows["_row"].to_list() == [0]
    assert resolved.rejected["_row"].to_list() == [1, 2]
    assert resolved.rejected["reasons"].to_list() == [
        [
            {"check": "resolve", "column": "user_id", "severity": "error", "expected": "long", "got": "'x'"},
            {"check": "resolve", "column": "item_id", "severity": "error", "expected": "long", "got": "2.5"},
            {"check": "resolve", "column": "watch_ms", "severity": "error", "expected": "long", "got": "''"},
        ],
        [{"check": "resolve", "column": "user_id", "severity": "error", "expected": "long", "got": "null"}],
    ]
    assert resolved.rejected["reasons"].to_arrow().type.value_type.names == shapes.REASON.names


def test_a_reason_says_what_a_field_holds_to_its_depth() -> None:
    state = {"type": "enum", "name": "state", "symbols": ["A", "B"]}
    item = {
        "type": "record",
        "name": "i",
        "fields": [{"name": "s", "type": state}, {"name": "w", "type": ["null", "int"]}],
    }
    assert type_name(["null", item]) == "record of (s: enum of A, B, w: int or null)"
    assert type_name({"type": "array", "items": item}) == f"array of {type_name(item)}"
    assert type_name(["int", "string"]) == "int or string"


def test_a_missing_required_column_is_an_error_that_names_the_near_one() -> None:
    with pytest.raises(SourceError) as caught:
        resolve(events().rename({"item_id": "itemId"}), EVENTS)
    parts = caught.value.parts()
    assert parts["expected"] == "item_id: long"
    assert "event_id, user_id, itemId, event_type, event_time" in parts["got"]
    assert "did you mean 'itemId'" in parts["what to do"]


def with_field(**field: Any) -> Contract:
    record = EVENTS.avro_schema
    record["fields"].append(field | {"field-id": 99})
    return parse("extended", record)


@pytest.mark.parametrize(
    ("avro", "default", "wanted"),
    [
        ("long", 7, 7),
        ("string", "none", "none"),
        (["null", "long"], None, None),
        (["long", "null"], 5, 5),
        (MICROS, T0_US, T0),
        ("bytes", "\u00ff", b"\xff"),
        (FLOATS, [1.5], [1.5]),
        ({"type": "map", "values": "long"}, {"k": 1}, {"k": 1}),
        (ITEM, {"x": 3}, {"x": 3, "y": None}),
        (ENUM, "B", "B"),
    ],
)
def test_a_missing_column_gives_the_default(avro: Any, default: Any, wanted: Any) -> None:
    resolved = resolve(events(), with_field(name="extra", type=avro, default=default))
    assert resolved.rows["extra"].to_list() == [wanted] * 3


def test_a_null_takes_the_default_of_a_field_that_may_not_be_null_and_stays_null_in_one_that_may() -> None:
    frame = events(extra=[None, "4", "x"])
    resolved = resolve(frame, with_field(name="extra", type="long", default=7))
    assert resolved.rows["extra"].to_list() == [7, 4]
    assert resolved.rejected["_row"].to_list() == [2]
    assert resolve(frame[:2], with_field(name="extra", type=["long", "null"], default=7)).rows["extra"].to_list() == [
        None,
        4,
    ]


def test_a_default_that_its_field_cannot_hold_is_an_error() -> None:
    with pytest.raises(ContractError, match="default"):
        resolve(events(), with_field(name="extra", type="long", default="x"))


def test_a_column_is_found_by_alias_and_the_name_comes_first() -> None:
    contract = with_field(name="extra", type="long", aliases=["old", "older"])
    assert resolve(events(older=[4, 5, 6]), contract).rows["extra"].to_list() == [4, 5, 6]
    both = resolve(events(extra=[1, 2, 3], old=[4, 5, 6]), contract)
    assert both.rows["extra"].to_list() == [1, 2, 3]
    assert both.ignored == ("old",)


def test_an_empty_frame_resolves_to_no_rows() -> None:
    assert resolve(events()[:0], EVENTS).rows.schema == resolve(events(), EVENTS).rows.schema
    assert resolve(events()[:0], mapped({})).rows.height == 0


def mapped(fields: dict[str, str], *more: dict[str, Any], when: str | None = None) -> Contract:
    names = ("event_id", "user_id", "item_id", "event_type", "event_time")
    emits = [{"fields": dict(zip(names, names, strict=True)) | fields} | ({"when": when} if when else {}), *more]
    return parse("mapped", EVENTS.avro_schema, policy={"mapping": {"emit": emits}})


def test_one_source_row_becomes_several_events_in_order() -> None:
    click = {
        "when": "clicked = 1 AND event_type IN ('click', 'tap')",
        "fields": {
            "event_id": "concat(event_id, '-click')",
            "user_id": "user_id",
            "item_id": "item_id",
            "event_type": "'click'",
            "event_time": "event_time + GREATEST(played, 0) * 1000",
        },
    }
    contract = mapped({"event_type": "'exposure'"}, click)
    resolved = resolve(events(clicked=[1, 0, None], played=[-5, 1, 1], other=[1, 1, 1]), contract)
    assert resolved.rows.select("_row", "_emit", "event_id").rows() == [
        (0, 0, "a"),
        (0, 1, "a-click"),
        (1, 0, "b"),
        (2, 0, "c"),
    ]
    assert resolved.rows["event_time"].to_list() == [T0] * 4
    assert resolved.ignored == ("other",)


def test_a_rejected_event_leaves_its_rows_other_events() -> None:
    twice = {"fields": {n: n for n in ("event_id", "user_id", "event_type", "event_time")} | {"item_id": "other"}}
    resolved = resolve(events(other=["1", "x", "3"]), mapped({}, twice))
    assert resolved.rejected.select("_row", "_emit").rows() == [(1, 1)]
    assert resolved.rows.height == 5


def test_whole_numbers_do_not_wrap_round() -> None:
    frame = events().with_columns(pl.Series("s", [1, 2**31 - 1, 5], dtype=pl.Int32), pl.Series("big", [1, 2**62, 2]))
    resolved = resolve(frame, mapped({"event_time": "s * 1000000", "watch_ms": "big * 4"}))
    assert resolved.rows["event_time"].dt.epoch("us").to_list() == [1_000_000, 5_000_000]
    assert resolved.rejected["reasons"][0][0]["got"] == str(2**64)


def test_a_row_whose_expression_fails_is_rejected_and_the_others_are_not() -> None:
    resolved = resolve(events(text=["1", "x", "3"]), mapped({"watch_ms": "CAST(text AS BIGINT)"}))
    assert resolved.rows["watch_ms"].to_list() == [1, 3]
    (reason,) = resolved.rejected["reasons"][0]
    assert resolved.rejected["_row"].to_list() == [1]
    assert (reason["check"], reason["column"]) == ("resolve", "watch_ms")


def test_an_unknown_column_is_named_with_the_emit_the_columns_and_the_near_one() -> None:
    with pytest.raises(MappingError) as caught:
        resolve(events(), mapped({"item_id": "itm_id + 1"}))
    parts = caught.value.parts()
    assert parts["where"] == "contract mapped, mapping, emit 0, item_id: itm_id + 1"
    assert parts["got"] == "itm_id"
    assert parts["expected"] == "one of the columns event_id, user_id, item_id, event_type, event_time"
    assert "did you mean 'item_id'" in parts["what to do"]


@pytest.mark.parametrize(
    "text",
    [
        "user_id +",
        "SELECT 1",
        "*",
        "nosuch(user_id)",
        "event_id * 2",
        "SUM(user_id)",
        "ROW_NUMBER() OVER (ORDER BY user_id)",
        "now()",
        "CURRENT_TIMESTAMP",
    ],
)
def test_what_is_not_sql_over_one_row_is_refused(text: str) -> None:
    with pytest.raises(MappingError) as caught:
        resolve(events(), mapped({"watch_ms": text}))
    assert "emit 0, watch_ms" in caught.value.parts()["where"]


def test_a_condition_is_true_or_false() -> None:
    assert resolve(events(), mapped({}, when="event_id = 'over (a) now()' OR user_id > 1")).rows.height == 2
    with pytest.raises(MappingError, match="condition"):
        resolve(events(), mapped({}, when="user_id"))


def test_an_emit_without_a_required_field_is_refused() -> None:
    with pytest.raises(MappingError) as caught:
        resolve(events(), mapped({}, {"fields": {"event_id": "event_id"}}))
    assert "user_id: long" in caught.value.parts()["expected"]


def test_every_event_of_kuairand_resolves(real_data: Path) -> None:
    paths = sorted((real_data / "kuairand-pure").glob("log_*.parquet"))
    if not paths:
        pytest.skip(f"no kuairand-pure logs in {real_data}")
    counts: dict[str, int] = {}
    for path in paths:
        frame = pl.read_parquet(path)
        resolved = resolve(frame, shipped("kuairand"))
        assert resolved.rejected.height == 0
        for name, rows in resolved.rows["event_type"].value_counts().iter_rows():
            counts[name] = counts.get(name, 0) + rows
        outcomes = resolved.rows.filter(pl.col("_emit") > 0).select("_row", "event_time")
        shown = resolved.rows.filter(pl.col("_emit") == 0).select("_row", pl.col("event_time").alias("shown"))
        assert outcomes.join(shown, on="_row").select((pl.col("event_time") >= pl.col("shown")).all()).item()
    assert counts == {
        "exposure": 228_329,
        "click": 100_900,
        "long_view": 70_963,
        "profile_enter": 4_231,
        "like": 3_915,
        "comment": 579,
        "follow": 304,
        "forward": 195,
        "hate": 190,
    }
