"""Messages as schema registries frame them, to one Arrow table; each bad one is told and spoils no other."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reclake.schemas.errors import ContractError
from reclake.schemas.resolution import read_framed

A_B = [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]
OLD = {"type": "record", "name": "r", "fields": A_B}
NEW = OLD | {
    "fields": [{"name": "b", "type": "string"}, {"name": "a", "type": "long"}, {"name": "c", "type": "double"}]
}
UNION = OLD | {"fields": [{"name": "a", "type": ["int", "long"]}]}
READER = OLD | {
    "fields": [
        {"name": "a", "type": "long"},
        {"name": "b", "type": ["null", "string"], "default": None},
        {"name": "c", "type": "double", "default": -1.0},
    ]
}
SCHEMAS = {3: OLD, 2**31 + 5: NEW, 7: UNION}


def framed(id_: int, row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMAS[id_], row)
    return b"\0" + id_.to_bytes(4, "big") + out.getvalue()


def test_messages_of_several_schemas_come_in_their_order_as_the_reader_has_them() -> None:
    messages = [
        framed(3, {"a": 1, "b": "x"}),
        framed(2**31 + 5, {"a": 2, "b": "", "c": 0.5}),
        framed(7, {"a": 3}),
        framed(3, {"a": 4, "b": "y"}),
    ]
    found = read_framed(messages, SCHEMAS, READER)
    assert found.table.to_pylist() == [
        {"a": 1, "b": "x", "c": -1.0},
        {"a": 2, "b": "", "c": 0.5},
        {"a": 3, "b": None, "c": -1.0},
        {"a": 4, "b": "y", "c": -1.0},
    ]
    assert found.indexes.tolist() == [0, 1, 2, 3]
    assert found.bad == ()


def test_every_bad_message_is_told_alone_with_its_place() -> None:
    good = framed(3, {"a": 1, "b": "x"})
    messages = [good, b"", b"\1" + good[1:], None, b"\0\0\0\0\x09ab", good + b"!", good[:-1], good]
    found = read_framed(messages, SCHEMAS, READER)
    assert found.indexes.tolist() == [0, 7]
    assert [one.index for one in found.bad] == [1, 2, 3, 4, 5, 6]
    reasons = [one.reason for one in found.bad]
    assert "got nothing" in reasons[0]
    assert "01 00 00 00 03" in reasons[1]
    assert "null" in reasons[2]
    assert "unknown schema id: 9" in reasons[3]
    assert "does not end where its message does" in reasons[4]
    assert "does not decode" in reasons[5]


def test_a_long_message_and_a_short_one_beside_it_do_not_make_each_other_whole() -> None:
    both = framed(3, {"a": 1, "b": "xyz"}), framed(3, {"a": 2, "b": "uvw"})
    shifted = [both[0] + both[1][5:7], both[1][:5] + both[1][7:]]
    found = read_framed([both[0], *shifted, both[1]], SCHEMAS, READER)
    assert found.indexes.tolist() == [0, 3]
    assert [one.index for one in found.bad] == [1, 2]


def test_values_the_reader_has_no_place_for_make_only_their_message_bad() -> None:
    enum = {"type": "enum", "name": "e", "symbols": ["A", "B"]}
    SCHEMAS[8] = OLD | {"fields": [{"name": "e", "type": enum}]}
    reader = OLD | {"fields": [{"name": "e", "type": enum | {"symbols": ["A"]}}]}
    messages = [framed(8, {"e": symbol}) for symbol in "ABA"]
    found = read_framed(messages, SCHEMAS, reader)
    assert found.table.to_pylist() == [{"e": "A"}, {"e": "A"}]
    assert [(one.index, "does not have" in one.reason) for one in found.bad] == [(1, True)]


def test_schemas_that_do_not_resolve_are_an_error_of_all_and_no_messages_are_none() -> None:
    with pytest.raises(ContractError, match="no such field"):
        read_framed([framed(7, {"a": 1})], SCHEMAS, OLD)
    empty = read_framed([], SCHEMAS, READER)
    assert empty.table.num_rows == 0
    assert empty.table.column_names == ["a", "b", "c"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([3, 7]), st.integers(0, 1 << 20), st.text(max_size=5), st.integers(0, 9))))
def test_whatever_is_damaged_every_message_is_a_row_or_bad_and_the_sound_ones_are_rows(drawn: list[Any]) -> None:
    messages, sound = [], {}
    for index, (id_, a, b, harm) in enumerate(drawn):
        message = framed(id_, {"a": a, "b": b} if id_ == 3 else {"a": a})
        if harm > 2:
            sound[index] = a
        messages.append(message[: len(message) - 1 - harm] if harm < 2 else message + b"x" * (harm == 2))
    found = read_framed(messages, SCHEMAS, READER)
    assert sorted([*found.indexes.tolist(), *(one.index for one in found.bad)]) == list(range(len(messages)))
    assert dict(zip(found.indexes.tolist(), found.table["a"].to_pylist(), strict=True)) == sound
