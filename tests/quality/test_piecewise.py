"""A batch that is judged piece by piece gets the answer that it gets as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclake.quality.gate import Admission, Held, admit, hold
from reclake.quality.piecewise import Piecewise
from reclake.quality.suite import CompiledSuite, compile_suite
from reclake.schemas.errors import GateError

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), *(pa.field(n, pa.int64()) for n in ("ms", "of"))])
LOOSE = pa.schema([field.with_nullable(True) for field in SCHEMA])

POSITIVE = ("expect_column_values_to_be_between", {"column": "ms", "min_value": 0}, "error")
MOSTLY = ("expect_column_values_to_not_be_null", {"column": "of", "mostly": 0.6}, "error")
SEEN = ("expect_column_values_to_be_between", {"column": "of", "max_value": 2}, "warning")
UNIQUE = ("expect_column_values_to_be_unique", {"column": "id"}, "error")
MEAN = ("expect_column_mean_to_be_between", {"column": "ms", "max_value": 3}, "critical")
ROWS = ("expect_table_row_count_to_be_between", {"max_value": 12}, "warning")

Rows = list[tuple[int | None, int | None, int | None]]


def compiled(*checks: tuple[str, dict[str, Any], str]) -> CompiledSuite:
    suite = {"name": "t", "expectations": [{"type": t, "kwargs": k, "meta": {"severity": s}} for t, k, s in checks]}
    return compile_suite(suite, SCHEMA, name="t")


def table(rows: Rows) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * 3
    return pa.table(dict(zip(SCHEMA.names, map(list, columns), strict=True)), schema=LOOSE)


def judged(suite: CompiledSuite, pieces: Sequence[pa.Table], **limits: Any) -> Admission:
    looking = Piecewise(suite, SCHEMA, contract="t")
    for piece in pieces:
        looking.look(piece)
    rows = pl.DataFrame(pa.concat_tables(pieces)).lazy() if looking.rereads else pl.LazyFrame()
    return looking.judge(rows, contract_version=1, verdict_id="v", **limits)


@pytest.mark.parametrize(
    "checks", [(POSITIVE, MOSTLY, SEEN), (UNIQUE, SEEN, POSITIVE), (MOSTLY, MEAN, ROWS), (ROWS, UNIQUE), ()]
)
@given(
    pieces=st.lists(
        st.lists(st.tuples(*[st.none() | st.integers(least, 5) for least in (0, -1, 0)]), max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_pieces_get_the_answer_of_the_whole(checks: tuple[Any, ...], pieces: list[Rows]) -> None:
    suite, limits = compiled(*checks), {"quarantine_limit": 0.8, "quarantine_limit_rows": 6}
    tables = [table(rows) for rows in pieces]
    found = judged(suite, tables, **limits)
    facts: dict[str, Any] = {"contract": "t", "contract_version": 1, "verdict_id": "v", **limits}
    whole = admit(pa.concat_tables(tables), suite, SCHEMA, **facts)
    assert (found.checks, found.verdict, found.stop_reason) == (whole.checks, whole.verdict, whole.stop_reason)
    assert found.rejected.equals(whole.rejected)
    assert found.admitted.rows.num_rows == 0  # they are in files


@pytest.mark.parametrize(("severity", "verdict"), [("error", "stop"), ("warning", "warn")])
def test_a_check_that_breaks_on_one_piece_passes_on_none(severity: str, verdict: str) -> None:
    suite = compiled((POSITIVE[0], POSITIVE[1], severity))
    broken = pl.col("ms").cast(pl.String).replace("3", "three").str.to_integer().lt(0).arg_true().implode()
    plan = (tuple(broken.alias("0.fails") if e.meta.output_name() == "0.fails" else e for e in suite.plan[0]),)
    unproved = tuple(dataclasses.replace(check, proof=None) for check in suite.checks)
    found = judged(dataclasses.replace(suite, plan=plan, checks=unproved), [table([(1, 2, 3)]), table([(1, 3, 3)])])
    assert (found.verdict, found.checks[1].success, found.checks[1].evaluated) == (verdict, False, 0)


def test_held_rows_are_as_their_table_keeps_them_and_a_null_that_will_be_rejected_is_among_them() -> None:
    stored = SCHEMA.set(1, pa.field("ms_2", pa.int64()))
    held = hold(table([(1, 2, 3), (None, 2, 3)]), SCHEMA, stored, contract="t", contract_version=7)
    assert isinstance(held, Held)
    assert held.rows.to_pylist()[1] == {"id": None, "ms_2": 2, "of": 3, "contract": "t/7"}
    assert held.rows.schema.field("id").nullable
    good = hold(table([(1, 2, 3)]), SCHEMA, stored, contract="t", contract_version=7)
    assert not good.rows.schema.field("id").nullable
    with pytest.raises(GateError, match="other columns"):
        hold(pa.table({"id": [1]}), SCHEMA, stored, contract="t", contract_version=7)
