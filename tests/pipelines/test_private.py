"""Personal data: hashed or dropped before anything is written, in every source format and on every way out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pyarrow.parquet as pq
import pytest

import reclake
from reclake.pipelines.check import check
from reclake.pipelines.media import manifest as manifests
from reclake.pipelines.private import Shield, columns_of
from reclake.quality.expectation import PERSONAL
from reclake.schemas.contract import Contract, parse, shipped
from reclake.schemas.errors import ContractError, PiiKeyError
from reclake.schemas.pii import Key, parse_keys, pseudonym
from reclake.storage import keys

FIRST = 700_000_000_000_007
OLD, NEW = f"old:{'1f' * 32}", f"new:{'2e' * 32}"
KEY = parse_keys(OLD, where="test")[0]
MARKED: list[dict[str, Any]] = [
    {"name": "email", "type": ["null", "string"], "default": None, "field-id": 91, "pii": "hash"},
    {"name": "phone", "type": ["null", "string"], "default": None, "field-id": 92, "pii": "drop"},
    {"name": "town", "type": ["null", "string"], "default": None, "field-id": 93, "pii": "keep", "purpose": "tax"},
]


def record() -> dict[str, Any]:
    schema = shipped("events").avro_schema
    next(field for field in schema["fields"] if field["name"] == "user_id")["pii"] = "hash"
    schema["fields"] += copy.deepcopy(MARKED)
    return schema


def write_contract(folder: Path, kinds: list[str], policy: dict[str, Any] | None = None) -> Path:
    check = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "event_type", "value_set": kinds}}
    named = {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "town", "regex": "^[0-9]+$"}}
    (folder / "mine.avsc").write_text(json.dumps(record()))
    (folder / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": [check, named]}))
    (folder / "mine.contract.json").write_text(json.dumps(policy or {}))
    return folder / "mine.avsc"


def rows(count: int = 6) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"e{n}",
            "user_id": FIRST + n % 3,
            "item_id": n,
            "event_type": "view" if n == 2 else "click",
            "event_time": 1_709_251_200_000_000 + n,
            "email": f"anna{n % 3}@example.org",
            "phone": f"+4930123450{n}",
            "town": "Ulm" if n else "4711",
        }
        for n in range(count)
    ]


def write(path: Path, given: list[dict[str, Any]]) -> Path:
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in given))
        case ".csv":
            pl.DataFrame(given).write_csv(path)
        case ".parquet":
            pl.DataFrame(given).write_parquet(path)
        case _:
            schema = shipped("events").avro_schema
            wanted = [f for f in schema["fields"] if f["name"] in given[0]]
            plain = [{k: v for k, v in f.items() if k not in ("pii", "purpose")} for f in MARKED]
            with path.open("wb") as file:
                parsed = fastavro.parse_schema(schema | {"fields": [*wanted, *plain]})
                fastavro.writer(file, parsed, [row | {"event_time": row["event_time"]} for row in given])
    return path


def clear(folder: Path, *wanted: str) -> list[str]:
    """Files below a folder that hold a text or number in the clear, looked at without reclake."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += repr(pq.ParquetFile(path).read().to_pylist()).encode()
        found += [f"{path}: {text}" for text in wanted if text.encode() in data]
    return found


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> reclake.Lake:
    monkeypatch.setenv(keys.VARIABLE, OLD)
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(write_contract(tmp_path, ["click"]))
    return lake


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".avro"])
def test_what_is_marked_is_nowhere_in_the_clear_whatever_becomes_of_its_row(
    suffix: str, lake: reclake.Lake, tmp_path: Path
) -> None:
    source = write(tmp_path / f"in{suffix}", rows())
    if suffix in (".jsonl", ".csv"):
        broken = {
            ".jsonl": f'{{"user_id": {FIRST}, "email": "anna0@example.org", \n'
            + json.dumps(rows()[0] | {"user_id": f"x{FIRST}", "event_id": "odd"})
            + "\n",
            ".csv": f'too,few,{FIRST},"+49301234500"\n',
        }[suffix]
        source.write_text(source.read_text() + broken)
    result = lake.ingest("mine", source)
    refused = {".jsonl": 4, ".csv": 3}.get(suffix, 2)
    assert (result.admitted, result.quarantined) == (4, refused)
    assert result.read == result.admitted + result.quarantined
    events = lake.catalog.table("events").scan().sort("event_id").collect()
    assert events["user_id"].to_list() == [pseudonym(FIRST + n % 3, KEY) for n in (1, 3, 4, 5)]
    assert events["email"].to_list() == [pseudonym(f"anna{n % 3}@example.org", KEY) for n in (1, 3, 4, 5)]
    assert "phone" not in events.columns
    assert events["town"].to_list() == ["Ulm"] * 4
    lake.seal(through="2024-03-02")
    lake.report(tmp_path / "lake" / "report.html")
    secrets = [str(FIRST + n) for n in range(3)] + [f"anna{n}@" for n in range(3)] + ["+4930", "1f1f1f"]
    assert clear(tmp_path / "lake", *secrets) == []


