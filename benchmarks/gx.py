"""Great Expectations on Polars against its own pandas engine: the same suite, the same rows, the same results.

    python benchmarks/gx.py [--quick]

Sixteen expectations on an event batch of nine columns of which 1 % is bad. Both get a whole validation of Great
Expectations: a batch, its suite, results in the BASIC format; pandas' frame is made before. `scan` reads a Parquet
file.
"""

from __future__ import annotations

import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from compare import arguments, in_turn, report
from gate import EXPECTATIONS, batch_of

MORE: list[tuple[str, dict[str, Any]]] = [
    ("expect_column_values_to_be_unique", {"column": "event_id"}),
    ("expect_column_unique_value_count_to_be_between", {"column": "user_id", "min_value": 1}),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "duration_ms", "column_B": "watch_ms", "mostly": 0.1},
    ),
    ("expect_table_row_count_to_be_between", {"min_value": 1}),
]


def validation() -> Callable[[str, Any], list[tuple[Any, Any]]]:
    """Validates a frame with an engine; success and count of every expectation, in the suite's order."""
    warnings.simplefilter("ignore")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    import reclake.quality.gx  # noqa: F401

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    made = [ExpectationConfiguration(type=type_, kwargs=dict(kwargs)) for type_, kwargs in EXPECTATIONS + MORE]
    suite = gx.ExpectationSuite("bench", expectations=[one.to_domain_obj() for one in made])
    batches = {
        name: getattr(context.data_sources, f"add_{name}")(name)
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
        for name in ("polars", "pandas")
    }

    def run(engine: str, frame: Any) -> list[tuple[Any, Any]]:
        batch = batches[engine].get_batch(batch_parameters={"dataframe": frame})
        results = batch.validate(suite, result_format="BASIC").results
        return [(bool(each.success), each.result.get("unexpected_count")) for each in results]

    return run


def main() -> None:
    quick = arguments((__doc__ or "").splitlines()[0]).quick
    validate = validation()
    for rows, rounds in ((1_000, 3), (50_000, 2)) if quick else ((1_000, 15), (1_000_000, 7)):
        batch = batch_of(rows, seed=7)
        frame, twin = pl.DataFrame(pl.from_arrow(batch)), batch.to_pandas()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.parquet"
            pq.write_table(batch, file)
            contenders: dict[str, Callable[[], list[tuple[Any, Any]]]] = {
                "polars": lambda frame=frame: validate("polars", frame),  # type: ignore[misc]
                "polars, scan": lambda file=file: validate("polars", pl.scan_parquet(file)),  # type: ignore[misc]
                "pandas": lambda twin=twin: validate("pandas", twin),  # type: ignore[misc]
            }
            if len({str(sorted(map(str, run()))) for run in contenders.values()}) != 1:
                raise SystemExit("the engines do not agree")
            report(
                f"{rows:,} rows, {len(EXPECTATIONS + MORE)} expectations", in_turn(contenders, rounds=rounds), rows=rows
            )


if __name__ == "__main__":
    main()
