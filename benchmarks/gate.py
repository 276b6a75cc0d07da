"""What the gate adds to a write, and how long Great Expectations takes for the same checks on pandas.

    python benchmarks/gate.py [--quick]

Twenty checks, four of them of lists (a history and a vector of 16), on event batches of which 1 % is bad; four sizes.
The contestants take turns within one run; figures are medians. Memory is what a call takes at its peak beyond what the
process had before, the batch included; Linux tells.

    gate    an Arrow batch -> admitted rows, rejected rows with all reasons, counts per check
    good    the same, of the batch's good rows only: what most batches are
    write   the admitted rows -> one commit to a Delta table in the layout of events: sorted, by day, flushed to disk
    delta   the same rows by delta-rs's write_deltalake, neither sorted nor flushed
    filter  the Arrow batch -> rows whose single values are good, and the others; no counts, no reasons
    GX      a pandas frame (its making is not timed) -> counts per expectation, of the sixteen that pandas can tell
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from compare import arguments

from reclake.quality.gate import Admitted, admit
from reclake.quality.suite import compile_suite
from reclake.storage.catalog import LAYOUTS
from reclake.storage.table import Table

TIME = pa.timestamp("us", tz="UTC")
DIMENSION = 16
SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("event_time", TIME, nullable=False),
        pa.field("known_at", TIME, nullable=False),
        pa.field("surface", pa.int32()),
        pa.field("watch_ms", pa.int64()),
        pa.field("duration_ms", pa.int64()),
        pa.field("propensity", pa.float64()),
        pa.field("history", pa.list_(pa.int64())),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("known_day", pa.date32(), nullable=False),
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
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "known_at", "column_B": "event_time", "or_equal": True},
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
    ("expect_column_values_to_not_be_in_set", {"column": "item_id", "value_set": [-1, 0]}),
    ("expect_column_mean_to_be_between", {"column": "watch_ms", "min_value": 0}),
    ("expect_column_max_to_be_between", {"column": "duration_ms", "max_value": 3_600_000}),
    ("expect_table_row_count_to_be_between", {"min_value": 1}),
]
LISTS: list[tuple[str, dict[str, Any]]] = [
    ("expect_column_value_lengths_to_be_between", {"column": "history", "max_value": 64}),
    ("expect_column_list_values_to_not_be_null", {"column": "history"}),
    ("expect_column_value_lengths_to_equal", {"column": "embedding", "value": DIMENSION}),
    ("expect_column_vectors_to_be_unit_norm", {"column": "embedding"}),
]


def batch_of(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    watch = random.integers(0, 60_000, rows)
    watch[random.random(rows) < 0.01] = -1
    missing = random.random(rows) < 0.1
    at = T0_US + random.integers(0, DAY_US - 1, rows)
    lengths = random.integers(0, 33, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    vectors = random.normal(size=(rows, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.arange(rows + 1, dtype=np.int32) * DIMENSION
    return pa.table(
        [
            pa.array([f"{k:016x}" for k in random.integers(0, 2**62, rows)]),
            pa.array(random.integers(0, 100_000, rows)),
            pa.array(random.integers(1, 1_000_000, rows)),
            pa.array(np.array(TYPES, dtype=object)[random.integers(0, 4, rows)]),
            pa.array(at).cast(TIME),
            pa.array(at + random.integers(0, 1_000, rows)).cast(TIME),
            pa.array(random.integers(0, 15, rows), pa.int32()),
            pa.array(watch, mask=missing),
            pa.array(random.integers(1, 300_000, rows)),
            pa.array(1 - random.random(rows), mask=missing),
            pa.ListArray.from_arrays(offsets, random.integers(0, 1_000_000, offsets[-1])),
            pa.ListArray.from_arrays(starts, vectors.ravel()),
            pa.array(random.integers(0, 16, rows), pa.int32()),
            pa.array([date(2022, 5, 1)]).take(pa.array(np.zeros(rows, "i4"))),
        ],
        schema=SCHEMA,
    )


def by_gate() -> Callable[[pa.Table], Admitted]:
    suite = {"name": "gate", "expectations": [{"type": t, "kwargs": k} for t, k in [*EXPECTATIONS, *LISTS]]}
    compiled = compile_suite(suite, SCHEMA, name="gate")

    def run(batch: pa.Table) -> Admitted:
        return admit(batch, compiled, SCHEMA, contract="gate", contract_version=1, verdict_id="v").admitted

    return run


def by_write(folder: Path, admitted: Admitted) -> Callable[[], object]:
    table = Table(folder / "events", "events", LAYOUTS["events"])
    return lambda: table.append(admitted)


def by_delta(folder: Path, admitted: Admitted) -> Callable[[], object]:
    from deltalake import write_deltalake

    return lambda: write_deltalake(str(folder / "delta"), admitted.rows, mode="append", partition_by=["known_day"])


def by_filter() -> Callable[[pa.Table], int]:
    c = pl.col
    time_us = c("event_time").to_physical()
    good = (
        c("event_id").is_not_null()
        & c("user_id").is_not_null()
        & c("item_id").is_not_null()
        & c("event_id").str.len_chars().is_between(1, 64)
        & time_us.is_between(T0_US, T0_US + DAY_US)
        & (c("known_at") >= c("event_time"))
        & c("event_type").str.contains("^[a-z_]{1,64}$")
        & c("event_type").is_in(TYPES)
        & (c("watch_ms") >= 0).fill_null(True)
        & c("duration_ms").is_between(1, 3_600_000).fill_null(True)
        & c("surface").is_between(0, 14).fill_null(True)
        & c("propensity").is_between(0, 1, closed="right").fill_null(True)
        & ~c("item_id").is_in([-1, 0])
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


def beyond_mb(call: Callable[[], object]) -> float:
    """MB (2**20 bytes) that the process grows by at most while a call runs."""
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is forgotten
    before = _status_mb("VmRSS")
    kept = call()
    peak = _status_mb("VmHWM")
    del kept
    return peak - before


def _status_mb(name: str) -> float:
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) / 1024


def measure(rows: int, rounds: int, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each contestant, which take turns; MB of the batch, and beyond it."""
    batch = batch_of(rows, seed=7)
    frame = batch.drop_columns(["history", "embedding"]).to_pandas()
    gate, filter_, gx = by_gate(), by_filter(), by_gx()
    admitted = gate(batch)
    if admitted.rows.num_rows != filter_(batch):
        raise SystemExit("the gate and the filter do not keep the same rows")
    contestants: dict[str, Callable[[], object]] = {
        "gate": lambda: gate(batch),
        "good": lambda: gate(admitted.rows),
        "write": by_write(folder, admitted),
        "delta": by_delta(folder, admitted),
        "filter": lambda: filter_(batch),
        "GX": lambda: gx(frame),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):  # the first pays for cold caches and for the tables that are made
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    took = {name: statistics.median(values) for name, values in seconds.items()}
    mb = {name: beyond_mb(contestants[name]) for name in ("gate", "good")}
    return took, mb | {"batch": batch.nbytes / 2**20}