def test_quarantined_rows_come_in_by_replay_under_the_same_pseudonym(lake: reclake.Lake, tmp_path: Path) -> None:
    lake.ingest("mine", write(tmp_path / "in.jsonl", rows()))
    lake.add_contract(write_contract(tmp_path, ["click", "view"]))
    result = lake.replay("mine")
    assert (result.read, result.admitted, result.quarantined) == (2, 1, 1)
    events = lake.catalog.table("events").scan().filter(pl.col("event_id") == "e2").collect()
    assert events["user_id"].item() == pseudonym(FIRST + 2, KEY)
    assert events["email"].item() == pseudonym("anna2@example.org", KEY)


def test_a_row_quarantined_before_its_field_was_marked_is_hashed_when_it_is_replayed(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    marked = write_contract(tmp_path, ["click", "view"])
    before = record()
    for field in before["fields"]:
        field.pop("pii", None), field.pop("purpose", None)
    check = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "event_type", "value_set": ["click"]}}
    for name, document in (("avsc", before), ("suite.json", {"name": "late", "expectations": [check]})):
        (tmp_path / f"late.{name}").write_text(json.dumps(document))
    lake.add_contract(tmp_path / "late.avsc")
    lake.ingest("late", write(tmp_path / "in.jsonl", rows()[2:3]))
    for name in ("avsc", "suite.json"):
        (tmp_path / f"late.{name}").write_text((marked.parent / f"mine.{name}").read_text())
    lake.add_contract(tmp_path / "late.avsc")
    assert lake.replay("late").admitted == 1
    assert lake.catalog.table("events").scan().collect()["user_id"].to_list() == [pseudonym(FIRST + 2, KEY)]


