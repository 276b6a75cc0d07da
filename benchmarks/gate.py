"""The gate against Great Expectations' pandas engine and against a filter written by hand, on the same batches.

    python benchmarks/gate.py [--quick]

Twelve checks on an event batch of which 1 % is bad. The three take turns within one run; figures are medians.
What each is given and gives:

    gate    an Arrow batch -> admitted rows, rejected rows with all reasons, counts per check
    GX      the same rows as a pandas frame (its making is not timed) -> counts per expectation; no rows are split
    filter  the Arrow batch -> rows for which everything holds, and the others; no counts, no reasons: the floor
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from reclake.quality.gate import admit
from reclake.quality.suite import compile_suite

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("event_time", TIME, nullable=False),
        pa.field("surface", pa.int32()),
        pa.field("watch_ms", pa.int64()),
        pa.field("duration_ms", pa.int64()),
        pa.field("propensity", pa.float64()),
    ]
)
TYPES = ["exposure", "click", "long_view", "like"]
T0_US = 1_651_363_200_000_000  # 2022-05-01T00:00:00Z
DAY_US = 86_400_000_000
EXPECTATIONS: list[tuple[str, dict[str, Any]]] = [
    ("expect_column_values_to_not_be_null", {"column": "event_id"}),
    ("expect_column_values_to_not_be_null", {"column": "user_id"}),
    ("expect_column_values_to_not_be_null", {"column": "item_id"}),
    ("expect_column_value_lengths_to_be_between", {"column": "event_id", "min_value": 1, "max_value": 64}),
    (
        "expect_column_values_to_be_between",
        {"column": "event_time", "min_value": "2022-05-01T00:00:00+00:00", "max_value": "2022-05-02T00:00:00+00:00"},
    ),
    ("expect_column_values_to_match_regex", {"column": "event_type", "regex": "^[a-z_]{1,64}$"}),
    ("expect_column_values_to_be_in_set", {"column": "event_type", "value_set": TYPES}),
    ("expect_column_values_to_be_between", {"column": "watch_ms", "min_value": 0}),
    ("expect_column_values_to_be_between", {"column": "duration_ms", "min_value": 1, "max_value": 3_600_000}),
    ("expect_column_values_to_be_between", {"column": "surface", "min_value": 0, "max_value": 14}),
    (
        "expect_column_values_to_be_between",
        {"column": "propensity", "min_value": 0, "max_value": 1, "strict_min": True},
    ),
    ("expect_column_mean_to_be_between", {"column": "watch_ms", "min_value": 0}),
]


def batch_of(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    watch = random.integers(0, 60_000, rows)
    watch[random.random(rows) < 0.01] = -1
    missing = random.random(rows) < 0.1
    return pa.table(
        [
            pa.array([f"{k:016x}" for k in random.integers(0, 2**62, rows)]),
            pa.array(random.integers(0, 100_000, rows)),
            pa.array(random.integers(0, 1_000_000, rows)),
            pa.array(np.array(TYPES, dtype=object)[random.integers(0, 4, rows)]),
            pa.array(T0_US + random.integers(0, DAY_US, rows)).cast(TIME),
            pa.array(random.integers(0, 15, rows), pa.int32()),
            pa.array(watch, mask=missing),
            pa.array(random.integers(1, 300_000, rows)),
            pa.array(1 - random.random(rows), mask=missing),
        ],
        schema=SCHEMA,
    )


def by_gate() -> Callable[[pa.Table], int]:
    suite = {"name": "gate", "expectations": [{"type": t, "kwargs": k} for t, k in EXPECTATIONS]}
    compiled = compile_suite(suite, SCHEMA, name="gate")

    def run(batch: pa.Table) -> int:
        admission = admit(batch, compiled, SCHEMA, contract="gate", contract_version=1, verdict_id="v")
        return admission.admitted.rows.num_rows

    return run


def by_filter() -> Callable[[pa.Table], int]:
    c = pl.col
    time_us = c("event_time").to_physical()
    good = (
        c("event_id").is_not_null()
        & c("user_id").is_not_null()
        & c("item_id").is_not_null()
        & c("event_id").str.len_chars().is_between(1, 64)
        & time_us.is_between(T0_US, T0_US + DAY_US)
        & c("event_type").str.contains("^[a-z_]{1,64}$")
        & c("event_type").is_in(TYPES)
        & (c("watch_ms") >= 0).fill_null(True)
        & c("duration_ms").is_between(1, 3_600_000).fill_null(True)
        & c("surface").is_between(0, 14).fill_null(True)
        & c("propensity").is_between(0, 1, closed="right").fill_null(True)
    )

    def run(batch: pa.Table) -> int:
        frame = pl.DataFrame(pl.from_arrow(batch))
        marked = frame.lazy().with_columns(good=good, mean=c("watch_ms").mean()).collect(engine="in-memory")
        kept, _ = marked.filter("good"), marked.filter(~c("good"))
        return kept.height

    return run


def by_gx() -> Callable[[Any], int]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    warnings.simplefilter("ignore")
    import great_expectations as gx
    from great_expectations.core.expectation_suite import ExpectationSuite
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("bench").add_dataframe_asset("rows")
    definition = asset.add_batch_definition_whole_dataframe("all")
    suite = ExpectationSuite(name="bench")
    for type_, kwargs in EXPECTATIONS:
        suite.add_expectation(ExpectationConfiguration(type=type_, kwargs=dict(kwargs)).to_domain_obj())

    def run(frame: Any) -> int:
        batch = definition.get_batch(batch_parameters={"dataframe": frame})
        return len(batch.validate(suite, result_format="BASIC").results)

    return run


def measure(rows: int, rounds: int) -> dict[str, float]:
    """Median seconds of each contestant, which take turns."""
    batch = batch_of(rows, seed=7)
    frame = batch.to_pandas()
    gate, filter_, gx = by_gate(), by_filter(), by_gx()
    contestants: dict[str, Callable[[], int]] = {
        "gate": lambda: gate(batch),
        "filter": lambda: filter_(batch),
        "GX": lambda: gx(frame),
    }
    if contestants["gate"]() != contestants["filter"]():
        raise SystemExit("the gate and the filter do not keep the same rows")
    contestants["GX"]()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small batches, few rounds")
    quick = parser.parse_args().quick
    print(f"{len(EXPECTATIONS)} checks; medians, ms")
    print(f"{'rows':>9} {'rounds':>6} {'gate':>9} {'GX':>9} {'filter':>9} {'GX/gate':>8} {'gate/filter':>11}")
    for rows, rounds in ((1_000, 5), (50_000, 3)) if quick else ((1_000, 30), (1_000_000, 9)):
        took = measure(rows, rounds)
        shown = " ".join(f"{took[name] * 1e3:9.2f}" for name in ("gate", "GX", "filter"))
        ratios = f"{took['GX'] / took['gate']:8.1f} {took['gate'] / took['filter']:11.2f}"
        print(f"{rows:>9,} {rounds:>6} {shown} {ratios}")


if __name__ == "__main__":
    main()
