"""Schemas that are no record: rows of one column, `value`."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import Any

import fastavro
import pytest

from reclake.schemas.errors import ContractError, SourceError
from reclake.schemas.resolution import read, read_framed


def record(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def written(path: Path, schema: Any, values: list[Any]) -> Path:
    with path.open("wb") as file:
        fastavro.writer(file, schema, values)
    return path


A, B = record("A", {"name": "a", "type": "int"}), record("B", {"name": "b", "type": "string"})
A_LATER = record("A", {"name": "a", "type": "long"}, {"name": "z", "type": "string", "default": "q"})
ABC = {"type": "enum", "name": "e", "symbols": ["A", "B", "C"]}
FIXED = {"type": "fixed", "name": "x", "size": 2}
TIME = {"type": "long", "logicalType": "timestamp-millis"}
BARE = [
    ("int", "long", [1, 2]),
    ("string", "bytes", ["a", ""]),
    ({"type": "array", "items": "int"}, {"type": "array", "items": "double"}, [[1], [], [2, 3]]),
    ({"type": "map", "values": A}, {"type": "map", "values": A_LATER}, [{"x": {"a": 1}}]),
    (ABC, ABC | {"symbols": ["A", "B"], "default": "A"}, ["C", "B"]),
    (FIXED, FIXED, [b"ab"]),
    (["null", "int"], ["null", "long"], [None, 3]),
    ("null", ["null", "int"], [None]),
    (A, ["null", A_LATER], [{"a": 1}]),
    ([A, B], [A_LATER, B], [{"b": "x"}, {"a": 1}]),
    (["int", "string"], ["string", "long"], ["x", 1]),
    (TIME, TIME, [dt.datetime(2024, 3, 1, tzinfo=dt.UTC)]),
]


@pytest.mark.parametrize(("writer", "reader", "values"), BARE)
def test_what_is_no_record_is_one_column(tmp_path: Path, writer: Any, reader: Any, values: list[Any]) -> None:
    file = written(tmp_path / "a.avro", writer, values)
    table = read(file, reader)
    table.validate(full=True)
    assert table.column_names == ["value"]
    wrapped = read(
        written(
            tmp_path / "b.avro", record("r", {"name": "value", "type": writer}), [{"value": value} for value in values]
        ),
        record("r", {"name": "value", "type": reader}),
    )
    assert table == wrapped
    framed = []
    for value in values:
        message = io.BytesIO(b"\0\0\0\0\7")
        message.seek(5)
        fastavro.schemaless_writer(message, fastavro.parse_schema(writer), value)
        framed.append(message.getvalue())
    assert read_framed(framed, {7: writer}, reader).table == table


@pytest.mark.parametrize("writer", [A, [A, B], ["null", A], ["null", "int", A]])
def test_a_record_is_read_out_of_a_union(tmp_path: Path, writer: Any) -> None:
    file = written(tmp_path / "a.avro", writer, [{"a": 1}, {"a": 2}])
    assert read(file, A_LATER).to_pylist() == [{"a": 1, "z": "q"}, {"a": 2, "z": "q"}]


@pytest.mark.parametrize(
    ("writer", "other", "refused"), [([A, B], {"b": "x"}, ContractError), (["null", A], None, SourceError)]
)
def test_another_branch_of_the_union_is_no_such_record(
    tmp_path: Path, writer: Any, other: Any, refused: type[Exception]
) -> None:
    file = written(tmp_path / "a.avro", writer, [{"a": 1}, other])
    with pytest.raises(refused, match="the row"):
        read(file, A_LATER)
