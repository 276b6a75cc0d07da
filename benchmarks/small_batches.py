"""Small batches from many producers: gated together and each alone, and through `lake.writer`, with bad rows in each.

    python benchmarks/small_batches.py [--quick]

Twenty batches of 1,000 rows, as they wait for one commit. The suites are that of events (ten checks of rows) and the
twenty of benchmarks/gate.py (four of lists, three of the batch: mean, maximum, number of rows). Ms of a core a batch.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gate as twenty
import numpy as np
import polars as pl
import pyarrow as pa
from compare import arguments
from writers import PRODUCERS, event_writer, rows_of, source, spoilt

import reclake
from reclake.pipelines.ingest import target_of
from reclake.quality.gate import Admission, admit, admit_each
from reclake.quality.suite import CompiledSuite, compile_suite

BATCHES, ROWS = 20, 1000
SHARES = (0.0, 0.01, 0.1)


def of_events(share: float) -> tuple[list[pa.Table], CompiledSuite, pa.Schema]:
    with tempfile.TemporaryDirectory() as folder:
        lake = reclake.Lake.create(Path(folder) / "lake")
        target = target_of(lake.catalog, lake.catalog.contract("events"))
        return rows_of(lake, [spoilt(source(n), share) for n in range(BATCHES)]), target.suite, target.schema


def of_twenty(share: float) -> tuple[list[pa.Table], CompiledSuite, pa.Schema]:
    entries = [{"type": t, "kwargs": k} for t, k in [*twenty.EXPECTATIONS, *twenty.LISTS]]
    suite = compile_suite({"name": "gate", "expectations": entries}, twenty.SCHEMA, name="gate")
    batches = []
    for seed in range(BATCHES):
        frame = pl.DataFrame(twenty.batch_of(ROWS, seed)).with_columns(pl.col("watch_ms").abs())
        batches.append(spoilt(frame, share).to_arrow().cast(twenty.SCHEMA))
    return batches, suite, twenty.SCHEMA


def gated(name: str, batches: list[pa.Table], suite: CompiledSuite, schema: pa.Schema, rounds: int) -> None:
    def together() -> list[Admission]:
        names = ["v"] * len(batches)
        rows, sizes = pa.concat_tables(batches).combine_chunks(), [batch.num_rows for batch in batches]
        return admit_each(rows, sizes, suite, schema, contract="c", contract_version=1, verdict_ids=names)

    def alone() -> list[Admission]:
        return [admit(b, suite, schema, contract="c", contract_version=1, verdict_id="v") for b in batches]

    for mine, theirs in zip(together(), alone(), strict=True):
        assert mine.checks == theirs.checks
        assert mine.rejected.equals(theirs.rejected)
    contenders: dict[str, Callable[[], object]] = {"together": together, "alone": alone}
    spent: dict[str, list[float]] = {contender: [] for contender in contenders}
    for _ in range(rounds):
        for contender, run in contenders.items():
            began = time.process_time()
            run()
            spent[contender].append((time.process_time() - began) / len(batches) * 1e3)
    middle = {contender: statistics.median(times) for contender, times in spent.items()}
    ratio = middle["alone"] / middle["together"]
    print(f"  {name:<34}{middle['together']:>10.2f}{middle['alone']:>10.2f}{ratio:>9.1f}x")


def main() -> None:
    quick = arguments(__doc__ or "").quick
    print(f"{BATCHES} batches of {ROWS} rows, {os.cpu_count()} cores; ms of a core a batch")
    print(f"  {'':<34}{'together':>10}{'alone':>10}")
    for name, make in {"events, 10 checks": of_events, "20 checks": of_twenty}.items():
        for share in SHARES:
            gated(f"{name}, {share:.0%} bad", *make(share), 10 if quick else 60)
    batches = 10 if quick else 100
    print(f"lake.writer, {PRODUCERS} producers of {batches} batches")
    print(f"  {'':<34}{'batches/s':>10}{'CPU ms':>10}{'p50 ms':>10}{'p99 ms':>10}{'commits':>10}")
    rounds: dict[float, list[object]] = {share: [] for share in SHARES}
    for _ in range(1 if quick else 3):
        for share in SHARES:
            with tempfile.TemporaryDirectory() as folder:
                rounds[share].append(event_writer(Path(folder), batches, share))
    for share, found in rounds.items():
        line = [
            float(np.median([getattr(one, what) for one in found]))
            for what in ("batches_s", "cpu_ms", "p50_ms", "p99_ms", "commits")
        ]
        said = f"{share:.0%} bad"
        print(f"  {said:<34}{line[0]:>10.0f}{line[1]:>10.2f}{line[2]:>10.0f}{line[3]:>10.0f}{line[4]:>10.0f}")


if __name__ == "__main__":
    main()
