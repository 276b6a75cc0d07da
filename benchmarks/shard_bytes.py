"""Bytes a sample on disk: shards beside Parquet fat rows, all zstd, the rows shuffled or clustered by user.

Of fat rows as many are written as hold 20 million events, or all. A user's requests are about an event apart.

    python benchmarks/shard_bytes.py [--quick]
"""

from __future__ import annotations

import shutil
import tempfile
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from compare import arguments
from synthetic import write_shards

from reclake.pipelines.feed import Feed

FAT_EVENTS = 20_000_000


def fat_bytes(shards: Path, path: Path, order: str, samples: int) -> float:
    """Bytes a sample of the first samples as rows with list columns, in row groups of a million events."""
    manifest_length = Feed(shards, batch_size=1, order="stored").manifest.history_length
    batch = max(1, min(4096, samples, 1_000_000 // manifest_length))
    feed = Feed(shards, batch_size=batch, seed=7, order=order)  # type: ignore[arg-type]
    writer, written = None, 0
    for part in islice(feed, -(-samples // batch)):
        columns = {name: pa.array(part[name]) for name in part.keys()}  # noqa: SIM118 -- a batch is no mapping
        for name, jagged in part.history.items():
            columns[f"history_{name}"] = pa.LargeListArray.from_arrays(pa.array(jagged.offsets), jagged.values)
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        written += len(part)
    assert writer is not None
    writer.close()
    return path.stat().st_size / written


def main() -> None:
    quick = arguments(__doc__ or "").quick
    lengths = (64, 1024) if quick else (64, 256, 1024, 8192, 65_536)
    print(
        f"{'L':>6} {'samples a user':>15} {'shards':>8} {'clustered':>10} {'shuffled':>10}   clustered, shuffled / ours"
    )
    for length in lengths:
        for per_user in (1, 100) if quick else (1, 10, 100, 1000):
            users = max(2, min(2_000_000 // length, 60_000 // per_user))
            folder = Path(tempfile.mkdtemp(prefix="reclake-bytes-"))
            try:
                write_shards(folder / "set", users, per_user, length)
                samples = users * per_user
                ours = sum(file.stat().st_size for file in (folder / "set").glob("shard-*")) / samples
                some = min(samples, max(FAT_EVENTS // (4 if quick else 1) // length, 2))
                fat = [fat_bytes(folder / "set", folder / "fat", order, some) for order in ("stored", "shuffled")]
            finally:
                shutil.rmtree(folder)
            ratios = "".join(f"{each / ours:10.1f}x" for each in fat)
            print(f"{length:6} {per_user:15,} {ours:8,.0f} {fat[0]:10,.0f} {fat[1]:10,.0f} {ratios}", flush=True)


if __name__ == "__main__":
    main()