def test_a_field_renamed_while_rows_wait_keeps_their_pseudonyms_and_hashes_what_was_in_the_clear(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    waiting = [row | {"event_id": f"w{n}", "event_type": "view", "town": "Ulm"} for n, row in enumerate(rows(3))]
    waiting[1]["mail"] = "new@example.org"  # no field is called so yet: it stands in the raw row as it is
    lake.ingest("mine", write(tmp_path / "in.jsonl", waiting))
    write_contract(tmp_path, ["click", "view"])
    renamed = record()
    next(field for field in renamed["fields"] if field["name"] == "email").update(name="mail", aliases=["email"])
    (tmp_path / "mine.avsc").write_text(json.dumps(renamed))
    lake.add_contract(tmp_path / "mine.avsc")
    assert lake.replay("mine").admitted == 3
    events = lake.scan("events").filter(pl.col("event_id").str.starts_with("w")).sort("event_id").collect()
    given = {"w0": "anna0@example.org", "w1": "new@example.org", "w2": "anna2@example.org"}
    assert dict(events.select("event_id", "mail").rows()) == {n: pseudonym(mail, KEY) for n, mail in given.items()}


def test_without_a_key_nothing_is_read(lake: reclake.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keys.VARIABLE)
    with pytest.raises(PiiKeyError, match="RECLAKE_PII_KEY"):
        lake.ingest("mine", tmp_path / "is not there.jsonl")
    with pytest.raises(PiiKeyError, match="no key"):
        lake.writer("mine")
    assert lake.catalog.table_names() == []


def test_a_key_may_be_in_a_file_and_another_key_of_its_name_is_refused(
    lake: reclake.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.jsonl", rows())
    lake.ingest("mine", source)
    monkeypatch.setenv(keys.VARIABLE, f"old:{'77' * 32}")
    with pytest.raises(PiiKeyError, match="another key"):
        lake.ingest("mine", source)
    (tmp_path / "key").write_text(f"# the lake's\n{OLD}\n")
    monkeypatch.setenv(keys.FILE_VARIABLE, str(tmp_path / "key"))
    with pytest.raises(PiiKeyError, match="two places"):
        lake.ingest("mine", source)
    monkeypatch.delenv(keys.VARIABLE)
    assert lake.ingest("mine", source).files_done_before == 1


def test_a_key_is_rotated_and_users_of_both_keys_are_forgotten_by_their_ids(
    lake: reclake.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.ingest("mine", write(tmp_path / "a.jsonl", rows()))
    monkeypatch.setenv(keys.VARIABLE, f"{NEW} {OLD}")
    later = [row | {"event_id": f"later {row['event_id']}"} for row in rows()]
    lake.ingest("mine", write(tmp_path / "b.jsonl", later))
    events = lake.catalog.table("events").scan().collect()
    new = parse_keys(NEW, where="test")[0]
    theirs = [pseudonym(FIRST + 1, key) for key in (KEY, new)]
    assert all(events["user_id"].to_list().count(user) == 2 for user in theirs)

    monkeypatch.setenv(keys.VARIABLE, f"{OLD} {NEW}")
    with pytest.raises(PiiKeyError, match="replaced by a newer one"):
        lake.ingest("mine", tmp_path / "b.jsonl")
    monkeypatch.setenv(keys.VARIABLE, NEW)
    with pytest.raises(PiiKeyError, match="without old"):
        lake.forget([FIRST + 1])
    monkeypatch.setenv(keys.VARIABLE, f"{NEW} {OLD}")
    receipt = lake.forget([FIRST + 1])
    assert receipt is not None
    assert receipt.users == 1
    assert lake.catalog.table("events").scan().filter(pl.col("user_id").is_in(theirs)).collect().is_empty()
    assert lake.catalog.table("events").scan().collect().height == 4


def test_a_text_pseudonym_of_a_forgotten_id_in_a_side_field_is_listed(lake: reclake.Lake, tmp_path: Path) -> None:
    given = [row | {"email": str(FIRST)} for row in rows()]
    lake.ingest("mine", write(tmp_path / "a.jsonl", given))
    receipt = lake.forget([FIRST])
    assert receipt is not None
    assert {trace.place for trace in receipt.texts_found} >= {"column email"}


def test_a_writer_hashes_too(lake: reclake.Lake, tmp_path: Path) -> None:
    frame = pl.DataFrame([*rows(), rows()[1] | {"event_id": "odd"}]).with_columns(
        pl.when(pl.col("event_id") == "odd")
        .then(pl.lit("x"))
        .otherwise(pl.col("user_id").cast(pl.String))
        .alias("user_id")
    )
    with lake.writer("mine") as writer:
        done = writer.append(frame, producer="p", number=1)
    assert (done.read, done.admitted, done.quarantined) == (7, 4, 3)
    assert clear(tmp_path / "lake", str(FIRST + 1), "anna1@", "+4930") == []


@pytest.mark.parametrize(
    ("fields", "when", "says"),
    [
        ({"user_id": "uid + 1"}, None, "computed"),
        ({"user_id": "uid", "email": "uid"}, None, "two types"),
        ({"user_id": "uid", "phone": "tel", "town": "upper(tel)"}, None, "dropped"),
        ({"user_id": "uid", "phone": "tel"}, "tel IS NOT NULL", "dropped"),
    ],
)
def test_a_mapping_that_would_let_a_value_through_is_refused(
    fields: dict[str, str], when: str | None, says: str, tmp_path: Path
) -> None:
    emit: dict[str, Any] = {"fields": REQUIRED | fields} | ({"when": when} if when else {})
    with pytest.raises(ContractError, match=says):
        columns_of(parse("mine", record(), policy={"mapping": {"emit": [emit]}}))


REQUIRED = {"event_id": "id", "item_id": "item", "event_type": "kind", "event_time": "at"}


def test_a_mapping_reads_the_pseudonym_and_never_the_value(lake: reclake.Lake, tmp_path: Path) -> None:
    fields = {"user_id": "uid", "email": "mail", "phone": "tel", "event_id": "concat(uid, '-', id)"}
    write_contract(tmp_path, ["click"], {"mapping": {"emit": [{"fields": REQUIRED | fields}]}})
    for name in ("avsc", "suite.json", "contract.json"):
        (tmp_path / f"mine.{name}").rename(tmp_path / f"mapped.{name}")
    lake.add_contract(tmp_path / "mapped.avsc")
    given = [
        {"id": 1, "uid": FIRST, "item": 2, "kind": kind, "at": 1, "mail": "anna0@", "tel": "+4930"}
        for kind in ("click", "no")
    ]
    assert lake.ingest("mapped", write(tmp_path / "in.jsonl", given)).admitted == 1
    known = pseudonym(FIRST, KEY)
    assert lake.catalog.table("events").scan().collect()["event_id"].to_list() == [f"{known}-1"]
    assert clear(tmp_path / "lake", str(FIRST), "anna0@", "+4930") == []


def test_examples_of_marked_columns_are_not_in_a_report(lake: reclake.Lake, tmp_path: Path) -> None:
    lake.ingest("mine", write(tmp_path / "in.jsonl", rows()))
    lake.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "(personal data)" in page
    assert "4711" not in page


def content() -> Contract:
    schema = shipped("content").avro_schema
    mark = {"type": ["null", "long"], "default": None}
    schema["fields"] += [{"name": "uploader", "field-id": 90, "pii": "hash"} | mark, MARKED[1]]
    return parse("content", schema, policy={"kind": "content", "owner": "uploader"})


def test_what_does_not_decode_of_a_contract_that_keeps_personal_values_is_no_example(tmp_path: Path) -> None:
    schema = shipped("events").avro_schema
    (tmp_path / "mine.avsc").write_text(json.dumps(schema | {"fields": [*schema["fields"], MARKED[2]]}))
    (tmp_path / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": []}))
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(tmp_path / "mine.avsc")
    (tmp_path / "a.jsonl").write_text('{"town": "Ulm", oh\n')
    would = check(lake.catalog, lake.catalog.contract("mine"), [tmp_path / "a.jsonl"])
    did = lake.ingest("mine", tmp_path / "a.jsonl")
    assert would.findings == did.findings
    assert [(one.check, one.example) for one in did.findings] == [("decode", PERSONAL)]
    row = lake.catalog.table("quarantine").scan().collect().row(0, named=True)
    assert "Ulm" not in str(row["reasons"])
    assert row["raw"] == b'{"town": "Ulm", oh'  # kept for its purpose, and for a replay


def test_a_manifest_of_media_says_pseudonyms_only(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"item_id": 1, "uploader": FIRST, "phone": "+4930"})
        + "\n"
        + json.dumps({"item_id": 2, "uploader": "anna"})
        + f"\n{{{FIRST}\n"
    )
    shield = Shield(columns_of(content()), KEY)
    good, unfit, broken = manifests.shielded(manifests.read_lines(tmp_path / "m.jsonl"), shield)
    assert good.values == {"item_id": 1, "uploader": pseudonym(FIRST, KEY)}
    assert json.loads(good.raw) == good.values
    assert (unfit.values, unfit.raw, broken.raw) == (None, b"", b"")
    assert "anna" not in repr(unfit)
    assert str(FIRST) not in repr(broken)


@pytest.mark.slow
def test_spark_makes_the_same_pseudonyms() -> None:
    pytest.importorskip("pyspark")
    from pyspark.sql import functions as F

    from reclake.pipelines.engines import spark

    longs = [FIRST, 0, -1, 2**63 - 1, -(2**63), None]
    texts = ["anna@example.org", "", "Zoë", "x" * 200, None, str(FIRST)]
    with spark.session() as session:
        frame = session.createDataFrame(list(zip(longs, texts, strict=True)), "id long, text string")
        for key in (KEY, Key("long", bytes(range(100)))):
            made = frame.select(
                spark.pseudonym(F.col("id"), key, "long").alias("id"),
                spark.pseudonym(F.col("text"), key, "string").alias("text"),
            ).toArrow()
            hide: Callable[[Any], Any] = lambda value: None if value is None else pseudonym(value, key)  # noqa: B023, E731
            assert made["id"].to_pylist() == [hide(value) for value in longs]
            assert made["text"].to_pylist() == [hide(value) for value in texts]
