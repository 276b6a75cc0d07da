"""Findings: the few lines about a batch that somebody reads first."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from reclake.quality.findings import Finding, findings, merged, table_of
from reclake.quality.gate import Admission, admit
from reclake.quality.suite import compile_suite

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("kind", pa.string())])
REASON = pl.List(pl.Struct(dict.fromkeys(["check", "column", "severity", "expected", "got"], pl.String)))


def judged(severity: str, **columns: list[object]) -> Admission:
    expectations = [
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "kind", "value_set": ["a"]},
            "meta": {"severity": severity},
        },
        {
            "type": "expect_column_mean_to_be_between",
            "kwargs": {"column": "id", "max_value": 1},
            "meta": {"severity": "warning"},
        },
    ]
    compiled = compile_suite({"expectations": expectations}, SCHEMA, name="mine")
    batch = pa.table(columns, schema=SCHEMA)
    return admit(batch, compiled, SCHEMA, contract="mine", contract_version=1, verdict_id="v")


def test_findings_say_what_failed_an_example_and_where_the_rows_went() -> None:
    refused = {"check": "decode", "severity": "error", "expected": "json", "got": "{"}
    before = pl.DataFrame({"reasons": [[refused]]}, schema={"reasons": REASON})
    found = findings(judged("error", id=[1, 2, 9], kind=["a", "b", "c"]), [before])
    assert [one.line for one in found] == [
        ("expect_column_values_to_be_in_set", "kind", "error", "one of a", "2 of 3 rows", "2", '"b"', "quarantine"),
        ("decode", "", "error", "json", "", "1", "{", "quarantine"),
        ("expect_column_mean_to_be_between", "id", "warning", "mean <= 1", "4.0", "", "", "table"),
    ]


def test_of_a_batch_that_was_stopped_nothing_went_anywhere() -> None:
    found = findings(judged("critical", id=[1], kind=["b"]))
    assert [(one.severity, one.went) for one in found] == [("critical", "nowhere")]


def test_a_good_batch_has_no_findings() -> None:
    assert findings(judged("error", id=[1], kind=["a"])) == ()


def test_findings_of_many_batches_are_counted_together_worst_first() -> None:
    first, second = (findings(judged("error", id=[9], kind=[kind])) for kind in "bc")
    found = merged([first, second])
    assert [(one.check, one.rows, one.evaluated, one.example) for one in found] == [
        ("expect_column_values_to_be_in_set", 2, 2, '"b"'),
        ("expect_column_mean_to_be_between", 0, 2, None),
    ]


def test_a_table_is_short_and_aligned() -> None:
    one = Finding("check", None, "error", "x" * 100, "", 1, 0, "y", "quarantine")
    lines = table_of([one] * 20)
    assert len(lines) == 14
    assert lines[-1] == "and 8 more"
    assert lines[1].index("quarantine") == lines[0].index("went")
    assert max(map(len, lines)) < 120


def test_a_value_of_several_lines_does_not_break_the_tables_own() -> None:
    assert table_of(findings(judged("error", id=[1], kind=["a\n\tb"])))[1].count("a\\n\\tb") == 1