def main() -> None:
    quick = arguments((__doc__ or "").splitlines()[0]).quick
    print(f"{len(EXPECTATIONS) + len(LISTS)} checks, {len(LISTS)} of lists; {os.cpu_count()} cores; medians, ms")
    names = ("gate", "good", "write", "delta", "filter", "GX")
    print(
        f"{'rows':>9} {'rounds':>6} "
        + " ".join(f"{name:>9}" for name in names)
        + "  gate/write  good/write  GX/gate  GX/good  batch, gate, good MB"
    )
    sizes = ((1_000, 5), (10_000, 3), (50_000, 3), (100_000, 2)) if quick else ()
    for rows, rounds in sizes or ((1_000, 40), (10_000, 20), (100_000, 9), (1_000_000, 5)):
        with tempfile.TemporaryDirectory() as folder:
            took, mb = measure(rows, rounds, Path(folder))
        shown = " ".join(f"{took[name] * 1e3:9.2f}" for name in names)
        added = " ".join(f"{took[name] / took['write']:>11.1%}" for name in ("gate", "good"))
        faster = " ".join(f"{took['GX'] / took[name]:8.1f}" for name in ("gate", "good"))
        sizes_mb = " ".join(f"{mb[name]:7.1f}" for name in ("batch", "gate", "good"))
        print(f"{rows:>9,} {rounds:>6} {shown} {added} {faster} {sizes_mb}")


if __name__ == "__main__":
    main()
