"""Verdicts without erased users: their values go, counts and everybody else's values stay."""

from __future__ import annotations

import json

import polars as pl
import pyarrow as pa
import pytest

from reclake.storage.observed import Observed
from reclake.storage.traces import Wanted

LARGE, SMALL = 700_000_000_000_007, 5
ROWS = [
    ("user_id", "5 of 15 rows, e.g. 5", None, "5 of 15 rows, e.g. (forgotten)", None),
    ("user_id", "5 of 15 rows, e.g. 55", None, None, None),
    ("item_id, user_id", "1 of 15 rows, e.g. {7, 5}", None, "1 of 15 rows, e.g. {7, (forgotten)}", None),
    ("user_id", "5 of 15 rows", None, None, None),
    ("user_id", "5 distinct values", 5.0, None, 5.0),
    ("user_id", str(LARGE), float(LARGE), "(forgotten)", None),
    ("user_id", f"2 outside: -{LARGE}, 8", None, "2 outside: -(forgotten), 8", None),
    ("watch_ms", "5 of 15 rows, e.g. 5", None, None, None),
    ("watch_ms", str(LARGE), float(LARGE), "(forgotten)", float(LARGE)),
    (
        None,
        f"a critical check failed: 1 of 5 rows, e.g. {LARGE}",
        None,
        "a critical check failed: 1 of 5 rows, e.g. (forgotten)",
        None,
    ),
    (None, "5 admitted, 0 quarantined", None, None, None),
    ("user_id", None, None, None, None),
]


def table(rows: list[tuple[str | None, str | None, float | None]]) -> pa.Table:
    frame = pl.DataFrame(rows, schema={"column": pl.String, "observed": pl.String, "value": pl.Float64}, orient="row")
    return frame.with_columns(pl.lit(5).alias("evaluated")).to_arrow()


@pytest.mark.parametrize("users", [[LARGE, SMALL], [SMALL], [LARGE]])
def test_values_of_users_are_struck_out_and_counts_and_limits_stay(users: list[int]) -> None:
    def after(
        row: tuple[str | None, str | None, float | None, str | None, float | None],
    ) -> tuple[str | None, float | None]:
        _, text, number, struck, left = row
        mine = struck is not None and (LARGE if str(LARGE) in (text or "") else SMALL) in users
        return (struck, left) if mine else (text, number)

    rows = table([row[:3] for row in ROWS])
    observed = Observed(Wanted(users), {"user_id"})
    left = observed.left(rows)
    assert list(zip(left["observed"].to_pylist(), left["value"].to_pylist(), strict=True)) == [
        after(row) for row in ROWS
    ]
    assert observed.found(rows).to_pylist() == [after(row) != row[1:3] for row in ROWS]
    assert left.drop(["observed", "value"]).equals(rows.drop(["observed", "value"]))
    assert observed.found(left).to_pylist() == [False] * len(ROWS)
    carried = json.dumps(rows.to_pylist())
    assert json.loads(observed.in_json(carried)) == left.to_pylist()
    assert observed.in_json(json.dumps(left.to_pylist())) == json.dumps(left.to_pylist())


def test_where_nothing_names_a_user_nothing_changes() -> None:
    rows = table([("user_id", "0 of 9 rows", None), (None, None, None)])
    nobodys = table([("watch_ms", "0 of 9 rows, e.g. 9", 9.0), (None, None, None)])
    observed = Observed(Wanted([9]), {"user_id"})
    assert observed.found(rows).to_pylist() == [False, False]
    assert observed.left(rows).equals(rows)
    assert observed.left(nobodys).equals(nobodys)
    assert observed.in_json("[]") == "[]"
