"""Mistakes that newcomers make: each gets what, where, expected, got and what to do, a status, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fastavro
import pytest

import reclake
from reclake.cli.main import main

GOOD = {"event_id": "a", "user_id": 1, "item_id": 2, "event_type": "click", "event_time": "2024-03-01T10:00:00Z"}


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reclake", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """A clear refusal: a non-zero status, every part of a message, the words, no traceback."""
    said = done.stderr + done.stdout
    assert done.returncode not in (0, None), said
    assert "Traceback" not in said, said
    for word in ("error: ", "  where: ", "  expected: ", "  got: ", "  what to do: ", *words):
        assert word in said, f"{word!r} is not in: {said}"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    reclake.Lake.create(tmp_path / "lake", buckets=2)
    return tmp_path / "lake"


def jsonl(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_source_path_that_does_not_exist(lake: Path) -> None:
    refused(run("ingest", lake, "events", "nowhere.avro"), "nowhere.avro", "what to do")


def test_a_stopped_batch_tells_machines_what_it_tells_people(
    lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = reclake.Lake.open(lake).catalog.contract("events").avro_schema
    kinds = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "event_type", "value_set": ["view"]}}
    suite = {"name": "mine", "expectations": [kinds | {"meta": {"severity": "critical"}}]}
    (tmp_path / "mine.avsc").write_text(json.dumps(schema))
    (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
    reclake.Lake.open(lake).add_contract(tmp_path / "mine.avsc")
    source = jsonl(tmp_path / "a.jsonl", GOOD, GOOD | {"event_id": "b", "event_type": "view"})
    assert main(["ingest", str(lake), "mine", str(source), "--json"]) == 1
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["type"] == "GateError"
    assert f"reclake contract check {lake} mine" in error["what to do"]
    (found,) = error["findings"]
    assert (found["check"], found["column"], found["severity"], found["rows"], found["evaluated"], found["went"]) == (
        "expect_column_values_to_be_in_set",
        "event_type",
        "critical",
        1,
        2,
        "nowhere",
    )
    assert "1 of 2 rows" in said.err


def test_a_lake_that_does_not_exist(tmp_path: Path) -> None:
    refused(run("seal", tmp_path / "none"), "no lake here", "reclake init")


def test_an_unknown_contract(lake: Path, tmp_path: Path) -> None:
    refused(run("ingest", lake, "event", jsonl(tmp_path / "a.jsonl", GOOD)), "unknown contract", "did you mean events")


def test_an_unknown_recipe(lake: Path) -> None:
    refused(run("samples", lake, "crt", "--day", "2024-03-01"), "unknown recipe", "did you mean ctr")


def test_a_required_field_that_the_source_lacks(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("event_id,userid,item_id,event_type,event_time\na,1,2,click,2024-03-01\n")
    refused(run("ingest", lake, "events", path), "user_id", "userid", "a.csv")
    refused(run("contract", "check", lake, "events", path), "user_id", "userid", "a.csv")


def test_a_value_of_the_wrong_type_is_quarantined_and_said(lake: Path, tmp_path: Path) -> None:
    done = run("ingest", lake, "events", jsonl(tmp_path / "a.jsonl", GOOD, GOOD | {"event_id": "b", "user_id": "x"}))
    assert done.returncode == 0
    assert "1 quarantined" in done.stdout
    listed = run("quarantine", "list", lake).stdout
    assert "user_id" in listed
    assert "long" in listed


def test_what_looks_like_markup_or_is_a_terminals_command_is_shown_as_it_is(
    lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "event_type", "regex": "^[a-z]+$"}}
    (tmp_path / "mine.avsc").write_text(json.dumps(reclake.Lake.open(lake).catalog.contract("events").avro_schema))
    source = jsonl(tmp_path / "a.jsonl", GOOD | {"event_type": "[/red]\x1b[31m"})
    for severity, commands in {"error": ["check", "ingest", "list", "show"], "critical": ["ingest"]}.items():
        suite = {"name": "mine", "expectations": [check | {"meta": {"severity": severity}}]}
        (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
        reclake.Lake.open(lake).add_contract(tmp_path / "mine.avsc")
        for command in commands:
            capsys.readouterr()
            if command == "ingest":
                jsonl(source, GOOD | {"event_type": "[/red]\x1b[31m", "event_id": severity})
            given = {"check": ["contract", "check", lake, "mine", source], "ingest": ["ingest", lake, "mine", source]}
            main([str(a) for a in given.get(command, ["quarantine", command, lake])])
            said = "".join(capsys.readouterr())
            assert "matches ^[a-z]+$" in said
            assert "[/red]\\x1b[31m" in said
            assert "\x1b" not in said


def test_a_corrupt_avro_file(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.avro"
    path.write_bytes(b"Obj\x01" + os.urandom(50))
    refused(run("ingest", lake, "events", path), "a.avro", "expected", "got")


def test_a_truncated_avro_file(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.avro"
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": k, "type": "string" if isinstance(v, str) else "long"} for k, v in GOOD.items()],
    }
    with path.open("wb") as file:
        fastavro.writer(file, schema, [GOOD] * 100)
    path.write_bytes(path.read_bytes()[:-40])
    refused(run("ingest", lake, "events", path), "a.avro", "expected", "got")


def test_a_file_that_is_no_parquet(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("hello")
    refused(run("ingest", lake, "events", path), "a.parquet")


def test_a_zero_byte_file(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.touch()
    refused(run("ingest", lake, "events", path), "a.jsonl", "what to do")


def test_a_file_of_an_unknown_kind(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_text("x")
    refused(run("ingest", lake, "events", path), "a.xlsx", ".parquet")


def test_an_empty_folder(lake: Path, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    refused(run("ingest", lake, "events", tmp_path / "inbox"), "inbox")


def test_a_mapping_that_names_an_unknown_column(lake: Path, tmp_path: Path) -> None:
    shipped = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
    (tmp_path / "mine.avsc").write_text(shipped.read_text())
    fields = {"event_id": "id", "user_id": "uzer", "item_id": "item", "event_type": "'click'", "event_time": "ts"}
    (tmp_path / "mine.contract.json").write_text(json.dumps({"mapping": {"emit": [{"fields": fields}]}}))
    assert run("contract", "add", lake, tmp_path / "mine.avsc").returncode == 0
    path = jsonl(tmp_path / "a.jsonl", {"id": "a", "user": 1, "item": 2, "ts": 1_700_000_000_000_000})
    refused(run("ingest", lake, "mine", path), "uzer", "user")


def test_a_mapping_onto_a_field_that_the_contract_lacks(lake: Path, tmp_path: Path) -> None:
    shipped = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
    (tmp_path / "mine.avsc").write_text(shipped.read_text())
    (tmp_path / "mine.contract.json").write_text(json.dumps({"mapping": {"emit": [{"fields": {"colour": "c"}}]}}))
    refused(run("contract", "add", lake, tmp_path / "mine.avsc"), "colour", "event_id")


def test_a_suite_with_an_unknown_expectation(lake: Path, tmp_path: Path) -> None:
    shipped = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
    (tmp_path / "mine.avsc").write_text(shipped.read_text())
    suite = {"name": "mine", "expectations": [{"type": "expect_column_to_be_nice", "kwargs": {"column": "user_id"}}]}
    (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
    refused(run("contract", "add", lake, tmp_path / "mine.avsc"), "expect_column_to_be_nice")


def test_a_contract_file_that_is_no_json(lake: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.avsc").write_text("{")
    refused(run("contract", "add", lake, tmp_path / "mine.avsc"), "mine.avsc", "JSON")


def test_a_day_that_is_not_sealed(lake: Path, tmp_path: Path) -> None:
    run("ingest", lake, "events", jsonl(tmp_path / "a.jsonl", GOOD))
    refused(run("samples", lake, "ctr", "--day", "2024-03-01"), "not sealed", "reclake seal")


def test_a_time_that_is_none(lake: Path) -> None:
    refused(run("seal", lake, "--through", "yesterday"), "ISO 8601")


def test_an_unknown_pin(lake: Path, tmp_path: Path) -> None:
    refused(run("pack", lake, "ctr", "--pin", "none", "--out", tmp_path / "out"), "unknown pin", "reclake pin")


def test_a_folder_that_holds_no_shards(tmp_path: Path) -> None:
    code = f"import reclake; reclake.Feed({str(tmp_path)!r}, batch_size=8, seed=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "ShardError" in done.stderr
    assert str(tmp_path) in done.stderr


def test_a_command_that_does_not_exist() -> None:
    refused(run("injest"), "injest")


def test_a_folder_where_one_may_not_write(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    command = [sys.executable, "-m", "reclake", "init", str(closed / "lake")]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and there is no setpriv to become less")
        os.chown(closed, 65534, 65534)
        closed.chmod(0o555)
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    refused(subprocess.run(command, capture_output=True, text=True, check=False), "no permission", "what to do")


def test_a_full_disk_leaves_a_lake_that_opens(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        assert run("init", small / "lake", "--buckets", 2).returncode == 0
        many = [GOOD | {"event_id": os.urandom(40).hex(), "user_id": n} for n in range(20_000)]
        path = jsonl(tmp_path / "many.jsonl", *many)
        refused(run("ingest", small / "lake", "events", path), "disk is full", "what to do")
        # Room again: the same command goes on, and nothing is half there.
        subprocess.run(["mount", "-o", "remount,size=20m", str(small)], check=True)
        assert "20,000 admitted" in run("ingest", small / "lake", "events", path).stdout
        assert run("doctor", small / "lake").returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_one_damaged_file_of_a_folder_keeps_no_other_from_being_read(lake: Path, tmp_path: Path) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    (folder / "a.avro").write_bytes(b"Obj\x01junk")
    jsonl(folder / "b.jsonl", GOOD)
    (folder / "c.csv").write_text("id\n1\n")
    refused(run("ingest", lake, "events", folder), "a.avro", "1 of 3 files were read", "c.csv")
    assert reclake.Lake.open(lake).catalog.table("events").scan().collect().height == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest", "lake"],
        ["seal", "lake", "--through", "tomorrow"],
        ["vacuum", "lake", "--retention-hours", "-1"],
        ["vacuum", "lake", "--retention-hours", "99999999999"],
        ["ingest", "lake", "events", "folder", "--follow", "--poll", "-1"],
        ["quarantine", "show", "lake", "--limit", "-1"],
        ["timeline", "lake", "99999999999999999999"],
        ["forget", "lake", "99999999999999999999"],
        ["no-such-command"],
    ],
)
def test_a_wrong_argument_is_one_object_for_machines_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from reclake.cli.main import main

    assert main([*arguments, "--json"]) == 2
    said = json.loads(capsys.readouterr().out)["error"]
    assert said["type"] == "UsageError"
    assert said["what to do"].endswith("--help")


def test_a_recipe_whose_fields_nobody_has_is_not_registered(lake: Path, tmp_path: Path) -> None:
    row = jsonl(tmp_path / "a.jsonl", GOOD | {"available_at": GOOD["event_time"]})
    assert run("ingest", lake, "events", row).returncode == 0
    assert run("seal", lake, "--through", "2024-03-02").returncode == 0
    (tmp_path / "mine.json").write_text(json.dumps({"exposure": "click", "features": ["nosuch"]}))
    refused(run("samples", lake, tmp_path / "mine.json", "--day", "2024-03-01"), "nosuch")
    refused(run("samples", lake, "mine", "--day", "2024-03-01"), "unknown recipe")


@pytest.mark.parametrize("ids", [b"", b"4711,4712\n", "1\u00b2\n".encode(), b"\xff\xfe1\n", b"99999999999999999999\n"])
def test_a_file_that_holds_no_user_ids(lake: Path, tmp_path: Path, ids: bytes) -> None:
    (tmp_path / "users").write_bytes(ids)
    refused(run("forget", lake, "--users", tmp_path / "users"), "users", "an integer a line")


def test_an_id_of_a_file_that_is_too_large_is_on_no_record_and_the_next_request_is_carried_out(
    lake: Path, tmp_path: Path
) -> None:
    (tmp_path / "users").write_bytes(b"\xef\xbb\xbf9223372036854775808\r\n")
    refused(run("forget", lake, "--users", tmp_path / "users"), "not a user id", "9223372036854775808")
    (tmp_path / "users").write_bytes(b"\xef\xbb\xbf4711\r\n4712\r\n")
    assert "2 user(s)" in run("forget", lake, "--users", tmp_path / "users").stdout


def test_a_negative_user_id_is_an_id_and_no_option(lake: Path) -> None:
    assert "0 request(s) wait" in run("forget", lake, "--queue").stdout
    assert "1 request(s) wait, the first until" in run("forget", lake, "-4711", "--queue").stdout
    assert "1 user(s)" in run("forget", lake).stdout
    refused(run("forget", lake, "--quueue"), "--quueue")


def test_the_quarantine_of_an_unknown_contract(lake: Path) -> None:
    refused(run("quarantine", "list", lake, "--contract", "evnts"), "unknown contract", "did you mean events")


def test_a_contract_whose_field_has_another_type_in_its_table(lake: Path, tmp_path: Path) -> None:
    shipped = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
    record = json.loads(shipped.read_text())
    record["fields"].append({"name": "price", "type": "long", "default": 0, "field-id": 90})
    (tmp_path / "one.avsc").write_text(json.dumps(record))
    assert run("contract", "add", lake, tmp_path / "one.avsc").returncode == 0
    record["fields"][-1]["type"] = "string"
    record["fields"][-1]["default"] = ""
    (tmp_path / "two.avsc").write_text(json.dumps(record))
    refused(run("contract", "add", lake, tmp_path / "two.avsc"), "price", "contract one", "string")
    refused(run("contract", "show", lake, "two"), "unknown contract")


def test_a_plan_of_a_change_that_is_refused(lake: Path, tmp_path: Path) -> None:
    shipped = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
    record = json.loads(shipped.read_text())
    record["fields"].append({"name": "tip", "type": "long", "field-id": 90})
    (tmp_path / "events.avsc").write_text(json.dumps(record))
    planned = run("contract", "evolve", lake, tmp_path / "events.avsc", "--plan", "--json")
    assert planned.returncode == 1
    said = json.loads(planned.stdout)
    assert (said["accepted"], said["changes"][0]["verdict"], said["version"]) == (False, "refuse", 1)
    refused(run("contract", "evolve", lake, tmp_path / "events.avsc"), "tip", "no default", "--plan")
