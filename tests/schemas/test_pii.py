"""Pseudonyms: HMAC-SHA256, the same for ever; keys that say what is wrong with them and never what they are."""

from __future__ import annotations

import hashlib
import hmac

import polars as pl
import pytest

from reclake.schemas.contract import parse, shipped
from reclake.schemas.errors import ContractError, PiiKeyError
from reclake.schemas.pii import Key, parse_keys, pseudonym, pseudonyms

KEY = Key("golden", bytes(range(32)))
LONGS = [4711, 0, -1, 2**63 - 1, -(2**63)]
TEXTS = ["4711", "", "anna@example.org", "Zoë", "x" * 200]
GOLDEN_LONGS = [
    7873901801558097112,
    4218490838880894949,
    -3448949083425411084,
    2669579864685570003,
    -8016705489110330271,
]
GOLDEN_TEXTS = [
    "6d45b7f8862dbcd87e2aef15fc78bd09",
    "d38b42096d80f45f826b44a9d5607de7",
    "dc16dac4e0724e68069d10704ecd1a83",
    "895eaa5b6ad2cd8a4aadf561368adafa",
    "7b48ae507721b7feb27d8403d20568ca",
]


def test_pseudonyms_are_golden() -> None:
    assert pseudonyms(pl.Series(LONGS), KEY).to_list() == GOLDEN_LONGS
    assert pseudonyms(pl.Series(TEXTS), KEY).to_list() == GOLDEN_TEXTS


def test_a_pseudonym_is_the_beginning_of_the_hmac_of_the_text() -> None:
    for key in (KEY, Key("long", bytes(100))):
        for value in TEXTS:
            digest = hmac.digest(key.secret, value.encode(), hashlib.sha256)
            assert pseudonym(value, key) == digest[:16].hex()
        for value in LONGS:
            digest = hmac.digest(key.secret, str(value).encode(), hashlib.sha256)
            assert pseudonym(value, key) == int.from_bytes(digest[:8], "big", signed=True)


def test_nulls_stay_null_and_equal_values_get_equal_pseudonyms() -> None:
    values = pl.Series("u", [3, None, 5, 3, None], dtype=pl.Int64)
    made = pseudonyms(values, KEY)
    assert made.name == "u"
    assert made.to_list() == [pseudonym(v, KEY) if v is not None else None for v in values]
    assert pseudonyms(values.clear(), KEY).to_list() == []
    assert pseudonyms(pl.Series([None], dtype=pl.String), KEY).to_list() == [None]


def test_keys_are_read_in_order_and_comments_left_out() -> None:
    text = f"# since March\nnew:{'ab' * 32}\n\nold:{'cd' * 40}\n"
    keys = parse_keys(text, where="f")
    assert [(key.id, len(key.secret)) for key in keys] == [("new", 32), ("old", 40)]
    assert parse_keys("", where="f") == ()
    assert "ab" * 3 not in repr(keys)


@pytest.mark.parametrize("text", ["nocolon", "a:12", f"a:{'zz' * 32}", f"a:{'a' * 65}", f"a:{'ab' * 32} a:{'cd' * 32}"])
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(PiiKeyError) as caught:
        parse_keys(text, where="RECLAKE_PII_KEY")
    assert text not in str(caught.value)
    assert "RECLAKE_PII_KEY" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ({"type": "string", "pii": "secret"}, "unknown pii"),
        ({"type": ["null", "double"], "pii": "hash"}, "no pseudonym fits"),
        ({"type": "string", "pii": "drop"}, "cannot be dropped"),
        ({"type": "string", "pii": "keep"}, "kept for a purpose"),
        ({"type": "string", "pii": "hash", "purpose": "fun"}, "kept for a purpose"),
        ({"type": {"type": "array", "items": {"type": "string", "pii": "drop"}}}, "inside of a field"),
    ],
)
def test_a_mark_that_cannot_be_kept_is_refused(field: dict[str, object], says: str) -> None:
    record = shipped("events").avro_schema
    record["fields"].append({"name": "x", "field-id": 99} | field)
    with pytest.raises(ContractError, match=says):
        parse("mine", record)


def test_a_dropped_field_has_no_column() -> None:
    record = shipped("events").avro_schema
    record["fields"].append(
        {"name": "email", "field-id": 99, "type": ["null", "string"], "default": None, "pii": "drop"}
    )
    contract = parse("mine", record)
    assert "email" not in contract.arrow.names
    assert contract.field("email").pii == "drop"
    assert contract.hides
