"""Bytes a sample on disk: shards beside zstd Parquet fat rows, the rows shuffled or clustered by user.

Of fat rows as many are written as hold 20 million events, or all. Requests of synthetic users are about an event apart;
sets that were packed are measured as they are.

    python benchmarks/shard_bytes.py [--quick] [--shards DIR ...]
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from synthetic import write_shards

from reclake.pipelines.feed import Feed
from reclake.storage.shard_manifest import read_manifest

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


def line(folder: Path, fat_events: int) -> str:
    """A set beside its samples as fat rows."""
    manifest = read_manifest(folder)
    samples, length = manifest.sample_count, manifest.history_length
    ours = sum(shard.bytes for shard in manifest.shards) / samples
    some = min(samples, max(fat_events // length, 2))
    with tempfile.TemporaryDirectory(prefix="reclake-bytes-") as scratch:
        fat = [fat_bytes(folder, Path(scratch) / order, order, some) for order in ("stored", "shuffled")]
    ratios = "".join(f"{each / ours:10.1f}x" for each in fat)
    return f"{length:6} {samples / manifest.users:15,.1f} {ours:8,.0f} {fat[0]:10,.0f} {fat[1]:10,.0f} {ratios}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small data")
    parser.add_argument("--shards", type=Path, nargs="*", help="sets that were packed, instead of synthetic users")
    given = parser.parse_args()
    print(
        f"{'L':>6} {'samples a user':>15} {'shards':>8} {'clustered':>10} {'shuffled':>10}   clustered, shuffled / ours"
    )
    for packed in given.shards or ():
        print(line(packed, FAT_EVENTS), flush=True)
    if given.shards is not None:
        return
    for length in (64, 1024) if given.quick else (64, 256, 1024, 8192, 65_536):
        for per_user in (1, 100) if given.quick else (1, 10, 100, 1000):
            users = max(2, min(2_000_000 // length, 60_000 // per_user))
            with tempfile.TemporaryDirectory(prefix="reclake-bytes-") as folder:
                write_shards(Path(folder) / "set", users, per_user, length)
                print(line(Path(folder) / "set", FAT_EVENTS // (4 if given.quick else 1)), flush=True)


if __name__ == "__main__":
    main()
