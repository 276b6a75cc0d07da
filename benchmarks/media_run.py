"""A media run from its operators' outputs to one commit, beside collecting them in memory and one `write_deltalake`.

The operators are made up: they give an item three vectors, five pictures and a spectrogram, 120 kB, at once. What is
left is what a run does besides: keep the work, gate it as one batch, stage and commit it. The peer gates nothing, keeps
nothing for a run that is killed, and holds all items. A process for each measurement; peaks are the kernel's (VmHWM).

    python benchmarks/media_run.py [--quick]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from compare import arguments

from reclake import Lake
from reclake.pipelines.media import on_ray, run_media
from reclake.pipelines.media.run import CHUNK_ITEMS
from reclake.pipelines.media.steps import FAILURE
from reclake.schemas.plan import load

NOW_US = 1_709_251_200_000_000
RNG = np.random.default_rng(1)
VECTOR, MEL, PICTURE_BYTES, PICTURES = 1_280, 4_096, 20_000, 5


def vectors(rows: int, size: int) -> pa.Array:
    values = pa.array(RNG.random(rows * size, dtype=np.float32))
    return pa.FixedSizeListArray.from_arrays(values, size).cast(pa.list_(pa.float32()))


def output(column: str, rows: int) -> pa.Array:
    if column == "video_frames":
        return pa.array([[RNG.bytes(PICTURE_BYTES) for _ in range(PICTURES)] for _ in range(rows)])
    if column == "frame_times_ms":
        return pa.array([list(range(PICTURES))] * rows)
    if column == "duration_ms":
        return pa.array([1_000] * rows)
    return vectors(rows, MEL if column == "log_mel" else VECTOR)


def operators(table: pa.Table, works: Any, blobs: Path, cluster: object) -> pa.Table:
    """In the place of Ray: outputs of every step, no failures."""
    for work in works:
        for _, column in work.step.outputs:
            table = table.append_column(column, output(column, table.num_rows))
        table = table.append_column(work.failed, pa.nulls(table.num_rows, pa.list_(FAILURE)))
    return table


def with_reclake(folder: Path, items: int) -> None:
    on_ray.run = operators
    on_ray.session = lambda address: nullcontext(on_ray.Cluster(cpus=2, gpus=0, memory_bytes=1 << 30, nodes=1))  # type: ignore[assignment]
    rows = ({"item_id": n, "title": f"item {n}", "cover": None, "clip": None, "sound": None} for n in range(items))
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lake = Lake.create(folder / "lake")
    done = run_media(lake.catalog, load("short_video"), folder / "items.jsonl", now_us=NOW_US)
    assert done.admitted == items


def with_deltalake(folder: Path, items: int) -> None:
    from deltalake import write_deltalake

    def chunks() -> Iterator[pa.Table]:
        columns = [column for step in load("short_video").steps for _, column in step.outputs]
        for start in range(0, items, CHUNK_ITEMS):
            count = min(CHUNK_ITEMS, items - start)
            yield pa.table({"item_id": range(start, start + count)} | {c: output(c, count) for c in columns})

    write_deltalake(folder / "table", pa.concat_tables(chunks()))


CONTENDERS = {"reclake": with_reclake, "write_deltalake": with_deltalake}


def one(contender: str, items: int) -> None:
    """Print seconds, seconds of the processor, and the peak in MB."""
    with tempfile.TemporaryDirectory(prefix="reclake-bench-") as folder:
        began, cpu = time.perf_counter(), time.process_time()
        CONTENDERS[contender](Path(folder), items)
        taken = time.perf_counter() - began, time.process_time() - cpu
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps([*taken, peak]))


def measured(contender: str, items: int) -> list[float]:
    command = [sys.executable, __file__, contender, str(items)]
    found: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> None:
    asked = arguments(__doc__ or "")
    sizes, rounds = ((512, 2_048), 1) if asked.quick else ((2_048, 16_384), 3)
    print(f"  {'items':>7}  {'':<17}{'s':>8}{'s of a core':>14}{'peak MB':>10}")
    for items in sizes:
        found: dict[str, list[list[float]]] = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, runs in found.items():
                runs.append(measured(name, items))
        for name, runs in found.items():
            seconds, cpu, peak = (statistics.median(each) for each in zip(*runs, strict=True))
            print(f"  {items:>7,}  {name:<17}{seconds:>8.1f}{cpu:>14.1f}{peak:>10,.0f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        one(sys.argv[1], int(sys.argv[2]))
    else:
        main()
